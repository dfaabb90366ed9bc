//! A real server on a real port, and clients of both protocols.

mod access;
#[path = "../../../tests/common/mod.rs"]
mod common;
mod endings;
mod fixture;
mod grpc;
mod http;
mod limits;
mod load;
mod overload;
#[allow(missing_docs)]
#[path = "../../src/protocol.rs"]
mod protocol;
mod shared_memory;
mod traces;
