//! What the server counts beside the engine, and the page that shows both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::app::App;
use crate::load::Report;
use crate::problem::Cause;

/// See the module.
#[derive(Default)]
pub struct Metrics {
    pub grpc: Requests,
    pub http: Requests,
    /// Those that were read and are not answered, of every kind.
    pub requests_in_progress: AtomicI64,
    /// Open now.
    pub connections: AtomicI64,
    /// Closed at once, as there were as many as may be.
    pub connections_refused: AtomicU64,
}

/// Inference requests by how they ended.
#[derive(Default)]
pub struct Requests([AtomicU64; OUTCOMES.len()]);

/// As labels name them.
const OUTCOMES: [&str; 11] = [
    "ok",
    "argument",
    "not_found",
    "too_large",
    "unsupported",
    "overload",
    "deadline",
    "cancelled",
    "failed",
    "unavailable",
    "unauthenticated",
];

/// Of these, those for which the server is to blame: overload, deadline, failed, unavailable.
const ERRORS: [usize; 4] = [5, 6, 8, 9];

impl Requests {
    fn all(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn errors(&self) -> u64 {
        ERRORS.iter().map(|outcome| self.0[*outcome].load(Ordering::Relaxed)).sum()
    }

    pub fn count(&self, cause: Option<Cause>) {
        let outcome = match cause {
            None => 0,
            Some(Cause::Argument) => 1,
            Some(Cause::NotFound) => 2,
            Some(Cause::TooLarge) => 3,
            Some(Cause::Unsupported) => 4,
            Some(Cause::Overload { .. }) => 5,
            Some(Cause::Deadline) => 6,
            Some(Cause::Cancelled) => 7,
            Some(Cause::Failed) => 8,
            Some(Cause::Unavailable) => 9,
            Some(Cause::Unauthenticated) => 10,
        };
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }

    /// Labels and values.
    fn samples(&self, protocol: &str) -> Vec<(String, f64)> {
        let labels = |outcome| format!("{{protocol=\"{protocol}\",outcome=\"{outcome}\"}}");
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        OUTCOMES.iter().zip(&self.0).map(|(name, of)| (labels(name), count(of))).collect()
    }
}

/// A request in progress, until it is dropped.
pub struct InProgress(Arc<Metrics>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.requests_in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a request that begins.
    pub fn begin(self: &Arc<Self>) -> InProgress {
        self.requests_in_progress.fetch_add(1, Ordering::Relaxed);
        InProgress(Arc::clone(self))
    }

    /// Inference requests so far, and those of them for which the server is to blame.
    pub fn ended(&self) -> (u64, u64) {
        let of = |count: fn(&Requests) -> u64| count(&self.grpc) + count(&self.http);
        (of(Requests::all), of(Requests::errors))
    }

    /// Prometheus' text format.
    pub fn page(&self, app: &App, load: &Report) -> String {
        let mut page = app.engine.stats().prometheus();
        let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
            let name = format!("twinstream_server_{name}");
            page += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                page += &format!("{name}{labels} {value}\n");
            }
        };
        let one = |value| [(String::new(), value)];
        let samples: Vec<_> = [("grpc", &self.grpc), ("http", &self.http)]
            .into_iter()
            .flat_map(|(protocol, requests)| requests.samples(protocol))
            .collect();
        let help = "Inference requests, by protocol and how they ended.";
        metric("requests_total", "counter", help, &samples);
        let in_progress_len = self.requests_in_progress.load(Ordering::Relaxed) as f64;
        let help = "Requests that were read and are not answered, of every kind.";
        metric("requests_in_progress", "gauge", help, &one(in_progress_len));
        let connection_len = self.connections.load(Ordering::Relaxed) as f64;
        metric("connections", "gauge", "Open connections.", &one(connection_len));
        let refused_len = self.connections_refused.load(Ordering::Relaxed) as f64;
        let help = "Connections closed at once, as there were as many as may be.";
        metric("connections_refused_total", "counter", help, &one(refused_len));
        let help = "How long what was accepted will take.";
        let wait = app.predicted_wait().as_secs_f64();
        metric("predicted_wait_seconds", "gauge", help, &one(wait));
        let help = "The latency within which the largest rate keeps 99 in 100 images.";
        metric("latency_bound_seconds", "gauge", help, &one(load.latency_bound_seconds));
        let help = "Images a second that the device can answer within it; 0: not known, or none.";
        metric("rate_max_hz", "gauge", help, &one(load.rate_max_hz));
        let help = "The largest rate without the present one.";
        metric("headroom_hz", "gauge", help, &one(load.headroom_hz()));
        page
    }
}
