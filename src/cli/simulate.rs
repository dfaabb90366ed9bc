//! `twinstream simulate`: policies on a simulated device, side by side with the bounds.

use std::thread;

use twinstream::sched::PolicySpec;
use twinstream::sim::arrivals::Workload;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::summary::{self, Bounds, Summary};
use twinstream::sim::{Setup, words};

use crate::outcome::progress_bar;
use crate::table::{self, Column};

/// Run policies on a simulated device in virtual time, beside the bounds.
///
/// Everything is simulated: no GPU is needed, and times are those of the device described.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Profile (gtx-1080ti, h100), file, or lines: up=12us+6us,compute=500us+25us,down=10us+100ns.
    #[arg(long)]
    device: DeviceSpec,
    /// Policies to compare, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "serial,jit,stream")]
    policies: Vec<PolicySpec>,
    /// poisson:RATE, uniform:RATE, burst:…, steps:…, closed:N or trace:FILE.
    #[arg(long)]
    arrivals: Workload,
    /// Virtual time during which requests arrive.
    #[arg(long, default_value = "100s", value_parser = words::duration_ns)]
    duration: f64,
    /// Latency bound of every request; what cannot meet it is rejected or expires.
    #[arg(long, value_parser = words::duration_ns)]
    latency_bound: Option<f64>,
    /// Longest batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    batch_len_max: u16,
    /// The scheduler's first idea of the stage times, relative to the device's.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    first_fit: f64,
    /// Seed of arrivals and device noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a policy instead of a table.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "write a factor above zero, such as 2".to_string())
}

impl Args {
    fn setup(&self, policy: PolicySpec) -> Setup {
        let batch_len_max = usize::from(self.batch_len_max);
        let mut setup =
            summary::setup(&self.device, &self.arrivals, policy, batch_len_max, self.seed);
        setup.duration_ns = self.duration.round() as u64;
        setup.config.latency_bound_ns = self.latency_bound.map(|bound| bound.round() as u64);
        summary::misjudge(&mut setup, self.first_fit);
        setup
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let bar = progress_bar(args.policies.len() + 1, false);
    // The bounds and the policies know nothing of each other: both cores have something to do.
    let (bounds, reports) = thread::scope(|scope| {
        let bounds = scope.spawn(|| {
            let bounds = Bounds::of(&args.setup(PolicySpec::default()));
            bar.inc(1);
            bounds
        });
        let simulate = |policy: &PolicySpec| {
            let report = twinstream::sim::run(&args.setup(*policy), ());
            bar.inc(1);
            report
        };
        let reports: Vec<_> = args.policies.iter().map(simulate).collect();
        (bounds.join().expect("the bounds do not panic"), reports)
    });
    bar.finish_and_clear();
    let summaries: Vec<Summary> = args
        .policies
        .iter()
        .zip(&reports)
        .map(|(policy, report)| Summary::new(&args.setup(*policy), report, &bounds))
        .collect();
    if args.json {
        for summary in &summaries {
            table::print(&serde_json::to_string(summary)?)?;
        }
        return Ok(());
    }
    table::print(&format!("{} · seed {} · virtual time", args.device.name, args.seed))?;
    table::print(&table::text(&COLUMNS, &summaries))?;
    let unit = |value: Option<f64>, unit: &str| match value {
        Some(value) => format!("{value:.3} {unit}"),
        None => "none".to_string(),
    };
    table::print(&format!(
        "bounds: mean {}, p99 {}, goodput {}",
        unit(bounds.mean_ms, "ms"),
        unit(bounds.p99_ms, "ms"),
        unit(bounds.goodput_hz, "/s"),
    ))?;
    Ok(())
}

const COLUMNS: [Column<Summary>; 12] = [
    ("policy", |row| row.policy.clone()),
    ("rate/s", |row| format!("{:.0}", row.rate_hz)),
    ("completed", |row| row.completed.to_string()),
    ("rejected", |row| row.rejected.to_string()),
    ("expired", |row| row.expired.to_string()),
    ("mean ms", |row| format!("{:.3}", row.mean_ms)),
    ("p50 ms", |row| format!("{:.3}", row.p50_ms)),
    ("p99 ms", |row| format!("{:.3}", row.p99_ms)),
    ("p99.9 ms", |row| format!("{:.3}", row.p999_ms)),
    ("max ms", |row| format!("{:.3}", row.max_ms)),
    ("goodput/s", |row| format!("{:.0}", row.goodput_hz)),
    ("batch", |row| format!("{:.1}", row.batch_len_mean)),
];
