//! A launch, before a device has loaded the kernel: which entry point, on which grid, with what
//! parameters.
//!
//! Knows no driver: whoever launches looks the kernel up by its module and name.

use std::ffi::c_void;
use std::ptr;

use crate::backend::cuda::sys::info::DeviceInfo;

/// The least architecture of all kernels, see [`Kernel::arch`].
const ARCH_MIN: u32 = 80;

/// An entry point, and the sizes of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The file of `cuda/` that it is compiled from, and so the module that holds it.
    pub(crate) module: &'static str,
    /// No other kernel has it.
    pub(crate) name: &'static str,
    /// The least compute capability that runs it, ten times it.
    pub(crate) arch: u32,
    pub(crate) thread_len: u32,
    pub(crate) shared_bytes: u32,
}

impl Kernel {
    /// One that is called as its module, and runs on every device that is supported.
    pub(super) const fn alone(name: &'static str, thread_len: u32, shared_bytes: u32) -> Self {
        Self { module: name, name, arch: ARCH_MIN, thread_len, shared_bytes }
    }

    pub(crate) fn runs_on(&self, device: &DeviceInfo) -> bool {
        let (major, minor) = device.capability;
        self.arch <= 10 * major + minor
    }
}

/// A kernel's parameter struct, whichever it is.
pub(crate) trait Params: Send {
    /// Where it lies.
    fn pointer(&self) -> *const c_void;
}

impl<P: Copy + Send + 'static> Params for P {
    fn pointer(&self) -> *const c_void {
        ptr::from_ref(self).cast()
    }
}

/// A kernel with all that it is launched with.
pub(crate) struct Launch {
    pub(crate) kernel: &'static Kernel,
    pub(crate) grid: [u32; 3],
    /// Those that `cuda/launch.h` says the kernel takes.
    pub(crate) params: Box<dyn Params>,
    /// Whether it may begin before the kernel ahead has ended, where it waits for that itself.
    pub(crate) may_overlap: bool,
}

impl Launch {
    /// One that may begin early.
    pub(super) fn new(kernel: &'static Kernel, grid: [u32; 3], params: Box<dyn Params>) -> Self {
        Self { kernel, grid, params, may_overlap: true }
    }
}
