//! Images seen before: computed once, answered as often as they come, each caller with an answer of
//! its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions};
use twinstream::backend::{Geometry, Null};
use twinstream::engine::{
    Answer, CacheStats, Engine, EngineOptions, Failure, RequestOptions, Ticket,
};
use twinstream::sched::{Decision, Policy, Priority, Reason, View};

use super::common::cifar_model;
use super::device::{Device, Plan, Random, calibration_len, checksum, result_of};
use super::requests::{IMAGE_BYTES, LONG, assert_right, block_on, image, submit, until};

/// Holds requests until the gate is open, and sends them one by one.
#[derive(Debug)]
struct Gate(Arc<AtomicBool>);

impl Policy for Gate {
    fn upload(&self, view: &View<'_>) -> Decision {
        match self.0.load(Ordering::Acquire) && view.waiting_len > 0 {
            true => Decision::Go { len: 1, reason: Reason::Idle },
            false => Decision::Hold { until_ns: Some(view.now_ns + 1_000_000) },
        }
    }
}

/// An engine with a cache whose device is given nothing until the gate is open.
struct Gated {
    engine: Engine,
    is_open: Arc<AtomicBool>,
}

impl Gated {
    fn new(plan: Plan, seed: u64) -> Self {
        let is_open = Arc::new(AtomicBool::new(false));
        let plan = Plan { spared: calibration_len(8), ..plan };
        let device = Device::new(IMAGE_BYTES, 8, plan, seed);
        let options = EngineOptions::default().slot_len(32).cache_bytes(100_000);
        let gate = Box::new(Gate(Arc::clone(&is_open)));
        Self { engine: Engine::start_with_policy(device, &options, gate).unwrap(), is_open }
    }

    fn submit(&self, number: u8, options: RequestOptions) -> Ticket {
        self.engine.submit(&image(number), options).unwrap()
    }

    /// Lets the device have what is there.
    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    fn until_accepted(&self, len: u64) {
        until("accepted", || self.engine.stats().accepted == len);
    }

    /// What became of so many requests, once all have ended.
    fn counts(&self, accepted_len: u64) -> ([u64; 3], u64) {
        self.until_accepted(accepted_len);
        until("all have ended", || self.engine.stats().alive_len == 0);
        counts(&self.engine)
    }
}

/// Hits, joined and misses, and how many images were computed.
fn counts(engine: &Engine) -> ([u64; 3], u64) {
    let stats = engine.stats();
    let CacheStats { hits, joined, misses, .. } = stats.cache;
    ([hits, joined, misses], stats.batch_lens.image_len())
}

fn plain() -> RequestOptions {
    RequestOptions::default()
}

/// An image in each way to hand it in and be told, all of which must give its answer.
fn ask_in_each_way(engine: &Engine, number: u8) -> impl FnOnce() + use<> {
    let (sender, receiver) = mpsc::channel();
    let [ticket, awaited] = [0, 1].map(|_| submit(engine, number));
    let mut lease = engine.lease().unwrap();
    lease.copy_from_slice(&image(number));
    let to_thread = sender.clone();
    let handler = move |tag, answer: Answer| to_thread.send((tag, answer)).unwrap();
    lease.commit_with(plain(), Arc::new(handler), 7).unwrap();
    let mut many = engine.lease_many(2).unwrap();
    many.images_mut().for_each(|place| place.copy_from_slice(&image(number)));
    let handler = move |tag, answer: Answer| sender.send((tag, answer)).unwrap();
    many.commit_with(plain(), Arc::new(handler), 8).unwrap();
    let many = engine.submit_many(&image(number).repeat(3), plain()).unwrap();
    move || {
        assert_right(ticket.wait_timeout(LONG).unwrap(), number);
        assert_right(block_on(awaited), number);
        many.wait().for_each(|answer| assert_right(answer, number));
        let mut tags = [0; 3].map(|_| {
            let (tag, answer) = receiver.recv_timeout(LONG).unwrap();
            assert_right(answer, number);
            tag
        });
        tags.sort_unstable();
        assert_eq!(tags, [7, 8, 8]);
        assert!(receiver.recv_timeout(LONG).is_err(), "told twice");
    }
}

/// Goal: what is equal is computed once, in flight and later, whoever asks and how. Method: each
/// way to ask, before and after the device computes; its statistics say how many images it had.
#[test]
fn equal_images_are_computed_once() {
    let gated = Gated::new(Plan::default(), 1);
    let check = ask_in_each_way(&gated.engine, 3);
    gated.until_accepted(8);
    gated.open();
    check();
    assert_eq!(gated.counts(8), ([0, 7, 1], 1));
    ask_in_each_way(&gated.engine, 3)();
    assert_eq!(gated.counts(16), ([8, 7, 1], 1));
    let stats = gated.engine.stats();
    assert_eq!((stats.completed, stats.latency.len()), (16, 16));
    assert!(stats.cache.bytes > 0 && stats.cache.bytes < 1000, "{:?}", stats.cache);
    // Those that were given an answer tell in which batch it was computed, and took no time there.
    let kept = submit(&gated.engine, 3).wait_timeout(LONG).unwrap().unwrap();
    let timing = kept.timing();
    assert_eq!((timing.batch, timing.computing_ns(), timing.batch_len), (0, 0, 1));
}

