//! Serves a [`twinstream`] engine to clients of the Open Inference Protocol (KServe v2, Triton's):
//! gRPC and HTTP on one port, health, metadata, metrics.
//!
//! Invariant: each request that was read is answered, with a result or with the reason why not, and
//! whatever waits has a limit. How batches are chosen it refuses to know: that is the engine's.
//! `docs/SERVING.md` is for those who use it.

mod access;
mod app;
mod bodies;
mod decode;
mod fields;
mod frames;
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzzing;
mod grpc;
mod http;
mod images;
mod json;
mod listen;
mod load;
mod metadata;
mod metrics;
mod orca;
mod parameters;
mod problem;
#[allow(missing_docs)]
mod protocol;
mod shared_memory;
mod trace_context;
mod wishes;

pub use access::TlsOptions;
pub use app::Served;
pub use listen::{Server, ServerOptions, ended_by_signal};
