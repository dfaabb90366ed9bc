//! Where a request's answer and whoever waits for it meet: one cell a result slot.
//!
//! Invariant: an answer that is finished into a cell is taken once, or dropped once when its ticket
//! was given up; the cell is at rest again before the result slot that guards it is let go, so it
//! never serves two requests at a time. A waiter that registered is woken. Generic in the answer;
//! knows neither rings nor engines.

use std::task::Waker;

use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError, Thread};

/// Whom to wake when the answer is there.
pub(super) enum Waiter {
    None,
    Thread(Thread),
    Task(Waker),
}

impl Waiter {
    fn wake(self) -> Finished {
        match self {
            Self::None => return Finished::Kept,
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
        Finished::Woke
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// The ticket was given up: the answer was dropped.
    GivenUp,
    /// It awaits its ticket; nobody waits yet.
    Kept,
    /// It awaits its ticket, whose waiter was woken.
    Woke,
}

enum State<T> {
    /// At rest, or a request on its way.
    Pending { waiter: Waiter, is_cancelled: bool },
    /// The answer, until the ticket takes it.
    Ended(T),
    /// The ticket is gone before its answer.
    Abandoned,
}

impl<T> State<T> {
    const REST: Self = Self::Pending { waiter: Waiter::None, is_cancelled: false };
}

/// See the module.
pub(super) struct Cell<T> {
    /// Whether `state` is `Ended`: a hint to spin on without taking the lock.
    is_ended: AtomicBool,
    /// Whether the engine was told and has not yet looked, see [`Cell::announce_cancel`].
    is_announced: AtomicBool,
    state: Mutex<State<T>>,
}

impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Self {
            is_ended: AtomicBool::new(false),
            is_announced: AtomicBool::new(false),
            state: Mutex::new(State::REST),
        }
    }

    /// Whether [`Cell::take`] will succeed; a hint.
    pub(super) fn is_ended(&self) -> bool {
        // Relaxed: the lock decides and orders.
        self.is_ended.load(Ordering::Relaxed)
    }

    /// Stores the answer and wakes the waiter.
    pub(super) fn finish(&self, answer: T) -> Finished {
        let mut state = self.lock();
        let before = std::mem::replace(&mut *state, State::REST);
        match before {
            State::Pending { waiter, .. } => {
                *state = State::Ended(answer);
                self.is_ended.store(true, Ordering::Relaxed);
                drop(state);
                waiter.wake()
            }
            // Dropped after the lock: by then the cell is at rest, and its slot may be let go.
            State::Abandoned => {
                drop(state);
                drop(answer);
                Finished::GivenUp
            }
            State::Ended(_) => unreachable!("a request ends once"),
        }
    }

    /// The answer if it is there; else remembers whom to wake.
    pub(super) fn take_or_wait(&self, waiter: impl FnOnce() -> Waiter) -> Option<T> {
        let mut state = self.lock();
        if let State::Pending { waiter: place, .. } = &mut *state {
            *place = waiter();
            return None;
        }
        let before = std::mem::replace(&mut *state, State::REST);
        self.is_ended.store(false, Ordering::Relaxed);
        match before {
            State::Ended(answer) => Some(answer),
            _ => unreachable!("a ticket that was given up does not wait"),
        }
    }

    /// The answer if it is there.
    pub(super) fn take(&self) -> Option<T> {
        self.take_or_wait(|| Waiter::None)
    }

    /// Gives up the ticket. True if the request is still on its way and should be cancelled.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.lock();
        let before = std::mem::replace(&mut *state, State::REST);
        let is_pending = matches!(before, State::Pending { .. });
        if is_pending {
            *state = State::Abandoned;
        } else {
            self.is_ended.store(false, Ordering::Relaxed);
        }
        drop(state);
        drop(before);
        is_pending
    }

    /// Asks for the request to be cancelled; false if it has ended.
    pub(super) fn cancel(&self) -> bool {
        match &mut *self.lock() {
            State::Pending { is_cancelled, .. } => {
                *is_cancelled = true;
                true
            }
            _ => false,
        }
    }

    /// True once for any number of cancellations before the engine looks: it need be told once.
    pub(super) fn announce_cancel(&self) -> bool {
        !self.is_announced.swap(true, Ordering::AcqRel)
    }

    /// For the engine, which was told to look: whether the request that the cell serves now is to
    /// be cancelled. The one that it was told about may have ended meanwhile.
    pub(super) fn is_cancelled(&self) -> bool {
        // Before the look: a cancellation after it announces itself anew.
        self.is_announced.swap(false, Ordering::AcqRel);
        matches!(*self.lock(), State::Abandoned | State::Pending { is_cancelled: true, .. })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock but a waker's clone, before it changes the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
