//! The state machine: requests go in, actions for the three engines of each lane and outcomes come
//! out. A lane is a device; all of them serve one queue, and a request belongs to one from the
//! start of its upload on.
//!
//! Invariants: each accepted request ends with exactly one outcome; a lane has one upload, one
//! batch to compute and a bounded number of downloads at a time, in the order they were asked for;
//! nothing is allocated after construction. It reads no clock: the caller says what time it is, and
//! time never runs backwards. It does not know what a slot holds or which device is which lane.

mod deadline;
mod decide;
mod lane;
mod loss;

use std::collections::VecDeque;

use self::lane::{Lane, place_of};
use super::announced::Announcements;
use super::api::{Action, Config, NotInFlight, Outcome, Refusal, Request};
use super::cost::CostModel;
use super::echo::Echo;
use super::gaps::ArrivalGaps;
use super::line::{Stage, Stages};
use super::policy::{FinishedBatch, LaneView, Policy, Reason};
use super::queue::{Priority, Queue};
use super::rate::ArrivalRate;
use super::timing::Timing;
use super::trace::{Trace, TraceKind};

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
    /// The lane that has it, once its upload has begun.
    lane: u16,
    /// Place of its batch in the lane's ring, once that computes.
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
        lane: 0,
        batch: 0,
    };
}

/// Requests that pass a stage together.
#[derive(Debug)]
struct Work {
    slots: Vec<u32>,
    /// Its number, among the uploads or the batches of all lanes.
    number: u64,
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
            number: 0,
            reason: Reason::Idle,
            started_ns: 0,
            end_ns: 0,
            upload_started_ns: 0,
        }
    }
}

/// What to do next, without the slots that it concerns.
enum Step {
    Upload { lane: usize },
    Compute { lane: usize },
    Download { lane: usize, place: usize },
    Finish(u32, Outcome),
}

/// The scheduler; see the module for what it keeps.
#[derive(Debug)]
pub struct Scheduler {
    batch_len_max: usize,
    latency_bound_ns: Option<u64>,
    policy: Box<dyn Policy>,
    lanes: Vec<Lane>,
    /// Those that serve, as policies see them, in the order in which they are asked.
    serving: Vec<LaneView>,
    is_link_shared: bool,
    rate: ArrivalRate,
    gaps: ArrivalGaps,
    echo: Echo,
    announcements: Announcements,
    slots: Vec<Slot>,
    waiting: Queue,
    /// Uploads started so far, and batches, by all lanes.
    uploads: u64,
    batches: u64,
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
    /// If there is no slot, the longest batch is empty, or there is no lane or more than 65,536.
    pub fn new(config: &Config) -> Self {
        Self::with_policy(config, config.policy.policy())
    }

