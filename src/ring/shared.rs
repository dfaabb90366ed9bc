//! What all handles of a ring share: the C++ ring and the request that goes with each slot.
//!
//! Invariant: a slot's bytes and its request are touched only by whoever leased or took it; every
//! `unsafe fn` below demands that of its caller. Refuses to know when anything happens.

use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use super::ffi::{self, twinstream_run as Run};
use super::{Memory, RingOptions, Slot};
use crate::error::{Error, Kind, Result};

/// Tells rings and readers apart. A 64-bit count does not come round.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// In the count of a slot's loans: its owner has let it go.
const LET_GO: u32 = 1 << 31;

/// No slot follows.
const NO_SLOT: u32 = u32::MAX;

pub(super) struct Shared<T> {
    ring: NonNull<ffi::twinstream_ring>,
    layout: ffi::twinstream_ring_layout,
    slot_bytes: usize,
    pub(super) id: u64,
    requests: Box<[Request<T>]>,
    /// By slot: the next one of its chain, a matter of its owner alone. None follows a slot that is
    /// free, leased by itself or handed out.
    links: Box<[AtomicU32]>,
    /// By slot: its loans, and whether its owner let it go before they ended.
    loans: Box<[AtomicU32]>,
    /// Woken by who frees a slot while slots are awaited.
    pub(super) freed: OnceLock<Waker>,
}

/// The request that a slot carries, apart from its neighbours': a producer that stores one must not
/// slow down the consumer that reads the one before.
#[repr(align(64))]
struct Request<T>(UnsafeCell<Option<T>>);

