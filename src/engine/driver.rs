//! The scheduling thread: drives scheduler, ring and devices by the clock.
//!
//! Invariants: a request lives in `entries` from its admission until its answer, and leaves it
//! once; whatever this thread or the backends do, [`serve`] answers all that were accepted before
//! it returns. A device that is lost is left out, and what it had not answered is the others'. It
//! decides nothing about batches.

mod requests;
mod start;

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};
use std::task::Wake;
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::announced::Told;
use super::cache::Cache;
use super::contain::contain;
use super::entries::Entries;
use super::group;
use super::lane::{Device, Lane, Loss};
use super::options::{EngineOptions, Failure, SLOT_LEN_MAX};
use super::shared::{NEVER_NS, Receivers, Request, Shared, Status};
use super::stats::Stats;
use crate::backend::{Backend, Completion, Fault, Geometry};
use crate::error::Result;
use crate::ring::Consumer;
use crate::sched::{Action, Policy, Scheduler, Stage};
use start::{name, start};

/// How much later than asked for a sleeping thread wakes on a common system.
const TIMER_SLACK_NS: u64 = 100_000;
/// How long a spinning thread keeps the processor to itself.
const SPIN_ALONE_NS: u64 = 1_000;
/// How old the published statistics may get, and how often they are published at most.
const PUBLISH_NS: u64 = 1_000_000;
/// Stands for a cell without a request.
const NO_SLOT: u32 = u32::MAX;
const _: () = assert!(SLOT_LEN_MAX < NO_SLOT as usize);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Why the thread stops serving.
enum End {
    Stopped,
    /// The device with this number, the last one.
    Lost(usize, Loss),
    /// This thread panicked.
    Panic(Fault),
}

/// Lets those go who wait for the end, when it is dropped.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.refuse(Status::ShutDown);
        self.0.set_ended();
    }
}

struct Driver<'a> {
    shared: &'a Shared,
    /// By device, as the scheduler counts them.
    lanes: Vec<Lane>,
    /// Each drops a device that is lost.
    retired: Vec<JoinHandle<()>>,
    images: Consumer<Request>,
    cancels: Receiver<u32>,
    scheduler: Scheduler,
    told: Told,
    cache: Option<Cache>,
    entries: Entries,
    /// By cell.
    slot_of_cell: Vec<u32>,
    /// To be given up, empty otherwise.
    given_up: Vec<u32>,
    /// When there was last something to do.
    busy_ns: u64,
    published_ns: u64,
    is_draining: bool,
    geometry: Geometry,
    latency_bound_ns: u64,
    stats: Box<Stats>,
}

/// Serves until it is stopped or the last device is lost. Reports once to `started`.
pub(super) fn serve(
    (backends, policy): (Vec<Box<dyn Backend>>, Box<dyn Policy>),
    shared: &Shared,
    receivers: Receivers,
    options: &EngineOptions,
    started: &SyncSender<Result<()>>,
) {
    shared.thread.get_or_init(thread::current);
    let mut driver = match start((backends, policy), shared, receivers, options) {
        Ok(driver) => driver,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    driver.publish(shared.now_ns());
    let _ = started.send(Ok(()));
    let end = contain(|| driver.run()).unwrap_or_else(|text| End::Panic(Fault::lost(text)));
    driver.finish_all(end);
}

fn in_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER_NS)
}

