//! Fleets for a rate: how few devices behind one queue serve it within a bound, and how many more
//! it takes to lose one.
//!
//! By simulation. A fleet serves the rate where a run at it keeps the bound, as a plan's does; one
//! that has lost a device is simulated with that device gone from the start.

use serde::Serialize;

use super::fleet::Outage;
use super::network::{self, Network};
use super::plan::{DEVICE_LEN_MAX, EXACTLY, Effort, Service, largest_within, p99_ns};
use super::report::Report;
use super::world::run;

/// A fleet at the rate asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetPlan {
    /// Devices in it.
    pub devices: usize,
    /// The p99 latency at that rate, in milliseconds; none at or beyond what it can compute.
    pub p99_ms: Option<f64>,
    /// Mean images in a batch at that rate, likewise.
    pub batch_len_mean: Option<f64>,
    /// The largest rate that it keeps within the bound, in arrivals a second.
    pub rate_max_hz: Option<f64>,
}

/// Fleets for one policy, a rate and a bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizing {
    /// Name of the policy.
    pub policy: String,
    /// The bound on the p99 latency, in milliseconds.
    pub latency_bound_ms: f64,
    /// The rate asked for, in arrivals a second.
    pub rate_hz: f64,
    /// What is left of the smallest fleet after the loss of one device; none: nothing.
    pub one_lost: Option<FleetPlan>,
    /// The smallest fleet that serves the rate within the bound; none: not even the largest that is
    /// planned for does.
    pub smallest: Option<FleetPlan>,
    /// The smallest that still does after the loss of one device.
    pub one_spare: Option<FleetPlan>,
    /// Seed of the simulation.
    pub seed: u64,
}

/// Finds the smallest fleets of a service's devices for a rate, behind a network if there is one;
/// how many devices the service has is of no consequence.
pub fn size(service: &Service<'_>, network: Option<&Network>, rate_hz: f64) -> Sizing {
    size_by(service, network, rate_hz, &EXACTLY)
}

fn size_by(
    service: &Service<'_>,
    network: Option<&Network>,
    rate_hz: f64,
    effort: &Effort,
) -> Sizing {
    let search = Search { service, network, rate_hz, effort };
    let smallest_len = search.smallest_len();
    let spare_len = smallest_len.and_then(|len| {
        (len + 1..=DEVICE_LEN_MAX).find(|&spare_len| search.holds(spare_len, Loss::One))
    });
    let left_len = smallest_len.map(|len| len - 1).filter(|&len| len > 0);
    Sizing {
        policy: service.policy.to_string(),
        latency_bound_ms: service.latency_bound_ns * 1e-6,
        rate_hz,
        one_lost: left_len.map(|len| search.fleet(len)),
        smallest: smallest_len.map(|len| search.fleet(len)),
        one_spare: spare_len.map(|len| search.fleet(len)),
        seed: service.seed,
    }
}

/// What a fleet has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    One,
}

struct Search<'a> {
    service: &'a Service<'a>,
    network: Option<&'a Network>,
    rate_hz: f64,
    effort: &'a Effort,
}

