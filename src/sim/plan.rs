//! Capacity plans: the largest rate at which a policy keeps its p99 latency within a bound.
//!
//! Poisson arrivals, and no request turned away. For `serial` the answer is exact, from the tail of
//! the queue that takes all; for every other policy it is found by simulation.

use serde::Serialize;

use super::arrivals::{OpenLoop, Workload};
use super::bounds::{ServiceTimes, TakeAll};
use super::device::DeviceSpec;
use super::report::Report;
use super::summary::setup;
use super::world::run;
use crate::sched::PolicySpec;

const QUANTILE: f64 = 0.99;

/// How much a search by simulation takes upon itself.
pub(super) struct Effort {
    /// Arrivals of each run.
    pub(super) arrival_len: u64,
    /// The search ends at this width, relative to the rate.
    pub(super) precision: f64,
}

/// 2,000 arrivals lie beyond the p99.
pub(super) const EXACTLY: Effort = Effort { arrival_len: 200_000, precision: 1e-3 };
/// 400 do: in some tenths of a second.
pub(super) const ABOUT: Effort = Effort { arrival_len: 40_000, precision: 1e-2 };

/// The lowest rate that is looked at, relative to capacity: images all but never meet.
const LOWEST: f64 = 1e-6;

/// The largest rate within a latency bound, and what it looks like: none of it where even images
/// that come alone miss the bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Name of the policy.
    pub policy: String,
    /// `exact` or `simulated`.
    pub method: &'static str,
    /// The bound on the p99 latency, in milliseconds.
    pub latency_bound_ms: f64,
    /// Arrivals a second.
    pub rate_hz: Option<f64>,
    /// The same as a share of what the compute engine can do with the longest batches.
    pub capacity_share: Option<f64>,
    /// The p99 latency at this rate, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Mean images in a batch at this rate.
    pub batch_len_mean: Option<f64>,
    /// Batch length that 99 % of the batches do not exceed; of a simulation, the longest batch.
    pub batch_len_high: Option<usize>,
    /// Seed of the simulation.
    pub seed: u64,
}

/// Plans for one policy on a device.
pub fn plan(
    device: &DeviceSpec,
    policy: PolicySpec,
    latency_bound_ns: f64,
    batch_len_max: usize,
    seed: u64,
) -> Plan {
    let capacity_hz = ServiceTimes::compute(device, batch_len_max).capacity_hz();
    let mut plan = Plan::none(policy, latency_bound_ns, seed);
    let serial = ServiceTimes::serial(device, batch_len_max);
    if serial.at_ns(1) > latency_bound_ns {
        return plan;
    }
    let is_noisy = device.jitter > 0.0 || device.outliers.is_some() || !device.drift.is_empty();
    if policy == PolicySpec::Serial
        && !is_noisy
        && let Some(queue) = TakeAll::largest_within(&serial, QUANTILE, latency_bound_ns)
        && queue.batch_len_quantile(1.0 - 1e-6) < batch_len_max
    {
        plan.method = "exact";
        plan.rate_hz = Some(queue.rate_hz());
        plan.p99_ms = Some(queue.quantile_ns(QUANTILE) * 1e-6);
        plan.batch_len_mean = Some(queue.batch_len_mean());
        plan.batch_len_high = Some(queue.batch_len_quantile(QUANTILE));
    } else {
        let found = simulated(device, policy, latency_bound_ns, batch_len_max, seed, &EXACTLY);
        if let Some((rate_hz, report)) = found {
            plan.fill(rate_hz, &report);
        }
    }
    plan.capacity_share = plan.rate_hz.map(|rate_hz| rate_hz / capacity_hz);
    plan
}

impl Plan {
    /// None found, so far.
    pub(super) fn none(policy: PolicySpec, latency_bound_ns: f64, seed: u64) -> Self {
        Self {
            policy: policy.to_string(),
            method: "simulated",
            latency_bound_ms: latency_bound_ns * 1e-6,
            rate_hz: None,
            capacity_share: None,
            p99_ms: None,
            batch_len_mean: None,
            batch_len_high: None,
            seed,
        }
    }

    /// What a run at this rate shows.
    pub(super) fn fill(&mut self, rate_hz: f64, report: &Report) {
        self.rate_hz = Some(rate_hz);
        self.p99_ms = Some(report.latencies.quantile_ns(QUANTILE) as f64 * 1e-6);
        self.batch_len_mean = Some(report.batch_len_mean());
        self.batch_len_high = Some(report.batch_len_max);
    }
}

/// The rate that [`plan`] would find, in some tenths of a second: to one or two percent, to some
/// ten where the bound is below twice what an image takes alone. For programs that look again and
/// again at a device whose times change. None where even images that
/// come alone miss the bound.
pub fn rate_about_hz(
    device: &DeviceSpec,
    policy: PolicySpec,
    latency_bound_ns: f64,
    batch_len_max: usize,
) -> Option<f64> {
    let seed = 1;
    let found = simulated(device, policy, latency_bound_ns, batch_len_max, seed, &ABOUT);
    found.map(|(rate_hz, _)| rate_hz)
}

