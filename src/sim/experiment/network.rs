//! Clients behind a network: whether overlap and announcements still pay, and how hosts share load.

use super::load::{BATCH_LEN_MAX, DEVICE};
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, simulated, value};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{ClosedLoop, OpenLoop, Workload};
use crate::sim::bounds::ServiceTimes;
use crate::sim::device::DeviceSpec;
use crate::sim::network::{Balancer, Network, plan_about, run};
use crate::sim::plan::Service;
use crate::sim::summary::setup;

/// One way, in milliseconds.
const DELAYS_MS: [u64; 6] = [0, 1, 2, 5, 10, 20];
/// Over what the requests need.
const BANDWIDTHS: [f64; 6] = [1.05, 1.2, 1.5, 2.0, 4.0, 16.0];
/// That of the runs over delays, and the delay of the runs over bandwidths.
const AMPLE: f64 = 4.0;
const DELAY_MS: u64 = 5;
/// Arrivals as a share of what the hosts can do.
const LOADS: [f64; 6] = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9];
const HOST_LEN: usize = 4;
/// Links over which announcements are looked at, with the rates of their requests, in images a
/// second of the second device: up to nine tenths of what the link or the device carries.
const LINKS_GBIT: [(&str, f64); 3] = [("10 Gbit", 10.0), ("20 Gbit", 20.0), ("40 Gbit", 40.0)];
const AHEAD_HZ: [f64; 7] = [500.0, 1e3, 2e3, 4e3, 7e3, 14e3, 28e3];
const CLIENT_LEN: usize = 1_000;

/// A device with the rate of its requests and the bound of its plans.
struct Place {
    device: &'static str,
    rate_hz: f64,
    bound_ms: f64,
}

const PLACES: [Place; 2] = [
    Place { device: "gtx-1080ti", rate_hz: 500.0, bound_ms: 200.0 },
    Place { device: DEVICE, rate_hz: 28_000.0, bound_ms: 50.0 },
];

/// What overlaps, and what is announced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Neither,
    Overlap,
    Announced,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Neither, Self::Overlap, Self::Announced];

    fn name(self) -> &'static str {
        match self {
            Self::Neither => "serial",
            Self::Overlap => "stream",
            Self::Announced => "stream announced",
        }
    }

    fn policy(self) -> PolicySpec {
        if self == Self::Neither { PolicySpec::Serial } else { PolicySpec::Stream }
    }
}

/// How hosts are chosen, as the legend has it.
const BALANCERS: [(&str, usize, Balancer); 3] = [
    ("one host", 1, Balancer::Least),
    ("4 hosts in turn", HOST_LEN, Balancer::RoundRobin),
    ("4 hosts by least outstanding", HOST_LEN, Balancer::Least),
];

#[derive(Clone, Copy, PartialEq)]
enum Job {
    /// Latency at one rate.
    Latency { place: usize, mode: Mode, delay_ms: u64, bandwidth: f64 },
    /// The largest rate within the clients' bound.
    Plan { place: usize, mode: Mode, delay_ms: u64 },
    /// Latency behind a balancer.
    Hosts { balancer: usize, load: f64 },
    /// What is gained by announcements.
    Ahead { link: usize, rate_hz: f64 },
    /// Clients that wait for their answers.
    Closed { mode: Mode, delay_ms: u64 },
}

#[derive(Clone, Copy, Default)]
struct Found {
    rate_hz: Option<f64>,
    mean_ms: Option<f64>,
    p99_ms: Option<f64>,
    batch_len_mean: Option<f64>,
    link_share: Option<f64>,
    /// What the network takes of the mean for itself.
    alone_ms: f64,
    /// The mean less that, over the same without announcements.
    announced_ratio: Option<f64>,
}

fn spec(place: usize) -> DeviceSpec {
    PLACES[place].device.parse().expect("the words are well-formed")
}

/// A network whose link carries so many times what requests at a rate need.
fn network_of(delay_ms: u64, bandwidth: f64, rate_hz: f64, mode: Mode) -> Network {
    let usual = Network::default();
    Network {
        delay_ns: delay_ms * 1_000_000,
        bandwidth_bits_hz: Some(bandwidth * rate_hz * 8.0 * usual.request_bytes as f64),
        is_announced: mode == Mode::Announced,
        ..usual
    }
}

