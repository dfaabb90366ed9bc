//! What a wrong or moving cost model does to the default policy.

use super::load::{BATCH_LEN_MAX, DEVICE, poisson};
use super::parallel::{self, Progress};
use super::{Axis, Figure, Panel, Scale, Series, Style, Table, value};
use crate::sched::PolicySpec;
use crate::sim::device::DeviceSpec;
use crate::sim::summary::{misjudge, setup};
use crate::sim::world::run;

const LOADS: [f64; 6] = [0.1, 0.3, 0.5, 0.6, 0.7, 0.8];

/// Name, what is wrong with the device, and the first fit relative to it.
const FAULTS: [(&str, &str, f64); 6] = [
    ("first fit twice too slow", "", 2.0),
    ("first fit twice too fast", "", 0.5),
    ("jitter of 5 %", ",jitter=5%", 1.0),
    ("10 % outliers of x10", ",outliers=10%x10", 1.0),
    ("staircase", ",buckets=1/2/4/8/16/32/64/128/256", 1.0),
    ("drift to +20 % and back", ",drift=0s:1/1s:1.2/2s:1", 1.0),
];

/// What the default is compared with on the same device: each of them hardly looks at the model.
const RIVALS: [PolicySpec; 3] = [
    PolicySpec::Serial,
    PolicySpec::Fixed { batch_len: BATCH_LEN_MAX, delay_ns: 0, is_eager: true },
    PolicySpec::Jit,
];

pub(super) fn robustness(scale: &Scale, progress: &dyn Progress) -> Figure {
    let request_len = scale.request_len / 4;
    let run_ms = |words: &str, factor: f64, policy: PolicySpec, load: f64| {
        let device: DeviceSpec = format!("{DEVICE}{words}").parse().expect("words are well-formed");
        let mut setup = setup(&device, &poisson(load), policy, BATCH_LEN_MAX, scale.seed);
        setup.arrival_len_max = request_len;
        misjudge(&mut setup, factor);
        let report = run(&setup, ());
        if report.rejected_len == 0 { report.latencies.mean_ns() * 1e-6 } else { f64::INFINITY }
    };
    let jobs: Vec<_> = FAULTS.iter().flat_map(|fault| LOADS.map(|load| (*fault, load))).collect();
    let found = parallel::map(&jobs, progress, |&((_, words, factor), load)| {
        let stream_ms = run_ms(words, factor, PolicySpec::Stream, load);
        let true_ms = run_ms(words, 1.0, PolicySpec::Stream, load);
        let rival_ms = RIVALS
            .iter()
            .map(|&policy| run_ms(words, factor, policy, load))
            .fold(f64::INFINITY, f64::min);
        (stream_ms, true_ms, rival_ms)
    });
    let columns = vec!["fault", "load", "stream_ms", "true_first_fit_ms", "best_rival_ms", "ratio"];
    let mut table = Table { columns, rows: Vec::new() };
    let mut series: Vec<Series> =
        FAULTS.map(|(name, ..)| Series::new(name, Style::Marked, Vec::new())).to_vec();
    for (((name, ..), load), (stream_ms, true_ms, rival_ms)) in jobs.iter().zip(&found) {
        let best_ms = true_ms.min(*rival_ms);
        table.rows.push(vec![
            (*name).into(),
            value(*load),
            value(*stream_ms),
            value(*true_ms),
            value(*rival_ms),
            value(stream_ms / best_ms),
        ]);
        if let Some(series) = series.iter_mut().find(|series| series.name == *name)
            && stream_ms.is_finite()
        {
            series.points.push((*load, stream_ms / best_ms));
        }
    }
    let panels = vec![Panel {
        title: "mean latency over the best known for the same device".into(),
        x: Axis::linear("load λ·k", (0.0, 1.0)),
        y: Axis::linear("ratio", (0.95, 1.1)),
        series,
    }];
    let caption = format!(
        "Device {DEVICE} with one fault at a time, Poisson arrivals, {request_len} requests a run. \
         The default is held against the best of itself with a true first fit and three policies \
         that hardly look at the cost model (serial, eager, jit).",
    );
    let title = "A wrong or moving cost model";
    Figure { name: "robustness", title, caption, panels, column_len: 1, table }
}
