//! Capacity plans over a network: the largest rate at which clients see a p99 within a bound.

use serde::Serialize;

use super::{Network, run};
use crate::sim::plan::{ABOUT, EXACTLY, Effort, Plan, Service, largest_within};

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

/// Plans for one policy on hosts behind a network, each with such devices, by simulation.
pub fn plan(network: &Network, service: &Service<'_>) -> NetworkPlan {
    largest(network, service, &EXACTLY)
}

/// The same to one or two percent, in a tenth of the time.
pub(in crate::sim) fn plan_about(network: &Network, service: &Service<'_>) -> NetworkPlan {
    largest(network, service, &ABOUT)
}

fn largest(network: &Network, service: &Service<'_>, effort: &Effort) -> NetworkPlan {
    let mut plan = Plan::none(service);
    let device_hz = service.capacity_hz() * network.host_len as f64;
    let link_hz = network.capacity_hz();
    if network.alone_ns() as f64 + service.device.alone_ns() <= service.latency_bound_ns {
        let full_hz = device_hz.min(link_hz);
        let run_at = |rate_hz| run(&service.world(rate_hz, effort), network).clients;
        let found = largest_within(service, full_hz, effort.precision, run_at);
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
    use crate::sched::PolicySpec;
    use crate::sim::device::DeviceSpec;

    fn planned(words: &str, bound_ns: f64) -> NetworkPlan {
        let device: DeviceSpec = "up=12us+6us,compute=500us+25us,down=10us+100ns".parse().unwrap();
        let service = Service::new(&device, PolicySpec::Stream, bound_ns, 256, 1);
        plan_about(&words.parse().unwrap(), &service)
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
