//! `twinstream plan`: how much load a device carries within a latency bound.

use serde::Serialize;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::plan::{Plan, plan};
use twinstream::sim::words;

use crate::outcome::progress_bar;
use crate::table::{self, Column};
use crate::words::{Policies, check_bound, help};

/// Find the largest rate that keeps the p99 latency within a bound, and the batches it implies.
///
/// Poisson arrivals. `serial` is computed exactly, other policies are simulated.
#[derive(clap::Args)]
#[command(after_long_help = help())]
pub(crate) struct Args {
    /// Profile (gtx-1080ti, h100), file, or lines: up=12us+6us,compute=500us+25us,down=10us+100ns.
    #[arg(long)]
    device: DeviceSpec,
    /// Bound on the p99 latency, such as 5ms.
    #[arg(long, value_parser = words::duration_ns)]
    latency_bound: f64,
    /// Policies to plan for, separated by commas; `--help` lists them.
    #[arg(long, default_value = "serial,jit,stream")]
    policies: Policies,
    /// Longest batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    batch_len_max: u16,
    /// Seed of the simulated arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a policy instead of a table.
    #[arg(long)]
    json: bool,
}

/// A plan, and what it is a plan for.
#[derive(Serialize)]
struct Row<'a> {
    device: &'a str,
    arrivals: &'static str,
    batch_len_max: u16,
    #[serde(flatten)]
    plan: &'a Plan,
    version: &'static str,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let device = &args.device.name;
    check_bound(Some(args.latency_bound), args.device.alone_ns(), device)?;
    let policies = &args.policies.0;
    let bar = progress_bar(policies.len(), false);
    let plans: Vec<Plan> = policies
        .iter()
        .map(|&policy| {
            let batch_len_max = usize::from(args.batch_len_max);
            let plan = plan(&args.device, policy, args.latency_bound, batch_len_max, args.seed);
            bar.inc(1);
            plan
        })
        .collect();
    bar.finish_and_clear();
    if args.json {
        for plan in &plans {
            let (batch_len_max, version) = (args.batch_len_max, env!("CARGO_PKG_VERSION"));
            let row = Row { device, arrivals: "poisson", batch_len_max, plan, version };
            table::print(&table::json(&row)?)?;
        }
        return Ok(());
    }
    table::print(&format!("{device} · seed {} · virtual time · Poisson arrivals", args.seed))?;
    table::print(&table::text(&COLUMNS, 1, &plans))?;
    for Plan { policy, .. } in plans.iter().filter(|plan| plan.rate_hz.is_none()) {
        table::print(&format!(
            "{policy}: even of images that come alone, over 1 % miss the bound"
        ))?;
    }
    Ok(())
}

/// A figure, or that there is none.
fn or_none<T>(figure: Option<T>, write: fn(T) -> String) -> String {
    figure.map_or_else(|| "none".to_owned(), write)
}

const COLUMNS: [Column<Plan>; 7] = [
    ("policy", |row| row.policy.clone()),
    ("method", |row| row.method.to_string()),
    ("rate/s", |row| or_none(row.rate_hz, |rate_hz| format!("{rate_hz:.1}"))),
    ("of capacity", |row| or_none(row.capacity_share, |share| format!("{:.1} %", 100.0 * share))),
    ("p99 ms", |row| or_none(row.p99_ms, |p99_ms| format!("{p99_ms:.3}"))),
    ("mean batch", |row| or_none(row.batch_len_mean, |len| format!("{len:.1}"))),
    ("high batch", |row| or_none(row.batch_len_high, |len| len.to_string())),
];
