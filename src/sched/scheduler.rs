//! The state machine: requests go in, actions for the three engines and outcomes come out.
//!
//! Invariants: each accepted request ends with exactly one outcome; an engine has one upload, one
//! batch to compute and a bounded number of downloads at a time, in the order they were asked for;
//! nothing is allocated after construction. It reads no clock: the caller says what time it is, and
//! time never runs backwards. It does not know what a slot holds or which device computes.

mod deadline;
mod decide;

use std::collections::VecDeque;

use super::announced::Announcements;
use super::api::{Action, Config, NotInFlight, Outcome, Refusal, Request};
use super::cost::CostModel;
use super::echo::Echo;
use super::gaps::ArrivalGaps;
use super::line::{Stage, Stages};
use super::policy::{FinishedBatch, Policy, Reason};
use super::queue::{Priority, Queue};
use super::rate::ArrivalRate;
use super::timing::Timing;
use super::trace::{Trace, TraceKind};

/// As a batch's number counts.
const DEPTH: u64 = Scheduler::DEPTH as u64;
/// A request without a deadline is ordered as if it had one so long after its arrival: requests
/// with deadlines can't keep it waiting for ever.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Arrivals that are apart by no more than this share of a batch of one image come together: to
/// tell them apart would gain nothing.
const TOGETHER: f64 = 0.125;
/// Stands for no deadline.
const NEVER_NS: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    Resident,
    InFlight,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    arrival_ns: u64,
    deadline_ns: u64,
    key_ns: u64,
    priority: Priority,
    state: State,
    is_cancelled: bool,
    upload_started_ns: u64,
    upload_ended_ns: u64,
    /// Place of its batch in the ring, once that computes.
    batch: u8,
}

impl Slot {
    const FREE: Self = Self {
        arrival_ns: 0,
        deadline_ns: NEVER_NS,
        key_ns: 0,
        priority: Priority::Normal,
        state: State::Free,
        is_cancelled: false,
        upload_started_ns: 0,
        upload_ended_ns: 0,
        batch: 0,
    };
}

/// Requests that pass a stage together.
#[derive(Debug)]
struct Work {
    slots: Vec<u32>,
    reason: Reason,
    /// Start of the stage that it is in.
    started_ns: u64,
    /// Expected end of it.
    end_ns: u64,
    upload_started_ns: u64,
}

impl Work {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            reason: Reason::Idle,
            started_ns: 0,
            end_ns: 0,
            upload_started_ns: 0,
        }
    }
}

/// What to do next, without the slots that it concerns.
enum Step {
    Upload,
    Compute,
    Download(u64),
    Finish(u32, Outcome),
}

/// The scheduler; see the module for what it keeps.
#[derive(Debug)]
pub struct Scheduler {
    batch_len_max: usize,
    latency_bound_ns: Option<u64>,
    policy: Box<dyn Policy>,
    cost: CostModel,
    rate: ArrivalRate,
    gaps: ArrivalGaps,
    echo: Echo,
    announcements: Announcements,
    slots: Vec<Slot>,
    waiting: Queue,
    resident: Queue,
    /// Start of the first upload of those that are resident.
    resident_since_ns: u64,
    chunk: Work,
    is_uploading: bool,
    /// Uploads started so far.
    uploads: u64,
    /// Batches by number, a ring: number n lies at n modulo its length.
    batches: [Work; Scheduler::DEPTH],
    /// What is known of their times, likewise.
    timings: [Timing; Scheduler::DEPTH],
    started: u64,
    computed: u64,
    download_asked: u64,
    downloaded: u64,
    /// End of the latest download.
    download_free_ns: u64,
    /// Outcomes that have not been polled.
    ended: VecDeque<(u32, Outcome)>,
    /// Requests alive.
    unanswered_len: usize,
    /// Those of them that have a deadline.
    deadline_len: usize,
    latest_arrival_ns: u64,
    hold_until_ns: Option<u64>,
    /// Whether nothing has happened since the policy was asked: it would answer the same until
    /// `hold_until_ns`, and a hold that is asked again and again would be given up too early.
    is_settled: bool,
    is_draining: bool,
    decisions: Stages<[u64; Reason::ALL.len()]>,
    trace: Trace,
}

