//! The default, untuned, against peers that are tuned afresh for every load.

use super::load::{BATCH_LEN_MAX, DEVICE, capacity_hz, poisson};
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, simulated, value};
use crate::sched::{BatchLens, PolicySpec};
use crate::sim::arrivals::{ClosedLoop, OpenLoop, Step, Workload};
use crate::sim::device::DeviceSpec;
use crate::sim::summary::setup;
use crate::sim::world::run;

const LOADS: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9];
const CLIENT_LENS: [usize; 6] = [1, 8, 32, 64, 128, 256];

/// Devices that differ in the fixed cost, by its share c/k in that of one more image: what batching
/// is worth. The device of the other columns has 20.
const FIXED_COSTS: [(&str, &str); 4] = [
    ("Poisson, c/k 0", "up=12us+6us,compute=0us+25us,down=10us+100ns"),
    ("Poisson, c/k 0.25", "up=12us+6us,compute=6250ns+25us,down=10us+100ns"),
    ("Poisson, c/k 1", "up=12us+6us,compute=25us+25us,down=10us+100ns"),
    ("Poisson, c/k 4", "up=12us+6us,compute=100us+25us,down=10us+100ns"),
];
const FIXED_COST_LOADS: [f64; 3] = [0.3, 0.6, 0.85];

/// Peers by family.
const FAMILIES: [&str; 5] = ["fixed", "fixed-eager", "adaptive", "aimd", "deferred"];

/// The settings that each family is tried with; none drops requests, which the mean would not show.
pub(super) fn peers() -> Vec<PolicySpec> {
    let mut peers = Vec::new();
    for batch_len in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
        for delay_ns in [0, 200_000, 500_000, 1_000_000, 2_000_000] {
            for is_eager in [false, true] {
                peers.push(PolicySpec::Fixed {
                    batch_len,
                    delay_ns,
                    preferred: BatchLens::NONE,
                    timeout_ns: 0,
                    is_eager,
                });
            }
        }
    }
    peers.extend(
        [50_000, 200_000, 1_000_000]
            .map(|tick_ns| PolicySpec::Adaptive { batch_len: BATCH_LEN_MAX, tick_ns }),
    );
    // As Triton is told of the lengths that engines were built for.
    let preferred = BatchLens::new(&[4, 8, 16, 32, 64, 128]).expect("sixteen lengths at most");
    for delay_ns in [200_000, 1_000_000] {
        for is_eager in [false, true] {
            let batch_len = BATCH_LEN_MAX;
            let timeout_ns = 0;
            peers.push(PolicySpec::Fixed { batch_len, delay_ns, preferred, timeout_ns, is_eager });
        }
    }
    for increase in [1, 4, 16] {
        for bound_ns in [2_000_000, 5_000_000, 10_000_000, 20_000_000] {
            peers.push(PolicySpec::Aimd { increase, bound_ns });
        }
    }
    for bound_ns in [2_000_000, 5_000_000, 10_000_000, 20_000_000] {
        let is_dropping = false;
        peers.push(PolicySpec::Deferred { batch_len: BATCH_LEN_MAX, bound_ns, is_dropping });
    }
    peers
}

/// A column of the figure: name of the workload, device, horizontal axis, what is run at each x.
type Column = (&'static str, &'static str, Axis, Vec<(f64, Workload)>);

fn columns() -> Vec<Column> {
    let load_axis = || Axis::linear("load λ·k", (0.0, 1.0));
    let at_rate = |make: fn(f64) -> OpenLoop| {
        LOADS.map(|load| {
            let Workload::Open(open) = poisson(load) else { unreachable!("poisson is open") };
            (load, Workload::Open(make(open.rate_hz())))
        })
    };
    let closed = CLIENT_LENS
        .map(|client_len| (client_len as f64, Workload::Closed(ClosedLoop::new(client_len))));
    let uniform = at_rate(|rate_hz| OpenLoop::Uniform { rate_hz });
    let mut columns = vec![
        ("Poisson", DEVICE, load_axis(), LOADS.map(|load| (load, poisson(load))).to_vec()),
        ("uniform", DEVICE, load_axis(), uniform.to_vec()),
        ("bursts", DEVICE, load_axis(), at_rate(bursts).to_vec()),
        ("closed loop", DEVICE, Axis::log("clients", (1.0, 300.0)), closed.to_vec()),
    ];
    // The time of one more image is the same, and so is the rate at a load.
    columns.extend(FIXED_COSTS.map(|(name, device)| {
        let loads = FIXED_COST_LOADS.map(|load| (load, poisson(load)));
        (name, device, load_axis(), loads.to_vec())
    }));
    columns
}

