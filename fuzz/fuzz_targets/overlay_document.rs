#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| consort_overlay::fuzz::document(bytes));
