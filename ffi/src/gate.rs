//! Lets calls in while an engine lives, and tells when the last one has left.
//!
//! Invariant: a call that was let in was counted while the gate was open, and whoever shuts it sees
//! that count. Counts are kept in stripes, one a thread if possible, so that threads that call at
//! the same time share no cache line. Whether the gate is shut stands in each count's own word, so
//! the order of changes of that word decides who came first. Knows nothing of engines.

use super::sync::{AtomicU32, AtomicUsize, Ordering, STRIPE_LEN};

/// Beside a count.
const SHUT: u32 = 1 << 31;
/// No gate has it.
const NO_KEY: usize = 0;

/// Two cache lines, as processors prefetch lines in pairs.
#[repr(align(128))]
struct Stripe(AtomicU32);

/// See the module.
pub(crate) struct Gate {
    /// Whom it lets in; changed by whoever opens and shuts it.
    key: AtomicUsize,
    inside: [Stripe; STRIPE_LEN],
}

/// A call that was let in.
pub(crate) struct Inside<'a>(&'a Stripe);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: what the call did comes before what follows the gate's shutting.
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

impl Gate {
    /// Shut.
    pub(crate) fn new() -> Self {
        let inside = std::array::from_fn(|_| Stripe(AtomicU32::new(SHUT)));
        Self { key: AtomicUsize::new(NO_KEY), inside }
    }

    /// Lets in whoever has the key. `stripe` is the thread's, below [`STRIPE_LEN`].
    pub(crate) fn enter(&self, key: usize, stripe: usize) -> Option<Inside<'_>> {
        let stripe = &self.inside[stripe];
        // Acquire: what was done before the gate was opened is seen.
        let before = stripe.0.fetch_add(1, Ordering::Acquire);
        let inside = Inside(stripe);
        // Relaxed: opening stored it before, and while this is inside none is opened for another.
        let is_mine = before & SHUT == 0 && self.key.load(Ordering::Relaxed) == key;
        is_mine.then_some(inside)
    }

    /// Opens it for those with `key`, not 0. It must be shut, and nobody else opens it.
    pub(crate) fn open(&self, key: usize) {
        self.key.store(key, Ordering::Relaxed);
        for stripe in &self.inside {
            // Release: the key, and what lies behind the gate, before.
            stripe.0.fetch_and(!SHUT, Ordering::Release);
        }
    }

    /// Shuts it for those with `key`; false if it was open for others, or shut. Some may still be
    /// inside.
    pub(crate) fn shut(&self, key: usize) -> bool {
        let swapped = self.key.compare_exchange(key, NO_KEY, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_err() {
            return false;
        }
        for stripe in &self.inside {
            // Relaxed: `wait_empty` orders what calls did.
            stripe.0.fetch_or(SHUT, Ordering::Relaxed);
        }
        true
    }

    /// Returns when all that were let in before it was shut have left; rests between two looks.
    pub(crate) fn wait_empty(&self, rest: impl Fn()) {
        for stripe in &self.inside {
            // Acquire: what calls did is over. Nobody is let in any more, so once is enough; those
            // that try are counted for a moment.
            while stripe.0.load(Ordering::Acquire) != SHUT {
                rest();
            }
        }
    }

    /// Forgets who is inside: they are threads of the process that this one was forked off.
    pub(crate) fn reset(&self) {
        for stripe in &self.inside {
            stripe.0.store(SHUT, Ordering::Relaxed);
        }
    }
}
