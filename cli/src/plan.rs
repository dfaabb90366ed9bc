//! `twinstream plan`: how much load a device carries within a latency bound.

use serde::Serialize;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::network::{self, Network, NetworkPlan};
use twinstream::sim::plan::{Plan, plan};
use twinstream::sim::words;

use crate::outcome::progress_bar;
use crate::table::{self, Column};
use crate::words::{Policies, check_bound, help_with_networks};

/// Find the largest rate that keeps the p99 latency within a bound, and the batches it implies.
///
/// Poisson arrivals. `serial` is computed exactly, other policies are simulated.
#[derive(clap::Args)]
#[command(after_long_help = help_with_networks())]
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
    /// Network between the clients, whose latency the bound then is of, and the device:
    /// delay=5ms,bandwidth=10Gbit,…; `--help` lists the items.
    #[arg(long)]
    network: Option<Network>,
    /// Seed of the simulated arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a policy instead of a table.
    #[arg(long)]
    json: bool,
}

/// A plan, and what it is a plan for.
#[derive(Serialize)]
struct Row<'a, P> {
    device: &'a str,
    arrivals: &'static str,
    batch_len_max: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(flatten)]
    plan: &'a P,
    version: &'static str,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (device, batch_len_max) = (&args.device, usize::from(args.batch_len_max));
    let way_ns = args.network.as_ref().map_or(0, Network::alone_ns) as f64;
    let place = match &args.network {
        None => device.name.clone(),
        Some(network) => format!("{} over {network}", device.name),
    };
    check_bound(Some(args.latency_bound), device.alone_ns() + way_ns, &place)?;
    let (policies, bound_ns, seed) = (&args.policies.0, args.latency_bound, args.seed);
    let bar = progress_bar(policies.len(), false);
    let Some(network) = &args.network else {
        let plans: Vec<Plan> = policies
            .iter()
            .map(|&policy| plan(device, policy, bound_ns, batch_len_max, seed))
            .inspect(|_| bar.inc(1))
            .collect();
        bar.finish_and_clear();
        return show(args, &place, &COLUMNS, &plans, |plan| plan);
    };
    let plans: Vec<NetworkPlan> = policies
        .iter()
        .map(|&policy| network::plan(network, device, policy, bound_ns, batch_len_max, seed))
        .inspect(|_| bar.inc(1))
        .collect();
    bar.finish_and_clear();
    show(args, &place, &NETWORK_COLUMNS, &plans, |found| &found.plan)?;
    if let Some(binding) = plans.iter().find_map(|found| found.binding).filter(|_| !args.json) {
        table::print(&format!(
            "latencies are the clients'; the network alone takes {:.3} ms of the bound,\nand the \
             {binding} is full first",
            way_ns * 1e-6
        ))?;
    }
    Ok(())
}

fn show<P: Serialize>(
    args: &Args,
    place: &str,
    columns: &[Column<P>],
    plans: &[P],
    plan: fn(&P) -> &Plan,
) -> anyhow::Result<()> {
    if args.json {
        let network = args.network.as_ref().map(ToString::to_string);
        for plan in plans {
            let (batch_len_max, version) = (args.batch_len_max, env!("CARGO_PKG_VERSION"));
            let (device, network) = (&args.device.name, network.clone());
            let row = Row { device, arrivals: "poisson", batch_len_max, network, plan, version };
            table::print(&table::json(&row)?)?;
        }
        return Ok(());
    }
    table::print(&format!("{place} · seed {} · virtual time · Poisson arrivals", args.seed))?;
    table::print(&table::text(columns, 1, plans))?;
    for Plan { policy, .. } in plans.iter().map(plan).filter(|plan| plan.rate_hz.is_none()) {
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
    ("of capacity", |row| share(row.capacity_share)),
    ("p99 ms", |row| or_none(row.p99_ms, |p99_ms| format!("{p99_ms:.3}"))),
    ("mean batch", |row| or_none(row.batch_len_mean, |len| format!("{len:.1}"))),
    ("high batch", |row| or_none(row.batch_len_high, |len| len.to_string())),
];

fn share(share: Option<f64>) -> String {
    or_none(share, |share| format!("{:.1} %", 100.0 * share))
}

const NETWORK_COLUMNS: [Column<NetworkPlan>; 7] = [
    ("policy", |row| row.plan.policy.clone()),
    ("rate/s", |row| or_none(row.plan.rate_hz, |rate_hz| format!("{rate_hz:.1}"))),
    ("of capacity", |row| share(row.plan.capacity_share)),
    ("of link", |row| share(row.link_share)),
    ("p99 ms", |row| or_none(row.plan.p99_ms, |p99_ms| format!("{p99_ms:.3}"))),
    ("mean batch", |row| or_none(row.plan.batch_len_mean, |len| format!("{len:.1}"))),
    ("high batch", |row| or_none(row.plan.batch_len_high, |len| len.to_string())),
];
