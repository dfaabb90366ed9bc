//! Twinstream as a backend of Triton Inference Server: the functions that the server looks for.
//!
//! Invariant: nothing but the library's public interface is used. The server's functions are
//! declared here, and found in the server that loads the library.

mod batches;
mod clock;
mod config;
mod instance;
mod logging;
mod model;
mod pending;
mod raw;
mod request;
mod server;
mod service;
#[cfg(test)]
mod stand_in;
mod status;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use instance::Instance;
use model::Model;
use pending::Pending;
use request::Request;
use status::{boundary, contain};

/// The server has loaded the library.
///
/// # Safety
/// Called by the server.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_Initialize(_: *mut raw::Backend) -> raw::Status {
    boundary(|| {
        server::check_version()?;
        logging::start();
        Ok(())
    })
}

/// What the server does with a configuration that names no instance group.
///
/// # Safety
/// Called by the server.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_GetBackendAttribute(
    _: *mut raw::Backend,
    attribute: *mut raw::Attribute,
) -> raw::Status {
    // SAFETY: the server's, during this call.
    boundary(|| unsafe { server::prefer_place(attribute) })
}

/// A model is loaded.
///
/// # Safety
/// Called by the server.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_ModelInitialize(model: *mut raw::Model) -> raw::Status {
    boundary(|| {
        // SAFETY: alive until it is finalized.
        let handle = unsafe { server::Model::new(model) };
        let opened = Arc::new(Model::open(&handle)?);
        handle.set_state(Arc::into_raw(opened).cast_mut().cast())
    })
}

/// A model is unloaded, after its instances.
///
/// # Safety
/// Called by the server, once for each that was initialized.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_ModelFinalize(model: *mut raw::Model) -> raw::Status {
    boundary(|| {
        // SAFETY: alive during this call.
        let state = unsafe { server::Model::new(model) }.state()?;
        if !state.is_null() {
            // SAFETY: what was set as it was initialized, and nobody uses any more.
            drop(unsafe { Arc::from_raw(state.cast::<Model>()) });
        }
        Ok(())
    })
}

/// An instance of a model is made.
///
/// # Safety
/// Called by the server, after the model was initialized.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_ModelInstanceInitialize(
    instance: *mut raw::Instance,
) -> raw::Status {
    boundary(|| {
        // SAFETY: alive until it is finalized.
        let handle = unsafe { server::Instance::new(instance) };
        let model = handle.model()?.state()?.cast::<Model>();
        // SAFETY: set as the model was initialized, which outlives its instances.
        let service = unsafe { &*model }.service(handle.place()?)?;
        let instance = Arc::new(Instance::new(handle, service));
        handle.set_state(Arc::into_raw(instance).cast_mut().cast())
    })
}

/// An instance goes; what it has is answered before.
///
/// # Safety
/// Called by the server, once for each that was initialized.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_ModelInstanceFinalize(
    instance: *mut raw::Instance,
) -> raw::Status {
    boundary(|| {
        // SAFETY: alive during this call.
        let state = unsafe { server::Instance::new(instance) }.state()?;
        if !state.is_null() {
            // SAFETY: what was set as it was initialized; no further requests come.
            unsafe { Arc::from_raw(state.cast::<Instance>()) }.drain();
        }
        Ok(())
    })
}

/// Requests are handed over; they are answered later, by the engine's thread.
///
/// # Safety
/// Called by the server, with requests that it leaves to the backend.
#[unsafe(no_mangle)]
unsafe extern "C" fn TRITONBACKEND_ModelInstanceExecute(
    instance: *mut raw::Instance,
    requests: *mut *mut raw::Request,
    request_len: u32,
) -> raw::Status {
    boundary(|| {
        // SAFETY: alive, and so are requests in that number.
        let (state, requests) = unsafe {
            let state = server::Instance::new(instance).state()?.cast::<Instance>();
            (state, std::slice::from_raw_parts(requests, request_len as usize))
        };
        let own = |raw: &*mut raw::Request| {
            // SAFETY: the state is kept until the instance is finalized; the request is ours now.
            unsafe {
                Arc::increment_strong_count(state);
                Request::new(*raw, Arc::from_raw(state))
            }
        };
        // From here on the server must not be told of a failure: it would answer them, too.
        let requests: Vec<Request> = requests.iter().map(own).collect();
        requests.into_iter().for_each(|request| contain(|| Pending::execute(request)));
        Ok(())
    })
}