/// Goal: of those that are alive it is known how many are computed themselves. Method: leaders and
/// followers while nothing is computed, one given up, and all of them answered.
#[test]
fn followers_are_counted_while_they_follow() {
    let gated = Gated::new(Plan::default(), 1);
    let counted = |following, computed_len| {
        until("counted", || {
            let stats = gated.engine.stats();
            (stats.cache.following, stats.computed_len()) == (following, computed_len)
        });
    };
    let tickets = [3, 3, 3, 4].map(|number| gated.submit(number, plain()));
    gated.until_accepted(4);
    counted(2, 2);
    tickets[1].cancel();
    counted(1, 2);
    gated.open();
    gated.counts(4);
    counted(0, 0);
}

/// Goal: with the device nobody follows anybody any more. Method: it is lost while some do.
#[test]
fn none_follow_where_the_device_is_lost() {
    let gated = Gated::new(Plan { lose_one_in: 1, ..Plan::default() }, 1);
    let tickets = [3, 3, 4].map(|number| gated.submit(number, plain()));
    gated.until_accepted(3);
    gated.open();
    for ticket in tickets {
        assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap_err(), Failure::DeviceLost);
    }
    until("counted", || gated.engine.stats().alive_len == 0);
    assert_eq!(gated.engine.stats().computed_len(), 0);
}

/// Goal: giving one up takes nothing from the others. Method: leader and followers, each given up
/// in each order while nothing is computed.
#[test]
fn giving_up_ends_no_other() {
    let gated = Gated::new(Plan::default(), 1);
    let [first, second, third, dropped] = [0; 4].map(|_| gated.submit(3, plain()));
    gated.until_accepted(4);
    first.cancel();
    second.cancel();
    drop(dropped);
    // Whose answer nobody waits for is told at once.
    assert_eq!(second.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Cancelled);
    let alone = gated.submit(4, plain());
    alone.cancel();
    assert_eq!(alone.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Cancelled);
    let late = gated.submit(4, plain());
    gated.until_accepted(6);
    gated.open();
    assert_right(third.wait_timeout(LONG).unwrap(), 3);
    assert_right(late.wait_timeout(LONG).unwrap(), 4);
    assert_eq!(first.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Cancelled);
    assert_eq!(gated.counts(6), ([0, 3, 3], 2));
}

#[test]
fn a_leader_that_nobody_waits_for_any_more_is_cancelled() {
    let gated = Gated::new(Plan::default(), 1);
    let [first, second, third] = [0; 3].map(|_| gated.submit(3, plain()));
    gated.until_accepted(3);
    first.cancel();
    assert!(!first.is_ended());
    second.cancel();
    third.cancel();
    for ticket in [first, second, third] {
        assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Cancelled);
    }
    gated.open();
    assert_eq!(gated.counts(3), ([0, 2, 1], 0));
}

/// Goal: whoever is more urgent than an equal image is not held up by it. Method: such requests,
/// each of which has to be computed for itself.
#[test]
fn the_more_urgent_do_not_follow() {
    let options = |priority, seconds: Option<u64>| {
        let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        RequestOptions::default().priority(priority).deadline(deadline)
    };
    let (low, normal, high) = (Priority::Low, Priority::Normal, Priority::High);
    let cases = [
        (options(low, None), options(normal, None), 2),
        (options(normal, None), options(high, None), 2),
        (options(normal, None), options(normal, Some(100)), 2),
        (options(normal, Some(100)), options(normal, Some(90)), 2),
        (options(normal, Some(90)), options(normal, Some(100)), 1),
        (options(normal, Some(90)), options(normal, None), 1),
        (options(high, None), options(low, None), 1),
    ];
    for (first, second, computed_len) in cases {
        let gated = Gated::new(Plan::default(), 1);
        let tickets = [first, second, second].map(|options| gated.submit(3, options));
        gated.until_accepted(3);
        gated.open();
        tickets.into_iter().for_each(|ticket| assert_right(ticket.wait_timeout(LONG).unwrap(), 3));
        assert_eq!(gated.counts(3).1, computed_len, "{first:?} {second:?}");
    }
}