pub(super) fn network(scale: &Scale, progress: &dyn Progress) -> Figure {
    let mut jobs = Vec::new();
    for place in 0..PLACES.len() {
        for mode in Mode::ALL {
            for delay_ms in DELAYS_MS {
                jobs.push(Job::Plan { place, mode, delay_ms });
                jobs.extend(BANDWIDTHS.map(|bandwidth| Job::Latency {
                    place,
                    mode,
                    delay_ms,
                    bandwidth,
                }));
            }
        }
    }
    for balancer in 0..BALANCERS.len() {
        jobs.extend(LOADS.map(|load| Job::Hosts { balancer, load }));
    }
    for (link, (_, gbit)) in LINKS_GBIT.iter().enumerate() {
        let carried_hz = gbit * 1e9 / (8.0 * Network::default().request_bytes as f64);
        let rates = AHEAD_HZ.into_iter().filter(|rate_hz| *rate_hz < 0.9 * carried_hz);
        jobs.extend(rates.map(|rate_hz| Job::Ahead { link, rate_hz }));
    }
    for mode in [Mode::Neither, Mode::Overlap] {
        jobs.extend(DELAYS_MS.map(|delay_ms| Job::Closed { mode, delay_ms }));
    }
    let found = parallel::map(&jobs, progress, |job| find(job, scale));
    let found: Vec<(Job, Found)> = jobs.into_iter().zip(found).collect();
    let caption = caption(scale);
    let title = "Over a network: delay, bandwidth, announcements, hosts behind a balancer";
    let setting = simulated("gtx-1080ti and a modern card", scale.seed);
    let (panels, table) = (panels(&found), table(&found));
    Figure { name: "network", title, setting, caption, panels, column_len: 2, table }
}

fn caption(scale: &Scale) -> String {
    let [one, other] = &PLACES;
    format!(
        "Clients on a shared link, latency as they see it. `serial` overlaps nothing, `stream` \
         overlaps uploads with computing, `stream announced` also knows of requests as their \
         headers come, ahead of the bytes that wait; where lines coincide, the later one in the \
         legend is seen. On the left the paper's device at {} requests/s, on the right {DEVICE} \
         at {}/s; delays are one way, links carry {AMPLE} times what the requests' {} bytes need, \
         and the delay is {DELAY_MS} ms where that varies. Rates keep the clients' p99 within {} \
         and {} ms, to one or two percent. What announcements gain, {HOST_LEN} hosts 1 ms away and \
         {CLIENT_LEN} clients that wait for their answers are of the second device. {} requests a \
         run and host.",
        one.rate_hz,
        other.rate_hz,
        Network::default().request_bytes,
        one.bound_ms,
        other.bound_ms,
        request_len(scale),
    )
}

fn request_len(scale: &Scale) -> u64 {
    scale.request_len / 10
}

fn find(job: &Job, scale: &Scale) -> Found {
    let (place, policy, network, workload) = match *job {
        Job::Plan { place, mode, delay_ms } => return plan(place, mode, delay_ms, scale),
        Job::Ahead { link, rate_hz } => return ahead(LINKS_GBIT[link].1, rate_hz, scale),
        Job::Latency { place, mode, delay_ms, bandwidth } => {
            let rate_hz = PLACES[place].rate_hz;
            let network = network_of(delay_ms, bandwidth, rate_hz, mode);
            (place, mode.policy(), network, Workload::Open(OpenLoop::Poisson { rate_hz }))
        }
        Job::Hosts { balancer, load } => {
            let (_, host_len, balancer) = BALANCERS[balancer];
            let rate_hz = load * capacity_hz(1) * host_len as f64;
            let network = network_of(1, AMPLE, rate_hz, Mode::Overlap);
            let network = Network { host_len, balancer, ..network };
            let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
            (1, PolicySpec::Stream, network, workload)
        }
        Job::Closed { mode, delay_ms } => {
            let network = network_of(delay_ms, AMPLE, capacity_hz(1), mode);
            (1, mode.policy(), network, Workload::Closed(ClosedLoop::new(CLIENT_LEN)))
        }
    };
    measured(place, policy, &network, &workload, scale)
}

