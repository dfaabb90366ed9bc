//! What to do next: outcomes first, then downloads, then the policy's word on computing and on
//! uploads, of one lane after the other: the one first that is free first.
//!
//! Whatever the policy answers, no batch is empty or longer than the longest allowed.

use super::lane::place_of;
use super::{Priority, Queue, Scheduler, Stage, State, Step};
use crate::sched::policy::{Decision, LaneView, View};
use crate::sched::timing::Timing;
use crate::sched::trace::Seen;

impl Scheduler {
    pub(super) fn step(&mut self, now_ns: u64) -> Option<Step> {
        self.expire(now_ns);
        if let Some(finish) = self.next_outcome() {
            return Some(finish);
        }
        for lane in 0..self.lanes.len() {
            if let Some(place) = self.next_download(now_ns, lane) {
                return Some(Step::Download { lane, place });
            }
        }
        if self.is_settled && self.hold_until_ns.is_none_or(|until_ns| now_ns < until_ns) {
            return None;
        }
        self.is_settled = false;
        self.hold_until_ns = None;
        self.sort_lanes(now_ns);
        for rank in 0..self.serving.len() {
            let lane = self.serving[rank].lane;
            if self.lanes[lane].may_compute() && self.start_compute(now_ns, rank) {
                return Some(Step::Compute { lane });
            }
        }
        let is_link_busy = self.is_link_shared && self.lanes.iter().any(|at| at.is_uploading);
        for rank in 0..self.serving.len() {
            let lane = self.serving[rank].lane;
            if self.waiting.len() > 0
                && !is_link_busy
                && self.lanes[lane].may_upload()
                && self.start_upload(now_ns, rank)
            {
                return Some(Step::Upload { lane });
            }
        }
        // Closing a batch may have dropped all of it, and a policy drops one at a time.
        let dropped = self.next_outcome();
        self.is_settled = dropped.is_none();
        dropped
    }

    /// Place of a batch to download now.
    fn next_download(&mut self, now_ns: u64, lane: usize) -> Option<usize> {
        let at = &mut self.lanes[lane];
        while at.download_asked < at.computed {
            let place = place_of(at.download_asked);
            at.download_asked += 1;
            let batch = &at.batches[place];
            if batch.slots.is_empty() {
                // Its computing failed. Downloads end in order, so it waits for those before it.
                at.skip_failed();
                continue;
            }
            let work = (batch.number, batch.slots.len(), batch.reason);
            at.timings[place].download_started_ns = now_ns;
            self.decisions.download[work.2 as usize] += 1;
            self.trace_start(now_ns, lane, Stage::Download, work);
            return Some(place);
        }
        None
    }

    /// Those that serve, by when they are free, the quicker one first where that is the same.
    fn sort_lanes(&mut self, now_ns: u64) {
        self.serving.clear();
        let live = self.lanes.iter().enumerate().filter(|(_, at)| !at.is_lost);
        self.serving.extend(live.map(|(lane, at)| at.view(lane, now_ns)));
        self.serving.sort_unstable_by(|one, other| {
            let alone_ns = |at: &LaneView| at.compute.at_ns(1);
            let is_free_first = one.free_ns.cmp(&other.free_ns);
            is_free_first
                .then(alone_ns(one).total_cmp(&alone_ns(other)))
                .then(one.lane.cmp(&other.lane))
        });
    }

    fn next_outcome(&mut self) -> Option<Step> {
        let (slot, outcome) = self.ended.pop_front()?;
        self.slots[slot as usize].state = State::Free;
        Some(Step::Finish(slot, outcome))
    }

    fn start_compute(&mut self, now_ns: u64, rank: usize) -> bool {
        let lane = self.serving[rank].lane;
        let at = &self.lanes[lane];
        let closes_at = self.policy.closes_at(self.serving.len());
        let (mut batch_len, reason) = match closes_at {
            Stage::Upload => (at.resident.len(), at.chunk.reason),
            _ => match self.ask(Stage::Compute, now_ns, rank) {
                Decision::Go { len, reason } => (len, reason),
                Decision::Hold { until_ns } => return self.hold(until_ns),
                Decision::Drop => return self.drop_first(lane, Stage::Compute),
            },
        };
        batch_len = batch_len.clamp(1, self.batch_len_max).min(self.lanes[lane].resident.len());
        if self.deadline_len > 0 && closes_at != Stage::Upload {
            batch_len = self.window(lane, Stage::Compute, batch_len, now_ns);
            if batch_len == 0 {
                return false;
            }
        }
        let at = &mut self.lanes[lane];
        let (number, place) = (self.batches, place_of(at.started));
        let batch = &mut at.batches[place];
        batch.slots.clear();
        at.resident.take(batch_len, &mut batch.slots);
        for &slot in &batch.slots {
            let request = &mut self.slots[slot as usize];
            request.state = State::InFlight;
            request.batch = place as u8;
        }
        let predicted_ns = at.cost.predict_ns(Stage::Compute, batch_len);
        batch.number = number;
        batch.reason = reason;
        batch.started_ns = now_ns;
        batch.end_ns = now_ns + predicted_ns;
        batch.upload_started_ns = at.resident_since_ns;
        let timing = Timing::of_batch(number, batch_len, reason, now_ns);
        at.timings[place] = Timing { predicted_ns, ..timing };
        at.started += 1;
        self.batches += 1;
        self.trace_start(now_ns, lane, Stage::Compute, (number, batch_len, reason));
        self.rate.batch_started(now_ns);
        self.decisions.compute[reason as usize] += 1;
        true
    }

