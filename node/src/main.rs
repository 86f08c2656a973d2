//! consort.
fn main() {}
