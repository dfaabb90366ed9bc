//! What the server counts beside the engine, and the page that shows both.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::app::App;
use crate::problem::Cause;

/// See the module.
#[derive(Default)]
pub struct Metrics {
    pub grpc: Requests,
    pub http: Requests,
    /// Open now.
    pub connections: AtomicI64,
    /// Closed at once, as there were as many as may be.
    pub connections_refused: AtomicU64,
}

/// Inference requests by how they ended.
#[derive(Default)]
pub struct Requests([AtomicU64; OUTCOMES.len()]);

/// As labels name them.
const OUTCOMES: [&str; 10] = [
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
];

impl Requests {
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
        };
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Prometheus' text format.
    pub fn page(&self, app: &App) -> String {
        let mut page = app.engine.stats().prometheus();
        let mut line = |text: std::fmt::Arguments<'_>| {
            writeln!(page, "{text}").expect("a string takes everything");
        };
        line(format_args!(
            "# HELP twinstream_server_requests_total Inference requests by protocol and outcome.\n\
             # TYPE twinstream_server_requests_total counter"
        ));
        for (protocol, requests) in [("grpc", &self.grpc), ("http", &self.http)] {
            for (outcome, count) in OUTCOMES.iter().zip(&requests.0) {
                let count = count.load(Ordering::Relaxed);
                line(format_args!(
                    "twinstream_server_requests_total{{protocol=\"{protocol}\",\
                     outcome=\"{outcome}\"}} {count}"
                ));
            }
        }
        line(format_args!(
            "# HELP twinstream_server_connections Open connections.\n\
             # TYPE twinstream_server_connections gauge\n\
             twinstream_server_connections {}\n\
             # HELP twinstream_server_connections_refused_total Connections closed at once, as there \
             were as many as may be.\n\
             # TYPE twinstream_server_connections_refused_total counter\n\
             twinstream_server_connections_refused_total {}\n\
             # HELP twinstream_server_predicted_wait_seconds How long what was accepted will take.\n\
             # TYPE twinstream_server_predicted_wait_seconds gauge\n\
             twinstream_server_predicted_wait_seconds {}",
            self.connections.load(Ordering::Relaxed),
            self.connections_refused.load(Ordering::Relaxed),
            app.predicted_wait().as_secs_f64(),
        ));
        page
    }
}
