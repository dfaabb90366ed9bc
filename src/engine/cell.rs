//! Where a request's answer and whoever waits for it meet: one cell a result slot.
//!
//! Invariant: an answer that is finished into a cell is taken once, or dropped once when its ticket
//! was given up; the cell is at rest again before the result slot that guards it is let go, so it
//! never serves two requests at a time. A waiter that registered is woken.
//!
//! One word holds the state. The engine sets `ENDED` in it, the ticket may set `ABANDONED`, each
//! after all else that it does in the cell; who comes second has the cell alone and puts it to
//! rest. The lock is for waiters: where one is registered, it is taken out and `ENDED` set in one
//! go, so that none is left when the answer is seen. Generic in the answer; knows neither rings nor
//! engines.

use std::task::Waker;

use super::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering, PoisonError};
use super::sync::{Thread, UnsafeCell};

/// The answer is there, and in the byte from `CODE_SHIFT` on the code of what ended.
const ENDED: u32 = 1;
/// The ticket was given up.
const ABANDONED: u32 = 2;
/// The request is to be cancelled.
const CANCELLED: u32 = 4;
/// There is, or was, a waiter.
const WAITED_FOR: u32 = 8;
const CODE_SHIFT: u32 = 8;
/// The code of the cell's own answer, which in the first cell of a group is not that of the whole.
const OWN_CODE_SHIFT: u32 = 16;
/// No request, or one on its way.
const PENDING: u32 = 0;
/// No cell follows.
const NO_CELL: u32 = u32::MAX;

/// Whom to wake when the answer is there.
pub(super) enum Waiter {
    None,
    Thread(Thread),
    Task(Waker),
}

