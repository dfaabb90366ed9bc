//! One policy's run in the figures that are printed, beside the bounds on what any could do.
//!
//! They depend on device, workload and seed alone: policies that are compared share them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::arrivals::{OpenLoop, Workload};
use super::bounds::{self, ServiceTimes};
use super::device::DeviceSpec;
use super::report::Report;
use super::world::{Mix, Setup};
use crate::sched::{Config, PolicySpec, Reason, Stage, Stages};

/// Slots of a simulated scheduler: far more requests than a stable policy has alive, few enough
/// that an unstable one is seen to reject.
pub const SLOT_LEN: usize = 16_384;

/// The clairvoyant bounds look at so many arrivals at most; longer traces would take minutes.
const CLAIRVOYANT_LEN_MAX: usize = 100_000;

/// The one that keeps the order takes ten times as long as the others.
const IN_ORDER_LEN_MAX: usize = 20_000;

/// The optimal mean is found for batches up to this length: its equations grow with the square.
const OPTIMAL_LEN_MAX: usize = 1024;

/// A setup whose scheduler starts from the device's own lines, without limits but the batch length.
pub fn setup(
    device: &DeviceSpec,
    workload: &Workload,
    policy: PolicySpec,
    batch_len_max: usize,
    seed: u64,
) -> Setup {
    Setup {
        config: Config {
            slot_len: SLOT_LEN,
            batch_len_max,
            latency_bound_ns: None,
            policy,
            lines: vec![device.lines()],
        },
        devices: vec![device.clone()],
        is_link_shared: false,
        outages: Vec::new(),
        calibration_factor: 1.0,
        workload: workload.clone(),
        mix: Mix::default(),
        announced_ns: 0,
        arrival_len_max: u64::MAX,
        duration_ns: u64::MAX,
        seed,
        trace_len: 0,
    }
}

/// Puts these devices in place of the one, and their lines before the scheduler.
pub fn equip(setup: &mut Setup, devices: Vec<DeviceSpec>) {
    setup.config.lines = devices.iter().map(DeviceSpec::lines).collect();
    setup.devices = devices;
}

/// Multiplies the scheduler's first idea of every stage time; the device stays as it is.
pub fn misjudge(setup: &mut Setup, factor: f64) {
    let scaled = |line: crate::sched::Line| {
        crate::sched::Line::new(line.fixed_ns * factor, line.per_image_ns * factor)
    };
    setup.calibration_factor = factor;
    for lines in &mut setup.config.lines {
        *lines = Stages {
            upload: scaled(lines.upload),
            compute: scaled(lines.compute),
            download: scaled(lines.download),
        };
    }
}

/// What policies are measured against in a setup; none where it does not apply. Mean and p99 are
/// clairvoyant, on the very arrivals, of open loops below capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bounds {
    /// Least mean latency in milliseconds of answering all; none under a latency bound, which
    /// leaves some unanswered. Of several devices it is not of the very arrivals.
    #[serde(rename = "bound_mean_ms")]
    pub mean_ms: Option<f64>,
    /// Least p99 latency in milliseconds of answering all in the order they came; likewise, and
    /// none beyond 20,000 arrivals.
    #[serde(rename = "bound_p99_in_order_ms")]
    pub p99_in_order_ms: Option<f64>,
    /// Least p99 latency in milliseconds, with one request in a hundred given up.
    #[serde(rename = "bound_p99_ms")]
    pub p99_ms: Option<f64>,
    /// The arrivals that these three are of: at most the first 100,000. What is measured over more
    /// can be below them.
    #[serde(rename = "bound_arrivals")]
    pub arrival_len: Option<usize>,
    /// Most answers in time a second in the fluid limit; of Poisson and uniform arrivals under a
    /// latency bound.
    #[serde(rename = "bound_goodput_hz")]
    pub goodput_hz: Option<f64>,
    /// Best mean latency in milliseconds without look-ahead; of Poisson arrivals below capacity, in
    /// batches of at most 1,024. No bound: see [`bounds::mean_without_look_ahead_ns`].
    pub mean_without_look_ahead_ms: Option<f64>,
}

