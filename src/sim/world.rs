//! The event loop: virtual time, devices of three engines, clients, around the production
//! scheduler.
//!
//! Time is whole nanoseconds and jumps from event to event. Everything that happens at one moment
//! is told to the scheduler before it is asked what to do. Each engine does one thing at a time, in
//! the order asked for. The same setup gives the same events. The loop does not know the policy.

use std::collections::VecDeque;

use super::arrivals::{Arrivals, Workload};
use super::device::DeviceSpec;
use super::event::{Event, Observer};
use super::fleet::{Change, Fleet, Job, Outage, STAGES};
use super::random::{Random, Stream};
use super::report::{Latencies, Report, mix};
use crate::sched::{
    Action, Announcements, Config, Outcome, Policy, Priority, Reason, Request, Scheduler, Stage,
};
use crate::sched::{Timing, Trace, calibration_lens};

pub(super) const NEVER_NS: u64 = u64::MAX;
/// Shortest time after which a client sends again what was refused.
const RETRY_NS: u64 = 1_000_000;

/// A world to simulate.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The scheduler's limits, policy and first cost model, which may differ from the device's.
    pub config: Config,
    /// The devices as they are, one for each of the scheduler's lanes.
    pub devices: Vec<DeviceSpec>,
    /// Whether the devices share one link for their uploads, which then go one after the other.
    pub is_link_shared: bool,
    /// Devices that fail, in any order.
    pub outages: Vec<Outage>,
    /// What the scheduler is told of the device at first, over the truth: 1, unless it is to be
    /// misled.
    pub calibration_factor: f64,
    /// When requests arrive.
    pub workload: Workload,
    /// Properties of the requests beyond their arrival.
    pub mix: Mix,
    /// How long before its arrival a request is announced, in nanoseconds; 0: it is not.
    pub announced_ns: u64,
    /// No more requests after so many.
    pub arrival_len_max: u64,
    /// No more requests after so many nanoseconds of virtual time.
    pub duration_ns: u64,
    /// Seed of arrivals, device noise and mix.
    pub seed: u64,
    /// How many of the latest events the report's trace holds.
    pub trace_len: usize,
}

/// Shares of requests and stages, 0 to 1, that are out of the ordinary; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// Requests of high priority.
    pub high: f64,
    /// Requests of low priority.
    pub low: f64,
    /// Requests with a deadline of their own.
    pub deadline: f64,
    /// Latest such deadline after the arrival, in nanoseconds; drawn evenly from 0 up.
    pub deadline_ns_max: f64,
    /// Arrivals at which some request is given up.
    pub cancel: f64,
    /// Announcements that come to nothing, for each one that does not.
    pub forsaken: f64,
    /// Stages that fail.
    pub fail: f64,
}

/// Simulates `setup` until each of its requests has ended.
///
/// # Panics
/// If the scheduler breaks its contract: a slot or engine that is not there.
pub fn run(setup: &Setup, observer: impl Observer) -> Report {
    run_with_policy(setup, setup.config.policy.policy(), observer)
}

/// Simulates `setup` with a policy from outside in place of `setup.config.policy`.
///
/// # Panics
/// If the scheduler breaks its contract: a slot or engine that is not there.
pub fn run_with_policy(setup: &Setup, policy: Box<dyn Policy>, observer: impl Observer) -> Report {
    let mut world = World::new(setup, policy, observer);
    while world.advance() {}
    world.into_report()
}

/// Where the next request comes from.
pub(super) enum Source {
    Open {
        arrivals: Arrivals,
        next_ns: u64,
    },
    /// Moments at which clients send their next request, ascending.
    Closed {
        /// How long the next client thinks, in nanoseconds.
        think_ns: Box<dyn FnMut() -> u64>,
        due_ns: VecDeque<u64>,
    },
    /// What a network brings, in the order of arrival.
    Network {
        /// When each is announced and when it arrives.
        due_ns: VecDeque<(u64, u64)>,
        /// Whether it will bring no more.
        is_ended: bool,
    },
}

