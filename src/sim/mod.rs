//! Virtual time: devices, workloads and bounds around the production scheduler.
