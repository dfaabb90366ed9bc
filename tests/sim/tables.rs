//! The simulator and the policies against known figures: the paper's experiments, the load-latency
//! table of the method, overload, closed loop, a wrong first fit.
//!
//! Figures of Poisson runs are means over 3·10⁵ arrivals of one seed. Over six seeds of 2·10⁶
//! arrivals at load 0.9 they scatter by 0.8 %, so a run here is sure to 2 % there, and to a tenth
//! of that at load 0.1; the tolerances follow.

use twinstream::sched::{BatchLens, Config, PolicySpec};
use twinstream::sim::arrivals::Workload;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::summary::misjudge;
use twinstream::sim::{Mix, Report, Setup, run};

const ARRIVALS: u64 = 300_000;
const PROFILE: &str = "up=12us+6us,compute=500us+25us,down=10us+100ns";
const EAGER: PolicySpec = PolicySpec::Fixed {
    batch_len: 256,
    delay_ns: 0,
    preferred: BatchLens::NONE,
    timeout_ns: 0,
    is_eager: true,
};

fn fixed(batch_len: usize, delay_ns: u64, is_eager: bool) -> PolicySpec {
    PolicySpec::Fixed { batch_len, delay_ns, preferred: BatchLens::NONE, timeout_ns: 0, is_eager }
}

fn setup(device: &str, workload: &str, policy: PolicySpec) -> Setup {
    let device: DeviceSpec = device.parse().unwrap();
    let workload: Workload = workload.parse().unwrap();
    Setup {
        config: Config {
            slot_len: 1 << 16,
            batch_len_max: 256,
            latency_bound_ns: None,
            policy,
            lines: vec![device.lines()],
        },
        devices: vec![device],
        is_link_shared: false,
        outages: Vec::new(),
        calibration_factor: 1.0,
        workload,
        mix: Mix::default(),
        announced_ns: 0,
        arrival_len_max: ARRIVALS,
        duration_ns: u64::MAX,
        seed: 1,
        trace_len: 0,
    }
}

fn simulate(device: &str, workload: &str, policy: PolicySpec) -> Report {
    run(&setup(device, workload, policy), ())
}

fn at_load(load: f64, policy: PolicySpec) -> Report {
    // One image costs 25 µs of computing.
    simulate(PROFILE, &format!("poisson:{}", load / 25e-6), policy)
}

fn mean_ms(report: &Report) -> f64 {
    report.latencies.mean_ns() / 1e6
}

fn assert_close(what: &str, measured: f64, expected: f64, tolerance: f64) {
    let error = measured / expected - 1.0;
    println!("{what}: {measured:.4}, expected {expected} ({:+.2} %)", 100.0 * error);
    assert!(error.abs() <= tolerance, "{what}: {measured} instead of {expected}");
}

/// Mean latency in milliseconds by load; serial, eager prefetch, just in time.
#[test]
fn load_latency_table() {
    let table: [(f64, Option<f64>, f64, f64, f64); 6] = [
        (0.1, Some(0.916), 1.386, 0.882, 0.01),
        (0.3, Some(1.293), 1.829, 1.177, 0.01),
        (0.5, Some(2.142), 2.557, 1.686, 0.01),
        (0.7, Some(6.284), 4.257, 2.878, 0.02),
        (0.8, None, 6.388, 4.372, 0.02),
        (0.9, None, 12.81, 8.876, 0.03),
    ];
    for (load, serial, eager, jit, tolerance) in table {
        let check = |name: &str, policy, expected| {
            let measured = mean_ms(&at_load(load, policy));
            assert_close(&format!("{name} at {load}"), measured, expected, tolerance);
        };
        if let Some(serial) = serial {
            check("serial", PolicySpec::Serial, serial);
        }
        check("eager prefetch", EAGER, eager);
        check("jit", PolicySpec::Jit, jit);
    }
}

