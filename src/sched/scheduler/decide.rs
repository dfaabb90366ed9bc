//! What to do next: outcomes first, then downloads, then the policy's word on computing and on
//! uploads.
//!
//! Whatever the policy answers, no batch is empty or longer than the longest allowed.

use super::{DEPTH, Priority, Queue, Scheduler, Stage, State, Step};
use crate::sched::policy::{Decision, View};
use crate::sched::timing::Timing;
use crate::sched::trace::Seen;

impl Scheduler {
    pub(super) fn step(&mut self, now_ns: u64) -> Option<Step> {
        self.expire(now_ns);
        if let Some(finish) = self.next_outcome() {
            return Some(finish);
        }
        if self.download_asked < self.computed {
            let number = self.download_asked;
            self.download_asked += 1;
            let batch = &self.batches[(number % DEPTH) as usize];
            if batch.slots.is_empty() {
                // Its computing failed. Downloads end in order, so it waits for those before it.
                self.skip_failed();
                return self.step(now_ns);
            }
            let (len, reason) = (batch.slots.len(), batch.reason);
            self.decisions.download[reason as usize] += 1;
            self.timings[(number % DEPTH) as usize].download_started_ns = now_ns;
            self.trace_start(now_ns, Stage::Download, (number, len), reason);
            return Some(Step::Download(number));
        }
        if self.is_settled && self.hold_until_ns.is_none_or(|until_ns| now_ns < until_ns) {
            return None;
        }
        self.is_settled = false;
        self.hold_until_ns = None;
        if self.started == self.computed
            && self.started - self.downloaded < DEPTH
            && self.resident.len() > 0
            && self.start_compute(now_ns)
        {
            return Some(Step::Compute);
        }
        if !self.is_uploading && self.waiting.len() > 0 && self.start_upload(now_ns) {
            return Some(Step::Upload);
        }
        // Closing a batch may have dropped all of it, and a policy drops one at a time.
        let dropped = self.next_outcome();
        self.is_settled = dropped.is_none();
        dropped
    }

    fn next_outcome(&mut self) -> Option<Step> {
        let (slot, outcome) = self.ended.pop_front()?;
        self.slots[slot as usize].state = State::Free;
        Some(Step::Finish(slot, outcome))
    }

    fn start_compute(&mut self, now_ns: u64) -> bool {
        let (mut batch_len, reason) = match self.policy.closes_at() {
            Stage::Upload => (self.resident.len(), self.chunk.reason),
            _ => match self.ask(Stage::Compute, now_ns) {
                Decision::Go { len, reason } => (len, reason),
                Decision::Hold { until_ns } => return self.hold(until_ns),
                Decision::Drop => return self.drop_first(Stage::Compute),
            },
        };
        batch_len = batch_len.clamp(1, self.batch_len_max).min(self.resident.len());
        if self.deadline_len > 0 && self.policy.closes_at() != Stage::Upload {
            batch_len = self.window(Stage::Compute, batch_len, now_ns);
            if batch_len == 0 {
                return false;
            }
        }
        let (number, place) = (self.started, (self.started % DEPTH) as usize);
        let batch = &mut self.batches[place];
        batch.slots.clear();
        self.resident.take(batch_len, &mut batch.slots);
        for &slot in &batch.slots {
            let request = &mut self.slots[slot as usize];
            request.state = State::InFlight;
            request.batch = place as u8;
        }
        let predicted_ns = self.cost.predict_ns(Stage::Compute, batch_len);
        batch.reason = reason;
        batch.started_ns = now_ns;
        batch.end_ns = now_ns + predicted_ns;
        batch.upload_started_ns = self.resident_since_ns;
        let timing = Timing::of_batch(number, batch_len, reason, now_ns);
        self.timings[place] = Timing { predicted_ns, ..timing };
        self.trace_start(now_ns, Stage::Compute, (number, batch_len), reason);
        self.started += 1;
        self.rate.batch_started(now_ns);
        self.decisions.compute[reason as usize] += 1;
        true
    }

