//! Capacity plans: the largest rate at which a policy keeps its p99 latency within a bound.
//!
//! Poisson arrivals, and no request turned away. For `serial` on one device the answer is exact,
//! from the tail of the queue that takes all; for every other policy it is found by simulation.

use serde::Serialize;

use super::arrivals::{OpenLoop, Workload};
use super::bounds::{ServiceTimes, TakeAll};
use super::device::DeviceSpec;
use super::report::Report;
use super::summary::{SLOT_LEN, equip, setup};
use super::world::{Setup, run};
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

/// With several devices, slots for this many times the requests that are alive at the bound.
const SLOT_FACTOR: f64 = 4.0;

/// With several devices, arrivals for each of those that are alive at the bound, as a share of an
/// effort's: a rate that is a little too high shows after many times the bound only.
const ARRIVAL_SHARE: f64 = 1.0 / 2000.0;

/// The most devices behind one queue that are planned for: twice those of the largest hosts.
pub const DEVICE_LEN_MAX: usize = 32;

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

/// What is planned for: devices that are alike behind one queue, and what they are held to.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Each device.
    pub device: &'a DeviceSpec,
    /// How many of them; at least one.
    pub device_len: usize,
    /// Whether they share one link for their uploads.
    pub is_link_shared: bool,
    /// How batches are chosen.
    pub policy: PolicySpec,
    /// The bound on the p99 latency, in nanoseconds.
    pub latency_bound_ns: f64,
    /// Longest batch.
    pub batch_len_max: usize,
    /// Seed of the simulated arrivals.
    pub seed: u64,
}

impl<'a> Service<'a> {
    /// One device, held to a bound.
    pub fn new(
        device: &'a DeviceSpec,
        policy: PolicySpec,
        latency_bound_ns: f64,
        batch_len_max: usize,
        seed: u64,
    ) -> Self {
        let (device_len, is_link_shared) = (1, false);
        Self { device, device_len, is_link_shared, policy, latency_bound_ns, batch_len_max, seed }
    }

    /// What the compute engines can do with the longest batches, in images a second.
    pub fn capacity_hz(&self) -> f64 {
        let one_hz = ServiceTimes::compute(self.device, self.batch_len_max).capacity_hz();
        one_hz * self.device_len as f64
    }

    /// It at such a rate.
    pub(super) fn world(&self, rate_hz: f64, effort: &Effort) -> Setup {
        let Self { device, device_len, batch_len_max, seed, .. } = *self;
        let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
        let mut world = setup(device, &workload, self.policy, batch_len_max, seed);
        world.arrival_len_max = effort.arrival_len;
        if device_len > 1 {
            equip(&mut world, vec![device.clone(); device_len]);
            world.is_link_shared = self.is_link_shared;
            let alive_len = rate_hz * self.latency_bound_ns * 1e-9;
            world.config.slot_len = SLOT_LEN.max((SLOT_FACTOR * alive_len) as usize);
            let least_len = ARRIVAL_SHARE * effort.arrival_len as f64 * alive_len;
            world.arrival_len_max = effort.arrival_len.max(least_len as u64);
        }
        world
    }

    /// Whether a run kept the bound, and turned none away.
    pub(super) fn is_held_by(&self, report: &Report) -> bool {
        p99_ns(report) <= self.latency_bound_ns && report.rejected_len == 0
    }
}

pub(super) fn p99_ns(report: &Report) -> f64 {
    report.latencies.quantile_ns(QUANTILE) as f64
}

/// Plans for one policy.
pub fn plan(service: &Service<'_>) -> Plan {
    let Service { device, policy, latency_bound_ns, batch_len_max, .. } = *service;
    let mut plan = Plan::none(service);
    let serial = ServiceTimes::serial(device, batch_len_max);
    if serial.at_ns(1) > latency_bound_ns {
        return plan;
    }
    let is_noisy = device.jitter > 0.0 || device.outliers.is_some() || !device.drift.is_empty();
    if (policy, service.device_len) == (PolicySpec::Serial, 1)
        && !is_noisy
        && let Some(queue) = TakeAll::largest_within(&serial, QUANTILE, latency_bound_ns)
        && queue.batch_len_quantile(1.0 - 1e-6) < batch_len_max
    {
        plan.method = "exact";
        plan.rate_hz = Some(queue.rate_hz());
        plan.p99_ms = Some(queue.quantile_ns(QUANTILE) * 1e-6);
        plan.batch_len_mean = Some(queue.batch_len_mean());
        plan.batch_len_high = Some(queue.batch_len_quantile(QUANTILE));
    } else if let Some((rate_hz, report)) = simulated(service, &EXACTLY) {
        plan.fill(rate_hz, &report);
    }
    plan.capacity_share = plan.rate_hz.map(|rate_hz| rate_hz / service.capacity_hz());
    plan
}

