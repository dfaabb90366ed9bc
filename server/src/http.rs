//! The protocol over HTTP, and the pages beside it.
//!
//! Knows addresses, headers and bodies; what is done with images it refuses to know.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde_json::{Map, Value, json};

use crate::app::{Answered, App, VERSION};
use crate::bodies;
use crate::grpc::raw;
use crate::images::join;
use crate::json::{InferRequest, InferResponse, OutputData, OutputTensor, from_object, object};
use crate::load::Load;
use crate::metadata;
use crate::metrics::Metrics;
use crate::problem::{Cause, Problem};
use crate::protocol::{SystemSharedMemoryRegisterRequest, TYPE_UINT8};
use crate::trace_context;
use crate::wishes::{OUTPUT, Wishes};

/// The binary extension: where in the body the JSON ends.
const JSON_BYTES: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What the handlers share.
#[derive(Clone)]
pub struct Http {
    pub app: Arc<App>,
    pub metrics: Arc<Metrics>,
    pub load: Arc<Load>,
    pub body_bytes_max: usize,
}

/// The pages.
pub fn router(http: Http) -> Router {
    let model = Router::new()
        .route("/", get(model))
        .route("/ready", get(model_ready))
        .route("/config", get(config))
        .route("/stats", get(model_statistics))
        .route("/infer", post(infer));
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(statistics))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .route("/v2/systemsharedmemory/status", get(regions))
        .route("/v2/systemsharedmemory/unregister", post(unregister))
        .route("/v2/systemsharedmemory/region/{region}/status", get(regions))
        .route("/v2/systemsharedmemory/region/{region}/register", post(register))
        .route("/v2/systemsharedmemory/region/{region}/unregister", post(unregister))
        .route("/metrics", get(metrics))
        .fallback(absent)
        .method_not_allowed_fallback(wrong_method)
        .with_state(http)
}

async fn server(State(http): State<Http>) -> Response {
    json_response(&metadata::server(&http.app))
}

async fn live() -> Response {
    json_response(&json!({ "live": true }))
}

async fn ready(State(http): State<Http>) -> Response {
    readiness(http.app.is_ready(), json!({ "ready": http.app.is_ready() }))
}

fn readiness(is_ready: bool, body: Value) -> Response {
    let mut response = json_response(&body);
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// The names in an address.
type Names = Path<Vec<(String, String)>>;

/// One of them, or nothing.
fn name<'a>(Path(names): &'a Names, key: &str) -> &'a str {
    names.iter().find(|(found, _)| found == key).map_or("", |(_, name)| name)
}

fn check_model(app: &App, names: &Names) -> Result<(), Problem> {
    app.check_model(name(names, "model"), name(names, "version"))
}

async fn model(State(http): State<Http>, names: Names) -> Result<Response, Problem> {
    check_model(&http.app, &names)?;
    Ok(json_response(&metadata::model(&http.app)))
}

async fn model_ready(State(http): State<Http>, names: Names) -> Result<Response, Problem> {
    check_model(&http.app, &names)?;
    let is_ready = http.app.is_ready();
    Ok(readiness(is_ready, json!({ "name": http.app.name, "ready": is_ready })))
}

async fn config(State(http): State<Http>, names: Names) -> Result<Response, Problem> {
    check_model(&http.app, &names)?;
    let config = metadata::config(&http.app);
    let tensor = |name: &str, data_type: i32, dims: &[i64]| {
        let data_type = if data_type == TYPE_UINT8 { "TYPE_UINT8" } else { "TYPE_FP32" };
        json!({ "name": name, "data_type": data_type, "dims": dims })
    };
    let inputs: Vec<_> =
        config.input.iter().map(|i| tensor(&i.name, i.data_type, &i.dims)).collect();
    let outputs: Vec<_> =
        config.output.iter().map(|o| tensor(&o.name, o.data_type, &o.dims)).collect();
    Ok(json_response(&json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": inputs,
        "output": outputs,
    })))
}

async fn model_statistics(State(http): State<Http>, names: Names) -> Result<Response, Problem> {
    check_model(&http.app, &names)?;
    Ok(json_response(&metadata::statistics(&http.app)))
}

async fn statistics(State(http): State<Http>) -> Response {
    json_response(&metadata::statistics(&http.app))
}

async fn metrics(State(http): State<Http>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (content_type, http.metrics.page(&http.app, &http.load.report())).into_response()
}

async fn absent(request: Request) -> Problem {
    Problem::new(Cause::NotFound, format!("nothing at {}", request.uri().path()))
}

/// The header `Allow` has the right one.
async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let text = format!("{method} is not what {path} takes: see the header Allow");
    let mut response = Problem::argument(text).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

async fn infer(
    State(http): State<Http>,
    names: Names,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let answered = http.infer(&names, &headers, body).await;
    answered.inspect_err(|problem| trace_context::log(problem, &headers))
}

