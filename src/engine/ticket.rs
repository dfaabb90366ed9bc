//! The caller's side of what was accepted, one image or several as one: wait, await, cancel.
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

use super::answer::{Answer, Answered, Answers};
use super::cell::{Cell, Waiter};
use super::group;
use super::options::Failure;
use super::shared::Shared;
use crate::sched::Timing;
use crate::stripe::StripedRef;

/// Looks for an answer, about a microsecond of them, before the processor is offered to others
/// between two looks: where threads share one, the answer may be waiting for it.
const LOOKS: usize = 32;

/// An accepted request. Blocks with [`Ticket::wait`], or is a `Future` for any executor.
///
/// Dropping it before its answer cancels the request.
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket(Claim);

impl Ticket {
    pub(super) fn new(shared: StripedRef<Arc<Shared>>, cell: u32) -> Self {
        Self(Claim { shared: Some(shared), cell })
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
        self.0.is_ended()
    }

    /// When the request passed which stage, as by [`Output::timing`](super::Output::timing); none
    /// until it ended with a result.
    pub fn timing(&self) -> Option<Timing> {
        self.0.timing()
    }

    /// Has `waker` woken, on the scheduling thread, when the answer is there, in place of whom it
    /// was to wake before. False if the answer is there; the waker is then not woken.
    ///
    /// # Panics
    /// When the answer was taken by polling.
    pub fn wake_when_ended(&self, waker: &Waker) -> bool {
        self.0.wake_when_ended(waker)
    }

    /// Asks for the request to be cancelled. It still gets its answer: [`Failure::Cancelled`], or
    /// another if it ends otherwise first.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    fn wait_for(mut self, timeout: Option<Duration>) -> std::result::Result<Answer, Self> {
        match self.0.wait_for(timeout) {
            Waited::TimedOut => Err(self),
            Waited::Forked => Ok(Err(Failure::ShutDown)),
            Waited::Ended => Ok(self.take()),
        }
    }

    /// The answer, which is there.
    fn take(&mut self) -> Answer {
        let shared = self.0.take();
        shared.cells[self.0.cell as usize].take().expect("it has ended").into_answer()
    }
}

/// What a ticket holds until its answers are taken.
struct Claim {
    /// None once they were.
    shared: Option<StripedRef<Arc<Shared>>>,
    /// The first cell, which ends when the whole does.
    cell: u32,
}

impl Claim {
    fn shared(&self) -> &Shared {
        self.shared.as_ref().expect("used after it was ready")
    }

    fn first(&self) -> &Cell<Answered> {
        &self.shared().cells[self.cell as usize]
    }

    fn is_ended(&self) -> bool {
        self.shared.is_some() && self.first().is_ended()
    }

    fn timing(&self) -> Option<Timing> {
        self.shared.as_ref()?;
        // Answers are taken by those who own the ticket or borrow it exclusively.
        self.first().look(Answered::timing).flatten()
    }

    fn wake_when_ended(&self, waker: &Waker) -> bool {
        self.first().wait(Waiter::Task(waker.clone()))
    }

    fn cancel(&self) {
        if self.shared.is_some() && self.first().cancel() {
            self.shared().tell_cancel(self.cell);
        }
    }

    /// Whether it has ended; else the task is woken when it does.
    fn is_ready(&self, context: &Context<'_>) -> bool {
        self.first().is_ended_or_wait(|| Waiter::Task(context.waker().clone()))
    }

