//! The protocol over gRPC.
//!
//! Knows messages; what is done with images it refuses to know.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::app::{Answered, App, VERSION};
use crate::images::{INPUT, Images, Limits, Tensor, Values, join};
use crate::metadata;
use crate::problem::Problem;
use crate::protocol::*;
use crate::shared_memory::{Place, Regions};
use crate::trace_context;
use crate::wishes::{OUTPUT, Wishes};

/// What `tonic_build` made of `build.rs`.
#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
pub mod generated {
    include!(concat!(env!("OUT_DIR"), "/inference.GRPCInferenceService.rs"));
}

pub use generated::g_r_p_c_inference_service_server::{
    GRPCInferenceService, GRPCInferenceServiceServer,
};

/// See the module.
pub struct Grpc {
    pub app: Arc<App>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GRPCInferenceService for Grpc {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.app.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        self.app.check_model(&name, &version).map_err(Status::from)?;
        Ok(Response::new(ModelReadyResponse { ready: self.app.is_ready() }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(metadata::server(&self.app)))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        self.app.check_model(&name, &version).map_err(Status::from)?;
        Ok(Response::new(metadata::model(&self.app)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        self.app.check_model(&name, &version).map_err(Status::from)?;
        Ok(Response::new(ModelConfigResponse { config: Some(metadata::config(&self.app)) }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let arrival = Instant::now();
        let (metadata, _, message) = request.into_parts();
        let answered = self.infer(message, arrival, timeout(&metadata)).await;
        let answered =
            answered.inspect_err(|problem| trace_context::log(problem, metadata.as_ref()));
        answered.map(Response::new).map_err(Status::from)
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        // Without a name they are those of all models.
        let name = if name.is_empty() { &self.app.name } else { &name };
        self.app.check_model(name, &version).map_err(Status::from)?;
        Ok(Response::new(metadata::statistics(&self.app)))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        let regions = self.app.regions.status(&request.into_inner().name).map_err(Status::from)?;
        let regions = regions.into_iter().map(|region| (region.name.clone(), region)).collect();
        Ok(Response::new(SystemSharedMemoryStatusResponse { regions }))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        self.app.regions.register(request.into_inner()).map_err(Status::from)?;
        Ok(Response::new(SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        self.app.regions.unregister(&request.into_inner().name).map_err(Status::from)?;
        Ok(Response::new(SystemSharedMemoryUnregisterResponse {}))
    }
}

impl Grpc {
    async fn infer(
        &self,
        request: ModelInferRequest,
        arrival: Instant,
        timeout: Option<Duration>,
    ) -> Result<ModelInferResponse, Problem> {
        self.app.check_model(&request.model_name, &request.model_version)?;
        let outputs = request.outputs.iter().map(|output| (&*output.name, &output.parameters));
        let wishes = Wishes::new(&request.parameters, outputs, arrival, timeout)?;
        let images = images(
            request.inputs,
            request.raw_input_contents,
            (self.app.limits, &self.app.regions),
        )?;
        let answered = self.app.infer(images, wishes.options).await?;
        self.response(request.id, &answered, &wishes)
    }

    fn response(
        &self,
        id: String,
        answered: &Answered,
        wishes: &Wishes,
    ) -> Result<ModelInferResponse, Problem> {
        let (datatype, value_len, raw) = match wishes.class_len {
            None => ("FP32", self.app.class_count(), raw(&answered.logits)),
            Some(len) => {
                let classes = self.app.classes(answered, len);
                ("BYTES", classes.len() / answered.len, join(&classes))
            }
        };
        let mut parameters = Parameters::new();
        let mut raw_output_contents = Vec::new();
        match &wishes.place {
            Some(place) => {
                self.app.regions.write(place, &raw)?;
                parameters = metadata::place(place, raw.len());
            }
            None => raw_output_contents.push(raw),
        }
        let output = InferOutputTensor {
            name: OUTPUT.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![answered.len as i64, value_len as i64],
            parameters,
        };
        let parameters = match wishes.has_timing {
            true => metadata::timing(&answered.timing),
            false => Parameters::new(),
        };
        Ok(ModelInferResponse {
            model_name: self.app.name.clone(),
            model_version: VERSION.to_owned(),
            id,
            parameters,
            outputs: vec![output],
            raw_output_contents,
        })
    }
}

/// The images of a request.
pub fn images(
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
    (limits, regions): (Limits, &Regions),
) -> Result<Images, Problem> {
    let [mut input] = <[_; 1]>::try_from(inputs).map_err(|inputs: Vec<_>| {
        Problem::argument(format!("{} inputs: there is one, `{INPUT}`", inputs.len()))
    })?;
    let contents = input.contents.take();
    let values = match (Place::of(&input.parameters)?, contents, &*raw) {
        (Some(place), None, []) => Values::Raw(regions.read(&place)?),
        (None, None, [raw]) => Values::Raw(raw.clone()),
        (None, contents, []) => typed(contents.unwrap_or_default())?,
        _ => {
            return Err(Problem::argument(format!(
                "`{INPUT}` has its values once: in its contents, in raw_input_contents or in \
                     shared memory"
            )));
        }
    };
    let InferInputTensor { name, datatype, shape, .. } = &input;
    limits.images(&Tensor { name, datatype, shape }, values)
}

/// Values that are not raw.
fn typed(contents: InferTensorContents) -> Result<Values, Problem> {
    if !contents.bytes_contents.is_empty() {
        return Ok(Values::Files(contents.bytes_contents));
    }
    if contents.uint_contents.is_empty() {
        return Err(Problem::argument(format!(
            "`{INPUT}` has 0 values: pixels are in uint_contents or raw_input_contents, files in \
             bytes_contents or raw_input_contents"
        )));
    }
    let pixels: Result<Vec<u8>, _> = contents.uint_contents.into_iter().map(u8::try_from).collect();
    match pixels {
        Ok(pixels) => Ok(Values::Pixels(pixels.into())),
        Err(_) => Err(Problem::argument(format!("`{INPUT}` has a value above 255"))),
    }
}

/// Values as they lie in memory, little-endian.
pub fn raw(logits: &[f32]) -> Bytes {
    logits.iter().flat_map(|logit| logit.to_le_bytes()).collect()
}

/// The time that the client gives a request: a number of up to eight digits and a unit.
pub fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = u64::from_str(digits).ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(count.saturating_mul(60))),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units() {
        let of = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(of("1M"), Some(Duration::from_secs(60)));
        assert_eq!(of("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(of("5m"), Some(Duration::from_millis(5)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("9n"), Some(Duration::from_nanos(9)));
        for odd in ["", "5", "m", "-1m", "5x"] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
