//! `twinstream simulate`: policies on a simulated device, side by side with the bounds.

mod devices;

use std::path::PathBuf;
use std::thread;

use serde::Serialize;
use twinstream::sched::{PolicySpec, Trace};
use twinstream::sim::network::{self, Link, Network, NetworkReport};
use twinstream::sim::summary::{self, Bounds, Summary};
use twinstream::sim::{Report, Setup, Usage, words};

use self::devices::{Devices, Share};
use crate::files::{TRACE_LEN, write_trace};
use crate::outcome::progress_bar;
use crate::table::{self, Column};
use crate::words::{Arrivals, Policies, check_bound, help_with_arrivals_and_networks};

/// Run policies on a simulated device, or several, in virtual time, beside the bounds.
///
/// Everything is simulated: no GPU is needed, and times are those of the device described.
#[derive(clap::Args)]
#[command(after_long_help = help_with_arrivals_and_networks())]
pub(crate) struct Args {
    #[command(flatten)]
    devices: devices::Options,
    /// Policies to compare, separated by commas; `--help` lists them.
    #[arg(long, default_value = "serial,jit,stream")]
    policies: Policies,
    /// poisson:RATE, uniform:RATE, burst:…, steps:…, closed:N or trace:FILE.
    #[arg(long)]
    arrivals: Arrivals,
    /// Virtual time during which requests arrive.
    #[arg(long, default_value = "100s", value_parser = words::duration_ns)]
    duration: f64,
    /// Latency bound of every request; what cannot meet it is rejected or expires.
    #[arg(long, value_parser = words::duration_ns)]
    latency_bound: Option<f64>,
    /// Longest batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    batch_len_max: u16,
    /// Most requests alive at a time; what comes beyond is rejected.
    #[arg(long, default_value_t = summary::SLOT_LEN as u32,
        value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    slots: u32,
    /// The scheduler's first idea of the stage times, relative to the device's.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    first_fit: f64,
    /// How long before its arrival each request is announced, as a lease does while an image is
    /// written.
    #[arg(long, default_value = "0s", value_parser = words::duration_ns)]
    announced: f64,
    /// Network between the clients, at whom arrivals then are and latency counts, and the device:
    /// delay=5ms,bandwidth=10Gbit,…; `--help` lists the items.
    #[arg(long, conflicts_with_all = ["announced", "trace"])]
    network: Option<Network>,
    /// Seed of arrivals and device noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a policy instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the latest 65,536 events of each policy's run to this file, for Perfetto or Chromium;
    /// docs/TRACING.md says how to read it.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "write a factor above zero, such as 2".to_string())
}

/// What a network was to a run.
#[derive(Serialize)]
struct Crossed {
    network: String,
    /// Latencies in the hosts.
    host_mean_ms: f64,
    host_p50_ms: f64,
    host_p99_ms: f64,
    way_in_share: f64,
    way_out_share: f64,
}

impl Crossed {
    fn new(network: &Network, report: &NetworkReport) -> Self {
        let hosts = report.host_latencies();
        let quantile_ms = |quantile| hosts.quantile_ns(quantile) as f64 * 1e-6;
        let share = |way: &Link| way.busy_ns as f64 / report.clients.end_ns.max(1) as f64;
        Self {
            network: network.to_string(),
            host_mean_ms: hosts.mean_ns() * 1e-6,
            host_p50_ms: quantile_ms(0.5),
            host_p99_ms: quantile_ms(0.99),
            way_in_share: share(&report.way_in),
            way_out_share: share(&report.way_out),
        }
    }
}

/// A run, and what it was a run of.
#[derive(Serialize)]
struct Row<'a> {
    device: String,
    arrivals: &'a str,
    duration_s: f64,
    latency_bound_ms: Option<f64>,
    slots: u32,
    announced_ms: f64,
    #[serde(flatten)]
    summary: &'a Summary,
    #[serde(flatten)]
    crossed: &'a Option<Crossed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: &'a Option<Vec<Share>>,
    version: &'static str,
}

