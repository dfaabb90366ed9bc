//! The library's warnings and errors, for Python's `logging`: logger `twinstream`.
//!
//! Invariant: whoever logs never waits for the interpreter. Messages are kept, as many as there is
//! room for, until a call from Python hands them on.

use std::sync::OnceLock;

use crossbeam_queue::ArrayQueue;
use log::{Level, LevelFilter, Metadata, Record};
use pyo3::prelude::*;

const MESSAGES_MAX: usize = 256;

struct Messages(ArrayQueue<(Level, String)>);

static MESSAGES: OnceLock<Messages> = OnceLock::new();

impl log::Log for Messages {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // The oldest go first.
            self.0.force_push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Begins to keep messages; once.
pub(crate) fn start() {
    let messages = MESSAGES.get_or_init(|| Messages(ArrayQueue::new(MESSAGES_MAX)));
    if log::set_logger(messages).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Hands on what was logged since.
pub(crate) fn flush(py: Python<'_>) -> PyResult<()> {
    let Some(Messages(queue)) = MESSAGES.get().filter(|messages| !messages.0.is_empty()) else {
        return Ok(());
    };
    let logger = py.import("logging")?.call_method1("getLogger", ("twinstream",))?;
    while let Some((level, text)) = queue.pop() {
        let method = if level == Level::Error { "error" } else { "warning" };
        // Percent signs of the text are its own.
        logger.call_method1(method, ("%s", text))?;
    }
    Ok(())
}