impl Scheduler {
    /// The most batches between the start of their computing and the end of their download: one in
    /// each of the two stages, and two so that a slow download does not stop the compute engine at
    /// once.
    pub const DEPTH: usize = 4;

    /// An idle scheduler.
    ///
    /// # Panics
    /// If there is no slot or the longest batch is empty.
    pub fn new(config: &Config) -> Self {
        Self::with_policy(config, config.policy.policy())
    }

    /// An idle scheduler with a policy from outside; `config.policy` is ignored.
    ///
    /// # Panics
    /// If there is no slot or the longest batch is empty.
    pub fn with_policy(config: &Config, policy: Box<dyn Policy>) -> Self {
        assert!(config.slot_len > 0 && config.batch_len_max > 0, "limits are at least one");
        let together_ns = (config.lines.compute.at_ns(1) * TOGETHER) as u64;
        let work_len = config.batch_len_max.min(config.slot_len);
        Self {
            batch_len_max: config.batch_len_max,
            latency_bound_ns: config.latency_bound_ns,
            policy,
            cost: CostModel::new(config.lines),
            rate: ArrivalRate::new(config.lines.compute.at_ns(1)),
            gaps: ArrivalGaps::new(together_ns),
            echo: Echo::new(together_ns),
            announcements: Announcements::new(together_ns),
            slots: vec![Slot::FREE; config.slot_len],
            waiting: Queue::with_capacity(config.slot_len),
            resident: Queue::with_capacity(config.slot_len),
            resident_since_ns: 0,
            chunk: Work::with_capacity(work_len),
            is_uploading: false,
            uploads: 0,
            batches: std::array::from_fn(|_| Work::with_capacity(work_len)),
            timings: [Timing::of_batch(0, 0, Reason::Idle, 0); Self::DEPTH],
            started: 0,
            computed: 0,
            download_asked: 0,
            downloaded: 0,
            download_free_ns: 0,
            ended: VecDeque::with_capacity(config.slot_len),
            unanswered_len: 0,
            deadline_len: 0,
            latest_arrival_ns: 0,
            hold_until_ns: None,
            is_settled: false,
            is_draining: false,
            decisions: Stages::default(),
            trace: Trace::default(),
        }
    }

    /// Learns what a stage took when nothing was served: while the device was calibrated.
    pub fn calibrated(&mut self, stage: Stage, batch_len: usize, elapsed_ns: u64) {
        self.cost.calibrated(stage, batch_len, elapsed_ns);
    }

    /// Records what happens into `trace` from now on, and hands over what it recorded into so far:
    /// at first a [`Trace`] of no events.
    pub fn replace_trace(&mut self, trace: Trace) -> Trace {
        std::mem::replace(&mut self.trace, trace)
    }

    /// Takes a request that arrives now.
    ///
    /// # Errors
    /// See [`Refusal`]; the slot then stays the caller's.
    pub fn submit(&mut self, now_ns: u64, request: Request) -> Result<(), Refusal> {
        if self.is_draining {
            return Err(Refusal::Draining);
        }
        self.submit_accepted(now_ns, request)
    }

