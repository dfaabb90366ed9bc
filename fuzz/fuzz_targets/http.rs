//! Any bytes as the body of an inference over HTTP, with its JSON's length before it, and as the
//! value of a header.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinstream_server::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::http(bytes);
    fuzzing::headers(bytes);
});
