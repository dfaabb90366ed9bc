//! The ring's edges: limits, memory, closing, what becomes of requests, misuse across rings.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use twinstream::ring::{Full, Memory, Ring, RingOptions, Slot};

#[test]
fn sizes_out_of_range_are_refused() {
    for (slot_len, slot_bytes) in
        [(0, 64), (65_537, 64), (1, 0), (65_536, usize::MAX / 2), (2, usize::MAX), (1, usize::MAX)]
    {
        let error = Ring::<()>::new(&RingOptions::new(slot_len, slot_bytes)).unwrap_err();
        assert!(error.is_argument(), "{slot_len} x {slot_bytes}: {error}");
    }
    let too_much = Ring::<()>::new(&RingOptions::new(65_536, 1 << 46)).unwrap_err();
    assert!(too_much.is_memory() || too_much.is_argument(), "{too_much}");
}

#[test]
fn memory_is_no_weaker_than_asked_and_said() {
    for memory_weakest in [Memory::Cuda, Memory::Locked, Memory::Plain] {
        match Ring::<()>::new(&RingOptions::new(8, 100).memory_weakest(memory_weakest)) {
            Ok((ring, _)) => {
                eprintln!("asked for {memory_weakest:?}, got {:?}", ring.memory());
                assert!(ring.memory() as u32 <= memory_weakest as u32);
            }
            Err(error) => {
                assert!(error.is_memory(), "{error}");
                assert_ne!(memory_weakest, Memory::Plain, "{error}");
            }
        }
    }
}

#[test]
fn slots_are_zeroed_aligned_and_one_stride_apart() {
    let (ring, mut consumer) = Ring::new(&RingOptions::new(70, 100)).unwrap();
    assert_eq!((ring.slot_len(), ring.slot_bytes(), ring.stride_bytes()), (70, 100, 128));
    for slot in 0..70 {
        let mut lease = ring.lease().unwrap();
        assert_eq!((lease.slot(), lease.len()), (slot, 100));
        assert!(lease.iter().all(|byte| *byte == 0));
        assert_eq!(lease.as_ptr().addr() % if slot == 0 { 4096 } else { 64 }, 0);
        lease.fill(slot as u8);
        lease.commit(slot).unwrap();
    }
    assert_eq!(ring.lease().unwrap_err(), Full);
    let slots: Vec<Slot> = std::iter::from_fn(|| consumer.take().map(|(slot, _)| slot)).collect();
    let runs: Vec<_> = ring.runs(&slots).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].first, runs[0].len, runs[0].bytes.len()), (0, 70, 69 * 128 + 100));
    for (slot, bytes) in runs[0].bytes.chunks(128).enumerate() {
        assert!(bytes[..100].iter().all(|byte| *byte == slot as u8));
    }
    ring.release(slots);
}

/// Goal: a chunk that lies across the storage's end costs two copies, any other one. Method: steady
/// traffic through a ring whose size is no multiple of the chunk's.
#[test]
fn a_chunk_takes_two_copies_at_most() {
    let (ring, mut consumer) = Ring::new(&RingOptions::new(45, 64)).unwrap();
    let mut across = 0;
    for chunk in 0..100 {
        for image in 0..8 {
            ring.lease().unwrap().commit(chunk * 8 + image).unwrap();
        }
        let mut slots = Vec::new();
        for image in 0..8 {
            let (slot, request) = consumer.take().unwrap();
            assert_eq!(request, chunk * 8 + image);
            slots.push(slot);
        }
        let copies = ring.runs(&slots).count();
        let wraps = slots[0].index() + 8 > 45;
        assert_eq!(copies, if wraps { 2 } else { 1 });
        across += usize::from(wraps);
        ring.release(slots);
    }
    assert!(across > 0);
}

/// Goal: few requests at a time move through few slots, which caches hold; many through all.
#[test]
fn leases_begin_anew_where_the_first_slots_are_free() {
    let highest = |open_len: usize| {
        let (ring, mut consumer) = Ring::new(&RingOptions::new(1000, 8)).unwrap();
        let mut open = VecDeque::new();
        let mut highest = 0;
        for _ in 0..3000 {
            ring.lease().unwrap().commit(0).unwrap();
            let (slot, _) = consumer.take().unwrap();
            highest = highest.max(slot.index());
            open.push_back(slot);
            if open.len() == open_len {
                ring.release(open.pop_front());
            }
        }
        ring.release(open);
        highest
    };
    assert_eq!((highest(1), highest(100), highest(990)), (63, 191, 999));
}

