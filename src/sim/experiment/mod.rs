//! Experiments: the paper's five figures, and what goes beyond them, as series of points.
//!
//! An experiment gives a [`Figure`]: panels to draw and a table of its key figures. The same seed
//! and length give the same figure. Drawing, files and the terminal are the caller's.
//!
//! This is the laboratory: charts and tables for people who study the scheduler. Nothing that
//! serves needs it.

mod closed;
mod fleet;
mod gauntlet;
mod live;
mod load;
mod network;
mod overload;
mod paper;
mod parallel;
mod robust;
mod timeline;
mod tuned;

use serde_json::Value;

pub use live::{Live, LiveBatch, LiveError, LiveRun, LiveScale, is_late};
pub use parallel::Progress;

/// How far an experiment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Seed of arrivals and device noise.
    pub seed: u64,
    /// Requests of each run whose mean is compared with a bound; other runs take a share of it.
    pub request_len: u64,
}

impl Default for Scale {
    /// Enough for errors of about 1 % up to 85 % load, in a few minutes for all experiments.
    fn default() -> Self {
        Self { seed: 1, request_len: 400_000 }
    }
}

/// What an experiment found.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name of the experiment.
    pub name: &'static str,
    /// What is shown.
    pub title: &'static str,
    /// Simulated or live, device and seed.
    pub setting: String,
    /// Device, workload, and how to read it.
    pub caption: String,
    /// Panels in reading order.
    pub panels: Vec<Panel>,
    /// Panels in a row.
    pub column_len: usize,
    /// Key figures.
    pub table: Table,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What is drawn, later ones on top.
    pub series: Vec<Series>,
}

/// An axis: label with its unit, and extent.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Quantity and unit.
    pub label: &'static str,
    /// Lowest and highest value.
    pub range: (f64, f64),
    /// Whether equal ratios have equal lengths.
    pub is_log: bool,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Policy or bound.
    pub name: String,
    /// How the points are drawn.
    pub style: Style,
    /// Points in order of drawing.
    pub points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line with its points marked: one run each.
    Marked,
    /// A line through many points.
    Line,
    /// A bound or a reference: dashed.
    Dashed,
    /// Points alone.
    Dots,
    /// Rings around points that stand out.
    Rings,
}

/// Rows of named values.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Name of each column, unit last.
    pub columns: Vec<&'static str>,
    /// Values in the order of the columns.
    pub rows: Vec<Vec<Value>>,
}

/// Name of the mean that [`crate::sim::bounds::mean_without_look_ahead_ns`] gives.
const WITHOUT_LOOK_AHEAD: &str = "best without look-ahead";

type Run = fn(&Scale, &dyn Progress) -> Figure;

/// Experiments by name.
const EXPERIMENTS: [(&str, Run); 13] = [
    ("changing", |scale, progress| paper::over_time(&paper::CHANGING, scale, progress)),
    ("increasing", |scale, progress| paper::over_time(&paper::INCREASING, scale, progress)),
    ("decreasing", |scale, progress| paper::over_time(&paper::DECREASING, scale, progress)),
    ("concurrency-latency", paper::concurrency_latency),
    ("peak-clipping", |scale, progress| paper::over_time(&paper::PEAK_CLIPPING, scale, progress)),
    ("load-latency", load::load_latency),
    ("overload", overload::overload),
    ("closed-loop", closed::closed_loop),
    ("tuned-peers", tuned::tuned_peers),
    ("robustness", robust::robustness),
    ("gauntlet", gauntlet::gauntlet),
    ("network", network::network),
    ("fleet", fleet::fleet),
];

/// Names of the experiments, the paper's first.
pub fn names() -> impl Iterator<Item = &'static str> {
    EXPERIMENTS.iter().map(|(name, _)| *name)
}

/// Runs an experiment; none if no experiment has that name.
pub fn run(name: &str, scale: &Scale, progress: &dyn Progress) -> Option<Figure> {
    let (_, run) = EXPERIMENTS.iter().find(|(known, _)| *known == name)?;
    Some(run(scale, progress))
}

type RunLive = fn(&dyn Live, &LiveScale, &dyn Progress) -> Result<Figure, LiveError>;

/// Experiments that run in real time as well.
const LIVE: [(&str, RunLive); 5] = [
    ("changing", |live, scale, progress| live::over_time(&paper::CHANGING, live, scale, progress)),
    ("increasing", |live, scale, progress| {
        live::over_time(&paper::INCREASING, live, scale, progress)
    }),
    ("decreasing", |live, scale, progress| {
        live::over_time(&paper::DECREASING, live, scale, progress)
    }),
    ("concurrency-latency", live::concurrency_latency),
    ("peak-clipping", |live, scale, progress| {
        live::over_time(&paper::PEAK_CLIPPING, live, scale, progress)
    }),
];

/// Names of the experiments that [`run_live`] knows: the paper's.
pub fn live_names() -> impl Iterator<Item = &'static str> {
    LIVE.iter().map(|(name, _)| *name)
}

/// Runs an experiment in real time, and in virtual time beside it; none if no such experiment has
/// that name.
///
/// # Errors
/// Those of `live`.
pub fn run_live(
    name: &str,
    live: &dyn Live,
    scale: &LiveScale,
    progress: &dyn Progress,
) -> Option<Result<Figure, LiveError>> {
    let (_, run) = LIVE.iter().find(|(known, _)| *known == name)?;
    Some(run(live, scale, progress))
}

impl Axis {
    fn linear(label: &'static str, range: (f64, f64)) -> Self {
        Self { label, range, is_log: false }
    }

    fn log(label: &'static str, range: (f64, f64)) -> Self {
        Self { label, range, is_log: true }
    }

    /// From a little below the lowest to a little above the highest of the values.
    fn around(label: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extent(values);
        let margin = 0.05 * (high - low).max(1e-3 * high.abs());
        Self::linear(label, (low - margin, high + margin))
    }

    /// The same on a logarithmic axis; the values are above zero.
    fn log_around(label: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extent(values);
        Self::log(label, (low / 1.1, high * 1.1))
    }

    /// From zero to a little above the highest of the values.
    fn from_zero(label: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        let highest = values.into_iter().fold(0.0, f64::max);
        Self::linear(label, (0.0, if highest > 0.0 { 1.05 * highest } else { 1.0 }))
    }
}

impl Series {
    fn new(name: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), style, points }
    }
}

/// Lowest and highest of some values; of none, 0.5 and 1.
fn extent(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .into_iter()
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.5, 1.0) }
}

/// The setting of a figure in virtual time.
fn simulated(device: &str, seed: u64) -> String {
    format!("simulated · {device} · seed {seed}")
}

/// A table's value: numbers that are not finite become null.
fn value(number: impl Into<f64>) -> Value {
    Value::from(number.into())
}

/// The highest value that a panel's series reach.
fn heights(series: &[Series]) -> impl Iterator<Item = f64> + '_ {
    series.iter().flat_map(|series| series.points.iter().map(|point| point.1))
}
