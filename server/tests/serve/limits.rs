//! What clients may not do to others: long bodies, slow ones, too many connections.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tonic::Code;
use twinstream_server::ServerOptions;

use super::fixture::*;

/// With a short time for a request.
fn impatient() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.request_timeout = Duration::from_secs(3);
    options.body_bytes_max = 1 << 20;
    options
}

#[test]
fn long_bodies_are_refused_before_they_are_read() {
    let running = Running::null(impatient());
    let head =
        "POST /v2/models/resnet50/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n";
    // The body that never comes was not waited for: that would be 504.
    let error = running.http(head.as_bytes()).error(413);
    assert!(error.contains("1048576 bytes"), "{error}");
    // Without a length the first bytes too many end it.
    let head =
        "POST /v2/models/resnet50/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 19, " ".repeat(1 << 19));
    let body = format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n");
    assert!(running.http(body.as_bytes()).error(413).contains("1048576 bytes"));
}

#[tokio::test]
async fn long_messages_are_refused_by_their_length() {
    let running = Running::null(impatient());
    let mut client = running.client().await;
    let status = client.model_infer(request(&vec![0; 400 * IMAGE_BYTES])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    client.model_infer(request(&[0; IMAGE_BYTES])).await.unwrap();
    for outcome in ["ok", "too_large"] {
        assert_eq!(running.outcome_len("grpc", outcome), 1.0, "{outcome}");
    }
}

/// Goal: no message takes many times its bytes. Method: one whose fields are empty, each two bytes.
#[tokio::test]
async fn messages_of_many_fields_are_refused() {
    let running = Running::null(Default::default());
    let mut client = running.client().await;
    let mut many = request(&[0; IMAGE_BYTES]);
    many.raw_input_contents = vec![Default::default(); 20_000];
    let status = client.model_infer(many).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("above 16384 fields"), "{status}");
    assert_eq!(running.outcome_len("grpc", "argument"), 1.0);
    client.model_infer(request(&[0; IMAGE_BYTES])).await.unwrap();
}

#[test]
fn slow_bodies_end_in_time_and_hold_nothing() {
    let running = Running::null(impatient());
    let mut slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(running.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let head =
                "POST /v2/models/resnet50/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(running.metric("twinstream_slots_in_use"), 0.0);
    assert_eq!(running.infer(&json_request(&[0; IMAGE_BYTES])).status, 200);
    for stream in &mut slow {
        assert!(Reply::read(stream).error(504).contains("longer than 3s"));
    }
    assert_eq!(running.outcome_len("http", "deadline"), 50.0);
}

#[test]
fn connections_that_say_nothing_end_in_time() {
    let running = Running::null(impatient());
    let said = ["", "G", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost:"];
    let streams = said.map(|said| {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        (said, stream)
    });
    for (said, mut stream) in streams {
        let ended = stream.read_to_end(&mut Vec::new());
        let is_late = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!is_late, "{said:?}");
    }
}

#[test]
fn too_many_connections_are_closed_and_counted() {
    let mut options = ServerOptions::default();
    options.connection_len_max = 3;
    let running = Running::null(options);
    let held: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(running.address).unwrap();
            stream.write_all(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(Reply::read(&mut stream).status, 200);
            stream
        })
        .collect();
    let mut refused = TcpStream::connect(running.address).unwrap();
    assert_eq!(refused.read(&mut [0; 9]).unwrap_or(0), 0);
    drop(held);
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        if asked.is_ok()
            && let Some(reply) = Reply::try_read(&mut stream)
        {
            assert!(reply.text().contains("twinstream_server_connections_refused_total"));
            return;
        }
    }
    panic!("places never came back");
}

/// Goal: however many clients send bodies at once, they take no more memory than they may. Method:
/// a server with room for one body and a half; the second that comes in beside the first is
/// refused, over either protocol, and the first is answered.
#[tokio::test]
async fn bodies_share_their_memory() {
    let mut options = ServerOptions::default();
    options.bodies_bytes_max = 3 * IMAGE_BYTES / 2;
    let running = Running::null(options);
    let mut first = TcpStream::connect(running.address).unwrap();
    first.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let json = r#"{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,32,32,3],
        "parameters":{"binary_data_size":3072}}]}"#;
    let body = [json.as_bytes(), &[7; IMAGE_BYTES]].concat();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let whole = post("/v2/models/resnet50/infer", &headers, &body);
    let (part, rest) = whole.split_at(whole.len() - 9);
    first.write_all(part).unwrap();
    let mut client = running.client().await;
    // It and the metrics' own; its body was sent with its head.
    running.wait_for("twinstream_server_requests_in_progress", 2.0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = client.model_infer(request(&[0; IMAGE_BYTES])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let reply = running.post("/v2/models/resnet50/infer", &headers, &body);
    assert!(reply.error(429).contains("too much memory"));
    first.write_all(rest).unwrap();
    assert_eq!(Reply::read(&mut first).status, 200);
    client.model_infer(request(&[0; IMAGE_BYTES])).await.unwrap();
}
