//! Feeds arbitrary bytes to `consort_scheduler::message::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| consort_scheduler::message::fuzz(bytes));
