//! ResNet-50 inference at the lowest latency the hardware allows, at every load, with nothing to
//! tune.
//!
//! - [`model`]: a trained network, as a list of layers.
//! - [`lower`]: the same as the steps that every backend executes.
//! - [`backend`]: what executes it; [`backend::cpu`] is the embedded default, `backend::cuda`
//!   (feature `cuda`) a GPU.
//! - [`calibrate`]: a network in 8-bit integers from one in floating point, and images.
//! - [`sched`]: chooses each batch and when its upload starts; a deterministic state machine.
//! - [`engine`]: serves requests from any thread through one scheduling thread.
//! - [`ring`]: page-locked slots that many threads fill with images, without a copy on the host.
//! - `image` and `sim` (features): image files to pixels; the scheduler in virtual time, and
//!   `clock`, which waits for a moment in real time.

pub mod backend;
mod build_info;
pub mod calibrate;
#[cfg(feature = "sim")]
pub mod clock;
pub mod engine;
mod error;
mod foreign;
#[cfg(feature = "image")]
pub mod image;
pub mod lower;
pub mod model;
pub mod ring;
pub mod sched;
mod setters;
#[cfg(feature = "sim")]
pub mod sim;
mod stripe;
mod words;

pub use build_info::{BUILD_INFO, BuildInfo};
pub use error::{Error, Result, panic_text};

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
