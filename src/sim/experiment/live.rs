//! The paper's experiments in real time, beside what the simulator predicts.
//!
//! Both run the same arrivals, seed, limits and device description; rates are the paper's times
//! how much faster the device computes. Who runs in real time, and how, is the caller's.

use serde_json::Value;

use super::paper::{
    BATCH_LEN_MAX, CURVES, Course, Runs, SATURATING_HZ, SIDES, device, key_figures, longest_words,
    panels, poisson,
};
use super::parallel::Progress;
use super::timeline::Timeline;
use super::{Axis, Figure, Panel, Series, Style, Table, value};
use crate::sched::{PolicySpec, Stage};
use crate::sim::arrivals::Workload;
use crate::sim::device::DeviceSpec;
use crate::sim::report::Latencies;
use crate::sim::summary::setup;
use crate::sim::world::{Setup, run};

/// Why a run in real time failed.
pub type LiveError = Box<dyn std::error::Error + Send + Sync>;

/// Runs worlds in real time.
pub trait Live {
    /// What serves, in words.
    fn name(&self) -> String;

    /// What the simulator takes it for.
    fn device(&self) -> &DeviceSpec;

    /// Longest batch that it computes.
    fn batch_len_max(&self) -> usize;

    /// Runs the setup's workload for its duration under its scheduler's limits and policy. Its own
    /// device serves, not the setup's.
    ///
    /// # Errors
    /// When the engine cannot be started or does not answer.
    fn run(&self, setup: &Setup) -> Result<LiveRun, LiveError>;
}

/// What happened in real time, in nanoseconds from the run's start.
#[derive(Clone, Debug, Default)]
pub struct LiveRun {
    /// Batches that were computed, in order.
    pub batches: Vec<LiveBatch>,
    /// When each answered request was due to arrive, and when it was answered.
    pub answers: Vec<(u64, u64)>,
    /// How much later than due one request in a hundred was handed over at least, in nanoseconds.
    pub late_p99_ns: u64,
}

/// A batch that was computed in real time.
#[derive(Clone, Copy, Debug)]
pub struct LiveBatch {
    /// When the device was given it, in nanoseconds from the run's start.
    pub start_ns: u64,
    /// How long the device took, in nanoseconds.
    pub elapsed_ns: u64,
    /// Images in it.
    pub batch_len: usize,
}

impl LiveRun {
    fn timeline(&self) -> Timeline {
        let mut timeline = Timeline::default();
        for batch in &self.batches {
            let end_ns = batch.start_ns + batch.elapsed_ns;
            timeline.computed(batch.start_ns, end_ns, batch.batch_len);
        }
        for &(due_ns, end_ns) in &self.answers {
            timeline.answered(due_ns, end_ns);
        }
        timeline
    }

    fn latencies(&self) -> Latencies {
        Latencies::new(self.answers.iter().map(|(due_ns, end_ns)| end_ns - due_ns).collect())
    }

    fn late_p99_ms(&self) -> f64 {
        self.late_p99_ns as f64 * 1e-6
    }

    fn throughput_hz(&self) -> f64 {
        let end_ns = self.answers.iter().map(|(_, end_ns)| *end_ns).max().unwrap_or(0);
        self.answers.len() as f64 * 1e9 / end_ns.max(1) as f64
    }
}

/// Whether requests were handed over so late that it shows in their mean latency: one in a hundred
/// by more than a twentieth of it.
pub fn is_late(late_p99_ms: f64, mean_ms: f64) -> bool {
    late_p99_ms > 0.05 * mean_ms
}

/// How far an experiment in real time goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveScale {
    /// Seed of arrivals and device noise.
    pub seed: u64,
    /// How long each point of a curve is measured, in seconds; what happens over time takes as long
    /// as in the paper.
    pub point_s: f64,
}

/// Requests alive at most, here and in the simulator.
const SLOT_LEN: usize = 4_096;

/// A device's speed beside the paper's: images a second in long batches.
fn speed(live: &dyn Live) -> f64 {
    let rate = |device: &DeviceSpec, batch_len: usize| {
        batch_len as f64 / device.mean_ns(Stage::Compute, batch_len)
    };
    rate(live.device(), live.batch_len_max()) / rate(&device(), BATCH_LEN_MAX)
}

fn world(
    live: &dyn Live,
    workload: &Workload,
    policy: PolicySpec,
    (seed, duration_s): (u64, f64),
) -> Setup {
    let mut setup = setup(live.device(), workload, policy, live.batch_len_max(), seed);
    setup.config.slot_len = SLOT_LEN;
    setup.duration_ns = (duration_s * 1e9) as u64;
    setup
}

