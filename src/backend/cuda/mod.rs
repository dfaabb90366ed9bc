//! The GPU: ResNet-50 by hand-written kernels, driven through CUDA's driver interface.
//!
//! Built with feature `cuda`: for real devices, or, with `TWINSTREAM_CUDA=emulated` at build time,
//! for the emulated device that runs the same kernels on the host. `docs/GPU.md` describes streams,
//! memory and failures. Knows no queue, clock or policy.

mod choice;
mod context;
mod device;
mod driver;
#[cfg(twinstream_emulated)]
pub mod emulated;
mod executor;
#[rustfmt::skip]
mod launch;
mod memory;
mod nvtx;
mod plan;
mod profile;
mod rig;
mod stream;
mod timer;
mod tune;
mod waiter;
mod weights;

pub use choice::{Tuning, tuning_path};
pub use context::{DeviceId, DeviceInfo, devices};
pub use device::{CudaDevice, CudaOptions};
pub use profile::{BatchProfile, LaunchProfile, ProfileOptions, profile};
pub use tune::{ConvSummary, Measured, PlanSummary, TuneOptions, plan_summaries, tune};