/// Bursts of half as much again, for 20 ms in every 60, at the same mean rate.
fn bursts(rate_hz: f64) -> OpenLoop {
    let calm = Step { rate_hz: 0.75 * rate_hz, duration_ns: 40e6 };
    let high = Step { rate_hz: 1.5 * rate_hz, duration_ns: 20e6 };
    OpenLoop::Burst { states: [calm, high] }
}

pub(super) fn tuned_peers(scale: &Scale, progress: &dyn Progress) -> Figure {
    let request_len = scale.request_len / 10;
    let columns = columns();
    let mut policies = vec![PolicySpec::Stream];
    policies.extend(peers());
    let mut jobs = Vec::new();
    for (column, (_, _, _, worlds)) in columns.iter().enumerate() {
        for point in 0..worlds.len() {
            jobs.extend(policies.iter().map(|&policy| (column, point, policy)));
        }
    }
    let means_ms = parallel::map(&jobs, progress, |&(column, point, policy)| {
        let (_, device, _, worlds) = &columns[column];
        let device: DeviceSpec = device.parse().expect("the words are well-formed");
        let mut setup = setup(&device, &worlds[point].1, policy, BATCH_LEN_MAX, scale.seed);
        setup.arrival_len_max = request_len;
        let report = run(&setup, ());
        if report.rejected_len == 0 { report.latencies.mean_ns() * 1e-6 } else { f64::INFINITY }
    });
    let mut table = Table {
        columns: vec!["arrivals", "x", "family", "settings", "mean_ms", "stream_ms", "ratio"],
        rows: Vec::new(),
    };
    let mut panels = Vec::new();
    for (column, (name, _, x, worlds)) in columns.iter().enumerate() {
        let mut series: Vec<Series> =
            FAMILIES.map(|family| Series::new(family, Style::Marked, Vec::new())).to_vec();
        for (point, (at, _)) in worlds.iter().enumerate() {
            let start = jobs.iter().position(|job| (job.0, job.1) == (column, point));
            let means_ms = &means_ms[start.unwrap_or(0)..][..policies.len()];
            for (family, series) in FAMILIES.iter().zip(&mut series) {
                let best = policies
                    .iter()
                    .zip(means_ms)
                    .filter(|(policy, _)| policy.name() == *family)
                    .min_by(|a, b| a.1.total_cmp(b.1));
                let Some((policy, &best_ms)) = best else { continue };
                series.points.push((*at, best_ms / means_ms[0]));
                table.rows.push(vec![
                    (*name).into(),
                    value(*at),
                    (*family).into(),
                    policy.to_string().into(),
                    value(best_ms),
                    value(means_ms[0]),
                    value(best_ms / means_ms[0]),
                ]);
            }
            series.iter_mut().for_each(|series| series.points.retain(|p| p.1.is_finite()));
        }
        let unity = vec![(x.range.0, 1.0), (x.range.1, 1.0)];
        series.insert(0, Series::new("stream", Style::Dashed, unity));
        panels.push(Panel {
            title: format!("{name}: best-tuned peer over stream, mean latency"),
            x: x.clone(),
            y: Axis::log_around("ratio", heights(&series)),
            series,
        });
    }
    let caption = format!(
        "Device {DEVICE} (capacity {:.1} thousand images/s), and others whose fixed cost c is that \
         of fewer images, c/k; {request_len} requests a run. At each point the best of {} settings \
         of all peers is shown; the default has no settings. Above 1, the default is better.",
        capacity_hz() * 1e-3,
        policies.len() - 1,
    );
    let title = "The untuned default against the best-tuned peers";
    let setting = simulated(DEVICE, scale.seed);
    Figure { name: "tuned-peers", title, setting, caption, panels, column_len: 2, table }
}
