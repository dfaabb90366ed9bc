//! Every accepted request is answered exactly once, with its own result, whatever goes wrong when.
//!
//! Rounds draw policy, sizes, devices, faults, and the moment of the drain from a seed, which is
//! printed. `TWINSTREAM_SEED` repeats a run; `TWINSTREAM_SOAK_REQUESTS` makes it longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use twinstream::backend::Backend;
use twinstream::engine::{
    Answer, Answers, Engine, EngineOptions, Failure, Handler, Lease, Refused, RequestOptions,
    Stats, Ticket,
};
use twinstream::sched::{PolicySpec, Priority};

use super::device::{Device, Plan, Random, calibration_len, checksum, result_of};

const IMAGE_BYTES: usize = 257;
const PRODUCERS: u64 = 3;
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// What the producers of a round saw.
#[derive(Default)]
struct Seen {
    committed: AtomicU64,
    completed: AtomicU64,
    failures: [AtomicU64; 6],
    /// Results of other requests, and handlers called more than once. Counted, for the engine
    /// catches panics of handlers.
    wrong: AtomicU64,
}

impl Seen {
    fn count(&self, answer: &Answer, expected: u64) {
        match answer {
            Ok(output) => {
                let is_wrong = **output != result_of(expected);
                self.wrong.fetch_add(u64::from(is_wrong), Ordering::Relaxed);
                self.completed.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                self.failures[*failure as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Seen {
    fn count_group(&self, answers: Answers, expected: &[u64]) {
        let is_whole = answers.len() == expected.len();
        let outcome = answers.outcome();
        let mut first = None;
        for (answer, expected) in answers.zip(expected) {
            first = first.or(answer.as_ref().err().copied());
            self.count(&answer, *expected);
        }
        self.wrong.fetch_add(u64::from(!is_whole || outcome.err() != first), Ordering::Relaxed);
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn every_request_is_answered_once() {
    let clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let seed = variable("TWINSTREAM_SEED").unwrap_or_else(clock);
    let request_len = variable("TWINSTREAM_SOAK_REQUESTS").unwrap_or(60_000);
    eprintln!("TWINSTREAM_SEED={seed}");
    let mut total = Stats::default();
    let mut round = 0;
    while total.accepted < request_len {
        let stats = play(seed.wrapping_add(round), request_len.min(4000));
        round += 1;
        total.accepted += stats.accepted;
        total.completed += stats.completed;
        total.rejected += stats.rejected;
        total.expired += stats.expired;
        total.cancelled += stats.cancelled;
        total.failed += stats.failed;
        total.device_lost += stats.device_lost;
        total.shut_down += stats.shut_down;
        total.cache.hits += stats.cache.hits;
        total.cache.joined += stats.cache.joined;
    }
    assert!(total.cache.hits > 0 && total.cache.joined > 0, "no image was seen before");
    eprintln!("{round} rounds: {total:?}");
}

fn draw(random: &mut Random) -> (Plan, EngineOptions, usize) {
    let mut plan = Plan { delay_us_max: random.below(3) * 100, ..Plan::default() };
    match random.below(8) {
        0 => plan.lose_one_in = 300,
        1 => plan.stall_one_in = 300,
        2 => plan.panic_one_in = 300,
        3 | 4 => plan.fail_one_in = 10,
        _ => {}
    }
    let (_, policy) = PolicySpec::ALL[random.below(PolicySpec::ALL.len() as u64) as usize];
    let [slot_len, batch_len_max, device_len] =
        [80, 20, 20].map(|limit| 1 + random.below(limit) as usize);
    plan.spared = calibration_len(slot_len.min(batch_len_max).min(device_len));
    let options = EngineOptions::default()
        .policy(policy)
        .slot_len(slot_len)
        .batch_len_max(batch_len_max)
        .latency_bound(random.chance(4).then(|| Duration::from_micros(500)))
        .spin(Duration::from_micros(random.below(2) * 50))
        .cache_bytes([0, 1000, 100_000][random.below(3) as usize])
        .stall_timeout(Duration::from_millis(300));
    (plan, options, device_len)
}

/// One device, or some that serve one queue, and whether one of them is a good one.
fn draw_devices(
    random: &mut Random,
    (plan, batch_len_max): (Plan, usize),
    seed: u64,
) -> (Vec<Box<dyn Backend>>, bool) {
    let device_len = [1, 1, 2, 3][random.below(4) as usize];
    let has_good = device_len > 1 && random.chance(2);
    let bad_len = device_len - usize::from(has_good);
    let good = Plan { delay_us_max: plan.delay_us_max, ..Plan::default() };
    let plans = (0..device_len).map(|device| if device < bad_len { plan } else { good });
    let device = |(seed, plan)| Device::new(IMAGE_BYTES, batch_len_max, plan, seed).into();
    ((seed..).zip(plans).map(device).collect(), has_good)
}

fn play(seed: u64, request_len: u64) -> Stats {
    let mut random = Random::new(seed);
    let (plan, options, batch_len_max) = draw(&mut random);
    let (devices, has_good) = draw_devices(&mut random, (plan, batch_len_max), seed);
    let engine = Engine::start_all(devices, &options).unwrap();
    let seen = Arc::new(Seen::default());
    let answered: Arc<[AtomicU8]> = (0..request_len).map(|_| AtomicU8::new(0)).collect();
    let drain_after = Duration::from_micros(random.below(400_000));
    let drains = random.chance(3);
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (engine, seen, answered) = (&engine, &seen, &answered);
            let numbers = (producer..request_len).step_by(PRODUCERS as usize);
            let random = Random::new(seed ^ (producer + 1) << 32);
            scope.spawn(move || produce(engine, seen, answered, numbers, random));
        }
        if drains {
            std::thread::sleep(drain_after);
            engine.drain(Duration::from_micros(random.below(2) * 2000));
        }
    });
    if !drains && plan.lose_one_in + plan.stall_one_in + plan.panic_one_in == 0 {
        let start = Instant::now();
        // The snapshot may be older than the last commits.
        let is_over = |stats: Stats| {
            stats.alive_len == 0 && stats.accepted == seen.committed.load(Ordering::Relaxed)
        };
        while !is_over(engine.stats()) {
            assert!(start.elapsed() < ANSWERED_WITHIN, "dropped requests never end");
            std::thread::sleep(Duration::from_millis(1));
        }
        let leases: Vec<_> = (0..options.slot_len).map(|_| engine.lease()).collect();
        assert!(leases.iter().all(Result::is_ok), "a slot was leaked: {plan:?} {options:?}");
    }
    engine.drain(ANSWERED_WITHIN);
    let stats = engine.stats();
    check(&stats, &seen, &answered);
    assert!(!has_good || stats.device_lost == 0, "a good device was left: {stats:?}");
    if let Some(fault) = engine.fault() {
        // The device panics when it is misused, too.
        let is_meant =
            ["injected", "no work ended within"].iter().any(|word| fault.message.contains(word));
        assert!(is_meant, "{fault}");
    }
    stats
}

fn check(stats: &Stats, seen: &Seen, answered: &[AtomicU8]) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(count(&seen.wrong), 0, "another request's result, or a second answer");
    assert_eq!(stats.accepted, count(&seen.committed), "{stats:?}");
    assert_eq!(stats.alive_len, 0, "{stats:?}");
    let ends = [stats.rejected, stats.expired, stats.cancelled, stats.failed, stats.device_lost];
    assert_eq!(stats.accepted, stats.completed + ends.iter().sum::<u64>() + stats.shut_down);
    // The engine counts what nobody saw, too: requests whose tickets were dropped.
    assert!(stats.completed >= count(&seen.completed));
    for (failure, end) in [
        (Failure::Rejected, stats.rejected),
        (Failure::Expired, stats.expired),
        (Failure::Cancelled, stats.cancelled),
        (Failure::Failed, stats.failed),
        (Failure::DeviceLost, stats.device_lost),
        (Failure::ShutDown, stats.shut_down),
    ] {
        assert!(end >= count(&seen.failures[failure as usize]), "{failure:?}: {stats:?}");
    }
    // 1: committed with a ticket, answered or dropped; 2: committed with a handler; 3: and
    // answered.
    for state in answered {
        assert_ne!(state.load(Ordering::Relaxed), 2, "a handler was not called");
    }
}

/// A lease, for which it waits for answers if there is no room; none once the engine has ended.
fn lease(
    engine: &Engine,
    seen: &Seen,
    open: &mut Vec<(Ticket, u64)>,
    random: &mut Random,
) -> Option<Lease> {
    loop {
        match engine.lease() {
            Err(Refused::Full) => {
                while let Some((ticket, expected)) = open.pop() {
                    settle(seen, ticket, expected, random);
                }
                std::thread::yield_now();
            }
            other => return other.ok(),
        }
    }
}

fn produce(
    engine: &Engine,
    seen: &Arc<Seen>,
    answered: &Arc<[AtomicU8]>,
    numbers: impl Iterator<Item = u64>,
    mut random: Random,
) {
    let mut open: Vec<(Ticket, u64)> = Vec::new();
    for number in numbers {
        if random.chance(6) {
            produce_group(engine, seen, answered, number, &mut random);
            continue;
        }
        let Some(mut lease) = lease(engine, seen, &mut open, &mut random) else { break };
        draw_image(&mut lease, &mut random);
        let expected = checksum(&lease);
        if random.chance(50) {
            drop(lease);
            continue;
        }
        let deadline_us = 1 + random.below(3000);
        let options = RequestOptions::default()
            .deadline(random.chance(8).then(|| Instant::now() + Duration::from_micros(deadline_us)))
            .priority(Priority::ALL[random.below(3) as usize]);
        let is_committed = if random.chance(4) {
            let (seen, answered) = (Arc::clone(seen), Arc::clone(answered));
            let panics = random.chance(20);
            let mark = &Arc::clone(&answered)[number as usize];
            mark.store(2, Ordering::Relaxed);
            let handler = move |tag: u64, answer: Answer| {
                let before = answered[tag as usize].swap(3, Ordering::Relaxed);
                seen.wrong.fetch_add(u64::from(before != 2), Ordering::Relaxed);
                seen.count(&answer, expected);
                if panics {
                    // Not a panic!: its message would drown all others.
                    std::panic::resume_unwind(Box::new("a handler panics"));
                }
            };
            let sent = lease.commit_with(options, Arc::new(handler), number).is_ok();
            if !sent {
                mark.store(0, Ordering::Relaxed);
            }
            sent
        } else if let Ok(ticket) = lease.commit(options) {
            answered[number as usize].store(1, Ordering::Relaxed);
            open.push((ticket, expected));
            true
        } else {
            false
        };
        seen.committed.fetch_add(u64::from(is_committed), Ordering::Relaxed);
        if !open.is_empty() && random.chance(3) {
            let (ticket, expected) = open.swap_remove(random.below(open.len() as u64) as usize);
            settle(seen, ticket, expected, &mut random);
        }
    }
    for (ticket, expected) in open {
        settle(seen, ticket, expected, &mut random);
    }
}

/// One of a few, of some more, or of its own.
fn draw_image(image: &mut [u8], random: &mut Random) {
    let seed = match random.below(4) {
        0 => random.below(3),
        1 => random.below(100),
        _ => random.next(),
    };
    let mut content = Random::new(seed);
    image.fill_with(|| content.next() as u8);
}

/// Takes the answers of a group in one call; says in the group's place that it was called.
struct GroupHandler {
    seen: Arc<Seen>,
    answered: Arc<[AtomicU8]>,
    expected: Vec<u64>,
}

impl Handler for GroupHandler {
    fn answered(&self, _: u64, _: Answer) {
        self.seen.wrong.fetch_add(1, Ordering::Relaxed);
    }

    fn answered_many(&self, tag: u64, answers: Answers) {
        let before = self.answered[tag as usize].swap(3, Ordering::Relaxed);
        self.seen.wrong.fetch_add(u64::from(before != 2), Ordering::Relaxed);
        self.seen.count_group(answers, &self.expected);
    }
}

/// Hands several images over as one, and waits for them in one of several ways or not at all.
fn produce_group(
    engine: &Engine,
    seen: &Arc<Seen>,
    answered: &Arc<[AtomicU8]>,
    number: u64,
    random: &mut Random,
) {
    let timeout = Duration::from_micros(random.below(3) * 300);
    let Ok(mut lease) = engine.lease_many_timeout(1 + random.below(6) as usize, timeout) else {
        return;
    };
    let mut expected = Vec::new();
    for image in lease.images_mut() {
        draw_image(image, random);
        expected.push(checksum(image));
    }
    let len = expected.len() as u64;
    let options =
        RequestOptions::default().priority(Priority::ALL[random.below(3) as usize]).deadline(
            random.chance(8).then(|| Instant::now() + Duration::from_micros(random.below(3000))),
        );
    let state = &answered[number as usize];
    if random.chance(4) {
        state.store(2, Ordering::Relaxed);
        let (seen, answered) = (Arc::clone(seen), Arc::clone(answered));
        let handler = GroupHandler { seen: Arc::clone(&seen), answered, expected };
        match lease.commit_with(options, Arc::new(handler), number) {
            Ok(()) => seen.committed.fetch_add(len, Ordering::Relaxed),
            Err(_) => u64::from(state.swap(0, Ordering::Relaxed)),
        };
        return;
    }
    let Ok(ticket) = lease.commit(options) else { return };
    state.store(1, Ordering::Relaxed);
    seen.committed.fetch_add(len, Ordering::Relaxed);
    match random.below(10) {
        0 => return drop(ticket),
        1 => ticket.cancel(),
        2 => {
            if let Ok(answers) = ticket.wait_timeout(Duration::from_micros(random.below(200))) {
                seen.count_group(answers, &expected);
            }
            return;
        }
        _ => {}
    }
    let answers = ticket.wait_timeout(ANSWERED_WITHIN).expect("every request is answered");
    seen.count_group(answers, &expected);
}

/// Waits for an answer, or gives the request up in one of several ways.
fn settle(seen: &Seen, ticket: Ticket, expected: u64, random: &mut Random) {
    match random.below(10) {
        0 => return drop(ticket),
        1 => ticket.cancel(),
        2 => {
            let short = Duration::from_micros(random.below(200));
            if let Ok(answer) = ticket.wait_timeout(short) {
                seen.count(&answer, expected);
            }
            return;
        }
        _ => {}
    }
    let answer = ticket.wait_timeout(ANSWERED_WITHIN).expect("every request is answered");
    seen.count(&answer, expected);
}
