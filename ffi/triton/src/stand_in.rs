//! For tests: the server's functions, over requests that do what no client can make a server do.
//!
//! Knows nothing of the backend.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard};

use crate::raw;

/// A request, its input, its response and its output in one.
pub(crate) struct FakeRequest {
    pub(crate) shape: Vec<i64>,
    /// In which the input lies, each with its kind of memory.
    pub(crate) buffers: Vec<(Vec<u8>, c_int)>,
    pub(crate) is_cancelled: bool,
    /// Where the output is to lie.
    pub(crate) output_memory: c_int,
    pub(crate) has_response: bool,
    output: Mutex<Vec<u8>>,
    seen: Mutex<Seen>,
}

impl FakeRequest {
    /// What happened to it so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// How often what was done, and with which errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// The error's number and text, or the bytes of the output.
    pub(crate) answers: Vec<Result<usize, (c_int, String)>>,
    pub(crate) successes: Vec<bool>,
    pub(crate) releases: usize,
}

/// So many images, in one buffer of the host's.
pub(crate) fn request_of(image_len: usize, image_bytes: usize) -> FakeRequest {
    FakeRequest {
        shape: vec![image_len as i64, 32, 32, 3],
        buffers: vec![(vec![7; image_len * image_bytes], raw::MEMORY_CPU)],
        is_cancelled: false,
        output_memory: raw::MEMORY_CPU,
        has_response: true,
        output: Mutex::default(),
        seen: Mutex::default(),
    }
}

struct FakeError(c_int, CString);

const DONE: raw::Status = ptr::null_mut();

/// What the server has, though no test comes to it.
macro_rules! unused {
    ($($number:ident $name:literal)*) => {
        $(
            #[unsafe(export_name = $name)]
            extern "C" fn $number() -> raw::Status {
                unreachable!("{} is not called by tests", $name)
            }
        )*
    };
}

unused!(
    unused_1 "TRITONBACKEND_ApiVersion"
    unused_2 "TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup"
    unused_3 "TRITONBACKEND_ModelName"
    unused_4 "TRITONBACKEND_ModelVersion"
    unused_5 "TRITONBACKEND_ModelRepository"
    unused_6 "TRITONBACKEND_ModelConfig"
    unused_7 "TRITONBACKEND_ModelAutoCompleteConfig"
    unused_8 "TRITONBACKEND_ModelSetConfig"
    unused_9 "TRITONBACKEND_ModelState"
    unused_10 "TRITONBACKEND_ModelSetState"
    unused_11 "TRITONBACKEND_ModelInstanceModel"
    unused_12 "TRITONBACKEND_ModelInstanceKind"
    unused_13 "TRITONBACKEND_ModelInstanceDeviceId"
    unused_14 "TRITONBACKEND_ModelInstanceState"
    unused_15 "TRITONBACKEND_ModelInstanceSetState"
    unused_16 "TRITONSERVER_MessageNewFromSerializedJson"
    unused_17 "TRITONSERVER_MessageSerializeToJson"
    unused_18 "TRITONSERVER_MessageDelete"
    unused_19 "TRITONBACKEND_RequestParameter"
    unused_20 "TRITONSERVER_LogMessage"
);

#[unsafe(export_name = "TRITONSERVER_ErrorNew")]
unsafe extern "C" fn error_new(code: c_int, text: *const c_char) -> raw::Status {
    // SAFETY: a text of the caller's.
    let text = unsafe { CStr::from_ptr(text) }.to_owned();
    Box::into_raw(Box::new(FakeError(code, text))).cast()
}

#[unsafe(export_name = "TRITONSERVER_ErrorDelete")]
unsafe extern "C" fn error_delete(error: *mut raw::Error) {
    // SAFETY: made above, and deleted once.
    drop(unsafe { Box::from_raw(error.cast::<FakeError>()) });
}

#[unsafe(export_name = "TRITONSERVER_ErrorMessage")]
unsafe extern "C" fn error_message(error: *mut raw::Error) -> *const c_char {
    // SAFETY: made above.
    unsafe { &*error.cast::<FakeError>() }.1.as_ptr()
}

