//! Feeds arbitrary bytes, as if found on disk after a restart, to `consort_scheduler::engine::fuzz_entry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| consort_scheduler::engine::fuzz_entry(bytes));
