//! Virtual time: devices, workloads and bounds around the production scheduler.

pub mod arrivals;
pub mod device;
mod random;
pub mod words;