/// The largest rate within the bound, and its run.
fn simulated(
    device: &DeviceSpec,
    policy: PolicySpec,
    latency_bound_ns: f64,
    batch_len_max: usize,
    seed: u64,
    effort: &Effort,
) -> Option<(f64, Report)> {
    let capacity_hz = ServiceTimes::compute(device, batch_len_max).capacity_hz();
    largest_within(latency_bound_ns, capacity_hz, effort.precision, |rate_hz| {
        let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
        let mut world = setup(device, &workload, policy, batch_len_max, seed);
        world.arrival_len_max = effort.arrival_len;
        run(&world, ())
    })
}

/// The largest rate below `capacity_hz` at which a run keeps the bound, by bisection, and that run.
pub(super) fn largest_within(
    latency_bound_ns: f64,
    capacity_hz: f64,
    precision: f64,
    run_at: impl Fn(f64) -> Report,
) -> Option<(f64, Report)> {
    let (mut low_hz, mut high_hz) = (0.0, capacity_hz);
    let mut found = None;
    while high_hz - low_hz > precision * high_hz && high_hz > LOWEST * capacity_hz {
        // Far below capacity no precision is lost on the way down.
        let is_far = low_hz == 0.0 && high_hz < capacity_hz;
        let rate_hz = if is_far { high_hz / 8.0 } else { 0.5 * (low_hz + high_hz) };
        let report = run_at(rate_hz);
        let p99_ns = report.latencies.quantile_ns(QUANTILE) as f64;
        if p99_ns > latency_bound_ns || report.rejected_len > 0 {
            high_hz = rate_hz;
            continue;
        }
        low_hz = rate_hz;
        found = Some((rate_hz, report));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact plan against the simulated one: one queue, two methods.
    #[test]
    fn the_exact_plan_holds_in_simulation() {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        let exact = plan(&device, PolicySpec::Serial, 5e6, 256, 1);
        assert_eq!(exact.method, "exact");
        let rate_hz = exact.rate_hz.unwrap();
        let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
        let mut world = setup(&device, &workload, PolicySpec::Serial, 256, 1);
        world.arrival_len_max = 600_000;
        let p99_ms = run(&world, ()).latencies.quantile_ns(QUANTILE) as f64 * 1e-6;
        assert!((p99_ms / 5.0 - 1.0).abs() < 0.02, "p99 {p99_ms} ms at {rate_hz} /s");
    }

    /// The exact queue knows no longest batch: where that counts, the plan is simulated, and a
    /// longer bound never means a lower rate.
    #[test]
    fn longer_bounds_carry_more_up_to_capacity() {
        let device: DeviceSpec = "h100".parse().unwrap();
        let plans = [6e6, 7e6, 12e6].map(|ns| plan(&device, PolicySpec::Serial, ns, 256, 1));
        assert!(
            plans.iter().all(|plan| plan.p99_ms > Some(0.9 * plan.latency_bound_ms)),
            "{plans:?}"
        );
        assert!(plans.is_sorted_by(|one, other| one.rate_hz < other.rate_hz), "{plans:?}");
        assert_eq!(plans.map(|plan| plan.method), ["exact", "simulated", "simulated"]);
    }

    /// One image alone takes 553.1 us, so that hardly any may meet another.
    #[test]
    fn a_bound_close_to_that_of_one_image_carries_little_but_something() {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        let policies = [PolicySpec::Serial, PolicySpec::Stream];
        for found in policies.map(|policy| plan(&device, policy, 560e3, 256, 1)) {
            let rate_hz = found.rate_hz.expect("one image alone is in time");
            assert!((15.0..25.0).contains(&rate_hz), "{found:?}");
        }
        // One that waits for longer than the bound never keeps it.
        let waiting = plan(&device, "fixed:delay=1ms".parse().unwrap(), 560e3, 256, 1);
        assert_eq!((waiting.rate_hz, waiting.p99_ms), (None, None));
    }

    /// Up to capacity, and down to where hardly any image may meet another, which is rare enough
    /// for chance to count.
    #[test]
    fn the_rate_about_is_that_of_the_plan() {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        let ratios = [700e3, 1e6, 2e6, 5e6, 50e6].map(|bound_ns| {
            let exact_hz = plan(&device, PolicySpec::Stream, bound_ns, 256, 7).rate_hz.unwrap();
            rate_about_hz(&device, PolicySpec::Stream, bound_ns, 256).unwrap() / exact_hz
        });
        let (rare, usual) = ratios.split_at(2);
        assert!(rare.iter().all(|ratio| (0.8..1.25).contains(ratio)), "{ratios:?}");
        assert!(usual.iter().all(|ratio| (0.98..1.02).contains(ratio)), "{ratios:?}");
        assert_eq!(rate_about_hz(&device, PolicySpec::Stream, 500e3, 256), None);
    }

    #[test]
    fn an_impossible_bound_leaves_no_rate() {
        let device: DeviceSpec = "gtx-1080ti".parse().unwrap();
        for policy in [PolicySpec::Serial, PolicySpec::Stream] {
            assert_eq!(plan(&device, policy, 1e6, 256, 1).rate_hz, None, "{policy}");
        }
    }
}