/// The default's mean and tail against what can be had: the best mean of a batch queue that knows
/// nothing of uploads in flight, and the clairvoyant 99th percentile.
#[test]
fn default_policy_is_close_to_the_bounds() {
    for (load, bound_ms, tolerance) in [
        (0.1, 0.874, 1.01),
        (0.3, 1.131, 1.01),
        (0.5, 1.570, 1.01),
        (0.7, 2.594, 1.01),
        (0.8, 3.875, 1.01),
        (0.9, 7.72, 1.015),
    ] {
        let measured = mean_ms(&at_load(load, PolicySpec::Stream));
        println!("stream at {load}: {measured:.4}, bound {bound_ms}");
        assert!(measured <= tolerance * bound_ms, "{measured} at {load}, bound {bound_ms}");
    }
    for (load, bound_ms, tolerance) in [(0.1, 1.109, 1.15), (0.5, 2.179, 1.15), (0.8, 5.123, 1.25)]
    {
        let report = at_load(load, PolicySpec::Stream);
        let measured = report.latencies.quantile_ns(0.99) as f64 / 1e6;
        println!("stream at {load}: p99 {measured:.4}, bound {bound_ms}");
        assert!(measured <= tolerance * bound_ms, "p99 {measured} at {load}, bound {bound_ms}");
    }
}

/// Capacity, mean latency and peak of the paper, just in time against one stream.
#[test]
fn paper_claims() {
    const DEVICE: &str = "gtx-1080ti";
    let table = [(50, 12.9, 12.7, 0.03), (400, 52.2, 43.0, 0.03), (500, 175.0, 91.2, 0.08)];
    for (rate_hz, serial, jit, tolerance) in table {
        let workload = format!("poisson:{rate_hz}");
        let measured = [PolicySpec::Serial, PolicySpec::Jit]
            .map(|policy| mean_ms(&simulate(DEVICE, &workload, policy)));
        assert_close(&format!("serial at {rate_hz}/s"), measured[0], serial, tolerance);
        assert_close(&format!("jit at {rate_hz}/s"), measured[1], jit, tolerance);
        assert!(measured[1] < measured[0]);
    }
    let near = [PolicySpec::Serial, PolicySpec::Jit, PolicySpec::Stream]
        .map(|policy| mean_ms(&simulate(DEVICE, "poisson:530", policy)));
    println!("at 530/s: serial {:.0}, jit {:.0}, stream {:.0} ms", near[0], near[1], near[2]);
    assert!(near[1] < 0.27 * near[0] && near[2] < near[1]);

    // Far more than either can do: every batch is full, the rate of answers is the capacity.
    let [serial, jit] = [PolicySpec::Serial, PolicySpec::Jit].map(|policy| {
        let mut setup = setup(DEVICE, "uniform:2000", policy);
        setup.arrival_len_max = 50_000;
        run(&setup, ()).throughput_hz()
    });
    println!("capacity: serial {serial:.1}/s, jit {jit:.1}/s");
    assert_close("capacity gained", jit / serial - 1.0, 0.09, 0.11);

    let peak = |policy| {
        let mut setup = setup(DEVICE, "steps:400@2s,800@300ms,400@1s,uniform", policy);
        setup.duration_ns = 4_000_000_000;
        run(&setup, ()).latencies.max_ns() as f64 / 1e6
    };
    let [serial, jit, stream] = [PolicySpec::Serial, PolicySpec::Jit, PolicySpec::Stream].map(peak);
    println!("peak: serial {serial:.0}, jit {jit:.0}, stream {stream:.0} ms");
    assert!(jit <= 0.84 * serial && stream <= 0.84 * serial);
}

/// Answers in time under overload against the fluid bound with the transfers taken off the bound on
/// latency.
#[test]
fn goodput_under_overload() {
    for bound_ms in [5.0, 10.0_f64] {
        for load in [1.0, 1.2, 1.5, 2.0_f64] {
            let mut setup =
                setup(PROFILE, &format!("poisson:{}", load / 25e-6), PolicySpec::Stream);
            setup.config.latency_bound_ns = Some((bound_ms * 1e6) as u64);
            let report = run(&setup, ());
            let rate_hz = load / 25e-6;
            let left_s = bound_ms * 1e-3 - 18e-6 - 10e-6;
            let batch_len = (rate_hz * (left_s - 500e-6) / (1.0 + load)).min(256.0);
            let fluid_hz = rate_hz.min(batch_len / (25e-6 * batch_len + 500e-6));
            let share = report.goodput_hz() / fluid_hz;
            println!("load {load}, bound {bound_ms} ms: {:.2} % of the fluid bound", 100.0 * share);
            assert!((0.97..=1.0).contains(&share), "{share} at load {load}, bound {bound_ms} ms");
            assert!(report.latencies.max_ns() as f64 <= bound_ms * 1e6, "an answer came late");
        }
    }
}

