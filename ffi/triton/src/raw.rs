//! Triton's functions, which are found in the server that loads the library, and the numbers that
//! they take.
//!
//! Declarations alone: each function returns null or an error that the caller owns.

use std::ffi::{c_char, c_int, c_void};

macro_rules! opaque {
    ($($name:ident)*) => {
        $(
            #[repr(C)]
            pub(crate) struct $name([u8; 0]);
        )*
    };
}

opaque!(Attribute Backend Error Input Instance Message Model Output Request Response);

/// How a call ended: null, or why it failed.
pub(crate) type Status = *mut Error;

/// Of the interface that these declarations are of.
pub(crate) const API_VERSION_MAJOR: u32 = 1;
/// Of configurations.
pub(crate) const CONFIG_VERSION: u32 = 1;
/// An artifact is a folder.
pub(crate) const ARTIFACT_FILES: c_int = 0;
pub(crate) const KIND_CPU: c_int = 1;
pub(crate) const KIND_GPU: c_int = 2;
pub(crate) const LOG_INFO: c_int = 0;
pub(crate) const LOG_WARN: c_int = 1;
pub(crate) const LOG_ERROR: c_int = 2;
pub(crate) const LOG_VERBOSE: c_int = 3;
pub(crate) const MEMORY_CPU: c_int = 0;
pub(crate) const MEMORY_GPU: c_int = 2;
pub(crate) const PARAMETER_INT: c_int = 1;
pub(crate) const RELEASE_ALL: u32 = 1;
pub(crate) const RESPONSE_FINAL: u32 = 1;
pub(crate) const TYPE_UINT8: c_int = 2;
pub(crate) const TYPE_FP32: c_int = 11;