impl Http {
    async fn infer(
        &self,
        names: &Names,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let arrival = Instant::now();
        check_model(&self.app, names)?;
        let json_bytes = self.check_headers(headers)?;
        let body = to_bytes(body, self.body_bytes_max).await.map_err(|error| {
            let is_long = error.source().is_some_and(|error| error.is::<LengthLimitError>());
            match bodies::refusal(&error) {
                Some(problem) => problem,
                None if is_long => self.too_large(),
                None => Problem::argument(format!("the body did not arrive whole: {error}")),
            }
        })?;
        let (request, binary) = InferRequest::read(&body, json_bytes)?;
        let InferRequest { id, parameters, inputs, outputs } = request;
        let outputs = outputs.iter().map(|output| (&*output.name, &output.parameters));
        let wishes = Wishes::new(&parameters, outputs, arrival, None)?;
        let images = InferRequest::images(inputs, (self.app.limits, &self.app.regions), binary)?;
        let answered = self.app.infer(images, wishes.options).await?;
        self.response(&id, &answered, &wishes)
    }

    /// Refuses what is not read, before it is; else, where the body's JSON ends.
    fn check_headers(&self, headers: &HeaderMap) -> Result<Option<usize>, Problem> {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or(""));
        if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|name| *name != "identity") {
            let text = format!("Content-Encoding {encoding}: send the body as it is");
            return Err(Problem::new(Cause::Unsupported, text));
        }
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.body_bytes_max as u64) {
            return Err(self.too_large());
        }
        let Some(json_bytes) = text(JSON_BYTES) else { return Ok(None) };
        let parsed = json_bytes.parse();
        let refused = |_| Problem::argument(format!("{JSON_BYTES}: no length: `{json_bytes}`"));
        Ok(Some(parsed.map_err(refused)?))
    }

    fn too_large(&self) -> Problem {
        let text = format!("the body has above {} bytes (--body-max)", self.body_bytes_max);
        Problem::new(Cause::TooLarge, text)
    }

    fn response(
        &self,
        id: &str,
        answered: &Answered,
        wishes: &Wishes,
    ) -> Result<Response, Problem> {
        let classes = wishes.class_len.map(|len| self.app.classes(answered, len));
        let datatype = if classes.is_some() { "BYTES" } else { "FP32" };
        let value_len = classes.as_ref().map_or(answered.logits.len(), Vec::len);
        let to_raw = || match &classes {
            None => raw(&answered.logits),
            Some(classes) => join(classes),
        };
        let (mut parameters, mut binary, mut data) = (Map::new(), None, None);
        if let Some(place) = &wishes.place {
            let raw = to_raw();
            self.app.regions.write(place, &raw)?;
            parameters = object(&metadata::place(place, raw.len()));
        } else if wishes.is_binary {
            let raw = to_raw();
            parameters.insert("binary_data_size".to_owned(), raw.len().into());
            binary = Some(raw);
        } else {
            data = Some(match &classes {
                None => OutputData::Logits(&answered.logits),
                Some(classes) => OutputData::Classes(classes),
            });
        }
        let shape = [answered.len, value_len / answered.len];
        let timing = wishes.has_timing.then(|| metadata::timing(&answered.timing));
        let response = InferResponse {
            model_name: &self.app.name,
            model_version: VERSION,
            id,
            parameters: timing.map(|timing| object(&timing)).unwrap_or_default(),
            outputs: [OutputTensor { name: OUTPUT, datatype, shape, parameters, data }],
        };
        Ok(match binary {
            None => json_response(&response),
            Some(binary) => binary_response(&response, &binary),
        })
    }
}

async fn regions(State(http): State<Http>, names: Names) -> Result<Response, Problem> {
    Ok(json_response(&http.app.regions.status(name(&names, "region"))?))
}

async fn register(
    State(http): State<Http>,
    names: Names,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked: SystemSharedMemoryRegisterRequest = from_object(&body)?;
    let name = name(&names, "region").to_owned();
    http.app.regions.register(SystemSharedMemoryRegisterRequest { name, ..asked })?;
    Ok(StatusCode::OK.into_response())
}

async fn unregister(State(http): State<Http>, names: Names) -> Result<Response, Problem> {
    http.app.regions.unregister(name(&names, "region"))?;
    Ok(StatusCode::OK.into_response())
}

fn json_response(body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("these have texts as keys");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// JSON with raw bytes behind it.
fn binary_response(json: &InferResponse<'_>, binary: &Bytes) -> Response {
    let mut body = serde_json::to_vec(json).expect("these have texts as keys");
    let json_bytes = HeaderValue::from(body.len());
    body.extend_from_slice(binary);
    let content_type = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, content_type), (JSON_BYTES, json_bytes)], body).into_response()
}
