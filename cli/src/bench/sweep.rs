//! A rate that rises until a policy no longer keeps up, and the knee on the way.
//!
//! The knee is the rate with the most "power", throughput over mean latency: below it more load
//! costs little latency, beyond it latency rises faster than throughput. Source: L. Kleinrock,
//! "Power and deterministic rules of thumb for probabilistic problems in computer communications",
//! ICC 1979. The first rate is none, for what is before it was not measured.

use twinstream::sched::PolicySpec;
use twinstream::sim::arrivals::{OpenLoop, Workload};

use super::measure::{Bench, Measured};
use crate::output::tell;
use crate::table;
use crate::words::Arrivals;

/// From one rate to the next.
const STEP: f64 = 1.25;
/// Rates tried at most: up to 2,600 times the first.
const STEP_LEN_MAX: usize = 36;
/// A policy keeps up while it answers this share of the requests, as fast as they come.
const KEPT_UP: f64 = 0.95;

/// Measures rate after rate; the last run is the first that did not keep up.
pub(super) fn sweep(
    bench: &Bench,
    policy: PolicySpec,
    first: &OpenLoop,
) -> anyhow::Result<Vec<Measured>> {
    let mut runs: Vec<Measured> = Vec::new();
    let mut rate_hz = first.rate_hz();
    let mut is_kept_up = true;
    while is_kept_up && runs.len() < STEP_LEN_MAX {
        let (kind, open) = match first {
            OpenLoop::Uniform { .. } => ("uniform", OpenLoop::Uniform { rate_hz }),
            _ => ("poisson", OpenLoop::Poisson { rate_hz }),
        };
        let words = format!("{kind}:{rate_hz}");
        let found =
            bench.measure(&[policy], &Arrivals { words, workload: Workload::Open(open) })?;
        is_kept_up = found.iter().all(|run| keeps_up(bench, run));
        runs.extend(found);
        // Words and figures have it in full.
        rate_hz = table::round(rate_hz * STEP);
    }
    let power = |run: &Measured| run.summary.throughput_hz / run.summary.mean_ms.max(1e-9);
    let best = runs.iter().map(power).fold(0.0, f64::max);
    let knee = runs.iter().position(|run| power(run) == best).filter(|index| *index > 0);
    for (index, run) in runs.iter_mut().enumerate() {
        run.summary.is_knee = Some(Some(index) == knee);
    }
    if knee.is_none() {
        let first_hz = first.rate_hz();
        tell(format_args!(
            "warning: {policy}: no knee from {first_hz}/s on: start the sweep lower"
        ));
    }
    Ok(runs)
}

fn keeps_up(bench: &Bench, run: &Measured) -> bool {
    let figures = &run.summary;
    let counted_s = (bench.duration_ns - bench.warmup_ns) as f64 * 1e-9;
    let offered_hz = figures.offered as f64 / counted_s;
    figures.throughput_hz >= KEPT_UP * offered_hz
}
