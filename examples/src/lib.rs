//! Small programs a newcomer runs first; they need no privilege, no network and no clock.
//!
//! | run | to see |
//! |---|---|
//! | `cargo run -p consort-examples --example two_hosts` | two virtual switches, one network: who answers an ARP request, where frames go, what is refused |
//! | `cargo run -p consort-examples --example three_hosts` | three schedulers in one thread agree on a slice, step by step |
//!
//! `slices/` holds slice files for `consort slice create`; a test reads each of them.
