//! What a wrong or moving cost model does to the default policy.

use super::load::{BATCH_LEN_MAX, DEVICE, poisson};
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, simulated, value};
use crate::sched::{BatchLens, PolicySpec};
use crate::sim::device::DeviceSpec;
use crate::sim::summary::{misjudge, setup};
use crate::sim::world::run;

const LOADS: [f64; 5] = [0.1, 0.3, 0.5, 0.6, 0.7];

/// Each run is repeated with so many seeds: outliers make single runs differ widely.
const SEED_LEN: u64 = 10;

struct Fault {
    name: &'static str,
    /// What is added to the words of the device.
    words: &'static str,
    /// The scheduler's first fit relative to the device.
    first_fit: f64,
    /// Mean stage time relative to the device without the fault: loads count it.
    slowdown: f64,
}

const FAULTS: [Fault; 6] = [
    Fault { name: "first fit x2", words: "", first_fit: 2.0, slowdown: 1.0 },
    Fault { name: "first fit x0.5", words: "", first_fit: 0.5, slowdown: 1.0 },
    Fault { name: "jitter of 5 %", words: ",jitter=5%", first_fit: 1.0, slowdown: 1.0 },
    Fault { name: "10 % x10 outliers", words: ",outliers=10%x10", first_fit: 1.0, slowdown: 1.9 },
    Fault {
        name: "staircase",
        words: ",buckets=1/2/4/8/16/32/64/128/256",
        first_fit: 1.0,
        slowdown: 1.0,
    },
    Fault {
        name: "drift by +20 %",
        words: ",drift=0s:1/1s:1.2/2s:1",
        first_fit: 1.0,
        slowdown: 1.0,
    },
];

/// What the default is compared with on the same device: each of them hardly looks at the model.
const RIVALS: [PolicySpec; 3] = [
    PolicySpec::Serial,
    PolicySpec::Fixed {
        batch_len: BATCH_LEN_MAX,
        delay_ns: 0,
        preferred: BatchLens::NONE,
        timeout_ns: 0,
        is_eager: true,
    },
    PolicySpec::Jit,
];

/// Mean latency over the seeds and its standard error, in milliseconds; none if one run did not
/// keep up.
#[derive(Clone, Copy)]
struct Mean {
    mean_ms: f64,
    error_ms: f64,
}

fn mean(
    fault: &Fault,
    first_fit: f64,
    policy: PolicySpec,
    load: f64,
    scale: &Scale,
) -> Option<Mean> {
    let device: DeviceSpec =
        format!("{DEVICE}{}", fault.words).parse().expect("the words are well-formed");
    let mut means_ms = Vec::new();
    for seed in scale.seed..scale.seed + SEED_LEN {
        let workload = poisson(load / fault.slowdown);
        let mut setup = setup(&device, &workload, policy, BATCH_LEN_MAX, seed);
        setup.arrival_len_max = scale.request_len / SEED_LEN;
        misjudge(&mut setup, first_fit);
        let report = run(&setup, ());
        if report.rejected_len > 0 {
            return None;
        }
        means_ms.push(report.latencies.mean_ns() * 1e-6);
    }
    let len = means_ms.len() as f64;
    let mean_ms = means_ms.iter().sum::<f64>() / len;
    let squares: f64 = means_ms.iter().map(|ms| (ms - mean_ms).powi(2)).sum();
    Some(Mean { mean_ms, error_ms: (squares / (len - 1.0) / len).sqrt() })
}

pub(super) fn robustness(scale: &Scale, progress: &dyn Progress) -> Figure {
    let jobs: Vec<(&Fault, f64)> =
        FAULTS.iter().flat_map(|fault| LOADS.map(|load| (fault, load))).collect();
    let found = parallel::map(&jobs, progress, |&(fault, load)| {
        let stream = mean(fault, fault.first_fit, PolicySpec::Stream, load, scale)?;
        let mut rivals =
            RIVALS.map(|policy| mean(fault, fault.first_fit, policy, load, scale)).to_vec();
        if fault.first_fit != 1.0 {
            rivals.push(mean(fault, 1.0, PolicySpec::Stream, load, scale));
        }
        let best = rivals.into_iter().flatten().min_by(|a, b| a.mean_ms.total_cmp(&b.mean_ms))?;
        Some((stream, best))
    });
    let columns = vec![
        "fault",
        "load",
        "stream_ms",
        "stream_error_ms",
        "best_other_ms",
        "best_other_error_ms",
        "ratio",
    ];
    let mut table = Table { columns, rows: Vec::new() };
    let mut series: Vec<Series> =
        FAULTS.iter().map(|fault| Series::new(fault.name, Style::Marked, Vec::new())).collect();
    for ((fault, load), found) in jobs.iter().zip(&found) {
        let Some((stream, best)) = found else { continue };
        let ratio = stream.mean_ms / best.mean_ms;
        table.rows.push(vec![
            fault.name.into(),
            value(*load),
            value(stream.mean_ms),
            value(stream.error_ms),
            value(best.mean_ms),
            value(best.error_ms),
            value(ratio),
        ]);
        if let Some(series) = series.iter_mut().find(|series| series.name == fault.name) {
            series.points.push((*load, ratio));
        }
    }
    let panels = vec![Panel {
        title: "mean latency over that of the best other".into(),
        x: Axis::linear("load λ·k", (0.0, 0.8)),
        y: Axis::around("ratio", heights(&series).chain([1.0])),
        series,
    }];
    let caption = format!(
        "Device {DEVICE} with one fault at a time, Poisson arrivals, {SEED_LEN} runs of {} \
         requests a point. The default is held against the best of serial, fixed-eager and jit, \
         which hardly look at the cost model, and against itself with a true first fit. Loads \
         count the outliers' time. The table has standard errors: outliers leave much to chance.",
        scale.request_len / SEED_LEN,
    );
    let title = "A wrong or moving cost model";
    let setting = simulated(DEVICE, scale.seed);
    Figure { name: "robustness", title, setting, caption, panels, column_len: 1, table }
}
