//! The server's models and instances as it hands them over, and its messages.
//!
//! Invariant: a handle lives as long as the call that it came with, or as what the server finalizes
//! after all else.

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;
use std::ptr;

use serde_json::Value;

use crate::raw;
use crate::status::{Cause, Failed, Outcome, check};

/// Refuses a server whose functions may be others.
pub(crate) fn check_version() -> Outcome<()> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes to two numbers.
    check(unsafe { raw::api_version(&mut major, &mut minor) })?;
    if major == raw::API_VERSION_MAJOR {
        return Ok(());
    }
    let text = format!(
        "the server's interface for backends is {major}.{minor}: this is made for version {}",
        raw::API_VERSION_MAJOR
    );
    Err(Failed::new(Cause::Unsupported, text))
}

/// Where models are computed whose configuration does not say.
///
/// # Safety
/// The server's, during its call.
pub(crate) unsafe fn prefer_place(attribute: *mut raw::Attribute) -> Outcome<()> {
    let kind = if cfg!(feature = "cuda") { raw::KIND_GPU } else { raw::KIND_CPU };
    // SAFETY: as the caller says; none of no devices is read.
    check(unsafe { raw::attribute_add_group(attribute, kind, 1, ptr::null(), 0) })
}

/// What an instance computes on, as its group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Cpu,
    Gpu { index: u32 },
}

/// A model of the server's.
pub(crate) struct Model(*mut raw::Model);

impl Model {
    /// # Safety
    /// The server's, until it has finalized it.
    pub(crate) unsafe fn new(model: *mut raw::Model) -> Self {
        Self(model)
    }

    pub(crate) fn name(&self) -> Outcome<String> {
        let mut name = ptr::null();
        // SAFETY: the server's text lives as long as the model.
        unsafe {
            check(raw::model_name(self.0, &mut name))?;
            Ok(text(name))
        }
    }

    pub(crate) fn version(&self) -> Outcome<u64> {
        let mut version = 0;
        // SAFETY: writes to a number.
        check(unsafe { raw::model_version(self.0, &mut version) })?;
        Ok(version)
    }

    /// The model's folder, on this machine.
    pub(crate) fn folder(&self) -> Outcome<PathBuf> {
        let (mut kind, mut location) = (0, ptr::null());
        // SAFETY: the server's text lives as long as the model.
        let location = unsafe {
            check(raw::model_repository(self.0, &mut kind, &mut location))?;
            text(location)
        };
        if kind != raw::ARTIFACT_FILES {
            let text = format!("{location} is no folder: keep models in a file system");
            return Err(Failed::new(Cause::Unsupported, text));
        }
        Ok(location.into())
    }

    pub(crate) fn config(&self) -> Outcome<Value> {
        let mut message = ptr::null_mut();
        let (mut base, mut len_bytes) = (ptr::null(), 0);
        // SAFETY: the message is ours to delete, and its bytes live until then.
        let config = unsafe {
            check(raw::model_config(self.0, raw::CONFIG_VERSION, &mut message))?;
            let json = check(raw::message_json(message, &mut base, &mut len_bytes)).map(|()| {
                serde_json::from_slice(std::slice::from_raw_parts(base.cast(), len_bytes))
            });
            check(raw::message_delete(message))?;
            json?
        };
        let wrong = |error| format!("the server's configuration cannot be read: {error}");
        config.map_err(|error| Failed::new(Cause::Internal, wrong(error)))
    }

    /// Whether the backend is to fill in what the configuration leaves out.
    pub(crate) fn is_completed(&self) -> Outcome<bool> {
        let mut is_completed = false;
        // SAFETY: writes to a flag.
        check(unsafe { raw::model_is_completed(self.0, &mut is_completed) })?;
        Ok(is_completed)
    }

    pub(crate) fn set_config(&self, config: &Value) -> Outcome<()> {
        let json = config.to_string();
        let mut message = ptr::null_mut();
        // SAFETY: the server copies the bytes; the message is ours to delete.
        unsafe {
            check(raw::message_new(&mut message, json.as_ptr().cast(), json.len()))?;
            let set = check(raw::model_set_config(self.0, raw::CONFIG_VERSION, message));
            check(raw::message_delete(message))?;
            set
        }
    }