impl Source {
    pub(super) fn new(setup: &Setup) -> Self {
        match &setup.workload {
            Workload::Open(open) => {
                let mut arrivals = open.arrivals(setup.seed);
                let next_ns = arrivals.next().unwrap_or(NEVER_NS);
                Self::Open { arrivals, next_ns }
            }
            Workload::Closed(clients) => Self::Closed {
                think_ns: Box::new(clients.think_times_ns(setup.seed)),
                due_ns: std::iter::repeat_n(0, clients.client_len).collect(),
            },
        }
    }

    pub(super) fn next_ns(&self) -> u64 {
        match self {
            Self::Open { next_ns, .. } => *next_ns,
            Self::Closed { due_ns, .. } => due_ns.front().copied().unwrap_or(NEVER_NS),
            Self::Network { due_ns, .. } => due_ns.front().map_or(NEVER_NS, |due_ns| due_ns.1),
        }
    }

    /// When the next request is announced, where others are so long ahead.
    fn announced_ns(&self, ahead_ns: u64) -> u64 {
        match self {
            Self::Network { due_ns, .. } => due_ns.front().map_or(NEVER_NS, |due_ns| due_ns.0),
            _ => match self.next_ns() {
                NEVER_NS => NEVER_NS,
                next_ns => next_ns.saturating_sub(ahead_ns),
            },
        }
    }

    /// Whether no further request will come. Of clients that all wait for answers, more will.
    fn is_ended(&self) -> bool {
        match self {
            Self::Open { next_ns, .. } => *next_ns == NEVER_NS,
            Self::Closed { .. } => false,
            Self::Network { due_ns, is_ended } => *is_ended && due_ns.is_empty(),
        }
    }

    pub(super) fn advance(&mut self) {
        match self {
            Self::Open { arrivals, next_ns } => *next_ns = arrivals.next().unwrap_or(NEVER_NS),
            Self::Closed { due_ns, .. } => {
                due_ns.pop_front();
            }
            Self::Network { due_ns, .. } => {
                due_ns.pop_front();
            }
        }
    }

    /// Whether `setup` has no further request after the `past_len` that there were, the next of
    /// which would come at `next_ns`.
    pub(super) fn is_over(&self, setup: &Setup, past_len: u64, next_ns: u64) -> bool {
        let is_late = next_ns != NEVER_NS && next_ns > setup.duration_ns;
        (next_ns == NEVER_NS && self.is_ended()) || is_late || past_len >= setup.arrival_len_max
    }

    /// A request has ended: the client that sent it thinks, then sends another. One that was
    /// refused thinks for some time at least, or it would be refused again for ever.
    pub(super) fn answered(&mut self, now_ns: u64, is_refused: bool) {
        if let Self::Closed { think_ns, due_ns } = self {
            let least_ns = if is_refused { RETRY_NS } else { 0 };
            let next_ns = now_ns + think_ns().max(least_ns);
            due_ns.insert(due_ns.partition_point(|&other_ns| other_ns <= next_ns), next_ns);
        }
    }
}

/// A request that is known to come.
#[derive(Clone, Copy, Debug)]
struct Coming {
    /// When it arrives, or will not.
    at_ns: u64,
    /// Its place among the announcements, if one was free.
    place: Option<usize>,
    is_forsaken: bool,
}

pub(super) struct World<'a, O> {
    setup: &'a Setup,
    scheduler: Scheduler,
    fleet: Fleet,
    pub(super) observer: O,
    source: Source,
    /// Requests that are known to come, by their arrival.
    coming: VecDeque<Coming>,
    /// Places of announcements that are free.
    free_places: Vec<usize>,
    random: Random,
    now_ns: u64,
    free_slots: VecDeque<u32>,
    /// By slot: scheduled arrival and deadline.
    alive: Vec<(u64, u64)>,
    latencies_ns: Vec<u64>,
    report: Report,
}

