//! Clients that wait for their answers: throughput and latency over their number.

use super::load::{BATCH_LEN_MAX, DEVICE, device};
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, heights, simulated, value};
use crate::sched::PolicySpec;
use crate::sim::arrivals::{ClosedLoop, Workload};
use crate::sim::summary::setup;
use crate::sim::world::run;

const CLIENT_LENS: [usize; 16] = [1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768];

const POLICIES: [PolicySpec; 3] = [PolicySpec::Serial, PolicySpec::Jit, PolicySpec::Stream];

struct Point {
    throughput_hz: f64,
    mean_ms: f64,
    batch_len_mean: f64,
}

pub(super) fn closed_loop(scale: &Scale, progress: &dyn Progress) -> Figure {
    let jobs: Vec<(PolicySpec, usize)> =
        POLICIES.iter().flat_map(|&policy| CLIENT_LENS.map(|len| (policy, len))).collect();
    let points = parallel::map(&jobs, progress, |&(policy, client_len)| {
        let workload = Workload::Closed(ClosedLoop::new(client_len));
        let mut setup = setup(&device(), &workload, policy, BATCH_LEN_MAX, scale.seed);
        setup.arrival_len_max = (client_len as u64 * 500).min(scale.request_len);
        let report = run(&setup, ());
        Point {
            throughput_hz: report.throughput_hz(),
            mean_ms: report.latencies.mean_ns() * 1e-6,
            batch_len_mean: report.batch_len_mean(),
        }
    });
    let best_hz = |client_len: usize| {
        let of_len = jobs.iter().zip(&points).filter(|(job, _)| job.1 == client_len);
        of_len.map(|(_, point)| point.throughput_hz).fold(0.0, f64::max)
    };
    let series = |y: &dyn Fn(usize, f64) -> f64| -> Vec<Series> {
        POLICIES
            .iter()
            .map(|policy| {
                let of_policy = jobs.iter().zip(&points).filter(|(job, _)| job.0 == *policy);
                let points =
                    of_policy.map(|(job, point)| (job.1 as f64, y(job.1, point.throughput_hz)));
                Series::new(policy.name(), Style::Marked, points.collect())
            })
            .collect()
    };
    let x = Axis::log("clients", (1.0, 1_000.0));
    let answered = series(&|_, throughput_hz| throughput_hz * 1e-3);
    let share = series(&|client_len, throughput_hz| 100.0 * throughput_hz / best_hz(client_len));
    let panels = vec![
        Panel {
            title: "throughput".into(),
            x: x.clone(),
            y: Axis::from_zero("thousand images/s", heights(&answered)),
            series: answered,
        },
        Panel {
            title: "throughput as a share of the best policy's".into(),
            x,
            y: Axis::around("%", heights(&share)),
            series: share,
        },
    ];
    let columns =
        vec!["clients", "policy", "throughput_hz", "mean_ms", "batch_len_mean", "share_of_best"];
    let mut table = Table { columns, rows: Vec::new() };
    for (job, point) in jobs.iter().zip(&points) {
        table.rows.push(vec![
            job.1.into(),
            job.0.name().into(),
            value(point.throughput_hz),
            value(point.mean_ms),
            value(point.batch_len_mean),
            value(point.throughput_hz / best_hz(job.1)),
        ]);
    }
    let title = "Closed loop: clients that wait for their answers";
    let setting = simulated(DEVICE, scale.seed);
    let (name, caption) = ("closed-loop", caption());
    Figure { name, title, setting, caption, panels, column_len: 2, table }
}

fn caption() -> String {
    let lines = device().lines();
    let crossover = (lines.compute.fixed_ns - lines.upload.fixed_ns - lines.download.fixed_ns)
        / (lines.upload.per_image_ns + lines.download.per_image_ns);
    format!(
        "Device {DEVICE}; each client sends its next request when it has its answer. Up to about \
         (c_compute − c_upload − c_download) / (k_upload + k_download) = {crossover:.0} clients, \
         one batch of everybody does best; beyond, two batches that overlap do.",
    )
}