    /// What it was given, or null.
    pub(crate) fn state(&self) -> Outcome<*mut c_void> {
        let mut state = ptr::null_mut();
        // SAFETY: writes to a pointer.
        check(unsafe { raw::model_state(self.0, &mut state) })?;
        Ok(state)
    }

    pub(crate) fn set_state(&self, state: *mut c_void) -> Outcome<()> {
        // SAFETY: a pointer that the server does not look at.
        check(unsafe { raw::model_set_state(self.0, state) })
    }
}

/// An instance of the server's. It is in use by all threads at once, as the server has it.
#[derive(Clone, Copy)]
pub(crate) struct Instance(*mut raw::Instance);

// SAFETY: the server lets any thread report statistics.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// When work began and ended, in nanoseconds of the server's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// It was taken up.
    pub(crate) taken_ns: u64,
    pub(crate) compute_started_ns: u64,
    pub(crate) compute_ended_ns: u64,
}

impl Instance {
    /// # Safety
    /// The server's, until it has finalized it.
    pub(crate) unsafe fn new(instance: *mut raw::Instance) -> Self {
        Self(instance)
    }

    pub(crate) fn model(self) -> Outcome<Model> {
        let mut model = ptr::null_mut();
        // SAFETY: the model outlives its instances.
        check(unsafe { raw::instance_model(self.0, &mut model) })?;
        Ok(Model(model))
    }

    /// What its group says.
    pub(crate) fn place(self) -> Outcome<Place> {
        let (mut kind, mut device) = (0, 0);
        // SAFETY: writes to two numbers.
        unsafe {
            check(raw::instance_kind(self.0, &mut kind))?;
            check(raw::instance_device(self.0, &mut device))?;
        }
        match (kind, u32::try_from(device)) {
            (raw::KIND_CPU, _) => Ok(Place::Cpu),
            (raw::KIND_GPU, Ok(index)) => Ok(Place::Gpu { index }),
            _ => Err(Failed::argument(
                "config.pbtxt: instance_group kind: must be KIND_CPU or KIND_GPU",
            )),
        }
    }

    /// What it was given, or null.
    pub(crate) fn state(self) -> Outcome<*mut c_void> {
        let mut state = ptr::null_mut();
        // SAFETY: writes to a pointer.
        check(unsafe { raw::instance_state(self.0, &mut state) })?;
        Ok(state)
    }

    pub(crate) fn set_state(self, state: *mut c_void) -> Outcome<()> {
        // SAFETY: a pointer that the server does not look at.
        check(unsafe { raw::instance_set_state(self.0, state) })
    }

    /// Tells the server's statistics of a request, which is not released.
    pub(crate) fn report(
        self,
        request: *mut raw::Request,
        is_success: bool,
        span: Span,
        ended_ns: u64,
    ) -> Outcome<()> {
        let Span { taken_ns, compute_started_ns, compute_ended_ns } = span;
        // SAFETY: both are the server's and alive.
        check(unsafe {
            raw::instance_report(
                self.0,
                request,
                is_success,
                taken_ns,
                compute_started_ns,
                compute_ended_ns,
                ended_ns,
            )
        })
    }

    /// Tells the server's statistics of a batch.
    pub(crate) fn report_batch(self, batch_len: usize, span: Span, ended_ns: u64) -> Outcome<()> {
        let Span { taken_ns, compute_started_ns, compute_ended_ns } = span;
        // SAFETY: it is the server's and alive.
        check(unsafe {
            raw::instance_report_batch(
                self.0,
                batch_len as u64,
                taken_ns,
                compute_started_ns,
                compute_ended_ns,
                ended_ns,
            )
        })
    }
}

/// # Safety
/// A text of the server's that lives as long as this call.
pub(crate) unsafe fn text(text: *const c_char) -> String {
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
