//! The driver's calls that `cust` lacks, and what the driver's results mean.
//!
//! Invariant: results are plain numbers here, so one that `cust` never heard of is no undefined
//! behaviour; which of them lose a device is decided in this file alone.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::ops::RangeInclusive;
use std::ptr;

use cust::error::CudaError;

use crate::backend::Fault;
use crate::error::{Error, Kind};

/// An opaque thing of the driver: context, stream, event, function or graph.
pub(crate) type Handle = *mut c_void;

const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;
const NOT_READY: c_int = 600;
const LAUNCH_OUT_OF_RESOURCES: c_int = 701;
const NOT_SUPPORTED: c_int = 801;
/// Of stream captures, others' included.
const STREAM_CAPTURE: RangeInclusive<c_int> = 900..=908;
const UNKNOWN: c_int = 999;

unsafe extern "C" {
    fn cuGetErrorString(result: c_int, text: *mut *const c_char) -> c_int;
    /// The result behind the latest "unknown" on this thread (`cuda/driver`).
    fn twinstream_driver_last_result() -> c_int;
    fn twinstream_driver_is_present() -> c_int;

    pub(crate) fn cuCtxGetCurrent(context: *mut Handle) -> c_int;
    pub(crate) fn cuCtxSetCurrent(context: Handle) -> c_int;
    pub(crate) fn cuCtxPushCurrent_v2(context: Handle) -> c_int;
    pub(crate) fn cuCtxPopCurrent_v2(context: *mut Handle) -> c_int;
    pub(crate) fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int;
    pub(crate) fn cuCtxSynchronize() -> c_int;
    pub(crate) fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> c_int;
    pub(crate) fn cuFuncGetAttribute(
        value: *mut c_int,
        attribute: c_int,
        function: Handle,
    ) -> c_int;
    pub(crate) fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) -> c_int;
    pub(crate) fn cuStreamCreateWithPriority(
        stream: *mut Handle,
        flags: c_uint,
        priority: c_int,
    ) -> c_int;
    pub(crate) fn cuStreamDestroy_v2(stream: Handle) -> c_int;
    pub(crate) fn cuStreamSynchronize(stream: Handle) -> c_int;
    pub(crate) fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) -> c_int;
    pub(crate) fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> c_int;
    pub(crate) fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> c_int;
    pub(crate) fn cuGraphInstantiateWithFlags(
        executable: *mut Handle,
        graph: Handle,
        flags: u64,
    ) -> c_int;
    pub(crate) fn cuGraphUpload(executable: Handle, stream: Handle) -> c_int;
    pub(crate) fn cuGraphLaunch(executable: Handle, stream: Handle) -> c_int;
    pub(crate) fn cuGraphExecDestroy(executable: Handle) -> c_int;
    pub(crate) fn cuGraphDestroy(graph: Handle) -> c_int;
    pub(crate) fn cuEventCreate(event: *mut Handle, flags: c_uint) -> c_int;
    pub(crate) fn cuEventDestroy_v2(event: Handle) -> c_int;
    pub(crate) fn cuEventRecord(event: Handle, stream: Handle) -> c_int;
    pub(crate) fn cuEventQuery(event: Handle) -> c_int;
    pub(crate) fn cuEventSynchronize(event: Handle) -> c_int;
    pub(crate) fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> c_int;
    pub(crate) fn cuMemcpyHtoDAsync_v2(
        to: u64,
        from: *const c_void,
        len_bytes: usize,
        stream: Handle,
    ) -> c_int;
    pub(crate) fn cuMemcpyDtoHAsync_v2(
        to: *mut c_void,
        from: u64,
        len_bytes: usize,
        stream: Handle,
    ) -> c_int;
    pub(crate) fn cuMemcpyDtoDAsync_v2(
        to: u64,
        from: u64,
        len_bytes: usize,
        stream: Handle,
    ) -> c_int;
    pub(crate) fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, len_bytes: usize) -> c_int;
    pub(crate) fn cuMemsetD8_v2(to: u64, value: u8, len_bytes: usize) -> c_int;
    pub(crate) fn cuThreadExchangeStreamCaptureMode(mode: *mut c_int) -> c_int;
    pub(crate) fn cuDriverGetVersion(version: *mut c_int) -> c_int;
    pub(crate) fn cuTensorMapEncodeTiled(
        map: *mut c_void,
        data_type: c_int,
        rank: c_uint,
        address: *mut c_void,
        dimensions: *const u64,
        strides_bytes: *const u64,
        lens: *const c_uint,
        steps: *const c_uint,
        interleave: c_int,
        swizzle: c_int,
        promotion: c_int,
        fill: c_int,
    ) -> c_int;
    pub(crate) fn cuTensorMapEncodeIm2col(
        map: *mut c_void,
        data_type: c_int,
        rank: c_uint,
        address: *mut c_void,
        dimensions: *const u64,
        strides_bytes: *const u64,
        corner_lower: *const c_int,
        corner_upper: *const c_int,
        channels: c_uint,
        pixels: c_uint,
        steps: *const c_uint,
        interleave: c_int,
        swizzle: c_int,
        promotion: c_int,
        fill: c_int,
    ) -> c_int;
    pub(crate) fn cuLaunchKernelEx(
        config: *const LaunchConfig,
        function: Handle,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> c_int;
}