unsafe extern "C" {
    #[link_name = "TRITONSERVER_ErrorNew"]
    pub(crate) fn error_new(code: c_int, text: *const c_char) -> Status;
    #[link_name = "TRITONSERVER_ErrorDelete"]
    pub(crate) fn error_delete(error: *mut Error);
    #[link_name = "TRITONSERVER_ErrorMessage"]
    pub(crate) fn error_message(error: *mut Error) -> *const c_char;
    #[link_name = "TRITONSERVER_LogMessage"]
    pub(crate) fn log_message(
        level: c_int,
        file: *const c_char,
        line: c_int,
        text: *const c_char,
    ) -> Status;
    #[link_name = "TRITONSERVER_MessageNewFromSerializedJson"]
    pub(crate) fn message_new(
        message: *mut *mut Message,
        base: *const c_char,
        len_bytes: usize,
    ) -> Status;
    #[link_name = "TRITONSERVER_MessageSerializeToJson"]
    pub(crate) fn message_json(
        message: *mut Message,
        base: *mut *const c_char,
        len_bytes: *mut usize,
    ) -> Status;
    #[link_name = "TRITONSERVER_MessageDelete"]
    pub(crate) fn message_delete(message: *mut Message) -> Status;

    #[link_name = "TRITONBACKEND_ApiVersion"]
    pub(crate) fn api_version(major: *mut u32, minor: *mut u32) -> Status;
    #[link_name = "TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup"]
    pub(crate) fn attribute_add_group(
        attribute: *mut Attribute,
        kind: c_int,
        count: u64,
        devices: *const u64,
        device_len: u64,
    ) -> Status;

    #[link_name = "TRITONBACKEND_ModelName"]
    pub(crate) fn model_name(model: *mut Model, name: *mut *const c_char) -> Status;
    #[link_name = "TRITONBACKEND_ModelVersion"]
    pub(crate) fn model_version(model: *mut Model, version: *mut u64) -> Status;
    #[link_name = "TRITONBACKEND_ModelRepository"]
    pub(crate) fn model_repository(
        model: *mut Model,
        kind: *mut c_int,
        location: *mut *const c_char,
    ) -> Status;
    #[link_name = "TRITONBACKEND_ModelConfig"]
    pub(crate) fn model_config(
        model: *mut Model,
        version: u32,
        config: *mut *mut Message,
    ) -> Status;
    #[link_name = "TRITONBACKEND_ModelAutoCompleteConfig"]
    pub(crate) fn model_is_completed(model: *mut Model, is_completed: *mut bool) -> Status;
    #[link_name = "TRITONBACKEND_ModelSetConfig"]
    pub(crate) fn model_set_config(model: *mut Model, version: u32, config: *mut Message)
    -> Status;
    #[link_name = "TRITONBACKEND_ModelState"]
    pub(crate) fn model_state(model: *mut Model, state: *mut *mut c_void) -> Status;
    #[link_name = "TRITONBACKEND_ModelSetState"]
    pub(crate) fn model_set_state(model: *mut Model, state: *mut c_void) -> Status;

    #[link_name = "TRITONBACKEND_ModelInstanceModel"]
    pub(crate) fn instance_model(instance: *mut Instance, model: *mut *mut Model) -> Status;
    #[link_name = "TRITONBACKEND_ModelInstanceKind"]
    pub(crate) fn instance_kind(instance: *mut Instance, kind: *mut c_int) -> Status;
    #[link_name = "TRITONBACKEND_ModelInstanceDeviceId"]
    pub(crate) fn instance_device(instance: *mut Instance, device: *mut i32) -> Status;
    #[link_name = "TRITONBACKEND_ModelInstanceState"]
    pub(crate) fn instance_state(instance: *mut Instance, state: *mut *mut c_void) -> Status;
    #[link_name = "TRITONBACKEND_ModelInstanceSetState"]
    pub(crate) fn instance_set_state(instance: *mut Instance, state: *mut c_void) -> Status;
    #[link_name = "TRITONBACKEND_ModelInstanceReportStatistics"]
    pub(crate) fn instance_report(
        instance: *mut Instance,
        request: *mut Request,
        is_success: bool,
        exec_start_ns: u64,
        compute_start_ns: u64,
        compute_end_ns: u64,
        exec_end_ns: u64,
    ) -> Status;
    #[link_name = "TRITONBACKEND_ModelInstanceReportBatchStatistics"]
    pub(crate) fn instance_report_batch(
        instance: *mut Instance,
        batch_len: u64,
        exec_start_ns: u64,
        compute_start_ns: u64,
        compute_end_ns: u64,
        exec_end_ns: u64,
    ) -> Status;

    #[link_name = "TRITONBACKEND_RequestInputCount"]
    pub(crate) fn request_input_len(request: *mut Request, len: *mut u32) -> Status;
    #[link_name = "TRITONBACKEND_RequestInputByIndex"]
    pub(crate) fn request_input(
        request: *mut Request,
        index: u32,
        input: *mut *mut Input,
    ) -> Status;
    #[link_name = "TRITONBACKEND_RequestIsCancelled"]
    pub(crate) fn request_is_cancelled(request: *mut Request, is_cancelled: *mut bool) -> Status;
    #[link_name = "TRITONBACKEND_InferenceRequestTimeoutMicroseconds"]
    pub(crate) fn request_timeout(request: *mut Request, timeout_us: *mut u64) -> Status;
    #[link_name = "TRITONBACKEND_RequestParameterCount"]
    pub(crate) fn request_parameter_len(request: *mut Request, len: *mut u32) -> Status;
    #[link_name = "TRITONBACKEND_RequestParameter"]
    pub(crate) fn request_parameter(
        request: *mut Request,
        index: u32,
        name: *mut *const c_char,
        kind: *mut c_int,
        value: *mut *const c_void,
    ) -> Status;
    #[link_name = "TRITONBACKEND_RequestRelease"]
    pub(crate) fn request_release(request: *mut Request, flags: u32) -> Status;
    #[link_name = "TRITONBACKEND_InputProperties"]
    pub(crate) fn input_properties(
        input: *mut Input,
        name: *mut *const c_char,
        datatype: *mut c_int,
        shape: *mut *const i64,
        dim_len: *mut u32,
        len_bytes: *mut u64,
        buffer_len: *mut u32,
    ) -> Status;
    #[link_name = "TRITONBACKEND_InputBuffer"]
    pub(crate) fn input_buffer(
        input: *mut Input,
        index: u32,
        buffer: *mut *const c_void,
        len_bytes: *mut u64,
        memory: *mut c_int,
        device: *mut i64,
    ) -> Status;

    #[link_name = "TRITONBACKEND_ResponseNew"]
    pub(crate) fn response_new(response: *mut *mut Response, request: *mut Request) -> Status;
    #[link_name = "TRITONBACKEND_ResponseOutput"]
    pub(crate) fn response_output(
        response: *mut Response,
        output: *mut *mut Output,
        name: *const c_char,
        datatype: c_int,
        shape: *const i64,
        dim_len: u32,
    ) -> Status;
    #[link_name = "TRITONBACKEND_ResponseSend"]
    pub(crate) fn response_send(response: *mut Response, flags: u32, error: *mut Error) -> Status;
    #[link_name = "TRITONBACKEND_OutputBuffer"]
    pub(crate) fn output_buffer(
        output: *mut Output,
        buffer: *mut *mut c_void,
        len_bytes: u64,
        memory: *mut c_int,
        device: *mut i64,
    ) -> Status;
}
