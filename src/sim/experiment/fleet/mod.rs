//! Several devices behind one queue: the default against the best of simple rules at each point,
//! and against a bound.

mod rules;

use self::rules::{Devices, Rule, latencies_ns};
use super::load::BATCH_LEN_MAX;
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, simulated, value};
use crate::sched::{Line, PolicySpec, Stages};
use crate::sim::arrivals::{OpenLoop, Workload};
use crate::sim::bounds;
use crate::sim::device::DeviceSpec;
use crate::sim::report::Latencies;
use crate::sim::summary::setup;
use crate::sim::world::{Setup, run};

const LANE_LENS: [usize; 4] = [1, 2, 4, 8];
const LOADS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Images that cost what a batch's fixed cost does.
const FIXED_IMAGES: [f64; 4] = [20.0, 8.0, 1.0, 0.1];
const IMAGE_NS: f64 = 25_000.0;
/// A run has this share of the longest, for each two devices.
const SHARE: u64 = 20;

/// How uploads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// They take no time.
    Free,
    /// Each device has a link of its own.
    Own,
    /// All share one, half of which is taken at full load.
    Shared,
}

impl Link {
    const ALL: [Self; 3] = [Self::Free, Self::Own, Self::Shared];

    fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Point {
    lane_len: usize,
    /// How many times as slow every second device is.
    slower: f64,
    fixed_images: f64,
    link: Link,
    load: f64,
}

impl Point {
    fn all() -> Vec<Self> {
        let mut points = Vec::new();
        for slower in [1.0, 2.0] {
            for lane_len in LANE_LENS.into_iter().filter(|&len| slower == 1.0 || len > 1) {
                for fixed_images in FIXED_IMAGES {
                    for link in Link::ALL {
                        let at = |load| Self { lane_len, slower, fixed_images, link, load };
                        points.extend(LOADS.map(at));
                    }
                }
            }
        }
        points
    }

    fn lines(&self) -> Vec<Stages<Line>> {
        let (upload, download) = match self.link {
            Link::Free => (Line::new(1.0, 0.0), Line::new(1.0, 0.0)),
            Link::Own => (Line::new(12e3, 0.24 * IMAGE_NS), Line::new(10e3, 100.0)),
            Link::Shared => {
                (Line::new(12e3, 0.5 * IMAGE_NS / self.lane_len as f64), Line::new(10e3, 100.0))
            }
        };
        let lane = |at: usize| {
            let image_ns = IMAGE_NS * if at % 2 == 1 { self.slower } else { 1.0 };
            let compute = Line::new(self.fixed_images * image_ns, image_ns);
            Stages { upload, compute, download }
        };
        (0..self.lane_len).map(lane).collect()
    }

    fn setup(&self, scale: &Scale) -> Setup {
        let lines = self.lines();
        let capacity_per_ns: f64 = lines.iter().map(|lines| 1.0 / lines.compute.per_image_ns).sum();
        let rate_hz = self.load * capacity_per_ns * 1e9;
        let specs = lines.iter().map(|&lines| DeviceSpec::from_lines("fleet", lines));
        let devices: Vec<DeviceSpec> = specs.collect();
        let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
        let mut setup =
            setup(&devices[0], &workload, PolicySpec::default(), BATCH_LEN_MAX, scale.seed);
        setup.config.lines = lines;
        setup.devices = devices;
        setup.is_link_shared = self.link == Link::Shared;
        setup.arrival_len_max = scale.request_len / SHARE * (self.lane_len as u64 / 2).max(1);
        setup
    }
}

/// Mean and p99 in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Figures {
    mean_ms: f64,
    p99_ms: f64,
}

impl Figures {
    fn of(latencies: &Latencies) -> Self {
        let p99_ms = latencies.quantile_ns(0.99) as f64 * 1e-6;
        Self { mean_ms: latencies.mean_ns() * 1e-6, p99_ms }
    }
}

#[derive(Clone, Debug)]
struct Found {
    default: Figures,
    rules: [Figures; Rule::ALL.len()],
    bound_ms: f64,
}

impl Found {
    fn of(point: &Point, scale: &Scale) -> Self {
        let setup = point.setup(scale);
        let Workload::Open(open) = &setup.workload else { unreachable!("arrivals are open") };
        let arrivals_ns: Vec<u64> =
            open.arrivals(scale.seed).take(setup.arrival_len_max as usize).collect();
        let devices = Devices {
            lines: point.lines(),
            is_link_shared: setup.is_link_shared,
            batch_len_max: BATCH_LEN_MAX,
        };
        let rate_hz = open.rate_hz();
        let of_rule = |rule| {
            let found = latencies_ns(rule, &devices, &arrivals_ns, rate_hz * 1e-9, scale.seed);
            Figures::of(&Latencies::new(found))
        };
        let bound_ns = bounds::several_mean_ns(&setup.devices, BATCH_LEN_MAX, rate_hz);
        Self {
            default: Figures::of(&run(&setup, ()).latencies),
            rules: Rule::ALL.map(of_rule),
            bound_ms: bound_ns.unwrap_or(f64::NAN) * 1e-6,
        }
    }