/// Goal: a leader that is too late takes nobody with it, and who follows is in time for its own
/// deadline or told so. Method: deadlines that pass while nothing is computed.
#[test]
fn one_that_follows_takes_the_place_of_a_leader_that_expired() {
    let gated = Gated::new(Plan::default(), 1);
    let soon = |ms| plain().deadline(Some(Instant::now() + Duration::from_millis(ms)));
    let [first, second] = [300, 600].map(|ms| gated.submit(3, soon(ms)));
    let [third, fourth] = [0; 2].map(|_| gated.submit(3, plain()));
    assert_eq!(first.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Expired);
    assert!(!second.is_ended() && !third.is_ended());
    assert_eq!(second.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Expired);
    gated.open();
    assert_right(third.wait_timeout(LONG).unwrap(), 3);
    assert_right(fourth.wait_timeout(LONG).unwrap(), 3);
    assert_eq!(gated.counts(4), ([0, 3, 1], 1));
    // A deadline that has passed is refused, though the answer is there.
    let late = plain().deadline(Some(Instant::now()));
    assert_eq!(gated.submit(3, late).wait_timeout(LONG).unwrap().unwrap_err(), Failure::Rejected);
}

/// Goal: a failure is its own request's alone, and is not kept. Method: a device that always fails;
/// one that fails at one stage in three, whose every answer must be the right one or a failure.
#[test]
fn failures_are_neither_shared_nor_kept() {
    let gated = Gated::new(Plan { fail_one_in: 1, ..Plan::default() }, 1);
    gated.is_open.store(true, Ordering::Release);
    for _ in 0..3 {
        let tickets = [0; 4].map(|_| submit(&gated.engine, 3));
        for ticket in tickets {
            assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Failed);
        }
    }
    assert_eq!((gated.counts(12).0[0], gated.engine.stats().cache.bytes), (0, 0));
    let mut ends = [0; 4];
    for seed in 0..60 {
        let gated = Gated::new(Plan { fail_one_in: 3, ..Plan::default() }, seed);
        let tickets = [0; 3].map(|_| submit(&gated.engine, 3));
        gated.until_accepted(3);
        gated.open();
        let answers = tickets.map(|ticket| ticket.wait_timeout(LONG).unwrap());
        let completed_len = answers.iter().filter(|answer| answer.is_ok()).count();
        ends[completed_len] += 1;
        // The leader's answer is every follower's; where it failed, each tries for itself.
        assert!(answers[0].is_err() || completed_len == 3);
        for answer in answers {
            match answer {
                Ok(_) => assert_right(answer, 3),
                Err(failure) => assert_eq!(failure, Failure::Failed),
            }
        }
    }
    assert!(ends.iter().all(|&len| len > 0), "{ends:?}");
}

/// Goal: the end of an engine ends those that follow, a drain with their answers. Method: the end
/// in each form while they wait for a leader.
#[test]
fn the_end_answers_those_that_follow() {
    // A leader that expires meanwhile leaves one that is computed though no more are accepted.
    let gated = Gated::new(Plan::default(), 1);
    let soon = plain().deadline(Some(Instant::now() + Duration::from_millis(200)));
    let first = gated.submit(3, soon);
    let others = [0; 3].map(|_| gated.submit(3, plain()));
    gated.until_accepted(4);
    let is_open = Arc::clone(&gated.is_open);
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(300));
            is_open.store(true, Ordering::Release);
        });
        assert!(gated.engine.drain(LONG));
    });
    assert_eq!(first.wait_timeout(LONG).unwrap().unwrap_err(), Failure::Expired);
    others.into_iter().for_each(|ticket| assert_right(ticket.wait_timeout(LONG).unwrap(), 3));

    let gated = Gated::new(Plan::default(), 1);
    let tickets = [0; 4].map(|_| gated.submit(3, plain()));
    drop(gated);
    for ticket in tickets {
        assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap_err(), Failure::ShutDown);
    }

    let gated = Gated::new(Plan { lose_one_in: 1, ..Plan::default() }, 1);
    let tickets = [0; 4].map(|_| gated.submit(3, plain()));
    gated.until_accepted(4);
    gated.open();
    for ticket in tickets {
        assert_eq!(ticket.wait_timeout(LONG).unwrap().unwrap_err(), Failure::DeviceLost);
    }
}