pub(super) fn over_time(
    course: &Course,
    live: &dyn Live,
    scale: &LiveScale,
    progress: &dyn Progress,
) -> Result<Figure, LiveError> {
    let speed = speed(live);
    let workload = course.workload(speed);
    progress.announce(SIDES.len());
    let (mut measured, mut simulated) = (Runs::new(), Runs::new());
    let mut late_p99s_ms = Vec::new();
    for (policy, _) in SIDES {
        let setup = world(live, &workload, policy, (scale.seed, course.end_s()));
        let mut timeline = Timeline::default();
        let latencies = run(&setup, &mut timeline).latencies;
        simulated.push((timeline, latencies));
        let found = live.run(&setup)?;
        late_p99s_ms.push(found.late_p99_ms());
        measured.push((found.timeline(), found.latencies()));
        progress.step();
    }
    let mut table = Table {
        columns: vec![
            "policy",
            "mean_ms",
            "p99_ms",
            "peak_ms",
            "peak_change_percent",
            "simulated_mean_ms",
            "simulated_p99_ms",
            "simulated_peak_ms",
            "simulated_peak_change_percent",
            "late_p99_ms",
        ],
        rows: Vec::new(),
    };
    for (index, (policy, _)) in SIDES.iter().enumerate() {
        let mut row = vec![policy.name().into()];
        row.extend(key_figures(&measured, index));
        row.extend(key_figures(&simulated, index));
        row.push(value(late_p99s_ms[index]));
        table.rows.push(row);
    }
    let means_ms = measured.iter().map(|(_, latencies)| latencies.mean_ns() * 1e-6);
    let late = late_words(late_p99s_ms.into_iter().zip(means_ms));
    let caption = format!(
        "{} in real time; grey: the simulator's prediction; {}. Synchronous: one stream, \
         stages in series. Asynchronous: the next batch goes up just in time while one \
         computes.{}{}{late}",
        live.name(),
        course.words(speed),
        longest_words(&measured),
        scaled(speed),
    );
    Ok(Figure {
        name: course.name,
        title: course.title,
        setting: setting(live, scale),
        caption,
        panels: panels(course, speed, &[(", simulated", &simulated), ("", &measured)]),
        column_len: 2,
        table,
    })
}

/// The setting of a figure in real time.
fn setting(live: &dyn Live, scale: &LiveScale) -> String {
    let name = live.name();
    // How it is simulated is the caption's.
    let device = name.split(", ").next().unwrap_or_default();
    format!("live, beside its simulation · {device} · seed {}", scale.seed)
}

/// Says of how many runs, each with its lateness and mean latency in milliseconds, the latencies
/// are those of a machine too busy; nothing if of none.
fn late_words(runs: impl Iterator<Item = (f64, f64)>) -> String {
    let are_late: Vec<bool> = runs.map(|(late_ms, mean_ms)| is_late(late_ms, mean_ms)).collect();
    match are_late.iter().filter(|is_late| **is_late).count() {
        0 => String::new(),
        late_len => format!(
            " In {late_len} of {} runs the machine was too busy: one request in a hundred was \
             handed over later than due by more than 5 % of the mean latency, which counts it \
             (late p99 in the table).",
            are_late.len(),
        ),
    }
}

/// Says that the rates are not the paper's, if they are not.
fn scaled(speed: f64) -> String {
    if (speed - 1.0).abs() < 1e-9 {
        return String::new();
    }
    format!(" Rates are the paper's x {speed:.3}, as the device computes so many times as fast.")
}

/// Rates of the curve on the paper's device: fewer than in virtual time, for each takes real time.
const RATES_HZ: [f64; 8] = [50.0, 100.0, 200.0, 300.0, 400.0, 450.0, 500.0, 530.0];

/// One point of the curve: measured and simulated.
struct Point {
    curve: usize,
    rate_hz: f64,
    late_p99_ms: f64,
    measured: Figures,
    simulated: Figures,
}

struct Figures {
    mean_ms: f64,
    p99_ms: f64,
    throughput_hz: f64,
}

impl Figures {
    fn new(latencies: &Latencies, throughput_hz: f64) -> Self {
        let p99_ms = latencies.quantile_ns(0.99) as f64 * 1e-6;
        Self { mean_ms: latencies.mean_ns() * 1e-6, p99_ms, throughput_hz }
    }
}

