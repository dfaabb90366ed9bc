//! What balancers and autoscalers are told: load reports and gauges.

use std::time::{Duration, Instant};

use base64::prelude::*;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, IntoRequest, Request};
use tonic_prost::ProstCodec;
use twinstream::engine::EngineOptions;
use twinstream_server::ServerOptions;

use super::fixture::*;
use super::protocol::*;

const INFER: &str = "/v2/models/resnet50/infer";
const REPORT: &str = "endpoint-load-metrics";
const REPORT_BIN: &str = "endpoint-load-metrics-bin";
/// It computes an image in 2 ms, and 64 in 8.3.
const DEVICE: &str = "up=10us+1us,compute=1900us+100us,down=10us+1us";

/// The report of one answer over HTTP, asked for in this form.
fn asked(running: &Running, form: &str) -> Reply {
    let headers = format!("endpoint-load-metrics-format: {form}\r\n");
    let body = json_request(&[0; IMAGE_BYTES]);
    running.post(INFER, &headers, body.as_bytes())
}

fn decode(report: &str) -> OrcaLoadReport {
    OrcaLoadReport::decode(&*BASE64_STANDARD.decode(report).unwrap()).unwrap()
}

#[tokio::test]
async fn http_answers_report_in_the_form_that_is_asked_for() {
    let running = Running::simulated(DEVICE, EngineOptions::default(), Default::default());
    running.wait_for("twinstream_server_rate_max_hz", 1.0).await;
    let until = Instant::now() + Duration::from_secs(20);
    let report = loop {
        let report = decode(asked(&running, "bin").header(REPORT_BIN).unwrap());
        if report.application_utilization > 0.0 && report.rps_fractional > 0.0 {
            break report;
        }
        assert!(Instant::now() < until, "{report:?}");
    };
    assert!(report.application_utilization < 1.0, "{report:?}");
    assert_eq!(report.eps, 0.0);
    assert!(report.named_metrics["predicted_wait_seconds"] < 1.0);

    let reply = asked(&running, "text");
    let text = reply.header(REPORT).unwrap().strip_prefix("TEXT ").unwrap();
    let names: Vec<_> = text
        .split(", ")
        .map(|metric| {
            let (name, value) = metric.split_once('=').unwrap();
            value.parse::<f64>().unwrap();
            name
        })
        .collect();
    let wait = "named_metrics.predicted_wait_seconds";
    assert_eq!(names, ["application_utilization", "rps_fractional", "eps", wait]);
    let reply = asked(&running, "json");
    let json = reply.header(REPORT).unwrap().strip_prefix("JSON ").unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert!(json["rps_fractional"].as_f64().unwrap() > 0.0, "{json}");
    assert!(json["named_metrics"]["predicted_wait_seconds"].is_number(), "{json}");
    // Never two, and none that nobody asked for.
    assert_eq!(reply.header(REPORT_BIN), None);
    for reply in [asked(&running, "xml"), running.infer(&json_request(&[0; IMAGE_BYTES]))] {
        assert_eq!((reply.header(REPORT), reply.header(REPORT_BIN)), (None, None));
    }
}

/// Goal: the wait that is predicted is that of the images that are computed. Method: a server with
/// a cache that computes nothing, and is sent as many images as a batch may have: all equal, then
/// no two.
#[tokio::test]
async fn who_follows_an_equal_image_takes_no_time_of_its_own() {
    let options = EngineOptions::default().cache_bytes(1 << 20);
    let running = Running::stuck_on(DEVICE, &options);
    let client = running.client().await;
    let mut alive_len = 0.0;
    for (pixels, wait) in
        [(vec![7; 64 * IMAGE_BYTES], 2.0e-3..4.0e-3), (unequal(64), 8.0e-3..16e-3)]
    {
        let (mut client, wanted) = (client.clone(), request(&pixels));
        tokio::spawn(async move { client.model_infer(wanted).await });
        alive_len += 64.0;
        running.wait_for("twinstream_requests_alive", alive_len).await;
        // The wait that was predicted last may be that of before.
        running.wait_for("twinstream_server_predicted_wait_seconds", 0.8 * wait.start).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let found = running.metric("twinstream_server_predicted_wait_seconds");
        assert!((0.8 * wait.start..wait.end).contains(&found), "{found}, not {wait:?}");
    }
}

/// So many images, of which no two are equal.
fn unequal(len: u8) -> Vec<u8> {
    (0..len).flat_map(|number| [number; IMAGE_BYTES]).collect()
}

#[tokio::test]
async fn every_answer_reports_where_the_server_is_told_to() {
    let mut options = ServerOptions::default();
    options.load_reports = true;
    let running = Running::null(options);
    let answered = running.infer(&json_request(&[0; IMAGE_BYTES]));
    let refused = running.infer("{");
    for (reply, status) in [(answered, 200), (refused, 400)] {
        assert_eq!(reply.status, status);
        decode(reply.header(REPORT_BIN).unwrap());
    }
    assert_eq!(running.get("/v2/health/ready").header(REPORT_BIN), None);
    // Of a refusal over gRPC it is in the head, which is its end.
    let mut bad = request(&[0; IMAGE_BYTES]);
    bad.model_name = "cat".to_owned();
    let status = running.client().await.model_infer(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.metadata().get_bin(REPORT_BIN).is_some());
}

