//! Load reports for balancers, by the Open Request Cost Aggregation standard (ORCA): with each
//! answer to an inference, and as a stream of their own.
//!
//! Knows how a report is written, not what is in it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Response as Answer, Status};

use crate::frames::through;
use crate::load::{Load, PERIOD};
use crate::metrics::{INFERENCE_GRPC, INFERENCE_HTTP};
use crate::protocol::{OrcaLoadReport, OrcaLoadReportRequest};

/// What `tonic_build` made of `build.rs`.
#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/xds.service.orca.v3.OpenRcaService.rs"));
}

pub use generated::open_rca_service_server::{OpenRcaService, OpenRcaServiceServer};

/// In which form the client wants a report: `text`, `json` or `bin`.
const WANTED: &str = "endpoint-load-metrics-format";
/// A report that says its form, and one in protobuf.
const REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const REPORT_BIN: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");
/// Answers over gRPC that end without a message say so in their head.
const GRPC_STATUS: &str = "grpc-status";
/// Longest time between two reports of a stream.
const INTERVAL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The predicted wait among a report's named metrics.
const WAIT: &str = "predicted_wait_seconds";

/// What answers need for their reports.
#[derive(Clone)]
pub struct Reports {
    pub load: Arc<Load>,
    /// With every answer to an inference, in protobuf, whether the client asks or not.
    pub are_always: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Text,
    Json,
    Bin,
}

impl Load {
    fn orca(&self) -> OrcaLoadReport {
        let report = self.report();
        OrcaLoadReport {
            rps_fractional: report.requests_hz,
            eps: report.errors_hz,
            named_metrics: [(WAIT.to_owned(), report.wait_seconds)].into(),
            application_utilization: report.utilization(),
        }
    }
}

/// Adds reports to the answers of inferences.
pub async fn report(State(reports): State<Reports>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_grpc = path.ends_with(INFERENCE_GRPC);
    let is_inference = is_grpc || path.ends_with(INFERENCE_HTTP);
    let form = form(request.headers()).or(reports.are_always.then_some(Form::Bin));
    let Some(form) = form.filter(|_| is_inference) else { return next.run(request).await };
    let mut response = next.run(request).await;
    if !is_grpc || response.headers().contains_key(GRPC_STATUS) {
        add(response.headers_mut(), form, &reports.load);
        return response;
    }
    response.map(|body| {
        through(body, move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                add(trailers, form, &reports.load);
            }
            Ok(frame)
        })
    })
}

/// None where it is not asked for, or in a form that is not known.
fn form(headers: &HeaderMap) -> Option<Form> {
    match headers.get(WANTED)?.as_bytes() {
        b"text" => Some(Form::Text),
        b"json" => Some(Form::Json),
        b"bin" => Some(Form::Bin),
        _ => None,
    }
}

/// One header alone: who reads them refuses two.
fn add(headers: &mut HeaderMap, form: Form, load: &Load) {
    let report = load.orca();
    let (utilization, wait_seconds) = (report.application_utilization, report.named_metrics[WAIT]);
    let (requests_hz, errors_hz) = (report.rps_fractional, report.eps);
    let (name, text) = match form {
        Form::Text => {
            let text = format!(
                "TEXT application_utilization={utilization}, rps_fractional={requests_hz}, \
                 eps={errors_hz}, named_metrics.{WAIT}={wait_seconds}"
            );
            (REPORT, text)
        }
        Form::Json => {
            let report = json!({
                "application_utilization": utilization,
                "rps_fractional": requests_hz,
                "eps": errors_hz,
                "named_metrics": { WAIT: wait_seconds },
            });
            (REPORT, format!("JSON {report}"))
        }
        // Padded: there are readers that want that.
        Form::Bin => (REPORT_BIN, BASE64_STANDARD.encode(report.encode_to_vec())),
    };
    headers.insert(name, HeaderValue::try_from(text).expect("digits and names"));
}

#[tonic::async_trait]
impl OpenRcaService for Reports {
    type StreamCoreMetricsStream = ReportStream;

    async fn stream_core_metrics(
        &self,
        request: tonic::Request<OrcaLoadReportRequest>,
    ) -> Result<Answer<ReportStream>, Status> {
        let asked = request.into_inner().report_interval.unwrap_or_default();
        let (Ok(seconds), Ok(ns)) = (u64::try_from(asked.seconds), u64::try_from(asked.nanos))
        else {
            return Err(Status::invalid_argument("report_interval is below 0: send 0 or more"));
        };
        let wanted = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(ns));
        // The timer's own limit is that of moments; nobody waits for a year.
        let mut times = interval(wanted.clamp(PERIOD, INTERVAL_MAX));
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Answer::new(ReportStream { load: Arc::clone(&self.load), times }))
    }
}

/// Reports at the times that were asked for, until the client leaves.
pub struct ReportStream {
    load: Arc<Load>,
    times: Interval,
}

impl Stream for ReportStream {
    type Item = Result<OrcaLoadReport, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.times.poll_tick(context).map(|_| Some(Ok(self.load.orca())))
    }
}
