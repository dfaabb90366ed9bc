//! Deadlines: who is admitted, who is dropped and who expires.
//!
//! A request is refused at once when it could not end in time behind those ahead of it. Of those
//! accepted, under overload, the ones with the least time left are dropped until the batch that the
//! rest makes meets the deadline of each of them: batches sized for a head that is nearly late
//! would be short, and short batches waste the device.
//!
//! Sums of moments and predictions saturate: at the end of time is too late for every deadline.

use super::{NEVER_NS, Outcome, Priority, Scheduler, Stage};

impl Scheduler {
    /// When a request that arrives now would end: behind full batches of those ahead of it, in a
    /// batch that has filled up at the present rate by the time it starts.
    pub(super) fn predicted_finish_ns(&self, now_ns: u64, priority: Priority, key_ns: u64) -> u64 {
        let uploading_len = if self.is_uploading { self.chunk.slots.len() } else { 0 };
        let ahead_len = self.waiting.ahead_len(priority, key_ns)
            + self.resident.ahead_len(priority, key_ns)
            + uploading_len;
        let full_ns = self.cost.predict_ns(Stage::Compute, self.batch_len_max);
        let upload_ns = self.cost.predict_ns(Stage::Upload, 1);
        let full_len = (ahead_len / self.batch_len_max) as u64;
        let free_ns = self.compute_free_ns(now_ns).max(now_ns.saturating_add(upload_ns));
        let start_ns = free_ns.saturating_add(full_len.saturating_mul(full_ns));
        let more_len = self.rate.long_per_ns(now_ns) * (start_ns - now_ns) as f64;
        let batch_len = (ahead_len % self.batch_len_max + 1).saturating_add(more_len as usize);
        start_ns.saturating_add(self.cost.finish_high_ns(batch_len.min(self.batch_len_max)))
    }

    /// Ends those that could not be in time even if they were computed now and alone.
    pub(super) fn expire(&mut self, now_ns: u64) {
        if self.deadline_len == 0 {
            return;
        }
        let earliest_ns = now_ns.saturating_add(self.alone_ns());
        for priority in Priority::ALL {
            while let Some(slot) = self.waiting.first(priority)
                && self.slots[slot as usize].deadline_ns < earliest_ns
            {
                self.waiting.pop_first(priority);
                self.end(slot, Outcome::Expired);
            }
            while let Some(slot) = self.resident.first(priority)
                && self.slots[slot as usize].deadline_ns < earliest_ns
            {
                self.resident.pop_first(priority);
                self.end(slot, Outcome::Expired);
            }
        }
    }

    /// When the next request expires if it stays where it is.
    pub(super) fn next_expiry_ns(&self) -> Option<u64> {
        if self.deadline_len == 0 {
            return None;
        }
        let firsts = Priority::ALL.iter().flat_map(|&priority| {
            [self.waiting.first(priority), self.resident.first(priority)].into_iter().flatten()
        });
        let deadline_ns = firsts.map(|slot| self.slots[slot as usize].deadline_ns).min()?;
        (deadline_ns != NEVER_NS).then(|| (deadline_ns + 1).saturating_sub(self.alone_ns()))
    }

    /// Ends the request that a policy drops before `stage`; false, as nothing starts.
    pub(super) fn drop_first(&mut self, stage: Stage) -> bool {
        let firsts = Priority::ALL.into_iter().filter_map(|priority| {
            let slot = self.queue(stage).first(priority)?;
            Some((self.slots[slot as usize].arrival_ns, priority, slot))
        });
        if let Some((_, priority, slot)) = firsts.min_by_key(|&(arrival_ns, ..)| arrival_ns) {
            self.queue_mut(stage).pop_first(priority);
            self.end(slot, Outcome::Expired);
        }
        false
    }

    /// Compute and download of one image.
    fn alone_ns(&self) -> u64 {
        let compute_ns = self.cost.predict_ns(Stage::Compute, 1);
        compute_ns.saturating_add(self.cost.predict_ns(Stage::Download, 1))
    }

