//! What reads the bytes of clients, for the fuzz targets in `fuzz/`.
//!
//! Each panics where what was read is not as the server relies on it to be.

use std::time::Instant;

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value};

use crate::fields;
use crate::grpc;
use crate::images::{Images, Limits};
use crate::json::{InferRequest, InferResponse, OutputData, OutputTensor};
use crate::protocol::{
    ModelInferRequest, OrcaLoadReportRequest, SystemSharedMemoryRegisterRequest,
};
use crate::shared_memory::Regions;
use crate::trace_context;
use crate::wishes::{OUTPUT, Wishes};

const LIMITS: Limits = Limits { height: 2, width: 1, len_max: 3 };
const IMAGE_BYTES: usize = 6;

/// An inference over HTTP: where its JSON ends, in two bytes, then its body.
pub fn http(bytes: &[u8]) {
    let Some((split, body)) = bytes.split_first_chunk() else { return };
    let split = Some(usize::from(u16::from_le_bytes(*split))).filter(|split| *split != 0);
    let Ok((request, binary)) = InferRequest::read(&Bytes::copy_from_slice(body), split) else {
        return;
    };
    let InferRequest { id, parameters, inputs, outputs } = request;
    let outputs = outputs.iter().map(|output| (&*output.name, &output.parameters));
    let wishes = Wishes::new(&parameters, outputs, Instant::now(), None);
    let off = Regions::new(false, 0);
    if let Ok(images) = InferRequest::images(inputs, (LIMITS, &off), binary) {
        check(&images);
    }
    if wishes.is_ok() {
        check_response(&id, body);
    }
}

/// An inference over gRPC, and the other messages that hold more than a name.
pub fn grpc(bytes: &[u8]) {
    let _ = SystemSharedMemoryRegisterRequest::decode(bytes);
    let _ = OrcaLoadReportRequest::decode(bytes);
    if fields::check(bytes).is_err() {
        return;
    }
    let Ok(request) = ModelInferRequest::decode(Bytes::copy_from_slice(bytes)) else { return };
    let ModelInferRequest { parameters, inputs, outputs, raw_input_contents, .. } = request;
    assert!(inputs.len() + outputs.len() + raw_input_contents.len() <= fields::FIELD_LEN_MAX);
    let outputs = outputs.iter().map(|output| (&*output.name, &output.parameters));
    let _ = Wishes::new(&parameters, outputs, Instant::now(), None);
    let off = Regions::new(false, 0);
    if let Ok(images) = grpc::images(inputs, raw_input_contents, (LIMITS, &off)) {
        check(&images);
    }
}

/// Headers with values of the client's.
pub fn headers(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", value.clone());
    headers.insert("grpc-timeout", value);
    if let Some(parent) = trace_context::parent(&headers) {
        assert!(parent.len() >= 55 && parent.to_str().is_ok(), "{parent:?}");
    }
    let _ = grpc::timeout(&tonic::metadata::MetadataMap::from_headers(headers));
}

fn check(images: &Images) {
    let (len, is_whole) = match images {
        Images::Pixels { bytes, len } => (*len, bytes.len() == len * IMAGE_BYTES),
        Images::Files(files) => (files.len(), true),
    };
    assert!(is_whole && (1..=LIMITS.len_max).contains(&len), "{images:?}");
}

/// Whatever id and logits it has, a response is JSON.
fn check_response(id: &str, bytes: &[u8]) {
    let logits = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    let logits: Vec<f32> = logits.collect();
    let response = InferResponse {
        model_name: "",
        model_version: "",
        id,
        parameters: Map::new(),
        outputs: [OutputTensor {
            name: OUTPUT,
            datatype: "FP32",
            shape: [1, logits.len()],
            parameters: Map::new(),
            data: Some(OutputData::Logits(&logits)),
        }],
    };
    let json: Value = serde_json::from_slice(&serde_json::to_vec(&response).unwrap()).unwrap();
    assert_eq!(json["id"].as_str().unwrap_or(""), id);
    assert_eq!(json["outputs"][0]["data"].as_array().unwrap().len(), logits.len());
}
