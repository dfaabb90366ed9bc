//! `twinstream plan`: how much load devices carry within a latency bound, how few carry a load.

mod costs;
mod fleets;

use serde::Serialize;
use twinstream::sched::PolicySpec;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::network::{self, Network, NetworkPlan};
use twinstream::sim::plan::{Plan, Service, plan};
use twinstream::sim::words;

use self::costs::{Costs, Rates};
use crate::outcome::progress_bar;
use crate::table::{self, Column};
use crate::words::{Policies, check_bound, device_count, help_with_networks, place};

/// Find the largest rate that keeps the p99 latency within a bound, and the batches it implies; or,
/// for a rate, the smallest fleet that does, and the one that still does with one device lost.
///
/// Poisson arrivals. `serial` on one device is computed exactly, all else is simulated.
#[derive(clap::Args)]
#[command(after_long_help = help_with_networks())]
pub(crate) struct Args {
    /// Profile (gtx-1080ti, h100), file, or lines: up=12us+6us,compute=500us+25us,down=10us+100ns.
    #[arg(long)]
    device: DeviceSpec,
    /// So many such devices, behind one queue.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = device_count)]
    devices: usize,
    /// The devices' uploads share one link; else each has its own.
    #[arg(long)]
    shared_link: bool,
    /// Arrivals a second, such as 40k: find the smallest fleet that serves them within the bound,
    /// what is left of it after the loss of a device, and the one with a device to spare.
    #[arg(long, value_parser = words::rate_hz, conflicts_with = "devices")]
    rate: Option<f64>,
    #[command(flatten)]
    rates: Rates,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<usize>,
    #[serde(flatten)]
    plan: &'a P,
    #[serde(flatten)]
    costs: Costs,
    version: &'static str,
}

impl Args {
    fn row<'a, P>(&'a self, plan: &'a P, costs: Costs) -> Row<'a, P> {
        Row {
            device: &self.device.name,
            arrivals: "poisson",
            batch_len_max: self.batch_len_max,
            network: self.network.as_ref().map(ToString::to_string),
            devices: (self.devices > 1).then_some(self.devices),
            plan,
            costs,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn service(&self, policy: PolicySpec) -> Service<'_> {
        let (bound_ns, batch_len_max) = (self.latency_bound, usize::from(self.batch_len_max));
        let one = Service::new(&self.device, policy, bound_ns, batch_len_max, self.seed);
        Service { device_len: self.devices, is_link_shared: self.shared_link, ..one }
    }

    /// What takes the bound: so many such devices, and the way to them.
    fn place(&self, device_len: usize) -> String {
        let devices = place(&self.device.name, device_len);
        match &self.network {
            None => devices,
            Some(network) => format!("{devices} over {network}"),
        }
    }

    /// The network's part of the bound.
    fn way_ns(&self) -> f64 {
        self.network.as_ref().map_or(0, Network::alone_ns) as f64
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let alone_ns = args.device.alone_ns() + args.way_ns();
    check_bound(Some(args.latency_bound), alone_ns, &args.place(1))?;
    if let Some(rate_hz) = args.rate {
        return fleets::run(args, rate_hz);
    }
    let policies = &args.policies.0;
    let bar = progress_bar(policies.len(), false);
    let Some(network) = &args.network else {
        let plans: Vec<Plan> = policies
            .iter()
            .map(|&policy| plan(&args.service(policy)))
            .inspect(|_| bar.inc(1))
            .collect();
        bar.finish_and_clear();
        return show(args, &COLUMNS, &plans, |plan| plan);
    };
    let plans: Vec<NetworkPlan> = policies
        .iter()
        .map(|&policy| network::plan(network, &args.service(policy)))
        .inspect(|_| bar.inc(1))
        .collect();
    bar.finish_and_clear();
    show(args, &NETWORK_COLUMNS, &plans, |found| &found.plan)?;
    if let Some(binding) = plans.iter().find_map(|found| found.binding).filter(|_| !args.json) {
        table::print(&format!(
            "latencies are the clients'; the network alone takes {:.3} ms of the bound,\nand the \
             {binding} is full first",
            args.way_ns() * 1e-6
        ))?;
    }
    Ok(())
}

fn show<P: Serialize>(
    args: &Args,
    columns: &[Column<P>],
    plans: &[P],
    plan: fn(&P) -> &Plan,
) -> anyhow::Result<()> {
    let host_len = args.network.as_ref().map_or(1, |network| network.host_len);
    let device_len = args.devices * host_len;
    let costs = plans.iter().map(|found| args.rates.at(device_len, plan(found).rate_hz));
    if args.json {
        for (plan, costs) in plans.iter().zip(costs) {
            table::print(&table::json(&args.row(plan, costs))?)?;
        }
        return Ok(());
    }
    let (place, seed) = (args.place(args.devices), args.seed);
    table::print(&format!("{place} · seed {seed} · virtual time · Poisson arrivals"))?;
    let mut cells = table::columns(columns, plans);
    cells.extend(args.rates.columns(&costs.collect::<Vec<_>>()));
    table::print(&table::lay_out(&cells, 1))?;
    for Plan { policy, .. } in plans.iter().map(plan).filter(|plan| plan.rate_hz.is_none()) {
        table::print(&format!(
            "{policy}: even of images that come alone, over 1 % miss the bound"
        ))?;
    }
    args.rates.explain()
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
