//! Slots of page-locked memory that producers write images into and the scheduling thread empties.
//!
//! Invariant: every slot is free or has exactly one owner, by type: a [`Lease`] or a [`Chain`], the
//! ring (it is committed, not yet taken), or a [`Slot`], which [`Reader`]s may read beside it.
//! Nothing here blocks or allocates after [`Ring::new`] and [`Ring::reader`]. Knows neither time
//! nor devices, nor what a request is. The protocol is C++ (`cuda/ring`); `docs/RING.md` argues it.
//!
//! ```
//! use twinstream::ring::{Ring, RingOptions};
//!
//! let (ring, mut consumer) = Ring::new(&RingOptions::new(4, 12))?;
//!
//! // On any thread: an image is written where the device will copy it from.
//! let mut lease = ring.lease()?;
//! lease.fill(7);
//! assert!(lease.commit("its name").is_ok());
//!
//! // On the consumer's.
//! let (slot, name) = consumer.take().expect("one was committed");
//! assert_eq!((ring.bytes(&slot), name), (&[7; 12][..], "its name"));
//! ring.release([slot]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
#[rustfmt::skip]
mod ffi;
mod lease;
mod reader;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

pub use chain::Chain;
pub use lease::{Closed, Committed, Lease};
pub use reader::Reader;

use crate::error::Result;
use crate::setters::setters;
use crate::stripe::Stripes;
use shared::Shared;

/// How a ring's pages are held in memory, the strongest kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Memory {
    /// Page-locked and registered with CUDA: copies run at full speed, beside the host.
    Cuda = 1,
    /// Locked by the system, never swapped out; CUDA would stage its copies.
    Locked = 2,
    /// Ordinary pages, faulted in.
    Plain = 3,
}

/// What a ring is made of; all of its limits.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RingOptions {
    /// Number of slots, 1 to 65,536.
    pub slot_len: u32,
    /// Bytes of a slot, at least 1. Slots lie [`Ring::stride_bytes`] apart.
    pub slot_bytes: usize,
    /// The weakest memory to accept: the strongest that is to be had is used, and
    /// [`Ring::memory`] says which.
    pub memory_weakest: Memory,
}

setters!(RingOptions { slot_len: u32, slot_bytes: usize, memory_weakest: Memory });

impl RingOptions {
    /// So many slots of so many bytes, in any memory.
    pub fn new(slot_len: u32, slot_bytes: usize) -> Self {
        Self { slot_len, slot_bytes, memory_weakest: Memory::Plain }
    }
}

/// No free slot was met: the caller sheds load or retries. A slot freed during the look around may
/// be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring is full")]
pub struct Full;

/// A handle of a ring: leases slots, reads taken ones and releases them, from any thread.
///
/// `T` is the request that travels with a slot's image. A ring of results uses leases alone: the
/// device writes into one, [`Lease::set`] says more about it, its reader drops it.
pub struct Ring<T> {
    shared: Arc<Shared<T>>,
    /// What leases that keep the ring alive hold.
    owned: Arc<Stripes<Arc<Shared<T>>>>,
}

/// The one taker of committed slots. Dropping it closes the ring: every later commit fails, and
/// what was committed and not taken is dropped.
pub struct Consumer<T> {
    ring: Ring<T>,
    /// Taken from the ring, not yet handed out.
    run: ffi::twinstream_run,
    /// What follows the slot that was handed out last: it goes before the run.
    chained: Option<u32>,
}

/// A taken slot, until it is handed to [`Ring::release`]; forgotten, it is lost to the ring.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a slot that is not released is lost to the ring"]
pub struct Slot {
    index: u32,
    ring_id: u64,
}

/// Taken slots that lie side by side: one copy to the device.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Number of the first slot.
    pub first: u32,
    /// Number of slots.
    pub len: u32,
    /// From the first slot's start to the last one's end; slots lie [`Ring::stride_bytes`] apart.
    pub bytes: &'a [u8],
}

