//! The five figures of the paper on the device that reproduces it, synchronous beside asynchronous.
//!
//! Source: Q. Zhang, L. Zha, X. Wan, B. Cheng, IPDPSW 2019, doi 10.1109/IPDPSW.2019.00083.

use serde_json::Value;

use super::parallel::{self, Announced, Progress};
use super::timeline::Timeline;
use super::value;
use super::{
    Axis, Figure, Panel, Scale, Series, Style, Table, WITHOUT_LOOK_AHEAD, heights, simulated,
};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{OpenLoop, Step, Workload};
use crate::sim::bounds;
use crate::sim::device::DeviceSpec;
use crate::sim::report::Latencies;
use crate::sim::summary::setup;
use crate::sim::world::{Setup, run};

pub(super) const BATCH_LEN_MAX: usize = 256;

/// The synchronous policy, and the asynchronous one that the paper's text describes.
pub(super) const SIDES: [(PolicySpec, &str); 2] =
    [(PolicySpec::Serial, "synchronous"), (PolicySpec::Jit, "asynchronous")];

pub(super) fn device() -> DeviceSpec {
    "gtx-1080ti".parse().expect("the profile is built in")
}

pub(super) fn poisson(rate_hz: f64) -> Workload {
    Workload::Open(OpenLoop::Poisson { rate_hz })
}

/// Rates that follow one another, over seconds.
pub(super) struct Course {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Arrivals a second on the paper's device, and for how many seconds.
    rates: &'static [(f64, f64)],
    is_uniform: bool,
}

pub(super) const CHANGING: Course = Course {
    name: "changing",
    title: "Concurrency changing",
    rates: &[(100.0, 2.0), (300.0, 2.0), (500.0, 2.0), (200.0, 2.0), (450.0, 2.0), (50.0, 2.0)],
    is_uniform: false,
};
pub(super) const INCREASING: Course = Course {
    name: "increasing",
    title: "Concurrency increasing",
    rates: &[(100.0, 3.0), (500.0, 5.0)],
    is_uniform: false,
};
pub(super) const DECREASING: Course = Course {
    name: "decreasing",
    title: "Concurrency decreasing",
    rates: &[(500.0, 4.0), (100.0, 4.0)],
    is_uniform: false,
};
pub(super) const PEAK_CLIPPING: Course = Course {
    name: "peak-clipping",
    title: "Peak clipping: the rate doubles for 0.3 s",
    rates: &[(400.0, 1.0), (800.0, 0.3), (400.0, 2.2)],
    is_uniform: true,
};

impl Course {
    pub(super) fn end_s(&self) -> f64 {
        self.rates.iter().map(|(_, duration_s)| duration_s).sum()
    }

    /// The course's arrivals on a device that is so many times as fast as the paper's.
    pub(super) fn workload(&self, speed: f64) -> Workload {
        let steps = self
            .rates
            .iter()
            .map(|&(rate_hz, duration_s)| Step {
                rate_hz: rate_hz * speed,
                duration_ns: duration_s * 1e9,
            })
            .collect();
        Workload::Open(OpenLoop::Steps { steps, is_uniform: self.is_uniform })
    }

    /// The rate over time, as corners of a line.
    fn offered(&self, speed: f64) -> Vec<(f64, f64)> {
        let mut offered = Vec::new();
        let mut start_s = 0.0;
        for &(rate_hz, duration_s) in self.rates {
            let rate_hz = rate_hz * speed;
            offered.extend([(start_s, rate_hz), (start_s + duration_s, rate_hz)]);
            start_s += duration_s;
        }
        offered
    }

    /// Arrivals in words.
    pub(super) fn words(&self, speed: f64) -> String {
        let words: Vec<String> = self
            .rates
            .iter()
            .map(|(rate, duration)| format!("{:.0}/s for {duration} s", rate * speed))
            .collect();
        let kind = if self.is_uniform { "evenly spaced" } else { "Poisson" };
        format!("{kind} arrivals: {}", words.join(", "))
    }
}

