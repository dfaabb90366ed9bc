//! Virtual time: devices, workloads and bounds around the production scheduler.

pub mod arrivals;
pub mod check;
pub mod device;
mod event;
mod random;
mod report;
pub mod words;
mod world;

pub use event::{Event, Observer};
pub use report::{Latencies, Report};
pub use world::{Mix, Setup, run, run_with_policy};
