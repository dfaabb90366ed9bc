//! The scheduling thread: drives scheduler, ring and backend by the clock.
//!
//! Invariants: a request lives in `entries` from its admission until its answer, and leaves it
//! once; whatever this thread or the backend does, [`serve`] answers all that were accepted before
//! it returns. It decides nothing about batches.

mod requests;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::announced::Told;
use super::answer::Handler;
use super::cache::Cache;
use super::calibrate::{Calibration, calibrate};
use super::contain::contain;
use super::group;
use super::options::{EngineOptions, Failure, SLOT_LEN_MAX};
use super::pin;
use super::shared::{NEVER_NS, Receivers, Request, Shared, Status};
use super::stall::StallWatchdog;
use super::stats::{LANE, Stats};
use crate::backend::{Attachment, Backend, Completion, Fault, Geometry, ResultSlot};
use crate::error::{Error, Kind, Result};
use crate::ring::{Consumer, Slot};
use crate::sched::{Action, Config, Policy, Priority, Scheduler, Stage, Stages};

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

/// A request that was accepted and has not ended.
struct Entry {
    /// None while the backend uploads it.
    image: Option<Slot>,
    /// None while the backend downloads to it.
    result: Option<ResultSlot>,
    /// The first cell of its group, and its own.
    cells: (u32, u32),
    committed_ns: u64,
    priority: Priority,
    /// When it is late.
    deadline_ns: u64,
    /// Its caller has given it up, but others wait for its answer.
    is_cancelled: bool,
    handler: Option<(Arc<dyn Handler>, u64)>,
}

/// Why the thread stops serving.
enum End {
    Stopped,
    Lost(Fault),
    /// The backend is not to be touched again: even its destructor may not return.
    Stalled,
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
    backend: Box<dyn Backend>,
    images: Consumer<Request>,
    cancels: Receiver<u32>,
    scheduler: Scheduler,
    told: Told,
    cache: Option<Cache>,
    /// By image slot.
    entries: Vec<Option<Entry>>,
    /// By cell.
    slot_of_cell: Vec<u32>,
    /// To be given up, empty otherwise.
    given_up: Vec<u32>,
    /// Lists on their way to or from the backend, empty otherwise.
    slots: Vec<Slot>,
    results: Vec<ResultSlot>,
    /// Slots of the downloads in flight, in order.
    downloading: VecDeque<u32>,
    /// Stages in flight.
    in_flight_len: usize,
    /// Since one of them last ended, or the first of them began.
    watchdog: StallWatchdog,
    /// When the latest work of each stage is expected to end; 0 if none is in flight.
    expected_ns: Stages<u64>,
    /// When there was last something to do.
    busy_ns: u64,
    published_ns: u64,
    is_draining: bool,
    geometry: Geometry,
    latency_bound_ns: u64,
    stats: Box<Stats>,
}

/// Serves until it is stopped or the device is lost. Reports once to `started`.
pub(super) fn serve(
    (mut backend, policy): (Box<dyn Backend>, Box<dyn Policy>),
    shared: &Shared,
    receivers: Receivers,
    options: &EngineOptions,
    started: &SyncSender<Result<()>>,
) {
    shared.thread.get_or_init(thread::current);
    let Receivers { mut images, cancels } = receivers;
    let geometry = backend.geometry();
    let batch_len_max = options.batch_len_max.min(geometry.batch_len_max).min(options.slot_len);
    let prepared = prepare(&mut *backend, shared, &mut images, (options, batch_len_max));
    let (calibration, cache) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // A device that failed may hang, and there is no work to wait for.
            match error.is_device() {
                true => std::mem::forget(backend),
                false => drop(backend),
            }
            let _ = started.send(Err(error));
            return;
        }
    };
    let config = Config {
        slot_len: options.slot_len,
        batch_len_max,
        latency_bound_ns: options.latency_bound.map(in_ns),
        policy: options.policy,
        lines: vec![calibration.lines],
    };
    let mut scheduler = Scheduler::with_policy(&config, policy);
    calibration.teach(&mut scheduler);
    shared.board.open(scheduler.cost(LANE).predict_ns(Stage::Compute, 1));
    let mut driver = Driver {
        shared,
        backend,
        images,
        cancels,
        scheduler,
        told: Told::new(&shared.board),
        cache,
        entries: (0..options.slot_len).map(|_| None).collect(),
        slot_of_cell: vec![NO_SLOT; shared.cells.len()],
        given_up: Vec::with_capacity(options.slot_len),
        slots: Vec::with_capacity(batch_len_max),
        results: Vec::with_capacity(batch_len_max),
        downloading: VecDeque::with_capacity(options.slot_len),
        in_flight_len: 0,
        watchdog: StallWatchdog::new(options.stall_timeout),
        expected_ns: Stages::default(),
        busy_ns: 0,
        published_ns: 0,
        is_draining: false,
        geometry,
        latency_bound_ns: config.latency_bound_ns.unwrap_or(NEVER_NS),
        stats: Box::new(Stats::new(shared.now_ns())),
    };
    driver.scheduler.replace_trace(shared.traces.empty());
    driver.publish(shared.now_ns());
    // Loggers are the program's code here as below.
    let _ = contain(|| {
        let lines = config.lines[LANE];
        log::info!("engine started: at most {batch_len_max} images a batch, {lines:?}");
    });
    let _ = started.send(Ok(()));
    let end = contain(|| driver.run()).unwrap_or_else(|text| End::Lost(Fault::lost(text)));
    driver.finish_all(end);
}