/// A course under both sides' policies: what unfolded, and the latencies.
pub(super) type Runs = Vec<(Timeline, Latencies)>;

/// Batch length, compute time, latency and throughput over time, one column a policy.
pub(super) fn over_time(course: &Course, scale: &Scale, progress: &dyn Progress) -> Figure {
    let workload = course.workload(1.0);
    let runs: Runs = parallel::map(&SIDES, progress, |(policy, _)| {
        let mut setup = setup(&device(), &workload, *policy, BATCH_LEN_MAX, scale.seed);
        setup.duration_ns = (course.end_s() * 1e9) as u64;
        let mut timeline = Timeline::default();
        let latencies = run(&setup, &mut timeline).latencies;
        (timeline, latencies)
    });
    let mut table = Table {
        columns: vec!["policy", "mean_ms", "p99_ms", "peak_ms", "peak_change_percent"],
        rows: Vec::new(),
    };
    for (index, (policy, _)) in SIDES.iter().enumerate() {
        let mut row = vec![policy.name().into()];
        row.extend(key_figures(&runs, index));
        table.rows.push(row);
    }
    let caption = format!(
        "Profile gtx-1080ti, {}. Synchronous: one stream, stages in series. Asynchronous: the \
         next batch goes up just in time while one computes.{}",
        course.words(1.0),
        longest_words(&runs),
    );
    Figure {
        name: course.name,
        title: course.title,
        setting: simulated("gtx-1080ti", scale.seed),
        caption,
        panels: panels(course, 1.0, &[("", &runs)]),
        column_len: 2,
        table,
    }
}

/// Mean, p99 and longest latency of a side in milliseconds, and how much less the longest is than
/// that of the first side in percent.
pub(super) fn key_figures(runs: &Runs, side: usize) -> [Value; 4] {
    let latencies = |side: usize| &runs[side].1;
    let peak_ms = |side: usize| latencies(side).max_ns() as f64 * 1e-6;
    [
        value(latencies(side).mean_ns() * 1e-6),
        value(latencies(side).quantile_ns(0.99) as f64 * 1e-6),
        value(peak_ms(side)),
        value(100.0 * (peak_ms(side) / peak_ms(0) - 1.0)),
    ]
}

/// The longest latency of each side in words, as the table has it.
pub(super) fn longest_words(runs: &Runs) -> String {
    let longest_ms = |side: usize| runs[side].1.max_ns() as f64 * 1e-6;
    format!(
        " Longest latency (ring): {} {:.0} ms, {} {:.0} ms ({:+.1} %); means of 100 ms stay below.",
        SIDES[0].0.name(),
        longest_ms(0),
        SIDES[1].0.name(),
        longest_ms(1),
        100.0 * (longest_ms(1) / longest_ms(0) - 1.0),
    )
}

/// The title of the panels of latencies.
const LATENCY: &str = "latency, mean of 100 ms";

/// Panels of both sides for one or two sets of runs, each with what is added to its series' names;
/// the first of two is in the background.
pub(super) fn panels(course: &Course, speed: f64, shown: &[(&str, &Runs)]) -> Vec<Panel> {
    type Measured = fn(&Timeline, f64) -> Vec<(f64, f64)>;
    let rows: [(&str, &str, Style, Measured); 4] = [
        ("batch length", "images", Style::Dots, |timeline, _| timeline.batch_lens.clone()),
        ("compute time of a batch", "ms", Style::Dots, |timeline, _| timeline.compute_ms.clone()),
        (LATENCY, "ms", Style::Line, |timeline, _| timeline.latency_ms()),
        ("throughput", "images/s", Style::Line, |timeline, end_s| timeline.throughput_hz(end_s)),
    ];
    let end_s = course.end_s();
    let mut panels = Vec::new();
    for (what, unit, style, measured) in rows {
        let side = |index: usize| -> Vec<Series> {
            let mut series = Vec::new();
            if unit == "images/s" {
                let offered = course.offered(speed);
                series.push(Series::new("arrival rate", Style::Dashed, offered));
            }
            for (remark, runs) in shown {
                let name = format!("{}{remark}", SIDES[index].0.name());
                series.push(Series::new(name, style, measured(&runs[index].0, end_s)));
            }
            if let (LATENCY, Some((_, runs))) = (what, shown.last()) {
                let longest = runs[index].0.longest_ms.into_iter().collect();
                series.push(Series::new("longest latency", Style::Rings, longest));
            }
            series
        };
        let sides = [side(0), side(1)];
        // One scale for both sides: that is what they are set side by side for.
        let highest: Vec<f64> = sides.iter().flat_map(|series| heights(series)).collect();
        for (series, (_, side)) in sides.into_iter().zip(SIDES) {
            panels.push(Panel {
                title: format!("{side}: {what}"),
                x: Axis::linear("time (s)", (0.0, end_s)),
                y: Axis::from_zero(unit, highest.iter().copied()),
                series,
            });
        }
    }
    panels
}

