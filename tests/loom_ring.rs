//! Every interleaving, and every value a weak memory may show, of the ring's C++ protocol.
//!
//! Goal: no history loses or doubles a slot, lets two owners touch its bytes, or leaves a committed
//! slot with a sleeping consumer. Method: `cuda/ring/protocol.hpp` itself, compiled over atomics
//! that call back into loom, which runs all executions up to a bound on preemptions. Each slot's
//! bytes are a loom cell, which fails on any access that the protocol's orders leave unordered; the
//! last tests weaken those orders one by one and must see exactly that.
//!
//! Runs under `--cfg loom` alone: `scripts/loom.sh`.
#![cfg(loom)]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

const OK: i32 = 0;
const FULL: i32 = 3;
const CLOSED: i32 = 4;

/// `twinstream_run`.
#[repr(C)]
#[derive(Default)]
struct Run {
    first: u32,
    len: u32,
}

#[link(name = "twinstream_loom_ring", kind = "static")]
unsafe extern "C-unwind" {
    fn loom_ring_new(slot_len: u32) -> *mut c_void;
    fn loom_ring_free(ring: *mut c_void);
    fn loom_ring_lease(ring: *mut c_void, len_max: u32, is_next: u32, run: *mut Run) -> i32;
    fn loom_ring_commit(ring: *mut c_void, slot: u32, sleeps: *mut u32) -> i32;
    fn loom_ring_take(ring: *mut c_void, len_max: u32, run: *mut Run);
    fn loom_ring_release(ring: *mut c_void, slot: u32, is_awaited: *mut u32) -> i32;
    fn loom_ring_await(ring: *mut c_void, is_awaited: u32);
    fn loom_ring_sleep(ring: *mut c_void) -> i32;
    fn loom_ring_wake(ring: *mut c_void);
    fn loom_ring_close(ring: *mut c_void);
}

#[link(name = "stdc++")]
unsafe extern "C" {}

/// The four orders that the protocol rests on, told apart by operation and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rests {
    Lease,
    Commit,
    Take,
    Release,
}

thread_local! {
    /// The order that a test of these tests replaces by relaxed. Loom's threads share one of the
    /// system's.
    static WEAKENED: Cell<Option<Rests>> = const { Cell::new(None) };
}

