//! A policy of one's own in the simulator, beside the library's default: a batch goes when so many
//! images wait, or the device idles. `cargo run --example policy`

use std::error::Error;

use twinstream::sched::{Decision, Policy, PolicySpec, Reason, View};
use twinstream::sim::arrivals::Workload;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::summary::setup;
use twinstream::sim::{Report, run, run_with_policy};

/// Uploads when the device has nothing to do or a batch of this length is full.
#[derive(Debug)]
struct Full(usize);

impl Policy for Full {
    fn upload(&self, view: &View<'_>) -> Decision {
        if view.is_idle() || view.waiting_len >= self.0 {
            Decision::Go { len: self.0, reason: Reason::Full }
        } else {
            Decision::HOLD
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device: DeviceSpec = "h100".parse()?;
    let workload: Workload = "poisson:20k".parse()?;
    let mut world = setup(&device, &workload, PolicySpec::default(), 256, 1);
    world.arrival_len_max = 100_000;
    let tell = |name: &str, report: &Report| {
        let (mean_ms, p99_ms) =
            (report.latencies.mean_ns() * 1e-6, report.latencies.quantile_ns(0.99) as f64 * 1e-6);
        println!("{name:8} mean {mean_ms:.2} ms, p99 {p99_ms:.2} ms");
    };
    tell("full", &run_with_policy(&world, Box::new(Full(32)), ()));
    tell("default", &run(&world, ()));
    Ok(())
}
