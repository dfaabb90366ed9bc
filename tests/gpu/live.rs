//! The live engine on a device: every policy, several engines, giving up, draining and dropping.
//!
//! Exactness: an image's logits depend on the bucket that its batch fell into, for buckets differ
//! in tiles, and on nothing else. So every answer must equal, bit for bit, the logits of that image
//! alone in one of the buckets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use twinstream::engine::{Engine, EngineOptions, Failure, Refused, RequestOptions, Ticket};
use twinstream::ring::Memory;
use twinstream::sched::{Line, PolicySpec, Stages};

use super::device::{Bench, CLASS_COUNT, IMAGE_BYTES, cifar, is_there, open};

/// Longer than anything takes, on the emulated device of a busy machine too.
pub const LONG: Duration = Duration::from_secs(300);
const IMAGE_LEN: usize = 4;
const BATCH_LEN_MAX: usize = 4;

/// Logits by image and bucket.
type References = Vec<Vec<Vec<f32>>>;

pub fn seed() -> u64 {
    let given = std::env::var("TWINSTREAM_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64
    });
    eprintln!("TWINSTREAM_SEED={seed}");
    seed
}

/// By image, its logits in each bucket; computed once for each device.
pub fn references(index: u32, pixels: &[u8]) -> References {
    static FOUND: Mutex<BTreeMap<u32, References>> = Mutex::new(BTreeMap::new());
    // A test that fails in here fails for itself.
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.entry(index).or_insert_with(|| compute_references(index, pixels)).clone()
}

fn compute_references(index: u32, pixels: &[u8]) -> References {
    let mut bench = Bench::new(open(index), BATCH_LEN_MAX as u32);
    let images = pixels.chunks_exact(IMAGE_BYTES).take(IMAGE_LEN);
    let in_buckets = images.map(|image| {
        [1, 2, BATCH_LEN_MAX].map(|batch_len| {
            let logits = bench.infer(&image.repeat(batch_len));
            // Where in a batch an image stands changes nothing.
            for other in logits.chunks_exact(CLASS_COUNT) {
                assert_eq!(other, &logits[..CLASS_COUNT]);
            }
            logits[..CLASS_COUNT].to_vec()
        })
    });
    in_buckets.map(Vec::from).collect()
}

/// Two producers, each with a few requests open at a time, each answer checked: completed and
/// failed.
pub fn serve(
    engine: &Engine,
    pixels: &[u8],
    expected: &[Vec<Vec<f32>>],
    (seed, round_len): (u64, u64),
) -> (usize, usize) {
    let produce = |producer: u64| {
        let mut random = SplitMix64::seed_from_u64(seed ^ producer);
        let (mut completed_len, mut failed_len) = (0, 0);
        for _ in 0..round_len {
            let images = (0..1 + random.next_u64() % 5).map(|_| random.next_u64() as usize);
            let images: Vec<usize> = images.map(|image| image % IMAGE_LEN).collect();
            let tickets = images.iter().map(|&image| {
                let pixels = &pixels[image * IMAGE_BYTES..][..IMAGE_BYTES];
                engine.submit(pixels, RequestOptions::default()).unwrap()
            });
            let tickets: Vec<_> = tickets.collect();
            for (&image, ticket) in images.iter().zip(tickets) {
                match ticket.wait() {
                    Ok(found) => {
                        let is_exact = expected[image].iter().any(|logits| **logits == *found);
                        let expected = &expected[image];
                        assert!(is_exact, "image {image}: {:?}, expected {expected:?}", &*found);
                        completed_len += 1;
                    }
                    Err(Failure::Failed) => failed_len += 1,
                    Err(failure) => panic!("{failure}"),
                }
            }
        }
        (completed_len, failed_len)
    };
    std::thread::scope(|scope| {
        let threads = [1, 2].map(|producer| scope.spawn(move || produce(producer)));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    })
}

pub fn options(policy: PolicySpec) -> EngineOptions {
    // To measure them first takes the emulated device longer than what is tested.
    let (compute, copy) = (Line::new(1e8, 2e8), Line::new(1e5, 1e3));
    let emulated = Stages { upload: copy, compute, download: copy };
    EngineOptions::default()
        .costs(cfg!(twinstream_emulated).then_some(emulated))
        .policy(policy)
        .slot_len(12)
        .batch_len_max(BATCH_LEN_MAX)
        .memory_weakest(Memory::Cuda)
        .stall_timeout(LONG)
        // Sleeps at once, so that the waiters' wake-ups are what it lives on.
        .spin(Duration::ZERO)
}

/// Goal: each policy answers every request with its own image's logits. But for the one that drops
/// requests: of an emulated device's, all.
#[test]
fn answers_are_exact_with_every_policy() {
    if !is_there("the engine with every policy on the GPU") {
        return;
    }
    let seed = seed();
    let (pixels, _) = cifar();
    let expected = references(0, &pixels);
    let answers_all = |(name, _): &(&str, PolicySpec)| *name != "deferred-drop";
    for (name, policy) in PolicySpec::ALL.into_iter().filter(answers_all) {
        let engine = Engine::start(open(0), &options(policy)).unwrap();
        let (completed_len, failed_len) = serve(&engine, &pixels, &expected, (seed, 2));
        assert_eq!(failed_len, 0, "{name}: nothing was to fail");
        assert!(engine.drain(LONG), "{name}");
        let stats = engine.stats();
        assert_eq!(stats.accepted, completed_len as u64, "{name}");
        assert_eq!(stats.completed, stats.accepted, "{name}");
        assert!(engine.fault().is_none(), "{name}");
    }
}