/// Goal: clients of gRPC look into the trailers, not the head. Method: as a stream, whose head
/// and trailers tonic keeps apart.
#[tokio::test]
async fn grpc_answers_report_in_their_trailers() {
    let running = Running::null(Default::default());
    let channel = Channel::from_shared(format!("http://{}", running.address)).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let mut wanted = request(&[0; IMAGE_BYTES]).into_request();
    wanted.metadata_mut().insert("endpoint-load-metrics-format", "bin".parse().unwrap());
    let path = "/inference.GRPCInferenceService/ModelInfer".parse().unwrap();
    let codec = ProstCodec::<ModelInferRequest, ModelInferResponse>::default();
    let answer = client.server_streaming(wanted, path, codec).await.unwrap();
    assert!(answer.metadata().get_bin(REPORT_BIN).is_none());
    let mut messages = answer.into_inner();
    assert!(messages.message().await.unwrap().is_some());
    let trailers = messages.trailers().await.unwrap().unwrap();
    let report = trailers.get_bin(REPORT_BIN).unwrap().to_bytes().unwrap();
    OrcaLoadReport::decode(report).unwrap();
}

#[tokio::test]
async fn reports_stream_as_often_as_is_asked_and_hold_no_end_up() {
    let running = Running::null(Default::default());
    let channel = Channel::from_shared(format!("http://{}", running.address)).unwrap();
    let mut client = LoadClient::new(channel.connect().await.unwrap());
    let mut ask = async |seconds, nanos| {
        let report_interval = Some(Interval { seconds, nanos });
        client.stream_core_metrics(Request::new(OrcaLoadReportRequest { report_interval })).await
    };
    assert_eq!(ask(-1, 0).await.unwrap_err().code(), Code::InvalidArgument);
    for (nanos, least_ms) in [(0, 100), (300_000_000, 300)] {
        let mut reports = ask(0, nanos).await.unwrap().into_inner();
        reports.message().await.unwrap().unwrap();
        let start = Instant::now();
        for _ in 0..3 {
            reports.message().await.unwrap().unwrap();
        }
        let taken = start.elapsed();
        // The first may have been under way for a while.
        assert!(taken >= Duration::from_millis(3 * least_ms - 50), "{taken:?}");
    }
    running.infer(&json_request(&[0; IMAGE_BYTES]));
    let mut reports = ask(0, 0).await.unwrap().into_inner();
    let until = Instant::now() + Duration::from_secs(20);
    while reports.message().await.unwrap().unwrap().rps_fractional == 0.0 {
        assert!(Instant::now() < until, "the request is not in any report");
    }
    let start = Instant::now();
    assert!(tokio::task::spawn_blocking(|| running.end().join().unwrap()).await.unwrap());
    assert!(start.elapsed() < Duration::from_secs(15), "as long as a request may take");
}

#[tokio::test]
async fn gauges_tell_what_could_come_in_addition() {
    let mut options = ServerOptions::default();
    options.latency_bound = Some(Duration::from_millis(40));
    let running = Running::simulated(DEVICE, EngineOptions::default(), options);
    running.wait_for("twinstream_server_rate_max_hz", 1.0).await;
    assert_eq!(running.metric("twinstream_server_latency_bound_seconds"), 0.04);
    let rate_max_hz = running.metric("twinstream_server_rate_max_hz");
    // Batches of 64 would be 7,700 a second.
    assert!((1000.0..7700.0).contains(&rate_max_hz), "{rate_max_hz}");
    let until = Instant::now() + Duration::from_secs(20);
    while running.metric("twinstream_server_headroom_hz") >= rate_max_hz {
        running.infer(&json_request(&[0; IMAGE_BYTES]));
        assert!(Instant::now() < until, "no arrival was taken off");
    }
}

/// Goal: what the engine's bound refuses is overload, and what a client's own deadline refuses is
/// not. Method: a device that takes 50 ms, and bounds and deadlines shorter than two batches.
#[test]
fn the_latency_bound_refuses_as_overload() {
    let bound = Duration::from_millis(80);
    let mut options = ServerOptions::default();
    options.latency_bound = Some(bound);
    let engine_options = EngineOptions::default().latency_bound(Some(bound)).batch_len_max(1);
    let device = "up=10us+1us,compute=50ms+1us,down=10us+1us";
    let running = Running::simulated(device, engine_options, options);
    let timed = |us: u64| {
        let json = json_request(&[0; IMAGE_BYTES]);
        json.replace(r#"{"inputs""#, &format!(r#"{{"parameters":{{"timeout":{us}}},"inputs""#))
    };
    let bodies = [json_request(&[0; IMAGE_BYTES]), timed(10_000_000), timed(70_000)];
    let replies: Vec<_> = std::thread::scope(|scope| {
        let running = &running;
        let asks: Vec<_> = (0..12)
            .map(|i| (i % 3, bodies[i % 3].clone()))
            .map(|(kind, body)| scope.spawn(move || (kind, running.infer(&body))))
            .collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let of = |kind: usize, status| {
        let is_it = |(k, r): &&(usize, Reply)| *k == kind && r.status == status;
        replies.iter().filter(is_it).count()
    };
    // Two or three are in time; the rest of each kind is refused in its own way.
    assert!(of(0, 200) + of(1, 200) + of(2, 200) <= 4, "{replies:?}");
    assert_eq!((of(0, 504), of(1, 504), of(2, 429)), (0, 0, 0), "{replies:?}");
    let refused = replies.iter().find(|(kind, reply)| *kind < 2 && reply.status == 429);
    let (_, refused) = refused.unwrap_or_else(|| panic!("{replies:?}"));
    assert!(refused.header("retry-after").is_some());
    assert!(refused.text().contains("within 80ms"), "{}", refused.text());
}
