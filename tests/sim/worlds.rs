//! Random worlds under an independent checker: whatever device, workload, policy and limits are
//! drawn, every rule holds, and the same seed gives the same events. Bugs planted in the
//! scheduler's policy and in its events must be found.
//!
//! Seeds are fresh at every run and printed; `TWINSTREAM_SEED` repeats one.

use std::cell::Cell;
use std::time::SystemTime;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use twinstream::sched::{
    BatchLens, Config, Decision, Line, Outcome, Policy, PolicySpec, Reason, Stage, Stages, View,
};
use twinstream::sim::arrivals::Workload;
use twinstream::sim::check::Checker;
use twinstream::sim::device::{DeviceSpec, Outliers};
use twinstream::sim::{Event, Mix, Observer, Outage, Setup, run, run_with_policy};

pub struct Draw(SplitMix64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly spread over the logarithm.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.share())
    }

    fn sometimes(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn line(&mut self, fixed_ns: f64, per_image_ns: f64) -> Line {
        Line::new(fixed_ns * self.between(0.1, 10.0), per_image_ns * self.between(0.1, 10.0))
    }
}

pub fn seed() -> u64 {
    let seed = match std::env::var("TWINSTREAM_SEED") {
        Ok(words) => words.parse().expect("TWINSTREAM_SEED is a whole number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    println!("TWINSTREAM_SEED={seed}");
    seed
}

pub fn policy(draw: &mut Draw) -> PolicySpec {
    match draw.below(12) {
        0 => PolicySpec::Serial,
        1 | 2 => PolicySpec::Fixed {
            batch_len: 1 + draw.below(64) as usize,
            delay_ns: draw.below(3) * draw.below(3_000_000),
            preferred: BatchLens::new(&[1 + draw.below(64) as usize]).unwrap(),
            timeout_ns: draw.below(2) * draw.below(20_000_000),
            is_eager: draw.sometimes(2),
        },
        3 => PolicySpec::Adaptive { batch_len: usize::MAX, tick_ns: 1 + draw.below(2_000_000) },
        4 => PolicySpec::Aimd {
            increase: 1 + draw.below(4) as usize,
            bound_ns: 1 + draw.below(20_000_000),
        },
        5 => PolicySpec::Paper,
        7 | 8 => PolicySpec::Deferred {
            batch_len: 1 + draw.below(64) as usize,
            bound_ns: 1 + draw.below(20_000_000),
            is_dropping: draw.sometimes(2),
        },
        6 => PolicySpec::Jit,
        _ => PolicySpec::Stream,
    }
}

fn workload(draw: &mut Draw, capacity_hz: f64) -> Workload {
    let rate_hz = capacity_hz * draw.between(0.02, 3.0);
    let words = match draw.below(5) {
        0 => format!("uniform:{rate_hz}"),
        1 => format!("burst:{rate_hz}@5ms,{}@20ms", rate_hz * 0.1),
        2 => format!("steps:{rate_hz}@20ms,{}@20ms,{rate_hz}@1ms", rate_hz * 3.0),
        3 => format!("closed:{},think={}us", 1 + draw.below(200), draw.below(2) * draw.below(5000)),
        _ => format!("poisson:{rate_hz}"),
    };
    words.parse().unwrap()
}

fn device(draw: &mut Draw) -> DeviceSpec {
    let lines = Stages {
        upload: draw.line(12_000.0, 6_000.0),
        compute: draw.line(500_000.0, 25_000.0),
        download: draw.line(10_000.0, 100.0),
    };
    let mut device = DeviceSpec::from_lines("random", lines);
    if draw.sometimes(2) {
        device.jitter = 0.2 * draw.share();
    }
    if draw.sometimes(3) {
        device.outliers = Some(Outliers { fraction: 0.1 * draw.share(), factor: 10.0 });
    }
    if draw.sometimes(4) {
        device.stages.compute.buckets = vec![1, 4, 8, 16, 32];
    }
    device
}

/// Devices that fail, some of them for good, but never the first.
fn outages(draw: &mut Draw, lane_len: usize) -> Vec<Outage> {
    let outage = |_| {
        let lane = draw.below(lane_len as u64) as usize;
        let from_ns = draw.below(400_000_000);
        let is_back = lane == 0 || draw.sometimes(2);
        let until_ns = is_back.then(|| from_ns + 1 + draw.below(100_000_000));
        Outage { lane, from_ns, until_ns }
    };
    (0..lane_len).map(outage).collect()
}

pub fn world(seed: u64) -> Setup {
    let mut draw = Draw::new(seed);
    let devices = vec![device(&mut draw)];
    let lines = devices[0].lines();
    let workload = workload(&mut draw, 1e9 / lines.compute.per_image_ns);
    let off = if draw.sometimes(3) { draw.between(0.3, 3.0) } else { 1.0 };
    let first = |line: Line| Line::new(line.fixed_ns * off, line.per_image_ns * off);
    let one_in = |draw: &mut Draw, share: f64| if draw.sometimes(3) { share } else { 0.0 };
    Setup {
        config: Config {
            slot_len: 1 + draw.below(700) as usize,
            batch_len_max: 1 + draw.below(300) as usize,
            latency_bound_ns: draw
                .sometimes(2)
                .then(|| (4.0 * lines.compute.at_ns(1) * draw.between(0.2, 20.0)) as u64),
            policy: policy(&mut draw),
            lines: vec![Stages {
                upload: first(lines.upload),
                compute: first(lines.compute),
                download: first(lines.download),
            }],
        },
        devices,
        is_link_shared: false,
        outages: Vec::new(),
        calibration_factor: 1.0,
        workload,
        mix: Mix {
            high: one_in(&mut draw, 0.3),
            low: one_in(&mut draw, 0.3),
            deadline: one_in(&mut draw, 0.5),
            deadline_ns_max: 2e7,
            cancel: one_in(&mut draw, 0.2),
            forsaken: one_in(&mut draw, 0.5),
            fail: one_in(&mut draw, 0.02),
        },
        announced_ns: if draw.sometimes(3) { draw.below(3_000_000) } else { 0 },
        arrival_len_max: 3_000,
        duration_ns: 60_000_000_000,
        seed,
        trace_len: 0,
    }
}

/// The same with more devices, of which some fail and some come back.
fn world_of_several(seed: u64) -> Setup {
    let mut setup = world(seed);
    let mut draw = Draw::new(!seed);
    let more_len = 1 + draw.below(4) as usize;
    for _ in 0..more_len {
        let is_alike = draw.sometimes(2);
        setup.devices.push(if is_alike { setup.devices[0].clone() } else { device(&mut draw) });
    }
    setup.config.lines = setup.devices.iter().map(DeviceSpec::lines).collect();
    setup.is_link_shared = draw.sometimes(2);
    if draw.sometimes(2) {
        setup.outages = outages(&mut draw, setup.devices.len());
    }
    setup
}

#[test]
fn every_rule_holds_in_random_worlds() {
    every_rule_holds(world);
}

#[test]
fn every_rule_holds_in_random_worlds_of_several_devices() {
    every_rule_holds(world_of_several);
}

fn every_rule_holds(world: fn(u64) -> Setup) {
    let first = seed();
    let mut outcomes = [0_u64; 5];
    for seed in (0..400).map(|offset| first.wrapping_add(offset)) {
        let setup = world(seed);
        let mut checker = Checker::new(&setup.config);
        let report = run(&setup, &mut checker);
        let violation = checker.violation();
        assert_eq!(violation, None, "TWINSTREAM_SEED={seed} {setup:#?}");
        let ended = report.completed_len
            + report.expired_len
            + report.cancelled_len
            + report.failed_len
            + report.rejected_len;
        assert_eq!(ended, report.offered_len, "TWINSTREAM_SEED={seed}");
        assert_eq!(report.latencies.sorted_ns().len() as u64, report.completed_len);
        for (sum, len) in outcomes.iter_mut().zip([
            report.completed_len,
            report.expired_len,
            report.cancelled_len,
            report.failed_len,
            report.rejected_len,
        ]) {
            *sum += len;
        }
    }
    // The worlds are worth checking only if every way to end was seen.
    assert!(outcomes.iter().all(|&len| len > 100), "{outcomes:?}");
}

#[test]
fn same_seed_same_events() {
    let first = seed();
    let mut differing_len = 0;
    for seed in (0..20).map(|offset| first.wrapping_add(offset)) {
        let setup = world(seed);
        let reports = [run(&setup, ()), run(&setup, ())];
        assert_eq!(reports[0], reports[1], "TWINSTREAM_SEED={seed}");
        let other = Setup { seed: seed ^ 1, ..setup };
        differing_len += usize::from(reports[0].event_hash != run(&other, ()).event_hash);
    }
    // Worlds without randomness are the same under every seed; most are not.
    assert!(differing_len > 10, "{differing_len} of 20 differ");
}

/// Takes everything at once, but forgets about the queue when exactly three wait.
#[derive(Debug)]
struct Forgetful;

impl Policy for Forgetful {
    fn upload(&self, view: &View<'_>) -> Decision {
        if view.waiting_len == 3 || !view.is_idle() {
            return Decision::HOLD;
        }
        Decision::Go { len: view.waiting_len, reason: Reason::Idle }
    }
}

/// What a broken scheduler would do, applied to the events of a sound one.
#[derive(Clone, Copy, Debug)]
enum Bug {
    LoseOutcome,
    RepeatOutcome,
    WrongOutcome,
    ComputeBeforeUpload,
    RepeatSlot,
    OverfullBatch,
    DoubleBooking,
    Overtaking,
    TimeRunsBack,
    WrongTiming,
    /// Of a scheduler of several lanes alone.
    WrongLane,
    UntoldLoss,
}

const BUGS: [Bug; 10] = [
    Bug::LoseOutcome,
    Bug::RepeatOutcome,
    Bug::WrongOutcome,
    Bug::ComputeBeforeUpload,
    Bug::RepeatSlot,
    Bug::OverfullBatch,
    Bug::DoubleBooking,
    Bug::Overtaking,
    Bug::TimeRunsBack,
    Bug::WrongTiming,
];

struct Planted {
    checker: Checker,
    bug: Bug,
    /// Which occasion it strikes at.
    occasion: u64,
    seen: Cell<u64>,
}

impl Planted {
    fn strikes(&self) -> bool {
        self.seen.set(self.seen.get() + 1);
        self.seen.get() == self.occasion
    }

    /// What the checker says of a world with the bug in it.
    fn violation(setup: &Setup, bug: Bug, occasion: u64) -> Option<String> {
        let checker = Checker::new(&setup.config);
        let mut planted = Self { checker, bug, occasion, seen: Cell::new(0) };
        run(setup, &mut planted);
        let seed = setup.seed;
        assert!(planted.seen.get() >= occasion, "{bug:?} had no occasion, TWINSTREAM_SEED={seed}");
        let violation = planted.checker.violation();
        println!("{bug:?}: {violation:?}");
        violation
    }
}

impl Observer for Planted {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        let mut changed: Vec<u32> = Vec::new();
        let mut times = 1;
        let mut now_ns = now_ns;
        let mut event = *event;
        match (self.bug, &mut event) {
            (Bug::LoseOutcome, Event::Finished { .. }) if self.strikes() => times = 0,
            (Bug::RepeatOutcome, Event::Finished { .. }) if self.strikes() => times = 2,
            (Bug::WrongOutcome, Event::Finished { outcome, .. }) if self.strikes() => {
                *outcome = Outcome::Failed;
            }
            (Bug::ComputeBeforeUpload, Event::Asked { stage, .. })
                if *stage == Stage::Upload && self.strikes() =>
            {
                *stage = Stage::Compute;
            }
            (Bug::RepeatSlot, Event::Asked { slots, .. }) if slots.len() > 1 && self.strikes() => {
                changed.extend(*slots);
                changed[0] = changed[1];
            }
            (Bug::OverfullBatch, Event::Asked { slots, .. }) if self.strikes() => {
                changed.extend(std::iter::repeat_n(slots[0], 17));
            }
            (Bug::DoubleBooking, Event::Asked { span_ns, .. }) if self.strikes() => {
                span_ns.0 = span_ns.0.saturating_sub(1);
            }
            (Bug::Overtaking, Event::Submitted { deadline_ns, .. }) if self.strikes() => {
                *deadline_ns = Some(now_ns + 1);
            }
            (Bug::TimeRunsBack, Event::Finished { .. }) if self.strikes() => now_ns /= 2,
            (Bug::WrongTiming, Event::Finished { timing: Some(timing), .. }) if self.strikes() => {
                timing.upload_ended_ns -= 1;
            }
            (Bug::WrongLane, Event::Asked { lane, stage, .. })
                if *stage != Stage::Upload && self.strikes() =>
            {
                *lane ^= 1;
            }
            (Bug::UntoldLoss, Event::Lost { .. }) if self.strikes() => times = 0,
            _ => {}
        }
        if let (Event::Asked { slots, .. }, false) = (&mut event, changed.is_empty()) {
            *slots = &changed;
        }
        for _ in 0..times {
            self.checker.event(now_ns, &event);
        }
    }
}

/// A busy world without surprises: only a planted bug can break a rule.
pub fn sound_world(seed: u64) -> Setup {
    let mut setup = world(seed);
    setup.config.slot_len = 4096;
    setup.config.batch_len_max = 16;
    setup.config.latency_bound_ns = None;
    setup.config.policy = PolicySpec::Stream;
    setup.mix = Mix::default();
    // More clients than a batch holds: there is always someone to overtake.
    setup.workload = "closed:64".parse().unwrap();
    setup
}

#[test]
fn planted_bugs_are_found() {
    let seed = seed();
    let setup = sound_world(seed);
    let mut checker = Checker::new(&setup.config);
    run(&setup, &mut checker);
    assert_eq!(checker.violation(), None, "without a bug, TWINSTREAM_SEED={seed}");

    let mut checker = Checker::new(&setup.config);
    let slow = Setup { workload: "closed:3".parse().unwrap(), ..setup.clone() };
    run_with_policy(&slow, Box::new(Forgetful), &mut checker);
    let violation = checker.violation();
    println!("Forgetful: {violation:?}");
    assert!(violation.is_some_and(|words| words.contains("never")));

    for bug in BUGS {
        let violation = Planted::violation(&setup, bug, 50);
        assert!(violation.is_some(), "{bug:?} was not found, TWINSTREAM_SEED={seed}");
    }
}

#[test]
fn planted_bugs_of_several_lanes_are_found() {
    let seed = seed();
    let mut setup = sound_world(seed);
    setup.devices.push(setup.devices[0].clone());
    setup.config.lines.push(setup.config.lines[0]);
    // Its clients always have some on either lane.
    let back_ns = Some(200_000_000);
    setup.outages = vec![Outage { lane: 1, from_ns: 100_000_000, until_ns: back_ns }];
    let mut checker = Checker::new(&setup.config);
    run(&setup, &mut checker);
    assert_eq!(checker.violation(), None, "without a bug, TWINSTREAM_SEED={seed}");
    for (bug, occasion) in [(Bug::WrongLane, 50), (Bug::UntoldLoss, 1)] {
        let violation = Planted::violation(&setup, bug, occasion);
        assert!(violation.is_some(), "{bug:?} was not found, TWINSTREAM_SEED={seed}");
    }
}
