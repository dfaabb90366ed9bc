//! Mean and p99 latency of every policy over the load, beside the bounds.

use serde_json::Value;

use super::parallel::{self, Progress};
use super::value;
use super::{
    Axis, Figure, Panel, Scale, Series, Style, Table, WITHOUT_LOOK_AHEAD, heights, simulated,
};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{OpenLoop, Workload};
use crate::sim::bounds;
use crate::sim::device::DeviceSpec;
use crate::sim::summary::{Bounds, setup};
use crate::sim::world::run;

/// The device of the experiments that go beyond the paper: transfers of a modern card, and a
/// network whose fixed cost is that of 20 images.
pub(super) const DEVICE: &str = "up=12us+6us,compute=500us+25us,down=10us+100ns";

pub(super) const BATCH_LEN_MAX: usize = 256;

const LOADS: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9];

/// The clairvoyant bounds can look through traces of this length.
const TRACE_LEN: u64 = 20_000;

pub(super) fn device() -> DeviceSpec {
    DEVICE.parse().expect("the words are well-formed")
}

/// Poisson arrivals at a share of what the compute engine does in endless batches.
pub(super) fn poisson(load: f64) -> Workload {
    let rate_hz = load * 1e9 / device().stages.compute.line.per_image_ns;
    Workload::Open(OpenLoop::Poisson { rate_hz })
}

#[derive(Clone, Copy)]
struct Point {
    mean_ms: f64,
    /// Mean and p99 of the trace that the bounds are of.
    trace_mean_ms: f64,
    trace_p99_ms: f64,
}

enum Job {
    Policy(f64, PolicySpec),
    Bounds(f64),
}

pub(super) fn load_latency(scale: &Scale, progress: &dyn Progress) -> Figure {
    let policies = PolicySpec::ALL.map(|(_, policy)| policy);
    let trace_len = TRACE_LEN.min(scale.request_len);
    // The bounds at high loads take longest and so come first.
    let mut jobs: Vec<Job> = LOADS.iter().rev().map(|&load| Job::Bounds(load)).collect();
    jobs.extend(policies.iter().flat_map(|&policy| LOADS.map(|load| Job::Policy(load, policy))));
    let found = parallel::map(&jobs, progress, |job| match *job {
        Job::Bounds(load) => {
            let mut setup =
                setup(&device(), &poisson(load), PolicySpec::default(), BATCH_LEN_MAX, scale.seed);
            setup.arrival_len_max = trace_len;
            (None, Bounds::of(&setup))
        }
        Job::Policy(load, policy) => (point(load, policy, trace_len, scale), Bounds::default()),
    });
    let points: Vec<Option<Point>> = found.iter().map(|(point, _)| *point).collect();
    let bounds: Vec<Bounds> = found[..LOADS.len()].iter().rev().map(|(_, found)| *found).collect();
    let found = |index: usize| &points[LOADS.len() * (1 + index)..][..LOADS.len()];
    let caption = format!(
        "Device {DEVICE}, Poisson arrivals, batches of at most {BATCH_LEN_MAX}. Latencies are \
         means over {} requests, and p99 over the first {trace_len}. What they are held against \
         is clairvoyant, on the first {trace_len} arrivals, which no schedule that answers all in \
         order is below; ratios of means are of the same arrivals. The best without look-ahead \
         takes no account of uploads in flight (the default does, and may end up below it). Load \
         is the arrival rate times the compute time of one more image. A policy that cannot keep \
         up has no point; where lines coincide (serial, adaptive, aimd at low loads), the later \
         one in the legend is seen.",
        scale.request_len,
    );
    let title = "Load and latency of every policy, beside the bounds";
    let panels = panels(&policies, &bounds, found);
    let table = table(&policies, &bounds, found);
    let setting = simulated(DEVICE, scale.seed);
    Figure { name: "load-latency", title, setting, caption, panels, column_len: 2, table }
}