/// Goal: threads that send equal images at once get the right answers. Method: few images and many
/// requests, on a device that is slow at times, with room for a few answers and for all.
#[test]
fn threads_with_equal_images_get_the_right_answers() {
    for cache_bytes in [1000, 100_000] {
        let device = Device::new(IMAGE_BYTES, 8, Plan { delay_us_max: 100, ..Plan::default() }, 1);
        let options = EngineOptions::default().slot_len(64).cache_bytes(cache_bytes);
        let engine = Engine::start(device, &options).unwrap();
        thread::scope(|scope| {
            for producer in 0..4 {
                let engine = &engine;
                scope.spawn(move || {
                    let mut random = Random::new(producer);
                    for _ in 0..40 {
                        let numbers = [0; 6].map(|_| random.below(12) as u8);
                        let tickets = numbers.map(|number| submit(engine, number));
                        for (number, ticket) in numbers.into_iter().zip(tickets) {
                            assert_right(ticket.wait_timeout(LONG).unwrap(), number);
                        }
                    }
                });
            }
        });
        assert!(engine.drain(LONG));
        let (by_kind, computed_len) = counts(&engine);
        assert_eq!(by_kind.iter().sum::<u64>(), 960);
        assert!(by_kind.iter().all(|&len| len > 0), "{by_kind:?}");
        assert!(computed_len <= by_kind[2] && engine.stats().cache.bytes <= cache_bytes as u64);
    }
}

/// Goal: the network's answers are each image's own, bit for bit those that were computed. Method:
/// threads send noise to the CPU; later each image has one answer, near that of an engine without.
#[test]
fn the_network_gives_each_image_its_answer() {
    let model = cifar_model();
    let start = |cache_bytes| {
        let device = Cpu::new(&model, &CpuOptions::for_model(&model).threads(2)).unwrap();
        let options = EngineOptions::default().slot_len(16).cache_bytes(cache_bytes);
        Engine::start(CpuDevice::new(device), &options).unwrap()
    };
    let (engine, other) = (start(1 << 20), start(0));
    let mut random = Random::new(1);
    let images: Vec<Vec<u8>> =
        (0..6).map(|_| (0..3072).map(|_| random.next() as u8).collect()).collect();
    let ask = |engine: &Engine, image: &[u8]| {
        engine.submit(image, plain()).unwrap().wait_timeout(LONG).unwrap().unwrap().to_vec()
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| images.iter().for_each(|image| drop(ask(&engine, image))));
        }
    });
    for image in &images {
        let [logits, again] = [0; 2].map(|_| ask(&engine, image));
        assert_eq!(logits, again);
        let expected = ask(&other, image);
        let off = logits.iter().zip(&expected).map(|(one, other)| (one - other).abs());
        assert!(off.fold(0.0, f32::max) <= 1e-4, "{logits:?} {expected:?}");
    }
    assert!(engine.drain(LONG));
    assert_eq!(counts(&engine).0[0] + counts(&engine).0[1], 12 + 12);
    assert_eq!(counts(&engine).1, 6);
}

/// Goal: where images are unique, hardly any is hashed. Method: a device that costs nothing, so
/// that no hit could pay.
#[test]
fn it_switches_itself_off_where_hits_do_not_pay() {
    let null = Null::new(Geometry { image_bytes: 3072, result_len: 10, batch_len_max: 16 });
    let engine = Engine::start(null, &EngineOptions::default().cache_bytes(1 << 20)).unwrap();
    assert!(engine.stats().cache.is_on);
    let mut image = vec![0; 3072];
    let request_len = 30_000;
    for number in 0..request_len / 10 {
        let tickets: [Ticket; 10] = std::array::from_fn(|part| {
            image[..4].copy_from_slice(&(10 * number + part as u32).to_le_bytes());
            engine.submit(&image, plain()).unwrap()
        });
        tickets.into_iter().for_each(|ticket| drop(ticket.wait_timeout(LONG).unwrap().unwrap()));
    }
    assert!(engine.drain(LONG));
    let ([hits, joined, misses], computed_len) = counts(&engine);
    assert_eq!((hits, joined, computed_len), (0, 0, u64::from(request_len)));
    // Those that the account opens with, those that were on their way, and some now and then.
    assert!((1024..u64::from(request_len) / 2).contains(&misses), "{misses}");
}

#[test]
fn a_cache_without_room_for_an_answer_is_refused() {
    let device = || Device::new(IMAGE_BYTES, 8, Plan::default(), 1);
    let options = EngineOptions::default().cache_bytes(100);
    let error = Engine::start(device(), &options).unwrap_err();
    assert!(error.is_argument() && error.to_string().contains("cache_bytes is 100"), "{error}");
    let error = Engine::start(device(), &options.cache_bytes(usize::MAX / 8)).unwrap_err();
    assert!(error.is_memory() && error.to_string().contains("no memory"), "{error}");
    let engine = Engine::start(device(), &options.cache_bytes(0)).unwrap();
    assert_right(submit(&engine, 3).wait_timeout(LONG).unwrap(), 3);
    assert_eq!(
        *submit(&engine, 3).wait_timeout(LONG).unwrap().unwrap(),
        result_of(checksum(&image(3)))
    );
    assert_eq!(engine.stats().cache, CacheStats::default());
}
