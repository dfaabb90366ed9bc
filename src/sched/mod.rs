//! The scheduler: a deterministic state machine that chooses each batch and when its upload starts.

mod line;

pub use line::{Line, Stage, Stages};
