//! Every interleaving of those who wait for slots with those who free them.
//!
//! Goal: nobody sleeps while what he lacks is free, the first in line is served first, and whoever
//! leaves it holds up nobody. Method: `src/engine/room.rs` itself over loom's locks, around slots
//! that are bits of a word with a flag, as in the ring (`tests/loom_ring.rs`).
//!
//! Runs under `--cfg loom` alone: `scripts/loom.sh`.
#![cfg(loom)]
#![allow(dead_code, reason = "the line is compiled here without its engine")]

#[path = "../src/engine/cell.rs"]
mod cell;
#[path = "../src/engine/room.rs"]
mod room;

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::Thread;
}

use cell::Waiter;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use room::{Room, Wanted};

/// Beside the bits of free slots.
const AWAITED: u32 = 1 << 31;

/// Slots that are taken one by one.
struct Slots {
    free: Arc<AtomicU32>,
    got: u32,
    len: u32,
}

impl Wanted for Slots {
    fn fill(&mut self) -> bool {
        let mut seen = self.free.load(Ordering::Relaxed);
        while self.got.count_ones() < self.len && seen & !AWAITED != 0 {
            let bit = 1 << (seen & !AWAITED).trailing_zeros();
            let swapped =
                self.free.compare_exchange(seen, seen & !bit, Ordering::Acquire, Ordering::Relaxed);
            match swapped {
                Ok(_) => {
                    self.got |= bit;
                    seen = self.free.load(Ordering::Relaxed);
                }
                Err(now) => seen = now,
            }
        }
        self.got.count_ones() == self.len
    }
}

/// A room and its slots, none of them free.
#[derive(Clone)]
struct Place {
    room: Arc<Room<Slots>>,
    free: Arc<AtomicU32>,
}

fn wake(waiter: Waiter) {
    waiter.wake();
}

impl Place {
    fn new() -> Self {
        let free = Arc::new(AtomicU32::new(0));
        let word = Arc::clone(&free);
        let set_awaited = move |is_awaited| {
            match is_awaited {
                true => word.fetch_or(AWAITED, Ordering::Relaxed),
                false => word.fetch_and(!AWAITED, Ordering::Relaxed),
            };
        };
        Self { room: Arc::new(Room::new(2, Box::new(set_awaited))), free }
    }

    /// As a ring with its waker.
    fn release(&self, slots: u32) {
        if self.free.fetch_or(slots, Ordering::Release) & AWAITED != 0 {
            self.room.serve(wake);
        }
    }

    fn enter(&self, len: u32) -> u32 {
        let wanted = Slots { free: Arc::clone(&self.free), got: 0, len };
        self.room.enter(wanted, wake).unwrap_or_else(|_| panic!("the line is full"))
    }

    /// Sleeps until it has so many.
    fn wait(&self, key: u32) -> u32 {
        loop {
            let waiter = Waiter::Thread(thread::current());
            if let Some(slots) = self.room.poll(key, waiter) {
                return slots.got;
            }
            thread::park();
        }
    }

    /// Leaves the line at once.
    fn leave(&self, key: u32) {
        if let Some(slots) = self.room.leave(key, wake)
            && slots.got != 0
        {
            self.release(slots.got);
        }
    }

    fn assert_nobody_waits(&self, free: u32) {
        assert_eq!(self.free.load(Ordering::Relaxed), free);
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// One wants two slots, which two others free one by one.
#[test]
fn nobody_sleeps_while_what_he_lacks_is_free() {
    check(|| {
        let place = Place::new();
        let owners = [1, 2].map(|slot| {
            let place = place.clone();
            thread::spawn(move || place.release(slot))
        });
        let key = place.enter(2);
        assert_eq!(place.wait(key), 3);
        owners.into_iter().for_each(|owner| owner.join().unwrap());
        place.assert_nobody_waits(0);
    });
}

/// Two wait for one slot each: the second also gets what the first frees.
#[test]
fn each_in_line_is_served() {
    check(|| {
        let place = Place::new();
        let other = {
            let place = place.clone();
            thread::spawn(move || {
                let key = place.enter(1);
                let slots = place.wait(key);
                place.release(slots);
            })
        };
        place.release(1);
        let key = place.enter(1);
        let slots = place.wait(key);
        place.release(slots);
        other.join().unwrap();
        place.assert_nobody_waits(1);
    });
}

/// The first in line, which lacks one slot, gives up as another is freed: the second gets both.
#[test]
fn who_leaves_the_line_holds_up_nobody() {
    check(|| {
        let place = Place::new();
        place.release(1);
        let first = place.enter(2);
        let second = place.enter(2);
        let owner = {
            let place = place.clone();
            thread::spawn(move || place.release(2))
        };
        let leaver = {
            let place = place.clone();
            thread::spawn(move || place.leave(first))
        };
        assert_eq!(place.wait(second), 3);
        owner.join().unwrap();
        leaver.join().unwrap();
        place.assert_nobody_waits(0);
    });
}

/// The end comes while one is about to sleep.
#[test]
fn nobody_sleeps_through_the_end() {
    check(|| {
        let place = Place::new();
        let has_ended = Arc::new(AtomicU32::new(0));
        let engine = {
            let (place, has_ended) = (place.clone(), Arc::clone(&has_ended));
            thread::spawn(move || {
                has_ended.fetch_max(1, Ordering::Release);
                place.room.wake_all(wake);
            })
        };
        let key = place.enter(1);
        loop {
            assert!(place.room.poll(key, Waiter::Thread(thread::current())).is_none());
            if has_ended.load(Ordering::Acquire) != 0 {
                break;
            }
            thread::park();
        }
        place.leave(key);
        engine.join().unwrap();
        place.assert_nobody_waits(0);
    });
}