/// Clients that wait for their answers: one batch of everything below the number from which on
/// overlap pays, `(c_calc − c_up − c_down)/(k_up + k_down)`, and two in turn above it.
#[test]
fn closed_loop_never_loses_to_one_stream() {
    for (device, change) in [(PROFILE, 78.4), ("gtx-1080ti", 51.6)] {
        for client_len in [1, 2, 5, 10, 20, 40, 50, 60, 80, 100, 150, 200] {
            let workload = format!("closed:{client_len}");
            let [serial, stream] = [PolicySpec::Serial, PolicySpec::Stream].map(|policy| {
                let mut setup = setup(device, &workload, policy);
                setup.arrival_len_max = 20_000;
                mean_ms(&run(&setup, ()))
            });
            assert!(stream <= 1.001 * serial, "{client_len} clients: {stream} and {serial} ms");
            if f64::from(client_len) > 1.1 * change {
                assert!(stream < 0.995 * serial, "{client_len} clients gain nothing: {stream} ms");
            }
        }
    }
}

/// Stairs, jitter, outliers and drift: the default stays ahead of peers tuned for the very device,
/// most of which need no model.
#[test]
fn unruly_devices_do_not_mislead_it() {
    for (items, load) in [
        ("jitter=10%", 0.3),
        ("jitter=10%", 0.6),
        ("buckets=1/4/8/16/32/64/128/256", 0.3),
        ("buckets=1/4/8/16/32/64/128/256", 0.6),
        ("jitter=5%,buckets=32/64/96/128", 0.6),
        ("outliers=10%x10", 0.1),
        ("drift=0s:1/1s:1.5/2s:1", 0.5),
    ] {
        let device = format!("{PROFILE},{items}");
        let workload = format!("poisson:{}", load / 25e-6);
        // Outliers make single runs differ widely: the same five seeds for everyone.
        let mean = |policy| {
            let one = |seed| {
                let mut setup = setup(&device, &workload, policy);
                setup.arrival_len_max = 50_000;
                setup.seed = seed;
                mean_ms(&run(&setup, ()))
            };
            (1..=5).map(one).sum::<f64>() / 5.0
        };
        let mut peers = vec![PolicySpec::Serial, "adaptive:tick=100us".parse().unwrap()];
        for batch_len in [8, 16, 32, 64, 256] {
            for is_eager in [false, true] {
                for delay_ns in [0, 100_000] {
                    peers.push(fixed(batch_len, delay_ns, is_eager));
                }
            }
        }
        let best = peers.into_iter().map(mean).fold(f64::INFINITY, f64::min);
        let stream = mean(PolicySpec::Stream);
        println!("{items} at load {load}: {stream:.4} ms, best peer {best:.4} ms");
        assert!(stream <= 1.01 * best, "{items} at load {load}: {stream} and {best} ms");
    }
}

/// A burst leaves a backlog that is cheaper to serve in parts, which tuned peers happen to do.
#[test]
fn bursts_are_served_no_worse_than_by_tuned_peers() {
    // 588 images a second is what the device computes at most, 9.7 ms the time of one image.
    for burst in ["1176@48ms,59@485ms", "2353@19ms,29@485ms", "529@194ms,59@194ms"] {
        let mean = |policy| {
            let mut setup = setup("gtx-1080ti", &format!("burst:{burst}"), policy);
            setup.arrival_len_max = 40_000;
            mean_ms(&run(&setup, ()))
        };
        let mut best = f64::INFINITY;
        for batch_len in [8, 16, 24, 32, 48, 64, 256] {
            for is_eager in [false, true] {
                for delay_ns in [0, 3_000_000] {
                    best = best.min(mean(fixed(batch_len, delay_ns, is_eager)));
                }
            }
        }
        let stream = mean(PolicySpec::Stream);
        println!("{burst}: {stream:.2} ms, best fixed {best:.2} ms");
        assert!(stream <= 1.01 * best, "{burst}: {stream} and {best} ms");
    }
}

/// A first fit that is off by a factor of two is forgotten at once.
#[test]
fn a_wrong_first_fit_is_forgotten() {
    for load in [0.3, 0.7] {
        let workload = format!("poisson:{}", load / 25e-6);
        let truth = mean_ms(&simulate(PROFILE, &workload, PolicySpec::Stream));
        for factor in [0.5, 2.0] {
            let mut setup = setup(PROFILE, &workload, PolicySpec::Stream);
            misjudge(&mut setup, factor);
            let measured = mean_ms(&run(&setup, ()));
            println!("load {load}, first fit x{factor}: {measured:.4}, true fit {truth:.4}");
            assert!(measured <= 1.01 * truth);
        }
    }
}