// SAFETY: the C++ ring and its pages belong to no thread, and requests may move between threads.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: the C++ ring's functions may run on several threads at once, as their contracts say; a
// request is reached only by the one owner of its slot, and ownership passes with release/acquire.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(options: &RingOptions) -> Result<Self> {
        let RingOptions { slot_len, slot_bytes, memory_weakest } = *options;
        let mut ring = ptr::null_mut();
        // SAFETY: `ring` is a place to store a pointer in.
        let status = unsafe {
            ffi::twinstream_ring_create(
                slot_len,
                slot_bytes as u64,
                memory_weakest as u32,
                &mut ring,
            )
        };
        let sizes = format!("ring of {slot_len} slots of {slot_bytes} bytes");
        let ring = match (status.cast_unsigned(), NonNull::new(ring)) {
            (ffi::TWINSTREAM_RING_OK, Some(ring)) => ring,
            (ffi::TWINSTREAM_RING_ARGUMENT, _) => {
                let message = format!(
                    "{sizes}: both must be positive, the slots at most {}, and all bytes \
                     addressable",
                    ffi::TWINSTREAM_RING_SLOT_LEN_MAX
                );
                return Err(Error::new(Kind::Argument, message));
            }
            _ => {
                debug_assert_eq!(status.cast_unsigned(), ffi::TWINSTREAM_RING_MEMORY);
                let message = format!("{sizes}: no memory of kind {memory_weakest:?} or better");
                return Err(Error::new(Kind::Memory, message));
            }
        };
        let mut layout = ffi::twinstream_ring_layout {
            base: ptr::null_mut(),
            stride_bytes: 0,
            slot_len: 0,
            memory: 0,
        };
        // SAFETY: the ring was just made; `layout` is a place to store one in.
        unsafe { ffi::twinstream_ring_describe(ring.as_ptr(), &mut layout) };
        let requests = (0..slot_len).map(|_| Request(UnsafeCell::new(None))).collect();
        let links = (0..slot_len).map(|_| AtomicU32::new(NO_SLOT)).collect();
        let loans = (0..slot_len).map(|_| AtomicU32::new(0)).collect();
        let id = Self::new_id();
        Ok(Self { ring, layout, slot_bytes, id, requests, links, loans, freed: OnceLock::new() })
    }

    /// Which no other ring or reader has.
    pub(super) fn new_id() -> u64 {
        NEXT_ID.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn slot_len(&self) -> u32 {
        self.layout.slot_len
    }

    pub(super) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    pub(super) fn stride_bytes(&self) -> usize {
        // The whole storage is addressable, so its stride fits.
        self.layout.stride_bytes as usize
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.layout.base
    }

    pub(super) fn memory(&self) -> Memory {
        match self.layout.memory {
            memory if memory == Memory::Cuda as u32 => Memory::Cuda,
            memory if memory == Memory::Locked as u32 => Memory::Locked,
            _ => Memory::Plain,
        }
    }

    pub(super) fn used_len(&self) -> u32 {
        // SAFETY: the ring lives; any thread may count.
        unsafe { ffi::twinstream_ring_used_len(self.ring.as_ptr()) }
    }

    /// Leases adjacent slots, `len_max` at most and more than 0; `None` where no free one was met,
    /// or where slots are awaited and the caller isn't `is_next`.
    pub(super) fn lease(&self, len_max: u32, is_next: bool) -> Option<Run> {
        let mut run = Run { first: 0, len: 0 };
        let (ring, is_next) = (self.ring.as_ptr(), is_next.into());
        // SAFETY: the ring lives; any thread may lease.
        let status = unsafe { ffi::twinstream_ring_lease(ring, len_max, is_next, &mut run) };
        match status.cast_unsigned() {
            ffi::TWINSTREAM_RING_OK => Some(run),
            status => {
                debug_assert_eq!(status, ffi::TWINSTREAM_RING_FULL);
                None
            }
        }
    }

    /// Has `next` follow `slot`, for the owner of both.
    pub(super) fn link(&self, slot: u32, next: u32) {
        // Relaxed, here and below: it passes from owner to owner as the slot's bytes do.
        self.links[slot as usize].store(next, Ordering::Relaxed);
    }

    /// What follows a slot, for its owner.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        let next = self.links[slot as usize].load(Ordering::Relaxed);
        (next != NO_SLOT).then_some(next)
    }

    /// What follows a slot, and no more from here on, for its owner.
    pub(super) fn unlink(&self, slot: u32) -> Option<u32> {
        let next = self.next(slot);
        if next.is_some() {
            self.link(slot, NO_SLOT);
        }
        next
    }

    /// Commits a slot with its request: whether the consumer must be woken, or the request back
    /// where the ring is closed.
    ///
    /// # Safety
    /// The caller leased `slot` and what follows it and, unless handed the request back, gives up
    /// their ownership.
    pub(super) unsafe fn commit(&self, slot: u32, request: T) -> std::result::Result<bool, T> {
        let place = self.requests[slot as usize].0.get();
        // SAFETY: the slot's owner alone reaches its request.
        unsafe { *place = Some(request) };
        let mut consumer_sleeps = 0;
        // SAFETY: the ring lives, and the caller leased the slot.
        let status =
            unsafe { ffi::twinstream_ring_commit(self.ring.as_ptr(), slot, &mut consumer_sleeps) };
        if status.cast_unsigned() == ffi::TWINSTREAM_RING_CLOSED {
            // SAFETY: the slot is still the caller's.
            let request = unsafe { (*place).take() };
            return Err(request.expect("the request was just stored"));
        }
        debug_assert_eq!(status.cast_unsigned(), ffi::TWINSTREAM_RING_OK);
        Ok(consumer_sleeps != 0)
    }

    /// Stores a slot's request.
    ///
    /// # Safety
    /// The caller leased `slot`, and nobody borrows its request.
    pub(super) unsafe fn set_request(&self, slot: u32, request: T) {
        // SAFETY: the slot's owner alone reaches its request.
        unsafe { *self.requests[slot as usize].0.get() = Some(request) };
    }

    /// A slot's request, as it was last stored and not taken.
    ///
    /// # Safety
    /// The caller leased `slot`, and stores no request as long as this one is borrowed.
    pub(super) unsafe fn stored_request(&self, slot: u32) -> Option<&T> {
        // SAFETY: the slot's owner alone reaches its request.
        unsafe { (*self.requests[slot as usize].0.get()).as_ref() }
    }

    /// Takes adjacent committed slots; none where the length is 0.
    ///
    /// # Safety
    /// No other thread takes, sleeps, wakes or closes at the same time.
    pub(super) unsafe fn take(&self, len_max: u32) -> Run {
        let mut run = Run { first: 0, len: 0 };
        // SAFETY: the ring lives; the caller is the consumer.
        unsafe { ffi::twinstream_ring_take(self.ring.as_ptr(), len_max, &mut run) };
        run
    }

    /// The request that was committed with a slot, once.
    ///
    /// # Safety
    /// The caller took `slot`.
    pub(super) unsafe fn request(&self, slot: u32) -> Option<T> {
        // SAFETY: the slot's owner alone reaches its request.
        unsafe { (*self.requests[slot as usize].0.get()).take() }
    }

    /// Frees slots.
    ///
    /// # Safety
    /// The caller leased or took every slot of the run, and gives up their ownership.
    pub(super) unsafe fn release(&self, run: Run) {
        let mut is_awaited = 0;
        // SAFETY: the ring lives; any thread may release what it owns.
        let status =
            unsafe { ffi::twinstream_ring_release(self.ring.as_ptr(), run, &mut is_awaited) };
        debug_assert_eq!(status.cast_unsigned(), ffi::TWINSTREAM_RING_OK, "{run:?}");
        if is_awaited != 0
            && let Some(waker) = self.freed.get()
        {
            waker.wake_by_ref();
        }
    }

    /// Lends a slot, for its owner.
    pub(super) fn begin_loan(&self, slot: u32) {
        // Relaxed: the owner lets the slot go after this.
        self.loans[slot as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a loan, and frees the slot if that was all that it was kept for.
    pub(super) fn end_loan(&self, slot: u32) {
        let loans = &self.loans[slot as usize];
        // Release: what was read was read before. Acquire: by the others, too.
        if loans.fetch_sub(1, Ordering::AcqRel) == LET_GO | 1 {
            loans.store(0, Ordering::Relaxed);
            // SAFETY: the owner gave up the slot's ownership with `LET_GO`, and nobody else has it.
            unsafe { self.release(Run { first: slot, len: 1 }) };
        }
    }

    /// Whether a taken slot may be freed now, for its owner, who gives it up in any case: where
    /// not, the end of its last loan frees it.
    pub(super) fn let_go(&self, slot: u32) -> bool {
        let loans = &self.loans[slot as usize];
        // Acquire: what was read on loan was read before. Nobody but the owner lends.
        if loans.load(Ordering::Acquire) == 0 {
            return true;
        }
        let is_alone = loans.fetch_or(LET_GO, Ordering::AcqRel) == 0;
        if is_alone {
            loans.store(0, Ordering::Relaxed);
        }
        is_alone
    }

    pub(super) fn set_awaited(&self, is_awaited: bool) {
        // SAFETY: the ring lives; any thread may announce it.
        unsafe { ffi::twinstream_ring_await(self.ring.as_ptr(), is_awaited.into()) };
    }

    /// # Safety
    /// As for [`Shared::take`].
    pub(super) unsafe fn sleep(&self) -> bool {
        // SAFETY: the ring lives; the caller is the consumer.
        unsafe { ffi::twinstream_ring_sleep(self.ring.as_ptr()) != 0 }
    }

    /// # Safety
    /// As for [`Shared::take`].
    pub(super) unsafe fn wake(&self) {
        // SAFETY: the ring lives; the caller is the consumer.
        unsafe { ffi::twinstream_ring_wake(self.ring.as_ptr()) };
    }

    /// # Safety
    /// As for [`Shared::take`].
    pub(super) unsafe fn close(&self) {
        // SAFETY: the ring lives; the caller is the consumer.
        unsafe { ffi::twinstream_ring_close(self.ring.as_ptr()) };
    }

    /// The slots of a run and what lies between them.
    ///
    /// # Safety
    /// The caller owns every slot of the run for as long as it keeps the bytes, and nothing writes
    /// to them meanwhile.
    pub(super) unsafe fn bytes(&self, run: Run) -> &[u8] {
        let (start, len) = self.place(run);
        // SAFETY: within the zeroed storage, owned by the caller, not written meanwhile.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// Slots of the ring or the reader with this `id`, gathered into runs.
    ///
    /// # Safety
    /// As for [`Shared::bytes`], of every one of these slots that has this `id`.
    pub(super) unsafe fn runs<'a>(
        &'a self,
        id: u64,
        slots: &'a [Slot],
    ) -> impl Iterator<Item = super::Run<'a>> {
        slots.chunk_by(|one, next| one.index() + 1 == next.index()).map(move |slots| {
            slots.iter().for_each(|slot| slot.check(id));
            let (first, len) = (slots[0].index(), slots.len() as u32);
            // SAFETY: the caller's word, and checked to be such slots.
            super::Run { first, len, bytes: unsafe { self.bytes(Run { first, len }) } }
        })
    }

    /// The bytes of one slot.
    ///
    /// # Safety
    /// The caller owns the slot for as long as it keeps the bytes, and nothing else reaches them.
    #[expect(clippy::mut_from_ref, reason = "exclusive by the slot's ownership, not by a borrow")]
    pub(super) unsafe fn bytes_mut(&self, slot: u32) -> &mut [u8] {
        // SAFETY: within the zeroed storage, owned by the caller alone.
        unsafe { slice::from_raw_parts_mut(self.slot_ptr(slot), self.slot_bytes) }
    }

    /// Where a slot begins.
    pub(super) fn slot_ptr(&self, slot: u32) -> *mut u8 {
        self.place(Run { first: slot, len: 1 }).0
    }

    /// Where a run begins, and its bytes up to the last slot's end.
    fn place(&self, run: Run) -> (*mut u8, usize) {
        let end = run.first as usize + run.len as usize;
        assert!(run.len > 0 && end <= self.slot_len() as usize, "{run:?} lies outside the ring");
        let offset = run.first as usize * self.stride_bytes();
        let len = (run.len as usize - 1) * self.stride_bytes() + self.slot_bytes;
        // SAFETY: asserted above to begin within the storage.
        (unsafe { self.base().add(offset) }, len)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the last handle is gone, and with it every lease and borrow of the bytes.
        unsafe { ffi::twinstream_ring_destroy(self.ring.as_ptr()) };
    }
}
