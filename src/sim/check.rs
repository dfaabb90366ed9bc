//! Independent checker of a simulated world: what must hold whatever the policy.
//!
//! It keeps its own books from the events alone, shares no code with the scheduler, and remembers
//! the first rule that was broken: each request ends exactly once and as its life allows, engines
//! do one thing at a time, a request is one lane's until that is lost, and nobody's then, limits
//! hold, requests of a priority go by deadline and arrival, no priority starves, and what a request
//! is told of its times is true.

use std::collections::BTreeSet;

use super::event::{Event, Observer};
use crate::sched::{Config, Outcome, Priority, Reason, Scheduler, Stage, Timing};

/// Without a deadline a request is ordered as if it had one so long after its arrival.
const PATIENCE_NS: u64 = 1_000_000_000;
/// A priority that waits is owed at least one place in so many.
const SHARE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    Waiting,
    Uploading,
    Resident,
    Computing,
    Computed,
    Downloading,
    Downloaded,
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    phase: Phase,
    priority: Priority,
    key_ns: u64,
    deadline_ns: Option<u64>,
    /// Whose it is from its upload on.
    lane: usize,
    is_cancelled: bool,
    /// Others took its place at this moment, which only its expiry at the same moment excuses.
    overtaken_ns: Option<u64>,
    /// Start and end of its stages, as far as they were asked for.
    spans_ns: [(u64, u64); 3],
    /// Number and images of its batch, and why that was computed, once it was asked for.
    batch: (u64, usize, Reason),
}

/// Requests of each priority in one place, and how many of others went since one of them did.
#[derive(Debug, Default)]
struct Place {
    waiting: [BTreeSet<(u64, u32)>; Priority::ALL.len()],
    passed_over: [usize; Priority::ALL.len()],
}

impl Place {
    /// A request that waited here has ended, which counts as its priority's turn: places are owed
    /// to those that can still use them.
    fn forget(&mut self, level: usize, key_ns: u64, slot: u32) {
        if self.waiting[level].remove(&(key_ns, slot)) {
            self.passed_over[level] = 0;
        }
    }
}

/// What one lane has.
#[derive(Debug, Default)]
struct LaneBooks {
    resident: Place,
    in_flight: [Vec<Vec<u32>>; 3],
    engine_free_ns: [u64; 3],
    is_lost: bool,
}

/// Watches a world and reports what went wrong first.
#[derive(Debug)]
pub struct Checker {
    slot_len: usize,
    batch_len_max: usize,
    /// Whether the policy may end requests that have no deadline as expired.
    is_dropping: bool,
    lives: Vec<Life>,
    hosted: Place,
    lanes: Vec<LaneBooks>,
    /// Batches that were asked to be computed.
    batch_count: u64,
    overtaken: Vec<u32>,
    submitted_len: u64,
    finished_len: u64,
    now_ns: u64,
    violation: Option<String>,
}

impl Checker {
    /// A checker of a world with this configuration.
    pub fn new(config: &Config) -> Self {
        let life = Life {
            phase: Phase::Free,
            priority: Priority::Normal,
            key_ns: 0,
            deadline_ns: None,
            lane: 0,
            is_cancelled: false,
            overtaken_ns: None,
            spans_ns: [(0, 0); 3],
            batch: (0, 0, Reason::Idle),
        };
        Self {
            slot_len: config.slot_len,
            batch_len_max: config.batch_len_max,
            is_dropping: config.policy.is_dropping(),
            lives: vec![life; config.slot_len],
            hosted: Place::default(),
            lanes: config.lines.iter().map(|_| LaneBooks::default()).collect(),
            batch_count: 0,
            overtaken: Vec::new(),
            submitted_len: 0,
            finished_len: 0,
            now_ns: 0,
            violation: None,
        }
    }