fn prepare(
    backend: &mut dyn Backend,
    shared: &Shared,
    images: &mut Consumer<Request>,
    (options, batch_len_max): (&EngineOptions, usize),
) -> Result<(Calibration, Option<Cache>)> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let depth = Scheduler::DEPTH;
    backend.attach(Attachment::new(&shared.images, batch_len_max, depth, waker))?;
    // After the backend has started its threads, which would inherit it.
    if let Some(core) = options.core {
        pin::pin(core)?;
    }
    let cache = match &shared.hashing {
        Some(hashing) => Some(Cache::new(hashing, options, backend.geometry())?),
        None => None,
    };
    if let Some(lines) = options.costs {
        return Ok((Calibration::given(lines), cache));
    }
    match calibrate(backend, shared, images, batch_len_max, options.stall_timeout) {
        Ok(calibration) => Ok((calibration, cache)),
        Err(fault) => {
            Err(Error::new(Kind::Device, format!("calibration: {fault}")).with_source(fault))
        }
    }
}

fn in_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER_NS)
}

impl Driver<'_> {
    fn run(&mut self) -> End {
        loop {
            let now_ns = self.shared.now_ns();
            let mut is_busy = match self.poll(now_ns) {
                Ok(is_busy) => is_busy,
                Err(fault) => return End::Lost(fault),
            };
            is_busy |= self.admit(now_ns);
            is_busy |= self.cancel(now_ns);
            self.told.tell(&self.shared.board, &mut self.scheduler, now_ns);
            is_busy |= self.shared.traces.answer(&mut self.scheduler);
            let stop_at_ns = self.shared.stop_at_ns.load(Ordering::Acquire);
            if stop_at_ns != NEVER_NS {
                self.drain(now_ns);
            }
            is_busy |= self.act(now_ns);
            if self.is_draining && (now_ns >= stop_at_ns || self.scheduler.is_idle()) {
                return End::Stopped;
            }
            if self.in_flight_len > 0 && self.watchdog.is_stalled(now_ns) {
                return End::Stalled;
            }
            if is_busy {
                self.busy_ns = now_ns;
                if now_ns - self.published_ns > PUBLISH_NS {
                    self.publish(now_ns);
                }
            } else {
                self.rest(now_ns, stop_at_ns);
            }
        }
    }

    /// Takes up what the backend has ended.
    fn poll(&mut self, now_ns: u64) -> std::result::Result<bool, Fault> {
        let in_flight_len = self.in_flight_len;
        if in_flight_len == 0 {
            return Ok(false);
        }
        while let Some(completion) = self.backend.poll_download(&mut self.results) {
            for result in self.results.drain(..) {
                let slot = self.downloading.pop_front().expect("a result that was asked for");
                entry(&mut self.entries, slot).result = Some(result);
            }
            self.ended(now_ns, Stage::Download, completion)?;
        }
        if let Some(completion) = self.backend.poll_compute() {
            self.ended(now_ns, Stage::Compute, completion)?;
        }
        if let Some(completion) = self.backend.poll_upload(&mut self.slots) {
            for slot in self.slots.drain(..) {
                let index = slot.index();
                entry(&mut self.entries, index).image = Some(slot);
            }
            self.ended(now_ns, Stage::Upload, completion)?;
        }
        Ok(self.in_flight_len != in_flight_len)
    }

    fn ended(
        &mut self,
        now_ns: u64,
        stage: Stage,
        completion: Completion,
    ) -> std::result::Result<(), Fault> {
        let told = match completion {
            Ok(elapsed_ns) => self.scheduler.stage_completed(now_ns, LANE, stage, elapsed_ns),
            Err(fault) if fault.is_lost => return Err(fault),
            Err(fault) => {
                let _ = contain(|| log::warn!("{stage:?} failed: {fault}"));
                self.scheduler.stage_failed(now_ns, LANE, stage)
            }
        };
        told.expect("the backend ends what it was asked for");
        self.in_flight_len -= 1;
        self.watchdog.end(now_ns);
        *self.expected_ns.of_mut(stage) = 0;
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
    fn act(&mut self, now_ns: u64) -> bool {
        let mut is_busy = false;
        // The clock as the last answer was told, if nothing else was done since.
        let mut told_ns = None;
        while let Some(action) = self.scheduler.poll_action(now_ns) {
            is_busy = true;
            let (stage, slots) = match action {
                Action::Start { stage, slots, .. } => (stage, slots),
                Action::Finish { slot, outcome } => {
                    let tells_ns = told_ns.unwrap_or_else(|| self.shared.now_ns());
                    told_ns = Some(self.end(now_ns, tells_ns, (slot, outcome)));
                    continue;
                }
            };
            told_ns = None;
            if self.in_flight_len == 0 {
                self.watchdog.end(now_ns);
            }
            self.in_flight_len += 1;
            let batch_len = slots.len();
            match stage {
                Stage::Upload => {
                    self.stats.uploaded_bytes += (slots.len() * self.geometry.image_bytes) as u64;
                    let images =
                        slots.iter().map(|&slot| entry(&mut self.entries, slot).image.take());
                    self.slots.extend(images.map(|image| image.expect("uploaded once")));
                    self.slots.sort_unstable();
                    self.backend.upload(&mut self.slots);
                }
                Stage::Compute => {
                    self.stats.batch_lens.record(slots.len());
                    self.backend.compute(slots);
                }
                Stage::Download => {
                    let result_bytes = self.geometry.result_len * size_of::<f32>();
                    self.stats.downloaded_bytes += (slots.len() * result_bytes) as u64;
                    let results =
                        slots.iter().map(|&slot| entry(&mut self.entries, slot).result.take());
                    self.results.extend(results.map(|result| result.expect("downloaded once")));
                    self.downloading.extend(slots);
                    self.backend.download(slots, &mut self.results);
                }
            }
            let predicted_ns = self.scheduler.cost(LANE).predict_ns(stage, batch_len);
            *self.expected_ns.of_mut(stage) = now_ns.saturating_add(predicted_ns);
        }
        is_busy
    }

    /// Spins, or sleeps until something is committed, ends, is cancelled or is due.
    fn rest(&mut self, now_ns: u64, stop_at_ns: u64) {
        let mut due_ns = self.scheduler.poll_timeout().unwrap_or(NEVER_NS).min(stop_at_ns);
        if self.in_flight_len > 0 {
            due_ns = due_ns.min(self.watchdog.due_ns());
        }
        let spin_ns = in_ns(self.shared.spin);
        if spin_ns > 0 {
            // To be awake when work ends spares its answer a wake-up. Work that is late by more
            // than `spin` is left to its waker.
            let Stages { upload, compute, download } = self.expected_ns;
            let expected = [upload, compute, download].into_iter();
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
            return;
        }
        let mut unpublished_ns = NEVER_NS;
        if is_unpublished && now_ns <= publish_ns {
            // Copied before each sleep, statistics would cost the more the oftener it sleeps.
            unpublished_ns = publish_ns - now_ns + 1;
        } else if is_unpublished && !self.publish(now_ns) {
            return;
        }
        if !self.images.sleep() {
            return;
        }
        if self.in_flight_len > 0 {
            self.backend.before_sleep();
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
    }

    /// Answers everything that is left, and what is still committed meanwhile. No step of it keeps
    /// the others from being done.
    fn finish_all(mut self, end: End) {
        let ended = Ended(self.shared);
        let is_stalled = matches!(end, End::Stalled);
        let failure = match end {
            End::Stopped => Failure::ShutDown,
            End::Lost(fault) => self.lost(fault),
            End::Stalled => self.lost(self.watchdog.fault()),
        };
        self.images.close();
        self.shared.traces.end(&mut self.scheduler);
        let now_ns = self.shared.now_ns();
        for slot in 0..self.entries.len() {
            if self.entries[slot].is_some() {
                let _ = contain(|| self.finish(self.shared.now_ns(), slot as u32, Err(failure)));
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
        self.stats.read(&self.scheduler);
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = *self.stats;
        drop(ended);
        if is_stalled {
            std::mem::forget(self.backend);
            return;
        }
        let backend = self.backend;
        if let Err(text) = contain(|| drop(backend)) {
            let _ = contain(|| log::error!("the backend as it was dropped: {text}"));
        }
    }

    fn lost(&self, fault: Fault) -> Failure {
        let text = fault.to_string();
        // The reason first: whoever is refused finds it.
        let _ = self.shared.fault.set(fault);
        self.shared.refuse(Status::DeviceLost);
        let _ = contain(|| log::error!("the device is lost: {text}"));
        Failure::DeviceLost
    }

    /// Publishes the statistics; false if someone is just reading them.
    fn publish(&mut self, now_ns: u64) -> bool {
        self.stats.read(&self.scheduler);
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

/// The request of a slot that the scheduler or the backend speaks of.
fn entry(entries: &mut [Option<Entry>], slot: u32) -> &mut Entry {
    entries[slot as usize].as_mut().expect("a slot in use has a request")
}
