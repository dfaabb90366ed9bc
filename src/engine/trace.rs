//! Hands the scheduling thread's trace to whoever asks for it.
//!
//! Invariant: whoever asks brings an empty trace, so the scheduling thread only looks at a flag and
//! swaps two traces; it never waits for a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::sched::{Scheduler, Trace};

#[derive(Default)]
struct Place {
    /// To be recorded into from now on.
    empty: Option<Trace>,
    /// What was recorded until then.
    recorded: Option<Trace>,
    /// What was recorded after that, once the engine has ended.
    last: Option<Trace>,
    is_ended: bool,
}

/// See the module.
pub(super) struct Traces {
    capacity: usize,
    /// Held by the one who asks.
    turn: Mutex<()>,
    is_asked: AtomicBool,
    place: Mutex<Place>,
    answered: Condvar,
}

impl Traces {
    /// For traces of so many events; 0: there are none.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            turn: Mutex::default(),
            is_asked: AtomicBool::new(false),
            place: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// An empty trace to record into.
    pub(super) fn empty(&self) -> Trace {
        Trace::new(self.capacity)
    }

    /// What was recorded since this was last called; none if nothing is. `wake` makes the
    /// scheduling thread look.
    pub(super) fn take(&self, wake: impl FnOnce()) -> Option<Trace> {
        if self.capacity == 0 {
            return None;
        }
        let empty = self.empty();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock().empty = Some(empty);
        // Release: whoever sees it finds the empty trace.
        self.is_asked.store(true, Ordering::Release);
        wake();
        let is_open = |place: &mut Place| place.recorded.is_none() && !place.is_ended;
        let place = self.answered.wait_while(self.lock(), is_open);
        let mut place = place.unwrap_or_else(PoisonError::into_inner);
        let recorded = place.recorded.take().or_else(|| place.last.take());
        Some(recorded.unwrap_or_default())
    }

    /// Answers who asks; false if nobody does. One who is just at the place is answered when this
    /// is called next.
    pub(super) fn answer(&self, scheduler: &mut Scheduler) -> bool {
        if !self.is_asked.load(Ordering::Acquire) {
            return false;
        }
        let mut place = match self.place.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        self.is_asked.store(false, Ordering::Relaxed);
        if let Some(empty) = place.empty.take() {
            place.recorded = Some(scheduler.replace_trace(empty));
        }
        drop(place);
        self.answered.notify_all();
        true
    }

    /// Leaves the last trace for whoever asks; nothing is recorded any more.
    pub(super) fn end(&self, scheduler: &mut Scheduler) {
        let mut place = self.lock();
        place.last = Some(scheduler.replace_trace(Trace::default()));
        place.is_ended = true;
        drop(place);
        self.answered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
