//! What runs look like: the table of their figures, latency distributions, latency over load.

use anyhow::Context;
use serde_json::Value;
use twinstream::sim::experiment::{Axis, Figure, Panel, Series, Style, Table};

use super::measure::{Measured, Summary};

/// Columns of the CSV file, named as in the JSON output.
const COLUMNS: [&str; 37] = [
    "backend",
    "policy",
    "arrivals",
    "rate_hz",
    "offered",
    "completed",
    "rejected",
    "full",
    "expired",
    "failed",
    "mean_ms",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "throughput_hz",
    "goodput_hz",
    "batch_len_mean",
    "batch_len_max",
    "bound_mean_ms",
    "bound_p99_in_order_ms",
    "bound_p99_ms",
    "bound_arrivals",
    "bound_goodput_hz",
    "mean_without_look_ahead_ms",
    "seed",
    "late_p99_ms",
    "late_max_ms",
    "predicted_mean_ms",
    "predicted_p99_ms",
    "is_knee",
    "latency_bound_ms",
    "announced_ms",
    "slots",
    "version",
    "precision",
];
/// Points of a distribution: enough for a smooth line, and the tail has its own.
const POINT_LEN: usize = 400;

/// One row a run.
pub(super) fn table(runs: &[Measured]) -> anyhow::Result<Table> {
    let row = |run: &Measured| {
        let object = serde_json::to_value(&run.summary)?;
        let cell = |column: &&str| object.get(column).cloned().context("a column without a field");
        COLUMNS.iter().map(cell).collect::<anyhow::Result<Vec<Value>>>()
    };
    Ok(Table {
        columns: COLUMNS.to_vec(),
        rows: runs.iter().map(row).collect::<anyhow::Result<_>>()?,
    })
}

/// Distributions of the latencies; where there are several rates, latency over rate as well.
pub(super) fn figures(runs: &[Measured]) -> anyhow::Result<Vec<Figure>> {
    let Summary { backend, seed, .. } = &runs[0].summary;
    let setting = format!("live, in real time · {backend} · seed {seed}");
    let mut figures = vec![Figure {
        name: "latency",
        title: "Latency of each request",
        setting: setting.clone(),
        caption: String::new(),
        panels: distributions(runs),
        column_len: 2,
        table: table(runs)?,
    }];
    let is_one_load = runs.iter().all(|run| run.summary.arrivals == runs[0].summary.arrivals);
    if !is_one_load {
        figures.push(Figure {
            name: "load-latency",
            title: "Latency over load",
            setting,
            caption: String::new(),
            panels: over_load(runs),
            column_len: 2,
            table: table(runs)?,
        });
    }
    Ok(figures)
}

/// For each load: the share answered within a time, and the share that took longer.
fn distributions(runs: &[Measured]) -> Vec<Panel> {
    let mut panels = Vec::new();
    for arrivals in distinct(runs, |run| &run.summary.arrivals) {
        let here: Vec<&Measured> =
            runs.iter().filter(|run| run.summary.arrivals == arrivals).collect();
        let sorted_ns = |run: &Measured| run.latencies.sorted_ns().to_vec();
        let low_ns = here.iter().filter_map(|run| sorted_ns(run).first().copied()).min();
        let high_ns = here.iter().map(|run| run.latencies.max_ns()).max();
        let in_ms = |latency_ns: Option<u64>| latency_ns.unwrap_or(0) as f64 * 1e-6;
        let x = || axis("latency (ms)", in_ms(low_ns), in_ms(high_ns));
        let series = |is_tail: bool| -> Vec<Series> {
            let points = |run: &Measured| distribution(&sorted_ns(run), is_tail);
            here.iter()
                .map(|run| Series {
                    name: run.summary.policy.clone(),
                    style: Style::Line,
                    points: points(run),
                })
                .collect()
        };
        panels.push(Panel {
            title: format!("{arrivals}: answered within"),
            x: x(),
            y: Axis { label: "share of answers", range: (0.0, 1.0), is_log: false },
            series: series(false),
        });
        panels.push(Panel {
            title: format!("{arrivals}: the tail"),
            x: x(),
            y: Axis { label: "share that took longer", range: (1e-4, 1.0), is_log: true },
            series: series(true),
        });
    }
    panels
}

