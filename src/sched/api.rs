//! What goes into the scheduler and comes out of it: limits, requests, actions, outcomes.
//!
//! Plain values; slots are numbers that the caller gives a meaning to.

use super::line::{Line, Stage, Stages};
use super::policy::{PolicySpec, Reason};
use super::queue::Priority;

/// Limits, policy and first cost models of a scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Slots, at least one: the most requests alive at a time.
    pub slot_len: usize,
    /// Longest batch, at least one.
    pub batch_len_max: usize,
    /// Bound on the latency of every request, in nanoseconds: its deadline is at most so long after
    /// its arrival.
    pub latency_bound_ns: Option<u64>,
    /// How batches are chosen.
    pub policy: PolicySpec,
    /// Cost of the stages as calibrated, of each lane: of each device that serves the queue.
    pub lines: Vec<Stages<Line>>,
}

/// Batch lengths to time before anyone is served, ascending: the powers of two and the longest. A
/// stage that is a staircase has its edges at most of them.
pub fn calibration_lens(batch_len_max: usize) -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1), |len: &usize| len.checked_mul(2));
    powers.take_while(move |len| *len < batch_len_max).chain([batch_len_max])
}

/// A request as it is submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Where its image lies, on the host and on the device. In use until the outcome is polled.
    pub slot: u32,
    /// Which requests it goes before.
    pub priority: Priority,
    /// When its result must be on the host, in nanoseconds of the caller's clock.
    pub deadline_ns: Option<u64>,
}

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The slot lies beyond the last one or holds a request that has not ended.
    #[error("the slot does not exist or is in use")]
    Slot,
    /// Too much waits ahead of it: it would end after its deadline.
    #[error("the deadline cannot be met")]
    Deadline,
    /// The scheduler drains.
    #[error("no more requests are accepted")]
    Draining,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its result is on the host.
    Completed,
    /// It was accepted but could not meet its deadline any more, or its policy dropped it, and was
    /// not computed.
    Expired,
    /// The caller cancelled it; whatever the device still did for it is over.
    Cancelled,
    /// A stage that it was part of failed.
    Failed,
}

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Start a stage, behind those already asked of the same engine.
    Start {
        /// Which lane, from 0, in the order of [`Config::lines`].
        lane: usize,
        /// Which of its engines.
        stage: Stage,
        /// The requests' slots. Those to compute are all in the lane's memory, in any order.
        slots: &'a [u32],
        /// Why now.
        reason: Reason,
    },
    /// A request has ended; its slot is free again.
    Finish {
        /// Which request.
        slot: u32,
        /// How it ended.
        outcome: Outcome,
    },
}

/// A stage was reported as completed or failed while its engine had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is in flight in stage {stage:?} of lane {lane}")]
pub struct NotInFlight {
    /// Of which lane.
    pub lane: usize,
    /// In which stage.
    pub stage: Stage,
}
