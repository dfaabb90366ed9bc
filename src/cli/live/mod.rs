//! What runs in real time: backends by their words, a load generator, and what it found.
//!
//! Knows nothing of tables, charts and files.

mod backend;
mod clock;
mod device;
mod generator;
mod images;
pub(crate) mod recorder;
mod watched;
mod world;

pub(crate) use backend::{BackendWords, OpenOptions, Opened};
pub(crate) use generator::{Load, play};
pub(crate) use recorder::Played;
pub(crate) use world::LiveWorld;
