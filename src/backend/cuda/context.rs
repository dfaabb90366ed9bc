//! A device that is in use: its primary context and the loaded kernels.
//!
//! Invariant: whatever lives on the device holds an `Arc` of this, so the context outlives it; the
//! context is current while a call runs, and the caller's own is put back.

use std::fmt;
use std::ptr;
use std::str::FromStr;
use std::sync::Arc;

use cust::device::{Device, DeviceAttribute};
use cust::error::CudaError;
use cust::module::Module;

use super::driver::{self, Code, Handle, check};
use crate::error::{Error, Kind, Result};

/// The kernels: fat binaries by their source files, or one that is empty where the emulated device
/// knows them by name.
#[cfg(not(twinstream_emulated))]
const KERNELS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));
#[cfg(twinstream_emulated)]
const KERNELS: &[(&str, &[u8])] = &[("", &[])];

/// CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
/// CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, in percent.
const PREFERRED_SHARED_MEMORY_CARVEOUT: i32 = 9;
/// CU_FUNC_ATTRIBUTE_PTX_VERSION.
const PTX_VERSION: i32 = 5;
/// Kernels compiled for this architecture and later ones wait for the kernel before
/// (`cuda/ptx.cuh`); what a newer device makes of older ones does not.
const WAITING_VERSION: i32 = 90;
/// A kernel may use this much dynamic shared memory unless it is allowed more.
const SHARED_BYTES_DEFAULT: u32 = 48 << 10;

/// Which CUDA device to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceId {
    /// By its place in the driver's list, from 0; `CUDA_VISIBLE_DEVICES` changes the list.
    Index(u32),
    /// By its identity, which no order changes.
    Uuid([u8; 16]),
}

impl FromStr for DeviceId {
    type Err = Error;