impl Driver<'_> {
    fn run(&mut self) -> End {
        self.serve().unwrap_or_else(|end| end)
    }

    fn serve(&mut self) -> std::result::Result<End, End> {
        loop {
            let now_ns = self.shared.now_ns();
            let mut is_busy = self.poll(now_ns)?;
            is_busy |= self.admit(now_ns);
            is_busy |= self.cancel(now_ns);
            self.told.tell(&self.shared.board, &mut self.scheduler, now_ns);
            is_busy |= self.shared.traces.answer(&mut self.scheduler);
            let stop_at_ns = self.shared.stop_at_ns.load(Ordering::Acquire);
            if stop_at_ns != NEVER_NS {
                self.drain(now_ns);
            }
            is_busy |= self.act(now_ns)?;
            if self.is_draining && (now_ns >= stop_at_ns || self.scheduler.is_idle()) {
                return Ok(End::Stopped);
            }
            is_busy |= self.watch(now_ns)?;
            if is_busy {
                self.busy_ns = now_ns;
                if now_ns - self.published_ns > PUBLISH_NS {
                    self.publish(now_ns);
                }
            } else {
                self.rest(now_ns, stop_at_ns)?;
            }
        }
    }

    /// Takes up what the backends have ended.
    fn poll(&mut self, now_ns: u64) -> std::result::Result<bool, End> {
        let mut is_busy = false;
        for lane in 0..self.lanes.len() {
            match self.poll_lane(now_ns, lane) {
                Ok(has_ended) => is_busy |= has_ended,
                Err(fault) => {
                    self.lose(now_ns, lane, Loss::Fault(fault))?;
                    is_busy = true;
                }
            }
        }
        Ok(is_busy)
    }

    fn poll_lane(&mut self, now_ns: u64, lane: usize) -> std::result::Result<bool, Fault> {
        if !self.lanes[lane].is_in_flight() {
            return Ok(false);
        }
        let mut has_ended = false;
        for stage in [Stage::Download, Stage::Compute, Stage::Upload] {
            while let Some(completion) = self.lanes[lane].poll(stage, &mut self.entries) {
                self.ended(now_ns, (lane, stage), completion)?;
                has_ended = true;
                if stage != Stage::Download {
                    break;
                }
            }
        }
        Ok(has_ended)
    }

    fn ended(
        &mut self,
        now_ns: u64,
        (lane, stage): (usize, Stage),
        completion: Completion,
    ) -> std::result::Result<(), Fault> {
        let told = match completion {
            Ok(elapsed_ns) => self.scheduler.stage_completed(now_ns, lane, stage, elapsed_ns),
            Err(fault) if fault.is_lost => return Err(fault),
            Err(fault) => {
                let _ = contain(|| {
                    let device = name(lane, self.lanes.len());
                    log::warn!("{device}{stage:?} failed: {fault}");
                });
                self.scheduler.stage_failed(now_ns, lane, stage)
            }
        };
        told.map_err(|error| Fault::lost(format!("it ends what it was not asked for: {error}")))?;
        self.lanes[lane].ended(now_ns, stage);
        Ok(())
    }

    /// Loses devices that are stalled.
    fn watch(&mut self, now_ns: u64) -> std::result::Result<bool, End> {
        let mut is_busy = false;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].is_stalled(now_ns) {
                let fault = self.lanes[lane].stall();
                self.lose(now_ns, lane, Loss::Stall(fault))?;
                is_busy = true;
            }
        }
        Ok(is_busy)
    }

    /// Leaves a device out from now on: what it had not answered is the others'.
    ///
    /// # Errors
    /// There are no others.
    fn lose(&mut self, now_ns: u64, lane: usize, loss: Loss) -> std::result::Result<(), End> {
        let left_len = self.lanes.iter().filter(|lane| !lane.is_lost()).count() - 1;
        if left_len == 0 {
            return Err(End::Lost(lane, loss));
        }
        let device = self.lanes[lane].give_up();
        let (fault, device) = match loss {
            Loss::Fault(fault) => (fault, device),
            Loss::Stall(fault) => {
                std::mem::forget(device);
                (fault, None)
            }
        };
        self.retired.extend(device.and_then(Device::retire));
        self.scheduler.lane_lost(now_ns, lane);
        let _ = contain(|| {
            let lane_len = self.lanes.len();
            log::error!("device {lane} is lost, {left_len} of {lane_len} are left: {fault}");
        });
        self.note_lost(lane, fault);
        Ok(())
    }

    fn cancel(&mut self, now_ns: u64) -> bool {
        let mut is_busy = false;
        while let Ok(cell) = self.cancels.try_recv() {
            is_busy = true;
            if !self.shared.cells[cell as usize].is_cancelled() {
                continue;
            }
            // It was committed before it was cancelled: it is there, if not within one pass.
            while self.slot_of_cell[cell as usize] == NO_SLOT
                && self.shared.cells[cell as usize].is_cancelled()
                && self.admit(now_ns)
            {}
            // All of them first: a group whose last request ends is its caller's.
            let members = group::members(&self.shared.cells, cell);
            let slots = members.map(|member| self.slot_of_cell[member as usize]);
            self.given_up.extend(slots.filter(|&slot| slot != NO_SLOT));
            while let Some(slot) = self.given_up.pop() {
                self.give_up(slot);
            }
        }
        is_busy
    }

    /// Closes the ring and takes the last requests out of it.
    fn drain(&mut self, now_ns: u64) {
        if !self.is_draining {
            self.is_draining = true;
            self.images.close();
            while self.admit(now_ns) {}
            self.scheduler.drain();
        }
    }

    /// Does what the scheduler wants done now.
    fn act(&mut self, now_ns: u64) -> std::result::Result<bool, End> {
        let mut is_busy = false;
        // The clock as the last answer was told, if nothing else was done since.
        let mut told_ns = None;
        while let Some(action) = self.scheduler.poll_action(now_ns) {
            is_busy = true;
            let (lane, stage, slots) = match action {
                Action::Start { lane, stage, slots, .. } => (lane, stage, slots),
                Action::Finish { slot, outcome } => {
                    let tells_ns = told_ns.unwrap_or_else(|| self.shared.now_ns());
                    told_ns = Some(self.end(now_ns, tells_ns, (slot, outcome)));
                    continue;
                }
            };
            told_ns = None;
            self.stats.count_start((lane, stage), slots.len(), self.geometry);
            let (lanes, entries) = (&mut self.lanes, &mut self.entries);
            let (len, started) = (slots.len(), lanes[lane].start(now_ns, stage, slots, entries));
            match started {
                Ok(()) => {
                    let predicted_ns = self.scheduler.cost(lane).predict_ns(stage, len);
                    self.lanes[lane].expect(stage, now_ns.saturating_add(predicted_ns));
                }
                Err(fault) => self.lose(now_ns, lane, Loss::Fault(fault))?,
            }
        }
        Ok(is_busy)
    }

    /// Spins, or sleeps until something is committed, ends, is cancelled or is due.
    fn rest(&mut self, now_ns: u64, stop_at_ns: u64) -> std::result::Result<(), End> {
        let due_ns = self.scheduler.poll_timeout().unwrap_or(NEVER_NS).min(stop_at_ns);
        let mut due_ns = self.lanes.iter().filter_map(Lane::due_ns).fold(due_ns, u64::min);
        let spin_ns = in_ns(self.shared.spin);
        if spin_ns > 0 {
            // To be awake when work ends spares its answer a wake-up. Work that is late by more
            // than `spin` is left to its waker.
            let expected = self.lanes.iter().flat_map(Lane::expected_ns);
            let is_open = |end_ns: &u64| end_ns.saturating_add(spin_ns) > now_ns;
            due_ns = expected.filter(is_open).fold(due_ns, u64::min);
        }
        let left_ns = due_ns.saturating_sub(now_ns);
        let is_unpublished = self.published_ns <= self.busy_ns;
        let publish_ns = self.published_ns + PUBLISH_NS;
        let is_soon = spin_ns > 0 && left_ns < TIMER_SLACK_NS;
        if is_soon || now_ns - self.busy_ns < spin_ns {
            if is_unpublished && now_ns > publish_ns {
                self.publish(now_ns);
            }
            if now_ns - self.busy_ns < SPIN_ALONE_NS {
                std::hint::spin_loop();
            } else {
                // A processor may be what a producer waits for.
                thread::yield_now();
            }
            return Ok(());
        }
        let mut unpublished_ns = NEVER_NS;
        if is_unpublished && now_ns <= publish_ns {
            // Copied before each sleep, statistics would cost the more the oftener it sleeps.
            unpublished_ns = publish_ns - now_ns + 1;
        } else if is_unpublished && !self.publish(now_ns) {
            return Ok(());
        }
        if !self.images.sleep() {
            return Ok(());
        }
        for lane in 0..self.lanes.len() {
            if let Err(fault) = self.lanes[lane].before_sleep() {
                self.images.wake();
                return self.lose(now_ns, lane, Loss::Fault(fault));
            }
        }
        // All other news unpark this thread, and what came since it looked makes this return at
        // once.
        let early_ns = if due_ns < NEVER_NS && spin_ns > 0 { TIMER_SLACK_NS } else { 0 };
        match due_ns.min(unpublished_ns) {
            NEVER_NS => thread::park(),
            _ => {
                let sleep_ns = (left_ns - early_ns).min(unpublished_ns);
                thread::park_timeout(Duration::from_nanos(sleep_ns));
            }
        }
        self.images.wake();
        Ok(())
    }

    /// Answers everything that is left, and what is still committed meanwhile. No step of it keeps
    /// the others from being done.
    fn finish_all(mut self, end: End) {
        let ended = Ended(self.shared);
        let mut stalled = None;
        let failure = match end {
            End::Stopped => Failure::ShutDown,
            End::Lost(lane, loss) => {
                let (Loss::Fault(fault) | Loss::Stall(fault)) = &loss;
                stalled = matches!(loss, Loss::Stall(_)).then_some(lane);
                self.note_lost(lane, fault.clone());
                self.lost(fault.clone())
            }
            End::Panic(fault) => self.lost(fault),
        };
        self.images.close();
        self.shared.traces.end(&mut self.scheduler);
        let now_ns = self.shared.now_ns();
        for slot in 0..self.entries.slot_len() as u32 {
            if self.entries.contains(slot) {
                let _ = contain(|| self.finish(self.shared.now_ns(), slot, Err(failure)));
            }
        }
        while let Some((slot, request)) = self.images.take() {
            let index = slot.index();
            let (place, committed_ns) = (request.place, request.committed_ns);
            let scheduler = &mut self.scheduler;
            self.told.came(&self.shared.board, place, scheduler, (committed_ns, false));
            self.accept(now_ns, slot, request);
            let _ = contain(|| self.finish(self.shared.now_ns(), index, Err(failure)));
        }
        // All have ended, so nobody follows anybody.
        self.cache = None;
        self.read_stats();
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = *self.stats;
        drop(ended);
        for (lane, device) in self.lanes.iter_mut().map(Lane::give_up).enumerate() {
            match device {
                Some(device) if stalled == Some(lane) => std::mem::forget(device),
                Some(device) => device.end(),
                None => {}
            }
        }
        for thread in self.retired {
            // Its panics were caught and reported.
            let _ = thread.join();
        }
    }

    /// Says that all is over.
    fn lost(&self, fault: Fault) -> Failure {
        let text = fault.to_string();
        // The reason first: whoever is refused finds it.
        let _ = self.shared.fault.set(fault);
        self.shared.refuse(Status::DeviceLost);
        let _ = contain(|| log::error!("the device is lost: {text}"));
        Failure::DeviceLost
    }

    /// Keeps for those who ask that a device is lost.
    fn note_lost(&mut self, lane: usize, fault: Fault) {
        self.stats.devices[lane].is_lost = true;
        let _ = self.shared.device_faults[lane].set(fault);
    }

    /// Takes over what scheduler and cache count.
    fn read_stats(&mut self) {
        self.stats.read(&self.scheduler);
        let following_len = self.cache.as_ref().map_or(0, |cache| cache.equals.follower_len());
        self.stats.cache.following = following_len as u64;
    }

    /// Publishes the statistics; false if someone is just reading them.
    fn publish(&mut self, now_ns: u64) -> bool {
        self.read_stats();
        match self.shared.stats.try_lock() {
            Ok(mut stats) => {
                *stats = *self.stats;
                self.published_ns = now_ns;
                true
            }
            Err(_) => false,
        }
    }
}
