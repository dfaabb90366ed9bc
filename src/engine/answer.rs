//! What a request ends with, and who takes it in place of a ticket.
//!
//! Invariant: an output owns the memory that its result was downloaded to, and with it travel its
//! request's times. Knows nothing of requests, tickets and threads.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::cell::Cell;
use super::group;
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

/// An answer in its cell. The result slot is here with failures too: it keeps the cell from being
/// used anew before the answer was taken. It is missing where a lost device has it.
pub(super) struct Answered {
    pub(super) outcome: Result<(), Failure>,
    pub(super) slot: Option<ResultSlot>,
}

impl Answered {
    /// What [`Cell::finish`] is given for those who only look: see [`outcome`].
    pub(super) fn code(&self) -> u8 {
        self.outcome.err().map_or(0, |failure| 1 + failure as u8)
    }

    /// When the request passed which stage, if it has a result.
    pub(super) fn timing(&self) -> Option<Timing> {
        self.outcome.ok()?;
        self.slot.as_ref()?.get().copied()
    }

    pub(super) fn into_answer(self) -> Answer {
        self.outcome?;
        Ok(Output { slot: self.slot.expect("a completed request has its result") })
    }
}

/// How what has this code ended.
pub(super) fn outcome(code: u8) -> Result<(), Failure> {
    match code.checked_sub(1) {
        None => Ok(()),
        Some(failure) => Err(Failure::ALL[usize::from(failure)]),
    }
}

/// The answers of images that were handed over as one, in their order; an iterator. What is not
/// taken out of it is dropped with it.
#[must_use = "the answers that are not taken are dropped"]
pub struct Answers {
    cells: Arc<[Cell<Answered>]>,
    next: Option<u32>,
    left_len: usize,
    outcome: Result<(), Failure>,
}

impl Answers {
    /// Of a group that has ended.
    pub(super) fn new(cells: &Arc<[Cell<Answered>]>, first: u32) -> Self {
        let left_len = group::members(cells, first).count();
        let code = cells[first as usize].code().expect("the group has ended");
        let outcome = outcome(code);
        Self { cells: Arc::clone(cells), next: Some(first), left_len, outcome }
    }

    /// Of so many images that all ended alike, whatever their cells say.
    pub(super) fn all(cells: &Arc<[Cell<Answered>]>, len: usize, failure: Failure) -> Self {
        Self { cells: Arc::clone(cells), next: None, left_len: len, outcome: Err(failure) }
    }

    /// Whether each of the images has a result.
    ///
    /// # Errors
    /// Why the first of those that have none has none.
    pub fn outcome(&self) -> Result<(), Failure> {
        self.outcome
    }
}

impl Iterator for Answers {
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        self.left_len = self.left_len.checked_sub(1)?;
        match group::take(&self.cells, &mut self.next) {
            Some(answered) => Some(answered.into_answer()),
            None => Some(Err(self.outcome.err().unwrap_or(Failure::ShutDown))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left_len, Some(self.left_len))
    }
}

impl ExactSizeIterator for Answers {}

impl Drop for Answers {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("len", &self.left_len)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// Takes answers in place of a ticket.
///
/// Called once for each commit, on the scheduling thread: what takes long here delays every other
/// request, and waiting for a ticket here would never end. It may lease and commit further
/// requests. A panic in it is caught and logged.
pub trait Handler: Send + Sync {
    /// The request that was committed with `tag` has ended.
    fn answered(&self, tag: u64, answer: Answer);

    /// All images that were committed as one with `tag` have ended. Unless it is implemented, each
    /// of them is [`Handler::answered`], in their order, whether or not that panics for another.
    fn answered_many(&self, tag: u64, answers: Answers) {
        let answered = |answer| catch_unwind(AssertUnwindSafe(|| self.answered(tag, answer)));
        let panics = answers.filter_map(|answer| answered(answer).err());
        if let Some(panic) = panics.last() {
            resume_unwind(panic);
        }
    }
}

impl<F: Fn(u64, Answer) + Send + Sync> Handler for F {
    fn answered(&self, tag: u64, answer: Answer) {
        self(tag, answer);
    }
}
