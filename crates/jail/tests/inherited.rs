//! A program that was started otherwise has no inherited socket. Alone in its program, because descriptors of other tests would
//! pass for inherited ones.
#![allow(clippy::unwrap_used, reason = "tests")]

use strongroom_jail::inherited_socket;

#[test]
fn what_is_no_inherited_socket_is_an_error() {
    assert!(inherited_socket(900).is_err());
    assert!(inherited_socket(2).is_err());
    assert!(inherited_socket(30).is_err());
}