    /// The first rule that was broken, in words; call it once the world has ended.
    pub fn violation(mut self) -> Option<String> {
        self.check_overtaken(u64::MAX);
        let (submitted_len, finished_len) = (self.submitted_len, self.finished_len);
        self.require(submitted_len == finished_len, || {
            format!("of {submitted_len} requests {finished_len} ended, the rest never")
        });
        let busy_len: usize =
            self.lanes.iter().flat_map(|lane| &lane.in_flight).map(Vec::len).sum();
        self.require(busy_len == 0, || format!("{busy_len} stages never ended"));
        self.violation
    }

    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(format!("at {} ns: {}", self.now_ns, what()));
        }
    }

    fn submitted(&mut self, slot: u32, priority: Priority, deadline_ns: Option<u64>) {
        let is_known = (slot as usize) < self.slot_len;
        self.require(is_known, || format!("slot {slot} does not exist"));
        if !is_known {
            return;
        }
        let phase = self.lives[slot as usize].phase;
        self.require(phase == Phase::Free, || format!("slot {slot} reused while {phase:?}"));
        let key_ns = deadline_ns.unwrap_or(u64::MAX).min(self.now_ns + PATIENCE_NS);
        self.lives[slot as usize] = Life {
            phase: Phase::Waiting,
            priority,
            key_ns,
            deadline_ns,
            is_cancelled: false,
            overtaken_ns: None,
            ..self.lives[slot as usize]
        };
        self.hosted.waiting[priority as usize].insert((key_ns, slot));
        self.submitted_len += 1;
    }

    fn asked(
        &mut self,
        (lane, stage): (usize, Stage),
        slots: &[u32],
        reason: Reason,
        span_ns: (u64, u64),
    ) {
        let (len, len_max) = (slots.len(), self.batch_len_max);
        self.require((1..=len_max).contains(&len), || format!("{stage:?} of {len} images"));
        let is_there = self.lanes.get(lane).is_some_and(|lane| !lane.is_lost);
        self.require(is_there, || format!("{stage:?} on lane {lane}, which is not there"));
        if !is_there {
            return;
        }
        let free_ns = self.lanes[lane].engine_free_ns[stage as usize];
        let now_ns = self.now_ns;
        self.require(span_ns.0 >= free_ns.max(now_ns) && span_ns.1 > span_ns.0, || {
            format!("{stage:?} from {} to {}, free at {free_ns}", span_ns.0, span_ns.1)
        });
        self.lanes[lane].engine_free_ns[stage as usize] = span_ns.1;
        let (before, during) = match stage {
            Stage::Upload => (Phase::Waiting, Phase::Uploading),
            Stage::Compute => (Phase::Resident, Phase::Computing),
            Stage::Download => (Phase::Computed, Phase::Downloading),
        };
        for &slot in slots {
            let Some(life) = self.lives.get_mut(slot as usize) else {
                self.require(false, || format!("{stage:?} of slot {slot}, which does not exist"));
                return;
            };
            let phase = std::mem::replace(&mut life.phase, during);
            let owner = std::mem::replace(&mut life.lane, lane);
            // What is told of an upload is when it was asked for: it may wait for a link of all.
            let start_ns = if stage == Stage::Upload { now_ns } else { span_ns.0 };
            life.spans_ns[stage as usize] = (start_ns, span_ns.1);
            if stage == Stage::Compute {
                life.batch = (self.batch_count, len, reason);
            }
            let is_here = stage == Stage::Upload || owner == lane;
            self.require(is_here, || format!("{stage:?} on lane {lane} of {slot}, on {owner}"));
            self.require(phase == before, || format!("{stage:?} of slot {slot} while {phase:?}"));
        }
        match stage {
            Stage::Upload => self.left(slots, |checker| &mut checker.hosted),
            Stage::Compute => {
                self.batch_count += 1;
                self.left(slots, |checker| &mut checker.lanes[lane].resident);
            }
            Stage::Download => {}
        }
        self.lanes[lane].in_flight[stage as usize].push(slots.to_vec());
        let depth = |stage: Stage| self.lanes[lane].in_flight[stage as usize].len();
        let (uploads, computes) = (depth(Stage::Upload), depth(Stage::Compute));
        let batches = computes + depth(Stage::Download);
        self.require(uploads <= 1 && computes <= 1 && batches <= Scheduler::DEPTH, || {
            format!("{uploads} uploads, {computes} computing, {batches} batches in flight")
        });
    }

    /// Requests leave the place where they waited: by key within a priority, and without passing
    /// another priority over for too long.
    fn left(&mut self, slots: &[u32], place: impl Fn(&mut Self) -> &mut Place) {
        let mut gone = [0; Priority::ALL.len()];
        let mut latest_key = [0; Priority::ALL.len()];
        for &slot in slots {
            let Life { priority, key_ns, .. } = self.lives[slot as usize];
            let level = priority as usize;
            place(self).waiting[level].remove(&(key_ns, slot));
            gone[level] += 1;
            latest_key[level] = latest_key[level].max(key_ns);
        }
        for level in 0..Priority::ALL.len() {
            if gone[level] > 0 {
                let before = place(self).waiting[level].range(..(latest_key[level], 0));
                let overtaken: Vec<u32> = before.map(|(_, slot)| *slot).collect();
                for slot in overtaken {
                    self.lives[slot as usize].overtaken_ns = Some(self.now_ns);
                    self.overtaken.push(slot);
                }
            }
            let len_max = self.batch_len_max;
            let place = place(self);
            if gone[level] > 0 || place.waiting[level].is_empty() {
                place.passed_over[level] = 0;
            } else {
                place.passed_over[level] += slots.len();
                let passed_over = place.passed_over[level];
                self.require(passed_over <= SHARE + len_max, || {
                    format!("priority {level} was passed over {passed_over} times")
                });
            }
        }
    }

    /// Those that were overtaken must have ended at that very moment.
    fn check_overtaken(&mut self, now_ns: u64) {
        for slot in std::mem::take(&mut self.overtaken) {
            let life = self.lives[slot as usize];
            match life.overtaken_ns {
                Some(then_ns) if then_ns < now_ns => {
                    self.require(false, || format!("slot {slot} was overtaken"));
                }
                Some(_) => self.overtaken.push(slot),
                None => {}
            }
        }
    }

    fn ended(&mut self, lane: usize, stage: Stage, is_failed: bool) {
        let in_flight = self.lanes.get_mut(lane).map(|lane| &mut lane.in_flight[stage as usize]);
        let Some(slots) = in_flight.filter(|works| !works.is_empty()).map(|works| works.remove(0))
        else {
            self.require(false, || format!("{stage:?} ended on {lane}, but none was asked for"));
            return;
        };
        let after = match stage {
            _ if is_failed => Phase::Failed,
            Stage::Upload => Phase::Resident,
            Stage::Compute => Phase::Computed,
            Stage::Download => Phase::Downloaded,
        };
        for slot in slots {
            let life = &mut self.lives[slot as usize];
            life.phase = after;
            if after == Phase::Resident && !life.is_cancelled {
                let level = life.priority as usize;
                self.lanes[lane].resident.waiting[level].insert((life.key_ns, slot));
            }
        }
    }

    /// A lane is lost: what it had is on the host again, but for what has yet to end.
    fn lost(&mut self, lane: usize) {
        let is_new = self.lanes.get(lane).is_some_and(|lane| !lane.is_lost);
        self.require(is_new, || format!("lane {lane} was lost, which is not there"));
        if !is_new {
            return;
        }
        self.lanes[lane] = LaneBooks { is_lost: true, ..LaneBooks::default() };
        let is_left = |phase| {
            !matches!(phase, Phase::Free | Phase::Waiting | Phase::Downloaded | Phase::Failed)
        };
        for slot in 0..self.lives.len() {
            let life = &mut self.lives[slot];
            if life.lane != lane || !is_left(life.phase) {
                continue;
            }
            life.phase = Phase::Waiting;
            if !life.is_cancelled {
                let level = life.priority as usize;
                self.hosted.waiting[level].insert((life.key_ns, slot as u32));
            }
        }
    }

    fn returned(&mut self, lane: usize) {
        let is_known = self.lanes.get(lane).is_some_and(|lane| lane.is_lost);
        self.require(is_known, || format!("lane {lane} is back, but was not lost"));
        if is_known {
            self.lanes[lane].is_lost = false;
            self.lanes[lane].engine_free_ns = [self.now_ns; 3];
        }
    }

    fn forget(&mut self, lane: usize, level: usize, key_ns: u64, slot: u32) {
        self.hosted.forget(level, key_ns, slot);
        self.lanes[lane].resident.forget(level, key_ns, slot);
    }

    fn cancelled(&mut self, slot: u32) {
        let life = &mut self.lives[slot as usize];
        life.is_cancelled = true;
        let (lane, level, key_ns) = (life.lane, life.priority as usize, life.key_ns);
        self.forget(lane, level, key_ns, slot);
    }

    fn finished(&mut self, slot: u32, outcome: Outcome) {
        let Some(life) = self.lives.get_mut(slot as usize) else {
            self.require(false, || format!("slot {slot} ended, which does not exist"));
            return;
        };
        let Life { phase, is_cancelled, deadline_ns, .. } = *life;
        let (lane, level, key_ns) = (life.lane, life.priority as usize, life.key_ns);
        life.phase = Phase::Free;
        life.overtaken_ns = None;
        let is_allowed = match outcome {
            Outcome::Completed => phase == Phase::Downloaded && !is_cancelled,
            Outcome::Failed => phase == Phase::Failed,
            Outcome::Expired => {
                (deadline_ns.is_some() || self.is_dropping)
                    && matches!(phase, Phase::Waiting | Phase::Resident)
            }
            Outcome::Cancelled => {
                let is_in_flight =
                    matches!(phase, Phase::Uploading | Phase::Computing | Phase::Downloading);
                is_cancelled && !is_in_flight && phase != Phase::Free
            }
        };
        self.require(is_allowed, || format!("slot {slot} ended as {outcome:?} while {phase:?}"));
        self.forget(lane, level, key_ns, slot);
        self.finished_len += 1;
    }
}