impl<'a, O: Observer> World<'a, O> {
    pub(super) fn new(setup: &'a Setup, policy: Box<dyn Policy>, observer: O) -> Self {
        let slot_len = setup.config.slot_len;
        let mut scheduler = Scheduler::with_policy(&setup.config, policy);
        scheduler.replace_trace(Trace::new(setup.trace_len));
        if setup.is_link_shared {
            scheduler.share_link();
        }
        for batch_len in calibration_lens(setup.config.batch_len_max) {
            for (lane, device) in setup.devices.iter().enumerate() {
                for stage in STAGES {
                    let time_ns = device.mean_ns(stage, batch_len) * setup.calibration_factor;
                    scheduler.calibrated(lane, stage, batch_len, time_ns.round() as u64);
                }
            }
        }
        Self {
            setup,
            scheduler,
            fleet: Fleet::new(&setup.devices, setup.is_link_shared, &setup.outages, setup.seed),
            observer,
            source: Source::new(setup),
            coming: VecDeque::new(),
            free_places: (0..Announcements::PLACE_LEN).collect(),
            random: Random::new(setup.seed, Stream::Requests),
            now_ns: 0,
            free_slots: (0..slot_len as u32).collect(),
            alive: vec![(0, NEVER_NS); slot_len],
            latencies_ns: Vec::new(),
            report: Report::default(),
        }
    }

    /// In place of the setup's workload, what [`Self::bring`] says.
    pub(super) fn await_network(&mut self) {
        self.source = Source::Network { due_ns: VecDeque::new(), is_ended: false };
    }

    /// A network has a request on its way here: it is known from `announced_ns` on, here at
    /// `arrival_ns`, and behind all that it brought before.
    pub(super) fn bring(&mut self, announced_ns: u64, arrival_ns: u64) {
        if let Source::Network { due_ns, .. } = &mut self.source {
            due_ns.push_back((announced_ns, arrival_ns));
        }
    }

    /// From `now_ns` on the network brings no more.
    pub(super) fn end_network(&mut self, now_ns: u64) {
        if let Source::Network { is_ended, .. } = &mut self.source {
            *is_ended = true;
            self.now_ns = self.now_ns.max(now_ns);
        }
    }

    /// The next moment at which something happens; `NEVER_NS` if there is none.
    pub(super) fn next_ns(&mut self) -> u64 {
        let mut arrival_ns = self.next_arrival_ns();
        if self.is_over() {
            arrival_ns = NEVER_NS;
            self.scheduler.drain();
            self.act();
        }
        let timeout_ns = self.scheduler.poll_timeout().unwrap_or(NEVER_NS);
        self.fleet.next_ns().min(arrival_ns).min(timeout_ns)
    }

    /// Goes to the next moment at which something happens; false if there is none.
    pub(super) fn advance(&mut self) -> bool {
        let next_ns = self.next_ns();
        if next_ns == NEVER_NS {
            return false;
        }
        self.now_ns = self.now_ns.max(next_ns);
        while let Some((lane, stage, job)) = self.fleet.end(self.now_ns) {
            self.end_stage(lane, stage, job);
        }
        while let Some((lane, change)) = self.fleet.change(self.now_ns) {
            self.change(lane, change);
        }
        if self.next_arrival_ns() <= self.now_ns && !self.is_over() {
            self.arrive();
        }
        self.act();
        true
    }

    /// Whether no further request will come.
    fn is_over(&self) -> bool {
        self.source.is_over(self.setup, self.report.offered_len, self.next_arrival_ns())
    }

    /// When the next request arrives or is announced.
    fn next_arrival_ns(&self) -> u64 {
        let announced_ns = self.source.announced_ns(self.setup.announced_ns);
        self.coming.front().map_or(announced_ns, |coming| coming.at_ns.min(announced_ns))
    }

