//! The caller's side of an accepted request: wait, await, cancel.
//!
//! Invariant: a ticket yields its answer at most once, by being consumed; one that is dropped
//! before cancels its request. Knows nothing of batches.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::cell::Waiter;
use super::options::Failure;
use super::shared::{Answered, Shared};
use crate::sched::Timing;
use crate::stripe::StripedRef;

/// Looks for an answer, about a microsecond of them, before the processor is offered to others
/// between two looks: where threads share one, the answer may be waiting for it.
const LOOKS: usize = 32;

/// An accepted request. Blocks with [`Ticket::wait`], or is a `Future` for any executor.
///
/// Dropping it before its answer cancels the request.
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket {
    /// None once the answer was taken.
    shared: Option<StripedRef<Arc<Shared>>>,
    cell: u32,
}

impl Ticket {
    pub(super) fn new(shared: StripedRef<Arc<Shared>>, cell: u32) -> Self {
        Self { shared: Some(shared), cell }
    }

    /// Blocks until the request ends.
    ///
    /// # Errors
    /// [`Failure`] when it ended without a result; [`Failure::ShutDown`], at once, for a request
    /// without an answer in a process that was forked off since the engine's start.
    pub fn wait(self) -> Answer {
        match self.wait_for(None) {
            Ok(answer) => answer,
            Err(_) => unreachable!("waits until there is an answer"),
        }
    }

    /// Blocks until the request ends or `timeout` is over.
    ///
    /// # Errors
    /// The ticket, when it was the timeout.
    pub fn wait_timeout(self, timeout: Duration) -> std::result::Result<Answer, Self> {
        self.wait_for(Some(timeout))
    }

    /// Whether the answer is there: waiting would not block.
    pub fn is_ended(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.cells[self.cell as usize].is_ended())
    }

    /// When the request passed which stage, as by [`Output::timing`](super::Output::timing); none
    /// until it ended with a result.
    pub fn timing(&self) -> Option<Timing> {
        let shared = self.shared.as_ref()?;
        // Answers are taken by those who own the ticket or borrow it exclusively.
        shared.cells[self.cell as usize].look(Answered::timing).flatten()
    }

    /// Has `waker` woken, on the scheduling thread, when the answer is there, in place of whom it
    /// was to wake before. False if the answer is there; the waker is then not woken.
    ///
    /// # Panics
    /// When the answer was taken by polling.
    pub fn wake_when_ended(&self, waker: &Waker) -> bool {
        let shared = self.shared.as_ref().expect("used after it was ready");
        shared.cells[self.cell as usize].wait(Waiter::Task(waker.clone()))
    }

    /// Asks for the request to be cancelled. It still gets its answer: [`Failure::Cancelled`], or
    /// another if it ends otherwise first.
    pub fn cancel(&self) {
        if let Some(shared) = &self.shared
            && shared.cells[self.cell as usize].cancel()
        {
            shared.tell_cancel(self.cell);
        }
    }

    fn wait_for(mut self, timeout: Option<Duration>) -> std::result::Result<Answer, Self> {
        let shared = self.shared.as_ref().expect("a ticket that waits has no answer yet");
        let cell = &shared.cells[self.cell as usize];
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let spin = timeout.map_or(shared.spin, |timeout| timeout.min(shared.spin));
        spin_until(|| cell.is_ended(), spin);
        loop {
            if let Some(answered) = cell.take_or_wait(|| Waiter::Thread(thread::current())) {
                self.shared = None;
                return Ok(answered.into_answer());
            }
            if shared.is_forked() {
                return Ok(Err(Failure::ShutDown));
            }
            let Some(until) = until else {
                thread::park();
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                thread::park_timeout(left);
            } else if let Some(answered) = cell.take() {
                self.shared = None;
                return Ok(answered.into_answer());
            } else {
                return Err(self);
            }
        }
    }
}

/// Spins until `is_ended` says so, no longer than `spin`: what [`Ticket::wait`] does before it
/// sleeps, for interfaces with requests of their own.
pub fn spin_until(is_ended: impl Fn() -> bool, spin: Duration) {
    if spin.is_zero() {
        return;
    }
    for _ in 0..LOOKS {
        if is_ended() {
            return;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    while !is_ended() && start.elapsed() < spin {
        thread::yield_now();
    }
}

impl Future for Ticket {
    type Output = Answer;

    /// # Panics
    /// When polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let shared = self.shared.as_ref().expect("polled after it was ready");
        let waiter = || Waiter::Task(context.waker().clone());
        match shared.cells[self.cell as usize].take_or_wait(waiter) {
            Some(answered) => {
                self.shared = None;
                Poll::Ready(answered.into_answer())
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared
            && shared.cells[self.cell as usize].abandon()
        {
            shared.tell_cancel(self.cell);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("cell", &self.cell).finish_non_exhaustive()
    }
}
