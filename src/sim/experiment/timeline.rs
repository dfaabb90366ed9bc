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
    /// Arrival and latency in milliseconds of the request that took longest.
    pub(super) longest_ms: Option<(f64, f64)>,
    /// Sum of latencies in milliseconds and number of requests, by window of arrival.
    arrived: BTreeMap<u64, (f64, f64)>,
    /// Answers, by window of their moment.
    answered: BTreeMap<u64, f64>,
}

impl Observer for Timeline {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        match *event {
            Event::Asked { stage: Stage::Compute, slots, span_ns: (start_ns, end_ns), .. } => {
                self.computed(start_ns, end_ns, slots.len());
            }
            Event::Finished { outcome: Outcome::Completed, arrival_ns, .. } => {
                self.answered(arrival_ns, now_ns);
            }
            _ => {}
        }
    }
}

impl Timeline {
    /// A batch was computed.
    pub(super) fn computed(&mut self, start_ns: u64, end_ns: u64, batch_len: usize) {
        let start_s = start_ns as f64 * 1e-9;
        self.batch_lens.push((start_s, batch_len as f64));
        self.compute_ms.push((start_s, (end_ns - start_ns) as f64 * 1e-6));
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, arrival_ns: u64, end_ns: u64) {
        let latency_ms = (end_ns - arrival_ns) as f64 * 1e-6;
        if self.longest_ms.is_none_or(|(_, longest_ms)| latency_ms > longest_ms) {
            self.longest_ms = Some((arrival_ns as f64 * 1e-9, latency_ms));
        }
        let (sum_ms, len) = self.arrived.entry(arrival_ns / WINDOW_NS).or_default();
        *sum_ms += latency_ms;
        *len += 1.0;
        *self.answered.entry(end_ns / WINDOW_NS).or_default() += 1.0;
    }

    /// Mean latency in milliseconds of the requests that arrived in each window.
    pub(super) fn latency_ms(&self) -> Vec<(f64, f64)> {
        self.arrived.iter().map(|(window, (sum, len))| (middle_s(*window), sum / len)).collect()
    }

    /// Answers a second around each window up to `end_s`: over it and its two neighbours, as a long
    /// batch's answers come all at once.
    pub(super) fn throughput_hz(&self, end_s: f64) -> Vec<(f64, f64)> {
        let window_len = (end_s * 1e9) as u64 / WINDOW_NS;
        let rate_hz = |window: u64| {
            let span = window.saturating_sub(1)..(window + 2).min(window_len);
            let span_s = (span.end - span.start) as f64 * WINDOW_NS as f64 * 1e-9;
            span.filter_map(|window| self.answered.get(&window)).sum::<f64>() / span_s
        };
        (0..window_len).map(|window| (middle_s(window), rate_hz(window))).collect()
    }
}

fn middle_s(window: u64) -> f64 {
    (window as f64 + 0.5) * WINDOW_NS as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_latencies_fall_into_their_windows() {
        let mut timeline = Timeline::default();
        let mut finish = |arrival_ns: u64, now_ns: u64| {
            let event =
                Event::Finished { slot: 0, outcome: Outcome::Completed, arrival_ns, timing: None };
            timeline.event(now_ns, &event);
        };
        finish(10_000_000, 40_000_000);
        finish(90_000_000, 140_000_000);
        finish(150_000_000, 250_000_000);
        let latency_ms = timeline.latency_ms();
        let expected = [(0.05, 40.0), (0.15, 100.0)];
        assert_eq!(latency_ms.len(), expected.len());
        for (found, expected) in latency_ms.iter().zip(expected) {
            assert!((found.0 - expected.0).abs() < 1e-9 && (found.1 - expected.1).abs() < 1e-9);
        }
        let longest = timeline.longest_ms.unwrap();
        assert!((longest.0 - 0.15).abs() < 1e-9 && (longest.1 - 100.0).abs() < 1e-9);
        let rates_hz: Vec<f64> =
            timeline.throughput_hz(0.4).iter().map(|(_, rate_hz)| rate_hz.round()).collect();
        assert_eq!(rates_hz, [10.0, 10.0, 7.0, 5.0]);
    }
}