    fn start_upload(&mut self, now_ns: u64, rank: usize) -> bool {
        let lane = self.serving[rank].lane;
        let (mut chunk_len, reason) = match self.ask(Stage::Upload, now_ns, rank) {
            Decision::Go { len, reason } => (len, reason),
            Decision::Hold { until_ns } => return self.hold(until_ns),
            Decision::Drop => return self.drop_first(lane, Stage::Upload),
        };
        chunk_len = chunk_len.clamp(1, self.batch_len_max).min(self.waiting.len());
        if self.deadline_len > 0 && self.policy.closes_at(self.serving.len()) == Stage::Upload {
            chunk_len = self.window(lane, Stage::Upload, chunk_len, now_ns);
            if chunk_len == 0 {
                return false;
            }
        }
        let at = &mut self.lanes[lane];
        at.chunk.slots.clear();
        self.waiting.take(chunk_len, &mut at.chunk.slots);
        for &slot in &at.chunk.slots {
            let request = &mut self.slots[slot as usize];
            request.state = State::InFlight;
            request.lane = lane as u16;
        }
        at.chunk.number = self.uploads;
        at.chunk.reason = reason;
        at.chunk.started_ns = now_ns;
        at.chunk.end_ns = now_ns + at.cost.predict_ns(Stage::Upload, chunk_len);
        at.is_uploading = true;
        self.trace_start(now_ns, lane, Stage::Upload, (self.uploads, chunk_len, reason));
        self.uploads += 1;
        self.decisions.upload[reason as usize] += 1;
        true
    }

    /// What the policy says to starting a stage now.
    fn ask(&mut self, stage: Stage, now_ns: u64, rank: usize) -> Decision {
        let view = self.view(now_ns, rank);
        let decision = match stage {
            Stage::Upload => self.policy.upload(&view),
            _ => self.policy.compute(&view),
        };
        if self.trace.is_on() {
            let seen = Seen::new(&view);
            let lane = self.serving[rank].lane as u16;
            self.trace.decided(now_ns, (lane, stage), seen, decision);
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

    /// What the policy is shown of the lane of this rank.
    fn view(&self, now_ns: u64, rank: usize) -> View<'_> {
        let at = &self.lanes[self.serving[rank].lane];
        let live_len = self.serving.len() as f64;
        let firsts = |queue: &'_ Queue| {
            Priority::ALL.map(|priority| Some(&self.slots[queue.first(priority)? as usize]))
        };
        let waiting = firsts(&self.waiting);
        let oldest_ns = waiting.iter().flatten().map(|request| request.arrival_ns).min();
        // Each priority is sorted by its key, which is no later than the deadline.
        let here = waiting.into_iter().chain(firsts(&at.resident)).flatten();
        let earliest_ns = here.map(|request| request.key_ns).min();
        View {
            now_ns,
            waiting_len: self.waiting.len(),
            oldest_arrival_ns: oldest_ns.unwrap_or(now_ns),
            latest_arrival_ns: oldest_ns.map_or(now_ns, |_| self.latest_arrival_ns),
            uploading_len: at.uploading_len(),
            upload_free_ns: if at.is_uploading { at.chunk.end_ns } else { now_ns },
            resident_len: at.resident.len(),
            computing_len: at.computing().map_or(0, |batch| batch.slots.len()),
            compute_free_ns: at.compute_free_ns(now_ns),
            batches_in_flight_len: (at.started - at.downloaded) as usize,
            downloading_len: at.downloading_len(),
            unanswered_len: self.unanswered_len,
            batch_len_max: self.batch_len_max,
            latency_bound_ns: self.latency_bound_ns,
            arrivals_per_ns: self.rate.per_ns(now_ns) / live_len,
            steady_arrivals_per_ns: self.rate.steady_per_ns(now_ns).map(|per_ns| per_ns / live_len),
            earliest_deadline_ns: earliest_ns.filter(|_| self.deadline_len > 0),
            gaps: &self.gaps,
            echo: &self.echo,
            announcements: &self.announcements,
            is_draining: self.is_draining,
            cost: &at.cost,
            lanes: &self.serving,
            rank,
            is_link_shared: self.is_link_shared,
        }
    }
}
