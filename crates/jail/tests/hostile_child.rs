//! Placeholder while the crate's interface settles.
fn main() {}
