//! The GPU: ResNet-50 by hand-written kernels, driven through CUDA's driver interface.
//!
//! Built with feature `cuda`: for real devices, or, with `TWINSTREAM_CUDA=emulated` at build time,
//! for the emulated device that runs the same kernels on the host. `docs/GPU.md` describes streams,
//! memory and failures. Knows no queue, clock or policy.
//!
//! ```no_run
//! use twinstream::backend::cuda::{CudaDevice, CudaOptions, Tuning, Verdicts};
//! use twinstream::engine::{Engine, EngineOptions, RequestOptions};
//! use twinstream::model::Model;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::load("model.safetensors".as_ref(), None)?;
//! let mut options = CudaOptions::for_model(&model);
//! // What `twinstream tune` and `twinstream prove` stored, if anything.
//! options.tuning = Tuning::stored()?;
//! options.verdicts = Verdicts::stored()?;
//! let device = CudaDevice::new(&model, &options)?;
//! let engine = Engine::start(device, &EngineOptions::default())?;
//! let image = vec![128; engine.geometry().image_bytes];
//! let logits = engine.submit(&image, RequestOptions::default())?.wait()?;
//! # let _ = logits;
//! # Ok(())
//! # }
//! ```

mod choice;
mod device;
mod executor;
mod files;
mod kernels;
mod measure;
mod plan;
mod sizes;
mod sys;
mod tuning;
mod verdicts;
mod weights;

pub use choice::Unproven;
pub use device::{CudaDevice, CudaOptions};
pub use measure::cases::{ProveOptions, cases};
pub use measure::chunks::{MeasuredChunks, MeasuredLength, tune_chunks};
pub use measure::profile::{BatchProfile, LaunchProfile, ProfileOptions, profile};
pub use measure::prove::prove;
pub use measure::tune::{
    ConvSummary, Measured, MeasuredChoice, PlanSummary, TuneOptions, plan_summaries, tune,
};
#[cfg(twinstream_emulated)]
pub use sys::emulated;
pub use sys::info::{DeviceId, DeviceInfo, devices};
pub use tuning::{Tuning, tuning_path};
pub use verdicts::{Case, Verdict, Verdicts, verdicts_path};
