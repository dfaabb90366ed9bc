//! The trace that a request belongs to, as W3C's recommendation Trace Context has it: given back
//! with the answer, and named where a request fails.
//!
//! Knows nothing of what is traced.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::problem::{Cause, Problem};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");
/// Lengths of the fields of a parent: version, trace, parent, flags, with dashes between them.
const FIELD_LENS: [usize; 4] = [2, 32, 16, 2];
/// Length of a parent of the version that is known, and that version.
const PARENT_BYTES: usize = 55;
const VERSION: &[u8] = b"00";
/// A version that there will never be.
const VERSION_NEVER: &[u8] = b"ff";

/// Gives the context back with the answer. One that cannot be read is ignored, its state with it.
pub async fn give_back(request: Request, next: Next) -> Response {
    let Some(parent) = parent(request.headers()).cloned() else { return next.run(request).await };
    let states: Vec<HeaderValue> = request.headers().get_all(STATE).iter().cloned().collect();
    let mut response = next.run(request).await;
    response.headers_mut().insert(PARENT, parent);
    for state in states {
        response.headers_mut().append(STATE, state);
    }
    response
}

/// Says in the log why an inference failed, and of which trace it is a part. Whatever clients can
/// bring about is told only to those who debug.
pub fn log(problem: &Problem, headers: &HeaderMap) {
    let level = match problem.cause {
        Cause::Failed => log::Level::Warn,
        _ => log::Level::Debug,
    };
    match parent(headers).and_then(|parent| parent.to_str().ok()) {
        Some(parent) => log::log!(level, "inference failed: {problem} (traceparent {parent})"),
        None => log::log!(level, "inference failed: {problem}"),
    }
}

/// The one that there is, if it can be read.
pub fn parent(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(PARENT).iter();
    let parent = all.next()?;
    (all.next().is_none() && is_parent(parent.as_bytes())).then_some(parent)
}

/// Versions to come may have more fields behind those that are known.
fn is_parent(text: &[u8]) -> bool {
    let mut fields = text.splitn(FIELD_LENS.len() + 1, |byte| *byte == b'-');
    let mut field = |len| fields.next().filter(|field| field.len() == len && is_hex(field));
    let [Some(version), Some(trace), Some(parent), Some(_)] = FIELD_LENS.map(&mut field) else {
        return false;
    };
    let is_zero = |field: &[u8]| field.iter().all(|digit| *digit == b'0');
    let may_be = version != VERSION_NEVER;
    let has_its_length = version != VERSION || text.len() == PARENT_BYTES;
    may_be && has_its_length && !is_zero(trace) && !is_zero(parent)
}

/// In the small letters that the recommendation demands.
fn is_hex(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn parents_are_read_as_the_recommendation_says() {
        let later = GOOD.replacen("00", "cc", 1);
        for good in [GOOD, &later, &format!("{later}-what-may-come")] {
            assert!(is_parent(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            &GOOD[..54],
            &format!("{GOOD}-00"),
            &format!("{later}x"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace("4bf9", "4BF9"),
            &GOOD.replace("4bf9", "4bg9"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
        ] {
            assert!(!is_parent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn of_two_parents_none_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(PARENT, HeaderValue::from_static(GOOD));
        assert_eq!(parent(&headers).unwrap(), GOOD);
        headers.append(PARENT, HeaderValue::from_static(GOOD));
        assert_eq!(parent(&headers), None);
    }
}