/// Several engines at a time, by the devices that they are on.
pub fn serve_side_by_side(indices: &[u32], seed: u64) {
    let (pixels, _) = cifar();
    let expected = references(indices[0], &pixels);
    let start = |&index| Engine::start(open(index), &options(PolicySpec::Stream)).unwrap();
    let engines: Vec<Engine> = indices.iter().map(start).collect();
    std::thread::scope(|scope| {
        for (number, engine) in engines.iter().enumerate() {
            let (pixels, expected) = (&pixels, &expected);
            scope.spawn(move || {
                let (_, failed_len) = serve(engine, pixels, expected, (seed ^ number as u64, 3));
                assert_eq!(failed_len, 0);
            });
        }
    });
}

/// Goal: engines on one device don't disturb each other.
#[test]
fn engines_side_by_side() {
    if is_there("three engines on one GPU") {
        serve_side_by_side(&[0, 0, 0], seed());
    }
}

fn submit(engine: &Engine, pixels: &[u8], image: usize) -> Ticket {
    let pixels = &pixels[image * IMAGE_BYTES..][..IMAGE_BYTES];
    engine.submit(pixels, RequestOptions::default()).unwrap()
}

/// Four requests, each of an image of its own.
fn submit_each(engine: &Engine, pixels: &[u8]) -> [Ticket; IMAGE_LEN] {
    std::array::from_fn(|image| submit(engine, pixels, image))
}

/// Panics unless these are the image's logits in one of the buckets.
fn assert_exact(found: &[f32], image: &[Vec<f32>]) {
    assert!(image.iter().any(|logits| logits == found), "{found:?}, expected {image:?}");
}

/// Waits for four of them, or longer than any test takes.
fn holding() -> EngineOptions {
    options("fixed:len=4,delay=600s".parse().unwrap())
}

/// Goal: what is cancelled before its batch goes ends as such; what is cancelled later ends as such
/// or with its logits; slots and all other requests are none the worse for it.
#[test]
fn cancelled_requests_end_as_such() {
    if !is_there("cancelling requests on the GPU") {
        return;
    }
    let (pixels, _) = cifar();
    let expected = references(0, &pixels);
    let engine = Engine::start(open(0), &holding()).unwrap();
    for _ in 0..5 {
        for ticket in [0, 1, 2].map(|image| submit(&engine, &pixels, image)) {
            ticket.cancel();
            assert_eq!(ticket.wait().unwrap_err(), Failure::Cancelled);
        }
        for (ticket, expected) in submit_each(&engine, &pixels).into_iter().zip(&expected) {
            assert_exact(&ticket.wait().unwrap(), expected);
        }
    }
    let engine = Engine::start(open(0), &options(PolicySpec::Stream)).unwrap();
    for _ in 0..5 {
        let tickets = submit_each(&engine, &pixels);
        tickets.iter().step_by(2).for_each(Ticket::cancel);
        for (image, (ticket, expected)) in tickets.into_iter().zip(&expected).enumerate() {
            match ticket.wait() {
                Ok(found) => assert_exact(&found, expected),
                Err(failure) => assert_eq!((failure, image % 2), (Failure::Cancelled, 0)),
            }
        }
    }
    assert!(engine.drain(LONG));
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.completed + stats.cancelled), (20, 20));
}

/// Goal: draining serves what was accepted, even what a policy would hold back, and takes no more.
/// Without the time for it, it says so and ends the rest.
#[test]
fn draining_ends_what_was_accepted() {
    if !is_there("draining an engine on the GPU") {
        return;
    }
    let (pixels, _) = cifar();
    let expected = references(0, &pixels);
    for options in [options(PolicySpec::Stream), holding()] {
        let engine = Engine::start(open(0), &options).unwrap();
        let tickets = [0, 1, 2].map(|image| submit(&engine, &pixels, image));
        assert!(engine.drain(LONG));
        assert_eq!(engine.lease().unwrap_err(), Refused::ShutDown);
        for (ticket, expected) in tickets.into_iter().zip(&expected) {
            assert_exact(&ticket.wait().unwrap(), expected);
        }
        let engine = Engine::start(open(0), &options).unwrap();
        let tickets = [0, 1, 2].map(|image| submit(&engine, &pixels, image));
        let is_drained = engine.drain(Duration::ZERO);
        let answers = tickets.map(Ticket::wait);
        assert_eq!(is_drained, answers.iter().all(Result::is_ok));
        for (answer, expected) in answers.into_iter().zip(&expected) {
            match answer {
                Ok(found) => assert_exact(&found, expected),
                Err(failure) => assert_eq!(failure, Failure::ShutDown),
            }
        }
    }
}

/// Drops engines that have work under way, with answers of theirs in hand.
pub fn drop_in_the_middle(index: u32) {
    let (pixels, _) = cifar();
    let expected = references(index, &pixels);
    for _ in 0..3 {
        let engine = Engine::start(open(index), &options(PolicySpec::Stream)).unwrap();
        let kept = submit(&engine, &pixels, 0).wait().unwrap();
        let tickets = submit_each(&engine, &pixels);
        std::thread::sleep(Duration::from_millis(5));
        drop(engine);
        for (ticket, expected) in tickets.into_iter().zip(&expected) {
            match ticket.wait() {
                Ok(found) => assert_exact(&found, expected),
                Err(failure) => assert_eq!(failure, Failure::ShutDown),
            }
        }
        // In page-locked memory, which outlives the engine.
        assert_exact(&kept, &expected[0]);
    }
}

#[test]
fn dropping_an_engine_waits_for_its_device() {
    if is_there("dropping an engine in the middle of work on the GPU") {
        drop_in_the_middle(0);
    }
}
