//! Slots that are lent: read by several, and free once all have done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use twinstream::ring::{Consumer, Reader, Ring, RingOptions, Slot};

fn ring(slot_len: u32) -> (Ring<()>, Consumer<()>) {
    Ring::new(&RingOptions::new(slot_len, 8)).unwrap()
}

/// A taken slot whose bytes all have this value.
fn taken(ring: &Ring<()>, consumer: &mut Consumer<()>, value: u8) -> Slot {
    let mut lease = ring.lease().unwrap();
    lease.fill(value);
    lease.commit(()).unwrap();
    consumer.take().unwrap().0
}

#[test]
fn a_slot_is_free_once_its_owner_and_all_readers_are_done() {
    // The owner (2) and two readers, each in its turn.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (ring, mut consumer) = ring(1);
        let slot = taken(&ring, &mut consumer, 7);
        let readers = [ring.reader(), ring.reader()];
        let mut lent: Vec<_> = readers.iter().map(|reader| Some(reader.lend(&slot))).collect();
        let mut slot = Some(slot);
        for who in order {
            assert_eq!(ring.used_len(), 1, "{order:?}");
            for (reader, lent) in readers.iter().zip(&lent) {
                if let Some(lent) = lent {
                    assert_eq!(reader.bytes(lent), [7; 8]);
                    let runs = reader.runs(std::slice::from_ref(lent));
                    assert!(runs.map(|run| run.bytes).eq([[7; 8]]));
                }
            }
            match lent.get_mut(who) {
                Some(lent) => readers[who].take_back(lent.take()),
                None => ring.release(slot.take()),
            }
        }
        assert_eq!(ring.used_len(), 0, "{order:?}");
        // And all over again: nothing is left of the loans.
        let slot = taken(&ring, &mut consumer, 8);
        ring.release([slot]);
        assert_eq!(ring.used_len(), 0);
    }
}

#[test]
fn a_reader_that_is_gone_reads_no_more_and_one_that_is_forgotten_for_ever() {
    let (ring, mut consumer) = ring(8);
    let slots: Vec<_> = (0..4).map(|value| taken(&ring, &mut consumer, value)).collect();
    let [gone, forgotten] = [ring.reader(), ring.reader()];
    let back = gone.lend(&slots[0]);
    gone.take_back([back]);
    let _lost = slots[..2].iter().map(|slot| gone.lend(slot)).collect::<Vec<_>>();
    let _kept = forgotten.lend(&slots[2]);
    ring.release(slots);
    assert_eq!(ring.used_len(), 3, "the last was lent to nobody");
    drop(gone);
    assert_eq!(ring.used_len(), 1);
    std::mem::forget(forgotten);
    drop(consumer);
    assert_eq!(ring.used_len(), 1);
}

#[test]
fn another_readers_slot_is_refused() {
    let (ring, mut consumer) = ring(2);
    let (slot, other) = (taken(&ring, &mut consumer, 1), taken(&ring, &mut consumer, 2));
    let [one, two] = [ring.reader(), ring.reader()];
    let lent = one.lend(&slot);
    let is_refused = |misuse: &dyn Fn()| catch_unwind(AssertUnwindSafe(misuse)).is_err();
    assert!(is_refused(&|| drop(one.lend(&slot))), "lent to it already");
    assert!(is_refused(&|| drop(one.lend(&lent))), "it is not the owner's");
    assert!(is_refused(&|| assert!(!two.bytes(&lent).is_empty())));
    assert!(is_refused(&|| assert!(two.runs(std::slice::from_ref(&lent)).count() > 0)));
    assert!(is_refused(&|| assert!(!ring.bytes(&lent).is_empty())));
    assert!(is_refused(&|| assert!(!one.bytes(&other).is_empty())), "never lent");
    assert!(catch_unwind(AssertUnwindSafe(|| two.take_back([lent]))).is_err());
    let lent = two.lend(&slot);
    assert!(catch_unwind(AssertUnwindSafe(|| ring.release([lent]))).is_err());
}

/// Goal: whoever is last frees the slot, once, and nobody writes to it before. Method: the owner
/// and two readers let go at about the same time, over and over, in a ring of one slot.
#[test]
fn the_last_of_several_threads_frees_the_slot() {
    let (ring, mut consumer) = ring(1);
    let readers: [Reader<()>; 2] = [ring.reader(), ring.reader()];
    for round in 0..3_000_u32 {
        let value = round as u8;
        let slot = taken(&ring, &mut consumer, value);
        let lent = readers.each_ref().map(|reader| reader.lend(&slot));
        thread::scope(|scope| {
            for (reader, lent) in readers.iter().zip(lent) {
                scope.spawn(move || {
                    assert_eq!(reader.bytes(&lent), [value; 8]);
                    reader.take_back([lent]);
                });
            }
            ring.release([slot]);
        });
        assert_eq!(ring.used_len(), 0, "round {round}");
    }
}
