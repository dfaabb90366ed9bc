//! The command on a GPU: what a profiler sees of it and, on the emulated device, what it answers
//! and refuses.

#[path = "../../../tests/common/mod.rs"]
mod common;
#[cfg(twinstream_emulated)]
mod emulated;
mod profiling;
#[cfg(twinstream_emulated)]
mod prove;