    /// The default's mean and p99 over the least of the rules', each by itself.
    fn ratios(&self) -> (f64, f64) {
        let least = |figure: fn(&Figures) -> f64| {
            self.rules.iter().map(figure).fold(f64::INFINITY, f64::min)
        };
        let (mean_ms, p99_ms) = (least(|of| of.mean_ms), least(|of| of.p99_ms));
        (self.default.mean_ms / mean_ms, self.default.p99_ms / p99_ms)
    }
}

pub(super) fn fleet(scale: &Scale, progress: &dyn Progress) -> Figure {
    let points = Point::all();
    let found = parallel::map(&points, progress, |point| Found::of(point, scale));
    let all: Vec<(Point, Found)> = points.into_iter().zip(found).collect();
    let worst = |is_alike: bool| {
        let those = all.iter().filter(|(at, _)| at.lane_len > 1 && (at.slower == 1.0) == is_alike);
        let ratios: Vec<(f64, f64)> = those.map(|(_, found)| found.ratios()).collect();
        let mean = |log: &dyn Fn(&(f64, f64)) -> f64| {
            libm::exp(ratios.iter().map(log).sum::<f64>() / ratios.len() as f64)
        };
        let most = |of: fn(&(f64, f64)) -> f64| ratios.iter().map(of).fold(0.0, f64::max);
        format!(
            "at worst {:.3} and {:.3}, geometric mean {:.3} and {:.3}",
            most(|ratio| ratio.0),
            most(|ratio| ratio.1),
            mean(&|ratio| libm::log(ratio.0)),
            mean(&|ratio| libm::log(ratio.1)),
        )
    };
    let caption = format!(
        "Poisson arrivals, batches of at most {BATCH_LEN_MAX}, 25 µs an image, {} requests for \
         each two devices. The default's mean and p99 over the least of five simple rules that \
         know all times and the rate (greedy, two spacings, shortest finish, two choices). Two \
         and more devices alike: {}. Every second one half as quick: {}. Load is the arrival \
         rate over what the devices do in endless batches.",
        scale.request_len / SHARE,
        worst(true),
        worst(false),
    );
    let title = "Several devices behind one queue, beside simple rules and a bound";
    let setting = simulated("25 µs an image", scale.seed);
    let panels = panels(&all);
    Figure { name: "fleet", title, setting, caption, panels, column_len: 2, table: table(&all) }
}

fn panels(all: &[(Point, Found)]) -> Vec<Panel> {
    let panel = |title: &str, is_drawn: &dyn Fn(&Point) -> bool, y: &dyn Fn(&Found) -> f64| {
        let series: Vec<Series> = LANE_LENS[1..]
            .iter()
            .map(|&lane_len| {
                let of_len = all.iter().filter(|(at, _)| at.lane_len == lane_len && is_drawn(at));
                let points = of_len.map(|(at, found)| (at.load, y(found))).collect();
                Series::new(format!("{lane_len} devices"), Style::Marked, points)
            })
            .collect();
        let heights = super::heights(&series).collect::<Vec<_>>();
        let lows = series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let y = Axis::around("ratio", lows.chain(heights));
        Panel { title: title.into(), x: Axis::linear("load", (0.0, 1.0)), y, series }
    };
    let is_own = |at: &Point, fixed_images: f64, slower: f64| {
        at.link == Link::Own && at.fixed_images == fixed_images && at.slower == slower
    };
    vec![
        panel(
            "mean over the best simple rule's, c/k = 20",
            &|at| is_own(at, 20.0, 1.0),
            &|found| found.ratios().0,
        ),
        panel("p99 over the best simple rule's, c/k = 20", &|at| is_own(at, 20.0, 1.0), &|found| {
            found.ratios().1
        }),
        panel("mean over its bound, c/k = 20", &|at| is_own(at, 20.0, 1.0), &|found| {
            found.default.mean_ms / found.bound_ms
        }),
        panel("p99 over the best simple rule's, c/k = 1", &|at| is_own(at, 1.0, 1.0), &|found| {
            found.ratios().1
        }),
    ]
}

fn table(all: &[(Point, Found)]) -> Table {
    let columns = vec![
        "devices",
        "slower",
        "fixed_images",
        "link",
        "load",
        "policy",
        "mean_ms",
        "p99_ms",
        "mean_ratio",
        "p99_ratio",
        "bound_mean_ms",
    ];
    let mut table = Table { columns, rows: Vec::new() };
    for (at, found) in all {
        let mut push = |policy: &str, figures: Figures, ratios: (f64, f64)| {
            table.rows.push(vec![
                at.lane_len.into(),
                value(at.slower),
                value(at.fixed_images),
                at.link.name().into(),
                value(at.load),
                policy.into(),
                value(figures.mean_ms),
                value(figures.p99_ms),
                value(ratios.0),
                value(ratios.1),
                value(found.bound_ms),
            ]);
        };
        push(PolicySpec::default().name(), found.default, found.ratios());
        for (rule, &figures) in Rule::ALL.iter().zip(&found.rules) {
            let alone = Found { default: figures, ..found.clone() };
            push(rule.name(), figures, alone.ratios());
        }
    }
    table
}

#[cfg(test)]
mod tests;
