//! The simulator and the planner, by the command's words.
//!
//! What they find goes to Python as JSON: the library says which figures there are.

use std::thread;

use pyo3::prelude::*;
use serde::Serialize;
use twinstream::Error;
use twinstream::sched::PolicySpec;
use twinstream::sim::arrivals::Workload;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::plan::{self, Service};
use twinstream::sim::summary::{self, Bounds, Summary};
use twinstream::sim::{self, words};

use crate::errors;

/// A duration in words, such as `5ms`, or in seconds.
#[derive(FromPyObject)]
pub(crate) enum Time {
    Words(String),
    Seconds(f64),
}

impl Time {
    fn ns(&self, name: &str) -> PyResult<f64> {
        match self {
            Self::Words(words) => {
                words::duration_ns(words).map_err(|error| errors::library(&error))
            }
            Self::Seconds(seconds) if seconds.is_finite() && *seconds >= 0.0 => Ok(seconds * 1e9),
            Self::Seconds(seconds) => Err(errors::value(name, "a time from 0", seconds)),
        }
    }
}

fn read<T: std::str::FromStr<Err = Error>>(words: &str) -> PyResult<T> {
    words.parse().map_err(|error| errors::library(&error))
}

fn read_policies(words: &str) -> PyResult<Vec<PolicySpec>> {
    PolicySpec::list(words).map_err(|error| errors::value("policies", "policies' specs", error))
}

fn json(figures: &impl Serialize) -> String {
    serde_json::to_string(figures).expect("figures are text and numbers")
}

/// Runs policies in virtual time: a JSON object each.
#[pyfunction]
#[pyo3(signature = (device, arrivals, policies, *, duration, latency_bound, batch_len_max, slot_len,
    first_fit, announced, seed))]
#[expect(clippy::too_many_arguments, reason = "keywords")]
pub(crate) fn simulate(
    py: Python<'_>,
    device: &str,
    arrivals: &str,
    policies: &str,
    duration: Time,
    latency_bound: Option<Time>,
    batch_len_max: u16,
    slot_len: u32,
    first_fit: f64,
    announced: Time,
    seed: u64,
) -> PyResult<Vec<String>> {
    let (device, workload): (DeviceSpec, Workload) = (read(device)?, read(arrivals)?);
    let policies = read_policies(policies)?;
    let duration_ns = duration.ns("duration")?.round() as u64;
    let announced_ns = announced.ns("announced")?.round() as u64;
    let bound_ns = latency_bound.map(|bound| bound.ns("latency_bound")).transpose()?;
    check_len(batch_len_max)?;
    if !(1..=1 << 20).contains(&slot_len) {
        return Err(errors::value("slot_len", "1 to 1048576", slot_len));
    }
    if !(first_fit.is_finite() && first_fit > 0.0) {
        return Err(errors::value("first_fit", "a factor above 0", first_fit));
    }
    let setup = |policy: PolicySpec| {
        let batch_len_max = usize::from(batch_len_max);
        let mut setup = summary::setup(&device, &workload, policy, batch_len_max, seed);
        setup.duration_ns = duration_ns;
        setup.config.latency_bound_ns = bound_ns.map(|bound_ns| bound_ns.round() as u64);
        setup.config.slot_len = slot_len as usize;
        setup.announced_ns = announced_ns;
        summary::misjudge(&mut setup, first_fit);
        setup
    };
    let run = || {
        thread::scope(|scope| {
            let bounds = scope.spawn(|| Bounds::of(&setup(PolicySpec::default())));
            let run = |policy: &PolicySpec| sim::run(&setup(*policy), ());
            let reports: Vec<_> = policies.iter().map(run).collect();
            let bounds = bounds.join().expect("the bounds do not panic");
            let summary = |(policy, report): (&PolicySpec, _)| {
                json(&Summary::new(&setup(*policy), report, &bounds))
            };
            policies.iter().zip(&reports).map(summary).collect()
        })
    };
    Ok(py.detach(run))
}

fn check_len(batch_len_max: u16) -> PyResult<()> {
    match batch_len_max {
        0 => Err(errors::value("batch_len_max", "1 to 65535", 0)),
        _ => Ok(()),
    }
}

/// Finds the largest rate within a latency bound: a JSON object for each policy.
#[pyfunction]
#[pyo3(signature = (device, latency_bound, policies, *, batch_len_max, seed))]
pub(crate) fn plan_rates(
    py: Python<'_>,
    device: &str,
    latency_bound: Time,
    policies: &str,
    batch_len_max: u16,
    seed: u64,
) -> PyResult<Vec<String>> {
    let device: DeviceSpec = read(device)?;
    let policies = read_policies(policies)?;
    let bound_ns = latency_bound.ns("latency_bound")?;
    check_len(batch_len_max)?;
    let mut plans = Vec::with_capacity(policies.len());
    for policy in policies {
        let batch_len_max = usize::from(batch_len_max);
        let service = Service::new(&device, policy, bound_ns, batch_len_max, seed);
        let plan = || plan::plan(&service);
        plans.push(json(&py.detach(plan)));
        py.check_signals()?;
    }
    Ok(plans)
}
