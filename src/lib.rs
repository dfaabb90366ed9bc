//! ResNet-50 inference at the lowest latency the hardware allows, at every load, with nothing to
//! tune.

pub mod backend;
mod error;
#[cfg(feature = "image")]
pub mod image;
pub mod model;
pub mod ring;
pub mod sched;
#[cfg(feature = "sim")]
pub mod sim;

pub use error::{Error, Result};

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
