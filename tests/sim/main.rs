//! The simulator: bounds, the paper's tables, and random worlds under a checker.

mod bounds;
mod tables;
mod worlds;
