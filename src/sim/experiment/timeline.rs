//! A run as it unfolds: batches, latencies and answers over time.

use std::collections::BTreeMap;

use super::super::event::{Event, Observer};
use crate::sched::{Outcome, Stage};

/// Length of the windows over which latencies and answers are averaged, in nanoseconds.
const WINDOW_NS: u64 = 100_000_000;

/// Records a run; moments in seconds.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Start of computing and images, by batch.
    pub(super) batch_lens: Vec<(f64, f64)>,
    /// Start of computing and its time in milliseconds, by batch.
    pub(super) compute_ms: Vec<(f64, f64)>,
    /// Sum of latencies in milliseconds and number of requests, by window of arrival.
    arrived: BTreeMap<u64, (f64, f64)>,
    /// Answers, by window of their moment.
    answered: BTreeMap<u64, f64>,
}

impl Observer for Timeline {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        match *event {
            Event::Asked { stage: Stage::Compute, slots, span_ns: (start_ns, end_ns), .. } => {
                let start_s = start_ns as f64 * 1e-9;
                self.batch_lens.push((start_s, slots.len() as f64));
                self.compute_ms.push((start_s, (end_ns - start_ns) as f64 * 1e-6));
            }
            Event::Finished { outcome: Outcome::Completed, arrival_ns, .. } => {
                let (sum_ms, len) = self.arrived.entry(arrival_ns / WINDOW_NS).or_default();
                *sum_ms += (now_ns - arrival_ns) as f64 * 1e-6;
                *len += 1.0;
                *self.answered.entry(now_ns / WINDOW_NS).or_default() += 1.0;
            }
            _ => {}
        }
    }
}

impl Timeline {
    /// Mean latency in milliseconds of the requests that arrived in each window.
    pub(super) fn latency_ms(&self) -> Vec<(f64, f64)> {
        self.arrived.iter().map(|(window, (sum, len))| (middle_s(*window), sum / len)).collect()
    }

    /// Answers a second in each window up to `end_s`.
    pub(super) fn throughput_hz(&self, end_s: f64) -> Vec<(f64, f64)> {
        let window_len = (end_s * 1e9) as u64 / WINDOW_NS;
        let rate_hz = |window| {
            self.answered.get(&window).copied().unwrap_or(0.0) * 1e9 / WINDOW_NS as f64
        };
        (0..window_len).map(|window| (middle_s(window), rate_hz(window))).collect()
    }
}

fn middle_s(window: u64) -> f64 {
    (window as f64 + 0.5) * WINDOW_NS as f64 * 1e-9
}
