//! A slot on loan to a producer: write the image into it, then commit it or drop it.
//!
//! Invariant: a lease owns its slot until it is committed; dropped before, the slot is free again
//! at once and nothing waits for it. Knows nothing of batches.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::ffi::twinstream_run as Run;
use super::shared::Shared;

/// A leased slot: a buffer for one image, in the very memory that is copied to the device.
///
/// Dereferences to the slot's bytes, which hold what its last user left there. Dropping the lease
/// gives the slot back unused.
#[must_use = "a lease that is dropped gives its slot back unused"]
pub struct Lease<'ring, T> {
    ring: Handle<'ring, T>,
    slot: u32,
    /// Cleared once the slot belongs to the consumer.
    held: bool,
}

enum Handle<'ring, T> {
    Borrowed(&'ring Arc<Shared<T>>),
    Owned(Arc<Shared<T>>),
}

impl<T> Handle<'_, T> {
    fn shared(&self) -> &Arc<Shared<T>> {
        match self {
            Self::Borrowed(shared) => shared,
            Self::Owned(shared) => shared,
        }
    }
}

/// What a commit tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Number of the slot, from 0.
    pub slot: u32,
    /// The consumer has announced that it sleeps: the caller must wake it.
    pub consumer_sleeps: bool,
}

/// The consumer is gone: a commit's lease and request come back.
pub struct Closed<'ring, T> {
    /// Still leased.
    pub lease: Lease<'ring, T>,
    /// As it was handed in.
    pub request: T,
}

impl<'ring, T> Lease<'ring, T> {
    pub(super) fn new(shared: &'ring Arc<Shared<T>>, slot: u32) -> Self {
        Self { ring: Handle::Borrowed(shared), slot, held: true }
    }

    /// Number of the slot, from 0: its bytes begin `slot * stride_bytes` into the ring's storage.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The same lease, keeping the ring alive by itself, for threads and tasks that outlive the
    /// handle it was leased from. Costs a reference count.
    pub fn into_owned(mut self) -> Lease<'static, T> {
        self.held = false;
        Lease { ring: Handle::Owned(Arc::clone(self.ring.shared())), slot: self.slot, held: true }
    }

    /// Stores what is to travel with the slot, in place of what travelled with it last.
    pub fn set(&mut self, request: T) {
        // SAFETY: this lease owns the slot, and is borrowed exclusively.
        unsafe { self.ring.shared().set_request(self.slot, request) };
    }

    /// What was last stored for the slot, here or by an earlier lease, if anything.
    pub fn get(&self) -> Option<&T>
    where
        T: Sync,
    {
        // SAFETY: this lease owns the slot, and storing takes `&mut self`.
        unsafe { self.ring.shared().stored_request(self.slot) }
    }

    /// Hands the slot to the consumer together with the request that its image belongs to. Never
    /// blocks; all that was written before is visible to the consumer.
    ///
    /// # Errors
    /// [`Closed`] with both when the consumer is gone.
    pub fn commit(mut self, request: T) -> Result<Committed, Closed<'ring, T>> {
        // SAFETY: this lease owns the slot, and no longer uses it after success.
        match unsafe { self.ring.shared().commit(self.slot, request) } {
            Ok(consumer_sleeps) => {
                self.held = false;
                Ok(Committed { slot: self.slot, consumer_sleeps })
            }
            Err(request) => Err(Closed { lease: self, request }),
        }
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: this lease owns the slot, and writing takes `&mut self`.
        unsafe { self.ring.shared().bytes(Run { first: self.slot, len: 1 }) }
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: this lease owns the slot, and is borrowed exclusively.
        unsafe { self.ring.shared().bytes_mut(self.slot) }
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        if self.held {
            // SAFETY: this lease owns the slot and ends here.
            unsafe { self.ring.shared().release(Run { first: self.slot, len: 1 }) };
        }
    }
}

impl<T> fmt::Debug for Lease<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Closed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Closed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is closed")
    }
}

impl<T> std::error::Error for Closed<'_, T> {}
