//! The store does what every storage must do, whatever is asked of it in whatever order.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use proptest::prelude::*;
use strongroom_core::records::contract::{check_files, check_records};
use support::{Place, key};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_and_log_follow_the_model(script in prop::collection::vec(any::<u8>(), 0..600)) {
        let place = Place::new();
        check_records(&mut place.store(), [&key(1), &key(2)], &script);
        prop_assert_eq!(place.names(), ["vault.db"]);
    }
}

#[test]
fn files_are_written_read_and_deleted() {
    let place = Place::new();
    check_files(&mut place.store(), &key(1));
    assert!(place.names().is_empty(), "{:?}", place.names());
}
