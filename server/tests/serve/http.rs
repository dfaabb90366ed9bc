//! HTTP: answers, and refusals that name the culprit.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::common::{repository, skip};
use super::fixture::*;

const INFER: &str = "/v2/models/resnet50/infer";

#[test]
fn answers_are_those_of_the_reference_in_every_form() {
    let running = Running::network();
    let (pixels, expected) = images();
    let (pixels, expected) = (&pixels[..2 * IMAGE_BYTES], &expected[..20]);
    let reply = running.infer(&json_request(pixels)).json();
    let found: Vec<f32> = serde_json::from_value(reply["outputs"][0]["data"].clone()).unwrap();
    assert_close(&found, expected);
    assert_eq!(reply["outputs"][0]["shape"], serde_json::json!([2, 10]));

    let json = r#"{"id":"7","inputs":[{"name":"image","datatype":"UINT8","shape":[2,32,32,3],
        "parameters":{"binary_data_size":6144}}],"parameters":{"binary_data_output":true}}"#;
    let body = [json.as_bytes(), pixels].concat();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    for path in [INFER, "/v2/models/resnet50/versions/1/infer"] {
        let reply = running.post(path, &headers, &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let length = reply.header("inference-header-content-length").unwrap().parse().unwrap();
        let (json, raw) = reply.body.split_at(length);
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["id"], "7");
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 80);
        assert_close(&floats(raw), expected);
    }
}

#[test]
fn image_files_come_as_bytes_or_base64() {
    use base64::prelude::*;
    let running = Running::network();
    let file = std::fs::read(repository("examples/images/cifar-cat.png")).unwrap();
    let input = r#""name":"image","datatype":"BYTES","shape":[1]"#;
    let output = r#""outputs":[{"name":"logits","parameters":{"classification":2}}]"#;
    let text = BASE64_STANDARD.encode(&file);
    let reply = running.infer(&format!(r#"{{"inputs":[{{{input},"data":["{text}"]}}],{output}}}"#));
    let classes = reply.json()["outputs"][0]["data"].clone();
    assert!(classes[0].as_str().unwrap().ends_with(":3:cat"), "{classes}");
    assert_eq!(classes.as_array().unwrap().len(), 2);

    let size = file.len() + 4;
    let json = format!(
        r#"{{"inputs":[{{{input},"parameters":{{"binary_data_size":{size}}}}}],{output},
        "parameters":{{"timing":true}}}}"#
    );
    let length = (file.len() as u32).to_le_bytes();
    let body = [json.as_bytes(), &length, &file].concat();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let reply = running.post(INFER, &headers, &body).json();
    assert_eq!(reply["outputs"][0]["data"], classes);
    assert!(reply["parameters"]["latency_ns"].as_u64().unwrap() > 0, "{reply}");
}

