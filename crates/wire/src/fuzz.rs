//! One entry for each parser: what a fuzz target calls. Each panics where a promise of the parser does not hold.

use crate::target::Target;

/// A URL, and a `Location` against a fixed base: what is accepted reads back the same.
///
/// # Panics
/// Where it does not.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let base = Target::parse("https://a.example:8443/v1/x?q").expect("a plain URL is accepted");
    for target in [Target::parse(text), base.join(text)].into_iter().flatten() {
        assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(&target));
        assert_eq!(base.join(&target.to_string()).as_ref(), Ok(&target));
        assert!(target.path().starts_with('/') && !target.path().starts_with("//"));
    }
}
