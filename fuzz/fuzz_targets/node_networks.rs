#![no_main]

use consort_node::glue::standalone::{message, statement};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    message::fuzz(data);
    statement::fuzz(data);
});
