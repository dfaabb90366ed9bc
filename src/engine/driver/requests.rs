//! Requests from admission to answer: computed, or answered as an equal image is or was.
//!
//! Invariant: what is in `entries` is in the scheduler too, or follows what is; else it is being
//! answered. Decides nothing about batches.

use super::super::answer::Answered;
use super::super::cache::{Claim, Met};
use super::super::cell::Finished;
use super::super::contain::contain;
use super::super::entries::Entry;
use super::super::options::Failure;
use super::super::shared::{NEVER_NS, Request};
use super::{Driver, NO_SLOT};
use crate::ring::Slot;
use crate::sched::{self, Outcome, Refusal, Timing};

/// How a request ends.
type Ended = std::result::Result<(), Failure>;

impl Driver<'_> {
    /// Accepts what was committed, each slot at most once, and what is left of a group: refused
    /// requests free their slots, and producers that retry at once would keep this up for ever.
    pub(super) fn admit(&mut self, now_ns: u64) -> bool {
        let mut len = 0;
        while (len < self.entries.slot_len() || self.images.is_amid_chain())
            && let Some((slot, request)) = self.images.take()
        {
            len += 1;
            let index = slot.index();
            let (place, committed_ns) = (request.place, request.committed_ns);
            let is_hashed = request.is_hashed;
            self.accept(now_ns, slot, request);
            let claim = is_hashed.then(|| self.claim(index)).flatten();
            let met = self.meet(now_ns, index, claim);
            let is_computed = met == Met::Nothing;
            let scheduler = &mut self.scheduler;
            self.told.came(&self.shared.board, place, scheduler, (committed_ns, is_computed));
            match met {
                Met::Answer(place) => self.answer(now_ns, index, place),
                Met::Leader => {}
                Met::Nothing => {
                    let is_submitted = self.submit(now_ns, index);
                    if let (true, Some(claim), Some(cache)) = (is_submitted, claim, &mut self.cache)
                    {
                        cache.equals.lead(index, claim);
                    }
                }
            }
        }
        if len > 0 {
            self.judge_hashing(now_ns);
        }
        len > 0
    }

    pub(super) fn accept(&mut self, now_ns: u64, slot: Slot, request: Request) {
        self.stats.accepted += 1;
        self.stats.alive_len += 1;
        self.stats.arrivals.count(now_ns);
        let (index, cell) = (slot.index(), request.result.slot());
        self.slot_of_cell[cell as usize] = index;
        self.entries.put(Entry {
            image: slot,
            result: Some(request.result),
            cells: (request.group, cell),
            committed_ns: request.committed_ns,
            priority: request.priority,
            deadline_ns: request.deadline_ns.min(now_ns.saturating_add(self.latency_bound_ns)),
            is_cancelled: false,
            handler: request.handler,
        });
    }

    /// What can be said of the request of a slot whose image was hashed.
    fn claim(&mut self, slot: u32) -> Option<Claim> {
        let key = self.shared.hashing.as_ref()?.key(slot);
        let Entry { priority, deadline_ns, .. } = *self.entries.of(slot);
        Some(Claim { key, priority, deadline_ns })
    }

    /// Looks for an equal image, where there is a key.
    fn meet(&mut self, now_ns: u64, slot: u32, claim: Option<Claim>) -> Met {
        let (Some(cache), Some(claim)) = (&mut self.cache, claim) else { return Met::Nothing };
        let stats = &mut *self.stats;
        let alone_ns = stats.alone_ns();
        cache.meet(slot, claim, (now_ns, alone_ns), &mut stats.cache)
    }

    /// Has images hashed as long as that pays.
    fn judge_hashing(&mut self, now_ns: u64) {
        let (Some(cache), Some(hashing)) = (&mut self.cache, &self.shared.hashing) else { return };
        cache.account.passed(now_ns);
        let is_on = cache.account.is_on();
        if is_on != hashing.is_on() {
            hashing.set_on(is_on);
        }
    }

    /// Has a request computed; false if it was refused, which is its answer.
    fn submit(&mut self, now_ns: u64, slot: u32) -> bool {
        let Entry { priority, deadline_ns, .. } = *self.entries.of(slot);
        let deadline_ns = (deadline_ns != NEVER_NS).then_some(deadline_ns);
        let failure = match self
            .scheduler
            .submit_accepted(now_ns, sched::Request { slot, priority, deadline_ns })
        {
            Ok(()) => return true,
            Err(Refusal::Deadline) => Failure::Rejected,
            Err(Refusal::Draining) => Failure::ShutDown,
            Err(Refusal::Slot) => unreachable!("the ring and the scheduler count slots alike"),
        };
        self.finish(self.shared.now_ns(), slot, Err(failure));
        false
    }

    /// Gives a request up whose caller wants it no more, unless others wait for its answer.
    pub(super) fn give_up(&mut self, slot: u32) {
        let mut to_cancel = Some(slot);
        if let Some(cache) = &mut self.cache {
            if cache.equals.is_follower(slot) {
                let alone = cache.equals.leave(slot);
                to_cancel = alone.filter(|&leader| self.entries.of(leader).is_cancelled);
                self.finish(self.shared.now_ns(), slot, Err(Failure::Cancelled));
            } else if cache.equals.is_followed(slot) {
                self.entries.of_mut(slot).is_cancelled = true;
                return;
            }
        }
        let Some(slot) = to_cancel else { return };
        if let Some(cache) = &mut self.cache {
            cache.equals.end(slot);
        }
        self.scheduler.cancel(slot);
    }

    /// Ends what the scheduler has done with, and those that waited for its answer. Tells callers
    /// from `tells_ns` on; returns when that was over.
    pub(super) fn end(
        &mut self,
        now_ns: u64,
        tells_ns: u64,
        (slot, outcome): (u32, Outcome),
    ) -> u64 {
        let failure = match outcome {
            Outcome::Completed => return self.complete(tells_ns, slot),
            Outcome::Expired => Failure::Expired,
            Outcome::Cancelled => Failure::Cancelled,
            Outcome::Failed => Failure::Failed,
        };
        let is_led = self.cache.as_mut().is_some_and(|cache| cache.equals.end(slot).is_some());
        let is_cancelled = self.entries.of(slot).is_cancelled;
        let failure = if is_cancelled { Failure::Cancelled } else { failure };
        let told_ns = self.finish(tells_ns, slot, Err(failure));
        if !is_led {
            return told_ns;
        }
        // One takes its place. Where the device failed at it, those that are left would fail one
        // after the other if it does so again: each is computed for itself.
        while let Some(next) = self.take_follower(slot) {
            if self.submit(now_ns, next)
                && outcome != Outcome::Failed
                && let Some(cache) = &mut self.cache
            {
                cache.equals.succeed(slot, next);
            }
        }
        self.shared.now_ns()
    }

    /// Ends a request that has its result, and with the same those that waited for it.
    fn complete(&mut self, tells_ns: u64, slot: u32) -> u64 {
        let timing = self.scheduler.timing(slot);
        let Entry { is_cancelled, result, .. } = self.entries.of(slot);
        let outcome = if *is_cancelled { Err(Failure::Cancelled) } else { Ok(()) };
        let kept = self.cache.as_mut().and_then(|cache| {
            let key = cache.equals.end(slot)?;
            let place = cache.kept.keep(key, result.as_ref().expect("downloaded"), timing);
            self.stats.cache.bytes = cache.kept.bytes() as u64;
            Some(place)
        });
        if outcome.is_ok() {
            self.record(slot, timing, tells_ns);
        }
        let mut told_ns = self.finish(tells_ns, slot, outcome);
        if let Some(place) = kept {
            while let Some(follower) = self.take_follower(slot) {
                told_ns = self.copy(told_ns, follower, (place, timing));
            }
        }
        told_ns
    }

    fn take_follower(&mut self, slot: u32) -> Option<u32> {
        self.cache.as_mut()?.equals.take_follower(slot)
    }

    /// Answers a request that came now with an answer that is kept.
    fn answer(&mut self, now_ns: u64, slot: u32, place: u32) {
        let cache = self.cache.as_ref().expect("it has the answer");
        let timing = passed_at(now_ns, cache.kept.timing(place));
        self.copy(self.shared.now_ns(), slot, (place, timing));
    }

    /// Ends a request with a result that is kept.
    fn copy(&mut self, tells_ns: u64, slot: u32, (place, timing): (u32, Timing)) -> u64 {
        let cache = self.cache.as_ref().expect("it has the answer");
        let result = &mut self.entries.of_mut(slot).result;
        let result = result.as_mut().expect("nobody writes into it");
        result.copy_from_slice(cache.kept.result(place));
        self.record(slot, timing, tells_ns);
        self.finish(tells_ns, slot, Ok(()))
    }

    /// Says how long a request took that completed, whose caller sees the answer from `tells_ns`
    /// on: to the statistics, and with the answer.
    fn record(&mut self, slot: u32, timing: Timing, tells_ns: u64) {
        let entry = self.entries.of_mut(slot);
        // It may have been committed since the clock was read, or since an equal image came.
        let timing = Timing { announced_ns: tells_ns, ..since(entry.committed_ns, timing) };
        let stats = &mut *self.stats;
        stats.latency.record(timing.latency_ns());
        stats.waiting.record(timing.compute_started_ns - timing.arrival_ns);
        stats.computing.record(timing.download_ended_ns - timing.compute_started_ns);
        stats.notifying.record(timing.announcing_ns());
        stats.late += u64::from(tells_ns > entry.deadline_ns);
        entry.result.as_mut().expect("it was downloaded").set(timing);
    }

    /// Ends a request, once, and tells its caller from `tells_ns` on; returns when that was over.
    /// The clock is read where code of others ran: what else there is to do is shorter than its
    /// reading.
    pub(super) fn finish(&mut self, tells_ns: u64, slot: u32, outcome: Ended) -> u64 {
        let entry = self.entries.take(slot);
        self.slot_of_cell[entry.cells.1 as usize] = NO_SLOT;
        self.stats.count(outcome);
        // Before the answer: whoever gets it finds a free slot.
        self.images.ring().release([entry.image]);
        let answered = Answered { outcome, slot: entry.result };
        // Wakers and handlers are the callers' code.
        let told = contain(|| self.shared.tell(answered, entry.cells, entry.handler));
        match told {
            Ok(Finished::Kept | Finished::GivenUp) => return tells_ns,
            Ok(Finished::Woke) => {}
            Err(text) => {
                let _ = contain(|| log::error!("a handler of an answer: {text}"));
            }
        }
        let told_ns = self.shared.now_ns();
        self.stats.callback_ns += told_ns - tells_ns;
        told_ns
    }
}

/// As of one that passed all stages now, in the batch that it was computed in.
fn passed_at(now_ns: u64, timing: Timing) -> Timing {
    Timing {
        upload_started_ns: now_ns,
        upload_ended_ns: now_ns,
        compute_started_ns: now_ns,
        compute_ended_ns: now_ns,
        download_started_ns: now_ns,
        download_ended_ns: now_ns,
        ..timing
    }
}

/// As of one that came then, and passed by then what had been passed before.
fn since(arrival_ns: u64, timing: Timing) -> Timing {
    Timing {
        arrival_ns,
        upload_started_ns: timing.upload_started_ns.max(arrival_ns),
        upload_ended_ns: timing.upload_ended_ns.max(arrival_ns),
        compute_started_ns: timing.compute_started_ns.max(arrival_ns),
        compute_ended_ns: timing.compute_ended_ns.max(arrival_ns),
        download_started_ns: timing.download_started_ns.max(arrival_ns),
        download_ended_ns: timing.download_ended_ns.max(arrival_ns),
        ..timing
    }
}
