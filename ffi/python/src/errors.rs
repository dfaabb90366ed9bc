//! What the library reports, as Python's exceptions: a class a cause.
//!
//! The classes are those of `twinstream._errors`. Texts name the culprit and, where one can act,
//! the remedy.

use std::fmt::Display;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use twinstream::Error;
use twinstream::engine::{Failure, Refused};

mod classes {
    use pyo3::import_exception;

    import_exception!(twinstream._errors, Cancelled);
    import_exception!(twinstream._errors, DeviceError);
    import_exception!(twinstream._errors, DeviceLost);
    import_exception!(twinstream._errors, Expired);
    import_exception!(twinstream._errors, Failed);
    import_exception!(twinstream._errors, FileError);
    import_exception!(twinstream._errors, Forked);
    import_exception!(twinstream._errors, Full);
    import_exception!(twinstream._errors, ImageError);
    import_exception!(twinstream._errors, MemoryRefused);
    import_exception!(twinstream._errors, ModelError);
    import_exception!(twinstream._errors, Rejected);
    import_exception!(twinstream._errors, ShutDown);
    import_exception!(twinstream._errors, TwinstreamError);
}

/// Why a request was not accepted.
pub(crate) fn refused(refused: Refused) -> PyErr {
    match refused {
        Refused::Full => classes::Full::new_err(
            "every slot is in use: retry later, keep fewer requests alive, or raise slot_len",
        ),
        Refused::ShutDown => classes::ShutDown::new_err(refused.to_string()),
        Refused::DeviceLost => classes::DeviceLost::new_err(refused.to_string()),
        Refused::Forked => classes::Forked::new_err(refused.to_string()),
        // Sizes are checked before.
        other => classes::TwinstreamError::new_err(other.to_string()),
    }
}

/// Why an accepted request has no answer.
pub(crate) fn failed(failure: Failure) -> PyErr {
    let text = failure.to_string();
    match failure {
        Failure::Rejected => classes::Rejected::new_err(text),
        Failure::Expired => classes::Expired::new_err(text),
        Failure::Cancelled => classes::Cancelled::new_err(text),
        Failure::Failed => classes::Failed::new_err(text),
        Failure::DeviceLost => classes::DeviceLost::new_err(text),
        Failure::ShutDown => classes::ShutDown::new_err(text),
        // None yet; each gets a class with its name.
        _ => classes::TwinstreamError::new_err(text),
    }
}

/// What a call of the library reports.
pub(crate) fn library(error: &Error) -> PyErr {
    let text = error.to_string();
    match error {
        error if error.is_argument() => PyValueError::new_err(text),
        error if error.is_image() => classes::ImageError::new_err(text),
        error if error.is_weights() || error.is_config() => classes::ModelError::new_err(text),
        error if error.is_io() => classes::FileError::new_err(text),
        error if error.is_memory() => classes::MemoryRefused::new_err(text),
        error if error.is_device() => classes::DeviceError::new_err(text),
        _ => classes::TwinstreamError::new_err(text),
    }
}

/// The same of one of several images, where the library cannot know which.
pub(crate) fn of_image(name: &str, error: &Error) -> PyErr {
    match error.is_image() {
        true => classes::ImageError::new_err(format!("{name}: {error}")),
        false => library(error),
    }
}

/// The engine was closed by the caller.
pub(crate) fn closed() -> PyErr {
    classes::ShutDown::new_err("the engine was closed")
}

/// This is a process that was forked off.
pub(crate) fn forked() -> PyErr {
    refused(Refused::Forked)
}

/// An argument of the wrong value: its name, what would have been right, and what it was.
pub(crate) fn value(name: &str, expected: &str, got: impl Display) -> PyErr {
    PyValueError::new_err(format!("{name}: expected {expected}, got {got}"))
}
