//! gRPC: answers, and refusals that name the culprit.

use std::time::Duration;

use tonic::{Code, Request};

use super::common::repository;
use super::fixture::*;
use super::protocol::*;

#[tokio::test]
async fn answers_are_those_of_the_reference_in_every_form() {
    let running = Running::network();
    let mut client = running.client().await;
    let (pixels, expected) = images();
    // One at a time, then several as one.
    for (pixels, expected) in
        pixels.chunks(7 * IMAGE_BYTES).zip(expected.chunks(70)).skip(1).take(4)
    {
        let raw = client.model_infer(request(pixels)).await.unwrap().into_inner();
        assert_eq!(raw.outputs[0].shape, [7, 10]);
        assert_eq!(raw.outputs[0].datatype, "FP32");
        assert_close(&floats(&raw.raw_output_contents[0]), expected);
    }
    let mut typed = request(&pixels[..IMAGE_BYTES]);
    let uint_contents = pixels[..IMAGE_BYTES].iter().map(|pixel| (*pixel).into()).collect();
    typed.inputs[0].contents = Some(InferTensorContents { uint_contents, ..Default::default() });
    typed.raw_input_contents.clear();
    typed.id = "my id".to_owned();
    let answer = client.model_infer(typed).await.unwrap().into_inner();
    assert_eq!((&*answer.id, &*answer.model_name, &*answer.model_version), ("my id", NAME, "1"));
    assert_close(&floats(&answer.raw_output_contents[0]), &expected[..10]);
}

#[tokio::test]
async fn image_files_are_decoded_and_classes_named() {
    let running = Running::network();
    let mut client = running.client().await;
    let read = |name: &str| std::fs::read(repository(&format!("examples/images/{name}"))).unwrap();
    let files = ["cifar-cat.png", "cifar-ship.png", "cifar-horse.png"].map(read);
    let mut raw = Vec::new();
    for file in &files {
        raw.extend_from_slice(&(file.len() as u32).to_le_bytes());
        raw.extend_from_slice(file);
    }
    let mut asked = request(&[]);
    asked.inputs = vec![tensor("BYTES", vec![3])];
    asked.raw_input_contents = vec![raw.into()];
    let class_len = InferParameter { parameter_choice: Some(Parameter::Int64(1)) };
    asked.outputs = vec![InferRequestedOutputTensor {
        name: "logits".to_owned(),
        parameters: [("classification".to_owned(), class_len.clone())].into(),
    }];
    let yes = InferParameter { parameter_choice: Some(Parameter::Bool(true)) };
    asked.parameters = [("timing".to_owned(), yes)].into();
    let answer = client.model_infer(asked).await.unwrap().into_inner();
    assert_eq!((&*answer.outputs[0].datatype, &*answer.outputs[0].shape), ("BYTES", &[3, 1][..]));
    let text = String::from_utf8_lossy(&answer.raw_output_contents[0]).into_owned();
    for label in [":3:cat", ":8:ship", ":7:horse"] {
        assert!(text.contains(label), "{text}");
    }
    let Some(Parameter::Int64(latency_ns)) = answer.parameters["latency_ns"].parameter_choice
    else {
        panic!("{:?}", answer.parameters)
    };
    assert!(latency_ns > 0);
}