impl Args {
    fn setup(&self, devices: &Devices, policy: PolicySpec) -> Setup {
        let batch_len_max = usize::from(self.batch_len_max);
        let workload = &self.arrivals.workload;
        let mut setup =
            summary::setup(&devices.specs[0], workload, policy, batch_len_max, self.seed);
        summary::equip(&mut setup, devices.specs.clone());
        setup.is_link_shared = devices.is_link_shared;
        setup.outages.clone_from(&devices.outages);
        setup.duration_ns = self.duration.round() as u64;
        setup.config.latency_bound_ns = self.latency_bound.map(|bound| bound.round() as u64);
        setup.config.slot_len = self.slots as usize;
        setup.announced_ns = self.announced.round() as u64;
        setup.trace_len = self.trace.as_ref().map_or(0, |_| TRACE_LEN);
        summary::misjudge(&mut setup, self.first_fit);
        setup
    }

    fn row<'a>(&'a self, devices: &Devices, summary: &'a Summary, run: &'a Run) -> Row<'a> {
        Row {
            device: devices.place(),
            arrivals: &self.arrivals.words,
            duration_s: self.duration * 1e-9,
            latency_bound_ms: self.latency_bound.map(|bound_ns| bound_ns * 1e-6),
            slots: self.slots,
            announced_ms: self.announced * 1e-6,
            summary,
            crossed: &run.crossed,
            devices: &run.shares,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// A policy's run.
    fn run(&self, devices: &Devices, policy: PolicySpec) -> Run {
        let setup = self.setup(devices, policy);
        let (report, crossed, usage) = match &self.network {
            None => {
                let mut usage = Usage::new(setup.devices.len());
                (twinstream::sim::run(&setup, &mut usage), None, vec![usage])
            }
            Some(network) => {
                let report = network::run(&setup, network);
                let crossed = Crossed::new(network, &report);
                (report.clients, Some(crossed), report.usage)
            }
        };
        let is_behind_network = self.network.is_some();
        let shares = devices::shares(policy, devices, &usage, is_behind_network);
        Run { report, crossed, shares }
    }
}

/// What a policy's run came to.
struct Run {
    report: Report,
    crossed: Option<Crossed>,
    /// What each of several devices did.
    shares: Option<Vec<Share>>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let devices = args.devices.devices()?;
    check_bound(args.latency_bound, devices.alone_ns(), &devices.place())?;
    let policies = &args.policies.0;
    let bar = progress_bar(policies.len() + 1, false);
    // The bounds and the policies know nothing of each other: both cores have something to do.
    let (bounds, runs) = thread::scope(|scope| {
        let bounds = scope.spawn(|| {
            // They are of arrivals at the device.
            let bounds = match &args.network {
                None => Bounds::of(&args.setup(&devices, PolicySpec::default())),
                Some(_) => Bounds::default(),
            };
            bar.inc(1);
            bounds
        });
        let simulate = |policy: &PolicySpec| args.run(&devices, *policy);
        let runs: Vec<Run> = policies.iter().map(simulate).inspect(|_| bar.inc(1)).collect();
        (bounds.join().expect("the bounds do not panic"), runs)
    });
    bar.finish_and_clear();
    let summary = |(policy, run): (&PolicySpec, &Run)| {
        Summary::new(&args.setup(&devices, *policy), &run.report, &bounds)
    };
    let summaries: Vec<Summary> = policies.iter().zip(&runs).map(summary).collect();
    if args.json {
        for (summary, run) in summaries.iter().zip(&runs) {
            table::print(&table::json(&args.row(&devices, summary, run))?)?;
        }
    } else {
        print(args, &devices, &bounds, &summaries, &runs)?;
    }
    // Last: a file that can't be written costs no figure.
    let Some(path) = &args.trace else { return Ok(()) };
    let traced = policies.iter().zip(&runs);
    let traces: Vec<(String, &Trace)> =
        traced.map(|(policy, run)| (policy.to_string(), &run.report.trace)).collect();
    write_trace(path, &traces)
}

/// What the network was to each policy.
fn print_crossed(args: &Args, runs: &[Run]) -> anyhow::Result<()> {
    let Some(network) = &args.network else { return Ok(()) };
    table::print(&format!(
        "latencies are the clients', over the network\n{network},\nwhich alone adds {:.3} ms",
        network.alone_ns() as f64 * 1e-6
    ))?;
    for (policy, run) in args.policies.0.iter().zip(runs) {
        let Some(crossed) = &run.crossed else { continue };
        let Crossed { host_mean_ms, host_p99_ms, way_in_share, way_out_share, .. } = crossed;
        table::print(&format!(
            "{policy}: in the host mean {host_mean_ms:.3} ms, p99 {host_p99_ms:.3} ms;\n  link \
             busy {:.1} % on the way in, {:.1} % out",
            100.0 * way_in_share,
            100.0 * way_out_share,
        ))?;
    }
    Ok(())
}

