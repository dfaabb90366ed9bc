//! Backend `cuda`, kernels and all, on the device that is there: against PyTorch, behind the live
//! engine, and where it fails.
//!
//! In a build for GPUs the tests run on the first one; where there is none each says so, and fails
//! if `TWINSTREAM_REQUIRE` names `gpu`. `TWINSTREAM_CUDA=emulated cargo test --features cuda` runs
//! them on the emulated device, and `emulated` besides: what no GPU can be made to do.

mod chunks;
#[path = "../common/mod.rs"]
mod common;
mod device;
#[cfg(twinstream_emulated)]
mod emulated;
mod failures;
mod golden;
mod integers;
mod live;
#[cfg(twinstream_emulated)]
mod prove;
#[cfg(twinstream_emulated)]
mod wgmma;
