//! Virtual time: devices, workloads and bounds around the production scheduler.

pub mod arrivals;
pub mod bounds;
pub mod check;
pub mod device;
mod event;
pub mod experiment;
mod fleet;
pub mod network;
pub mod plan;
mod random;
mod report;
pub mod sizing;
pub mod summary;
mod usage;
pub mod words;
mod world;

pub use event::{Event, Observer};
pub use fleet::Outage;
pub use report::{Latencies, Report};
pub use usage::{DeviceUse, Usage};
pub use world::{Mix, Setup, run, run_with_policy};