fn print(
    args: &Args,
    devices: &Devices,
    bounds: &Bounds,
    summaries: &[Summary],
    runs: &[Run],
) -> anyhow::Result<()> {
    let (place, arrivals) = (devices.place(), &args.arrivals.words);
    table::print(&format!("{place} · {arrivals} · seed {} · virtual time", args.seed))?;
    table::print(&table::text(&COLUMNS, 1, summaries))?;
    if args.network.is_none() && devices.specs.len() == 1 {
        print_bounds(bounds, summaries)?;
    }
    for Summary { policy, full, offered, .. } in summaries.iter().filter(|row| row.full > 0) {
        table::print(&format!(
            "{policy}: {full} of {offered} requests found no slot: {} were in use (--slots)",
            args.slots
        ))?;
    }
    print_crossed(args, runs)?;
    for (Summary { policy, offered, .. }, run) in summaries.iter().zip(runs) {
        let lost_len = offered - run.report.ended_len();
        if lost_len > 0 {
            table::print(&format!("{policy}: {lost_len} of {offered} requests wait for a device"))?;
        }
    }
    let shares = runs.iter().filter_map(|run| run.shares.as_ref()).flatten();
    let shares: Vec<Share> = shares.cloned().collect();
    if shares.is_empty() { Ok(()) } else { devices::print(&shares) }
}

fn print_bounds(bounds: &Bounds, summaries: &[Summary]) -> anyhow::Result<()> {
    let unit = |value: Option<f64>, unit: &str| match value {
        Some(value) => format!("{value:.3} {unit}"),
        None => "none".to_string(),
    };
    table::print(&format!(
        "bounds: mean {}, p99 in order {}, giving up 1 % {},\ngoodput {}; best mean without \
         look-ahead {}",
        unit(bounds.mean_ms, "ms"),
        unit(bounds.p99_in_order_ms, "ms"),
        unit(bounds.p99_ms, "ms"),
        unit(bounds.goodput_hz, "/s"),
        unit(bounds.mean_without_look_ahead_ms, "ms"),
    ))?;
    let offered = summaries.iter().map(|row| row.offered).max().unwrap_or(0);
    if let Some(len) = bounds.arrival_len.filter(|len| (*len as u64) < offered) {
        table::print(&format!("bounds on mean and p99 are of the first {len} arrivals only"))?;
    }
    let best_ms = bounds.mean_without_look_ahead_ms.unwrap_or(0.0);
    let below: Vec<&str> = summaries
        .iter()
        .filter(|row| row.mean_ms < best_ms)
        .map(|row| row.policy.as_str())
        .collect();
    if !below.is_empty() {
        table::print(&format!(
            "mean below the best without look-ahead: {}; uploads in flight\ntell a little of the \
             future, and one seed's arrivals may be kinder than most\n(docs/SIMULATION.md, Bounds)",
            below.join(", ")
        ))?;
    }
    Ok(())
}

const COLUMNS: [Column<Summary>; 12] = [
    ("policy", |row| row.policy.clone()),
    ("mean ms", |row| format!("{:.3}", row.mean_ms)),
    ("p50 ms", |row| format!("{:.3}", row.p50_ms)),
    ("p99 ms", |row| format!("{:.3}", row.p99_ms)),
    ("p99.9 ms", |row| format!("{:.3}", row.p999_ms)),
    ("max ms", |row| format!("{:.3}", row.max_ms)),
    ("batch", |row| format!("{:.1}", row.batch_len_mean)),
    ("goodput/s", |row| format!("{:.0}", row.goodput_hz)),
    ("rate/s", |row| format!("{:.0}", row.rate_hz)),
    ("completed", |row| row.completed.to_string()),
    ("rejected", |row| row.rejected.to_string()),
    ("expired", |row| row.expired.to_string()),
];
