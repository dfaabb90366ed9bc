//! `twinstream bench`: policies under load in real time, side by side.

mod figures;
mod live_line;
mod measure;
mod sweep;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use twinstream::backend::BackendSpecs;
use twinstream::sim::arrivals::{OpenLoop, Workload};
use twinstream::sim::words;

use crate::files::{TRACE_LEN, write, write_trace};
use crate::live::{OpenOptions, warn_if_late};
use crate::options::parse_mebibytes;
use crate::outcome::Usage;
use crate::output::tell;
use crate::table::{self, Column};
use crate::words::{Arrivals, Policies, help_with_arrivals};
use crate::{charts, files};
use measure::{Bench, Measured, Summary};

/// Measure policies under load in real time, on a backend.
///
/// Open-loop latencies count from the moment a request was due, whatever held it up. docs/BENCH.md
/// says what is measured and how to read it.
#[derive(clap::Args)]
#[command(after_long_help = help_with_arrivals())]
pub(crate) struct Args {
    /// What computes: cpu (a real network on real images), cuda, null (nothing, at once) or
    /// sim:DEVICE (sleeps as long as the device would take; words as for `simulate --device`); or
    /// several, separated by commas, which serve one queue, such as cuda:0,cuda:1. cpu:2x1 is two
    /// teams of one thread.
    #[arg(long, value_name = "BACKEND")]
    backend: BackendSpecs,
    #[command(flatten)]
    open: OpenOptions,
    /// Policies to compare, separated by commas; `--help` lists them.
    #[arg(long, default_value = "serial,jit,stream")]
    policies: Policies,
    /// poisson:RATE, uniform:RATE, burst:…, steps:…, closed:N or trace:FILE; may be given several
    /// times.
    #[arg(long, required = true)]
    arrivals: Vec<Arrivals>,
    /// Raise the rate from that of the arrivals (poisson or uniform) step by step, until a policy
    /// no longer keeps up, and name its knee: the rate with the most throughput for its latency.
    #[arg(long)]
    sweep: bool,
    /// How long requests arrive.
    #[arg(long, default_value = "10s", value_parser = words::duration_ns)]
    duration: f64,
    /// Requests that are due before do not count.
    #[arg(long, default_value = "0s", value_parser = words::duration_ns)]
    warmup: f64,
    /// Latency bound of every request; what cannot meet it is rejected or expires.
    #[arg(long, value_parser = words::duration_ns)]
    latency_bound: Option<f64>,
    /// How long before it is due each request of an open loop leases its place: the engine knows of
    /// it as of an image that is being written.
    #[arg(long, default_value = "0s", value_parser = words::duration_ns)]
    announced: f64,
    /// Longest batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    batch_len_max: u16,
    /// Most requests alive at a time.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=32_768))]
    slots: u16,
    /// Room for the answers of images seen before, in MiB; the images are sent in turn, again and
    /// again [default: none]
    #[arg(long, value_name = "MIB", value_parser = parse_mebibytes)]
    cache: Option<usize>,
    /// Seed of arrivals and of a simulated device's noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a run instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write figures, latency distributions and charts to this folder; made if it isn't there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the latest 65,536 events of each run to this file, for Perfetto or Chromium;
    /// docs/TRACING.md says how to read it.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    check(args)?;
    let bench = Bench {
        opened: args.open.open(args.backend.clone())?,
        duration_ns: args.duration.round() as u64,
        warmup_ns: args.warmup.round() as u64,
        latency_bound_ns: args.latency_bound.map(|bound_ns| bound_ns.round() as u64),
        announced_ns: args.announced.round() as u64,
        batch_len_max: usize::from(args.batch_len_max),
        slot_len: usize::from(args.slots),
        cache_bytes: args.cache.unwrap_or(0),
        seed: args.seed,
        trace_len: args.trace.as_ref().map_or(0, |_| TRACE_LEN),
    };
    bench.check_bound()?;
    let policies = &args.policies.0;
    let mut runs = Vec::new();
    for arrivals in &args.arrivals {
        if !args.sweep {
            runs.extend(bench.measure(policies, arrivals)?);
            continue;
        }
        for &policy in policies {
            runs.extend(sweep::sweep(&bench, policy, single_rate(&arrivals.workload)?)?);
        }
    }
    runs.iter().for_each(warn);
    // First: a file that can't be written costs no figure.
    print(args, &runs)?;
    if let Some(path) = &args.csv {
        write(path, files::table_csv(&figures::table(&runs)?))?;
    }
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write(&folder.join("bench.csv"), files::table_csv(&figures::table(&runs)?))?;
        for figure in figures::figures(&runs)? {
            let name = figure.name;
            write(&folder.join(format!("{name}.csv")), files::points_csv(&figure))?;
            write(&folder.join(format!("{name}.svg")), &charts::svg(&figure)?)?;
        }
    }
    if let Some(path) = &args.trace {
        let traces: Vec<_> = runs.iter().map(Measured::named_trace).collect();
        write_trace(path, &traces)?;
    }
    Ok(())
}

