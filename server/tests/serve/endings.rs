//! How a server ends: not ready first, then nothing that it read is lost.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use twinstream_server::ServerOptions;

use super::fixture::*;

#[test]
fn everything_that_was_read_is_answered() {
    let running = Running::network();
    let address = running.address;
    let body = post("/v2/models/resnet50/infer", "", json_request(&[9; IMAGE_BYTES]).as_bytes());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = || {
            let mut answered_len = 0;
            while !is_over.load(Ordering::Relaxed) {
                // After the end nobody listens.
                let Ok(mut stream) = TcpStream::connect(address) else { break };
                if stream.write_all(&body).is_err() {
                    break;
                }
                // None where the connection was in the listener's queue, and so not read.
                let Some(reply) = Reply::try_read(&mut stream) else { break };
                assert_eq!(reply.status, 200, "{}", reply.text());
                answered_len += 1;
            }
            answered_len
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        thread::sleep(Duration::from_millis(500));
        let ended = running.end().join().unwrap();
        is_over.store(true, Ordering::Relaxed);
        assert!(ended, "something was not answered");
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

#[test]
fn it_lingers_not_ready_and_answers_still() {
    let mut options = ServerOptions::default();
    options.linger = Duration::from_secs(5);
    let running = Running::null(options);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(running.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        Reply::read(&mut stream)
    };
    assert_eq!(get("/v2/health/ready").status, 200);
    let address = running.address;
    let thread = running.end();
    let start = Instant::now();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        Reply::read(&mut stream)
    };
    while ask("/v2/health/ready").status != 503 {
        assert!(start.elapsed() < Duration::from_secs(5), "still ready");
    }
    assert_eq!(ask("/v2/health/live").status, 200);
    let mut stream = TcpStream::connect(address).unwrap();
    let body = json_request(&[9; IMAGE_BYTES]);
    stream.write_all(&post("/v2/models/resnet50/infer", "", body.as_bytes())).unwrap();
    assert_eq!(Reply::read(&mut stream).status, 200);
    assert!(thread.join().unwrap());
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[test]
fn it_says_so_where_something_was_not_answered_in_time() {
    let mut options = ServerOptions::default();
    options.drain_timeout = Duration::from_millis(200);
    let running = Running::stuck(4, options);
    let mut stream = TcpStream::connect(running.address).unwrap();
    let body = json_request(&[9; IMAGE_BYTES]);
    stream.write_all(&post("/v2/models/resnet50/infer", "", body.as_bytes())).unwrap();
    while running.metric("twinstream_slots_in_use") < 1.0 {}
    assert!(!running.end().join().unwrap());
}

/// Goal: whoever is connected and says nothing, or not all of it, holds nobody up.
#[test]
fn silent_connections_are_not_waited_for() {
    let running = Running::null(ServerOptions::default());
    let held: Vec<TcpStream> = ["", "G", "PRI * HTTP/2.0\r\n", "GET /v2 HTTP/1.1\r\nHost:"]
        .map(|said| {
            let mut stream = TcpStream::connect(running.address).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            stream
        })
        .into();
    assert_eq!(running.get("/v2/health/live").status, 200);
    let start = Instant::now();
    assert!(running.end().join().unwrap());
    assert!(start.elapsed() < Duration::from_secs(15), "as long as a request may take");
    drop(held);
}

#[tokio::test]
async fn who_watches_its_health_is_told_and_not_waited_for() {
    let running = Running::null(ServerOptions::default());
    let channel = Channel::from_shared(format!("http://{}", running.address)).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let watched = HealthCheckRequest { service: String::new() };
    let mut watch = client.watch(watched).await.unwrap().into_inner();
    let told = watch.message().await.unwrap().unwrap().status();
    assert_eq!(told, ServingStatus::Serving);
    let start = Instant::now();
    let ended = running.end();
    let told = watch.message().await.unwrap().unwrap().status();
    assert_eq!(told, ServingStatus::NotServing);
    assert!(tokio::task::spawn_blocking(|| ended.join().unwrap()).await.unwrap());
    assert!(start.elapsed() < Duration::from_secs(15), "as long as a request may take");
}
