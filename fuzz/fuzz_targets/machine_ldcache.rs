#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consort_machine::image::fuzz_ldcache(data));