/// Policies of the latency curve: the paper's two sides, and the library's default.
pub(super) const CURVES: [PolicySpec; 3] =
    [PolicySpec::Serial, PolicySpec::Jit, PolicySpec::Stream];

const RATES_HZ: [f64; 16] = [
    25.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 475.0, 500.0, 515.0, 530.0,
    550.0, 570.0,
];

/// Every run lasts 200 s. Near capacity that matters: the longer a run, the longer its queue.
const RUN_NS: u64 = 200_000_000_000;

/// Twice what the device can do: what comes out is its capacity under a policy.
pub(super) const SATURATING_HZ: f64 = 1_200.0;

/// What the paper's curves are drawn from.
struct Curves {
    capacities_hz: Vec<f64>,
    /// By curve and rate, and the mean latency there.
    means_ms: Vec<((usize, f64), f64)>,
    /// By rate: the best mean without look-ahead.
    without_look_ahead_ms: Vec<Option<f64>>,
    run_len: u64,
}

impl Curves {
    fn measure(scale: &Scale, progress: &dyn Progress) -> Self {
        let device = device();
        let world = |policy, rate_hz, seed: u64| -> Setup {
            let mut setup = setup(&device, &poisson(rate_hz), policy, BATCH_LEN_MAX, seed);
            setup.duration_ns = RUN_NS;
            setup
        };
        let run_len = CURVES.len() * RATES_HZ.len();
        progress.announce(CURVES.len() + run_len + RATES_HZ.len());
        let announced = Announced(progress);
        let capacities_hz = parallel::map(&CURVES, &announced, |&policy| {
            run(&world(policy, SATURATING_HZ, scale.seed), ()).throughput_hz()
        });
        let seed_len = (scale.request_len / 50_000).max(1);
        let jobs: Vec<(usize, f64)> = RATES_HZ
            .iter()
            .flat_map(|&rate_hz| (0..CURVES.len()).map(move |curve| (curve, rate_hz)))
            .filter(|&(curve, rate_hz)| rate_hz < capacities_hz[curve])
            .collect();
        // Beyond its capacity a policy is not run.
        (jobs.len()..run_len).for_each(|_| progress.step());
        let means_ms = parallel::map(&jobs, &announced, |&(curve, rate_hz)| {
            let mean_ms =
                |seed| run(&world(CURVES[curve], rate_hz, seed), ()).latencies.mean_ns() * 1e-6;
            (scale.seed..scale.seed + seed_len).map(mean_ms).sum::<f64>() / seed_len as f64
        });
        let without_look_ahead_ms = parallel::map(&RATES_HZ, &announced, |&rate_hz| {
            bounds::mean_without_look_ahead_ns(&device, BATCH_LEN_MAX, rate_hz)
                .map(|mean_ns| mean_ns * 1e-6)
        });
        let means_ms = jobs.into_iter().zip(means_ms).collect();
        Self { capacities_hz, means_ms, without_look_ahead_ms, run_len: seed_len }
    }

