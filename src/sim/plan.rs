//! Capacity plans: the largest rate at which a policy keeps its p99 latency within a bound.
//!
//! Poisson arrivals, and no request turned away. For `serial` the answer is exact, from the tail of
//! the queue that takes all; for every other policy it is found by simulation.

use serde::Serialize;

use super::arrivals::{OpenLoop, Workload};
use super::bounds::{ServiceTimes, TakeAll};
use super::device::DeviceSpec;
use super::summary::setup;
use super::world::run;
use crate::sched::PolicySpec;

const QUANTILE: f64 = 0.99;

/// Arrivals of each simulated run: 2,000 of them lie beyond the p99.
const ARRIVAL_LEN: u64 = 200_000;

/// The search by simulation ends at this width, relative to capacity.
const PRECISION: f64 = 1e-3;

/// The largest rate within a latency bound, and what it looks like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Name of the policy.
    pub policy: String,
    /// `exact` or `simulated`.
    pub method: &'static str,
    /// The bound on the p99 latency, in milliseconds.
    pub latency_bound_ms: f64,
    /// Arrivals a second; 0 when even a lone image takes longer than the bound.
    pub rate_hz: f64,
    /// The same as a share of what the compute engine can do with the longest batches.
    pub capacity_share: f64,
    /// The p99 latency at this rate, in milliseconds.
    pub p99_ms: f64,
    /// Mean images in a batch at this rate.
    pub batch_len_mean: f64,
    /// Batch length that 99 % of the batches do not exceed; of a simulation, the longest batch.
    pub batch_len_high: usize,
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
    let mut plan = Plan {
        policy: policy.to_string(),
        method: "simulated",
        latency_bound_ms: latency_bound_ns * 1e-6,
        rate_hz: 0.0,
        capacity_share: 0.0,
        p99_ms: 0.0,
        batch_len_mean: 0.0,
        batch_len_high: 0,
        seed,
    };
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
        plan.rate_hz = queue.rate_hz();
        plan.p99_ms = queue.quantile_ns(QUANTILE) * 1e-6;
        plan.batch_len_mean = queue.batch_len_mean();
        plan.batch_len_high = queue.batch_len_quantile(QUANTILE);
    } else {
        let (mut low_hz, mut high_hz) = (0.0, capacity_hz);
        while high_hz - low_hz > PRECISION * capacity_hz {
            let rate_hz = 0.5 * (low_hz + high_hz);
            let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
            let mut world = setup(device, &workload, policy, batch_len_max, seed);
            world.arrival_len_max = ARRIVAL_LEN;
            let report = run(&world, ());
            let p99_ns = report.latencies.quantile_ns(QUANTILE) as f64;
            if p99_ns > latency_bound_ns || report.rejected_len > 0 {
                high_hz = rate_hz;
                continue;
            }
            low_hz = rate_hz;
            plan.rate_hz = rate_hz;
            plan.p99_ms = p99_ns * 1e-6;
            plan.batch_len_mean = report.batch_len_mean();
            plan.batch_len_high = report.batch_len_max;
        }
    }
    plan.capacity_share = plan.rate_hz / capacity_hz;
    plan
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
        let workload = Workload::Open(OpenLoop::Poisson { rate_hz: exact.rate_hz });
        let mut world = setup(&device, &workload, PolicySpec::Serial, 256, 1);
        world.arrival_len_max = 600_000;
        let p99_ms = run(&world, ()).latencies.quantile_ns(QUANTILE) as f64 * 1e-6;
        assert!((p99_ms / 5.0 - 1.0).abs() < 0.02, "p99 {p99_ms} ms at {} /s", exact.rate_hz);
    }

    /// The exact queue knows no longest batch: where that counts, the plan is simulated, and a
    /// longer bound never means a lower rate.
    #[test]
    fn longer_bounds_carry_more_up_to_capacity() {
        let device: DeviceSpec = "h100".parse().unwrap();
        let plans = [6e6, 7e6, 12e6].map(|ns| plan(&device, PolicySpec::Serial, ns, 256, 1));
        assert!(plans.iter().all(|plan| plan.p99_ms > 0.9 * plan.latency_bound_ms), "{plans:?}");
        assert!(plans.is_sorted_by(|one, other| one.rate_hz < other.rate_hz), "{plans:?}");
        assert_eq!(plans.map(|plan| plan.method), ["exact", "simulated", "simulated"]);
    }

    #[test]
    fn an_impossible_bound_leaves_no_rate() {
        let device: DeviceSpec = "gtx-1080ti".parse().unwrap();
        for policy in [PolicySpec::Serial, PolicySpec::Stream] {
            assert_eq!(plan(&device, policy, 1e6, 256, 1).rate_hz, 0.0, "{policy}");
        }
    }
}
