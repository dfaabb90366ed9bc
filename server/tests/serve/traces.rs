//! The trace that a request belongs to: it comes back, and where the request fails the log has it.

use std::sync::{Mutex, PoisonError};

use tonic::IntoRequest;

use super::fixture::*;

const INFER: &str = "/v2/models/resnet50/infer";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What was logged in this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn contexts_come_back_and_are_in_the_log() {
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let running = Running::null(Default::default());
    let good = json_request(&[0; IMAGE_BYTES]);
    let ask = |parent: &str, body: &str| {
        let headers = format!("traceparent: {parent}\r\ntracestate: a=1\r\ntracestate: b=2\r\n");
        running.post(INFER, &headers, body.as_bytes())
    };
    for (body, status) in [(&*good, 200), ("{", 400)] {
        let reply = ask(PARENT, body);
        assert_eq!((reply.status, reply.header("traceparent")), (status, Some(PARENT)));
        let states = reply.head.lines().filter(|line| line.starts_with("tracestate: ")).count();
        assert_eq!(states, 2, "{}", reply.head);
    }
    let upper = PARENT.to_uppercase();
    let reply = ask(&upper, &good);
    assert_eq!((reply.status, reply.header("traceparent")), (200, None));
    assert_eq!(reply.header("tracestate"), None);

    let mut client = running.client().await;
    let mut asked = request(&[0; 9]).into_request();
    let other = PARENT.replace("01", "00");
    asked.metadata_mut().insert("traceparent", other.parse().unwrap());
    let status = client.model_infer(asked).await.unwrap_err();
    assert_eq!(status.metadata().get("traceparent").unwrap(), &other);
    let lines = LINES.lock().unwrap();
    for (parent, told) in [(PARENT, "the request's JSON"), (&other, "from 1 to 16")] {
        let has_both = |line: &&String| line.contains(parent) && line.contains(told);
        assert_eq!(lines.iter().filter(has_both).count(), 1, "{lines:?}");
    }
}
