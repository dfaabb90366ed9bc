//! The latest events of a scheduler: arrivals, decisions of the policy, stages from start to end.
//!
//! Invariant: events stand in the order of their moments, and recording one allocates nothing. They
//! are written by whoever drives the scheduler, who hands the whole trace over to be read.

mod json;

use super::line::{Stage, Stages};
use super::policy::{Decision, Reason, View};

pub use json::chrome_json;

/// Something that happened, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceEvent {
    /// Nanoseconds of the caller's clock.
    pub at_ns: u64,
    /// What happened.
    pub kind: TraceKind,
}

const _: () = assert!(size_of::<TraceEvent>() <= 64, "options and documents say so");

/// What happened. Uploads are counted from 0, and so are batches, in the order of their computing;
/// a download has its batch's number.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum TraceKind {
    /// A request was accepted.
    Arrived {
        /// Its slot.
        slot: u32,
        /// Requests that wait for their upload, this one among them.
        waiting_len: u32,
    },
    /// The policy was asked whether to start a stage. A hold is recorded once for as long as what
    /// it is about stays the same.
    Decided {
        /// Of which lane.
        lane: u16,
        /// Which stage.
        stage: Stage,
        /// What the policy saw.
        seen: Seen,
        /// What it answered.
        decision: Decision,
    },
    /// A stage was asked for.
    Started {
        /// Of which lane.
        lane: u16,
        /// Which stage.
        stage: Stage,
        /// Number of the upload, or of the batch.
        number: u64,
        /// Images in it.
        len: u32,
        /// Why it started now; a download's is its batch's.
        reason: Reason,
        /// What it is expected to take, in nanoseconds.
        predicted_ns: u64,
        /// Requests that wait for their upload, now that it has started.
        waiting_len: u32,
    },
    /// A stage ended.
    Ended {
        /// Of which lane.
        lane: u16,
        /// Which stage.
        stage: Stage,
        /// Number of the upload, or of the batch.
        number: u64,
        /// What the device took, in nanoseconds; none: it failed, or the lane was lost.
        elapsed_ns: Option<u64>,
    },
}

/// What a policy was shown, in short; see [`View`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// Requests in host memory.
    pub waiting_len: u32,
    /// Requests being uploaded.
    pub uploading_len: u32,
    /// Requests in device memory, ready to be computed.
    pub resident_len: u32,
    /// Requests being computed.
    pub computing_len: u32,
    /// Estimated arrivals a second.
    pub arrivals_hz: f64,
}

impl Seen {
    pub(super) fn new(view: &View<'_>) -> Self {
        Self {
            waiting_len: view.waiting_len as u32,
            uploading_len: view.uploading_len as u32,
            resident_len: view.resident_len as u32,
            computing_len: view.computing_len as u32,
            arrivals_hz: view.arrivals_per_ns * 1e9,
        }
    }

    fn lens(&self) -> [u32; 4] {
        [self.waiting_len, self.uploading_len, self.resident_len, self.computing_len]
    }
}

/// A fixed number of the latest events; of none, by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// A ring.
    events: Vec<TraceEvent>,
    /// Where in it the next event goes.
    next: usize,
    /// Events recorded so far.
    recorded: u64,
    /// By stage: the lane of which the policy last held, and what it saw, if nothing started since.
    held: Stages<Option<(u16, [u32; 4])>>,
}

impl Trace {
    /// Room for the latest `capacity` events.
    pub fn new(capacity: usize) -> Self {
        // Written once, so that recording meets no page for the first time.
        let never = TraceEvent {
            at_ns: u64::MAX,
            kind: TraceKind::Arrived { slot: u32::MAX, waiting_len: u32::MAX },
        };
        Self { events: vec![never; capacity], ..Self::default() }
    }

    /// Most events that it holds; 0: it records nothing.
    pub fn capacity(&self) -> usize {
        self.events.len()
    }

    /// The events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &TraceEvent> {
        let (newer, older) = self.events.split_at(self.next);
        let older = if self.recorded > self.next as u64 { older } else { &[] };
        older.iter().chain(newer)
    }

    /// Events that it held before later ones took their place.
    pub fn lost_len(&self) -> u64 {
        self.recorded.saturating_sub(self.events.len() as u64)
    }

    /// Whether it records anything.
    pub(super) fn is_on(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn record(&mut self, at_ns: u64, kind: TraceKind) {
        if !self.is_on() {
            return;
        }
        self.events[self.next] = TraceEvent { at_ns, kind };
        self.recorded += 1;
        self.next += 1;
        if self.next == self.events.len() {
            self.next = 0;
        }
    }

    pub(super) fn decided(
        &mut self,
        at_ns: u64,
        (lane, stage): (u16, Stage),
        seen: Seen,
        decision: Decision,
    ) {
        let held = match decision {
            Decision::Go { .. } | Decision::Drop => None,
            Decision::Hold { .. } => Some((lane, seen.lens())),
        };
        let is_repeated = held.is_some() && *self.held.of(stage) == held;
        *self.held.of_mut(stage) = held;
        if !is_repeated {
            self.record(at_ns, TraceKind::Decided { lane, stage, seen, decision });
        }
    }
}
