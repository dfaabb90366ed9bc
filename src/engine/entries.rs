//! Requests that were accepted and have not ended, by image slot.
//!
//! Invariant: an entry is put in once and taken out once. Knows nothing of devices.

use std::sync::Arc;

use super::answer::Handler;
use crate::backend::ResultSlot;
use crate::ring::Slot;
use crate::sched::Priority;

/// A request that was accepted and has not ended.
pub(super) struct Entry {
    /// Lent to the device that uploads it.
    pub(super) image: Slot,
    /// None while the only device downloads to it.
    pub(super) result: Option<ResultSlot>,
    /// The first cell of its group, and its own.
    pub(super) cells: (u32, u32),
    pub(super) committed_ns: u64,
    pub(super) priority: Priority,
    /// When it is late.
    pub(super) deadline_ns: u64,
    /// Its caller has given it up, but others wait for its answer.
    pub(super) is_cancelled: bool,
    pub(super) handler: Option<(Arc<dyn Handler>, u64)>,
}

/// See the module.
pub(super) struct Entries(Box<[Option<Entry>]>);

impl Entries {
    /// None yet, for so many slots.
    pub(super) fn new(slot_len: usize) -> Self {
        Self((0..slot_len).map(|_| None).collect())
    }

    /// Number of slots.
    pub(super) fn slot_len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn put(&mut self, entry: Entry) {
        let slot = entry.image.index();
        self.0[slot as usize] = Some(entry);
    }

    /// Of a slot that the scheduler or a device speaks of.
    pub(super) fn of(&self, slot: u32) -> &Entry {
        self.0[slot as usize].as_ref().expect("a slot in use has a request")
    }

    pub(super) fn of_mut(&mut self, slot: u32) -> &mut Entry {
        self.0[slot as usize].as_mut().expect("a slot in use has a request")
    }

    /// A request that ends.
    pub(super) fn take(&mut self, slot: u32) -> Entry {
        self.0[slot as usize].take().expect("a request ends once")
    }

    /// Whether a slot is in use.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.0[slot as usize].is_some()
    }
}
