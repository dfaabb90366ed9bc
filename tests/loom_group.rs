//! Every interleaving of a group's answers with its ticket.
//!
//! Goal: a group ends once, with its last answer, and its ticket then finds all of them; each
//! answer is taken or dropped once, and each cell is at rest and unlinked before its slot can be
//! used anew. Method: `src/engine/group.rs` and `src/engine/cell.rs` themselves over loom's locks
//! and atomics.
//!
//! Runs under `--cfg loom` alone: `scripts/loom.sh`.
#![cfg(loom)]
#![allow(dead_code, reason = "the cells are compiled here without their engine")]

#[path = "../src/engine/cell.rs"]
mod cell;
#[path = "../src/engine/group.rs"]
mod group;

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

/// An answer that holds the slot of its cell: says when it is let go.
struct Answer {
    member: u32,
    freed: Arc<Vec<AtomicUsize>>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.freed[self.member as usize].fetch_add(1, Ordering::AcqRel);
    }
}

struct Group {
    cells: Arc<Vec<Cell<Answer>>>,
    freed: Arc<Vec<AtomicUsize>>,
}

impl Group {
    /// The cells in this order; the ring that they went through is ordered by starting threads.
    fn new(members: &[u32]) -> Self {
        let cells: Vec<_> = members.iter().map(|_| Cell::new()).collect();
        group::link(&cells, members.iter().copied());
        let freed = members.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { cells: Arc::new(cells), freed: Arc::new(freed) }
    }

    /// Finishes members in this order, each with its number as its code, on a thread of its own:
    /// what became of the whole.
    fn finish(&self, first: u32, order: &'static [u32]) -> thread::JoinHandle<Finished> {
        let (cells, freed) = (Arc::clone(&self.cells), Arc::clone(&self.freed));
        thread::spawn(move || {
            let mut finished = None;
            for &member in order {
                assert!(finished.is_none());
                let answer = Answer { member, freed: Arc::clone(&freed) };
                finished = group::finish(&cells, first, member, answer, member as u8);
            }
            finished.expect("the last one ends the whole")
        })
    }

    fn freed(&self, member: u32) -> usize {
        self.freed[member as usize].load(Ordering::Acquire)
    }

    fn assert_at_rest(&self, member: u32) {
        let cell = &self.cells[member as usize];
        assert!(cell.take().is_none() && !cell.is_ended() && cell.next().is_none());
    }
}

/// Every interleaving with so many preemptions at most, more would take hours.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Whoever waits finds every answer, in the order of the group.
#[test]
fn a_waiter_gets_all_answers() {
    for order in [&[2, 0, 1], &[0, 1, 2], &[1, 2, 0]] {
        check(move || {
            let group = Group::new(&[2, 0, 1]);
            let engine = group.finish(2, order);
            let head = &group.cells[2];
            while !head.is_ended_or_wait(|| Waiter::Thread(thread::current())) {
                thread::park();
            }
            // Of the first in order that is not 0.
            assert_eq!(head.code(), Some(2));
            let own: Vec<_> = group::members(&group.cells, 2)
                .map(|cell| group.cells[cell as usize].own_code())
                .collect();
            assert_eq!(own, [2, 0, 1]);
            let mut next = Some(2);
            for member in [2, 0, 1] {
                assert_eq!(group::take(&group.cells, &mut next).unwrap().member, member);
                group.assert_at_rest(member);
                assert_eq!(group.freed(member), 1);
            }
            assert_eq!(next, None);
            assert_ne!(engine.join().unwrap(), Finished::GivenUp);
        });
    }
}

/// The ticket is given up at any moment: whoever has a slot next finds its cell at rest.
#[test]
fn cells_are_at_rest_before_their_slots_are_free() {
    for order in [&[0, 1], &[1, 0]] {
        check(move || {
            let group = Group::new(&[0, 1]);
            let engine = group.finish(0, order);
            let ticket = {
                let cells = Arc::clone(&group.cells);
                thread::spawn(move || {
                    cells[0].wait(Waiter::Thread(thread::current()));
                    group::abandon(&cells, 0)
                })
            };
            for member in [0, 1] {
                if group.freed(member) == 1 {
                    group.assert_at_rest(member);
                }
            }
            let was_given_up = engine.join().unwrap() == Finished::GivenUp;
            assert_eq!(ticket.join().unwrap(), was_given_up);
            for member in [0, 1] {
                assert_eq!(group.freed(member), 1);
                group.assert_at_rest(member);
            }
        });
    }
}

/// A cancellation meets a group as long as it has not ended, even if its first request has.
#[test]
fn a_group_is_cancelled_until_all_of_it_has_ended() {
    check(|| {
        let group = Group::new(&[0, 1]);
        let answer = Answer { member: 0, freed: Arc::clone(&group.freed) };
        assert_eq!(group::finish(&group.cells, 0, 0, answer, 0), None);
        let engine = group.finish(0, &[1]);
        let is_cancelled = group.cells[0].cancel() && group.cells[0].announce_cancel();
        let has_ended = group.cells[0].is_ended();
        engine.join().unwrap();
        assert!(is_cancelled || group.cells[0].is_ended());
        assert!(!has_ended || group.cells[0].code() == Some(1));
        assert!(!group.cells[0].is_cancelled());
        assert!(!group::abandon(&group.cells, 0));
    });
}
