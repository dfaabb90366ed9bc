//! Cost of one decision by queue depth, and simulated requests a second.
//!
//! A decision is a poll that starts an upload or a batch, listing its slots. Each sample prepares a
//! scheduler whose queue is as deep as stated; only the poll is timed.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use twinstream::sched::{Action, Config, Line, PolicySpec, Request, Scheduler, Stage, Stages};
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::{Mix, Setup, run};

const DEPTHS: [usize; 4] = [1, 64, 1024, 4096];
const LINES: Stages<Line> = Stages {
    upload: Line::new(12_000.0, 6_000.0),
    compute: Line::new(500_000.0, 25_000.0),
    download: Line::new(10_000.0, 100.0),
};

fn main() {
    divan::main();
}

fn config(policy: PolicySpec, latency_bound_ns: Option<u64>) -> Config {
    Config { slot_len: 8192, batch_len_max: 256, latency_bound_ns, policy, lines: vec![LINES] }
}

/// A scheduler with `depth` requests waiting while a batch computes.
fn busy(policy: PolicySpec, latency_bound_ns: Option<u64>, depth: usize) -> Scheduler {
    let mut scheduler = Scheduler::new(&config(policy, latency_bound_ns));
    let submit = |scheduler: &mut Scheduler, now_ns, slot| {
        scheduler.submit(now_ns, Request { slot, ..Request::default() }).unwrap();
    };
    submit(&mut scheduler, 0, 0);
    assert!(scheduler.poll_action(0).is_some());
    scheduler.stage_completed(18_000, 0, Stage::Upload, 18_000).unwrap();
    assert!(scheduler.poll_action(18_000).is_some());
    for slot in 1..=depth {
        submit(&mut scheduler, 20_000, slot as u32);
    }
    scheduler
}

/// Start of an upload, at the moment when it is due at the latest.
fn decide_upload(bencher: Bencher<'_, '_>, depth: usize, latency_bound_ns: Option<u64>) {
    bencher.with_inputs(|| busy(PolicySpec::Stream, latency_bound_ns, depth)).bench_local_refs(
        |scheduler| {
            let action = scheduler.poll_action(black_box(540_000));
            assert!(matches!(action, Some(Action::Start { stage: Stage::Upload, .. })));
        },
    );
}

#[divan::bench(args = DEPTHS)]
fn upload(bencher: Bencher<'_, '_>, depth: usize) {
    decide_upload(bencher, depth, None);
}

#[divan::bench(args = DEPTHS)]
fn upload_with_deadlines(bencher: Bencher<'_, '_>, depth: usize) {
    decide_upload(bencher, depth, Some(1_000_000_000));
}

/// Start of a batch of whatever was uploaded, at most 256 images.
#[divan::bench(args = DEPTHS)]
fn compute(bencher: Bencher<'_, '_>, depth: usize) {
    let ready = || {
        let mut scheduler = busy(PolicySpec::Stream, None, depth);
        assert!(scheduler.poll_action(540_000).is_some());
        scheduler.stage_completed(541_000, 0, Stage::Upload, 18_000).unwrap();
        scheduler.stage_completed(541_000, 0, Stage::Compute, 525_000).unwrap();
        assert!(scheduler.poll_action(541_000).is_some());
        scheduler
    };
    bencher.with_inputs(ready).bench_local_refs(|scheduler| {
        let action = scheduler.poll_action(black_box(541_000));
        assert!(matches!(action, Some(Action::Start { stage: Stage::Compute, .. })));
    });
}

/// A poll that decides to wait.
#[divan::bench(args = [1, 64])]
fn hold(bencher: Bencher<'_, '_>, depth: usize) {
    bencher
        .with_inputs(|| busy(PolicySpec::Jit, None, depth))
        .bench_local_refs(|scheduler| assert!(scheduler.poll_action(black_box(20_000)).is_none()));
}

#[divan::bench]
fn submit(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| busy(PolicySpec::Stream, Some(1_000_000_000), 4096)).bench_local_refs(
        |scheduler| {
            scheduler.submit(black_box(21_000), Request { slot: 5000, ..Request::default() })
        },
    );
}

/// Simulated requests at a share of the device's capacity, in percent.
#[divan::bench(args = [10, 50, 90], sample_count = 5, sample_size = 1)]
fn simulate(bencher: Bencher<'_, '_>, load_percent: u32) {
    const ARRIVALS: u64 = 200_000;
    let setup = Setup {
        config: config(PolicySpec::Stream, None),
        devices: vec![DeviceSpec::from_lines("bench", LINES)],
        is_link_shared: false,
        outages: Vec::new(),
        calibration_factor: 1.0,
        workload: format!("poisson:{}", 400 * load_percent).parse().unwrap(),
        mix: Mix::default(),
        announced_ns: 0,
        arrival_len_max: ARRIVALS,
        duration_ns: u64::MAX,
        seed: 1,
        trace_len: 0,
    };
    bencher.counter(ItemsCount::new(ARRIVALS)).bench_local(|| run(black_box(&setup), ()));
}
