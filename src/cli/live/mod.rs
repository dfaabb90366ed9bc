//! What runs in real time: backends by their words, a load generator, and what it found.
//!
//! Knows nothing of tables, charts and files.

pub(crate) mod backend;
mod clock;
mod device;
pub(crate) mod generator;
mod images;
pub(crate) mod recorder;
pub(crate) mod watched;

pub(crate) use backend::Opened;
pub(crate) use generator::{Load, play};
pub(crate) use recorder::Played;
