//! The engine: requests from any thread, one scheduling thread, one device or several.
//!
//! Invariant: each accepted request is answered exactly once, whatever the devices do, and after
//! the start the request path allocates nothing. Joins ring, scheduler and backends; which device
//! computes what and how batches are chosen it refuses to know. `docs/ENGINE.md` describes the
//! protocol.

mod announced;
mod answer;
mod arrivals;
mod cache;
mod calibrate;
mod cell;
mod contain;
mod driver;
mod entries;
mod group;
mod hashing;
mod histogram;
mod lane;
mod lease;
mod metrics;
mod options;
mod pin;
mod room;
mod shared;
mod stall;
mod stats;
mod sync;
mod ticket;
mod trace;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use answer::{Answer, Answers, Handler, Output};
pub use histogram::{LatencyHistogram, LengthHistogram};
pub use lease::{Lease, ManyLease};
pub use metrics::prometheus;
pub use options::{EngineOptions, Failure, Refused, RequestOptions};
pub use shared::AnswerTable;
pub use stats::{CacheStats, DeviceStats, Devices, Refusals, Stats};
pub use ticket::{ManyTicket, Ticket, spin_until};
pub use waiting::{LeaseFuture, ManyLeaseFuture};

use crate::backend::{Backend, Fault, Geometry, ResultSlot};
use crate::error::{Error, Kind, Result};
use crate::ring::{self, Ring, RingOptions};
use crate::sched::{Policy, Scheduler, Trace};
use crate::stripe::Stripes;
use announced::Board;
use cache::Kept;
use cell::Cell;
use hashing::Hashing;
use options::{DEVICE_LEN_MAX, SLOT_LEN_MAX, TRACE_LEN_MAX, WAITER_LEN_MAX};
use room::Room;
use shared::{Freed, NEVER_NS, Receivers, Shared, Status};
use trace::Traces;

/// A running engine. All calls may be made from any thread; to share it, wrap it in an `Arc`.
///
/// Dropping it ends every request that is left as [`Failure::ShutDown`]. It waits for work that the
/// device is in the middle of, without a limit: where a device hangs by then, so does this. To have
/// that told by [`EngineOptions::stall_timeout`], [`Engine::drain`] it first.
///
/// It belongs to the process that started it: start engines after forking. In a process that was
/// forked off later nothing is answered. Leases and commits are [`Refused::Forked`] there,
/// [`Ticket::wait`] and [`Engine::drain`] return at once, dropping the engine leaks it, and an
/// awaited ticket is never ready.
pub struct Engine {
    shared: Arc<Shared>,
    /// What leases and tickets hold.
    references: Stripes<Arc<Shared>>,
    geometry: Geometry,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Makes the rings, attaches the backend, times batches on it and starts to serve.
    ///
    /// # Errors
    /// `is_argument` when an option is out of range or the thread cannot be pinned to `core`,
    /// `is_memory` when there is not enough memory of the kind asked for, `is_device` when the
    /// device fails during calibration, `is_io` when the thread cannot be started; and what
    /// attaching the backend reports.
    pub fn start(backend: impl Into<Box<dyn Backend>>, options: &EngineOptions) -> Result<Self> {
        Self::start_with_policy(backend, options, options.policy.policy())
    }

