//! What a request ends with, and who takes it in place of a ticket.
//!
//! Invariant: an output owns the memory that its result was downloaded to, and with it travel its
//! request's times. Knows nothing of requests, tickets and threads.

use std::fmt;
use std::ops::Deref;

use super::options::Failure;
use crate::backend::ResultSlot;
use crate::sched::Timing;

/// How a request ended.
pub type Answer = std::result::Result<Output, Failure>;

/// A result: dereferences to the network's output values, in the memory that they were downloaded
/// to. That memory is in use until this is dropped.
pub struct Output {
    slot: ResultSlot,
}

impl Output {
    pub(super) fn new(slot: ResultSlot) -> Self {
        Self { slot }
    }

    /// When its request passed which stage, in nanoseconds since the engine's start, and in which
    /// batch.
    pub fn timing(&self) -> &Timing {
        self.slot.get().expect("stored before the request is answered")
    }
}

impl Deref for Output {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // Slots begin on cache lines and hold whole values.
        bytemuck::cast_slice(&self.slot)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&&**self).finish()
    }
}

/// Takes answers in place of a ticket.
///
/// Called once a request, on the scheduling thread: what takes long here delays every other
/// request, and waiting for a ticket here would never end. It may lease and commit further
/// requests. A panic in it is caught and logged.
pub trait Handler: Send + Sync {
    /// The request that was committed with `tag` has ended.
    fn answered(&self, tag: u64, answer: Answer);
}

impl<F: Fn(u64, Answer) + Send + Sync> Handler for F {
    fn answered(&self, tag: u64, answer: Answer) {
        self(tag, answer);
    }
}
