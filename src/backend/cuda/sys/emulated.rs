//! How the emulated device behaves: for tests, in builds for it alone.
//!
//! Invariant: the struct equals that of `cuda/emulator/driver/options.h`.

use std::ffi::c_int;

/// How an emulated device behaves from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Draws delays and failures.
    pub seed: u64,
    /// What can be allocated.
    pub memory_bytes: u64,
    /// Longest wait before a piece of queued work, in microseconds.
    pub delay_us_max: u32,
    /// 1: copies move their bytes at the last moment allowed, and their targets hold poison until
    /// then. 0: at once.
    pub late_copies: u32,
    /// One launch in so many is refused; 0: none.
    pub refuse_launch_one_in: u32,
    /// The device is lost at the n-th piece of work from now; 0: never.
    pub lose_after: u32,
    /// Compute capability that the kernels are as if compiled for, ten times it; below 90 they do
    /// not wait for the kernel before.
    pub ptx_version: u32,
}

const _: () = assert!(size_of::<Behaviour>() == 40);

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            seed: 1,
            memory_bytes: 8 << 30,
            delay_us_max: 0,
            late_copies: 1,
            refuse_launch_one_in: 0,
            lose_after: 0,
            ptx_version: 90,
        }
    }
}

unsafe extern "C" {
    fn twinstream_emulated_configure(ordinal: c_int, options: *const Behaviour) -> c_int;
}

/// Makes device `index` behave so from now on, and well again where it was lost.
///
/// # Panics
/// When there is no such device.
pub fn configure(index: u32, behaviour: &Behaviour) {
    // SAFETY: the options are read during the call, and are of the size that it expects.
    let result = unsafe { twinstream_emulated_configure(index as c_int, behaviour) };
    assert_eq!(result, 0, "emulated device {index}");
}