    /// As [`Engine::start`], with a policy of the caller's own in place of `options.policy`.
    ///
    /// The scheduling thread asks it, between two things that it does: what takes long or blocks
    /// there delays every request, and a panic in it loses the device.
    ///
    /// ```
    /// use twinstream::backend::{Geometry, Null};
    /// use twinstream::engine::{Engine, EngineOptions, RequestOptions};
    /// use twinstream::sched::{Decision, Policy, Reason, View};
    ///
    /// /// No batch is longer than two.
    /// #[derive(Debug)]
    /// struct Pairs;
    ///
    /// impl Policy for Pairs {
    ///     fn upload(&self, view: &View<'_>) -> Decision {
    ///         Decision::Go { len: view.batch_len().min(2), reason: Reason::Idle }
    ///     }
    /// }
    ///
    /// let backend = Null::new(Geometry { image_bytes: 12, result_len: 10, batch_len_max: 8 });
    /// let options = EngineOptions::default();
    /// let engine = Engine::start_with_policy(backend, &options, Box::new(Pairs))?;
    /// let result = engine.submit(&[0; 12], RequestOptions::default())?.wait()?;
    /// assert_eq!(result.len(), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub fn start_with_policy(
        backend: impl Into<Box<dyn Backend>>,
        options: &EngineOptions,
        policy: Box<dyn Policy>,
    ) -> Result<Self> {
        Self::serve(vec![backend.into()], options, policy)
    }

    /// As [`Engine::start`], with several devices that serve one queue: which of them computes an
    /// image is decided when its upload starts. A device that is lost is left out, and what it had
    /// not answered is the others', see `docs/ENGINE.md`.
    ///
    /// Each is a backend of its own; they take images of the same size and give results of the same
    /// length, and no batch is longer than what all of them can do.
    ///
    /// ```
    /// use twinstream::backend::{Backend, Geometry, Null};
    /// use twinstream::engine::{Engine, EngineOptions, RequestOptions};
    ///
    /// let null = || Null::new(Geometry { image_bytes: 12, result_len: 10, batch_len_max: 8 });
    /// let engine =
    ///     Engine::start_all(vec![null().into(), null().into()], &EngineOptions::default())?;
    /// let result = engine.submit(&[0; 12], RequestOptions::default())?.wait()?;
    /// assert_eq!(result.len(), 10);
    /// assert_eq!(engine.stats().devices.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Engine::start`], naming the device by its place from 0; and `is_argument` where
    /// there is no backend, where there are more than 32, or where their sizes differ.
    pub fn start_all(backends: Vec<Box<dyn Backend>>, options: &EngineOptions) -> Result<Self> {
        Self::serve(backends, options, options.policy.policy())
    }

    fn serve(
        backends: Vec<Box<dyn Backend>>,
        options: &EngineOptions,
        policy: Box<dyn Policy>,
    ) -> Result<Self> {
        let geometry = common_geometry(&backends)?;
        check(options, geometry)?;
        let (lane_len, mut built) = (backends.len(), None);
        with_host_memory(&backends, &mut || built = Some(build(options, geometry, lane_len)));
        let (shared, receivers) = built.expect("the backends let memory be made")?;
        let options = *options;
        let (started, is_started) = mpsc::sync_channel(1);
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("twinstream".to_owned())
            .spawn(move || {
                driver::serve((backends, policy), &for_thread, receivers, &options, &started);
            })
            .map_err(|error| {
                Error::new(Kind::Io, format!("cannot start the scheduling thread: {error}"))
                    .with_source(error)
            })?;
        // From here on dropping the engine ends the thread.
        let references = Stripes::new(&shared);
        let engine = Self { shared, references, geometry, thread: Some(thread) };
        match is_started.recv() {
            Ok(outcome) => outcome.map(|()| engine),
            Err(_) => Err(Error::new(Kind::Device, "the backend panicked as it was started")),
        }
    }

    /// A slot for one image; never blocks.
    ///
    /// # Errors
    /// [`Refused::Full`] when every slot is in use; [`Refused::ShutDown`] or
    /// [`Refused::DeviceLost`], for good; [`Refused::Forked`] in a process that was forked off.
    pub fn lease(&self) -> std::result::Result<Lease, Refused> {
        Lease::new(self.references.get()).map_err(|refused| self.shared.count(refused))
    }

    /// Copies an image (u8 RGB, height x width x 3) and hands it over; never blocks.
    ///
    /// # Errors
    /// [`Refused::Size`], and as for [`Engine::lease`].
    pub fn submit(
        &self,
        image: &[u8],
        options: RequestOptions,
    ) -> std::result::Result<Ticket, Refused> {
        if image.len() != self.geometry.image_bytes {
            return Err(self.refused(Refused::Size));
        }
        let mut lease = self.lease()?;
        lease.copy_from_slice(image);
        lease.commit(options)
    }

    /// Slots for `len` images that are handed over as one; never blocks. It takes all or none:
    /// where too few are free, those that it met are free again.
    ///
    /// Calls at the same time may meet half of the slots each and both be refused, though either
    /// would have fitted by itself; none of them waits for another.
    ///
    /// # Errors
    /// [`Refused::Len`] when `len` is 0 or above
    /// [`EngineOptions::slot_len`](EngineOptions#structfield.slot_len), and as for
    /// [`Engine::lease`].
    pub fn lease_many(&self, len: usize) -> std::result::Result<ManyLease, Refused> {
        let leased = ManyLease::new(&self.references.get(), len);
        leased.map_err(|refused| self.shared.count(refused))
    }

    /// As [`Engine::lease`], but where every slot is in use it waits for one, no longer than
    /// `timeout`.
    ///
    /// Callers that wait are served in the order of their coming, and before those that don't: as
    /// long as one waits, [`Engine::lease`] is [`Refused::Full`]. A slot that the caller itself
    /// holds does not come back meanwhile. From a [`Handler`] it does not wait.
    ///
    /// # Errors
    /// [`Refused::Full`] at the timeout, or at once where 1,024 others wait; [`Refused::ShutDown`],
    /// [`Refused::DeviceLost`] and [`Refused::Forked`], which also end the wait.
    pub fn lease_timeout(&self, timeout: Duration) -> std::result::Result<Lease, Refused> {
        // Most of the time there is one.
        match Lease::new(self.references.get()) {
            Err(Refused::Full) => self.wait_for_room(1, timeout).map(ManyLease::into_one),
            leased => leased.map_err(|refused| self.shared.count(refused)),
        }
    }

    /// As [`Engine::lease_many`], but where too few slots are free it waits for them, no longer
    /// than `timeout`. The first in line keeps those that come free until it has enough, and nobody
    /// behind it holds any: however many are wanted, they come together once others let them go.
    ///
    /// # Errors
    /// [`Refused::Len`], and as for [`Engine::lease_timeout`].
    pub fn lease_many_timeout(
        &self,
        len: usize,
        timeout: Duration,
    ) -> std::result::Result<ManyLease, Refused> {
        match ManyLease::new(&self.references.get(), len) {
            Err(Refused::Full) => self.wait_for_room(len, timeout),
            leased => leased.map_err(|refused| self.shared.count(refused)),
        }
    }

    fn wait_for_room(
        &self,
        len: usize,
        timeout: Duration,
    ) -> std::result::Result<ManyLease, Refused> {
        match self.is_own_thread() {
            true => Err(self.shared.count(Refused::Full)),
            false => ManyLeaseFuture::new(self.references.get(), len).block(timeout),
        }
    }

    /// As [`Engine::lease_timeout`] without a timeout, as a future: it joins the line when it is
    /// first polled, and leaves it when it is dropped. It is woken when its lease is there, which
    /// is held from then on.
    pub fn lease_async(&self) -> LeaseFuture {
        LeaseFuture::new(self.references.get())
    }

    /// As [`Engine::lease_many_timeout`] without a timeout, as a future like that of
    /// [`Engine::lease_async`].
    pub fn lease_many_async(&self, len: usize) -> ManyLeaseFuture {
        ManyLeaseFuture::new(self.references.get(), len)
    }

    /// Copies images (u8 RGB, n x height x width x 3) and hands them over as one; never blocks.
    ///
    /// ```
    /// use twinstream::backend::{Geometry, Null};
    /// use twinstream::engine::{Engine, EngineOptions, RequestOptions};
    ///
    /// let backend = Null::new(Geometry { image_bytes: 12, result_len: 10, batch_len_max: 8 });
    /// let engine = Engine::start(backend, &EngineOptions::default())?;
    /// let answers = engine.submit_many(&[0; 5 * 12], RequestOptions::default())?.wait();
    /// assert_eq!(answers.len(), 5);
    /// for answer in answers {
    ///     assert_eq!(answer?.len(), 10);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Refused::Size`] when these are no whole images, and as for [`Engine::lease_many`].
    pub fn submit_many(
        &self,
        images: &[u8],
        options: RequestOptions,
    ) -> std::result::Result<ManyTicket, Refused> {
        let image_bytes = self.geometry.image_bytes;
        if !images.len().is_multiple_of(image_bytes) {
            return Err(self.refused(Refused::Size));
        }
        let mut lease = self.lease_many(images.len() / image_bytes)?;
        for (place, image) in lease.images_mut().zip(images.chunks(image_bytes)) {
            place.copy_from_slice(image);
        }
        lease.commit(options)
    }

    /// Counts a refusal that the engine did not see itself, and hands it on: for interfaces around
    /// it that check and limit too.
    pub fn refused(&self, refused: Refused) -> Refused {
        self.shared.count(refused)
    }

    /// Where answers can be looked at by number.
    pub fn answer_table(&self) -> AnswerTable {
        AnswerTable(Arc::clone(&self.shared))
    }

    /// Sizes of images and results.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What it has done so far. In a process that was forked off: until then, or nothing if it was
    /// just being counted.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Takes the trace: the latest [`EngineOptions::trace_len`] events since it was last taken, on
    /// the clock of [`Output::timing`]. None where nothing is recorded, from a [`Handler`], and in
    /// a process that was forked off.
    ///
    /// Makes an empty trace of that length and waits until the scheduling thread has taken it,
    /// between two things that it does; no request waits for that. Once the engine has ended it
    /// gives what is left.
    pub fn take_trace(&self) -> Option<Trace> {
        if self.shared.is_forked() || self.is_own_thread() {
            return None;
        }
        self.shared.traces.take(|| self.shared.wake())
    }

    /// Why requests are refused for good; none while they are accepted.
    pub fn refusal(&self) -> Option<Refused> {
        self.shared.refusal()
    }

    /// Why the device is lost, of several the last one; none while one serves.
    pub fn fault(&self) -> Option<&Fault> {
        self.shared.fault.get()
    }

    /// Devices that are lost, by their place among the backends, and why. The others serve on.
    pub fn device_faults(&self) -> impl Iterator<Item = (usize, &Fault)> {
        let faults = self.shared.device_faults.iter().enumerate();
        faults.filter_map(|(device, fault)| Some((device, fault.get()?)))
    }

    /// Refuses further requests, waits until the accepted ones have ended, but no longer than
    /// `timeout`, and ends the rest as [`Failure::ShutDown`]. True if there was no rest; requests
    /// that ended as [`Failure::DeviceLost`] are none, see [`Engine::fault`]. From a [`Handler`],
    /// and in a process that was forked off, it does not wait, and answers false.
    ///
    /// A request counts as accepted when its commit succeeded. Once this has returned, leases that
    /// are still held are refused at their commit.
    pub fn drain(&self, timeout: Duration) -> bool {
        if self.shared.is_forked() {
            return false;
        }
        let until = Instant::now().checked_add(timeout);
        let at_ns = until.map_or(NEVER_NS - 1, |until| self.shared.since_start_ns(until));
        self.shared.stop(at_ns);
        if self.is_own_thread() {
            return false;
        }
        self.shared.wait_ended();
        self.stats().shut_down == 0
    }

    fn is_own_thread(&self) -> bool {
        self.shared.thread.get().is_some_and(|own| own.id() == thread::current().id())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // Thread, device and locked memory are the other process's: none is to be let go here.
            std::mem::forget((self.thread.take(), Arc::clone(&self.shared)));
            return;
        }
        self.shared.stop(0);
        // A handler may own the engine: its thread ends by itself then.
        if !self.is_own_thread()
            && let Some(thread) = self.thread.take()
        {
            // Panics were caught and reported.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

/// The sizes that all backends work with.
fn common_geometry(backends: &[Box<dyn Backend>]) -> Result<Geometry> {
    let refused = |message| Err(Error::new(Kind::Argument, message));
    if !(1..=DEVICE_LEN_MAX).contains(&backends.len()) {
        let len = backends.len();
        return refused(format!("{len} backends: an engine has from 1 to {DEVICE_LEN_MAX}"));
    }
    let mut common = backends[0].geometry();
    for (place, backend) in backends.iter().enumerate() {
        let own = backend.geometry();
        if (own.image_bytes, own.result_len) != (common.image_bytes, common.result_len) {
            return refused(format!(
                "device {place}: images of {} bytes and results of {} values, where device 0 has \
                 {} and {}: all devices of an engine compute the same network at the same size",
                own.image_bytes, own.result_len, common.image_bytes, common.result_len
            ));
        }
        common.batch_len_max = common.batch_len_max.min(own.batch_len_max);
    }
    Ok(common)
}

/// Has `make` allocate memory that all devices can copy from and to at full speed.
fn with_host_memory(backends: &[Box<dyn Backend>], make: &mut dyn FnMut()) {
    match backends.split_first() {
        Some((first, rest)) => first.with_host_memory(&mut || with_host_memory(rest, make)),
        None => make(),
    }
}

fn check(options: &EngineOptions, geometry: Geometry) -> Result<()> {
    let slot_len = options.slot_len;
    if !(1..=SLOT_LEN_MAX).contains(&slot_len) {
        let message = format!("{slot_len} slots: must be from 1 to {SLOT_LEN_MAX}");
        return Err(Error::new(Kind::Argument, message));
    }
    if options.stall_timeout.is_zero() {
        let message = "stall_timeout is 0: it would give up every device at once";
        return Err(Error::new(Kind::Argument, message));
    }
    if options.trace_len > TRACE_LEN_MAX {
        let message = format!("trace_len is {}: must be up to {TRACE_LEN_MAX}", options.trace_len);
        return Err(Error::new(Kind::Argument, message));
    }
    if options.batch_len_max == 0 || geometry.batch_len_max == 0 {
        return Err(Error::new(Kind::Argument, "the longest batch must hold at least one image"));
    }
    let answer_bytes = Kept::answer_bytes(geometry.result_len * size_of::<f32>());
    if options.cache_bytes > 0 && options.cache_bytes < 2 * answer_bytes {
        let message = format!(
            "cache_bytes is {}: two answers of {answer_bytes} bytes are the least; 0 keeps none",
            options.cache_bytes
        );
        return Err(Error::new(Kind::Argument, message));
    }
    Ok(())
}

fn build(
    options: &EngineOptions,
    geometry: Geometry,
    lane_len: usize,
) -> Result<(Arc<Shared>, Receivers)> {
    let memory_weakest = options.memory_weakest;
    let slot_len = options.slot_len as u32;
    let (images, consumer) =
        Ring::new(&RingOptions { slot_len, slot_bytes: geometry.image_bytes, memory_weakest })?;
    let (result_slot_len, slot_bytes) = (2 * slot_len, geometry.result_len * size_of::<f32>());
    // Results are only leased; nothing is ever committed to this ring.
    let (results, _) =
        Ring::new(&RingOptions { slot_len: result_slot_len, slot_bytes, memory_weakest })?;
    let landings = (0..lane_len).map(|_| landings(options, geometry, lane_len));
    let landings = landings.collect::<Result<_>>()?;
    let has_cache = options.cache_bytes > 0;
    let hashing = has_cache.then(|| Hashing::new(options.slot_len)).transpose()?;
    let (cancels, to_cancel) = mpsc::sync_channel(result_slot_len as usize);
    let rings = (images.clone(), results.clone());
    let set_awaited = move |is_awaited| {
        rings.0.set_awaited(is_awaited);
        rings.1.set_awaited(is_awaited);
    };
    let shared = Arc::new(Shared {
        geometry,
        board: Board::new(),
        hashing,
        room: Room::new(WAITER_LEN_MAX, Box::new(set_awaited)),
        images,
        results,
        cells: (0..result_slot_len).map(|_| Cell::new()).collect(),
        cancels,
        start: Instant::now(),
        fork_count: ring::fork_count(),
        spin: options.spin,
        thread: OnceLock::new(),
        stop_at_ns: AtomicU64::new(NEVER_NS),
        status: AtomicU8::new(Status::Running as u8),
        fault: OnceLock::new(),
        device_faults: (0..lane_len).map(|_| OnceLock::new()).collect(),
        stats: Mutex::new(Stats::default()),
        traces: Traces::new(options.trace_len),
        refusal_counts: [const { AtomicU64::new(0) }; Refused::LEN],
        ended: Mutex::new(false),
        ended_signal: Condvar::new(),
    });
    let freed = Waker::from(Arc::new(Freed(Arc::downgrade(&shared))));
    shared.images.set_freed_waker(freed.clone());
    shared.results.set_freed_waker(freed);
    Ok((shared, Receivers { images: consumer, cancels: to_cancel, landings }))
}

/// Where the results of one device of several land: one that is lost, and may write for ever, must
/// not have what requests need. Enough for all batches that it may be asked to download.
fn landings(
    options: &EngineOptions,
    geometry: Geometry,
    lane_len: usize,
) -> Result<Option<Vec<ResultSlot>>> {
    if lane_len == 1 {
        return Ok(None);
    }
    let batch_len_max = options.batch_len_max.min(geometry.batch_len_max);
    let slot_len = Scheduler::DEPTH.saturating_mul(batch_len_max).min(options.slot_len) as u32;
    let slot_bytes = geometry.result_len * size_of::<f32>();
    let memory_weakest = options.memory_weakest;
    let (ring, _) = Ring::new(&RingOptions { slot_len, slot_bytes, memory_weakest })?;
    let free = || ring.lease().expect("all are free").into_owned();
    Ok(Some((0..slot_len).map(|_| free()).collect()))
}
