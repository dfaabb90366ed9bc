//! The simulator: bounds, the paper's tables, and random worlds under a checker, their traces.

mod bounds;
mod tables;
mod trace;
#[path = "../common/trace_format.rs"]
mod trace_format;
mod waiting;
mod worlds;
