//! What the scheduling thread, leases and tickets share.
//!
//! Invariant: `status` only moves forward. Knows nothing of scheduling.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::task::Wake;
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::announced::Board;
use super::answer::{Answered, Answers, Handler, outcome};
use super::cell::{Cell, Finished, Waiter};
use super::contain::contain;
use super::group;
use super::hashing::Hashing;
use super::options::{Failure, Refused};
use super::room::{Room, Wanted};
use super::stats::{CacheStats, Refusals, Stats};
use super::trace::Traces;
use crate::backend::{Fault, Geometry, ResultSlot};
use crate::ring::{self, Chain, Consumer, Ring};
use crate::sched::{Priority, Timing};

/// No stop was asked for.
pub(super) const NEVER_NS: u64 = u64::MAX;

/// In place of a group's first cell: it was handed in by itself.
pub(super) const ALONE: u32 = u32::MAX;

/// What travels with an image.
pub(super) struct Request {
    pub(super) committed_ns: u64,
    /// [`NEVER_NS`]: none.
    pub(super) deadline_ns: u64,
    pub(super) priority: Priority,
    /// Where it was announced.
    pub(super) place: u8,
    /// Whether there is a key of its image.
    pub(super) is_hashed: bool,
    /// The first cell of its group, or [`ALONE`].
    pub(super) group: u32,
    /// Where its result goes; its number is that of its cell.
    pub(super) result: ResultSlot,
    /// Who is called; none: a ticket waits.
    pub(super) handler: Option<(Arc<dyn Handler>, u64)>,
}

// It moves from a producer's core to the scheduling thread's, in as few cache lines as it has.
const _: () = assert!(size_of::<Option<Request>>() <= 64);

/// Image slots and as many result slots, or on the way there.
pub(super) struct Places {
    pub(super) images: Chain<Request>,
    pub(super) results: Chain<Timing>,
    /// How many there are to be.
    pub(super) len: u32,
}

impl Wanted for Places {
    fn fill(&mut self) -> bool {
        self.images.lease_next(self.len) && self.results.lease_next(self.len)
    }
}

/// Serves those who wait for slots, on the thread that frees one.
pub(super) struct Freed(pub(super) Weak<Shared>);

impl Wake for Freed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.serve_room();
        }
    }
}

/// How requests ended, by their numbers ([`Lease::number`](super::Lease::number)): for interfaces
/// whose callers hold numbers in place of tickets. Looking changes nothing and takes no lock.
#[derive(Clone)]
pub struct AnswerTable(pub(super) Arc<Shared>);

impl AnswerTable {
    /// How the request with this number ended, and where its result lies; none while it has no
    /// answer. That place holds the result until its ticket is dropped, which must not have been
    /// asked for the answer: then the number may be another request's. Of images that were handed
    /// over as one: how the whole ended, and where the result of the first lies.
    ///
    /// # Panics
    /// When no request can have this number.
    pub fn get(&self, number: u32) -> Option<Result<*const f32, Failure>> {
        let code = self.0.cells[number as usize].code()?;
        Some(self.answer(number, code))
    }

    /// The same of each image of the request with this number that has ended, in their order.
    ///
    /// # Panics
    /// When no request can have this number.
    pub fn images(&self, number: u32) -> impl Iterator<Item = Result<*const f32, Failure>> {
        let cells = &self.0.cells;
        // Whoever looks while another drops the ticket may go astray, but not for ever.
        group::members(cells, number)
            .take(cells.len())
            .map(|cell| self.answer(cell, cells[cell as usize].own_code()))
    }

    fn answer(&self, cell: u32, code: u8) -> Result<*const f32, Failure> {
        outcome(code).map(|()| self.0.results.slot_ptr(cell).cast::<f32>().cast_const())
    }
}

impl fmt::Debug for AnswerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerTable").field("len", &self.0.cells.len()).finish_non_exhaustive()
    }
}

/// What the scheduling thread alone holds.
pub(super) struct Receivers {
    pub(super) images: Consumer<Request>,
    pub(super) cancels: Receiver<u32>,
    /// By device: where its results land, if not in their requests' own slots.
    pub(super) landings: Vec<Option<Vec<ResultSlot>>>,
}

/// Wakes who waits for slots, whose code may panic on any thread that frees one.
pub(super) fn wake(waiter: Waiter) {
    if let Err(text) = contain(|| waiter.wake()) {
        let _ = contain(|| log::error!("a waker: {text}"));
    }
}

/// See [`Shared::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Running,
    ShutDown,
    DeviceLost,
}

pub(super) struct Shared {
    /// What all devices can do.
    pub(super) geometry: Geometry,
    pub(super) images: Ring<Request>,
    pub(super) results: Ring<Timing>,
    /// By result slot.
    pub(super) cells: Arc<[Cell<Answered>]>,
    /// Leases that are outstanding.
    pub(super) board: Board,
    /// None: images are not looked for among those seen before.
    pub(super) hashing: Option<Hashing>,
    /// Who waits for slots.
    pub(super) room: Room<Places>,
    /// Cells that the scheduling thread should look at; has room for each of them.
    pub(super) cancels: SyncSender<u32>,
    pub(super) start: Instant,
    /// Tells the process that serves from those that it forks off, see [`ring::fork_count`].
    pub(super) fork_count: u32,
    pub(super) spin: Duration,
    /// Set before anyone else can have a reference.
    pub(super) thread: OnceLock<Thread>,
    /// By when an engine that drains must have ended.
    pub(super) stop_at_ns: AtomicU64,
    /// What new requests are told.
    pub(super) status: AtomicU8,
    /// Why no device is left.
    pub(super) fault: OnceLock<Fault>,
    /// Why a device is lost, by device.
    pub(super) device_faults: Box<[OnceLock<Fault>]>,
    pub(super) stats: Mutex<Stats>,
    pub(super) traces: Traces,
    /// How often new requests were refused, by [`Refused`].
    pub(super) refusal_counts: [AtomicU64; Refused::LEN],
    /// Whether every request was answered and none will be accepted.
    pub(super) ended: Mutex<bool>,
    pub(super) ended_signal: Condvar,
}

