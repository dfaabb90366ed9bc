//! When requests passed which stage, and traces: their struct and exported functions.
//!
//! As in `calls.rs`, what each function promises stands in `ffi/twinstream.h`, and pointers are
//! NULL or point to what it says.

use std::ffi::{CStr, OsStr, c_char};
use std::fs;
use std::mem::{offset_of, size_of};
use std::os::unix::ffi::OsStrExt;

use crate::boundary::{check_may_block, panic_boundary};
use crate::layout::{self, Versioned, not_null};
use crate::registry::{self, EngineHandle};
use crate::status::{Failed, Status};
use twinstream::sched::{self, Reason};

/// `twinstream_timing`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    struct_size: u32,
    reason: i32,
    arrival_ns: u64,
    upload_started_ns: u64,
    upload_ended_ns: u64,
    compute_started_ns: u64,
    compute_ended_ns: u64,
    download_started_ns: u64,
    download_ended_ns: u64,
    announced_ns: u64,
    batch: u64,
    batch_len: u64,
    predicted_ns: u64,
    computed_ns: u64,
}

const _: () = assert!(size_of::<Timing>() == 104 && offset_of!(Timing, computed_ns) == 96);

// SAFETY: a plain C struct of integers that opens with `struct_size`.
unsafe impl Versioned for Timing {
    const NAME: &str = "twinstream_timing";
    const VERSIONS_BYTES: &[usize] = &[104];
}

/// `TWINSTREAM_REASON_`; 0 for one that the header doesn't have.
pub(crate) fn reason_value(reason: Reason) -> i32 {
    Reason::ALL.iter().position(|known| *known == reason).map_or(0, |place| place as i32 + 1)
}

impl From<sched::Timing> for Timing {
    fn from(timing: sched::Timing) -> Self {
        Self {
            struct_size: 0,
            reason: reason_value(timing.reason),
            arrival_ns: timing.arrival_ns,
            upload_started_ns: timing.upload_started_ns,
            upload_ended_ns: timing.upload_ended_ns,
            compute_started_ns: timing.compute_started_ns,
            compute_ended_ns: timing.compute_ended_ns,
            download_started_ns: timing.download_started_ns,
            download_ended_ns: timing.download_ended_ns,
            announced_ns: timing.announced_ns,
            batch: timing.batch,
            batch_len: timing.batch_len as u64,
            predicted_ns: timing.predicted_ns,
            computed_ns: timing.computed_ns,
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_request_timing(
    engine: *mut EngineHandle,
    request: u64,
    timing: *mut Timing,
) -> i32 {
    panic_boundary(|| {
        let found = registry::with(engine, |live| live.requests.timing(request))?;
        // SAFETY: see the module.
        unsafe { layout::write(timing, &Timing::from(found)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engine_trace(
    engine: *mut EngineHandle,
    path: *const c_char,
) -> i32 {
    panic_boundary(|| {
        not_null(path, "path is NULL")?;
        check_may_block()?;
        let taken = registry::with(engine, |live| Ok(live.engine.take_trace()))?;
        let text = "nothing is recorded: trace_len was 0 in the options";
        let trace = taken.ok_or_else(|| Failed::new(Status::State, text))?;
        // SAFETY: see the module; it was checked for NULL.
        let path = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
        fs::write(path, trace.chrome_json()).map_err(|error| {
            Failed::new(Status::Io, format!("cannot write {}: {error}", path.display()))
        })
    })
}