#[test]
fn server_and_model_describe_themselves() {
    let running = Running::network();
    assert_eq!(running.get("/v2/health/live").json()["live"], true);
    assert_eq!(running.get("/v2/health/ready").json()["ready"], true);
    assert_eq!(running.get("/v2/models/resnet50/ready").json()["ready"], true);
    assert_eq!(running.get("/v2").json()["name"], "twinstream");
    let model = running.get("/v2/models/resnet50").json();
    assert_eq!(model["inputs"][0]["shape"], serde_json::json!([-1, 32, 32, 3]));
    assert_eq!(model, running.get("/v2/models/resnet50/versions/1").json());
    let config = running.get("/v2/models/resnet50/config").json();
    assert_eq!(config["output"][0]["data_type"], "TYPE_FP32");
    let page = running.get("/metrics");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4"));
    assert!(page.text().contains("\ntwinstream_server_connections "), "{}", page.text());
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let running = Running::null(Default::default());
    assert!(running.get("/v1").error(404).contains("/v1"));
    assert!(running.get("/v2/models/cat").error(404).contains("no model `cat`"));
    assert!(running.get("/v2/models/resnet50/versions/2").error(404).contains("no version `2`"));
    assert_eq!(running.get(INFER).status, 405);
    assert!(running.infer("{").error(400).contains("the request's JSON: EOF"));
    assert!(running.infer(r#"{"inputs":[]}"#).error(400).contains("0 inputs"));
    assert!(running.infer(&json_request(&[0; 9])).error(400).contains("from 1 to 16"));
    let array = running.infer(r#"["",{},[]]"#).error(400);
    assert!(array.contains("expected an object"), "{array}");
    let reply = running.get(INFER);
    assert!(reply.error(405).contains("GET is not what /v2/models/resnet50/infer takes"));
    assert_eq!(reply.header("allow"), Some("POST"));
    let error = running.post(INFER, "Content-Encoding: gzip\r\n", b"x").error(415);
    assert!(error.contains("gzip"), "{error}");
    let header = "Inference-Header-Content-Length: 9\r\n";
    assert!(running.post(INFER, header, b"{}").error(400).contains("is 9"));
    let header = "Inference-Header-Content-Length: x\r\n";
    assert!(running.post(INFER, header, b"{}").error(400).contains("no length: `x`"));
    let null = json_request(&[0; IMAGE_BYTES]);
    assert_eq!(running.infer(&null).status, 200);
    let outcome = |name| running.outcome_len("http", name);
    assert_eq!((outcome("ok"), outcome("unsupported")), (1.0, 1.0));
    assert!(outcome("argument") >= 5.0);
}

#[test]
fn statistics_are_those_of_the_engine() {
    let running = Running::network();
    for _ in 0..3 {
        running.infer(&json_request(&[0; 2 * IMAGE_BYTES]));
    }
    let until = Instant::now() + Duration::from_secs(20);
    let stats = loop {
        let stats = running.get("/v2/models/resnet50/stats").json()["model_stats"][0].clone();
        if stats["inference_count"] == 6 {
            break stats;
        }
        assert!(Instant::now() < until, "{stats}");
    };
    assert!((1..=6).contains(&stats["execution_count"].as_u64().unwrap()), "{stats}");
    let times = &stats["inference_stats"];
    let ns = |stage: &str| {
        assert_eq!(times[stage]["count"], 6, "{stats}");
        times[stage]["ns"].as_u64().unwrap()
    };
    let parts = ["queue", "compute_input", "compute_infer", "compute_output"].map(ns);
    assert_eq!(ns("success"), parts.iter().sum::<u64>());
    assert!(ns("compute_infer") > 0 && times["fail"]["count"] == 0, "{stats}");
    assert_eq!(running.get("/v2/models/stats").json()["model_stats"][0], stats);
    assert!(running.get("/v2/models/cat/stats").error(404).contains("no model `cat`"));
}

#[test]
fn promtool_accepts_the_metrics() {
    if Command::new("promtool").arg("--version").output().is_err() {
        let reason = "no promtool (Debian's package prometheus has it)";
        return skip("promtool", "the server's metrics by Prometheus' own reader", reason);
    }
    let running = Running::null(Default::default());
    let page = running.get("/metrics").text();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}\n{page}");
}

/// Goal: whatever a body holds, there is an answer, and the server goes on. Method: a good request
/// of each form, with bytes changed, cut out and doubled at random.
#[test]
fn mangled_bodies_are_answered() {
    let running = Running::null(Default::default());
    let json = r#"{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],
        "parameters":{"binary_data_size":7}}],"outputs":[{"name":"logits"}]}"#;
    let binary = [json.as_bytes(), b"\x03\0\0\0abc"].concat();
    let pixels = json_request(&[200; IMAGE_BYTES]).into_bytes();
    let mut state: u64 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for round in 0..300 {
        let mut body = if round % 2 == 0 { binary.clone() } else { pixels[..400].to_vec() };
        for _ in 0..=random(4) {
            let at = random(body.len());
            match random(3) {
                0 => body[at] = random(256) as u8,
                1 => body.truncate(at + 1),
                _ => body.extend_from_within(at..),
            }
        }
        let headers = format!("Inference-Header-Content-Length: {}\r\n", random(json.len() + 9));
        let reply = running.post(INFER, if round % 3 == 0 { "" } else { &headers }, &body);
        assert!(matches!(reply.status, 200 | 400), "{reply:?}");
    }
    assert_eq!(running.infer(&json_request(&[0; IMAGE_BYTES])).status, 200);
}
