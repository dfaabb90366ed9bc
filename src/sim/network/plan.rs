//! Capacity plans over a network: the largest rate at which clients see a p99 within a bound.

use serde::Serialize;

use super::{Network, run};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{OpenLoop, Workload};
use crate::sim::bounds::ServiceTimes;
use crate::sim::device::DeviceSpec;
use crate::sim::plan::{ABOUT, EXACTLY, Effort, Plan, largest_within};
use crate::sim::summary::setup;

/// The largest rate within a bound on the latency that clients see.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkPlan {
    /// The rate over all hosts, and what it looks like; `p99_ms` is the clients'.
    #[serde(flatten)]
    pub plan: Plan,
    /// The rate as a share of what the link carries; 0 where it has no limit.
    pub link_share: Option<f64>,
    /// What is full first as the rate rises: `link` or `device`.
    pub binding: Option<&'static str>,
}

/// Plans for one policy on hosts behind a network, each with such a device, by simulation.
pub fn plan(
    network: &Network,
    device: &DeviceSpec,
    policy: PolicySpec,
    latency_bound_ns: f64,
    batch_len_max: usize,
    seed: u64,
) -> NetworkPlan {
    largest(network, device, policy, latency_bound_ns, batch_len_max, seed, &EXACTLY)
}

/// The same to one or two percent, in a tenth of the time.
pub(in crate::sim) fn plan_about(
    network: &Network,
    device: &DeviceSpec,
    policy: PolicySpec,
    latency_bound_ns: f64,
    batch_len_max: usize,
    seed: u64,
) -> NetworkPlan {
    largest(network, device, policy, latency_bound_ns, batch_len_max, seed, &ABOUT)
}

fn largest(
    network: &Network,
    device: &DeviceSpec,
    policy: PolicySpec,
    latency_bound_ns: f64,
    batch_len_max: usize,
    seed: u64,
    effort: &Effort,
) -> NetworkPlan {
    let mut plan = Plan::none(policy, latency_bound_ns, seed);
    let one_host_hz = ServiceTimes::compute(device, batch_len_max).capacity_hz();
    let device_hz = one_host_hz * network.host_len as f64;
    let link_hz = network.capacity_hz();
    if network.alone_ns() as f64 + device.alone_ns() <= latency_bound_ns {
        let full_hz = device_hz.min(link_hz);
        let found = largest_within(latency_bound_ns, full_hz, effort.precision, |rate_hz| {
            let workload = Workload::Open(OpenLoop::Poisson { rate_hz });
            let mut world = setup(device, &workload, policy, batch_len_max, seed);
            world.arrival_len_max = effort.arrival_len;
            run(&world, network).clients
        });
        if let Some((rate_hz, report)) = found {
            plan.fill(rate_hz, &report);
        }
    }
    plan.capacity_share = plan.rate_hz.map(|rate_hz| rate_hz / device_hz);
    let link_share = plan.rate_hz.map(|rate_hz| rate_hz / link_hz);
    let binding = plan.rate_hz.map(|_| if link_hz < device_hz { "link" } else { "device" });
    NetworkPlan { plan, link_share, binding }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(words: &str, bound_ns: f64) -> NetworkPlan {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        plan_about(&words.parse().unwrap(), &device, PolicySpec::Stream, bound_ns, 256, 1)
    }

    /// A delay takes its time off the bound; what the link carries is a bound of its own.
    #[test]
    fn a_plan_has_what_the_delay_leaves_and_what_the_link_carries() {
        let near = planned("delay=0s", 5e6);
        let far = planned("delay=20ms", 45e6);
        assert_eq!(near.plan.rate_hz, far.plan.rate_hz);
        assert_eq!((near.binding, near.link_share), (Some("device"), Some(0.0)));
        assert_eq!(planned("delay=20ms", 40e6).plan.rate_hz, None);
        let narrow = planned("delay=1ms,bandwidth=10Gbit", 10e6);
        let link_hz = 10e9 / 8.0 / 150_528.0;
        assert_eq!(narrow.binding, Some("link"));
        assert!(narrow.plan.rate_hz.unwrap() < link_hz && narrow.link_share > Some(0.9));
        let four = planned("delay=0s,hosts=4", 5e6);
        let ratio = four.plan.rate_hz.unwrap() / near.plan.rate_hz.unwrap();
        assert!((3.8..4.2).contains(&ratio), "{ratio}");
    }
}
