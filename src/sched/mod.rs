//! The scheduler: a deterministic state machine that chooses each batch and when its upload starts.
//!
//! The present is an argument: there is no clock here, no thread, no I/O, no randomness and no
//! device, and after construction nothing is allocated. The live engine and the simulator drive the
//! same [`Scheduler`].

mod api;
mod cost;
mod line;
mod policy;
mod queue;
mod rate;
mod recent;
mod scheduler;

pub use api::{Action, Config, NotInFlight, Outcome, Refusal, Request};
pub use cost::CostModel;
pub use line::{FitError, Line, Stage, Stages};
pub use policy::{
    BatchLens, Decision, FinishedBatch, Parameter, Policy, PolicyError, PolicySpec, PolicyWords,
    Reason, View,
};
pub use queue::Priority;
pub use rate::ArrivalRate;
pub use scheduler::Scheduler;
