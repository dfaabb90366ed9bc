//! One policy under one load, and the figures of that run.
//!
//! Invariant: every request that was due after the warm-up is in exactly one of the counts, and
//! nothing else is. Knows nothing of tables and files.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use twinstream::engine::{EngineOptions, Stats};
use twinstream::sched::{Outcome, PolicySpec, Reason, Trace};
use twinstream::sim::arrivals::Workload;
use twinstream::sim::summary::{self, Bounds};
use twinstream::sim::{Event, Latencies, Observer, Setup};

use super::live_line;
use crate::live::recorder::{End, Noted};
use crate::live::{Load, Opened, Played, play};
use crate::words::{Arrivals, check_bound};

/// What all runs of a bench share.
pub(super) struct Bench {
    pub(super) opened: Opened,
    pub(super) duration_ns: u64,
    pub(super) warmup_ns: u64,
    pub(super) latency_bound_ns: Option<u64>,
    pub(super) announced_ns: u64,
    pub(super) batch_len_max: usize,
    pub(super) slot_len: usize,
    pub(super) cache_bytes: usize,
    pub(super) seed: u64,
    /// Events that a run's trace holds; 0: there is none.
    pub(super) trace_len: usize,
}

/// A run in figures; serialised, one JSON object. Fields that `simulate` prints too mean the same.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) backend: String,
    /// Of a network.
    pub(super) precision: Option<String>,
    pub(super) policy: String,
    pub(super) arrivals: String,
    pub(super) latency_bound_ms: Option<f64>,
    pub(super) announced_ms: f64,
    pub(super) slots: usize,
    /// Arrivals a second as described; of a closed loop, as they came.
    pub(super) rate_hz: f64,
    /// Requests that were due.
    pub(super) offered: u64,
    pub(super) completed: u64,
    /// Turned away as they arrived: their deadline could not be met, or there was no slot.
    pub(super) rejected: u64,
    /// Of those, the ones without a slot.
    pub(super) full: u64,
    pub(super) expired: u64,
    pub(super) failed: u64,
    /// Latencies count from the moment due.
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
    pub(super) throughput_hz: f64,
    /// Answers within the latency bound a second.
    pub(super) goodput_hz: f64,
    /// Of all batches, those of the warm-up too.
    pub(super) batch_len_mean: f64,
    pub(super) batch_len_max: usize,
    /// Bounds of a simulated device.
    #[serde(flatten)]
    pub(super) bounds: Bounds,
    pub(super) decisions: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    pub(super) seed: u64,
    /// How much later than due requests were handed over.
    pub(super) late_p99_ms: f64,
    pub(super) late_max_ms: f64,
    /// What the simulator says of the same simulated device, arrivals and policy.
    pub(super) predicted_mean_ms: Option<f64>,
    pub(super) predicted_p99_ms: Option<f64>,
    /// Of a sweep: whether this rate has the most throughput for its latency.
    pub(super) is_knee: Option<bool>,
    pub(super) version: &'static str,
}

/// A run in full.
pub(super) struct Measured {
    pub(super) summary: Summary,
    pub(super) latencies: Latencies,
    pub(super) is_cut: bool,
    trace: Trace,
}

impl Measured {
    /// Its trace, and what it was a run of.
    pub(super) fn named_trace(&self) -> (String, &Trace) {
        (format!("{}, {}", self.summary.policy, self.summary.arrivals), &self.trace)
    }
}

impl Bench {
    /// Refuses a latency bound that one image alone misses: on a simulated device as described,
    /// else as calibrated.
    pub(super) fn check_bound(&self) -> anyhow::Result<()> {
        let Some(bound_ns) = self.latency_bound_ns else { return Ok(()) };
        let alone_ns = match self.opened.simulated() {
            Some(devices) => {
                devices.iter().map(|device| device.alone_ns()).fold(f64::INFINITY, f64::min)
            }
            None => {
                let (engine, _) = self.opened.start(&EngineOptions::default(), self.seed)?;
                engine.stats().alone_ns()
            }
        };
        Ok(check_bound(Some(bound_ns as f64), alone_ns, &self.opened.name())?)
    }

    /// Runs each policy under a load.
    pub(super) fn measure(
        &self,
        policies: &[PolicySpec],
        arrivals: &Arrivals,
    ) -> anyhow::Result<Vec<Measured>> {
        // What is simulated comes first: it would take the processor from the runs.
        let predict = |policy: &PolicySpec| {
            self.setup(*policy, &arrivals.workload).map(|setup| predict(&setup, self.warmup_ns))
        };
        let predictions: Vec<Option<Latencies>> = policies.iter().map(predict).collect();
        let bounds = self.setup(PolicySpec::default(), &arrivals.workload);
        // They are those of one device.
        let bounds = bounds.filter(|setup| setup.devices.len() == 1);
        let bounds = bounds.map(|setup| Bounds::of(&setup)).unwrap_or_default();
        let mut runs = Vec::new();
        for (&policy, predicted) in policies.iter().zip(&predictions) {
            let mut run = self.run(policy, arrivals)?;
            let figures = &mut run.summary;
            let p99_ms = |latencies: &Latencies| latencies.quantile_ns(0.99) as f64 * 1e-6;
            figures.predicted_mean_ms = predicted.as_ref().map(|found| found.mean_ns() * 1e-6);
            figures.predicted_p99_ms = predicted.as_ref().map(p99_ms);
            figures.bounds = bounds;
            runs.push(run);
        }
        Ok(runs)
    }

