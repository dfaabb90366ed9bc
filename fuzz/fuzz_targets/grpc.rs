//! Any bytes as a message over gRPC.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinstream_server::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::grpc(bytes));
