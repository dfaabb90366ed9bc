//! Ranges and stream names for profilers; nothing where the build found no NVTX.
//!
//! Invariant: a range ends once. With no profiler attached a range costs about a nanosecond.

use std::ffi::{CStr, CString, c_char};

use super::driver::Handle;
use super::stream::Stream;

unsafe extern "C" {
    fn twinstream_nvtx_start(name: *const c_char, payload: u64) -> u64;
    fn twinstream_nvtx_end(range: u64);
    fn twinstream_nvtx_name_stream(stream: Handle, name: *const c_char);
}

/// Work as a profiler shows it, from its submission until this is dropped.
pub(crate) struct Range(u64);

impl Range {
    /// `payload`: the length of the batch or chunk.
    pub(crate) fn new(name: &'static CStr, payload: u64) -> Self {
        // SAFETY: the name is a text that ends; it is copied.
        Self(unsafe { twinstream_nvtx_start(name.as_ptr(), payload) })
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: ends what was started, on whatever thread.
        unsafe { twinstream_nvtx_end(self.0) }
    }
}

/// Calls a stream by a name.
pub(crate) fn name_stream(stream: &Stream, name: &str) {
    let name = CString::new(name).expect("names hold no zero");
    // SAFETY: the stream lives, and the name is a text that ends; it is copied.
    unsafe { twinstream_nvtx_name_stream(stream.handle(), name.as_ptr()) }
}