/// Goal: neither a lease kept long, nor one dropped, nor a slot released late holds up others.
#[test]
fn slow_owners_hold_up_nobody() {
    let (ring, mut consumer) = Ring::new(&RingOptions::new(4, 8)).unwrap();
    let slow_lease = ring.lease().unwrap();
    drop(ring.lease().unwrap());
    ring.lease().unwrap().commit(0).unwrap();
    let (late_slot, _) = consumer.take().unwrap();
    for request in 1..100 {
        ring.lease().unwrap().commit(request).unwrap();
        let (slot, found) = consumer.take().unwrap();
        assert_eq!(found, request);
        ring.release([slot]);
    }
    slow_lease.commit(100).unwrap();
    let (slot, found) = consumer.take().unwrap();
    assert_eq!(found, 100);
    ring.release([late_slot, slot]);
    let leases: Vec<_> = (0..4).map(|_| ring.lease().unwrap()).collect();
    assert_eq!(ring.lease().unwrap_err(), Full);
    drop(leases);
}

#[test]
fn the_consumers_end_returns_every_request_once() {
    let (ring, mut consumer) = Ring::new(&RingOptions::new(40, 8)).unwrap();
    let request = Arc::new(());
    for _ in 0..35 {
        ring.lease().unwrap().commit(Arc::clone(&request)).unwrap();
    }
    // Leaves the rest of the run that this came from inside the consumer.
    let (slot, taken) = consumer.take().unwrap();
    ring.release([slot]);
    drop(taken);
    assert_eq!(Arc::strong_count(&request), 35);
    let lease = ring.lease().unwrap().into_owned();
    drop(consumer);
    assert_eq!(Arc::strong_count(&request), 1);
    let refused = lease.commit(Arc::clone(&request)).unwrap_err();
    assert_eq!(Arc::strong_count(&request), 2);
    drop(refused);
    assert_eq!(Arc::strong_count(&request), 1);
    let leases: Vec<_> = (0..40).map(|_| ring.lease().unwrap()).collect();
    assert_eq!(leases.len(), 40, "every slot is free again");
}

#[test]
fn an_owned_lease_outlives_its_ring() {
    let (ring, consumer) = Ring::<()>::new(&RingOptions::new(2, 3072)).unwrap();
    let mut lease = ring.lease().unwrap().into_owned();
    drop((ring, consumer));
    lease.fill(7);
    assert!(lease.iter().all(|byte| *byte == 7));
    assert!(lease.commit(()).is_err());
}

#[test]
fn another_rings_slot_is_refused() {
    let (one, mut consumer) = Ring::new(&RingOptions::new(1, 8)).unwrap();
    let (other, _other_consumer) = Ring::<()>::new(&RingOptions::new(1, 8)).unwrap();
    one.lease().unwrap().commit(()).unwrap();
    let (slot, ()) = consumer.take().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| other.bytes(&slot).len())).is_err());
    assert!(
        catch_unwind(AssertUnwindSafe(|| other.runs(std::slice::from_ref(&slot)).count())).is_err()
    );
    assert!(catch_unwind(AssertUnwindSafe(|| other.release([slot]))).is_err());
}

/// Goal: while slots are awaited, free ones are for who waits, and whoever frees one says so.
#[test]
fn awaited_slots_are_for_who_waits() {
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (ring, mut consumer) = Ring::new(&RingOptions::new(40, 1)).unwrap();
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let count = || woken.0.load(Ordering::Relaxed);
    ring.set_freed_waker(Waker::from(Arc::clone(&woken)));
    let mut rest = ring.chain();
    assert!(rest.lease(38));
    drop(rest.pop());
    assert_eq!(count(), 0, "nobody waits yet");
    ring.set_awaited(true);
    assert_eq!(ring.lease().unwrap_err(), Full);
    let mut others = ring.chain();
    assert!(!others.lease(1) && others.is_empty());
    let mut waits = ring.chain();
    assert!(!waits.lease_next(5));
    assert_eq!((waits.len(), ring.used_len(), count()), (3, 40, 0));
    drop(rest.pop());
    assert!(!waits.lease_next(5));
    let lease = rest.pop().unwrap();
    lease.commit(7).unwrap();
    ring.release(consumer.take().map(|(slot, _)| slot));
    assert_eq!(count(), 2);
    assert!(waits.lease_next(5));
    ring.set_awaited(false);
    drop((waits, rest));
    assert_eq!((count(), ring.used_len()), (2, 0));
    drop(ring.lease().unwrap());
    let again = catch_unwind(AssertUnwindSafe(|| ring.set_freed_waker(Waker::noop().clone())));
    assert!(again.is_err());
}