    fn start_upload(&mut self, now_ns: u64) -> bool {
        let (mut chunk_len, reason) = match self.ask(Stage::Upload, now_ns) {
            Decision::Go { len, reason } => (len, reason),
            Decision::Hold { until_ns } => return self.hold(until_ns),
            Decision::Drop => return self.drop_first(Stage::Upload),
        };
        chunk_len = chunk_len.clamp(1, self.batch_len_max).min(self.waiting.len());
        if self.deadline_len > 0 && self.policy.closes_at() == Stage::Upload {
            chunk_len = self.window(Stage::Upload, chunk_len, now_ns);
            if chunk_len == 0 {
                return false;
            }
        }
        self.chunk.slots.clear();
        self.waiting.take(chunk_len, &mut self.chunk.slots);
        for &slot in &self.chunk.slots {
            self.slots[slot as usize].state = State::InFlight;
        }
        self.chunk.reason = reason;
        self.chunk.started_ns = now_ns;
        self.chunk.end_ns = now_ns + self.cost.predict_ns(Stage::Upload, chunk_len);
        self.trace_start(now_ns, Stage::Upload, (self.uploads, chunk_len), reason);
        self.uploads += 1;
        self.is_uploading = true;
        self.decisions.upload[reason as usize] += 1;
        true
    }

    /// What the policy says to starting a stage now.
    fn ask(&mut self, stage: Stage, now_ns: u64) -> Decision {
        let view = self.view(now_ns);
        let decision = match stage {
            Stage::Upload => self.policy.upload(&view),
            _ => self.policy.compute(&view),
        };
        if self.trace.is_on() {
            let seen = Seen::new(&view);
            self.trace.decided(now_ns, stage, seen, decision);
        }
        decision
    }

    /// Remembers when a policy wants to be asked again.
    fn hold(&mut self, until_ns: Option<u64>) -> bool {
        self.hold_until_ns = match (self.hold_until_ns, until_ns) {
            (Some(one_ns), Some(other_ns)) => Some(one_ns.min(other_ns)),
            (one_ns, other_ns) => one_ns.or(other_ns),
        };
        false
    }

    fn view(&self, now_ns: u64) -> View<'_> {
        let firsts = |queue: &'_ Queue| {
            Priority::ALL.map(|priority| Some(&self.slots[queue.first(priority)? as usize]))
        };
        let waiting = firsts(&self.waiting);
        let oldest_ns = waiting.iter().flatten().map(|request| request.arrival_ns).min();
        // Each priority is sorted by its key, which is no later than the deadline.
        let here = waiting.into_iter().chain(firsts(&self.resident)).flatten();
        let earliest_ns = here.map(|request| request.key_ns).min();
        let downloading = (self.downloaded..self.computed).map(|number| {
            let batch = &self.batches[(number % DEPTH) as usize];
            batch.slots.len()
        });
        View {
            now_ns,
            waiting_len: self.waiting.len(),
            oldest_arrival_ns: oldest_ns.unwrap_or(now_ns),
            latest_arrival_ns: oldest_ns.map_or(now_ns, |_| self.latest_arrival_ns),
            uploading_len: if self.is_uploading { self.chunk.slots.len() } else { 0 },
            upload_free_ns: if self.is_uploading { self.chunk.end_ns } else { now_ns },
            resident_len: self.resident.len(),
            computing_len: self.computing().map_or(0, |batch| batch.slots.len()),
            compute_free_ns: self.compute_free_ns(now_ns),
            batches_in_flight_len: (self.started - self.downloaded) as usize,
            downloading_len: downloading.sum(),
            unanswered_len: self.unanswered_len,
            batch_len_max: self.batch_len_max,
            latency_bound_ns: self.latency_bound_ns,
            arrivals_per_ns: self.rate.per_ns(now_ns),
            steady_arrivals_per_ns: self.rate.steady_per_ns(now_ns),
            earliest_deadline_ns: earliest_ns.filter(|_| self.deadline_len > 0),
            gaps: &self.gaps,
            echo: &self.echo,
            announcements: &self.announcements,
            is_draining: self.is_draining,
            cost: &self.cost,
        }
    }
}