fn measured(
    place: usize,
    policy: PolicySpec,
    network: &Network,
    workload: &Workload,
    scale: &Scale,
) -> Found {
    let mut world = setup(&spec(place), workload, policy, BATCH_LEN_MAX, scale.seed);
    world.arrival_len_max = request_len(scale) * network.host_len as u64;
    let report = run(&world, network);
    let clients = &report.clients;
    Found {
        rate_hz: Some(clients.throughput_hz()),
        mean_ms: Some(clients.latencies.mean_ns() * 1e-6),
        p99_ms: Some(clients.latencies.quantile_ns(0.99) as f64 * 1e-6),
        batch_len_mean: Some(clients.batch_len_mean()),
        link_share: Some(report.link_share()),
        alone_ms: network.alone_ns() as f64 * 1e-6,
        announced_ratio: None,
    }
}

/// A run with announcements beside the same without.
fn ahead(gbit: f64, rate_hz: f64, scale: &Scale) -> Found {
    let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
    let [silent, announced] = [false, true].map(|is_announced| {
        let bandwidth_bits_hz = Some(gbit * 1e9);
        let network = Network { bandwidth_bits_hz, is_announced, ..Network::default() };
        measured(1, PolicySpec::Stream, &network, &workload, scale)
    });
    let rest_ms = |found: &Found| found.mean_ms.map(|mean_ms| mean_ms - found.alone_ms);
    let both = rest_ms(&announced).zip(rest_ms(&silent));
    Found { announced_ratio: both.map(|(announced, silent)| announced / silent), ..announced }
}

fn plan(place: usize, mode: Mode, delay_ms: u64, scale: &Scale) -> Found {
    let network = network_of(delay_ms, AMPLE, capacity_hz(place), mode);
    let bound_ns = PLACES[place].bound_ms * 1e6;
    let (device, policy) = (spec(place), mode.policy());
    let service = Service::new(&device, policy, bound_ns, BATCH_LEN_MAX, scale.seed);
    let found = plan_about(&network, &service);
    Found {
        rate_hz: found.plan.rate_hz,
        mean_ms: None,
        p99_ms: found.plan.p99_ms,
        batch_len_mean: found.plan.batch_len_mean,
        link_share: found.link_share,
        alone_ms: network.alone_ns() as f64 * 1e-6,
        announced_ratio: None,
    }
}

/// What a place's device can do in the longest batches.
fn capacity_hz(place: usize) -> f64 {
    ServiceTimes::compute(&spec(place), BATCH_LEN_MAX).capacity_hz()
}

type Figured<'a> = &'a dyn Fn(&Found) -> Option<f64>;
type Chosen<'a> = &'a dyn Fn(&Job) -> Option<(&'static str, f64)>;

/// Series of the jobs that `chosen` gives a name and a place on the horizontal axis.
fn series(found: &[(Job, Found)], chosen: Chosen<'_>, figure: Figured<'_>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for (job, found) in found {
        let Some((name, x)) = chosen(job) else { continue };
        let Some(y) = figure(found) else { continue };
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push((x, y)),
            None => all.push(Series::new(name, Style::Marked, vec![(x, y)])),
        }
    }
    all
}

fn over_delay() -> Axis {
    Axis::linear("delay one way (ms)", (-0.5, 20.5))
}

fn panels(found: &[(Job, Found)]) -> Vec<Panel> {
    let mut panels = Vec::new();
    let mut add = |title: String, x, unit, series: Vec<Series>| {
        let y = Axis::from_zero(unit, heights(&series));
        panels.push(Panel { title, x, y, series });
    };
    for (here, place_here) in PLACES.iter().enumerate() {
        let chosen = move |job: &Job| match *job {
            Job::Latency { place, mode, delay_ms, bandwidth: AMPLE } if place == here => {
                Some((mode.name(), delay_ms as f64))
            }
            _ => None,
        };
        let mut latencies = series(found, &chosen, &|found| found.mean_ms);
        let mut alone = series(found, &chosen, &|found| Some(found.alone_ms)).swap_remove(0);
        (alone.name, alone.style) = ("the network alone".into(), Style::Dashed);
        latencies.push(alone);
        let title = format!("mean latency at {}/s", place_here.rate_hz);
        add(title, over_delay(), "ms", latencies);
    }
    let planned = |here: usize| {
        move |job: &Job| match *job {
            Job::Plan { place, mode, delay_ms } if place == here => {
                Some((mode.name(), delay_ms as f64))
            }
            _ => None,
        }
    };
    for (here, place) in PLACES.iter().enumerate() {
        let rates = series(found, &planned(here), &|found| found.rate_hz);
        let title = format!("rate with the clients' p99 within {} ms", place.bound_ms);
        add(title, over_delay(), "images/s", rates);
    }
    for (here, place) in PLACES.iter().enumerate() {
        let lengths = series(found, &planned(here), &|found| found.batch_len_mean);
        let title = format!("mean batch at that rate, bound {} ms", place.bound_ms);
        add(title, over_delay(), "images", lengths);
    }
    panels.extend(more_panels(found));
    panels
}