pub(super) fn concurrency_latency(
    live: &dyn Live,
    scale: &LiveScale,
    progress: &dyn Progress,
) -> Result<Figure, LiveError> {
    let speed = speed(live);
    let both = |curve: usize, rate_hz: f64| -> Result<Point, LiveError> {
        let scope = (scale.seed, scale.point_s);
        let setup = world(live, &poisson(rate_hz * speed), CURVES[curve], scope);
        let simulated = run(&setup, ());
        let simulated = Figures::new(&simulated.latencies, simulated.throughput_hz());
        let found = live.run(&setup)?;
        let measured = Figures::new(&found.latencies(), found.throughput_hz());
        progress.step();
        let late_p99_ms = found.late_p99_ms();
        Ok(Point { curve, rate_hz: rate_hz * speed, late_p99_ms, measured, simulated })
    };
    progress.announce(CURVES.len() * (RATES_HZ.len() + 1));
    let mut capacities = Vec::new();
    for curve in 0..CURVES.len() {
        let point = both(curve, SATURATING_HZ)?;
        capacities.push((point.measured.throughput_hz, point.simulated.throughput_hz));
    }
    let mut points = Vec::new();
    for rate_hz in RATES_HZ {
        for (curve, capacity) in capacities.iter().enumerate() {
            // Beyond its capacity a policy's latency is that of the run's length.
            if rate_hz * speed < capacity.1 {
                points.push(both(curve, rate_hz)?);
            } else {
                progress.step();
            }
        }
    }
    let mut caption = format!(
        "{} in real time; dashed: the simulator's prediction for the same arrivals. Each point is \
         one run of {} s with Poisson arrivals, shorter than in virtual time: close to capacity \
         the queue would grow further. Capacity, measured at {:.0} arrivals a second:",
        live.name(),
        scale.point_s,
        SATURATING_HZ * speed,
    );
    for (policy, (measured_hz, simulated_hz)) in CURVES.iter().zip(&capacities) {
        caption += &format!(" {} {measured_hz:.1} (simulated {simulated_hz:.1}),", policy.name(),);
    }
    caption.pop();
    caption += " images/s.";
    caption += &scaled(speed);
    caption += &late_words(points.iter().map(|point| (point.late_p99_ms, point.measured.mean_ms)));
    Ok(Figure {
        name: "concurrency-latency",
        title: "Concurrency and latency",
        setting: setting(live, scale),
        caption,
        panels: curves(&points, 600.0 * speed),
        column_len: 2,
        table: comparison(&points),
    })
}

fn curves(points: &[Point], rate_max_hz: f64) -> Vec<Panel> {
    type Figured = fn(&Figures) -> f64;
    let kinds: [(&str, Figured); 2] =
        [("mean latency", |figures| figures.mean_ms), ("p99 latency", |figures| figures.p99_ms)];
    let panel = |(title, figure): &(&str, Figured)| {
        let mut series = Vec::new();
        for (curve, policy) in CURVES.iter().enumerate() {
            let line = |side: fn(&Point) -> &Figures| -> Vec<(f64, f64)> {
                let here = points.iter().filter(|point| point.curve == curve);
                here.map(|point| (point.rate_hz, figure(side(point)))).collect()
            };
            let name = policy.name();
            let simulated = line(|point| &point.simulated);
            series.push(Series::new(format!("{name}, simulated"), Style::Dashed, simulated));
            series.push(Series::new(name, Style::Marked, line(|point| &point.measured)));
        }
        let heights = || super::heights(&series).filter(|height| *height > 0.0);
        let low = heights().fold(f64::MAX, f64::min);
        let high = heights().fold(0.0, f64::max);
        // Whole decades: a shorter logarithmic axis has too few labels.
        let decade = |height: f64, round: fn(f64) -> f64| 10_f64.powf(round(height.log10()));
        Panel {
            title: (*title).into(),
            x: Axis::linear("arrival rate (images/s)", (0.0, rate_max_hz)),
            y: Axis::log("ms", (decade(low, f64::floor), decade(high, f64::ceil))),
            series,
        }
    };
    kinds.iter().map(panel).collect()
}

fn comparison(points: &[Point]) -> Table {
    let row = |point: &Point| -> Vec<Value> {
        let (measured, simulated) = (&point.measured, &point.simulated);
        let percent = |measured: f64, simulated: f64| value(100.0 * (measured / simulated - 1.0));
        vec![
            CURVES[point.curve].name().into(),
            value(point.rate_hz),
            value(measured.mean_ms),
            value(simulated.mean_ms),
            percent(measured.mean_ms, simulated.mean_ms),
            value(measured.p99_ms),
            value(simulated.p99_ms),
            percent(measured.p99_ms, simulated.p99_ms),
            value(point.late_p99_ms),
        ]
    };
    Table {
        columns: vec![
            "policy",
            "rate_hz",
            "mean_ms",
            "simulated_mean_ms",
            "mean_difference_percent",
            "p99_ms",
            "simulated_p99_ms",
            "p99_difference_percent",
            "late_p99_ms",
        ],
        rows: points.iter().map(row).collect(),
    }
}