impl Checker {
    /// What a request that completes now is told of its times.
    fn timed(&mut self, slot: u32, arrival_ns: u64, told: &Timing) {
        let Some(Life { spans_ns, batch, .. }) = self.lives.get(slot as usize).copied() else {
            return;
        };
        let told_spans_ns = [
            (told.upload_started_ns, told.upload_ended_ns),
            (told.compute_started_ns, told.compute_ended_ns),
            (told.download_started_ns, told.download_ended_ns),
        ];
        let told_batch = (told.batch, told.batch_len, told.reason);
        let ends_ns = (arrival_ns, self.now_ns);
        let (computed_ns, compute_ns) = (told.computed_ns, spans_ns[1].1 - spans_ns[1].0);
        let is_true = told_spans_ns == spans_ns
            && told_batch == batch
            && (told.arrival_ns, told.announced_ns) == ends_ns
            && computed_ns == compute_ns;
        self.require(is_true, || {
            format!("slot {slot}, stages {spans_ns:?}, batch {batch:?}, was told {told:?}")
        });
        let parts_ns = [
            told.queued_ns(),
            told.uploading_ns(),
            told.waiting_ns(),
            told.computing_ns(),
            told.downloading_ns(),
            told.announcing_ns(),
        ];
        let sum_ns: u64 = parts_ns.iter().sum();
        self.require(sum_ns == ends_ns.1 - ends_ns.0 && sum_ns == told.latency_ns(), || {
            format!("slot {slot}: the parts of {told:?} do not add up")
        });
    }
}

impl Observer for Checker {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        let last_ns = self.now_ns;
        self.require(now_ns >= last_ns, || format!("time ran back from {last_ns} to {now_ns}"));
        if now_ns > self.now_ns {
            self.check_overtaken(now_ns);
            self.now_ns = now_ns;
        }
        match *event {
            Event::Submitted { slot, priority, deadline_ns } => {
                self.submitted(slot, priority, deadline_ns);
            }
            Event::Refused { .. } => {}
            Event::Asked { lane, stage, slots, reason, span_ns } => {
                self.asked((lane, stage), slots, reason, span_ns);
            }
            Event::Ended { lane, stage, is_failed } => self.ended(lane, stage, is_failed),
            Event::Lost { lane } => self.lost(lane),
            Event::Returned { lane } => self.returned(lane),
            Event::Cancelled { slot } => self.cancelled(slot),
            Event::Finished { slot, outcome, arrival_ns, timing } => {
                self.finished(slot, outcome);
                let is_timed = timing.is_some() == (outcome == Outcome::Completed);
                self.require(is_timed, || format!("slot {slot}, {outcome:?}: {timing:?}"));
                if let Some(timing) = timing {
                    self.timed(slot, arrival_ns, &timing);
                }
            }
        }
    }
}