impl Shared {
    pub(super) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(super) fn since_start_ns(&self, moment: Instant) -> u64 {
        let since_ns = moment.saturating_duration_since(self.start).as_nanos();
        since_ns.min(u128::from(NEVER_NS - 1)) as u64
    }

    /// None while requests are accepted.
    pub(super) fn refusal(&self) -> Option<Refused> {
        if self.is_forked() {
            return Some(Refused::Forked);
        }
        // Commits are refused by the ring itself; this says why and spares the try. Acquire:
        // whoever reads that the device is lost finds the fault.
        match self.status.load(Ordering::Acquire) {
            status if status == Status::Running as u8 => None,
            status if status == Status::ShutDown as u8 => Some(Refused::ShutDown),
            _ => Some(Refused::DeviceLost),
        }
    }

    /// How many images are asked for, if there can be so many at a time.
    pub(super) fn check_len(&self, len: usize) -> Result<u32, Refused> {
        let slot_len = self.images.slot_len();
        let len = u32::try_from(len).ok().filter(|len| (1..=slot_len).contains(len));
        len.ok_or(Refused::Len)
    }

    /// Counts a refusal, and hands it on.
    pub(super) fn count(&self, refused: Refused) -> Refused {
        self.refusal_counts[refused as usize].fetch_add(1, Ordering::Relaxed);
        refused
    }

    /// The statistics as of now.
    pub(super) fn stats(&self) -> Stats {
        let published = if self.is_forked() {
            // A thread that is not in this process may hold the lock.
            self.stats.try_lock().map(|stats| *stats).unwrap_or_default()
        } else {
            *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
        };
        let count =
            |refused: Refused| self.refusal_counts[refused as usize].load(Ordering::Relaxed);
        Stats {
            refused: Refusals {
                full: count(Refused::Full),
                size: count(Refused::Size),
                shut_down: count(Refused::ShutDown),
                device_lost: count(Refused::DeviceLost),
            },
            refusal: self.refusal(),
            slots_in_use: self.images.used_len(),
            slot_len: self.images.slot_len(),
            cache: CacheStats {
                is_on: self.hashing.as_ref().is_some_and(Hashing::is_on),
                ..published.cache
            },
            arrival_rate_hz: published.arrivals.rate_hz(self.now_ns()),
            ..published
        }
    }

    /// Whether this is a process that was forked off: the scheduling thread is not in it, so
    /// nothing is answered here.
    pub(super) fn is_forked(&self) -> bool {
        self.fork_count != ring::fork_count()
    }

    /// Moves the status forward.
    pub(super) fn refuse(&self, status: Status) {
        self.status.fetch_max(status as u8, Ordering::Release);
        if !self.is_forked() {
            self.room.wake_all(wake);
        }
    }

    /// Places for so many images, none leased yet.
    pub(super) fn no_places(&self, len: u32) -> Places {
        Places { images: self.images.chain(), results: self.results.chain(), len }
    }

    /// Gives free slots to those who wait for them.
    pub(super) fn serve_room(&self) {
        // A thread that is not in this process may hold the line.
        if !self.is_forked() {
            self.room.serve(wake);
        }
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Tells the caller of a request in `cell` how it ended, or of the whole group that it ends.
    pub(super) fn tell(
        &self,
        answered: Answered,
        (group, cell): (u32, u32),
        handler: Option<(Arc<dyn Handler>, u64)>,
    ) -> Finished {
        let code = answered.code();
        if group == ALONE {
            let Some((handler, tag)) = handler else {
                return self.cells[cell as usize].finish(answered, code);
            };
            handler.answered(tag, answered.into_answer());
            return Finished::Woke;
        }
        match (group::finish(&self.cells, group, cell, answered, code), handler) {
            (None, _) => Finished::Kept,
            (Some(finished), None) => finished,
            (Some(_), Some((handler, tag))) => {
                handler.answered_many(tag, Answers::new(&self.cells, group));
                Finished::Woke
            }
        }
    }

    /// Makes the scheduling thread look at a cell that is to be cancelled.
    pub(super) fn tell_cancel(&self, cell: u32) {
        if self.cells[cell as usize].announce_cancel() {
            // Cells announce themselves once until looked at, so there is room; it only fails when
            // the scheduling thread is gone, and with it every request.
            let _ = self.cancels.try_send(cell);
            self.wake();
        }
    }

    /// Asks the scheduling thread to end by then.
    pub(super) fn stop(&self, at_ns: u64) {
        self.refuse(Status::ShutDown);
        self.stop_at_ns.fetch_min(at_ns, Ordering::AcqRel);
        self.wake();
    }

    pub(super) fn set_ended(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended_signal.notify_all();
    }

    pub(super) fn wait_ended(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.ended_signal.wait_while(ended, |ended| !*ended);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}
