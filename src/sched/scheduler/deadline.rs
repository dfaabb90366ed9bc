//! Deadlines: who is admitted, who is dropped and who expires.
//!
//! A request is refused at once when it could not end in time behind those ahead of it. Of those
//! accepted, under overload, the ones with the least time left are dropped until the batch that the
//! rest makes meets the deadline of each of them: batches sized for a head that is nearly late
//! would be short, and short batches waste the device.
//!
//! Sums of moments and predictions saturate: at the end of time is too late for every deadline.

use super::{Lane, NEVER_NS, Outcome, Priority, Queue, Scheduler, Stage};

impl Scheduler {
    /// When a request that arrives now would end: behind full batches of those ahead of it, on the
    /// lane that is through with its share of them first, in a batch that has filled up at the
    /// present rate by the time it starts. Never if all lanes are lost.
    pub(super) fn predicted_finish_ns(
        &mut self,
        now_ns: u64,
        priority: Priority,
        key_ns: u64,
    ) -> u64 {
        let batch_len_max = self.batch_len_max;
        let mut ahead_len = self.waiting.ahead_len(priority, key_ns);
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_lost) {
            let own_len = lane.resident.ahead_len(priority, key_ns) + lane.uploading_len();
            ahead_len += own_len % batch_len_max;
            let upload_ns = lane.cost.predict_ns(Stage::Upload, 1);
            let free_ns = lane.compute_free_ns(now_ns).max(now_ns.saturating_add(upload_ns));
            lane.full_ns = lane.cost.predict_ns(Stage::Compute, batch_len_max);
            lane.turn_ns = free_ns;
            lane.take_full((own_len / batch_len_max) as u64);
        }
        self.share_full((ahead_len / batch_len_max) as u64);
        let Some(lane) = self.live_lanes().min_by_key(|lane| lane.turn_ns) else {
            return NEVER_NS;
        };
        let start_ns = lane.turn_ns;
        let more_len = self.rate.long_per_ns(now_ns) * (start_ns - now_ns) as f64;
        let batch_len = (ahead_len % batch_len_max + 1).saturating_add(more_len as usize);
        start_ns.saturating_add(lane.cost.finish_high_ns(batch_len.min(batch_len_max)))
    }

    /// Gives each of so many full batches to the lane whose turn it is first.
    fn share_full(&mut self, full_len: u64) {
        if full_len == 0 {
            return;
        }
        // All at once up to a moment before which they are surely not done, the rest one by one.
        let mut level_ns = f64::INFINITY;
        loop {
            let (mut speed, mut owed) = (0.0, full_len as f64);
            for lane in self.live_lanes().filter(|lane| (lane.turn_ns as f64) < level_ns) {
                speed += 1.0 / lane.full_ns.max(1) as f64;
                owed += lane.turn_ns as f64 / lane.full_ns.max(1) as f64;
            }
            if speed == 0.0 || owed / speed >= level_ns {
                break;
            }
            level_ns = owed / speed;
        }
        let mut left_len = full_len;
        let live = |lane: &&mut Lane| !lane.is_lost;
        for lane in self.lanes.iter_mut().filter(live) {
            let until_ns = (level_ns - lane.turn_ns as f64).max(0.0);
            let some = ((until_ns / lane.full_ns.max(1) as f64) as u64).min(left_len);
            lane.take_full(some);
            left_len -= some;
        }
        while left_len > 0
            && let Some(lane) = self.lanes.iter_mut().filter(live).min_by_key(|lane| lane.turn_ns)
        {
            lane.take_full(1);
            left_len -= 1;
        }
    }

    fn live_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| !lane.is_lost)
    }

    /// Ends those that could not be in time even if they were computed now and alone.
    pub(super) fn expire(&mut self, now_ns: u64) {
        if self.deadline_len == 0 {
            return;
        }
        let earliest_ns = now_ns.saturating_add(self.alone_ns());
        self.expire_of(None, earliest_ns);
        for lane in 0..self.lanes.len() {
            let earliest_ns = now_ns.saturating_add(self.lanes[lane].alone_ns());
            self.expire_of(Some(lane), earliest_ns);
        }
    }

    /// Ends those whose deadline is before a moment, of those in a lane's memory or in the host's.
    fn expire_of(&mut self, lane: Option<usize>, earliest_ns: u64) {
        for priority in Priority::ALL {
            loop {
                let queue = match lane {
                    Some(lane) => &mut self.lanes[lane].resident,
                    None => &mut self.waiting,
                };
                let Some(slot) = queue.first(priority) else { break };
                if self.slots[slot as usize].deadline_ns >= earliest_ns {
                    break;
                }
                queue.pop_first(priority);
                self.end(slot, Outcome::Expired);
            }
        }
    }

    /// When the next request expires if it stays where it is.
    pub(super) fn next_expiry_ns(&self) -> Option<u64> {
        if self.deadline_len == 0 {
            return None;
        }
        let next_ns = |queue: &Queue, alone_ns: u64| {
            let firsts = Priority::ALL.iter().filter_map(|&priority| queue.first(priority));
            let deadline_ns = firsts.map(|slot| self.slots[slot as usize].deadline_ns).min()?;
            (deadline_ns != NEVER_NS).then(|| (deadline_ns + 1).saturating_sub(alone_ns))
        };
        let lanes = self.lanes.iter().filter_map(|at| next_ns(&at.resident, at.alone_ns()));
        lanes.chain(next_ns(&self.waiting, self.alone_ns())).min()
    }

    /// Ends the request that a policy drops before `stage`; false, as nothing starts.
    pub(super) fn drop_first(&mut self, lane: usize, stage: Stage) -> bool {
        let firsts = Priority::ALL.into_iter().filter_map(|priority| {
            let slot = self.queue(lane, stage).first(priority)?;
            Some((self.slots[slot as usize].arrival_ns, priority, slot))
        });
        if let Some((_, priority, slot)) = firsts.min_by_key(|&(arrival_ns, ..)| arrival_ns) {
            self.queue_mut(lane, stage).pop_first(priority);
            self.end(slot, Outcome::Expired);
        }
        false
    }

    /// Compute and download of one image, where that is quickest.
    fn alone_ns(&self) -> u64 {
        self.live_lanes().map(Lane::alone_ns).min().unwrap_or(0)
    }

    /// Length of the batch that closes at the start of `stage`, at most `wanted_len`, after
    /// dropping those that stand in its way; 0 if none is left.
    pub(super) fn window(
        &mut self,
        lane: usize,
        stage: Stage,
        wanted_len: usize,
        now_ns: u64,
    ) -> usize {
        let at = (lane, stage);
        let mut batch_len = 0;
        let mut limit_len = wanted_len;
        for priority in Priority::ALL {
            let mut may_shorten = true;
            while batch_len < limit_len
                && let Some(first) = self.queue(lane, stage).first(priority)
            {
                let level_len = self.queue(lane, stage).level_len(priority);
                let whole_len = limit_len.min(batch_len + level_len);
                let deadline_ns = self.slots[first as usize].deadline_ns;
                if self.finish_ns(at, whole_len, now_ns) <= deadline_ns {
                    batch_len = whole_len;
                    break;
                }
                if may_shorten {
                    may_shorten = false;
                    let short_len = self.longest_before(at, deadline_ns, whole_len, now_ns);
                    if self.may_leave_rest(at, priority, short_len, batch_len, now_ns) {
                        batch_len = batch_len.max(short_len);
                        limit_len = batch_len;
                        break;
                    }
                }
                if stage == Stage::Upload && self.is_in_time_elsewhere(lane, deadline_ns, now_ns) {
                    return batch_len;
                }
                self.queue_mut(lane, stage).pop_first(priority);
                self.end(first, Outcome::Expired);
            }
        }
        batch_len
    }

    /// Whether another lane can compute a request by its deadline as soon as it is free.
    fn is_in_time_elsewhere(&self, lane: usize, deadline_ns: u64, now_ns: u64) -> bool {
        (0..self.lanes.len()).any(|other| {
            let is_live = other != lane && !self.lanes[other].is_lost;
            is_live && self.finish_ns((other, Stage::Upload), 1, now_ns) <= deadline_ns
        })
    }

    /// Whether a batch of `short_len`, `above_len` of them of higher priority, leaves the rest of
    /// this level a next batch in time, with all that will have arrived by then.
    fn may_leave_rest(
        &self,
        at: (usize, Stage),
        priority: Priority,
        short_len: usize,
        above_len: usize,
        now_ns: u64,
    ) -> bool {
        let (queue, cost) = (self.queue(at.0, at.1), &self.lanes[at.0].cost);
        let batch_len = short_len.max(above_len);
        if batch_len == 0 {
            return false;
        }
        let taken_len = batch_len - above_len;
        let Some(next) = queue.nth(priority, taken_len) else {
            return true;
        };
        let compute_ns = cost.predict_ns(Stage::Compute, batch_len);
        let start_ns = self.start_ns(at, batch_len, now_ns).saturating_add(compute_ns);
        let arrived_len = self.rate.long_per_ns(now_ns) * (start_ns - now_ns) as f64;
        let left_len = queue.level_len(priority) - taken_len;
        let rest_len = left_len.saturating_add(arrived_len as usize).min(self.batch_len_max);
        start_ns.saturating_add(cost.finish_high_ns(rest_len))
            <= self.slots[next as usize].deadline_ns
    }

    /// Longest batch up to `batch_len_max` that ends before a deadline.
    fn longest_before(
        &self,
        at: (usize, Stage),
        deadline_ns: u64,
        batch_len_max: usize,
        now_ns: u64,
    ) -> usize {
        let start_ns = self.start_ns(at, 1, now_ns);
        let slack_ns = deadline_ns.saturating_sub(start_ns);
        let mut batch_len = self.lanes[at.0].cost.batch_len_within(slack_ns, batch_len_max);
        while batch_len > 0 && self.finish_ns(at, batch_len, now_ns) > deadline_ns {
            batch_len -= 1 + batch_len / 16;
        }
        batch_len
    }

    /// When a batch that closes now starts to compute.
    fn start_ns(&self, (lane, stage): (usize, Stage), batch_len: usize, now_ns: u64) -> u64 {
        let at = &self.lanes[lane];
        match stage {
            Stage::Upload => {
                let upload_ns = at.cost.predict_high_ns(Stage::Upload, batch_len);
                at.compute_free_ns(now_ns).max(now_ns.saturating_add(upload_ns))
            }
            _ => now_ns,
        }
    }

    fn finish_ns(&self, at: (usize, Stage), batch_len: usize, now_ns: u64) -> u64 {
        let start_ns = self.start_ns(at, batch_len, now_ns);
        start_ns.saturating_add(self.lanes[at.0].cost.finish_high_ns(batch_len))
    }

    fn queue(&self, lane: usize, stage: Stage) -> &Queue {
        if stage == Stage::Upload { &self.waiting } else { &self.lanes[lane].resident }
    }

    fn queue_mut(&mut self, lane: usize, stage: Stage) -> &mut Queue {
        if stage == Stage::Upload { &mut self.waiting } else { &mut self.lanes[lane].resident }
    }
}