impl Bounds {
    /// The bounds of a setup, whatever its policy; of several devices, that on the mean alone.
    pub fn of(setup: &Setup) -> Self {
        let Workload::Open(open) = &setup.workload else { return Self::default() };
        let batch_len_max = setup.config.batch_len_max;
        let answers_all = setup.config.latency_bound_ns.is_none();
        if setup.devices.len() > 1 {
            let mean_ns = bounds::several_mean_ns(&setup.devices, batch_len_max, open.rate_hz());
            let mean_ms = mean_ns.filter(|_| answers_all).map(|mean_ns| mean_ns * 1e-6);
            return Self { mean_ms, ..Self::default() };
        }
        let times = ServiceTimes::compute(&setup.devices[0], batch_len_max);
        let rate_hz = open.rate_hz();
        let mean_without_look_ahead_ms = match open {
            OpenLoop::Poisson { rate_hz } if batch_len_max <= OPTIMAL_LEN_MAX => {
                bounds::mean_without_look_ahead_ns(&setup.devices[0], batch_len_max, *rate_hz)
                    .map(|mean| mean * 1e-6)
            }
            _ => None,
        };
        let arrivals_ns: Vec<u64> = match rate_hz < times.capacity_hz() {
            true => open
                .arrivals(setup.seed)
                .take_while(|&at_ns| at_ns <= setup.duration_ns)
                .take(CLAIRVOYANT_LEN_MAX.min(setup.arrival_len_max as usize))
                .collect(),
            false => Vec::new(),
        };
        type Bound = fn(&DeviceSpec, usize, &[u64]) -> f64;
        let of_trace = |bound: Bound, is_held: bool| {
            (is_held && !arrivals_ns.is_empty())
                .then(|| bound(&setup.devices[0], batch_len_max, &arrivals_ns) * 1e-6)
        };
        let goodput_hz = match (open, setup.config.latency_bound_ns) {
            (OpenLoop::Poisson { .. } | OpenLoop::Uniform { .. }, Some(bound_ns)) => {
                let left_ns = bound_ns as f64 - bounds::transfers_ns(&setup.devices[0]);
                Some(bounds::fluid_goodput_hz(&times, rate_hz, left_ns))
            }
            _ => None,
        };
        Self {
            mean_ms: of_trace(bounds::least_mean_ns, answers_all),
            p99_in_order_ms: of_trace(
                bounds::p99_in_order_ns,
                answers_all && arrivals_ns.len() <= IN_ORDER_LEN_MAX,
            ),
            p99_ms: of_trace(bounds::p99_ns, true),
            arrival_len: (!arrivals_ns.is_empty()).then_some(arrivals_ns.len()),
            goodput_hz,
            mean_without_look_ahead_ms,
        }
    }
}

/// One policy's run in figures; serialised, one JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the policy.
    pub policy: String,
    /// Arrivals a second as described; of a closed loop, as they came.
    pub rate_hz: f64,
    /// Requests that arrived.
    pub offered: u64,
    /// Requests that were answered.
    pub completed: u64,
    /// Requests turned away as they arrived.
    pub rejected: u64,
    /// Of these, the ones that found every slot in use.
    pub full: u64,
    /// Requests accepted and told later that they expired.
    pub expired: u64,
    /// Mean latency in milliseconds, from the scheduled arrival, like all that follow.
    pub mean_ms: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// Latency that 99 % stay within.
    pub p99_ms: f64,
    /// Latency that 99.9 % stay within.
    pub p999_ms: f64,
    /// Largest latency.
    pub max_ms: f64,
    /// Answers a second.
    pub throughput_hz: f64,
    /// Answers in time a second.
    pub goodput_hz: f64,
    /// Mean images in a batch.
    pub batch_len_mean: f64,
    /// Images in the longest batch.
    pub batch_len_max: usize,
    /// What it is measured against.
    #[serde(flatten)]
    pub bounds: Bounds,
    /// How often a stage was started, by stage and reason; what never happened is left out.
    pub decisions: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Seed of the run.
    pub seed: u64,
    /// Hash over every event, hexadecimal: equal runs have equal hashes.
    pub event_hash: String,
}

impl Summary {
    /// A run's figures beside its bounds.
    pub fn new(setup: &Setup, report: &Report, bounds: &Bounds) -> Self {
        let latencies = &report.latencies;
        let quantile_ms = |quantile| latencies.quantile_ns(quantile) as f64 * 1e-6;
        let rate_hz = match &setup.workload {
            Workload::Open(open) => open.rate_hz(),
            Workload::Closed(_) => report.offered_len as f64 * 1e9 / report.end_ns.max(1) as f64,
        };
        Self {
            policy: setup.config.policy.to_string(),
            rate_hz,
            offered: report.offered_len,
            completed: report.completed_len,
            rejected: report.rejected_len,
            full: report.full_len,
            expired: report.expired_len,
            mean_ms: latencies.mean_ns() * 1e-6,
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            p999_ms: quantile_ms(0.999),
            max_ms: latencies.max_ns() as f64 * 1e-6,
            throughput_hz: report.throughput_hz(),
            goodput_hz: report.goodput_hz(),
            batch_len_mean: report.batch_len_mean(),
            batch_len_max: report.batch_len_max,
            bounds: *bounds,
            decisions: decisions(report),
            seed: setup.seed,
            event_hash: format!("{:016x}", report.event_hash),
        }
    }
}

fn decisions(report: &Report) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let stages = [(Stage::Upload, "upload"), (Stage::Compute, "compute")];
    stages
        .into_iter()
        .map(|(stage, name)| {
            let counts = Reason::ALL
                .into_iter()
                .map(|reason| (reason.name(), report.decision_len(stage, reason)))
                .filter(|(_, count)| *count > 0);
            (name, counts.collect())
        })
        .collect()
}
