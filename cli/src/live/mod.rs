//! What runs in real time: backends by their specs, a load generator, and what it found.
//!
//! Knows nothing of tables, charts and files.

mod backend;
mod generator;
mod images;
pub(crate) mod recorder;
mod watched;
mod world;

pub(crate) use backend::{OpenOptions, Opened};
pub(crate) use generator::{Load, play};
pub(crate) use recorder::Played;
pub(crate) use world::LiveWorld;

use twinstream::sim::experiment::is_late;

use crate::output::tell;

/// Says of a run, given in words, that the generator itself moved its figures.
pub(crate) fn warn_if_late(run: &str, late_p99_ms: f64, mean_ms: f64) {
    if is_late(late_p99_ms, mean_ms) {
        tell(format_args!(
            "warning: {run}: one request in a hundred was handed over {late_p99_ms:.3} ms late or \
             more, which its latency counts: the machine is too busy"
        ));
    }
}