/// How many forks lie between this process and the one that loaded the library: it tells a process
/// that was forked off from its parent. Costs no system call.
pub fn fork_count() -> u32 {
    // SAFETY: may be called by any thread at any time.
    unsafe { ffi::twinstream_ring_fork_count() }
}

impl<T> Ring<T> {
    /// Makes a ring, its handle and its consumer.
    ///
    /// # Errors
    /// `is_argument` when a size is out of range, `is_memory` when there is no memory of that kind.
    pub fn new(options: &RingOptions) -> Result<(Self, Consumer<T>)> {
        let shared = Arc::new(Shared::new(options)?);
        let ring = Self { owned: Arc::new(Stripes::new(&shared)), shared };
        let run = ffi::twinstream_run { first: 0, len: 0 };
        let consumer = Consumer { ring: ring.clone(), run, chained: None };
        Ok((ring, consumer))
    }

    /// Number of slots.
    pub fn slot_len(&self) -> u32 {
        self.shared.slot_len()
    }

    /// Number of slots that are leased, committed or taken, while others may change that.
    pub fn used_len(&self) -> u32 {
        self.shared.used_len()
    }

    /// Bytes of a slot.
    pub fn slot_bytes(&self) -> usize {
        self.shared.slot_bytes()
    }

    /// Bytes from one slot's start to the next one's: `slot_bytes` rounded up to a multiple of 64.
    pub fn stride_bytes(&self) -> usize {
        self.shared.stride_bytes()
    }

    /// How the pages are held.
    pub fn memory(&self) -> Memory {
        self.shared.memory()
    }

    /// Leases the next free slot. Never blocks.
    ///
    /// # Errors
    /// [`Full`] when no slot is free, or while slots are awaited.
    pub fn lease(&self) -> std::result::Result<Lease<'_, T>, Full> {
        let run = self.shared.lease(1, false).ok_or(Full)?;
        Ok(Lease::new(self, run.first))
    }

    /// A reader, nothing lent to it yet.
    pub fn reader(&self) -> Reader<T> {
        Reader::new(self)
    }

    /// A chain of no slots yet.
    pub fn chain(&self) -> Chain<T> {
        Chain::new(self.owned.get())
    }

    /// Announces that slots are awaited, or withdraws it, one thread at a time. Meanwhile free
    /// slots are for [`Chain::lease_next`] alone, and whoever frees one wakes the waker of
    /// [`Ring::set_freed_waker`]. A slot that was freed before the announcement is met by whoever
    /// leases after it.
    pub fn set_awaited(&self, is_awaited: bool) {
        self.shared.set_awaited(is_awaited);
    }

    /// Sets, once in the ring's life, who is woken when a slot is freed while slots are awaited: on
    /// the thread that frees it. It must not keep the ring alive.
    ///
    /// # Panics
    /// The second time.
    pub fn set_freed_waker(&self, waker: Waker) {
        assert!(self.shared.freed.set(waker).is_ok(), "the waker was set before");
    }

    /// Where the bytes of a slot lie, for the ring's life. Whoever reads or writes there sees to it
    /// that the slot's owner lets it.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn slot_ptr(&self, slot: u32) -> *mut u8 {
        self.shared.slot_ptr(slot)
    }

    /// The bytes of a taken slot.
    ///
    /// # Panics
    /// When the slot is another ring's.
    pub fn bytes<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        slot.check(self.shared.id);
        // SAFETY: the slot was taken from this ring, and cannot be released while borrowed.
        unsafe { self.shared.bytes(ffi::twinstream_run { first: slot.index, len: 1 }) }
    }

    /// `slots` gathered into runs wherever one follows its neighbour in the storage: the copies
    /// that a transfer of these slots takes. Sorted slots give the fewest.
    ///
    /// # Panics
    /// When a slot is another ring's, as the run with it is reached.
    pub fn runs<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = Run<'a>> {
        // SAFETY: the slots were taken from this ring, and cannot be released while borrowed.
        unsafe { self.shared.runs(self.shared.id, slots) }
    }

    /// Frees taken slots, in any order; neighbours that follow one another are freed together.
    /// Their transfers must have ended; one that is lent is free once its loans have ended.
    ///
    /// # Panics
    /// When a slot is another ring's.
    pub fn release(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut run = ffi::twinstream_run { first: 0, len: 0 };
        for slot in slots {
            slot.check(self.shared.id);
            if !self.shared.let_go(slot.index) {
                continue;
            }
            if run.len > 0 && slot.index == run.first + run.len {
                run.len += 1;
                continue;
            }
            self.release_run(run);
            run = ffi::twinstream_run { first: slot.index, len: 1 };
        }
        self.release_run(run);
    }

    fn release_run(&self, run: ffi::twinstream_run) {
        if run.len > 0 {
            // SAFETY: the run was gathered from taken slots, which `release` consumed.
            unsafe { self.shared.release(run) };
        }
    }
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owned: Arc::clone(&self.owned) }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("slot_len", &self.slot_len())
            .field("slot_bytes", &self.slot_bytes())
            .field("memory", &self.memory())
            .finish_non_exhaustive()
    }
}