    /// The same for the simulator, if the devices are simulated.
    fn setup(&self, policy: PolicySpec, workload: &Workload) -> Option<Setup> {
        let devices = self.opened.simulated()?;
        let mut setup = summary::setup(devices[0], workload, policy, self.batch_len_max, self.seed);
        setup.config.lines = devices.iter().map(|device| device.lines()).collect();
        setup.devices = devices.into_iter().cloned().collect();
        setup.duration_ns = self.duration_ns;
        setup.config.latency_bound_ns = self.latency_bound_ns;
        setup.config.slot_len = self.slot_len;
        setup.announced_ns = self.announced_ns;
        Some(setup)
    }

    fn run(&self, policy: PolicySpec, arrivals: &Arrivals) -> anyhow::Result<Measured> {
        let options = EngineOptions::default()
            .policy(policy)
            .slot_len(self.slot_len)
            .cache_bytes(self.cache_bytes)
            .batch_len_max(self.batch_len_max)
            .latency_bound(self.latency_bound_ns.map(Duration::from_nanos))
            .trace_len(self.trace_len);
        let (engine, _) = self.opened.start(&options, self.seed)?;
        let load = Load {
            workload: &arrivals.workload,
            duration_ns: self.duration_ns,
            latency_bound_ns: self.latency_bound_ns,
            announced_ns: self.announced_ns,
            seed: self.seed,
            images: &self.opened.images,
        };
        let title = format!("{policy}, {}", arrivals.words);
        let played = live_line::show(&engine, &title, self.duration_ns, || play(&engine, &load))?;
        let trace = engine.take_trace().unwrap_or_default();
        drop(engine);
        let (summary, latencies) = self.figures(policy, arrivals, &played);
        Ok(Measured { summary, latencies, is_cut: played.is_cut, trace })
    }

    fn figures(
        &self,
        policy: PolicySpec,
        arrivals: &Arrivals,
        played: &Played,
    ) -> (Summary, Latencies) {
        let counted: Vec<&Noted> =
            played.requests.iter().filter(|request| request.due_ns >= self.warmup_ns).collect();
        let count = |end| counted.iter().filter(|request| request.end == end).count() as u64;
        let answered = || counted.iter().filter(|request| request.end == End::Completed);
        let latencies = Latencies::new(answered().map(|request| request.latency_ns()).collect());
        let bound_ns = self.latency_bound_ns.unwrap_or(u64::MAX);
        let in_time = answered().filter(|request| request.latency_ns() <= bound_ns).count();
        let end_ns = counted.iter().map(|request| request.end_ns).max().unwrap_or(0);
        let span_s = end_ns.saturating_sub(self.warmup_ns).max(1) as f64 * 1e-9;
        let offered = counted.len() as u64;
        let counted_s = (self.duration_ns - self.warmup_ns) as f64 * 1e-9;
        let quantile_ms = |quantile| latencies.quantile_ns(quantile) as f64 * 1e-6;
        let full = count(End::Full);
        let summary = Summary {
            backend: self.opened.name(),
            precision: self.opened.precision().map(|precision| precision.to_string()),
            policy: policy.to_string(),
            arrivals: arrivals.words.clone(),
            latency_bound_ms: self.latency_bound_ns.map(|bound_ns| bound_ns as f64 * 1e-6),
            announced_ms: self.announced_ns as f64 * 1e-6,
            slots: self.slot_len,
            rate_hz: match &arrivals.workload {
                Workload::Open(open) => open.rate_hz(),
                Workload::Closed(_) => offered as f64 / counted_s,
            },
            offered,
            completed: count(End::Completed),
            rejected: count(End::Rejected) + full,
            full,
            expired: count(End::Expired),
            failed: count(End::Failed),
            mean_ms: latencies.mean_ns() * 1e-6,
            p50_ms: quantile_ms(0.5),
            p90_ms: quantile_ms(0.9),
            p99_ms: quantile_ms(0.99),
            p999_ms: quantile_ms(0.999),
            max_ms: latencies.max_ns() as f64 * 1e-6,
            throughput_hz: count(End::Completed) as f64 / span_s,
            goodput_hz: in_time as f64 / span_s,
            batch_len_mean: played.stats.batch_lens.mean(),
            batch_len_max: played.stats.batch_lens.len_max(),
            bounds: Bounds::default(),
            decisions: decisions(&played.stats),
            seed: self.seed,
            late_p99_ms: played.lateness.quantile_ns(0.99) as f64 * 1e-6,
            late_max_ms: played.lateness.max_ns() as f64 * 1e-6,
            predicted_mean_ms: None,
            predicted_p99_ms: None,
            is_knee: None,
            version: env!("CARGO_PKG_VERSION"),
        };
        (summary, latencies)
    }
}

fn decisions(stats: &Stats) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let stages = [("upload", &stats.started.upload), ("compute", &stats.started.compute)];
    let counts = |counts: &[u64]| {
        let named = Reason::ALL.into_iter().map(Reason::name).zip(counts.iter().copied());
        named.filter(|(_, count)| *count > 0).collect()
    };
    stages.into_iter().map(|(stage, started)| (stage, counts(started))).collect()
}

/// Latencies in virtual time of the requests that are due after the warm-up.
fn predict(setup: &Setup, warmup_ns: u64) -> Latencies {
    struct Counted {
        warmup_ns: u64,
        latencies_ns: Vec<u64>,
    }
    impl Observer for Counted {
        fn event(&mut self, now_ns: u64, event: &Event<'_>) {
            if let Event::Finished { outcome: Outcome::Completed, arrival_ns, .. } = *event
                && arrival_ns >= self.warmup_ns
            {
                self.latencies_ns.push(now_ns - arrival_ns);
            }
        }
    }
    let mut counted = Counted { warmup_ns, latencies_ns: Vec::new() };
    twinstream::sim::run(setup, &mut counted);
    Latencies::new(counted.latencies_ns)
}