    /// Takes a request that its caller accepted before: it is not refused for draining.
    ///
    /// # Errors
    /// As for [`Scheduler::submit`].
    pub fn submit_accepted(&mut self, now_ns: u64, request: Request) -> Result<(), Refusal> {
        let is_free = |slot: Option<&Slot>| slot.is_some_and(|slot| slot.state == State::Free);
        if !is_free(self.slots.get(request.slot as usize)) {
            return Err(Refusal::Slot);
        }
        // Refused requests are load too: the rate is what is offered, not what is accepted.
        self.is_settled = false;
        self.rate.arrived(now_ns);
        self.gaps.arrived(now_ns);
        self.echo.arrived(now_ns);
        let bound_ns =
            self.latency_bound_ns.map_or(NEVER_NS, |bound_ns| now_ns.saturating_add(bound_ns));
        let deadline_ns = request.deadline_ns.unwrap_or(NEVER_NS).min(bound_ns);
        let key_ns = deadline_ns.min(now_ns.saturating_add(PATIENCE_NS));
        if deadline_ns != NEVER_NS {
            if self.predicted_finish_ns(now_ns, request.priority, key_ns) > deadline_ns {
                return Err(Refusal::Deadline);
            }
            self.deadline_len += 1;
        }
        self.slots[request.slot as usize] = Slot {
            arrival_ns: now_ns,
            deadline_ns,
            key_ns,
            priority: request.priority,
            state: State::Waiting,
            ..Slot::FREE
        };
        self.unanswered_len += 1;
        self.latest_arrival_ns = now_ns;
        self.waiting.push(request.priority, key_ns, request.slot);
        let waiting_len = self.waiting.len() as u32;
        self.trace.record(now_ns, TraceKind::Arrived { slot: request.slot, waiting_len });
        Ok(())
    }

    /// A request was announced at `since_ns`: it may be submitted soon. The next decision knows.
    ///
    /// # Panics
    /// If `place` is not below [`Announcements::PLACE_LEN`].
    pub fn announced(&mut self, since_ns: u64, place: usize) {
        self.announcements.announced(since_ns, place);
    }

    /// The request that was announced in `place` is about to be submitted, or will not be.
    ///
    /// # Panics
    /// If `place` is not below [`Announcements::PLACE_LEN`].
    pub fn announcement_ended(&mut self, now_ns: u64, place: usize, is_there: bool) {
        self.announcements.ended(now_ns, place, is_there);
    }

    /// The oldest work in flight of a stage is done and took the device `elapsed_ns`.
    ///
    /// # Errors
    /// If the stage has nothing in flight.
    pub fn stage_completed(
        &mut self,
        now_ns: u64,
        stage: Stage,
        elapsed_ns: u64,
    ) -> Result<(), NotInFlight> {
        if !self.is_in_flight(stage) {
            return Err(NotInFlight(stage));
        }
        self.cost.observe(stage, self.oldest(stage).slots.len(), elapsed_ns);
        self.trace_end(now_ns, stage, Some(elapsed_ns));
        self.is_settled = false;
        match stage {
            Stage::Upload => self.upload_completed(now_ns),
            Stage::Compute => {
                let timing = &mut self.timings[(self.computed % DEPTH) as usize];
                timing.compute_ended_ns = now_ns;
                timing.computed_ns = elapsed_ns;
                self.computed += 1;
            }
            Stage::Download => {
                self.download_ended(now_ns);
                self.feed_back(now_ns);
                self.end_batch(Outcome::Completed);
            }
        }
        Ok(())
    }

    /// The oldest work in flight of a stage failed: its requests end as [`Outcome::Failed`].
    ///
    /// # Errors
    /// If the stage has nothing in flight.
    pub fn stage_failed(&mut self, now_ns: u64, stage: Stage) -> Result<(), NotInFlight> {
        if !self.is_in_flight(stage) {
            return Err(NotInFlight(stage));
        }
        self.trace_end(now_ns, stage, None);
        self.is_settled = false;
        match stage {
            Stage::Upload => {
                self.is_uploading = false;
                for i in 0..self.chunk.slots.len() {
                    self.end(self.chunk.slots[i], Outcome::Failed);
                }
            }
            Stage::Compute => {
                // Nothing of it is left to download, but it keeps its place in the ring.
                let batch = self.computed % DEPTH;
                for i in 0..self.batches[batch as usize].slots.len() {
                    self.end(self.batches[batch as usize].slots[i], Outcome::Failed);
                }
                self.batches[batch as usize].slots.clear();
                self.computed += 1;
            }
            Stage::Download => {
                self.download_ended(now_ns);
                self.end_batch(Outcome::Failed);
            }
        }
        Ok(())
    }