    fn mean_ms(&self, curve: usize, rate_hz: f64) -> Option<f64> {
        let is_it = |(job, _): &&((usize, f64), f64)| *job == (curve, rate_hz);
        self.means_ms.iter().find(is_it).map(|(_, mean_ms)| *mean_ms)
    }

    /// Against the first curve.
    fn change_percent(&self, curve: usize, rate_hz: f64) -> Option<f64> {
        Some(100.0 * (self.mean_ms(curve, rate_hz)? / self.mean_ms(0, rate_hz)? - 1.0))
    }

    fn panels(&self) -> Vec<Panel> {
        let curve = |curve: usize, y: &dyn Fn(f64) -> Option<f64>| {
            let points =
                RATES_HZ.iter().filter_map(|&rate_hz| Some((rate_hz, y(rate_hz)?))).collect();
            Series::new(CURVES[curve].name(), Style::Marked, points)
        };
        let mut latency: Vec<Series> = (0..CURVES.len())
            .map(|index| curve(index, &|rate_hz| self.mean_ms(index, rate_hz)))
            .collect();
        let best = RATES_HZ.iter().zip(&self.without_look_ahead_ms);
        let best = best.filter_map(|(&rate, &ms)| Some((rate, ms?)));
        latency.push(Series::new(WITHOUT_LOOK_AHEAD, Style::Dashed, best.collect()));
        let change: Vec<Series> = (1..CURVES.len())
            .map(|index| curve(index, &|rate_hz| self.change_percent(index, rate_hz)))
            .collect();
        let rate_axis = Axis::linear("arrival rate (images/s)", (0.0, 600.0));
        vec![
            Panel {
                title: "mean latency".into(),
                x: rate_axis.clone(),
                y: Axis::log_around("ms", heights(&latency)),
                series: latency,
            },
            Panel {
                title: "change against synchronous (serial)".into(),
                x: rate_axis,
                y: Axis::linear("%", (-100.0, 0.0)),
                series: change,
            },
        ]
    }

    fn table(&self) -> Table {
        let optional = |number: Option<f64>| number.map_or(Value::Null, value);
        let mut table = Table {
            columns: vec![
                "rate_hz",
                "serial_ms",
                "jit_ms",
                "stream_ms",
                "without_look_ahead_ms",
                "jit_change_percent",
                "stream_change_percent",
            ],
            rows: Vec::new(),
        };
        for (&rate_hz, &best_ms) in RATES_HZ.iter().zip(&self.without_look_ahead_ms) {
            let mut row = vec![value(rate_hz)];
            row.extend((0..CURVES.len()).map(|index| optional(self.mean_ms(index, rate_hz))));
            row.push(optional(best_ms));
            let change = |index| optional(self.change_percent(index, rate_hz));
            row.extend((1..CURVES.len()).map(change));
            table.rows.push(row);
        }
        table
    }

    fn caption(&self) -> String {
        let runs = match self.run_len {
            1 => "one run".to_owned(),
            len => format!("the mean of {len} runs"),
        };
        let capacities_hz = &self.capacities_hz;
        let percent = |index: usize| 100.0 * (capacities_hz[index] / capacities_hz[0] - 1.0);
        format!(
            "Profile gtx-1080ti, Poisson arrivals, batches of at most {BATCH_LEN_MAX}; each point \
             is {runs} of 200 s. Capacity, measured at {SATURATING_HZ} arrivals a second: \
             serial {:.1}, jit {:.1} ({:+.1} %), stream {:.1} ({:+.1} %) images/s. Close to its \
             capacity a policy's queue still grows when a run ends.",
            capacities_hz[0],
            capacities_hz[1],
            percent(1),
            capacities_hz[2],
            percent(2),
        )
    }
}

pub(super) fn concurrency_latency(scale: &Scale, progress: &dyn Progress) -> Figure {
    let curves = Curves::measure(scale, progress);
    Figure {
        name: "concurrency-latency",
        title: "Concurrency and latency",
        setting: simulated("gtx-1080ti", scale.seed),
        caption: curves.caption(),
        panels: curves.panels(),
        column_len: 2,
        table: curves.table(),
    }
}
