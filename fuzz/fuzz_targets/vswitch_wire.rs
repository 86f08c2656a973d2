//! Datagrams, and what stands inside them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| consort_vswitch::wire::fuzz(bytes));