    /// A number, or a UUID as `nvidia-smi -L` prints it, with or without its `GPU-` or `MIG-`.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        let uuid = ["GPU-", "MIG-"].iter().find_map(|prefix| text.strip_prefix(prefix));
        let digits: String = uuid.unwrap_or(text).chars().filter(|&c| c != '-').collect();
        let bytes = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32);
        bytes.map(|bytes| Self::Uuid(bytes.to_be_bytes())).ok_or_else(|| {
            let message =
                format!("device \"{text}\": expected a number, or a UUID as nvidia-smi -L prints");
            Error::new(Kind::Argument, message)
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Uuid(bytes) => {
                f.write_str("GPU")?;
                for (index, byte) in bytes.iter().enumerate() {
                    let dash = if [0, 4, 6, 8, 10].contains(&index) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// A CUDA device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its place in the driver's list.
    pub index: u32,
    /// Its identity.
    pub uuid: [u8; 16],
    /// What NVIDIA calls it.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessor_len: u32,
    /// Memory of the device.
    pub memory_bytes: u64,
    /// Shared memory of a multiprocessor.
    pub shared_bytes: u32,
    /// Clock of the multiprocessors at its highest, in Hz.
    pub clock_hz: u64,
    /// What the memory moves at most in a second.
    pub memory_bytes_per_s: u64,
}

impl DeviceInfo {
    /// An H100 SXM by NVIDIA's data sheet, to plan for where there is no device.
    pub fn h100() -> Self {
        Self {
            index: 0,
            uuid: [0; 16],
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            capability: (9, 0),
            multiprocessor_len: 132,
            memory_bytes: 80 << 30,
            shared_bytes: 228 << 10,
            clock_hz: 1_980_000_000,
            memory_bytes_per_s: 3_350_000_000_000,
        }
    }

    /// Multiply-accumulates of f16 that the tensor cores do in a nanosecond, by NVIDIA's papers on
    /// the architectures.
    pub(super) fn macs_per_ns(&self) -> f64 {
        let per_clock = match self.capability {
            (8, 0) => 1024.0,
            (8, _) => 512.0,
            _ => 2048.0,
        };
        per_clock * f64::from(self.multiprocessor_len) * self.clock_hz as f64 / 1e9
    }

    pub(super) fn memory_bytes_per_ns(&self) -> f64 {
        self.memory_bytes_per_s as f64 / 1e9
    }

    fn new(index: u32) -> std::result::Result<Self, Code> {
        let device = Device::get_device(index)?;
        let attribute = |attribute| device.get_attribute(attribute).map(|value| value as u32);
        let mut uuid = [0; 16];
        // SAFETY: `uuid` has room for the 16 bytes of one.
        check(unsafe { driver::cuDeviceGetUuid_v2(&mut uuid, device.as_raw()) })?;
        Ok(Self {
            index,
            uuid,
            name: device.name()?,
            capability: (
                attribute(DeviceAttribute::ComputeCapabilityMajor)?,
                attribute(DeviceAttribute::ComputeCapabilityMinor)?,
            ),
            multiprocessor_len: attribute(DeviceAttribute::MultiprocessorCount)?,
            memory_bytes: device.total_memory()? as u64,
            shared_bytes: attribute(DeviceAttribute::MaxSharedMemoryPerMultiprocessor)?,
            clock_hz: 1000 * u64::from(attribute(DeviceAttribute::ClockRate)?),
            // Both edges of the clock carry data.
            memory_bytes_per_s: 2
                * 1000
                * u64::from(attribute(DeviceAttribute::MemoryClockRate)?)
                * u64::from(attribute(DeviceAttribute::GlobalMemoryBusWidth)?)
                / 8,
        })
    }
}

/// The CUDA devices of this machine.
///
/// # Errors
/// `is_device` where there is no driver, or it reports an error.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let list = || -> std::result::Result<Vec<DeviceInfo>, Code> {
        cust::init(cust::CudaFlags::empty())?;
        (0..Device::num_devices()?).map(DeviceInfo::new).collect()
    };
    list().map_err(|code| code.error("listing the CUDA devices"))
}

/// A kernel, which lives as long as its context.
pub(super) struct Function {
    pub(super) handle: Handle,
    /// Whether it waits itself for the kernel before it on the stream.
    pub(super) waits: bool,
}

/// A device in use.
pub(super) struct Context {
    info: DeviceInfo,
    /// By the start of their kernels' names.
    modules: Vec<(&'static str, Module)>,
    context: cust::context::Context,
}

impl Context {
    /// Retains the primary context of a device and loads the kernels into it.
    pub(super) fn new(id: DeviceId) -> Result<Arc<Self>> {
        let devices = devices()?;
        let info = devices.iter().find(|info| match id {
            DeviceId::Index(index) => info.index == index,
            DeviceId::Uuid(uuid) => info.uuid == uuid,
        });
        let Some(info) = info else {
            let known: Vec<String> = devices
                .iter()
                .map(|info| {
                    format!("{} ({}, {})", info.index, info.name, DeviceId::Uuid(info.uuid))
                })
                .collect();
            let message = format!("no CUDA device {id}: there are {}", known.join(", "));
            return Err(Error::new(Kind::Argument, message));
        };
        Self::open(info.clone()).map_err(|code| code.error(format!("device {id} ({})", info.name)))
    }

    fn open(info: DeviceInfo) -> std::result::Result<Arc<Self>, Code> {
        let mut before = ptr::null_mut();
        // SAFETY: `before` is a place for a handle. The driver was initialised to list its devices.
        check(unsafe { driver::cuCtxGetCurrent(&mut before) })?;
        // Replaces the context that was current.
        let context = cust::context::Context::new(Device::get_device(info.index)?)?;
        let load = |&(module, kernels): &(&'static str, &[u8])| {
            Ok((module, Module::from_fatbin(kernels, &[]).map_err(Code::from)?))
        };
        let modules: std::result::Result<_, Code> = KERNELS.iter().map(load).collect();
        // SAFETY: the context that was current lives, if there was one.
        check(unsafe { driver::cuCtxSetCurrent(before) })?;
        Ok(Arc::new(Self { info, modules: modules?, context }))
    }

    pub(super) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(super) fn handle(&self) -> Handle {
        self.context.as_raw().cast()
    }

    /// Makes the context current on this thread until the guard is dropped.
    pub(super) fn enter(&self) -> Entered {
        // SAFETY: the context lives as long as `self`. Where it can't be pushed, as on a device
        // that is lost, the calls that follow fail and say so.
        let result = unsafe { driver::cuCtxPushCurrent_v2(self.handle()) };
        driver::log_failure("making the device's context current", result);
        Entered { capture_mode: (result == 0).then(|| exchange_capture_mode(CAPTURE_RELAXED)) }
    }

    /// Makes the context current on this thread for good.
    pub(super) fn stay(&self) -> std::result::Result<(), Code> {
        // SAFETY: the context lives as long as `self`, which the thread's work holds.
        check(unsafe { driver::cuCtxSetCurrent(self.handle()) })?;
        exchange_capture_mode(CAPTURE_RELAXED);
        Ok(())
    }

    /// Waits for all work of the context, which is current: even copies and fills that return
    /// before they are over, and that no other stream waits for.
    pub(super) fn synchronize(&self) -> std::result::Result<(), Code> {
        // SAFETY: takes nothing.
        check(unsafe { driver::cuCtxSynchronize() })
    }

    /// The kernel of this name in `cuda/<module>.cu`, allowed to use this much shared memory.
    pub(super) fn function(
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
        let _entered = self.enter();
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

/// Sets how this thread's calls get on with recordings of graphs, and returns how they did.
///
/// By default a recording that any thread of the process has begun, in the usual mode, makes calls
/// like the query of an event fail here and spoils the recording. Ours touch nothing of others.
fn exchange_capture_mode(mode: i32) -> i32 {
    let mut exchanged = mode;
    // SAFETY: the argument is a place for a number.
    let result = unsafe { driver::cuThreadExchangeStreamCaptureMode(&mut exchanged) };
    driver::log_failure("setting the thread's mode for recordings", result);
    exchanged
}

/// A context is current, see [`Context::enter`].
pub(super) struct Entered {
    /// What the thread's was before; `None` where nothing was pushed.
    capture_mode: Option<i32>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(mode) = self.capture_mode {
            exchange_capture_mode(mode);
            let mut popped = ptr::null_mut();
            // SAFETY: takes back what `enter` pushed.
            let result = unsafe { driver::cuCtxPopCurrent_v2(&mut popped) };
            driver::log_failure("putting the former context back", result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_are_read_as_they_are_printed() {
        for text in ["0", "7", "GPU-00112233-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(text.parse::<DeviceId>().unwrap().to_string(), text);
        }
        let bare = "00112233445566778899AABBCCDDEEFF".parse::<DeviceId>().unwrap();
        assert_eq!(bare.to_string(), "GPU-00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!("MIG-00112233-4455-6677-8899-aabbccddeeff".parse::<DeviceId>().unwrap(), bare);
        for text in ["", "-1", "GPU-12", "first"] {
            assert!(text.parse::<DeviceId>().unwrap_err().is_argument(), "{text}");
        }
    }
}