impl<'a> Search<'a> {
    fn of_len(&self, device_len: usize) -> Service<'a> {
        Service { device_len, ..*self.service }
    }

    /// More devices help, but for chance: by doubled steps up, then by bisection.
    fn smallest_len(&self) -> Option<usize> {
        let first_len = (self.rate_hz / self.of_len(1).capacity_hz()) as usize + 1;
        if first_len > DEVICE_LEN_MAX {
            return None;
        }
        let (mut low_len, mut len, mut step) = (first_len - 1, first_len, 1);
        while !self.holds(len, Loss::None) {
            if len == DEVICE_LEN_MAX {
                return None;
            }
            low_len = len;
            len = DEVICE_LEN_MAX.min(len + step);
            step *= 2;
        }
        while len - low_len > 1 {
            let middle_len = low_len.midpoint(len);
            match self.holds(middle_len, Loss::None) {
                true => len = middle_len,
                false => low_len = middle_len,
            }
        }
        Some(len)
    }

    /// Whether so many devices keep the bound at the rate asked for.
    fn holds(&self, device_len: usize, loss: Loss) -> bool {
        self.at_rate(device_len, loss).is_some_and(|report| self.service.is_held_by(&report))
    }

    /// A run at the rate asked for; none at or beyond what the devices can compute.
    fn at_rate(&self, device_len: usize, loss: Loss) -> Option<Report> {
        let left_len = device_len - usize::from(loss == Loss::One);
        let is_below = self.rate_hz < self.of_len(left_len).capacity_hz();
        is_below.then(|| self.run(&self.of_len(device_len), self.rate_hz, loss))
    }

    fn run(&self, service: &Service<'_>, rate_hz: f64, loss: Loss) -> Report {
        let mut world = service.world(rate_hz, self.effort);
        if loss == Loss::One {
            let lane = service.device_len - 1;
            world.outages = vec![Outage { lane, from_ns: 0, until_ns: None }];
        }
        match self.network {
            None => run(&world, ()),
            Some(network) => network::run(&world, network).clients,
        }
    }

    fn fleet(&self, device_len: usize) -> FleetPlan {
        let service = self.of_len(device_len);
        let report = self.at_rate(device_len, Loss::None);
        let p99_ms = report.as_ref().map(|report| p99_ns(report) * 1e-6);
        let batch_len_mean = report.as_ref().map(Report::batch_len_mean);
        let is_held = report.is_some_and(|report| service.is_held_by(&report));
        let link_hz = self.network.map_or(f64::INFINITY, Network::capacity_hz);
        let below = |high_hz| {
            let run_at = |rate_hz| self.run(&service, rate_hz, Loss::None);
            largest_within(&service, high_hz, self.effort.precision, run_at).map(|found| found.0)
        };
        // What a plan finds, but for chance close to the rate asked for.
        let largest_hz = below(service.capacity_hz().min(link_hz));
        let rate_max_hz = match (is_held, largest_hz) {
            (true, _) => Some(largest_hz.map_or(self.rate_hz, |hz| hz.max(self.rate_hz))),
            (false, Some(largest_hz)) if largest_hz >= self.rate_hz => below(self.rate_hz),
            (false, _) => largest_hz,
        };
        FleetPlan { devices: device_len, p99_ms, batch_len_mean, rate_max_hz }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::PolicySpec;
    use crate::sim::device::DeviceSpec;
    use crate::sim::plan::ABOUT;

    const DEVICE: &str = "up=12us+6us,compute=500us+25us,down=10us+100ns";

    fn rates(fleets: [&Option<FleetPlan>; 3]) -> [f64; 3] {
        fleets.map(|fleet| fleet.as_ref().and_then(|fleet| fleet.rate_max_hz).unwrap())
    }

    /// One fewer does not serve the rate, and one more has one to lose; with a link that all share,
    /// and behind a network, more are needed, or none are enough.
    #[test]
    fn the_smallest_fleet_serves_the_rate_and_one_fewer_does_not() {
        let device: DeviceSpec = DEVICE.parse().unwrap();
        let service = Service::new(&device, PolicySpec::Jit, 3e6, 256, 1);
        let own = size_by(&service, None, 80e3, &ABOUT);
        let [left_hz, smallest_hz, spare_hz] =
            rates([&own.one_lost, &own.smallest, &own.one_spare]);
        assert!(left_hz < 80e3 && 80e3 <= smallest_hz && smallest_hz < spare_hz, "{own:?}");
        let smallest = own.smallest.as_ref().unwrap();
        assert_eq!(own.one_lost.as_ref().unwrap().devices + 1, smallest.devices);
        assert_eq!(own.one_spare.as_ref().unwrap().devices, smallest.devices + 1);
        assert!(smallest.p99_ms <= Some(3.0), "{own:?}");
        // 11.5 us an image: 86,957 a second on one link.
        let narrow: DeviceSpec = DEVICE.replace("+6us", "+11500ns").parse().unwrap();
        let shared = Service { is_link_shared: true, device: &narrow, ..service };
        let shared = size_by(&shared, None, 80e3, &ABOUT)
            .smallest
            .expect("the link carries 86,957 a second");
        assert!(shared.devices > smallest.devices, "{shared:?} {own:?}");
        let far: Network = "delay=1ms".parse().unwrap();
        let far = size_by(&service, Some(&far), 80e3, &ABOUT).smallest.expect("1 ms is left");
        assert!(far.devices > smallest.devices, "{far:?} {own:?}");
        assert_eq!(size_by(&service, None, 40e3 * DEVICE_LEN_MAX as f64, &ABOUT).smallest, None);
    }

    /// A fleet that has lost one serves as those that are left do.
    #[test]
    fn a_lost_device_is_missed() {
        let device: DeviceSpec = DEVICE.parse().unwrap();
        let service = Service::new(&device, PolicySpec::Jit, 3e6, 256, 1);
        let search = Search { service: &service, network: None, rate_hz: 60e3, effort: &ABOUT };
        let p99_ns = |len, loss| p99_ns(&search.at_rate(len, loss).unwrap());
        let [two, one_of_three, three] =
            [(2, Loss::None), (3, Loss::One), (3, Loss::None)].map(|(len, loss)| p99_ns(len, loss));
        assert!((one_of_three / two - 1.0).abs() < 0.02, "{one_of_three} {two}");
        assert!(three < 0.7 * two, "{three} {two}");
        assert!(search.at_rate(2, Loss::One).is_none(), "one computes 37,000 a second");
    }

    /// One device alone has nothing left where it is lost.
    #[test]
    fn one_device_is_a_fleet_too() {
        let device: DeviceSpec = DEVICE.parse().unwrap();
        let service = Service::new(&device, PolicySpec::Stream, 5e6, 256, 1);
        let found = size_by(&service, None, 1e3, &ABOUT);
        assert_eq!(found.one_lost, None);
        assert_eq!(found.smallest.unwrap().devices, 1);
        assert_eq!(found.one_spare.unwrap().devices, 2);
    }
}