    /// Gives a request up: its outcome follows as soon as the device is done with it. False if the
    /// slot holds no request that has yet to end.
    pub fn cancel(&mut self, slot: u32) -> bool {
        let Some(request) = self.slots.get_mut(slot as usize) else {
            return false;
        };
        let (priority, key_ns) = (request.priority, request.key_ns);
        match request.state {
            State::Free | State::Ended => return false,
            State::InFlight => {
                let is_new = !request.is_cancelled;
                request.is_cancelled = true;
                return is_new;
            }
            State::Waiting => self.waiting.remove(priority, key_ns, slot),
            State::Resident => self.resident.remove(priority, key_ns, slot),
        };
        self.end(slot, Outcome::Cancelled);
        true
    }

    /// Refuses further requests and sends those it has on their way without waiting for more.
    pub fn drain(&mut self) {
        self.is_settled = false;
        self.is_draining = true;
    }

    /// Whether no request is alive and no outcome is left to poll.
    pub fn is_idle(&self) -> bool {
        self.waiting.len() + self.resident.len() + self.ended.len() == 0
            && !self.is_uploading
            && self.started == self.downloaded
    }

    /// The next thing to do; call it after every change until it answers none.
    pub fn poll_action(&mut self, now_ns: u64) -> Option<Action<'_>> {
        let action = match self.step(now_ns)? {
            Step::Finish(slot, outcome) => Action::Finish { slot, outcome },
            Step::Upload => Action::Start {
                stage: Stage::Upload,
                slots: &self.chunk.slots,
                reason: self.chunk.reason,
            },
            Step::Compute => {
                let batch = &self.batches[((self.started - 1) % DEPTH) as usize];
                let reason = batch.reason;
                Action::Start { stage: Stage::Compute, slots: &batch.slots, reason }
            }
            Step::Download(number) => {
                let batch = &self.batches[(number % DEPTH) as usize];
                let reason = batch.reason;
                Action::Start { stage: Stage::Download, slots: &batch.slots, reason }
            }
        };
        Some(action)
    }

    /// When to poll again if nothing happens before: a batch is due or a request expires.
    pub fn poll_timeout(&self) -> Option<u64> {
        match (self.hold_until_ns, self.next_expiry_ns()) {
            (Some(hold_ns), Some(expiry_ns)) => Some(hold_ns.min(expiry_ns)),
            (hold_ns, expiry_ns) => hold_ns.or(expiry_ns),
        }
    }

    /// When the request in `slot` passed which stage, of one that completed: from its
    /// [`Action::Finish`] until the next action is asked for. Its arrival is when it was submitted,
    /// and it is announced as its download ends: whoever knows better says so.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn timing(&self, slot: u32) -> Timing {
        let request = &self.slots[slot as usize];
        let batch = &self.timings[usize::from(request.batch)];
        Timing {
            arrival_ns: request.arrival_ns,
            upload_started_ns: request.upload_started_ns,
            upload_ended_ns: request.upload_ended_ns,
            announced_ns: batch.download_ended_ns,
            ..*batch
        }
    }

    /// What the stages are expected to cost.
    pub fn cost(&self) -> &CostModel {
        &self.cost
    }

    /// Requests in host memory that wait for their upload.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// How often a stage was started for a reason.
    pub fn decision_len(&self, stage: Stage, reason: Reason) -> u64 {
        self.decisions.of(stage)[reason as usize]
    }

    fn computing(&self) -> Option<&Work> {
        let is_computing = self.started > self.computed;
        is_computing.then(|| &self.batches[(self.computed % DEPTH) as usize])
    }

    fn compute_free_ns(&self, now_ns: u64) -> u64 {
        self.computing().map_or(now_ns, |batch| batch.end_ns.max(now_ns))
    }

    fn is_in_flight(&self, stage: Stage) -> bool {
        match stage {
            Stage::Upload => self.is_uploading,
            Stage::Compute => self.started > self.computed,
            Stage::Download => self.download_asked > self.downloaded,
        }
    }

    fn oldest(&self, stage: Stage) -> &Work {
        match stage {
            Stage::Upload => &self.chunk,
            Stage::Compute => &self.batches[(self.computed % DEPTH) as usize],
            Stage::Download => &self.batches[(self.downloaded % DEPTH) as usize],
        }
    }

    /// A download begins when it is asked for, or at the end of the one before.
    fn download_ended(&mut self, now_ns: u64) {
        let timing = &mut self.timings[(self.downloaded % DEPTH) as usize];
        timing.download_started_ns = timing.download_started_ns.max(self.download_free_ns);
        timing.download_ended_ns = now_ns;
        self.download_free_ns = now_ns;
    }

    fn trace_start(
        &mut self,
        now_ns: u64,
        stage: Stage,
        (number, len): (u64, usize),
        reason: Reason,
    ) {
        if self.trace.is_on() {
            let predicted_ns = self.cost.predict_ns(stage, len);
            let (len, waiting_len) = (len as u32, self.waiting.len() as u32);
            let kind = TraceKind::Started { stage, number, len, reason, predicted_ns, waiting_len };
            self.trace.record(now_ns, kind);
        }
    }

    fn trace_end(&mut self, now_ns: u64, stage: Stage, elapsed_ns: Option<u64>) {
        let number = match stage {
            Stage::Upload => self.uploads - 1,
            Stage::Compute => self.computed,
            Stage::Download => self.downloaded,
        };
        self.trace.record(now_ns, TraceKind::Ended { stage, number, elapsed_ns });
    }

    fn upload_completed(&mut self, now_ns: u64) {
        self.is_uploading = false;
        if self.resident.len() == 0 {
            self.resident_since_ns = self.chunk.started_ns;
        }
        for i in 0..self.chunk.slots.len() {
            let slot = self.chunk.slots[i];
            let request = &mut self.slots[slot as usize];
            if request.is_cancelled {
                self.end(slot, Outcome::Cancelled);
            } else {
                request.state = State::Resident;
                request.upload_started_ns = self.chunk.started_ns;
                request.upload_ended_ns = now_ns;
                self.resident.push(request.priority, request.key_ns, slot);
            }
        }
    }

    /// Ends the batch whose download is over, and those behind it whose computing failed.
    fn end_batch(&mut self, outcome: Outcome) {
        let batch = (self.downloaded % DEPTH) as usize;
        for i in 0..self.batches[batch].slots.len() {
            let slot = self.batches[batch].slots[i];
            let is_cancelled = self.slots[slot as usize].is_cancelled;
            self.end(slot, if is_cancelled { Outcome::Cancelled } else { outcome });
        }
        self.downloaded += 1;
        self.skip_failed();
    }

    fn skip_failed(&mut self) {
        while self.downloaded < self.download_asked && self.oldest(Stage::Download).slots.is_empty()
        {
            self.downloaded += 1;
        }
    }

    fn end(&mut self, slot: u32, outcome: Outcome) {
        self.is_settled = false;
        let request = &mut self.slots[slot as usize];
        request.state = State::Ended;
        self.unanswered_len -= 1;
        if request.deadline_ns != NEVER_NS {
            self.deadline_len -= 1;
        }
        self.ended.push_back((slot, outcome));
    }

    fn feed_back(&mut self, now_ns: u64) {
        let batch = self.oldest(Stage::Download);
        let arrivals = batch.slots.iter().map(|&slot| self.slots[slot as usize].arrival_ns);
        let waits = arrivals.map(|arrival_ns| batch.upload_started_ns.saturating_sub(arrival_ns));
        let finished = FinishedBatch {
            batch_len: batch.slots.len(),
            upload_started_ns: batch.upload_started_ns,
            finished_ns: now_ns,
            wait_mean_ns: waits.sum::<u64>() / batch.slots.len() as u64,
        };
        self.echo.answered(now_ns, finished.batch_len);
        self.policy.finished(&finished);
    }
}

#[cfg(test)]
mod tests;