    /// The next request is coming: announces it, and what will come to nothing beside it, unless
    /// it is here as soon as it is known.
    fn announce(&mut self) {
        let at_ns = self.source.next_ns();
        let is_announced = self.setup.announced_ns > 0 || self.source.announced_ns(0) < at_ns;
        self.source.advance();
        if !is_announced {
            self.coming.push_back(Coming { at_ns, place: None, is_forsaken: false });
            return;
        }
        let forsaken = self.setup.mix.forsaken;
        let is_followed = forsaken > 0.0 && self.random.uniform() < forsaken;
        for is_forsaken in [false, true].into_iter().take(1 + usize::from(is_followed)) {
            let place = self.free_places.pop();
            if let Some(place) = place {
                self.scheduler.announced(self.now_ns, place);
            }
            let coming = Coming { at_ns, place, is_forsaken };
            let after = self.coming.partition_point(|other| other.at_ns <= at_ns);
            self.coming.insert(after, coming);
        }
    }

    /// The next request that arrives now, if one does.
    fn arrived(&mut self) -> Option<u64> {
        while self.source.announced_ns(self.setup.announced_ns) <= self.now_ns {
            self.announce();
        }
        loop {
            let Coming { at_ns, place, is_forsaken } =
                *self.coming.front().filter(|coming| coming.at_ns <= self.now_ns)?;
            self.coming.pop_front();
            if let Some(place) = place {
                self.scheduler.announcement_ended(self.now_ns, place, !is_forsaken);
                self.free_places.push(place);
            }
            if !is_forsaken {
                return Some(at_ns);
            }
        }
    }

    /// Every arrival of this moment.
    fn arrive(&mut self) {
        while self.report.offered_len < self.setup.arrival_len_max
            && let Some(arrival_ns) = self.arrived()
        {
            self.report.offered_len += 1;
            self.submit(arrival_ns);
            if self.setup.mix.cancel > 0.0 && self.random.uniform() < self.setup.mix.cancel {
                self.cancel_some();
            }
        }
    }

    fn submit(&mut self, arrival_ns: u64) {
        let Some(&slot) = self.free_slots.front() else {
            self.report.full_len += 1;
            self.refused(Event::Refused { refusal: None }, 0);
            return;
        };
        let request = self.request(slot);
        match self.scheduler.submit(self.now_ns, request) {
            Ok(()) => {
                self.free_slots.pop_front();
                let bound_ns = self.setup.config.latency_bound_ns.unwrap_or(NEVER_NS);
                let bound_ns = self.now_ns.saturating_add(bound_ns);
                let deadline_ns = request.deadline_ns.unwrap_or(NEVER_NS).min(bound_ns);
                self.alive[slot as usize] = (arrival_ns, deadline_ns);
                let priority = request.priority;
                let deadline_ns = (deadline_ns != NEVER_NS).then_some(deadline_ns);
                let event = Event::Submitted { slot, priority, deadline_ns };
                self.tell(event, u64::from(slot) << 8 | priority as u64);
            }
            Err(refusal) => {
                self.refused(Event::Refused { refusal: Some(refusal) }, 1 + refusal as u64);
            }
        }
    }

    fn refused(&mut self, event: Event<'_>, word: u64) {
        self.report.rejected_len += 1;
        self.source.answered(self.now_ns, true);
        self.tell(event, word);
    }

    fn request(&mut self, slot: u32) -> Request {
        let mut request = Request { slot, ..Request::default() };
        let mix = &self.setup.mix;
        if mix.high + mix.low > 0.0 {
            let draw = self.random.uniform();
            request.priority = if draw < mix.high {
                Priority::High
            } else if draw < mix.high + mix.low {
                Priority::Low
            } else {
                Priority::Normal
            };
        }
        if mix.deadline > 0.0 && self.random.uniform() < mix.deadline {
            let after_ns = mix.deadline_ns_max * self.random.uniform();
            request.deadline_ns = Some(self.now_ns + after_ns as u64);
        }
        request
    }

    /// Gives up whatever request lies in a slot drawn at random, if one does.
    fn cancel_some(&mut self) {
        let slot = (self.random.uniform() * self.alive.len() as f64) as u32;
        if self.scheduler.cancel(slot) {
            self.tell(Event::Cancelled { slot }, u64::from(slot));
        }
    }

