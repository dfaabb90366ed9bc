//! Why a request is not answered, and how gRPC and HTTP say so.
//!
//! Invariant: each protocol has one code for each cause. Knows nothing of requests.

use std::time::Duration;

use axum::http::StatusCode;
use tonic::Code;
use twinstream::engine::{Failure, Refused};

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
        Self { cause, text: text.into() }
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
            Cause::NotFound => Code::NotFound,
            Cause::TooLarge | Cause::Overload { .. } => Code::ResourceExhausted,
            Cause::Deadline => Code::DeadlineExceeded,
            Cause::Cancelled => Code::Cancelled,
            Cause::Failed => Code::Internal,
            Cause::Unavailable => Code::Unavailable,
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
