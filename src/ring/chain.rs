//! Slots on loan that are handed over as one.
//!
//! Invariant: a chain owns its slots until it is committed; what is left in it when it is dropped
//! is free again at once. A commit hands all of them over or none: only the first is committed in
//! the protocol's eyes, and the others, which the consumer finds by their links, come with it.
//! Knows nothing of batches.

use std::fmt;
use std::sync::Arc;

use super::ffi::twinstream_run as Run;
use super::lease::{Committed, Lease};
use super::shared::Shared;
use crate::stripe::StripedRef;

/// Leased slots in an order, each a buffer for one image. Keeps the ring alive by itself.
///
/// ```
/// use twinstream::ring::{Ring, RingOptions};
///
/// let (ring, mut consumer) = Ring::new(&RingOptions::new(4, 12))?;
/// let mut chain = ring.chain();
/// assert!(chain.lease(3));
/// for (number, image) in chain.images_mut().enumerate() {
///     image.fill(number as u8);
/// }
/// let mut numbers = 0..;
/// assert!(chain.commit(|| numbers.next().unwrap()).is_ok());
///
/// // All of them are there as soon as the first one is.
/// let taken: Vec<_> = std::iter::from_fn(|| consumer.take()).collect();
/// assert!(taken.iter().all(|(slot, number)| ring.bytes(slot) == [*number as u8; 12]));
/// assert_eq!(taken.len(), 3);
/// ring.release(taken.into_iter().map(|(slot, _)| slot));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a chain that is dropped gives its slots back unused"]
pub struct Chain<T> {
    shared: StripedRef<Arc<Shared<T>>>,
    /// First and last slot; of no meaning where there are none.
    first: u32,
    last: u32,
    len: u32,
    /// Its commit was refused: a request is stored with each slot.
    is_refused: bool,
}

impl<T> Chain<T> {
    pub(super) fn new(shared: StripedRef<Arc<Shared<T>>>) -> Self {
        Self { shared, first: 0, last: 0, len: 0, is_refused: false }
    }

    /// Leases further slots until it has `len`, side by side where free ones are; false where no
    /// further one was met, or while slots are awaited: it keeps those that it has got. Never
    /// blocks.
    pub fn lease(&mut self, len: u32) -> bool {
        self.extend(len, false)
    }

    /// The same while slots are awaited, for who waits; see
    /// [`Ring::set_awaited`](super::Ring::set_awaited).
    pub fn lease_next(&mut self, len: u32) -> bool {
        self.extend(len, true)
    }

    fn extend(&mut self, len: u32, is_next: bool) -> bool {
        while self.len < len {
            let Some(run) = self.shared.lease(len - self.len, is_next) else { return false };
            for slot in run.first..run.first + run.len {
                match self.len {
                    0 => self.first = slot,
                    _ => self.shared.link(self.last, slot),
                }
                self.last = slot;
                self.len += 1;
            }
        }
        true
    }

    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no slot.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of its first slot, if it has one.
    pub fn first(&self) -> Option<u32> {
        (self.len > 0).then_some(self.first)
    }

    /// The numbers of its slots in order.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(), |&slot| self.shared.next(slot))
    }

    /// Each slot in order, and its bytes.
    pub fn images(&self) -> impl Iterator<Item = (u32, &[u8])> {
        // SAFETY: the chain owns its slots, and writing takes `&mut self`.
        self.slots().map(|slot| (slot, unsafe { self.shared.bytes(Run { first: slot, len: 1 }) }))
    }

    /// The bytes of each slot in order, which hold what their last users left there.
    pub fn images_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let this = &*self;
        // SAFETY: the chain owns its slots, no two alike, and is borrowed exclusively.
        this.slots().map(|slot| unsafe { this.shared.bytes_mut(slot) })
    }

    /// Takes the first slot out.
    pub fn pop(&mut self) -> Option<Lease<'static, T>> {
        let slot = self.first()?;
        self.len -= 1;
        if let Some(next) = self.shared.unlink(slot) {
            self.first = next;
        }
        Some(Lease::owned(slot, self.shared.clone()))
    }

    /// Hands all slots to the consumer at once, each with a request, which are made in order. Never
    /// blocks; all that was written before is visible to the consumer.
    ///
    /// # Errors
    /// The chain when the consumer is gone, and with it the requests, until it is dropped.
    ///
    /// # Panics
    /// When it has no slot.
    pub fn commit(mut self, mut request: impl FnMut() -> T) -> Result<Committed, Self> {
        let slot = self.first().expect("a chain that is committed has a slot");
        let first_request = request();
        for other in self.slots().skip(1) {
            // SAFETY: the chain owns it, and lends no request.
            unsafe { self.shared.set_request(other, request()) };
        }
        // SAFETY: the chain owns its slots, and no longer uses them after success.
        match unsafe { self.shared.commit(slot, first_request) } {
            Ok(consumer_sleeps) => {
                self.len = 0;
                Ok(Committed { slot, consumer_sleeps })
            }
            Err(first_request) => {
                // SAFETY: still the chain's.
                unsafe { self.shared.set_request(slot, first_request) };
                self.is_refused = true;
                Err(self)
            }
        }
    }
}

impl<T> Drop for Chain<T> {
    fn drop(&mut self) {
        let mut run = Run { first: self.first, len: 0 };
        let mut next = self.first();
        while let Some(slot) = next {
            next = self.shared.unlink(slot);
            run.len += 1;
            if self.is_refused {
                // SAFETY: the chain's, which lends no request.
                drop(unsafe { self.shared.request(slot) });
            }
            if next != Some(slot + 1) {
                // SAFETY: the chain owned these slots and ends here.
                unsafe { self.shared.release(run) };
                run = Run { first: next.unwrap_or_default(), len: 0 };
            }
        }
    }
}

impl<T> fmt::Debug for Chain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("first", &self.first())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