impl Waiter {
    pub(super) fn wake(self) -> Finished {
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
    /// The ticket was given up.
    GivenUp,
    /// It awaits its ticket; nobody waits yet.
    Kept,
    /// It awaits its ticket, whose waiter was woken.
    Woke,
}

/// See the module.
pub(super) struct Cell<T> {
    state: AtomicU32,
    /// Whether the engine was told and has not yet looked, see [`Cell::announce_cancel`].
    is_announced: AtomicBool,
    /// The engine's until `ENDED` is set, the ticket's from then on.
    answer: UnsafeCell<Option<T>>,
    /// None in a cell at rest.
    waiter: Mutex<Waiter>,
    /// The next cell of its group, see [`super::group`]; none in a cell at rest.
    next: AtomicU32,
    /// In the first cell of a group: how many of its requests have no answer.
    pub(super) left_len: AtomicU32,
}

// SAFETY: the answer, which may be sent between threads and shared, is reached by one side at a
// time; several threads of the ticket's may look at it.
unsafe impl<T: Send + Sync> Sync for Cell<T> {}

impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU32::new(PENDING),
            is_announced: AtomicBool::new(false),
            answer: UnsafeCell::new(None),
            waiter: Mutex::new(Waiter::None),
            next: AtomicU32::new(NO_CELL),
            left_len: AtomicU32::new(0),
        }
    }

    /// Has another cell follow, for the one who owns both.
    pub(super) fn link(&self, next: u32) {
        // Relaxed, as below: it passes from owner to owner as the answer does.
        self.next.store(next, Ordering::Relaxed);
    }

    /// The cell that follows.
    pub(super) fn next(&self) -> Option<u32> {
        let next = self.next.load(Ordering::Relaxed);
        (next != NO_CELL).then_some(next)
    }

    /// The cell that follows, and no more from here on.
    pub(super) fn unlink(&self) -> Option<u32> {
        let next = self.next();
        self.link(NO_CELL);
        next
    }

    /// Whether [`Cell::take`] will succeed.
    pub(super) fn is_ended(&self) -> bool {
        self.code().is_some()
    }

    /// What it was finished or ended with, if the answer is there.
    pub(super) fn code(&self) -> Option<u8> {
        // Acquire: what the engine did before it finished the answer is seen.
        let state = self.state.load(Ordering::Acquire);
        (state & ENDED != 0).then_some((state >> CODE_SHIFT) as u8)
    }

    /// What the cell's own answer was finished or kept with; 0 before.
    pub(super) fn own_code(&self) -> u8 {
        (self.state.load(Ordering::Acquire) >> OWN_CODE_SHIFT) as u8
    }

    /// Looks at the answer, if it is there. The ticket must not be taking it.
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        if !self.is_ended() {
            return None;
        }
        // SAFETY: the ticket's, who says that nobody changes it.
        self.answer.with(|place| unsafe { (*place).as_ref() }.map(look))
    }

    /// Stores the answer and wakes the waiter. `code` tells how it is to those who only look.
    pub(super) fn finish(&self, answer: T, code: u8) -> Finished {
        // SAFETY: the engine's, as nothing has ended yet.
        self.answer.with_mut(|place| unsafe { *place = Some(answer) });
        let (finished, answer) = self.set_ended(code, code);
        drop(answer);
        finished
    }

    /// Stores the answer for [`Cell::end`].
    pub(super) fn keep(&self, answer: T, code: u8) {
        // SAFETY: the engine's, as nothing has ended yet.
        self.answer.with_mut(|place| unsafe { *place = Some(answer) });
        // Relaxed: ending publishes it.
        self.state.fetch_or(u32::from(code) << OWN_CODE_SHIFT, Ordering::Relaxed);
    }

    /// Ends what [`Cell::keep`] stored the answer of: what became of that, and the answer if the
    /// ticket was given up.
    pub(super) fn end(&self, code: u8) -> (Finished, Option<T>) {
        self.set_ended(code, 0)
    }

    fn set_ended(&self, code: u8, own_code: u8) -> (Finished, Option<T>) {
        let codes = u32::from(code) << CODE_SHIFT | u32::from(own_code) << OWN_CODE_SHIFT;
        let ended = ENDED | codes;
        let mut before = self.state.load(Ordering::Relaxed);
        let mut waiter = Waiter::None;
        loop {
            if before & WAITED_FOR != 0 {
                let mut place = self.lock();
                waiter = std::mem::replace(&mut *place, Waiter::None);
                before = self.state.fetch_or(ended, Ordering::AcqRel);
                break;
            }
            // Release: the answer comes before. Acquire: so does what an abandoned ticket did.
            let swapped = self.state.compare_exchange_weak(
                before,
                before | ended,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        if before & ABANDONED != 0 {
            return (Finished::GivenUp, Some(self.put_to_rest()));
        }
        (waiter.wake(), None)
    }

    /// Whether the answer is there; else remembers whom to wake.
    pub(super) fn is_ended_or_wait(&self, waiter: impl FnOnce() -> Waiter) -> bool {
        self.is_ended() || !self.wait(waiter())
    }

    /// The answer if it is there.
    pub(super) fn take(&self) -> Option<T> {
        // Acquire: the answer is seen.
        let is_ended = self.state.load(Ordering::Acquire) & ENDED != 0;
        is_ended.then(|| self.put_to_rest())
    }

    /// Remembers whom to wake, in place of whom it was to wake before; false if the answer is
    /// there.
    pub(super) fn wait(&self, waiter: Waiter) -> bool {
        let mut place = self.lock();
        let before = std::mem::replace(&mut *place, waiter);
        let is_ended = self.state.fetch_or(WAITED_FOR, Ordering::AcqRel) & ENDED != 0;
        let after =
            if is_ended { std::mem::replace(&mut *place, Waiter::None) } else { Waiter::None };
        // Wakers run code of others as they are dropped.
        drop(place);
        drop((before, after));
        !is_ended
    }

    /// Forgets whom to wake. The request must not have been handed in.
    pub(super) fn wait_no_more(&self) {
        let waiter = std::mem::replace(&mut *self.lock(), Waiter::None);
        self.state.store(PENDING, Ordering::Relaxed);
        drop(waiter);
    }

    /// Gives up the ticket. The answer if it is there; else the request is still on its way and
    /// should be cancelled.
    pub(super) fn abandon(&self) -> Option<T> {
        let mut before = self.state.load(Ordering::Acquire);
        if before & ENDED == 0 {
            if before & WAITED_FOR != 0 {
                let waiter = std::mem::replace(&mut *self.lock(), Waiter::None);
                drop(waiter);
            }
            // Release: whoever has the cell next finds it as the ticket left it.
            before = self.state.fetch_or(ABANDONED, Ordering::AcqRel);
        }
        (before & ENDED != 0).then(|| self.put_to_rest())
    }

    /// Asks for the request to be cancelled; false if it has ended.
    pub(super) fn cancel(&self) -> bool {
        self.state.fetch_or(CANCELLED, Ordering::AcqRel) & ENDED == 0
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
        let state = self.state.load(Ordering::Acquire);
        state & ENDED == 0 && state & (ABANDONED | CANCELLED) != 0
    }

    /// Takes the answer out. For the side that came second.
    fn put_to_rest(&self) -> T {
        // SAFETY: the other side set its flag, and does nothing in the cell after that.
        let answer = self.answer.with_mut(|place| unsafe { (*place).take() });
        // Relaxed: whoever has the cell next got the slot that guards it, which the answer holds.
        self.state.store(PENDING, Ordering::Relaxed);
        answer.expect("what has ended has an answer")
    }

    fn lock(&self) -> MutexGuard<'_, Waiter> {
        // Nothing panics while it holds the lock.
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
