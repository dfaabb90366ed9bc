//! The ring under threads: every request is taken exactly once with its own image, no slot is lost.
//!
//! The seed is printed; `TWINSTREAM_SEED` repeats a run's random choices (not its interleaving),
//! and `TWINSTREAM_STRESS_LEN` sets the requests of each producer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use twinstream::ring::{Closed, Consumer, Full, Ring, RingOptions, Slot};

const PRODUCERS: usize = 4;
/// Of a 32x32 image.
const IMAGE_BYTES: usize = 3072;

/// Producer and number of a request.
type Request = (usize, usize);

/// Xorshift: small, seeded, good enough to choose steps and paint images.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self((seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_in(&mut self, len: u64) -> bool {
        (self.next() >> 20).is_multiple_of(len)
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seed() -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("TWINSTREAM_SEED").unwrap_or_else(clock);
    println!("TWINSTREAM_SEED={seed}");
    seed
}

/// Fills an image with words that only this request has.
fn paint(image: &mut [u8], (producer, number): Request) {
    let mut random = Random::new(number as u64, producer as u64 + 1);
    for word in image.chunks_exact_mut(8) {
        word.copy_from_slice(&random.next().to_le_bytes());
    }
}

fn shows(image: &[u8], (producer, number): Request) -> bool {
    let mut random = Random::new(number as u64, producer as u64 + 1);
    image.chunks_exact(8).all(|word| word == random.next().to_le_bytes())
}

/// Commits requests `0..len` of this producer, dropping a lease now and then; returns how many it
/// committed before the ring closed.
fn produce(
    ring: &Ring<Request>,
    producer: usize,
    len: usize,
    consumer: &thread::Thread,
    mut random: Random,
) -> usize {
    for number in 0..len {
        let mut lease = loop {
            match ring.lease() {
                Ok(lease) if random.one_in(16) => drop(lease),
                Ok(lease) => break lease,
                Err(Full) => thread::yield_now(),
            }
        };
        paint(&mut lease, (producer, number));
        let lease = if random.one_in(4) { lease.into_owned() } else { lease };
        match lease.commit((producer, number)) {
            Ok(committed) if committed.consumer_sleeps => consumer.unpark(),
            Ok(_) => {}
            Err(Closed { lease, request }) => {
                assert_eq!(request, (producer, number));
                assert!(shows(&lease, request));
                return number;
            }
        }
    }
    len
}

/// Takes, checks and releases in random order until the producers are done or `take_len_max` is
/// reached, then closes; returns how many of each producer's requests came.
fn consume(
    mut consumer: Consumer<Request>,
    producing: &AtomicUsize,
    take_len_max: usize,
    mut random: Random,
) -> [usize; PRODUCERS] {
    let ring = consumer.ring().clone();
    let mut seen: [Vec<bool>; PRODUCERS] = Default::default();
    let mut held: Vec<(Slot, Request)> = Vec::new();
    let mut taken_len = 0;
    let mut closed = false;
    loop {
        if let Some((slot, (producer, number))) = consumer.take() {
            assert!(shows(ring.bytes(&slot), (producer, number)), "{producer}: {number} at taking");
            let seen = &mut seen[producer];
            seen.resize(seen.len().max(number + 1), false);
            assert!(!std::mem::replace(&mut seen[number], true), "{producer}: {number} twice");
            held.push((slot, (producer, number)));
            taken_len += 1;
        } else if closed {
            break;
        } else if !held.is_empty() {
            while !held.is_empty() {
                release_one(&ring, &mut held, &mut random);
            }
        } else if producing.load(Ordering::Acquire) == 0 || taken_len >= take_len_max {
            consumer.close();
            closed = true;
        } else if consumer.sleep() {
            thread::park();
            consumer.wake();
        }
        if taken_len >= take_len_max && !closed {
            consumer.close();
            closed = true;
        }
        if held.len() > 20 || random.one_in(3) {
            release_one(&ring, &mut held, &mut random);
        }
    }
    while !held.is_empty() {
        release_one(&ring, &mut held, &mut random);
    }
    seen.map(|seen| seen.iter().filter(|seen| **seen).count())
}

/// Releases one held slot at random; its image must still be whole.
fn release_one(ring: &Ring<Request>, held: &mut Vec<(Slot, Request)>, random: &mut Random) {
    if held.is_empty() {
        return;
    }
    let (slot, request) = held.swap_remove(random.next() as usize % held.len());
    assert!(shows(ring.bytes(&slot), request), "{request:?} at release");
    ring.release([slot]);
}

fn stress(slot_len: u32, len: usize, take_len_max: usize, seed: u64) {
    let (ring, consumer) = Ring::new(&RingOptions::new(slot_len, IMAGE_BYTES)).unwrap();
    let producing = AtomicUsize::new(PRODUCERS);
    let (committed, taken) = thread::scope(|scope| {
        let random = Random::new(seed, 0);
        let taker = scope.spawn(|| consume(consumer, &producing, take_len_max, random));
        let handles: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (ring, producing, taker) = (ring.clone(), &producing, taker.thread().clone());
                let random = Random::new(seed, producer as u64 + 1);
                scope.spawn(move || {
                    let committed = produce(&ring, producer, len, &taker, random);
                    // Release: the commits before the count.
                    producing.fetch_sub(1, Ordering::Release);
                    taker.unpark();
                    committed
                })
            })
            .collect();
        let committed: Vec<usize> = handles.into_iter().map(|one| one.join().unwrap()).collect();
        (committed, taker.join().unwrap())
    });
    assert_eq!(committed, taken, "{slot_len} slots");
    assert!(committed.iter().sum::<usize>() >= take_len_max.min(PRODUCERS * len));
    let leases: Vec<_> = (0..slot_len).map_while(|_| ring.lease().ok()).collect();
    assert_eq!(leases.len(), slot_len as usize, "slots were lost");
}

fn stress_len() -> usize {
    number("TWINSTREAM_STRESS_LEN").map_or(20_000, |len| len as usize)
}

#[test]
fn every_request_is_taken_once_with_its_own_image() {
    let seed = seed();
    for slot_len in [1, 3, 33, 100] {
        stress(slot_len, stress_len(), usize::MAX, seed);
    }
}

/// Goal: whatever was committed before the ring closed is taken, and all else is handed back.
#[test]
fn closing_at_any_moment_loses_nothing() {
    let seed = seed();
    let mut random = Random::new(seed, 99);
    for round in 0..100 {
        let take_len = random.next() as usize % 400;
        stress([5, 64][round % 2], 1000, take_len, seed.wrapping_add(round as u64));
    }
}
