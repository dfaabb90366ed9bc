//! The engine: what callers see, what it survives, and that its results are right.

mod cache;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod cpu;
mod device;
mod many;
mod metrics;
mod panics;
mod policy;
mod requests;
mod several;
mod soak;
mod timing;
#[path = "../common/trace_format.rs"]
mod trace_format;
mod waiting;
