//! The smallest fleets for a rate, side by side.

use serde::Serialize;
use twinstream::sim::plan::DEVICE_LEN_MAX;
use twinstream::sim::sizing::{FleetPlan, Sizing, size};

use super::costs::Costs;
use super::{Args, or_none, share};
use crate::outcome::{Usage, progress_bar};
use crate::table::{self, Column};

/// A fleet, and what it costs at the rate.
#[derive(Serialize)]
struct Fleet<'a> {
    #[serde(flatten)]
    plan: &'a FleetPlan,
    #[serde(flatten)]
    costs: Costs,
}

/// A policy's fleets, serialised.
#[derive(Serialize)]
struct Fleets<'a> {
    policy: &'a str,
    method: &'static str,
    latency_bound_ms: f64,
    rate_hz: f64,
    one_lost: Option<Fleet<'a>>,
    smallest: Option<Fleet<'a>>,
    one_spare: Option<Fleet<'a>>,
    seed: u64,
}

/// A line of the table.
struct Line {
    policy: String,
    name: &'static str,
    fleet: FleetPlan,
    /// The rate asked for, over what the fleet computes.
    load: f64,
    costs: Costs,
}

pub(super) fn run(args: &Args, rate_hz: f64) -> anyhow::Result<()> {
    check(args, rate_hz)?;
    let policies = &args.policies.0;
    let bar = progress_bar(policies.len(), false);
    let sizings: Vec<Sizing> = policies
        .iter()
        .map(|&policy| size(&args.service(policy), args.network.as_ref(), rate_hz))
        .inspect(|_| bar.inc(1))
        .collect();
    bar.finish_and_clear();
    if args.json { print_json(args, &sizings) } else { print(args, rate_hz, &sizings) }
}

/// Refuses what no number of devices helps, and what says nothing about a fleet.
fn check(args: &Args, rate_hz: f64) -> Result<(), Usage> {
    let Some(network) = &args.network else { return Ok(()) };
    if network.host_len > 1 {
        let message = "--rate finds the devices of one host; leave hosts= out of --network";
        return Err(Usage(message.to_owned()));
    }
    if rate_hz >= network.capacity_hz() {
        return Err(Usage(format!(
            "--rate is {rate_hz}/s, but the network carries {:.1}/s; allow more bandwidth",
            network.capacity_hz()
        )));
    }
    Ok(())
}

fn costs(args: &Args, fleet: &FleetPlan, rate_hz: f64) -> Costs {
    // What does not serve the rate has no cost at it.
    let is_served = fleet.rate_max_hz >= Some(rate_hz);
    args.rates.at(fleet.devices, is_served.then_some(rate_hz))
}

fn print_json(args: &Args, sizings: &[Sizing]) -> anyhow::Result<()> {
    for sizing in sizings {
        let Sizing { rate_hz, latency_bound_ms, seed, .. } = *sizing;
        let fleet = |plan| Fleet { plan, costs: costs(args, plan, rate_hz) };
        let fleets = Fleets {
            policy: &sizing.policy,
            method: "simulated",
            latency_bound_ms,
            rate_hz,
            one_lost: sizing.one_lost.as_ref().map(fleet),
            smallest: sizing.smallest.as_ref().map(fleet),
            one_spare: sizing.one_spare.as_ref().map(fleet),
            seed,
        };
        table::print(&table::json(&args.row(&fleets, Costs::default()))?)?;
    }
    Ok(())
}

fn print(args: &Args, rate_hz: f64, sizings: &[Sizing]) -> anyhow::Result<()> {
    table::print(&format!(
        "{} · {rate_hz}/s within {} ms · seed {} · virtual time · Poisson arrivals",
        args.place(1),
        table::round(args.latency_bound * 1e-6),
        args.seed
    ))?;
    let capacity_hz = args.service(args.policies.0[0]).capacity_hz();
    let lines = |sizing: &Sizing| {
        let Sizing { policy, one_lost, smallest, one_spare, .. } = sizing.clone();
        let fleets = [("one lost", one_lost), ("smallest", smallest), ("one spare", one_spare)];
        let line = |(name, fleet): (&'static str, Option<FleetPlan>)| {
            let fleet = fleet?;
            let load = rate_hz / (capacity_hz * fleet.devices as f64);
            let costs = costs(args, &fleet, rate_hz);
            Some(Line { policy: policy.clone(), name, fleet, load, costs })
        };
        fleets.into_iter().filter_map(line).collect::<Vec<_>>()
    };
    let lines: Vec<Line> = sizings.iter().flat_map(lines).collect();
    if !lines.is_empty() {
        let mut cells = table::columns(&COLUMNS, &lines);
        let costs: Vec<Costs> = lines.iter().map(|line| line.costs).collect();
        cells.extend(args.rates.columns(&costs));
        table::print(&table::lay_out(&cells, 2))?;
        table::print(
            "smallest: as few devices as keep the p99 within the bound; one lost: what is left of \
             them;\none spare: as few as still do with one lost",
        )?;
        args.rates.explain()?;
    }
    for Sizing { policy, smallest, one_spare, .. } in sizings {
        let lack = match (smallest, one_spare) {
            (Some(_), Some(_)) => continue,
            (Some(_), None) => " with one lost",
            (None, _) => "",
        };
        table::print(&format!(
            "{policy}: {DEVICE_LEN_MAX} devices behind one queue do not serve this rate within the \
             bound{lack}"
        ))?;
    }
    Ok(())
}

const COLUMNS: [Column<Line>; 7] = [
    ("policy", |row| row.policy.clone()),
    ("fleet", |row| row.name.to_owned()),
    ("devices", |row| row.fleet.devices.to_string()),
    ("load", |row| share(Some(row.load))),
    ("p99 ms", |row| or_none(row.fleet.p99_ms, |p99_ms| format!("{p99_ms:.3}"))),
    ("mean batch", |row| or_none(row.fleet.batch_len_mean, |len| format!("{len:.1}"))),
    ("rate max/s", |row| or_none(row.fleet.rate_max_hz, |rate_hz| format!("{rate_hz:.1}"))),
];
