//! When a descriptor is to become readable, and when it is to be read: how many completions are
//! queued, in one word.
//!
//! Invariant: each time the queue goes from empty to not empty there is one write, by whoever made
//! it so, and each time back one read, likewise; while nobody watches there is neither. The queue
//! is changed first: where a pop overtakes the push's count, that is -1 for a moment, and nothing
//! changes for those who watch.

use super::sync::{AtomicI64, Ordering};

/// Beside the count, which is in the bits above.
const WATCHED: i64 = 1;
const ONE: i64 = 2;

/// See the module.
pub(crate) struct Signal(AtomicI64);

impl Signal {
    /// Empty, and nobody watches.
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// One was pushed: whether the caller is to write.
    pub(crate) fn pushed(&self) -> bool {
        self.0.fetch_add(ONE, Ordering::AcqRel) == WATCHED
    }

    /// One was popped: whether the caller is to read what was, or is about to be, written.
    pub(crate) fn popped(&self) -> bool {
        self.0.fetch_sub(ONE, Ordering::AcqRel) == WATCHED + ONE
    }

    /// From here on someone watches: whether the caller is to write.
    pub(crate) fn watch(&self) -> bool {
        let before = self.0.fetch_or(WATCHED, Ordering::AcqRel);
        before & WATCHED == 0 && before >= ONE
    }
}
