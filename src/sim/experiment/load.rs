//! Mean and p99 latency of every policy over the load, beside the bounds.

use serde_json::Value;

use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, simulated, value};
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

/// The p99 is compared on traces of this length, which the clairvoyant bound can look through.
const TRACE_LEN: u64 = 100_000;

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
    p99_ms: f64,
}

enum Job {
    Policy(f64, PolicySpec),
    Bound(f64),
}

pub(super) fn load_latency(scale: &Scale, progress: &dyn Progress) -> Figure {
    let policies = PolicySpec::ALL.map(|(_, policy)| policy);
    let trace_len = TRACE_LEN.min(scale.request_len);
    // The bounds at high loads take longest and so come first.
    let mut jobs: Vec<Job> = LOADS.iter().rev().map(|&load| Job::Bound(load)).collect();
    jobs.extend(policies.iter().flat_map(|&policy| LOADS.map(|load| Job::Policy(load, policy))));
    let points = parallel::map(&jobs, progress, |job| match *job {
        Job::Bound(load) => {
            let mut setup =
                setup(&device(), &poisson(load), PolicySpec::default(), BATCH_LEN_MAX, scale.seed);
            setup.arrival_len_max = trace_len;
            let bounds = Bounds::of(&setup);
            bounds.mean_ms.zip(bounds.p99_ms).map(|(mean_ms, p99_ms)| Point { mean_ms, p99_ms })
        }
        Job::Policy(load, policy) => point(load, policy, trace_len, scale),
    });
    let bounds: Vec<Option<Point>> = points[..LOADS.len()].iter().rev().copied().collect();
    let found = |index: usize| &points[LOADS.len() * (1 + index)..][..LOADS.len()];
    type Figured = fn(&Point) -> f64;
    let mut panels = Vec::new();
    let kinds: [(&str, Figured); 2] =
        [("mean latency", |point| point.mean_ms), ("p99 latency", |point| point.p99_ms)];
    for (what, figure) in kinds {
        let mut series = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            series.push(Series::new(policy.name(), Style::Marked, line(found(index), figure)));
        }
        series.push(Series::new("bound", Style::Dashed, line(&bounds, figure)));
        let x = Axis::linear("load λ·k", (0.0, 1.0));
        let y = Axis::log_around("ms", heights(&series));
        panels.push(Panel { title: what.into(), x, y, series });
    }
    for (what, figure) in kinds {
        let ratios = |found: &[Option<Point>]| -> Vec<Option<f64>> {
            found
                .iter()
                .zip(&bounds)
                .map(|(point, bound)| Some(figure(point.as_ref()?) / figure(bound.as_ref()?)))
                .collect()
        };
        let mut series = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            let points = LOADS.iter().zip(ratios(found(index)));
            let points = points.filter_map(|(&load, ratio)| Some((load, ratio?))).collect();
            series.push(Series::new(policy.name(), Style::Marked, points));
        }
        panels.push(Panel {
            title: format!("{what} over its bound"),
            x: Axis::linear("load λ·k", (0.0, 1.0)),
            y: Axis::log_around("ratio", heights(&series)),
            series,
        });
    }
    let caption = format!(
        "Device {DEVICE}, Poisson arrivals, batches of at most {BATCH_LEN_MAX}. Means over {} \
         requests beside the optimum of policies that take no account of uploads in flight (the \
         default does, and may end up below it); p99 over the first {trace_len} beside \
         the clairvoyant bound on the same arrivals. Load is the arrival rate times the compute \
         time of one more image. A policy that cannot keep up has no point; where lines coincide \
         (serial, adaptive, aimd at low loads), the later one in the legend is seen.",
        scale.request_len,
    );
    let title = "Load and latency of every policy, beside the bounds";
    let table = table(&policies, &bounds, found);
    let setting = simulated(DEVICE, scale.seed);
    Figure { name: "load-latency", title, setting, caption, panels, column_len: 2, table }
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
        p99_ms: trace.latencies.quantile_ns(0.99) as f64 * 1e-6,
    })
}

fn line(points: &[Option<Point>], figure: fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let points = LOADS.iter().zip(points);
    points.filter_map(|(&load, point)| Some((load, figure(point.as_ref()?)))).collect()
}

fn table<'a>(
    policies: &[PolicySpec],
    bounds: &[Option<Point>],
    found: impl Fn(usize) -> &'a [Option<Point>],
) -> Table {
    let columns = vec![
        "load",
        "policy",
        "mean_ms",
        "bound_mean_ms",
        "mean_ratio",
        "p99_ms",
        "bound_p99_ms",
        "p99_ratio",
    ];
    let mut table = Table { columns, rows: Vec::new() };
    for (at, load) in LOADS.iter().enumerate() {
        for (index, policy) in policies.iter().enumerate() {
            let Some(bound) = bounds[at] else { continue };
            let mut row: Vec<Value> = vec![value(*load), policy.name().into()];
            row.extend(match found(index)[at] {
                Some(point) => [
                    value(point.mean_ms),
                    value(bound.mean_ms),
                    value(point.mean_ms / bound.mean_ms),
                    value(point.p99_ms),
                    value(bound.p99_ms),
                    value(point.p99_ms / bound.p99_ms),
                ],
                None => [
                    Value::Null,
                    value(bound.mean_ms),
                    Value::Null,
                    Value::Null,
                    value(bound.p99_ms),
                    Value::Null,
                ],
            });
            table.rows.push(row);
        }
    }
    table
}

/// Capacity of the compute engine at the longest batch, in images a second.
pub(super) fn capacity_hz() -> f64 {
    bounds::ServiceTimes::compute(&device(), BATCH_LEN_MAX).capacity_hz()
}