/// Those that are of one of the devices.
fn more_panels(found: &[(Job, Found)]) -> Vec<Panel> {
    let from_zero = |title: String, x, unit, series: Vec<Series>| {
        let y = Axis::from_zero(unit, heights(&series));
        Panel { title, x, y, series }
    };
    let chosen = |job: &Job| match *job {
        Job::Latency { place: 0, mode, delay_ms: DELAY_MS, bandwidth } => {
            Some((mode.name(), bandwidth))
        }
        _ => None,
    };
    let title = format!("mean latency at {}/s", PLACES[0].rate_hz);
    let x = Axis::log("bandwidth over what requests need", (1.0, 20.0));
    let bandwidths = from_zero(title, x, "ms", series(found, &chosen, &|found| found.mean_ms));
    let chosen = |job: &Job| match *job {
        Job::Ahead { link, rate_hz } => Some((LINKS_GBIT[link].0, rate_hz)),
        _ => None,
    };
    let ratios = series(found, &chosen, &|found| found.announced_ratio);
    let announcements = Panel {
        title: "latency less the network's, announced over not".into(),
        x: Axis::log("requests/s", (450.0, 30_000.0)),
        y: Axis::around("ratio", heights(&ratios)),
        series: ratios,
    };
    let chosen = |job: &Job| match *job {
        Job::Hosts { balancer, load } => Some((BALANCERS[balancer].0, load)),
        _ => None,
    };
    let x = Axis::linear("load of each host", (0.25, 0.95));
    let title = "p99 latency behind a balancer".into();
    let hosts = from_zero(title, x, "ms", series(found, &chosen, &|found| found.p99_ms));
    let chosen = |job: &Job| match *job {
        Job::Closed { mode, delay_ms } => Some((mode.name(), delay_ms as f64)),
        _ => None,
    };
    let answered = series(found, &chosen, &|found| Some(found.rate_hz? * 1e-3));
    let title = format!("throughput of {CLIENT_LEN} clients that wait");
    let closed = from_zero(title, over_delay(), "thousand images/s", answered);
    vec![bandwidths, announcements, hosts, closed]
}

fn table(found: &[(Job, Found)]) -> Table {
    let columns = vec![
        "run",
        "device",
        "mode",
        "delay_ms",
        "bandwidth_ratio",
        "load",
        "rate_hz",
        "mean_ms",
        "p99_ms",
        "batch_len_mean",
        "link_share",
        "network_alone_ms",
        "announced_ratio",
    ];
    let row = |(job, found): &(Job, Found)| {
        let (run, place, mode, delay_ms, bandwidth, load) = match *job {
            Job::Latency { place, mode, delay_ms, bandwidth } => {
                ("latency", place, mode.name(), delay_ms, bandwidth, None)
            }
            Job::Plan { place, mode, delay_ms } => {
                ("plan", place, mode.name(), delay_ms, AMPLE, None)
            }
            Job::Hosts { balancer, load } => {
                ("hosts", 1, BALANCERS[balancer].0, 1, AMPLE, Some(load))
            }
            Job::Ahead { link, .. } => ("announced", 1, LINKS_GBIT[link].0, 0, f64::NAN, None),
            Job::Closed { mode, delay_ms } => ("closed", 1, mode.name(), delay_ms, AMPLE, None),
        };
        let figure = |figure: Option<f64>| figure.map_or(serde_json::Value::Null, value);
        vec![
            run.into(),
            PLACES[place].device.into(),
            mode.into(),
            delay_ms.into(),
            value(bandwidth),
            figure(load),
            figure(found.rate_hz),
            figure(found.mean_ms),
            figure(found.p99_ms),
            figure(found.batch_len_mean),
            figure(found.link_share),
            value(found.alone_ms),
            figure(found.announced_ratio),
        ]
    };
    Table { columns, rows: found.iter().map(row).collect() }
}
