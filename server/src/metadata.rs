//! What server and model say of themselves.

use twinstream::engine::LatencyHistogram;
use twinstream::sched::Timing;

use crate::app::{App, VERSION};
use crate::images::INPUT;
use crate::protocol::*;
use crate::shared_memory::Place;
use crate::wishes::OUTPUT;

/// The server's name in its metadata.
const SERVER: &str = "twinstream";
/// Extensions of the protocol that are served.
const EXTENSIONS: [&str; 4] =
    ["binary_tensor_data", "classification", "model_configuration", "statistics"];
/// One that has to be allowed.
const SHARED_MEMORY: &str = "system_shared_memory";
/// Of the model's metadata.
const PLATFORM: &str = "twinstream_resnet50";
/// A length that the client chooses.
const ANY: i64 = -1;

pub fn server(app: &App) -> ServerMetadataResponse {
    let shared_memory = app.regions.is_on().then_some(SHARED_MEMORY);
    ServerMetadataResponse {
        name: SERVER.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.into_iter().chain(shared_memory).map(str::to_owned).collect(),
    }
}

pub fn model(app: &App) -> ModelMetadataResponse {
    let tensor = |name: &str, datatype: &str, dims: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: [vec![ANY], dims].concat(),
    };
    ModelMetadataResponse {
        name: app.name.clone(),
        versions: vec![VERSION.to_owned()],
        platform: PLATFORM.to_owned(),
        inputs: vec![tensor(INPUT, "UINT8", input_dims(app))],
        outputs: vec![tensor(OUTPUT, "FP32", output_dims(app))],
    }
}

pub fn config(app: &App) -> ModelConfig {
    let input = ModelInput { name: INPUT.to_owned(), data_type: TYPE_UINT8, dims: input_dims(app) };
    let output =
        ModelOutput { name: OUTPUT.to_owned(), data_type: TYPE_FP32, dims: output_dims(app) };
    ModelConfig {
        name: app.name.clone(),
        platform: PLATFORM.to_owned(),
        max_batch_size: app.limits.len_max as i32,
        input: vec![input],
        output: vec![output],
        backend: SERVER.to_owned(),
    }
}

/// What the engine counts, an image each. Its upload is in the queue's time, its download in that
/// of computing.
pub fn statistics(app: &App) -> ModelStatisticsResponse {
    let stats = app.engine.stats();
    let failed = [stats.rejected, stats.expired, stats.failed, stats.device_lost, stats.shut_down];
    let taken = |histogram: &LatencyHistogram| {
        Some(StatisticDuration { count: histogram.len(), ns: histogram.sum_ns() })
    };
    let inference_stats = InferStatistics {
        success: taken(&stats.latency),
        fail: Some(StatisticDuration { count: failed.iter().sum(), ns: 0 }),
        queue: taken(&stats.waiting),
        compute_input: Some(StatisticDuration { count: stats.completed, ns: 0 }),
        compute_infer: taken(&stats.computing),
        compute_output: taken(&stats.notifying),
    };
    let model = ModelStatistics {
        name: app.name.clone(),
        version: VERSION.to_owned(),
        inference_count: stats.completed,
        execution_count: stats.batch_lens.len(),
        inference_stats: Some(inference_stats),
    };
    ModelStatisticsResponse { model_stats: vec![model] }
}

fn input_dims(app: &App) -> Vec<i64> {
    vec![app.limits.height as i64, app.limits.width as i64, 3]
}

fn output_dims(app: &App) -> Vec<i64> {
    vec![app.class_count() as i64]
}

/// When the first image passed which stage, in nanoseconds, as parameters of the response.
pub fn timing(timing: &Timing) -> Parameters {
    [
        ("queued_ns", timing.queued_ns()),
        ("uploading_ns", timing.uploading_ns()),
        ("waiting_ns", timing.waiting_ns()),
        ("computing_ns", timing.computing_ns()),
        ("downloading_ns", timing.downloading_ns()),
        ("announcing_ns", timing.announcing_ns()),
        ("latency_ns", timing.latency_ns()),
        ("batch_len", timing.batch_len as u64),
    ]
    .map(|(name, value)| {
        let value = Parameter::Int64(i64::try_from(value).unwrap_or(i64::MAX));
        (name.to_owned(), InferParameter { parameter_choice: Some(value) })
    })
    .into()
}

/// Where an output of so many bytes was written to, as parameters of it.
pub fn place(place: &Place, len_bytes: usize) -> Parameters {
    [
        ("shared_memory_region", Parameter::String(place.region.clone())),
        ("shared_memory_offset", Parameter::Int64(place.offset as i64)),
        ("shared_memory_byte_size", Parameter::Int64(len_bytes as i64)),
    ]
    .map(|(name, value)| (name.to_owned(), InferParameter { parameter_choice: Some(value) }))
    .into()
}
