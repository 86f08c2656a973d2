#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consort_node::glue::relay::message::fuzz(data));