    /// Blocks until it ends, or `timeout` is over.
    fn wait_for(&self, timeout: Option<Duration>) -> Waited {
        let (shared, cell) = (self.shared(), self.first());
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let spin = timeout.map_or(shared.spin, |timeout| timeout.min(shared.spin));
        spin_until(|| cell.is_ended(), spin);
        while !cell.is_ended_or_wait(|| Waiter::Thread(thread::current())) {
            if shared.is_forked() {
                return Waited::Forked;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match left {
                None => thread::park(),
                Some(Duration::ZERO) if cell.is_ended() => break,
                Some(Duration::ZERO) => return Waited::TimedOut,
                Some(left) => thread::park_timeout(left),
            }
        }
        Waited::Ended
    }

    fn take(&mut self) -> StripedRef<Arc<Shared>> {
        self.shared.take().expect("it has its answers")
    }
}

/// What a wait came to.
enum Waited {
    Ended,
    TimedOut,
    /// This is a process that was forked off: it will not end here.
    Forked,
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
        if self.0.is_ready(context) { Poll::Ready(self.take()) } else { Poll::Pending }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Claim { shared: Some(shared), cell } = &self.0
            && shared.cells[*cell as usize].abandon().is_none()
        {
            shared.tell_cancel(*cell);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("cell", &self.0.cell).finish_non_exhaustive()
    }
}

/// Accepted images that were handed over as one: a [`Ticket`] for all of them. It is ready when
/// each of them has ended; each has an answer of its own, whatever becomes of the others.
///
/// Dropping it before cancels what has not ended.
#[must_use = "dropping a ticket cancels its request"]
pub struct ManyTicket {
    claim: Claim,
    len: usize,
}

impl ManyTicket {
    pub(super) fn new(shared: StripedRef<Arc<Shared>>, cell: u32, len: usize) -> Self {
        Self { claim: Claim { shared: Some(shared), cell }, len }
    }

    /// Blocks until every image has ended. In a process that was forked off since the engine's
    /// start it returns at once: images without an answer have ended as [`Failure::ShutDown`].
    pub fn wait(self) -> Answers {
        match self.wait_for(None) {
            Ok(answers) => answers,
            Err(_) => unreachable!("waits until there are answers"),
        }
    }

    /// Blocks until every image has ended or `timeout` is over.
    ///
    /// # Errors
    /// The ticket, when it was the timeout.
    pub fn wait_timeout(self, timeout: Duration) -> std::result::Result<Answers, Self> {
        self.wait_for(Some(timeout))
    }

    /// Number of images.
    pub fn image_len(&self) -> usize {
        self.len
    }

    /// Whether every image has ended: waiting would not block.
    pub fn is_ended(&self) -> bool {
        self.claim.is_ended()
    }

    /// When the first image passed which stage; none until all have ended, that one with a result.
    pub fn timing(&self) -> Option<Timing> {
        self.claim.timing()
    }

    /// As [`Ticket::wake_when_ended`], for the whole.
    ///
    /// # Panics
    /// When the answers were taken by polling.
    pub fn wake_when_ended(&self, waker: &Waker) -> bool {
        self.claim.wake_when_ended(waker)
    }

    /// Asks for every image to be cancelled that has not ended. Each still gets its answer, as by
    /// [`Ticket::cancel`].
    pub fn cancel(&self) {
        self.claim.cancel();
    }

    fn wait_for(mut self, timeout: Option<Duration>) -> std::result::Result<Answers, Self> {
        match self.claim.wait_for(timeout) {
            Waited::TimedOut => Err(self),
            Waited::Forked => {
                let cells = &self.claim.shared().cells;
                Ok(Answers::all(cells, self.len, Failure::ShutDown))
            }
            Waited::Ended => Ok(self.take()),
        }
    }

    /// The answers, which are there.
    fn take(&mut self) -> Answers {
        Answers::new(&self.claim.take().cells, self.claim.cell)
    }
}

impl Future for ManyTicket {
    type Output = Answers;

    /// # Panics
    /// When polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answers> {
        if self.claim.is_ready(context) { Poll::Ready(self.take()) } else { Poll::Pending }
    }
}

impl Drop for ManyTicket {
    fn drop(&mut self) {
        if let Claim { shared: Some(shared), cell } = &self.claim
            && group::abandon(&shared.cells, *cell)
        {
            shared.tell_cancel(*cell);
        }
    }
}

impl fmt::Debug for ManyTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyTicket")
            .field("cell", &self.claim.cell)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
