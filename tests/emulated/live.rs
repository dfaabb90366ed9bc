//! The live engine on a device that is late, shuffles its streams and refuses work.
//!
//! Exactness: an image's logits depend on the bucket that its batch fell into, for buckets differ
//! in tiles, and on nothing else. So every answer must equal, bit for bit, the logits of that image
//! alone in one of the buckets.

use std::time::Duration;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use twinstream::backend::cuda::emulated::{Behaviour, configure};
use twinstream::engine::{Engine, EngineOptions, Failure, RequestOptions};
use twinstream::ring::Memory;
use twinstream::sched::PolicySpec;

use super::device::{Bench, cifar, open};

const CLASS_COUNT: usize = 10;
const IMAGE_BYTES: usize = 32 * 32 * 3;
const IMAGE_LEN: usize = 4;
const BATCH_LEN_MAX: usize = 4;
/// One launch in four is refused, and an attempt makes ten or more: so many without a refusal come
/// once in 10^20 times.
const ATTEMPT_LEN_MAX: u64 = 16;

fn seed() -> u64 {
    let given = std::env::var("TWINSTREAM_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64
    });
    eprintln!("TWINSTREAM_SEED={seed}");
    seed
}

/// By image, its logits in each bucket.
fn references(index: u32, pixels: &[u8]) -> Vec<Vec<Vec<f32>>> {
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
fn serve(
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

fn options(policy: PolicySpec) -> EngineOptions {
    EngineOptions::default()
        .policy(policy)
        .slot_len(12)
        .batch_len_max(BATCH_LEN_MAX)
        .memory_weakest(Memory::Cuda)
        .stall_timeout(Duration::from_secs(120))
        // Sleeps at once, so that the waiters' wake-ups are what it lives on.
        .spin(Duration::ZERO)
}

/// Goal: nothing is lost or mixed up, however late copies move and whichever stream runs first, and
/// refused launches fail their own batch alone.
#[test]
fn answers_are_exact_on_a_late_and_unreliable_device() {
    let seed = seed();
    let (pixels, _) = cifar();
    configure(1, &Behaviour::default());
    let expected = references(1, &pixels);
    for policy in [PolicySpec::Stream, PolicySpec::Jit] {
        let late = Behaviour { seed, delay_us_max: 3_000, ..Behaviour::default() };
        configure(1, &late);
        let engine = Engine::start(open(1), &options(policy)).unwrap();
        let (completed_len, failed_len) = serve(&engine, &pixels, &expected, (seed, 4));
        assert_eq!(failed_len, 0, "{policy}: nothing was to fail");
        configure(1, &Behaviour { refuse_launch_one_in: 4, ..late });
        // How many launches there are is up to the threads: until some were refused and some not.
        let (mut unreliable_len, mut refused_len) = (0, 0);
        for attempt in 0..ATTEMPT_LEN_MAX {
            let (completed_len, failed_len) =
                serve(&engine, &pixels, &expected, (seed ^ (7 + attempt), 6));
            unreliable_len += completed_len;
            refused_len += failed_len;
            if refused_len > 0 && unreliable_len > 0 {
                break;
            }
        }
        eprintln!(
            "{policy}: {completed_len} exact answers, then {unreliable_len} with {refused_len} \
             failed by refused launches"
        );
        assert!(refused_len > 0 && unreliable_len > 0);
        assert!(engine.drain(Duration::from_secs(60)));
        let stats = engine.stats();
        assert_eq!(stats.completed + stats.failed, stats.accepted);
        assert_eq!(stats.completed, completed_len as u64 + unreliable_len as u64);
        assert_eq!(stats.failed, refused_len as u64);
        assert!(engine.fault().is_none());
    }
}

/// Goal: engines on one device and on two don't disturb each other.
#[test]
fn several_engines_in_one_process() {
    let seed = seed();
    let (pixels, _) = cifar();
    let expected = references(2, &pixels);
    for index in [2, 3] {
        configure(index, &Behaviour { seed, delay_us_max: 1_000, ..Behaviour::default() });
    }
    let start = |index| Engine::start(open(index), &options(PolicySpec::Stream)).unwrap();
    let engines = [start(2), start(2), start(3)];
    std::thread::scope(|scope| {
        for (index, engine) in engines.iter().enumerate() {
            let (pixels, expected) = (&pixels, &expected);
            scope.spawn(move || {
                let (_, failed_len) = serve(engine, pixels, expected, (seed ^ index as u64, 3));
                assert_eq!(failed_len, 0);
            });
        }
    });
}