/// CUlaunchConfig.
#[repr(C)]
pub(crate) struct LaunchConfig {
    pub(crate) grid: [c_uint; 3],
    pub(crate) block: [c_uint; 3],
    pub(crate) shared_bytes: c_uint,
    pub(crate) stream: Handle,
    pub(crate) attributes: *const LaunchAttribute,
    pub(crate) attribute_len: c_uint,
}

/// CUlaunchAttribute: a number that says which, and a union of which this is one member.
#[repr(C, align(8))]
pub(crate) struct LaunchAttribute {
    id: c_int,
    padding: c_int,
    value: [c_int; 16],
}

impl LaunchAttribute {
    /// The kernel waits itself for the one before it on the stream, so it may begin sooner
    /// (CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION).
    pub(crate) const DEPENDENT: Self = Self::new(6, [1, 0, 0]);

    /// So many blocks, neighbours along x, are one cluster (CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION).
    pub(crate) const fn cluster(block_len: u32) -> Self {
        Self::new(4, [block_len as c_int, 1, 1])
    }

    const fn new(id: c_int, [first, second, third]: [c_int; 3]) -> Self {
        let mut value = [0; 16];
        (value[0], value[1], value[2]) = (first, second, third);
        Self { id, padding: 0, value }
    }
}

const _: () = assert!(size_of::<LaunchConfig>() == 56 && size_of::<LaunchAttribute>() == 72);

/// A result of the driver that is no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(c_int);

/// `Ok`, or what went wrong.
pub(crate) fn check(result: c_int) -> Result<(), Code> {
    match result {
        0 => Ok(()),
        // SAFETY: reads a number of this thread.
        UNKNOWN => Err(Code(unsafe { twinstream_driver_last_result() })),
        _ => Err(Code(result)),
    }
}

/// Whether something is done: `Ok(false)` when it is not yet.
pub(crate) fn check_ready(result: c_int) -> Result<bool, Code> {
    if result == NOT_READY { Ok(false) } else { check(result).map(|()| true) }
}

/// Says that giving something back failed; there is nobody to return it to.
pub(crate) fn log_failure(what: &str, result: c_int) {
    if let Err(code) = check(result) {
        log::warn!("{what}: {code}");
    }
}

impl Code {
    /// The device answers nothing else from now on. Only these leave it as it was: a wrong
    /// argument, no memory, a launch that asks for too much, a call that is not supported, and one
    /// that is not allowed while a stream is captured.
    pub(crate) fn is_lost(self) -> bool {
        let harmless = [INVALID_VALUE, OUT_OF_MEMORY, LAUNCH_OUT_OF_RESOURCES, NOT_SUPPORTED];
        !harmless.contains(&self.0) && !STREAM_CAPTURE.contains(&self.0)
    }

    pub(crate) fn is_memory(self) -> bool {
        self.0 == OUT_OF_MEMORY
    }

    /// As the failure of an attempt to do `what`.
    pub(crate) fn error(self, what: impl fmt::Display) -> Error {
        let kind = if self.is_memory() { Kind::Memory } else { Kind::Device };
        // SAFETY: looks for the driver and changes nothing.
        if self.0 == NO_DEVICE && unsafe { twinstream_driver_is_present() } == 0 {
            let message = "no CUDA driver: libcuda.so.1 is not on this machine; install NVIDIA's \
                           driver, or use the CPU";
            return Error::new(Kind::Device, message);
        }
        Error::new(kind, format!("{what}: {self}"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ptr::null();
        // SAFETY: `text` is a place for a pointer; the texts are constants of the driver.
        let text = unsafe {
            cuGetErrorString(self.0, &mut text);
            if text.is_null() { c"unknown error" } else { CStr::from_ptr(text) }
        };
        write!(f, "CUDA error {} ({})", self.0, text.to_string_lossy())
    }
}

impl From<CudaError> for Code {
    fn from(error: CudaError) -> Self {
        // `cust` has numbers of its own beyond the driver's; they say what was wrong with a call.
        let code = if error as u32 > UNKNOWN as u32 { INVALID_VALUE } else { error as c_int };
        check(code).expect_err("an error is no success")
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        let message = code.to_string();
        if code.is_lost() { Self::lost(message) } else { Self::failed(message) }
    }
}
