#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consort_guest::settings::fuzz(data));
