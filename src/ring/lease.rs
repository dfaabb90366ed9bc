//! A slot on loan to a producer: write the image into it, then commit it or drop it.
//!
//! Invariant: a lease owns its slot until it is committed; dropped before, the slot is free again
//! at once and nothing waits for it. Knows nothing of batches.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Ring;
use super::ffi::twinstream_run as Run;
use super::shared::Shared;
use crate::stripe::StripedRef;

/// A leased slot: a buffer for one image, in the very memory that is copied to the device.
///
/// Dereferences to the slot's bytes, which hold what its last user left there. Dropping the lease
/// gives the slot back unused.
#[must_use = "a lease that is dropped gives its slot back unused"]
pub struct Lease<'ring, T>(Held<'ring, T>);

/// With the slot's number in each variant, a lease takes two words.
enum Held<'ring, T> {
    Borrowed {
        slot: u32,
        ring: &'ring Ring<T>,
    },
    Owned {
        slot: u32,
        shared: StripedRef<Arc<Shared<T>>>,
    },
    /// The slot belongs to another lease or to the consumer.
    Nothing,
}

impl<T> Held<'_, T> {
    /// The slot and its ring.
    fn slot(&self) -> (u32, &Shared<T>) {
        match self {
            Self::Borrowed { slot, ring } => (*slot, &ring.shared),
            Self::Owned { slot, shared } => (*slot, shared),
            Self::Nothing => unreachable!("a lease that is used holds a slot"),
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
    pub(super) fn new(ring: &'ring Ring<T>, slot: u32) -> Self {
        Self(Held::Borrowed { slot, ring })
    }

    pub(super) fn owned(slot: u32, shared: StripedRef<Arc<Shared<T>>>) -> Self {
        Self(Held::Owned { slot, shared })
    }

    /// Number of the slot, from 0: its bytes begin `slot * stride_bytes` into the ring's storage.
    pub fn slot(&self) -> u32 {
        self.0.slot().0
    }

    /// The same lease, keeping the ring alive by itself, for threads and tasks that outlive the
    /// handle it was leased from. Costs a reference count.
    pub fn into_owned(mut self) -> Lease<'static, T> {
        let (slot, shared) = match std::mem::replace(&mut self.0, Held::Nothing) {
            Held::Borrowed { slot, ring } => (slot, ring.owned.get()),
            Held::Owned { slot, shared } => (slot, shared),
            Held::Nothing => unreachable!("a lease that is used holds a slot"),
        };
        Lease(Held::Owned { slot, shared })
    }

    /// Stores what is to travel with the slot, in place of what travelled with it last.
    pub fn set(&mut self, request: T) {
        let (slot, shared) = self.0.slot();
        // SAFETY: this lease owns the slot, and is borrowed exclusively.
        unsafe { shared.set_request(slot, request) };
    }

    /// What was last stored for the slot, here or by an earlier lease, if anything.
    pub fn get(&self) -> Option<&T>
    where
        T: Sync,
    {
        let (slot, shared) = self.0.slot();
        // SAFETY: this lease owns the slot, and storing takes `&mut self`.
        unsafe { shared.stored_request(slot) }
    }

    /// Hands the slot to the consumer together with the request that its image belongs to. Never
    /// blocks; all that was written before is visible to the consumer.
    ///
    /// # Errors
    /// [`Closed`] with both when the consumer is gone.
    pub fn commit(mut self, request: T) -> Result<Committed, Closed<'ring, T>> {
        let (slot, shared) = self.0.slot();
        // SAFETY: this lease owns the slot, and no longer uses it after success.
        match unsafe { shared.commit(slot, request) } {
            Ok(consumer_sleeps) => {
                self.0 = Held::Nothing;
                Ok(Committed { slot, consumer_sleeps })
            }
            Err(request) => Err(Closed { lease: self, request }),
        }
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (slot, shared) = self.0.slot();
        // SAFETY: this lease owns the slot, and writing takes `&mut self`.
        unsafe { shared.bytes(Run { first: slot, len: 1 }) }
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (slot, shared) = self.0.slot();
        // SAFETY: this lease owns the slot, and is borrowed exclusively.
        unsafe { shared.bytes_mut(slot) }
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        if !matches!(self.0, Held::Nothing) {
            let (slot, shared) = self.0.slot();
            // SAFETY: this lease owns the slot and ends here.
            unsafe { shared.release(Run { first: slot, len: 1 }) };
        }
    }
}

impl<T> fmt::Debug for Lease<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("slot", &self.slot()).finish_non_exhaustive()
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
