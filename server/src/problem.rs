//! Why a request is not answered, and how gRPC and HTTP say so.
//!
//! Invariant: each protocol has one code for each cause. Knows nothing of requests.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use twinstream::engine::{Failure, Refused};

/// Most bytes of a text: clients' own words are in it, and gRPC carries it in a header.
const TEXT_BYTES_MAX: usize = 512;
/// When clients are told to come again over gRPC: the retry design's key, in milliseconds.
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A request that is not answered with a result.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    pub cause: Cause,
    pub text: String,
}

/// See [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client asked for what cannot be.
    Argument,
    /// The client has not shown that it may ask.
    Unauthenticated,
    /// There is no such model or address.
    NotFound,
    /// The body is longer than is read.
    TooLarge,
    /// The body is in a form that is not read.
    Unsupported,
    /// There is no room now; when there may be.
    Overload { retry_after: Duration },
    /// The deadline has passed or cannot be met.
    Deadline,
    /// Somebody cancelled it.
    Cancelled,
    /// The device failed at it.
    Failed,
    /// The server ends, or its device is lost.
    Unavailable,
}

impl Problem {
    pub fn new(cause: Cause, text: impl Into<String>) -> Self {
        let mut text = text.into();
        // Clients' own words may be meant to look like other lines of a log.
        if text.contains(char::is_control) {
            text = text.escape_debug().to_string();
        }
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push('…');
        }
        Self { cause, text }
    }

    pub fn argument(text: impl Into<String>) -> Self {
        Self::new(Cause::Argument, text)
    }

    /// What the engine refused; it has room again after `wait`.
    pub fn refused(refused: Refused, wait: impl FnOnce() -> Duration) -> Self {
        let cause = match refused {
            Refused::Full => Cause::Overload { retry_after: wait() },
            Refused::Size | Refused::Len => Cause::Argument,
            _ => Cause::Unavailable,
        };
        Self::new(cause, refused.to_string())
    }

    pub fn http_status(&self) -> StatusCode {
        match self.cause {
            Cause::Argument => StatusCode::BAD_REQUEST,
            Cause::Unauthenticated => StatusCode::UNAUTHORIZED,
            Cause::NotFound => StatusCode::NOT_FOUND,
            Cause::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Cause::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Cause::Overload { .. } => StatusCode::TOO_MANY_REQUESTS,
            Cause::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Cause::Cancelled | Cause::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Cause::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub fn grpc_code(&self) -> Code {
        match self.cause {
            Cause::Argument | Cause::Unsupported => Code::InvalidArgument,
            Cause::Unauthenticated => Code::Unauthenticated,
            Cause::NotFound => Code::NotFound,
            Cause::TooLarge | Cause::Overload { .. } => Code::ResourceExhausted,
            Cause::Deadline => Code::DeadlineExceeded,
            Cause::Cancelled => Code::Cancelled,
            Cause::Failed => Code::Internal,
            Cause::Unavailable => Code::Unavailable,
        }
    }
}

impl Problem {
    /// As the protocol of a request with these headers has it.
    pub fn response_to(self, headers: &HeaderMap) -> Response {
        let content_type = headers.get(header::CONTENT_TYPE);
        match content_type {
            Some(kind) if kind.as_bytes().starts_with(b"application/grpc") => {
                Status::from(self).into_http()
            }
            _ => self.into_response(),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let cause = match failure {
            Failure::Rejected | Failure::Expired => Cause::Deadline,
            Failure::Cancelled => Cause::Cancelled,
            Failure::DeviceLost | Failure::ShutDown => Cause::Unavailable,
            _ => Cause::Failed,
        };
        Self::new(cause, failure.to_string())
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut status = Self::new(problem.grpc_code(), problem.text);
        if let Cause::Overload { retry_after } = problem.cause {
            let ms = retry_after.as_millis().max(1) as u64;
            status.metadata_mut().insert(RETRY_PUSHBACK, MetadataValue::from(ms));
        }
        status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        match self.cause {
            Cause::Overload { retry_after } => {
                // Whole seconds, as HTTP has no others.
                let seconds = retry_after.max(Duration::from_secs(1)).as_secs();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Cause::Unauthenticated => {
                let bearer = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, bearer);
            }
            _ => {}
        }
        let status = self.http_status();
        (status, headers, json!({ "error": self.text }).to_string()).into_response()
    }
}
