//! What the server counts beside the engine, and the page that shows both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tonic::{Code, Status};

use crate::app::App;
use crate::load::Report;
use crate::problem::RETRY_PUSHBACK;

/// See the module.
#[derive(Default)]
pub struct Metrics {
    grpc: Requests,
    http: Requests,
    /// Those that were read and are not answered, of every kind.
    pub requests_in_progress: AtomicI64,
    /// Open now.
    pub connections: AtomicI64,
    /// Closed at once, as there were as many as may be.
    pub connections_refused: AtomicU64,
}

/// Inference requests by how they ended.
#[derive(Default)]
struct Requests([AtomicU64; OUTCOMES.len()]);

/// How the addresses of inferences end.
pub const INFERENCE_GRPC: &str = "/ModelInfer";
pub const INFERENCE_HTTP: &str = "/infer";

/// As labels name them.
const OUTCOMES: [&str; 11] = [
    "ok",
    "argument",
    "not_found",
    "too_large",
    "unsupported",
    "overload",
    "deadline",
    CANCELLED,
    "failed",
    "unavailable",
    "unauthenticated",
];

/// The client left before it had an answer.
const CANCELLED: &str = "cancelled";

/// Of these, those for which the server is to blame.
const ERRORS: [&str; 4] = ["overload", "deadline", "failed", "unavailable"];

impl Requests {
    fn all(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn errors(&self) -> u64 {
        let of_errors = OUTCOMES.iter().zip(&self.0).filter(|(name, _)| ERRORS.contains(name));
        of_errors.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }

    fn count(&self, outcome: &str) {
        for (name, count) in OUTCOMES.iter().zip(&self.0) {
            if *name == outcome {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Labels and values.
    fn samples(&self, protocol: &str) -> Vec<(String, f64)> {
        let labels = |outcome| format!("{{protocol=\"{protocol}\",outcome=\"{outcome}\"}}");
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        OUTCOMES.iter().zip(&self.0).map(|(name, of)| (labels(name), count(of))).collect()
    }
}

/// An inference, which is counted as it is dropped.
struct Counted<'a> {
    requests: &'a Requests,
    outcome: &'static str,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.requests.count(self.outcome);
    }
}

/// Counts inferences by what is answered, whoever does it.
pub async fn count_outcomes(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let is_grpc = path.ends_with(INFERENCE_GRPC);
    if !is_grpc && !path.ends_with(INFERENCE_HTTP) {
        return next.run(request).await;
    }
    let requests = if is_grpc { &metrics.grpc } else { &metrics.http };
    let mut counted = Counted { requests, outcome: CANCELLED };
    let response = next.run(request).await;
    counted.outcome = match is_grpc {
        true => grpc_outcome(response.headers()),
        false => http_outcome(response.status()),
    };
    response
}

/// Answers without a result have their status in the head.
fn grpc_outcome(headers: &HeaderMap) -> &'static str {
    let Some(status) = Status::from_header_map(headers) else { return "ok" };
    match status.code() {
        Code::Ok => "ok",
        Code::InvalidArgument => "argument",
        Code::NotFound | Code::Unimplemented => "not_found",
        Code::ResourceExhausted if headers.contains_key(RETRY_PUSHBACK) => "overload",
        Code::ResourceExhausted | Code::OutOfRange => "too_large",
        Code::DeadlineExceeded => "deadline",
        Code::Cancelled => CANCELLED,
        Code::Unavailable => "unavailable",
        Code::Unauthenticated => "unauthenticated",
        _ => "failed",
    }
}

fn http_outcome(status: StatusCode) -> &'static str {
    match status {
        StatusCode::OK => "ok",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported",
        StatusCode::TOO_MANY_REQUESTS => "overload",
        StatusCode::GATEWAY_TIMEOUT => "deadline",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::UNAUTHORIZED => "unauthenticated",
        _ if status.is_client_error() => "argument",
        _ => "failed",
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
        let help = "Share of the threads that decode image files which do, over five seconds.";
        metric("decoders_busy_ratio", "gauge", help, &one(load.decoders_busy));
        page
    }
}