    /// An idle scheduler with a policy from outside; `config.policy` is ignored.
    ///
    /// # Panics
    /// If there is no slot, the longest batch is empty, or there is no lane or more than 65,536.
    pub fn with_policy(config: &Config, policy: Box<dyn Policy>) -> Self {
        assert!(config.slot_len > 0 && config.batch_len_max > 0, "limits are at least one");
        let lane_len = config.lines.len();
        assert!((1..=1 << 16).contains(&lane_len), "{lane_len} lanes");
        // Where one is quicker, its time tells arrivals apart.
        let alone_ns = config.lines.iter().map(|lines| lines.compute.at_ns(1));
        let alone_ns = alone_ns.fold(f64::INFINITY, f64::min);
        let together_ns = (alone_ns * TOGETHER) as u64;
        let work_len = config.batch_len_max.min(config.slot_len);
        let lane = |&lines: &_| Lane::new(lines, config.slot_len, work_len);
        Self {
            batch_len_max: config.batch_len_max,
            latency_bound_ns: config.latency_bound_ns,
            policy,
            lanes: config.lines.iter().map(lane).collect(),
            serving: Vec::with_capacity(lane_len),
            is_link_shared: false,
            rate: ArrivalRate::new(alone_ns),
            gaps: ArrivalGaps::new(together_ns),
            echo: Echo::new(together_ns),
            announcements: Announcements::new(together_ns),
            slots: vec![Slot::FREE; config.slot_len],
            waiting: Queue::with_capacity(config.slot_len),
            uploads: 0,
            batches: 0,
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

    /// Learns what a stage of a lane took when nothing was served: while its device was calibrated.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn calibrated(&mut self, lane: usize, stage: Stage, batch_len: usize, elapsed_ns: u64) {
        self.lanes[lane].cost.calibrated(stage, batch_len, elapsed_ns);
    }

    /// All lanes upload over one link: from now on one of them does so at a time, since what goes
    /// up later can still go to any lane.
    pub fn share_link(&mut self) {
        self.is_link_shared = true;
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

    /// The oldest work in flight of a lane's stage is done and took the device `elapsed_ns`.
    ///
    /// # Errors
    /// If the stage has nothing in flight.
    pub fn stage_completed(
        &mut self,
        now_ns: u64,
        lane: usize,
        stage: Stage,
        elapsed_ns: u64,
    ) -> Result<(), NotInFlight> {
        self.require_in_flight(lane, stage)?;
        let batch_len = self.lanes[lane].oldest(stage).slots.len();
        self.lanes[lane].cost.observe(stage, batch_len, elapsed_ns);
        self.trace_end(now_ns, lane, stage, Some(elapsed_ns));
        self.is_settled = false;
        match stage {
            Stage::Upload => self.upload_completed(now_ns, lane),
            Stage::Compute => {
                let lane = &mut self.lanes[lane];
                let timing = &mut lane.timings[place_of(lane.computed)];
                timing.compute_ended_ns = now_ns;
                timing.computed_ns = elapsed_ns;
                lane.computed += 1;
            }
            Stage::Download => {
                self.lanes[lane].download_ended(now_ns);
                self.feed_back(now_ns, lane);
                self.end_batch(lane, Outcome::Completed);
            }
        }
        Ok(())
    }

    /// The oldest work in flight of a lane's stage failed: its requests end as [`Outcome::Failed`].
    ///
    /// # Errors
    /// If the stage has nothing in flight.
    pub fn stage_failed(
        &mut self,
        now_ns: u64,
        lane: usize,
        stage: Stage,
    ) -> Result<(), NotInFlight> {
        self.require_in_flight(lane, stage)?;
        self.trace_end(now_ns, lane, stage, None);
        self.is_settled = false;
        match stage {
            Stage::Upload => {
                self.lanes[lane].is_uploading = false;
                for i in 0..self.lanes[lane].chunk.slots.len() {
                    self.end(self.lanes[lane].chunk.slots[i], Outcome::Failed);
                }
            }
            Stage::Compute => {
                // Nothing of it is left to download, but it keeps its place in the ring.
                let place = place_of(self.lanes[lane].computed);
                for i in 0..self.lanes[lane].batches[place].slots.len() {
                    self.end(self.lanes[lane].batches[place].slots[i], Outcome::Failed);
                }
                self.lanes[lane].batches[place].slots.clear();
                self.lanes[lane].computed += 1;
            }
            Stage::Download => {
                self.lanes[lane].download_ended(now_ns);
                self.end_batch(lane, Outcome::Failed);
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
            State::Resident => {
                let lane = &mut self.lanes[usize::from(request.lane)];
                lane.resident.remove(priority, key_ns, slot)
            }
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
        self.waiting.len() + self.ended.len() == 0 && self.lanes.iter().all(Lane::is_idle)
    }

    /// The next thing to do; call it after every change until it answers none.
    pub fn poll_action(&mut self, now_ns: u64) -> Option<Action<'_>> {
        let (lane, stage, work) = match self.step(now_ns)? {
            Step::Finish(slot, outcome) => return Some(Action::Finish { slot, outcome }),
            Step::Upload { lane } => (lane, Stage::Upload, &self.lanes[lane].chunk),
            Step::Compute { lane } => {
                let place = place_of(self.lanes[lane].started - 1);
                (lane, Stage::Compute, &self.lanes[lane].batches[place])
            }
            Step::Download { lane, place } => {
                (lane, Stage::Download, &self.lanes[lane].batches[place])
            }
        };
        Some(Action::Start { lane, stage, slots: &work.slots, reason: work.reason })
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
        let lane = &self.lanes[usize::from(request.lane)];
        let batch = &lane.timings[usize::from(request.batch)];
        Timing {
            arrival_ns: request.arrival_ns,
            upload_started_ns: request.upload_started_ns,
            upload_ended_ns: request.upload_ended_ns,
            announced_ns: batch.download_ended_ns,
            ..*batch
        }
    }

    /// What the stages of a lane are expected to cost.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn cost(&self, lane: usize) -> &CostModel {
        &self.lanes[lane].cost
    }

    /// Lanes, the lost ones among them.
    pub fn lane_len(&self) -> usize {
        self.lanes.len()
    }

    /// Requests in host memory that wait for their upload.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// How often a stage was started for a reason, by all lanes.
    pub fn decision_len(&self, stage: Stage, reason: Reason) -> u64 {
        self.decisions.of(stage)[reason as usize]
    }

    fn require_in_flight(&self, lane: usize, stage: Stage) -> Result<(), NotInFlight> {
        let is_in_flight = self.lanes.get(lane).is_some_and(|lane| lane.is_in_flight(stage));
        if is_in_flight { Ok(()) } else { Err(NotInFlight { lane, stage }) }
    }

    /// A stage has started with work that lies in its place by now.
    fn trace_start(&mut self, now_ns: u64, lane: usize, stage: Stage, work: (u64, usize, Reason)) {
        if self.trace.is_on() {
            let (number, len, reason) = work;
            let predicted_ns = self.lanes[lane].cost.predict_ns(stage, len);
            let (len, waiting_len) = (len as u32, self.waiting.len() as u32);
            let lane = lane as u16;
            self.trace.record(
                now_ns,
                TraceKind::Started { lane, stage, number, len, reason, predicted_ns, waiting_len },
            );
        }
    }

    fn trace_end(&mut self, now_ns: u64, lane: usize, stage: Stage, elapsed_ns: Option<u64>) {
        let number = self.lanes[lane].oldest(stage).number;
        let lane = lane as u16;
        self.trace.record(now_ns, TraceKind::Ended { lane, stage, number, elapsed_ns });
    }

    fn upload_completed(&mut self, now_ns: u64, lane: usize) {
        let at = &mut self.lanes[lane];
        at.is_uploading = false;
        if at.resident.len() == 0 {
            at.resident_since_ns = at.chunk.started_ns;
        }
        let started_ns = at.chunk.started_ns;
        for i in 0..at.chunk.slots.len() {
            let slot = self.lanes[lane].chunk.slots[i];
            let request = &mut self.slots[slot as usize];
            if request.is_cancelled {
                self.end(slot, Outcome::Cancelled);
            } else {
                request.state = State::Resident;
                request.upload_started_ns = started_ns;
                request.upload_ended_ns = now_ns;
                self.lanes[lane].resident.push(request.priority, request.key_ns, slot);
            }
        }
    }

    /// Ends the batch whose download is over, and those behind it whose computing failed.
    fn end_batch(&mut self, lane: usize, outcome: Outcome) {
        let place = place_of(self.lanes[lane].downloaded);
        for i in 0..self.lanes[lane].batches[place].slots.len() {
            let slot = self.lanes[lane].batches[place].slots[i];
            let is_cancelled = self.slots[slot as usize].is_cancelled;
            self.end(slot, if is_cancelled { Outcome::Cancelled } else { outcome });
        }
        self.lanes[lane].downloaded += 1;
        self.lanes[lane].skip_failed();
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

    fn feed_back(&mut self, now_ns: u64, lane: usize) {
        let batch = self.lanes[lane].oldest(Stage::Download);
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