    fn end_stage(&mut self, lane: usize, stage: Stage, job: Job) {
        let told = if job.is_failing {
            self.scheduler.stage_failed(self.now_ns, lane, stage)
        } else {
            self.scheduler.stage_completed(self.now_ns, lane, stage, job.elapsed_ns)
        };
        told.expect("the scheduler knows what it asked for");
        let is_failed = job.is_failing;
        let word = (lane as u64) << 3 | (stage as u64) << 1 | u64::from(is_failed);
        self.tell(Event::Ended { lane, stage, is_failed }, word);
    }

    /// A device fails, or is back.
    fn change(&mut self, lane: usize, change: Change) {
        match change {
            Change::Lost => {
                self.scheduler.lane_lost(self.now_ns, lane);
                self.tell(Event::Lost { lane }, lane as u64);
            }
            Change::Returned => {
                self.scheduler.lane_returned(lane);
                self.tell(Event::Returned { lane }, lane as u64);
            }
        }
    }

    /// Does what the scheduler wants done now.
    fn act(&mut self) {
        loop {
            let finish = match self.scheduler.poll_action(self.now_ns) {
                None => return,
                Some(Action::Finish { slot, outcome }) => Some((slot, outcome)),
                Some(Action::Start { lane, stage, slots, reason }) => {
                    let fail = self.setup.mix.fail;
                    let is_failing = fail > 0.0 && self.random.uniform() < fail;
                    let work = (lane, stage, slots.len());
                    let span_ns = self.fleet.start(self.now_ns, work, is_failing);
                    let report = &mut self.report;
                    if stage == Stage::Compute {
                        report.batch_count += 1;
                        report.batched_len += slots.len() as u64;
                        report.batch_len_max = report.batch_len_max.max(slots.len());
                    }
                    let word = self.now_ns ^ span_ns.1 << 1 ^ (lane as u64) << 48;
                    let mut hash = mix(report.event_hash, word);
                    for &slot in slots {
                        hash = mix(hash, u64::from(slot));
                    }
                    report.event_hash = hash;
                    let event = Event::Asked { lane, stage, slots, reason, span_ns };
                    self.observer.event(self.now_ns, &event);
                    None
                }
            };
            if let Some((slot, outcome)) = finish {
                self.finish(slot, outcome);
                // A client without think time sends its next request at this very moment.
                if self.next_arrival_ns() <= self.now_ns && !self.is_over() {
                    self.arrive();
                }
            }
        }
    }

    fn finish(&mut self, slot: u32, outcome: Outcome) {
        let (arrival_ns, deadline_ns) = self.alive[slot as usize];
        self.free_slots.push_back(slot);
        match outcome {
            Outcome::Completed => {
                self.report.completed_len += 1;
                self.report.on_time_len += u64::from(self.now_ns <= deadline_ns);
                self.latencies_ns.push(self.now_ns - arrival_ns);
            }
            Outcome::Expired => self.report.expired_len += 1,
            Outcome::Cancelled => self.report.cancelled_len += 1,
            Outcome::Failed => self.report.failed_len += 1,
        }
        self.report.end_ns = self.now_ns;
        self.source.answered(self.now_ns, false);
        let timing = (outcome == Outcome::Completed).then(|| {
            // It is announced at once, and counts from the moment due.
            Timing { arrival_ns, ..self.scheduler.timing(slot) }
        });
        self.tell(
            Event::Finished { slot, outcome, arrival_ns, timing },
            u64::from(slot) << 8 | outcome as u64,
        );
    }

    fn tell(&mut self, event: Event<'_>, word: u64) {
        self.report.event_hash = mix(mix(self.report.event_hash, self.now_ns), word);
        self.observer.event(self.now_ns, &event);
    }

    pub(super) fn into_report(mut self) -> Report {
        let mut report = self.report;
        report.trace = self.scheduler.replace_trace(Trace::default());
        report.latencies = Latencies::new(self.latencies_ns);
        for stage in STAGES {
            for reason in Reason::ALL {
                report.decisions[stage as usize][reason as usize] =
                    self.scheduler.decision_len(stage, reason);
            }
        }
        report
    }
}