/// Loom's order for the C++ side's number.
fn ordering(number: i32, exchange: bool) -> Ordering {
    let (order, rests) = match (number, exchange) {
        (0, false) => return Ordering::Relaxed,
        (1, true) => (Ordering::Acquire, Rests::Lease),
        (1, false) => (Ordering::Acquire, Rests::Take),
        (2, true) => (Ordering::Release, Rests::Commit),
        (2, false) => (Ordering::Release, Rests::Release),
        _ => panic!("order {number} is not the protocol's"),
    };
    if WEAKENED.get() == Some(rests) { Ordering::Relaxed } else { order }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn loom_word_new(value: u64) -> *mut AtomicU64 {
    Box::into_raw(Box::new(AtomicU64::new(value)))
}

// SAFETY: the C++ side calls these with what `loom_word_new` gave and has not freed.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn loom_word_free(word: *mut AtomicU64) {
    // SAFETY: as above, and it frees each word once.
    drop(unsafe { Box::from_raw(word) });
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn loom_word_load(word: *const AtomicU64) -> u64 {
    // SAFETY: as above.
    unsafe { &*word }.load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn loom_word_store(word: *const AtomicU64, value: u64) {
    // SAFETY: as above.
    unsafe { &*word }.store(value, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn loom_word_or(word: *const AtomicU64, bits: u64, order: i32) -> u64 {
    // SAFETY: as above.
    unsafe { &*word }.fetch_or(bits, ordering(order, false))
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn loom_word_and(word: *const AtomicU64, bits: u64, order: i32) -> u64 {
    // SAFETY: as above.
    unsafe { &*word }.fetch_and(bits, ordering(order, false))
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn loom_word_exchange(
    word: *const AtomicU64,
    expected: *mut u64,
    desired: u64,
    order: i32,
) -> u32 {
    // SAFETY: as above; `expected` is the C++ side's local variable.
    let (word, expected) = unsafe { (&*word, &mut *expected) };
    match word.compare_exchange(*expected, desired, ordering(order, true), Ordering::Relaxed) {
        Ok(_) => 1,
        Err(found) => {
            *expected = found;
            0
        }
    }
}

/// The protocol and, for each slot, a cell that stands for its bytes.
struct Ring {
    ring: *mut c_void,
    bytes: Vec<UnsafeCell<usize>>,
}

// SAFETY: what is under test: loom reports every unordered access.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    fn new(slot_len: u32) -> Arc<Self> {
        // SAFETY: a plain constructor.
        let ring = unsafe { loom_ring_new(slot_len) };
        Arc::new(Self { ring, bytes: (0..slot_len).map(|_| UnsafeCell::new(0)).collect() })
    }

    fn lease(&self) -> Option<u32> {
        let run = self.lease_run(1, false);
        assert!(run.len() <= 1);
        run.into_iter().next()
    }

    fn lease_run(&self, len_max: u32, is_next: bool) -> std::ops::Range<u32> {
        let mut run = Run::default();
        // SAFETY: the ring lives as long as `self`; so below.
        let status = unsafe { loom_ring_lease(self.ring, len_max, is_next.into(), &mut run) };
        assert!(status == OK || status == FULL);
        assert_eq!(status == FULL, run.len == 0);
        run.first..run.first + run.len
    }

    fn write(&self, slot: u32, value: usize) {
        // SAFETY: loom checks that nothing else reaches the cell.
        self.bytes[slot as usize].with_mut(|bytes| unsafe { *bytes = value });
    }

    fn read(&self, slot: u32) -> usize {
        // SAFETY: loom checks that nothing writes to the cell.
        self.bytes[slot as usize].with(|bytes| unsafe { *bytes })
    }

    /// Whether the consumer must be woken; `None` when closed.
    fn commit(&self, slot: u32) -> Option<bool> {
        let mut sleeps = 0;
        // SAFETY: see `lease`.
        let status = unsafe { loom_ring_commit(self.ring, slot, &mut sleeps) };
        assert!(status == OK || status == CLOSED);
        (status == OK).then_some(sleeps != 0)
    }

    fn take(&self) -> std::ops::Range<u32> {
        let mut run = Run::default();
        // SAFETY: see `lease`; each test has one consumer.
        unsafe { loom_ring_take(self.ring, u32::MAX, &mut run) };
        run.first..run.first + run.len
    }

    /// Whether slots are awaited.
    fn release(&self, slot: u32) -> bool {
        let mut is_awaited = 0;
        // SAFETY: see `lease`.
        assert_eq!(unsafe { loom_ring_release(self.ring, slot, &mut is_awaited) }, OK);
        is_awaited != 0
    }

    fn set_awaited(&self, is_awaited: bool) {
        // SAFETY: see `lease`; each test has one thread that announces it.
        unsafe { loom_ring_await(self.ring, is_awaited.into()) };
    }

    fn sleep(&self) -> bool {
        // SAFETY: see `take`.
        unsafe { loom_ring_sleep(self.ring) != 0 }
    }

    fn wake(&self) {
        // SAFETY: see `take`.
        unsafe { loom_ring_wake(self.ring) };
    }

    fn close(&self) {
        // SAFETY: see `take`.
        unsafe { loom_ring_close(self.ring) };
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A failed execution is torn down without its model: the words cannot be used any more.
        if !std::thread::panicking() {
            // SAFETY: the last reference is gone.
            unsafe { loom_ring_free(self.ring) };
        }
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Two producers and a consumer over fewer slots than requests: slots are used again, and each
/// request is taken once, with its own bytes.
fn reuse() {
    let ring = Ring::new(1);
    let done = Arc::new(AtomicUsize::new(0));
    let producers: Vec<_> = [10, 20]
        .map(|value| {
            let (ring, done) = (Arc::clone(&ring), Arc::clone(&done));
            thread::spawn(move || {
                let committed = ring.lease().map(|slot| {
                    ring.write(slot, value);
                    assert_eq!(ring.commit(slot), Some(false));
                    value
                });
                done.fetch_add(1, Ordering::Release);
                committed.unwrap_or(0)
            })
        })
        .into();
    let mut taken = 0;
    loop {
        let finished = done.load(Ordering::Acquire) == 2;
        let run = ring.take();
        if run.is_empty() {
            if finished {
                break;
            }
            thread::yield_now();
        }
        for slot in run {
            taken += ring.read(slot);
            ring.release(slot);
        }
    }
    let committed: usize = producers.into_iter().map(|one| one.join().unwrap()).sum();
    assert!(committed >= 10, "one of two finds the slot free");
    assert_eq!(taken, committed);
    assert_eq!((ring.lease(), ring.lease()), (Some(0), None));
}

#[test]
fn a_reused_slot_has_one_owner() {
    check(3, reuse);
}

/// Goal: concurrent leases never share a slot, and one dropped is free again. Method: three threads
/// over two slots that write at once.
#[test]
fn leases_are_exclusive() {
    check(3, || {
        let ring = Ring::new(2);
        let lessees: Vec<_> = (1..3)
            .map(|value| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let slot = ring.lease()?;
                    ring.write(slot, value);
                    assert_eq!(ring.read(slot), value);
                    ring.release(slot);
                    Some(slot)
                })
            })
            .collect();
        let own = ring.lease();
        if let Some(slot) = own {
            ring.write(slot, 3);
            assert_eq!(ring.read(slot), 3);
            ring.release(slot);
        }
        for lessee in lessees {
            lessee.join().unwrap();
        }
        let mut free = [ring.lease().unwrap(), ring.lease().unwrap()];
        free.sort_unstable();
        assert_eq!((free, ring.lease()), ([0, 1], None));
    });
}

/// Goal: whoever takes the first slot of a chain has all of them. Method: two producers lease runs,
/// write to each slot and commit the first alone.
#[test]
fn a_chain_comes_with_its_first_slot() {
    check(3, || {
        let ring = Ring::new(4);
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let run = ring.lease_run(2, false);
                    for slot in run.clone() {
                        ring.write(slot, 1 + (run.end - slot) as usize);
                    }
                    ring.commit(run.start).unwrap();
                    run.len()
                })
            })
            .collect();
        let mut taken = Vec::new();
        while taken.len() < 4 {
            for first in ring.take() {
                assert_eq!((ring.read(first), ring.read(first + 1)), (3, 2));
                taken.extend([first, first + 1]);
            }
            thread::yield_now();
        }
        taken.into_iter().for_each(|slot| assert!(!ring.release(slot)));
        for producer in producers {
            assert_eq!(producer.join().unwrap(), 2);
        }
        assert_eq!(std::iter::from_fn(|| ring.lease()).count(), 4);
    });
}