#[tokio::test]
async fn server_and_model_describe_themselves() {
    let running = Running::network();
    let mut client = running.client().await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let (name, version) = (NAME.to_owned(), "1".to_owned());
    let ready = ModelReadyRequest { name: name.clone(), version: version.clone() };
    assert!(client.model_ready(ready).await.unwrap().into_inner().ready);
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server.name, "twinstream");
    let asked = ModelMetadataRequest { name: name.clone(), version: version.clone() };
    let model = client.model_metadata(asked).await.unwrap().into_inner();
    assert_eq!(model.inputs[0].shape, [-1, 32, 32, 3]);
    assert_eq!(model.outputs[0].shape, [-1, 10]);
    let asked = ModelConfigRequest { name, version };
    let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.input[0].data_type, config.output[0].data_type), (TYPE_UINT8, TYPE_FP32));
    assert_eq!(config.output[0].dims, [10]);
    assert!(config.max_batch_size > 1);
    assert!(server.extensions.contains(&"statistics".to_owned()));
    let asked = ModelStatisticsRequest::default();
    let stats = client.model_statistics(asked).await.unwrap().into_inner().model_stats;
    assert_eq!((&*stats[0].name, stats[0].inference_count), (NAME, 0));
    let asked = ModelStatisticsRequest { name: "cat".to_owned(), version: String::new() };
    let status = client.model_statistics(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let running = Running::null(Default::default());
    let mut client = running.client().await;
    let good = request(&[0; IMAGE_BYTES]);
    type Change = fn(&mut ModelInferRequest);
    let cases: [(Change, Code, &str); 12] = [
        (|r| r.model_name = "cat".to_owned(), Code::NotFound, "no model `cat`"),
        (|r| r.model_version = "2".to_owned(), Code::NotFound, "no version `2`"),
        (|r| r.inputs.clear(), Code::InvalidArgument, "0 inputs"),
        (|r| r.inputs.push(r.inputs[0].clone()), Code::InvalidArgument, "2 inputs"),
        (|r| r.inputs[0].name = "img".to_owned(), Code::InvalidArgument, "no input `img`"),
        (|r| r.inputs[0].datatype = "FP32".to_owned(), Code::InvalidArgument, "FP32"),
        (|r| r.inputs[0].shape[1] = 31, Code::InvalidArgument, "[1, 31, 32, 3]"),
        (|r| r.inputs[0].shape[0] = 17, Code::InvalidArgument, "from 1 to 16"),
        (|r| r.raw_input_contents.clear(), Code::InvalidArgument, "has 0 values"),
        (
            |r| r.raw_input_contents.clear(),
            Code::InvalidArgument,
            "pixels are in uint_contents or raw_input_contents",
        ),
        (|r| r.raw_input_contents[0].truncate(9), Code::InvalidArgument, "has 9 values"),
        (
            |r| r.inputs[0].contents = Some(Default::default()),
            Code::InvalidArgument,
            "has its values once",
        ),
    ];
    for (change, code, text) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let status = client.model_infer(bad).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let mut file = good.clone();
    file.inputs = vec![tensor("BYTES", vec![1])];
    file.raw_input_contents = vec![b"\x03\0\0\0abc".to_vec().into()];
    let status = client.model_infer(file).await.unwrap_err();
    assert!(status.message().starts_with("image file 0: "), "{status}");
    client.model_infer(good).await.unwrap();
    running.wait_for(r#"twinstream_requests_ended_total{outcome="completed"}"#, 1.0).await;
}

#[tokio::test]
async fn deadlines_end_requests_and_clients_that_leave_cancel_theirs() {
    let running = Running::stuck(8, Default::default());
    let mut client = running.client().await;
    let mut timed = request(&[0; IMAGE_BYTES]);
    let us = InferParameter { parameter_choice: Some(Parameter::Int64(20_000)) };
    timed.parameters = [("timeout".to_owned(), us)].into();
    let status = client.model_infer(timed).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    // The client gives up by itself here, and tells the server what it waited for.
    let mut timed = Request::new(request(&[0; IMAGE_BYTES]));
    timed.set_timeout(Duration::from_millis(20));
    client.model_infer(timed).await.unwrap_err();
    let left = client.model_infer(request(&[0; IMAGE_BYTES]));
    assert!(tokio::time::timeout(Duration::from_secs(1), left).await.is_err());
    running.wait_for(r#"twinstream_requests_ended_total{outcome="cancelled"}"#, 1.0).await;
    let left = r#"twinstream_server_requests_total{protocol="grpc",outcome="cancelled"}"#;
    running.wait_for(left, 1.0).await;
}

#[tokio::test]
async fn overload_is_told_at_once_and_when_to_come_again() {
    let running = Running::stuck(1, Default::default());
    let client = running.client().await;
    let first = tokio::spawn({
        let mut client = client.clone();
        async move { client.model_infer(request(&[0; IMAGE_BYTES])).await }
    });
    running.wait_for("twinstream_slots_in_use", 1.0).await;
    let mut client = client;
    for _ in 0..100 {
        let mut timed = request(&[0; IMAGE_BYTES]);
        let us = InferParameter { parameter_choice: Some(Parameter::Int64(10_000)) };
        timed.parameters = [("timeout".to_owned(), us)].into();
        let status = client.model_infer(timed).await.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            let ms = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
            assert!(ms.parse::<u64>().unwrap() >= 1);
            first.abort();
            return;
        }
    }
    panic!("one slot, and two requests have it");
}
