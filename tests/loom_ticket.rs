//! Every interleaving of a ticket, its cancellation and the engine's answer.
//!
//! Goal: an answer is taken or dropped exactly once, no waiter sleeps through it, no cancellation
//! is overlooked or meets another request, and a cell is at rest before its slot can be used anew.
//! Method: `src/engine/cell.rs` itself over loom's locks, atomics and threads.
//!
//! Runs under `--cfg loom` alone: `scripts/loom.sh`.
#![cfg(loom)]
#![allow(dead_code, reason = "the cell is compiled here without its engine")]

#[path = "../src/engine/cell.rs"]
mod cell;

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::Thread;
}

use cell::{Cell, Finished, Waiter};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// An answer that holds a slot: counts when it is let go.
struct Answer {
    number: u32,
    freed: Arc<AtomicUsize>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.freed.fetch_add(1, Ordering::AcqRel);
    }
}

fn freed_len(freed: &AtomicUsize) -> usize {
    freed.load(Ordering::Acquire)
}

fn wait(cell: &Cell<Answer>) -> Answer {
    loop {
        if cell.is_ended_or_wait(|| Waiter::Thread(thread::current())) {
            return cell.take().unwrap();
        }
        thread::park();
    }
}

#[test]
fn a_waiter_gets_the_answer() {
    loom::model(|| {
        let (cell, freed) = (Arc::new(Cell::new()), Arc::new(AtomicUsize::new(0)));
        let engine = {
            let (cell, freed) = (Arc::clone(&cell), Arc::clone(&freed));
            thread::spawn(move || {
                assert_ne!(cell.finish(Answer { number: 5, freed }, 5), Finished::GivenUp)
            })
        };
        assert_eq!(wait(&cell).number, 5);
        engine.join().unwrap();
        assert_eq!(freed_len(&freed), 1);
        assert!(cell.take().is_none() && !cell.is_ended());
    });
}

/// The next request, which begins as soon as the slot is free, finds the cell at rest.
#[test]
fn a_cell_is_at_rest_before_its_slot_is_free() {
    loom::model(|| {
        let (cell, freed) = (Arc::new(Cell::new()), Arc::new(AtomicUsize::new(0)));
        let engine = {
            let (cell, freed) = (Arc::clone(&cell), Arc::clone(&freed));
            thread::spawn(move || cell.finish(Answer { number: 1, freed }, 1))
        };
        let ticket = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                cell.wait(Waiter::Thread(thread::current()));
                cell.abandon().is_none()
            })
        };
        if freed_len(&freed) == 1 {
            assert!(cell.take().is_none());
            let finished = cell.finish(Answer { number: 2, freed: Arc::clone(&freed) }, 2);
            assert_ne!(finished, Finished::GivenUp);
            assert_eq!(wait(&cell).number, 2);
        }
        let is_wanted = engine.join().unwrap() != Finished::GivenUp;
        let was_pending = ticket.join().unwrap();
        // Either the answer was there and the ticket dropped it, or the engine did.
        assert!(is_wanted != was_pending);
        assert!(cell.take().is_none());
        assert!(matches!(freed_len(&freed), 1 | 2));
    });
}

/// A ticket is cancelled from two sides while the engine looks, because of a message about the
/// request before: it looks again, or has seen it.
#[test]
fn no_cancellation_is_overlooked() {
    loom::model(|| {
        let cell = Arc::new(Cell::<Answer>::new());
        assert!(cell.announce_cancel());
        let messages = Arc::new(AtomicUsize::new(1));
        let cancel = || {
            let (cell, messages) = (Arc::clone(&cell), Arc::clone(&messages));
            thread::spawn(move || {
                assert!(cell.cancel());
                if cell.announce_cancel() {
                    messages.fetch_add(1, Ordering::AcqRel);
                }
            })
        };
        let cancels = [cancel(), cancel()];
        let mut seen = false;
        let mut look = || {
            let message_len = messages.swap(0, Ordering::AcqRel);
            // The channel has room for one message of each cell.
            assert!(message_len <= 1);
            if message_len > 0 {
                seen |= cell.is_cancelled();
            }
        };
        look();
        for cancel in cancels {
            cancel.join().unwrap();
        }
        look();
        assert!(seen);
    });
}

/// A message about a request that has ended meanwhile does not cancel the next one in its cell.
#[test]
fn a_late_message_cancels_nobody_else() {
    loom::model(|| {
        let (cell, freed) = (Arc::new(Cell::new()), Arc::new(AtomicUsize::new(0)));
        let engine = {
            let (cell, freed) = (Arc::clone(&cell), Arc::clone(&freed));
            thread::spawn(move || cell.finish(Answer { number: 1, freed }, 1))
        };
        let is_told = cell.cancel() && cell.announce_cancel();
        drop(wait(&cell));
        engine.join().unwrap();
        // The next request has the cell now.
        if is_told {
            assert!(!cell.is_cancelled());
        }
        assert_eq!(freed_len(&freed), 1);
    });
}
