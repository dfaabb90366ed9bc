//! Taken slots on loan: others than their owner read them too.
//!
//! Invariant: a slot is not free before its owner has released it and every loan of it has ended. A
//! loan ends when its slot comes back or its reader is gone, whichever is first; one of a reader
//! that is forgotten never ends. Knows nothing of who reads and why.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ffi::twinstream_run;
use super::shared::Shared;
use super::{Ring, Run, Slot};

/// Reads slots of a ring that were lent to it, and no others: a device may be given one, and be
/// left with it for good.
///
/// ```
/// use twinstream::ring::{Ring, RingOptions};
///
/// let (ring, mut consumer) = Ring::new(&RingOptions::new(1, 12))?;
/// assert!(ring.lease()?.commit(()).is_ok());
/// let (slot, ()) = consumer.take().expect("one was committed");
///
/// let reader = ring.reader();
/// let lent = reader.lend(&slot);
/// ring.release([slot]);
/// assert!(ring.lease().is_err(), "it may still be read");
/// reader.take_back([lent]);
/// assert!(ring.lease().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// Tells it from rings and other readers: what is lent to it nobody else reads.
    id: u64,
    /// By slot: whether this reader has it.
    lent: Box<[AtomicBool]>,
}

impl<T> Reader<T> {
    pub(super) fn new(ring: &Ring<T>) -> Self {
        let lent = (0..ring.slot_len()).map(|_| AtomicBool::new(false)).collect();
        Self { shared: Arc::clone(&ring.shared), id: Shared::<T>::new_id(), lent }
    }

    /// A taken slot for this reader: the same image, until it is taken back.
    ///
    /// # Panics
    /// When the slot is another ring's, or lent to this reader already.
    pub fn lend(&self, slot: &Slot) -> Slot {
        slot.check(self.shared.id);
        let lent = &self.lent[slot.index as usize];
        // Relaxed, here and below: the count of the slot's loans orders what is read.
        assert!(!lent.load(Ordering::Relaxed), "slot {} is lent already", slot.index);
        lent.store(true, Ordering::Relaxed);
        self.shared.begin_loan(slot.index);
        Slot { index: slot.index, ring_id: self.id }
    }

    /// Ends the loans of slots, whose reading must have ended.
    ///
    /// # Panics
    /// When a slot was not lent to this reader.
    pub fn take_back(&self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            slot.check(self.id);
            self.end(slot.index);
        }
    }

    /// Ends a loan, if there is one: who would lend a slot to the same reader on two threads at a
    /// time loses it to the ring, but is never left with one that is free.
    fn end(&self, slot: u32) {
        let lent = &self.lent[slot as usize];
        if lent.load(Ordering::Relaxed) {
            lent.store(false, Ordering::Relaxed);
            self.shared.end_loan(slot);
        }
    }

    /// The bytes of a slot that is lent to it.
    ///
    /// # Panics
    /// When the slot was not lent to this reader.
    pub fn bytes<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        slot.check(self.id);
        // SAFETY: nobody writes to a slot that is lent, and the loan does not end while its slot
        // and its reader are borrowed.
        unsafe { self.shared.bytes(twinstream_run { first: slot.index, len: 1 }) }
    }

    /// As [`Ring::runs`], of slots that are lent to it.
    ///
    /// # Panics
    /// When a slot was not lent to this reader, as the run with it is reached.
    pub fn runs<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = Run<'a>> {
        // SAFETY: as for `bytes`.
        unsafe { self.shared.runs(self.id, slots) }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // What is left of its slots cannot be read any more: that takes the reader.
        (0..self.lent.len() as u32).for_each(|slot| self.end(slot));
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("slot_len", &self.lent.len()).finish_non_exhaustive()
    }
}
