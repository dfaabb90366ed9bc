//! What happens in a simulated world, for those that watch it: checkers, charts, tests.

use crate::sched::{Outcome, Priority, Reason, Refusal, Stage, Timing};

/// Something that happened; its moment comes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request was accepted.
    Submitted {
        /// Where it lies until it is finished.
        slot: u32,
        /// Its priority.
        priority: Priority,
        /// When its result is due, in nanoseconds of virtual time, if it ever is.
        deadline_ns: Option<u64>,
    },
    /// A request was turned away; none as the reason: no slot was free.
    Refused {
        /// Why, as the scheduler said.
        refusal: Option<Refusal>,
    },
    /// The scheduler asked for a stage.
    Asked {
        /// Of which lane.
        lane: usize,
        /// Which engine.
        stage: Stage,
        /// The requests in it.
        slots: &'a [u32],
        /// Why then.
        reason: Reason,
        /// When the engine will begin and end it, in nanoseconds of virtual time.
        span_ns: (u64, u64),
    },
    /// A stage ended.
    Ended {
        /// Of which lane.
        lane: usize,
        /// Which engine.
        stage: Stage,
        /// Whether it failed.
        is_failed: bool,
    },
    /// A lane's device is gone, with all that it did.
    Lost {
        /// Which lane.
        lane: usize,
    },
    /// A device that was gone is back.
    Returned {
        /// Which lane.
        lane: usize,
    },
    /// A caller gave a request up.
    Cancelled {
        /// Which one.
        slot: u32,
    },
    /// A request has its outcome.
    Finished {
        /// Which one.
        slot: u32,
        /// How it ended.
        outcome: Outcome,
        /// When it was due to arrive, in nanoseconds of virtual time.
        arrival_ns: u64,
        /// When it passed which stage; none if it did not complete.
        timing: Option<Timing>,
    },
}

/// Watches a world; told of every event in the order it happens.
pub trait Observer {
    /// Something happened at `now_ns` of virtual time.
    fn event(&mut self, now_ns: u64, event: &Event<'_>);
}

/// Watches nothing.
impl Observer for () {
    fn event(&mut self, _now_ns: u64, _event: &Event<'_>) {}
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        self.0.event(now_ns, event);
        self.1.event(now_ns, event);
    }
}

impl<O: Observer> Observer for &mut O {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        (**self).event(now_ns, event);
    }
}
