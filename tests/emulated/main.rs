//! Backend `cuda`, kernels and all: against PyTorch, behind the live engine, on devices that fail.
//!
//! `TWINSTREAM_CUDA=emulated cargo test --features cuda` runs all of it on the emulated device. In
//! a build for real devices only the comparisons run, and where there is no device they say so.

#[path = "../common/mod.rs"]
mod common;
mod device;
#[cfg(twinstream_emulated)]
mod faults;
mod golden;
#[cfg(twinstream_emulated)]
mod live;