impl<T> Consumer<T> {
    /// A handle of the ring.
    pub fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    /// Takes the next committed slot and its request: in the order of the storage, from where the
    /// last call left off, and a chain's slots one after the other. Never blocks; `None` when
    /// nothing is committed.
    pub fn take(&mut self) -> Option<(Slot, T)> {
        let index = self.chained.or_else(|| self.take_from_run())?;
        self.chained = self.ring.shared.unlink(index);
        // SAFETY: the slot was just taken, alone or with the first of its chain.
        let request = unsafe { self.ring.shared.request(index) };
        let slot = Slot { index, ring_id: self.ring.shared.id };
        Some((slot, request.expect("every commit stores a request")))
    }

    /// Whether further slots of a chain follow the one that was taken last: they are there.
    pub fn is_amid_chain(&self) -> bool {
        self.chained.is_some()
    }

    fn take_from_run(&mut self) -> Option<u32> {
        if self.run.len == 0 {
            // SAFETY: there is one consumer, and it is borrowed exclusively.
            self.run = unsafe { self.ring.shared.take(u32::MAX) };
        }
        self.run.len = self.run.len.checked_sub(1)?;
        self.run.first += 1;
        Some(self.run.first - 1)
    }

    /// Announces that this thread is about to block. When true, nothing is committed, and every
    /// commit from here on tells its producer to wake the consumer, until [`Consumer::wake`]. When
    /// false, there is something to take, and nothing was announced.
    #[must_use = "when false, the consumer must not block"]
    pub fn sleep(&mut self) -> bool {
        let is_empty = self.run.len == 0 && !self.is_amid_chain();
        // SAFETY: there is one consumer, and it is borrowed exclusively.
        is_empty && unsafe { self.ring.shared.sleep() }
    }

    /// Withdraws the announcement of [`Consumer::sleep`].
    pub fn wake(&mut self) {
        // SAFETY: there is one consumer, and it is borrowed exclusively.
        unsafe { self.ring.shared.wake() };
    }

    /// Refuses all later commits. What was committed before can still be taken, and once
    /// [`Consumer::take`] finds nothing, nothing will follow.
    pub fn close(&mut self) {
        // SAFETY: there is one consumer, and it is borrowed exclusively.
        unsafe { self.ring.shared.close() };
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.close();
        while let Some((slot, request)) = self.take() {
            // The slot first: dropping a request runs code of others.
            self.ring.release([slot]);
            drop(request);
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumer").field(&self.ring).finish()
    }
}

impl Slot {
    /// Number of the slot, from 0: its bytes begin `index * stride_bytes` into the ring's storage.
    pub fn index(&self) -> u32 {
        self.index
    }

    fn check(&self, id: u64) {
        assert_eq!(self.ring_id, id, "slot {} is another ring's, or another reader's", self.index);
    }
}