/// Refuses options that contradict each other, before anything is opened.
fn check(args: &Args) -> Result<(), Usage> {
    args.open.check(Some(&args.backend))?;
    if args.warmup >= args.duration {
        return Err(Usage("--warmup leaves nothing of --duration; make it shorter".to_owned()));
    }
    if args.trace.is_some() && args.trace == args.csv {
        return Err(Usage("--trace and --csv name one file; name two".to_owned()));
    }
    let is_closed = |arrivals: &Arrivals| matches!(arrivals.workload, Workload::Closed(_));
    if args.announced > 0.0 && args.arrivals.iter().any(is_closed) {
        let what = "--announced needs arrivals that are known ahead; closed ones are not";
        return Err(Usage(what.to_owned()));
    }
    match args.sweep {
        true => args
            .arrivals
            .iter()
            .try_for_each(|arrivals| single_rate(&arrivals.workload).map(|_| ())),
        false => Ok(()),
    }
}

fn single_rate(workload: &Workload) -> Result<&OpenLoop, Usage> {
    match workload {
        Workload::Open(open @ (OpenLoop::Poisson { .. } | OpenLoop::Uniform { .. })) => Ok(open),
        _ => Err(Usage("--sweep raises one rate; write poisson:RATE or uniform:RATE".to_owned())),
    }
}

/// Says where the generator itself may have moved the figures, and what was cut short.
fn warn(run: &Measured) {
    let Summary { policy, arrivals, late_p99_ms, mean_ms, .. } = &run.summary;
    warn_if_late(&format!("{policy}, {arrivals}"), *late_p99_ms, *mean_ms);
    if run.is_cut {
        tell(format_args!(
            "warning: {policy}, {arrivals}: cut short, there were too many requests"
        ));
    }
}

fn print(args: &Args, runs: &[Measured]) -> anyhow::Result<()> {
    if args.json {
        for run in runs {
            table::print(&table::json(&run.summary)?)?;
        }
        return Ok(());
    }
    let summaries: Vec<Summary> = runs.iter().map(|run| run.summary.clone()).collect();
    let is_predicted = summaries[0].predicted_mean_ms.is_some();
    // Runs under one load need not name it in every row.
    let is_one_load = args.arrivals.len() == 1 && !args.sweep;
    let keys = KEYS.into_iter().take(if is_one_load { 1 } else { 2 });
    let key_len = keys.len();
    let columns: Vec<Column<Summary>> = keys
        .chain(KNEE.into_iter().filter(|_| args.sweep))
        .chain(COLUMNS)
        .chain(PREDICTED.into_iter().filter(|_| is_predicted))
        .collect();
    let backend = &summaries[0].backend;
    let load = if is_one_load { format!(" · {}", args.arrivals[0].words) } else { String::new() };
    table::print(&format!("{backend}{load} · seed {} · real time, this machine", args.seed))?;
    table::print(&table::text(&columns, key_len, &summaries))?;
    if summaries.iter().any(|row| row.is_knee == Some(true)) {
        table::print("knee: the rate with the most throughput for its mean latency")?;
    }
    for Summary { policy, arrivals, full, offered, .. } in
        summaries.iter().filter(|row| row.full > 0)
    {
        table::print(&format!(
            "{policy}, {arrivals}: {full} of {offered} requests found no slot: {} were in use \
             (--slots)",
            args.slots
        ))?;
    }
    Ok(())
}

/// What a row is: of one load, the first is enough.
const KEYS: [Column<Summary>; 2] =
    [("policy", |row| row.policy.clone()), ("arrivals", |row| row.arrivals.clone())];

const COLUMNS: [Column<Summary>; 12] = [
    ("mean ms", |row| format!("{:.3}", row.mean_ms)),
    ("p50 ms", |row| format!("{:.3}", row.p50_ms)),
    ("p90 ms", |row| format!("{:.3}", row.p90_ms)),
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

/// What the simulator says of the same device and arrivals.
const PREDICTED: [Column<Summary>; 2] = [
    ("simulated mean", |row| format!("{:.3}", row.predicted_mean_ms.unwrap_or(f64::NAN))),
    ("simulated p99", |row| format!("{:.3}", row.predicted_p99_ms.unwrap_or(f64::NAN))),
];

const KNEE: [Column<Summary>; 1] =
    [("", |row| if row.is_knee == Some(true) { "knee" } else { "" }.to_string())];