#[unsafe(export_name = "TRITONBACKEND_ModelInstanceReportStatistics")]
unsafe extern "C" fn report(
    _: *mut raw::Instance,
    request: *mut raw::Request,
    is_success: bool,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> raw::Status {
    // SAFETY: a test's request.
    unsafe { &*request.cast::<FakeRequest>() }.seen().successes.push(is_success);
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_ModelInstanceReportBatchStatistics")]
extern "C" fn report_batch(
    _: *mut raw::Instance,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> raw::Status {
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_RequestInputCount")]
unsafe extern "C" fn input_len(_: *mut raw::Request, len: *mut u32) -> raw::Status {
    // SAFETY: a place of the caller's, as in all that follow.
    unsafe { *len = 1 };
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_RequestInputByIndex")]
unsafe extern "C" fn input(
    request: *mut raw::Request,
    _: u32,
    input: *mut *mut raw::Input,
) -> raw::Status {
    // SAFETY: as above.
    unsafe { *input = request.cast() };
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_RequestIsCancelled")]
unsafe extern "C" fn is_cancelled(request: *mut raw::Request, is: *mut bool) -> raw::Status {
    // SAFETY: a test's request.
    unsafe { *is = (*request.cast::<FakeRequest>()).is_cancelled };
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_InferenceRequestTimeoutMicroseconds")]
unsafe extern "C" fn timeout(_: *mut raw::Request, timeout_us: *mut u64) -> raw::Status {
    // SAFETY: as above.
    unsafe { *timeout_us = 0 };
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_RequestParameterCount")]
unsafe extern "C" fn parameter_len(_: *mut raw::Request, len: *mut u32) -> raw::Status {
    // SAFETY: as above.
    unsafe { *len = 0 };
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_RequestRelease")]
unsafe extern "C" fn release(request: *mut raw::Request, _: u32) -> raw::Status {
    // SAFETY: a test's request.
    unsafe { &*request.cast::<FakeRequest>() }.seen().releases += 1;
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_InputProperties")]
unsafe extern "C" fn properties(
    input: *mut raw::Input,
    name: *mut *const c_char,
    datatype: *mut c_int,
    shape: *mut *const i64,
    dim_len: *mut u32,
    len_bytes: *mut u64,
    buffer_len: *mut u32,
) -> raw::Status {
    // SAFETY: a test's request, and places of the caller's.
    unsafe {
        let request = &*input.cast::<FakeRequest>();
        *name = c"image".as_ptr();
        *datatype = raw::TYPE_UINT8;
        *shape = request.shape.as_ptr();
        *dim_len = request.shape.len() as u32;
        *len_bytes = request.shape.iter().product::<i64>() as u64;
        *buffer_len = request.buffers.len() as u32;
    }
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_InputBuffer")]
unsafe extern "C" fn input_buffer(
    input: *mut raw::Input,
    index: u32,
    buffer: *mut *const c_void,
    len_bytes: *mut u64,
    memory: *mut c_int,
    _: *mut i64,
) -> raw::Status {
    // SAFETY: a test's request, and places of the caller's.
    unsafe {
        let (bytes, kind) = &(&*input.cast::<FakeRequest>()).buffers[index as usize];
        *buffer = if bytes.is_empty() { ptr::null() } else { bytes.as_ptr().cast() };
        *len_bytes = bytes.len() as u64;
        *memory = *kind;
    }
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_ResponseNew")]
unsafe extern "C" fn response_new(
    response: *mut *mut raw::Response,
    request: *mut raw::Request,
) -> raw::Status {
    // SAFETY: a test's request, and a place of the caller's.
    unsafe {
        *response = request.cast();
        match (*request.cast::<FakeRequest>()).has_response {
            true => DONE,
            false => error_new(1, c"no memory for a response".as_ptr()),
        }
    }
}

#[unsafe(export_name = "TRITONBACKEND_ResponseOutput")]
unsafe extern "C" fn response_output(
    response: *mut raw::Response,
    output: *mut *mut raw::Output,
    _: *const c_char,
    _: c_int,
    _: *const i64,
    _: u32,
) -> raw::Status {
    // SAFETY: a place of the caller's.
    unsafe { *output = response.cast() };
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_OutputBuffer")]
unsafe extern "C" fn output_buffer(
    output: *mut raw::Output,
    buffer: *mut *mut c_void,
    len_bytes: u64,
    memory: *mut c_int,
    _: *mut i64,
) -> raw::Status {
    // SAFETY: a test's request, and places of the caller's.
    unsafe {
        let request = &*output.cast::<FakeRequest>();
        let mut bytes = request.output.lock().unwrap();
        *bytes = vec![0; len_bytes as usize];
        *buffer = bytes.as_mut_ptr().cast();
        *memory = request.output_memory;
    }
    DONE
}

#[unsafe(export_name = "TRITONBACKEND_ResponseSend")]
unsafe extern "C" fn send(
    response: *mut raw::Response,
    _: u32,
    error: *mut raw::Error,
) -> raw::Status {
    // SAFETY: a test's request, and an error that stays the caller's.
    unsafe {
        let request = &*response.cast::<FakeRequest>();
        let answer = match error.cast::<FakeError>().as_ref() {
            None => Ok(request.output.lock().unwrap().len()),
            Some(FakeError(code, text)) => Err((*code, text.to_string_lossy().into_owned())),
        };
        request.seen().answers.push(answer);
    }
    DONE
}
