//! Why something failed, here and as the server has it, and the panic boundary.
//!
//! Invariant: no panic leaves the library, and each error of the server is taken and deleted once.

use std::ffi::{CStr, CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use twinstream::engine::{Failure, Refused};
use twinstream::panic_text;

use crate::raw;

/// A call or a request that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    pub(crate) text: String,
}

/// See [`Failed`]; by the server's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Cause {
    Internal = 1,
    NotFound = 2,
    Argument = 3,
    Unavailable = 4,
    Unsupported = 5,
    Cancelled = 7,
}

pub(crate) type Outcome<T> = Result<T, Failed>;

impl Failed {
    pub(crate) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(Cause::Argument, text)
    }

    /// An error of the server's kind, which the receiver owns.
    pub(crate) fn into_raw(self) -> raw::Status {
        // SAFETY: the server copies the text, which ends with a zero.
        unsafe { raw::error_new(self.cause as c_int, c_text(&self.text).as_ptr()) }
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => {
                Self::new(Cause::Unavailable, format!("{refused}: send less at a time, or later"))
            }
            Refused::Size | Refused::Len => Self::argument(refused.to_string()),
            _ => Self::new(Cause::Unavailable, refused.to_string()),
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let cause = match failure {
            Failure::Cancelled => Cause::Cancelled,
            // As the server itself has it of requests whose time is over.
            Failure::Rejected | Failure::Expired => Cause::Unavailable,
            Failure::DeviceLost | Failure::ShutDown => Cause::Unavailable,
            _ => Cause::Internal,
        };
        Self::new(cause, failure.to_string())
    }
}

impl From<twinstream::Error> for Failed {
    fn from(error: twinstream::Error) -> Self {
        let cause = match () {
            () if error.is_io() => Cause::NotFound,
            () if error.is_argument() || error.is_weights() || error.is_config() => Cause::Argument,
            () => Cause::Internal,
        };
        Self::new(cause, error.to_string())
    }
}

/// What a call of the server's came to.
pub(crate) fn check(status: raw::Status) -> Outcome<()> {
    if status.is_null() {
        return Ok(());
    }
    // SAFETY: an error, which is ours to delete; its text lives as long.
    let text = unsafe {
        let text = CStr::from_ptr(raw::error_message(status)).to_string_lossy().into_owned();
        raw::error_delete(status);
        text
    };
    Err(Failed::new(Cause::Internal, text))
}

/// What the server gets of a call that it made.
pub(crate) fn boundary(call: impl FnOnce() -> Outcome<()>) -> raw::Status {
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = format!("a panic in the backend: {}", panic_text(&*panic));
        Err(Failed::new(Cause::Internal, text))
    });
    outcome.map_or_else(Failed::into_raw, |()| ptr::null_mut())
}

/// Does what the server is not told the end of.
pub(crate) fn contain(work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        log::error!("a panic in the backend: {}", panic_text(&*panic));
    }
}

/// For C, without the zeros that it may hold.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("zeros were taken out")
}