    /// Length of the batch that closes at the start of `stage`, at most `wanted_len`, after
    /// dropping those that stand in its way; 0 if none is left.
    pub(super) fn window(&mut self, stage: Stage, wanted_len: usize, now_ns: u64) -> usize {
        let mut batch_len = 0;
        let mut limit_len = wanted_len;
        for priority in Priority::ALL {
            let mut may_shorten = true;
            while batch_len < limit_len
                && let Some(first) = self.queue(stage).first(priority)
            {
                let level_len = self.queue(stage).level_len(priority);
                let whole_len = limit_len.min(batch_len + level_len);
                let deadline_ns = self.slots[first as usize].deadline_ns;
                if self.finish_ns(stage, whole_len, now_ns) <= deadline_ns {
                    batch_len = whole_len;
                    break;
                }
                if may_shorten {
                    may_shorten = false;
                    let short_len = self.longest_before(stage, deadline_ns, whole_len, now_ns);
                    if self.may_leave_rest(stage, priority, short_len, batch_len, now_ns) {
                        batch_len = batch_len.max(short_len);
                        limit_len = batch_len;
                        break;
                    }
                }
                self.queue_mut(stage).pop_first(priority);
                self.end(first, Outcome::Expired);
            }
        }
        batch_len
    }

    /// Whether a batch of `short_len`, `above_len` of them of higher priority, leaves the rest of
    /// this level a next batch in time, with all that will have arrived by then.
    fn may_leave_rest(
        &self,
        stage: Stage,
        priority: Priority,
        short_len: usize,
        above_len: usize,
        now_ns: u64,
    ) -> bool {
        let queue = self.queue(stage);
        let batch_len = short_len.max(above_len);
        if batch_len == 0 {
            return false;
        }
        let taken_len = batch_len - above_len;
        let Some(next) = queue.nth(priority, taken_len) else {
            return true;
        };
        let compute_ns = self.cost.predict_ns(Stage::Compute, batch_len);
        let start_ns = self.start_ns(stage, batch_len, now_ns).saturating_add(compute_ns);
        let arrived_len = self.rate.long_per_ns(now_ns) * (start_ns - now_ns) as f64;
        let left_len = queue.level_len(priority) - taken_len;
        let rest_len = left_len.saturating_add(arrived_len as usize).min(self.batch_len_max);
        start_ns.saturating_add(self.cost.finish_high_ns(rest_len))
            <= self.slots[next as usize].deadline_ns
    }

    /// Longest batch up to `batch_len_max` that ends before a deadline.
    fn longest_before(
        &self,
        stage: Stage,
        deadline_ns: u64,
        batch_len_max: usize,
        now_ns: u64,
    ) -> usize {
        let start_ns = self.start_ns(stage, 1, now_ns);
        let slack_ns = deadline_ns.saturating_sub(start_ns);
        let mut batch_len = self.cost.batch_len_within(slack_ns, batch_len_max);
        while batch_len > 0 && self.finish_ns(stage, batch_len, now_ns) > deadline_ns {
            batch_len -= 1 + batch_len / 16;
        }
        batch_len
    }

    /// When a batch that closes now starts to compute.
    fn start_ns(&self, stage: Stage, batch_len: usize, now_ns: u64) -> u64 {
        match stage {
            Stage::Upload => {
                let upload_ns = self.cost.predict_high_ns(Stage::Upload, batch_len);
                self.compute_free_ns(now_ns).max(now_ns.saturating_add(upload_ns))
            }
            _ => now_ns,
        }
    }

    fn finish_ns(&self, stage: Stage, batch_len: usize, now_ns: u64) -> u64 {
        let start_ns = self.start_ns(stage, batch_len, now_ns);
        start_ns.saturating_add(self.cost.finish_high_ns(batch_len))
    }

    fn queue(&self, stage: Stage) -> &super::Queue {
        if stage == Stage::Upload { &self.waiting } else { &self.resident }
    }

    fn queue_mut(&mut self, stage: Stage) -> &mut super::Queue {
        if stage == Stage::Upload { &mut self.waiting } else { &mut self.resident }
    }
}
