//! Arguments that several calls take.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use twinstream::engine::RequestOptions;
use twinstream::sched::Priority;

use crate::errors;

/// Seconds that a caller gave, from 0.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| errors::value(name, "a number of seconds from 0", value))
}

/// What a request asks for: `deadline` is in seconds from now.
pub(crate) fn request_options(deadline: Option<f64>, priority: i64) -> PyResult<RequestOptions> {
    let priority = match priority {
        1 => Priority::High,
        0 => Priority::Normal,
        -1 => Priority::Low,
        other => return Err(errors::value("priority", "1 (high), 0 or -1 (low)", other)),
    };
    let deadline = deadline.map(|deadline| seconds("deadline", deadline)).transpose()?;
    let deadline = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
    Ok(RequestOptions::default().deadline(deadline).priority(priority))
}