fn panels<'a>(
    policies: &[PolicySpec],
    bounds: &[Bounds],
    found: impl Fn(usize) -> &'a [Option<Point>],
) -> Vec<Panel> {
    type Figured<'a> = &'a dyn Fn(&Point, &Bounds) -> Option<f64>;
    type Reference = fn(&Bounds) -> Option<f64>;
    let of_policies = |figure: Figured<'_>| -> Vec<Series> {
        let of_policy = |(index, policy): (usize, &PolicySpec)| {
            let points = LOADS.iter().zip(found(index)).zip(bounds);
            let points = points.filter_map(|((&load, point), bounds)| {
                Some((load, figure(point.as_ref()?, bounds)?))
            });
            Series::new(policy.name(), Style::Marked, points.collect())
        };
        policies.iter().enumerate().map(of_policy).collect()
    };
    let reference = |(name, figure): (&'static str, Reference)| {
        let points = LOADS.iter().zip(bounds);
        let points = points.filter_map(|(&load, bounds)| Some((load, figure(bounds)?)));
        Series::new(name, Style::Dashed, points.collect())
    };
    let panel = |title: &str, unit, series: Vec<Series>| {
        let x = Axis::linear("load λ·k", (0.0, 1.0));
        Panel { title: title.into(), x, y: Axis::log_around(unit, heights(&series)), series }
    };
    let mut means = of_policies(&|point, _| Some(point.mean_ms));
    means.push(reference((WITHOUT_LOOK_AHEAD, |bounds| bounds.mean_without_look_ahead_ms)));
    means.push(reference(("bound", |bounds| bounds.mean_ms)));
    let mut tails = of_policies(&|point, _| Some(point.trace_p99_ms));
    tails.push(reference(("bound in order", |bounds| bounds.p99_in_order_ms)));
    tails.push(reference(("bound giving up 1 %", |bounds| bounds.p99_ms)));
    let mean_ratios = of_policies(&|point, bounds| Some(point.trace_mean_ms / bounds.mean_ms?));
    let tail_ratios =
        of_policies(&|point, bounds| Some(point.trace_p99_ms / bounds.p99_in_order_ms?));
    vec![
        panel("mean latency", "ms", means),
        panel("p99 latency", "ms", tails),
        panel("mean latency over its bound", "ratio", mean_ratios),
        panel("p99 latency over its bound in order", "ratio", tail_ratios),
    ]
}

/// One policy at one load; none if it does not keep up.
fn point(load: f64, policy: PolicySpec, trace_len: u64, scale: &Scale) -> Option<Point> {
    let mut setup = setup(&device(), &poisson(load), policy, BATCH_LEN_MAX, scale.seed);
    setup.arrival_len_max = trace_len;
    let trace = run(&setup, ());
    setup.arrival_len_max = scale.request_len;
    let whole = run(&setup, ());
    let Workload::Open(open) = &setup.workload else { return None };
    let is_stable = whole.rejected_len == 0 && whole.throughput_hz() > 0.98 * open.rate_hz();
    is_stable.then(|| Point {
        mean_ms: whole.latencies.mean_ns() * 1e-6,
        trace_mean_ms: trace.latencies.mean_ns() * 1e-6,
        trace_p99_ms: trace.latencies.quantile_ns(0.99) as f64 * 1e-6,
    })
}

fn table<'a>(
    policies: &[PolicySpec],
    bounds: &[Bounds],
    found: impl Fn(usize) -> &'a [Option<Point>],
) -> Table {
    let columns = vec![
        "load",
        "policy",
        "mean_ms",
        "without_look_ahead_ms",
        "without_look_ahead_ratio",
        "trace_mean_ms",
        "bound_mean_ms",
        "mean_ratio",
        "p99_ms",
        "bound_p99_in_order_ms",
        "p99_in_order_ratio",
        "bound_p99_ms",
        "p99_ratio",
    ];
    let mut table = Table { columns, rows: Vec::new() };
    for ((at, load), bounds) in LOADS.iter().enumerate().zip(bounds) {
        for (index, policy) in policies.iter().enumerate() {
            let point = found(index)[at];
            let mut row: Vec<Value> = vec![value(*load), policy.name().into()];
            let mut push = |figure: Option<f64>| row.push(figure.map_or(Value::Null, value));
            let mut beside = |figure: Option<f64>, references: &[Option<f64>]| {
                push(figure);
                for &reference in references {
                    push(reference);
                    push(figure.zip(reference).map(|(figure, reference)| figure / reference));
                }
            };
            beside(point.map(|point| point.mean_ms), &[bounds.mean_without_look_ahead_ms]);
            beside(point.map(|point| point.trace_mean_ms), &[bounds.mean_ms]);
            let tails = [bounds.p99_in_order_ms, bounds.p99_ms];
            beside(point.map(|point| point.trace_p99_ms), &tails);
            table.rows.push(row);
        }
    }
    table
}

/// Capacity of the compute engine at the longest batch, in images a second.
pub(super) fn capacity_hz() -> f64 {
    bounds::ServiceTimes::compute(&device(), BATCH_LEN_MAX).capacity_hz()
}
