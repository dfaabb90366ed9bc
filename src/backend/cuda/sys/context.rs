//! A device that is in use: its primary context and the loaded kernels.
//!
//! Invariant: whatever lives on the device holds an `Arc` of this, so the context outlives it; the
//! context is current while a call runs, and the caller's own is put back.

use std::ptr;
use std::sync::Arc;

use cust::device::Device;
use cust::error::CudaError;
use cust::module::Module;

use super::driver::{self, Code, Handle, check};
use super::info::{DeviceId, DeviceInfo};
use super::modules::{Binary, KERNELS};
use crate::error::Result;

/// CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
/// CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, in percent.
const PREFERRED_SHARED_MEMORY_CARVEOUT: i32 = 9;
/// CU_FUNC_ATTRIBUTE_PTX_VERSION.
const PTX_VERSION: i32 = 5;
/// Kernels compiled for this architecture and later ones wait for the kernel before
/// (`cuda/ptx/pdl.cuh`); what a newer device makes of older ones does not.
const WAITING_VERSION: i32 = 90;
/// A kernel may use this much dynamic shared memory unless it is allowed more.
const SHARED_BYTES_DEFAULT: u32 = 48 << 10;

/// A kernel, which lives as long as its context.
pub(crate) struct Function {
    pub(crate) handle: Handle,
    /// Whether it waits itself for the kernel before it on the stream.
    pub(crate) waits: bool,
}

/// A device in use.
pub(crate) struct Context {
    info: DeviceInfo,
    /// By the name of the source file.
    modules: Vec<(&'static str, Module)>,
    context: cust::context::Context,
}

impl Context {
    /// Retains the primary context of a device and loads the kernels into it.
    pub(crate) fn new(id: DeviceId) -> Result<Arc<Self>> {
        let info = DeviceInfo::find(id)?;
        Self::open(info.clone()).map_err(|code| code.error(format!("device {id} ({})", info.name)))
    }

    fn open(info: DeviceInfo) -> std::result::Result<Arc<Self>, Code> {
        let mut before = ptr::null_mut();
        // SAFETY: `before` is a place for a handle. The driver was initialised to list its devices.
        check(unsafe { driver::cuCtxGetCurrent(&mut before) })?;
        // Replaces the context that was current.
        let context = cust::context::Context::new(Device::get_device(info.index)?)?;
        // The driver refuses a file without code for the device.
        let runs = |&&(_, alone, _): &&Binary| alone.is_none_or(|only| only == info.capability);
        let load = |&(module, _, kernels): &Binary| {
            Ok((module, Module::from_fatbin(kernels, &[]).map_err(Code::from)?))
        };
        let modules: std::result::Result<_, Code> = KERNELS.iter().filter(runs).map(load).collect();
        // SAFETY: the context that was current lives, if there was one.
        check(unsafe { driver::cuCtxSetCurrent(before) })?;
        Ok(Arc::new(Self { info, modules: modules?, context }))
    }

    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(crate) fn handle(&self) -> Handle {
        self.context.as_raw().cast()
    }

    /// Makes the context current on this thread until the guard is dropped.
    pub(crate) fn push_current(&self) -> Pushed {
        // SAFETY: the context lives as long as `self`. Where it can't be pushed, as on a device
        // that is lost, the calls that follow fail and say so.
        let result = unsafe { driver::cuCtxPushCurrent_v2(self.handle()) };
        driver::log_failure("making the device's context current", result);
        Pushed { capture_mode: (result == 0).then(|| exchange_capture_mode(CAPTURE_RELAXED)) }
    }

    /// Makes the context current on this thread for good.
    pub(crate) fn set_current(&self) -> std::result::Result<(), Code> {
        // SAFETY: the context lives as long as `self`, which the thread's work holds.
        check(unsafe { driver::cuCtxSetCurrent(self.handle()) })?;
        exchange_capture_mode(CAPTURE_RELAXED);
        Ok(())
    }

    /// Waits for all work of the context, which is current: even copies and fills that return
    /// before they are over, and that no other stream waits for.
    pub(crate) fn synchronize(&self) -> std::result::Result<(), Code> {
        // SAFETY: takes nothing.
        check(unsafe { driver::cuCtxSynchronize() })
    }

    /// The kernel of this name in `cuda/<module>.cu`, allowed to use this much shared memory.
    pub(crate) fn function(
        &self,
        module: &str,
        name: &str,
        shared_bytes: u32,
    ) -> std::result::Result<Function, Code> {
        let module =
            self.modules.iter().find(|(stem, _)| cfg!(twinstream_emulated) || *stem == module);
        let (_, module) = module.ok_or(CudaError::NotFound)?;
        let handle: Handle = module.get_function(name)?.to_raw().cast();
        let mut version = 0;
        // SAFETY: the function belongs to a module, which lives; `version` is a place for a number.
        check(unsafe { driver::cuFuncGetAttribute(&mut version, PTX_VERSION, handle) })?;
        let set = |attribute, value| {
            // SAFETY: the function belongs to the module, which lives.
            check(unsafe { driver::cuFuncSetAttribute(handle, attribute, value) })
        };
        if shared_bytes > SHARED_BYTES_DEFAULT {
            set(MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes as i32)?;
        }
        // The same for all kernels: a multiprocessor must be empty to share its memory out anew.
        set(PREFERRED_SHARED_MEMORY_CARVEOUT, 100)?;
        Ok(Function { handle, waits: version >= WAITING_VERSION })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _pushed = self.push_current();
        for (_, module) in self.modules.drain(..) {
            if let Err((error, module)) = Module::drop(module) {
                log::warn!("unloading kernels: {}", Code::from(error));
                // Dropping it would only try again.
                std::mem::forget(module);
            }
        }
    }
}

/// CU_STREAM_CAPTURE_MODE_RELAXED.
const CAPTURE_RELAXED: i32 = 2;

/// Sets how this thread's calls get on with stream captures, and returns how they did.
///
/// By default a stream capture that any thread of the process has begun, in the usual mode, makes
/// calls like the query of an event fail here, and they spoil it. Ours touch nothing of others.
fn exchange_capture_mode(mode: i32) -> i32 {
    let mut exchanged = mode;
    // SAFETY: the argument is a place for a number.
    let result = unsafe { driver::cuThreadExchangeStreamCaptureMode(&mut exchanged) };
    driver::log_failure("setting the thread's mode for stream captures", result);
    exchanged
}

/// A context is current, see [`Context::push_current`].
pub(crate) struct Pushed {
    /// What the thread's was before; `None` where nothing was pushed.
    capture_mode: Option<i32>,
}

impl Drop for Pushed {
    fn drop(&mut self) {
        if let Some(mode) = self.capture_mode {
            exchange_capture_mode(mode);
            let mut popped = ptr::null_mut();
            // SAFETY: takes back what `push_current` pushed.
            let result = unsafe { driver::cuCtxPopCurrent_v2(&mut popped) };
            driver::log_failure("putting the former context back", result);
        }
    }
}
