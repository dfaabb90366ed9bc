//! The scheduler: a deterministic state machine that chooses each batch and when its upload starts.
//!
//! The present is an argument: there is no clock here, no thread, no I/O, no randomness and no
//! device, and after construction nothing is allocated. The live engine and the simulator drive the
//! same [`Scheduler`]. It serves one queue with one device or several, each a lane.
//!
//! ```
//! use twinstream::sched::{
//!     Action, Config, Line, Outcome, PolicySpec, Request, Scheduler, Stage, Stages,
//! };
//!
//! let line = Line::new(100_000.0, 10_000.0);
//! let mut scheduler = Scheduler::new(&Config {
//!     slot_len: 8,
//!     batch_len_max: 4,
//!     latency_bound_ns: None,
//!     policy: PolicySpec::default(),
//!     lines: vec![Stages { upload: line, compute: line, download: line }],
//! });
//! let mut now_ns = 0;
//! scheduler.submit(now_ns, Request::default())?;
//! for stage in [Stage::Upload, Stage::Compute, Stage::Download] {
//!     // The caller starts what it is told to, and says when that has ended.
//!     let action = scheduler.poll_action(now_ns).expect("the device idles");
//!     assert!(matches!(action, Action::Start { stage: s, slots: [0], .. } if s == stage));
//!     now_ns += 110_000;
//!     scheduler.stage_completed(now_ns, 0, stage, 110_000)?;
//! }
//! let ended = Action::Finish { slot: 0, outcome: Outcome::Completed };
//! assert_eq!(scheduler.poll_action(now_ns), Some(ended));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod announced;
mod api;
mod cost;
mod durations;
mod echo;
mod gaps;
mod line;
mod policy;
mod queue;
mod rate;
mod recent;
mod scheduler;
mod timing;
mod trace;

pub use announced::{Announced, Announcements};
pub use api::{Action, Config, NotInFlight, Outcome, Refusal, Request, calibration_lens};
pub use cost::CostModel;
pub use durations::Alike;
pub use echo::{Echo, Return};
pub use gaps::{ArrivalGaps, Clusters, Due};
pub use line::{FitError, Line, Stage, Stages};
pub use policy::{
    BatchLens, Decision, FinishedBatch, LaneView, Parameter, Policy, PolicyError, PolicySpec,
    PolicyWords, Reason, View,
};
pub use queue::Priority;
pub use rate::ArrivalRate;
pub use scheduler::Scheduler;
pub use timing::Timing;
pub use trace::{Seen, Trace, TraceEvent, TraceKind, chrome_json};
