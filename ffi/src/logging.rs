//! Log messages to a callback of the caller.
//!
//! Invariant: callbacks run one at a time under a lock, so one that was replaced is not called
//! again; a thread that logs from inside a callback is not heard.

use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::boundary::{Text, in_callback};
use crate::layout::LogCallback;
use crate::status::{Failed, Outcome, Status};

struct Target {
    callback: LogCallback,
    /// Opaque to us, so its address is all that is kept.
    user_data: usize,
    text: Text,
}

struct Logger;

/// Whether the process's messages come here.
static IS_OURS: OnceLock<bool> = OnceLock::new();
static TARGET: Mutex<Option<Target>> = Mutex::new(None);

thread_local! {
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Sends messages up to `level` to `callback`.
pub(crate) fn set(
    level: i32,
    callback: Option<LogCallback>,
    user_data: *mut c_void,
) -> Outcome<()> {
    let filters = log::LevelFilter::iter();
    let Some(filter) = filters.into_iter().find(|filter| *filter as i32 == level) else {
        return Err(Failed::new(Status::Argument, format!("{level} is no TWINSTREAM_LOG_ level")));
    };
    if IS_LOGGING.get() {
        return Err(Failed::new(Status::InCallback, "a log callback must not call Twinstream"));
    }
    if !IS_OURS.get_or_init(|| log::set_logger(&Logger).is_ok()) {
        return Err(Failed::new(Status::State, "the program has a logger of its own"));
    }
    let user_data = user_data.expose_provenance();
    let target = callback.map(|callback| Target { callback, user_data, text: Text::new() });
    log::set_max_level(target.as_ref().map_or(log::LevelFilter::Off, |_| filter));
    *TARGET.lock().unwrap_or_else(PoisonError::into_inner) = target;
    Ok(())
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) || IS_LOGGING.replace(true) {
            return;
        }
        let mut target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Target { callback, user_data, text }) = &mut *target {
            text.clear();
            // Fails only where a `Display` of the message does; what came before it is sent.
            let _ = write!(text, "{}", record.args());
            let user_data = std::ptr::with_exposed_provenance_mut(*user_data);
            in_callback(|| {
                // SAFETY: a function that the caller gave for this, with what it gave along.
                unsafe { callback(user_data, record.level() as i32, text.as_c_str().as_ptr()) }
            });
        }
        drop(target);
        IS_LOGGING.set(false);
    }

    fn flush(&self) {}
}
