//! What latency a device would have under a load, before there is either: the device is described
//! by the times of its stages. `cargo run --example simulate`

use std::error::Error;

use twinstream::sched::PolicySpec;
use twinstream::sim::arrivals::Workload;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::run;
use twinstream::sim::summary::setup;

fn main() -> Result<(), Box<dyn Error>> {
    // A stage takes a time of its own and a time an image.
    let device: DeviceSpec = "up=20us+5us,compute=1ms+100us,down=20us+1us,jitter=3%".parse()?;
    for rate_hz in [500, 2_000, 5_000, 8_000] {
        let workload: Workload = format!("poisson:{rate_hz}").parse()?;
        let mut world = setup(&device, &workload, PolicySpec::default(), 64, 1);
        world.arrival_len_max = 50_000;
        let report = run(&world, ());
        let p99_ms = report.latencies.quantile_ns(0.99) as f64 * 1e-6;
        let batch_len = report.batch_len_mean();
        println!("{rate_hz:5}/s: p99 {p99_ms:.2} ms in batches of {batch_len:.1}");
    }
    Ok(())
}
