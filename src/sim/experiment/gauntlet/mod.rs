//! The default, untuned, against peers tuned afresh at each point, where batching is hard: arrivals
//! in clumps, slow uploads, large fixed costs, staircases, and devices on which it does not pay.

mod arrivals;
#[cfg(test)]
mod constants;

use self::arrivals::{KINDS, Kind};
use super::load::BATCH_LEN_MAX;
use super::parallel::{self, Progress};
use super::tuned::peers;
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, value};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{OpenLoop, Workload};
use crate::sim::bounds::ServiceTimes;
use crate::sim::device::DeviceSpec;
use crate::sim::summary::setup;
use crate::sim::world::run;

const DEVICES: [(&str, &str); 5] = [
    ("line", "up=12us+6us,compute=500us+25us,down=10us+100ns"),
    ("slow upload", "up=30us+60us,compute=300us+70us,down=10us+1us"),
    ("large fixed cost", "up=10us+3us,compute=4ms+12us,down=8us+100ns"),
    (
        "staircase",
        "up=12us+6us,compute=200us+25us,down=10us+100ns,buckets=1/2/4/8/16/32/64/128/256,jitter=2%",
    ),
    ("no gain", "up=5us+1us,compute=3us+300us,down=1us+100ns"),
];
const LOADS: [f64; 3] = [0.3, 0.6, 0.85];
/// A loss is a point at which the default is so much behind.
const LOSS: f64 = 1.01;

/// One point: what is run on which device at which load.
struct Point {
    device: usize,
    kind: &'static Kind,
    load: f64,
}

/// Mean and p99 in milliseconds of one policy.
type Latency = [f64; 2];

/// The default's latencies, and the least of each of its peers with the policy that has it.
struct Found {
    stream: Latency,
    best: [(f64, PolicySpec); 2],
}

impl Found {
    fn ratios(&self) -> [f64; 2] {
        [0, 1].map(|which| self.stream[which] / self.best[which].0)
    }
}

fn search(point: &Point, scale: &Scale) -> Option<Found> {
    let device: DeviceSpec = DEVICES[point.device].1.parse().expect("the words are well-formed");
    let rate_hz = point.load * ServiceTimes::compute(&device, BATCH_LEN_MAX).capacity_hz();
    let len = (scale.request_len / 40).max(1_000) as usize;
    let times_ns = point.kind.times_ns(rate_hz, len, scale.seed);
    let workload = Workload::Open(OpenLoop::Trace { times_ns: times_ns.into() });
    let latency = |policy: PolicySpec| -> Option<Latency> {
        let report = run(&setup(&device, &workload, policy, BATCH_LEN_MAX, scale.seed), ());
        let p99_ns = report.latencies.quantile_ns(0.99) as f64;
        (report.rejected_len == 0).then(|| [report.latencies.mean_ns() * 1e-6, p99_ns * 1e-6])
    };
    let stream = latency(PolicySpec::Stream)?;
    let runs: Vec<(Latency, PolicySpec)> = [PolicySpec::Serial, PolicySpec::Jit, PolicySpec::Paper]
        .into_iter()
        .chain(peers())
        .filter_map(|policy| Some((latency(policy)?, policy)))
        .collect();
    let best = |which: usize| {
        let least = runs.iter().min_by(|a, b| a.0[which].total_cmp(&b.0[which]))?;
        Some((least.0[which], least.1))
    };
    Some(Found { stream, best: [best(0)?, best(1)?] })
}

pub(super) fn gauntlet(scale: &Scale, progress: &dyn Progress) -> Figure {
    let mut points = Vec::new();
    for device in 0..DEVICES.len() {
        for kind in &KINDS {
            points.extend(LOADS.map(|load| Point { device, kind, load }));
        }
    }
    let found = parallel::map(&points, progress, |point| search(point, scale));
    let points: Vec<(&Point, &Found)> = points
        .iter()
        .zip(&found)
        .filter_map(|(point, found)| Some((point, found.as_ref()?)))
        .collect();
    let mut panels = Vec::new();
    for (device, (name, _)) in DEVICES.iter().enumerate() {
        for (which, what) in ["mean", "p99"].into_iter().enumerate() {
            panels.push(panel(&points, (device, name), (which, what)));
        }
    }
    let summary = ["mean", "p99"].map(|what| summary(&points, what)).join("; ");
    let caption = format!(
        "Five devices, {} kinds of arrivals, three loads (of the largest throughput), {} arrivals \
         a run. At each point {} settings of all peers are run and the best is taken; the default \
         has no settings. Below 1, the default is better. {summary}.",
        KINDS.len(),
        (scale.request_len / 40).max(1_000),
        peers().len() + 3,
    );
    let title = "The untuned default where batching is hard";
    let setting = format!("simulated · five devices · seed {}", scale.seed);
    Figure {
        name: "gauntlet",
        title,
        setting,
        caption,
        panels,
        column_len: 2,
        table: table(&points),
    }
}

fn panel(
    points: &[(&Point, &Found)],
    (device, name): (usize, &str),
    (which, what): (usize, &str),
) -> Panel {
    let mut series: Vec<Series> = KINDS
        .iter()
        .map(|kind| {
            let own = points
                .iter()
                .filter(|(point, _)| point.device == device && point.kind.name == kind.name);
            let ratios = own.map(|(point, found)| (point.load, found.ratios()[which])).collect();
            Series::new(kind.name, Style::Marked, ratios)
        })
        .collect();
    let unity = vec![(0.2, 1.0), (0.95, 1.0)];
    series.insert(0, Series::new("best peer", Style::Dashed, unity));
    Panel {
        title: format!("{name}: {what} over the best-tuned peer's"),
        x: Axis::linear("load", (0.2, 0.95)),
        y: Axis::log_around("ratio", heights(&series)),
        series,
    }
}

/// Losses, the worst of them and the mean ratio, in words.
fn summary(points: &[(&Point, &Found)], what: &str) -> String {
    let which = usize::from(what == "p99");
    let ratios: Vec<f64> = points.iter().map(|(_, found)| found.ratios()[which]).collect();
    let loss_len = ratios.iter().filter(|ratio| **ratio > LOSS).count();
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let log = ratios.iter().map(|ratio| libm::log(*ratio)).sum::<f64>() / ratios.len() as f64;
    format!(
        "{what}: more than 1 % behind at {loss_len} of {} points, at worst {worst:.3}, geometric \
         mean {:.3}",
        ratios.len(),
        libm::exp(log),
    )
}

fn table(points: &[(&Point, &Found)]) -> Table {
    let columns = vec![
        "device",
        "arrivals",
        "load",
        "stream_mean_ms",
        "best_mean_ms",
        "best_mean",
        "mean_ratio",
        "stream_p99_ms",
        "best_p99_ms",
        "best_p99",
        "p99_ratio",
    ];
    let rows = points.iter().map(|(point, found)| {
        let mut row =
            vec![DEVICES[point.device].0.into(), point.kind.name.into(), value(point.load)];
        for which in [0, 1] {
            let (best_ms, policy) = found.best[which];
            row.extend([
                value(found.stream[which]),
                value(best_ms),
                policy.to_string().into(),
                value(found.ratios()[which]),
            ]);
        }
        row
    });
    Table { columns, rows: rows.collect() }
}
