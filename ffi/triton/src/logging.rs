//! The library's messages in the server's log.

use std::ffi::c_int;
use std::path::Path;

use log::{Level, LevelFilter, Metadata, Record};

use crate::raw;
use crate::status::{c_text, check};

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => raw::LOG_ERROR,
            Level::Warn => raw::LOG_WARN,
            Level::Info => raw::LOG_INFO,
            Level::Debug | Level::Trace => raw::LOG_VERBOSE,
        };
        let file = record.file().and_then(|file| Path::new(file).file_name()).unwrap_or_default();
        let (file, text) = (c_text(&file.to_string_lossy()), c_text(&record.args().to_string()));
        let line = record.line().unwrap_or(0) as c_int;
        // SAFETY: the server copies what it writes.
        let status = unsafe { raw::log_message(level, file.as_ptr(), line, text.as_ptr()) };
        // There is nobody left to tell.
        let _ = check(status);
    }

    fn flush(&self) {}
}

/// From here on; the server says which levels it writes.
pub(crate) fn start() {
    // The first model's; further ones find it set.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