impl Plan {
    /// None found, so far.
    pub(super) fn none(service: &Service<'_>) -> Self {
        Self {
            policy: service.policy.to_string(),
            method: "simulated",
            latency_bound_ms: service.latency_bound_ns * 1e-6,
            rate_hz: None,
            capacity_share: None,
            p99_ms: None,
            batch_len_mean: None,
            batch_len_high: None,
            seed: service.seed,
        }
    }

    /// What a run at this rate shows.
    pub(super) fn fill(&mut self, rate_hz: f64, report: &Report) {
        self.rate_hz = Some(rate_hz);
        self.p99_ms = Some(p99_ns(report) * 1e-6);
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
    let service = Service::new(device, policy, latency_bound_ns, batch_len_max, 1);
    simulated(&service, &ABOUT).map(|(rate_hz, _)| rate_hz)
}

/// The largest rate within the bound, and its run.
fn simulated(service: &Service<'_>, effort: &Effort) -> Option<(f64, Report)> {
    let run_at = |rate_hz| run(&service.world(rate_hz, effort), ());
    largest_within(service, service.capacity_hz(), effort.precision, run_at)
}

/// The largest rate below `first_hz` at which a run keeps the bound, by bisection, and that run.
pub(super) fn largest_within(
    service: &Service<'_>,
    first_hz: f64,
    precision: f64,
    run_at: impl Fn(f64) -> Report,
) -> Option<(f64, Report)> {
    let (mut low_hz, mut high_hz) = (0.0, first_hz);
    let mut found = None;
    while high_hz - low_hz > precision * high_hz && high_hz > LOWEST * first_hz {
        // Far below capacity no precision is lost on the way down.
        let is_far = low_hz == 0.0 && high_hz < first_hz;
        let rate_hz = if is_far { high_hz / 8.0 } else { 0.5 * (low_hz + high_hz) };
        let report = run_at(rate_hz);
        if !service.is_held_by(&report) {
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

    fn planned(device: &DeviceSpec, policy: PolicySpec, bound_ns: f64) -> Plan {
        plan(&Service::new(device, policy, bound_ns, 256, 1))
    }

    /// The exact plan against the simulated one: one queue, two methods.
    #[test]
    fn the_exact_plan_holds_in_simulation() {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        let exact = planned(&device, PolicySpec::Serial, 5e6);
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
        let plans = [6e6, 7e6, 12e6].map(|ns| planned(&device, PolicySpec::Serial, ns));
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
        for found in policies.map(|policy| planned(&device, policy, 560e3)) {
            let rate_hz = found.rate_hz.expect("one image alone is in time");
            assert!((15.0..25.0).contains(&rate_hz), "{found:?}");
        }
        // One that waits for longer than the bound never keeps it.
        let waiting = planned(&device, "fixed:delay=1ms".parse().unwrap(), 560e3);
        assert_eq!((waiting.rate_hz, waiting.p99_ms), (None, None));
    }

    /// Up to capacity, and down to where hardly any image may meet another, which is rare enough
    /// for chance to count.
    #[test]
    fn the_rate_about_is_that_of_the_plan() {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        let ratios = [700e3, 1e6, 2e6, 5e6, 50e6].map(|bound_ns| {
            let service = Service::new(&device, PolicySpec::Stream, bound_ns, 256, 7);
            let exact_hz = plan(&service).rate_hz.unwrap();
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
            assert_eq!(planned(&device, policy, 1e6).rate_hz, None, "{policy}");
        }
    }
}
