//! Answers in time when more arrives than can be done, beside the fluid bound.

use super::load::{BATCH_LEN_MAX, DEVICE, capacity_hz, device};
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, simulated, value};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{OpenLoop, Workload};
use crate::sim::bounds::{self, ServiceTimes};
use crate::sim::summary::setup;
use crate::sim::world::run;

/// Arrival rates as a share of the compute engine's capacity.
const SHARES: [f64; 10] = [0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0];

const BOUNDS_MS: [f64; 2] = [5.0, 10.0];

const POLICIES: [PolicySpec; 4] =
    [PolicySpec::Serial, PolicySpec::Paper, PolicySpec::Jit, PolicySpec::Stream];

pub(super) fn overload(scale: &Scale, progress: &dyn Progress) -> Figure {
    let mut jobs = Vec::new();
    for bound_ms in BOUNDS_MS {
        for policy in POLICIES {
            jobs.extend(SHARES.map(|share| (bound_ms, policy, share)));
        }
    }
    let goodputs_hz = parallel::map(&jobs, progress, |&(bound_ms, policy, share)| {
        let workload = Workload::Open(OpenLoop::Poisson { rate_hz: share * capacity_hz() });
        let mut setup = setup(&device(), &workload, policy, BATCH_LEN_MAX, scale.seed);
        setup.config.latency_bound_ns = Some((bound_ms * 1e6) as u64);
        setup.arrival_len_max = scale.request_len / 2;
        run(&setup, ()).goodput_hz()
    });
    let times = ServiceTimes::compute(&device(), BATCH_LEN_MAX);
    let fluid_hz = |bound_ms: f64, share: f64| {
        let left_ns = bound_ms * 1e6 - bounds::transfers_ns(&device());
        bounds::fluid_goodput_hz(&times, share * capacity_hz(), left_ns)
    };
    let columns =
        vec!["latency_bound_ms", "capacity_share", "policy", "goodput_hz", "bound_hz", "ratio"];
    let mut table = Table { columns, rows: Vec::new() };
    for (&(bound_ms, policy, share), &goodput_hz) in jobs.iter().zip(&goodputs_hz) {
        let fluid_hz = fluid_hz(bound_ms, share);
        table.rows.push(vec![
            value(bound_ms),
            value(share),
            policy.name().into(),
            value(goodput_hz),
            value(fluid_hz),
            value(goodput_hz / fluid_hz),
        ]);
    }
    let mut panels = Vec::new();
    for bound_ms in BOUNDS_MS {
        let fluid = SHARES.map(|share| (100.0 * share, fluid_hz(bound_ms, share) * 1e-3)).to_vec();
        let mut series = vec![Series::new("fluid bound", Style::Dashed, fluid)];
        for policy in POLICIES {
            let points = jobs
                .iter()
                .zip(&goodputs_hz)
                .filter(|(job, _)| (job.0, job.1) == (bound_ms, policy))
                .map(|(job, goodput_hz)| (100.0 * job.2, goodput_hz * 1e-3))
                .collect();
            series.push(Series::new(policy.name(), Style::Marked, points));
        }
        panels.push(Panel {
            title: format!("answers within {bound_ms} ms"),
            x: Axis::linear("arrival rate (% of capacity)", (40.0, 210.0)),
            y: Axis::from_zero("thousand images/s", heights(&series).collect::<Vec<_>>()),
            series,
        });
    }
    let caption = format!(
        "Device {DEVICE}, Poisson arrivals, {} requests a point, admission and window drop at \
         work. 100 % is {:.1} thousand images/s, all that batches of {BATCH_LEN_MAX} can do. The \
         fluid bound has the latency bound less the transfers of one image.",
        scale.request_len / 2,
        capacity_hz() * 1e-3,
    );
    let title = "Overload: answers in time";
    let setting = simulated(DEVICE, scale.seed);
    Figure { name: "overload", title, setting, caption, panels, column_len: 2, table }
}
