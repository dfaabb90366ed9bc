//! A launch, before a device has loaded the kernel: which entry point, on which grid, with what
//! parameters.
//!
//! Knows no driver: whoever launches looks the kernel up by its module and name.

use std::ffi::c_void;
use std::ptr;

use crate::backend::cuda::sys::info::DeviceInfo;

/// The least architecture of all kernels, see [`Kernel::arch`].
const ARCH_MIN: u32 = 80;
/// From here on, kernels use what NVIDIA keeps for one architecture: code for `sm_90a` runs at 9.0
/// and nowhere else. This is the one that the program may have such code for.
const ARCH_ALONE: u32 = 90;
/// The first driver that encodes tensor maps, which these kernels read by: CUDA 12.0's.
const TENSOR_MAPS_VERSION: u32 = 12000;

/// An entry point, and the sizes of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The file of `cuda/` that it is compiled from, and so the module that holds it.
    pub(crate) module: &'static str,
    /// No other kernel has it.
    pub(crate) name: &'static str,
    /// The compute capability that runs it, ten times it: the least, or the only one
    /// (`ARCH_ALONE`).
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
        let arch = 10 * major + minor;
        if self.arch < ARCH_ALONE {
            return self.arch <= arch;
        }
        self.arch == arch && cfg!(twinstream_sm_90a) && device.driver_version >= TENSOR_MAPS_VERSION
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
    /// Blocks, neighbours along x, that run side by side and reach each other's shared memory.
    pub(crate) cluster_len: u32,
    /// Those that `cuda/launch.h` says the kernel takes.
    pub(crate) params: Box<dyn Params>,
    /// Whether it may begin before the kernel ahead has ended, where it waits for that itself.
    pub(crate) may_overlap: bool,
}

impl Launch {
    /// One that may begin early, of blocks by themselves.
    pub(super) fn new(kernel: &'static Kernel, grid: [u32; 3], params: Box<dyn Params>) -> Self {
        Self { kernel, grid, cluster_len: 1, params, may_overlap: true }
    }
}