/// Goal: a commit either is taken or comes back, whenever the ring closes. Method: two producers
/// against `close`, in two bitmap words.
#[test]
fn closing_decides_each_commit() {
    check(3, || {
        let ring = Ring::new(33);
        // The second producer's slot lies in another word than the first's.
        for slot in 0..32 {
            assert_eq!(ring.lease(), Some(slot));
        }
        ring.release(0);
        let producers: Vec<_> = [0, 32]
            .map(|expected| {
                let slot = ring.lease().unwrap();
                assert!(slot == 0 || slot == 32, "{expected}");
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    ring.write(slot, 7);
                    let committed = ring.commit(slot).is_some();
                    if !committed {
                        assert_eq!(ring.read(slot), 7);
                    }
                    usize::from(committed)
                })
            })
            .into();
        ring.close();
        let mut taken = 0;
        loop {
            let run = ring.take();
            if run.is_empty() {
                break;
            }
            for slot in run {
                assert_eq!(ring.read(slot), 7);
                taken += 1;
            }
        }
        let committed: usize = producers.into_iter().map(|one| one.join().unwrap()).sum();
        assert_eq!(taken, committed);
        assert!(ring.take().is_empty());
    });
}

/// Goal: no wake-up is lost. Method: the consumer blocks on a notification that only a commit that
/// saw it asleep gives; a lost one is a deadlock, which loom reports.
#[test]
fn a_sleeping_consumer_is_woken() {
    // One preemption fewer than above: the bell multiplies the executions.
    check(2, || {
        let ring = Ring::new(2);
        let bell = Arc::new(Notify::new());
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let (ring, bell) = (Arc::clone(&ring), Arc::clone(&bell));
                thread::spawn(move || {
                    let slot = ring.lease().unwrap();
                    ring.write(slot, 1);
                    if ring.commit(slot).unwrap() {
                        bell.notify();
                    }
                })
            })
            .collect();
        let mut taken = 0;
        while taken < 2 {
            let run = ring.take();
            if run.is_empty() && ring.sleep() {
                bell.wait();
                ring.wake();
            }
            for slot in run {
                taken += ring.read(slot);
            }
        }
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

/// Goal: no freed slot is missed by who waits, and nobody takes it away. Method: one announces that
/// it waits and blocks until a release that saw this rings; a lost one is a deadlock, which loom
/// reports. Another tries to lease meanwhile.
#[test]
fn who_waits_gets_a_freed_slot() {
    check(2, || {
        let ring = Ring::new(33);
        // Slots in two words, all in use.
        assert_eq!(ring.lease_run(99, false), 0..32);
        assert_eq!(ring.lease_run(99, false), 32..33);
        let bell = Arc::new(Notify::new());
        let owner = {
            let (ring, bell) = (Arc::clone(&ring), Arc::clone(&bell));
            thread::spawn(move || {
                ring.write(32, 5);
                if ring.release(32) {
                    bell.notify();
                }
            })
        };
        ring.set_awaited(true);
        let other = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || assert_eq!(ring.lease(), None))
        };
        let mut run = ring.lease_run(1, true);
        while run.is_empty() {
            bell.wait();
            run = ring.lease_run(1, true);
        }
        assert_eq!((run.clone(), ring.read(32)), (32..33, 5));
        owner.join().unwrap();
        other.join().unwrap();
        assert!(ring.release(32));
        ring.set_awaited(false);
        assert_eq!(ring.lease(), Some(32));
        assert!(!ring.release(32));
    });
}

/// Goal: these checks can fail. Method: each order in turn is weakened to relaxed, and loom must
/// report the slot's bytes as reached by two threads with nothing between.
#[test]
fn every_order_is_needed() {
    for rests in [Rests::Lease, Rests::Commit, Rests::Take, Rests::Release] {
        WEAKENED.set(Some(rests));
        let outcome = catch_unwind(AssertUnwindSafe(|| check(3, reuse)));
        WEAKENED.set(None);
        let report = *outcome.expect_err("weakened and unnoticed").downcast::<String>().unwrap();
        assert!(report.contains("Causality violation"), "{rests:?}: {report}");
    }
}