/// The share of latencies up to each of some, or beyond it, whose points are evenly spaced in the
/// logarithm of the share.
fn distribution(sorted_ns: &[u64], is_tail: bool) -> Vec<(f64, f64)> {
    let len = sorted_ns.len();
    let share = |point: usize| {
        let step = point as f64 / POINT_LEN as f64;
        if is_tail { 1.0 - (len as f64).powf(-step) } else { step }
    };
    let mut points: Vec<(f64, f64)> = (0..=POINT_LEN)
        .map(|point| ((share(point) * len as f64) as usize).min(len.saturating_sub(1)))
        .filter(|&index| index < len)
        .map(|index| {
            let within = (index + 1) as f64 / len as f64;
            let y = if is_tail { 1.0 - index as f64 / len as f64 } else { within };
            (sorted_ns[index] as f64 * 1e-6, y)
        })
        .collect();
    points.dedup();
    points
}

fn over_load(runs: &[Measured]) -> Vec<Panel> {
    type Figured = fn(&Measured) -> Option<f64>;
    let kinds: [(&str, Figured, Figured); 2] = [
        ("mean latency", |run| Some(run.summary.mean_ms), |run| run.summary.predicted_mean_ms),
        ("p99 latency", |run| Some(run.summary.p99_ms), |run| run.summary.predicted_p99_ms),
    ];
    let policies = distinct(runs, |run| &run.summary.policy);
    let rate_max_hz = runs.iter().map(|run| run.summary.rate_hz).fold(0.0, f64::max);
    let panel = |(title, measured, predicted): &(&str, Figured, Figured)| {
        let line = |policy: &str, figure: &Figured| -> Vec<(f64, f64)> {
            let here = runs.iter().filter(|run| run.summary.policy == policy);
            let mut points: Vec<(f64, f64)> =
                here.filter_map(|run| Some((run.summary.rate_hz, figure(run)?))).collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            points
        };
        let mut series = Vec::new();
        for policy in &policies {
            let simulated = line(policy, predicted);
            if !simulated.is_empty() {
                let name = format!("{policy}, simulated");
                series.push(Series { name, style: Style::Dashed, points: simulated });
            }
            let name = (*policy).to_owned();
            series.push(Series { name, style: Style::Marked, points: line(policy, measured) });
        }
        series.extend(knees(runs, measured));
        let heights = series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let (low, high) =
            heights.fold((f64::MAX, 0.0), |(low, high): (f64, f64), y| (low.min(y), high.max(y)));
        Panel {
            title: (*title).to_owned(),
            x: Axis {
                label: "arrival rate (images/s)",
                range: (0.0, 1.05 * rate_max_hz),
                is_log: false,
            },
            y: axis("ms", low, high),
            series,
        }
    };
    kinds.iter().map(panel).collect()
}

/// A ring around each policy's knee, if the rates are those of a sweep.
fn knees(runs: &[Measured], figure: &fn(&Measured) -> Option<f64>) -> Option<Series> {
    let knees = runs.iter().filter(|run| run.summary.is_knee == Some(true));
    let points: Vec<(f64, f64)> =
        knees.filter_map(|run| Some((run.summary.rate_hz, figure(run)?))).collect();
    let name = "knee: the rate with the most throughput for its mean latency".to_owned();
    (!points.is_empty()).then_some(Series { name, style: Style::Rings, points })
}

/// Each word once, in order of appearance.
fn distinct(runs: &[Measured], word: fn(&Measured) -> &String) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    for run in runs {
        if !words.contains(&word(run).as_str()) {
            words.push(word(run));
        }
    }
    words
}

/// An axis that holds what lies between the two: logarithmic where that spans decades; a shorter
/// logarithmic one would have too few labels.
fn axis(label: &'static str, low: f64, high: f64) -> Axis {
    if low > 0.0 && high > 30.0 * low {
        let decade = |value: f64, round: fn(f64) -> f64| 10_f64.powf(round(value.log10()));
        let range = (decade(low, f64::floor), decade(high, f64::ceil));
        return Axis { label, range, is_log: true };
    }
    Axis { label, range: (0.0, if high > 0.0 { 1.05 * high } else { 1.0 }), is_log: false }
}
