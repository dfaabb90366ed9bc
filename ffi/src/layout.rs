//! The structs of the header, and how versions of them are told apart.
//!
//! Invariant: sizes and offsets are those of the header, asserted here and by the C tests. Fields
//! are only ever added at the end; `struct_size` says which ones a caller has.

use std::ffi::{c_char, c_void};
use std::mem::{offset_of, size_of};
use std::ptr;

use crate::status::{Failed, Outcome, Status};

/// `TWINSTREAM_ABI_VERSION` of the header.
pub(crate) const ABI_VERSION: u32 = 2;

/// `twinstream_callback`.
pub(crate) type Callback = unsafe extern "C" fn(*mut c_void, u64, i32, *const f32);
/// `twinstream_log_callback`.
pub(crate) type LogCallback = unsafe extern "C" fn(*mut c_void, i32, *const c_char);

/// `TWINSTREAM_BACKEND_`.
pub(crate) const BACKEND_CPU: i32 = 1;
pub(crate) const BACKEND_CUDA: i32 = 2;
pub(crate) const BACKEND_NULL: i32 = 3;

/// `TWINSTREAM_NOTICE_`.
pub(crate) const NOTICE_NONE: i32 = 0;
pub(crate) const NOTICE_CALLBACK: i32 = 1;
pub(crate) const NOTICE_QUEUE: i32 = 2;

/// A struct of the header that opens with `struct_size`.
///
/// # Safety
/// The type is `repr(C)`, opens with a `u32` that is its `struct_size`, and any bytes make a value
/// of it.
pub(crate) unsafe trait Versioned: Sized {
    /// Its name in the header.
    const NAME: &str;
    /// Sizes of its versions; the last is this library's.
    const VERSIONS_BYTES: &[usize];
}

/// `twinstream_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) struct_size: u32,
    pub(crate) abi_version: u32,
    pub(crate) backend: i32,
    pub(crate) memory_weakest: i32,
    pub(crate) weights_path: *const c_char,
    pub(crate) config_path: *const c_char,
    pub(crate) policy: *const c_char,
    pub(crate) cpu: *const CpuOptions,
    pub(crate) cuda: *const CudaOptions,
    pub(crate) null: *const NullOptions,
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) top_k: u32,
    pub(crate) core: i32,
    pub(crate) slot_len: u64,
    pub(crate) batch_len_max: u64,
    pub(crate) latency_bound_ns: u64,
    pub(crate) spin_ns: u64,
    pub(crate) stall_timeout_ns: u64,
    pub(crate) trace_len: u64,
    pub(crate) precision: *const c_char,
    pub(crate) cache_bytes: u64,
    pub(crate) backends: *const c_char,
}

/// `twinstream_cpu_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CpuOptions {
    pub(crate) struct_size: u32,
    pub(crate) thread_len: u32,
}

/// `twinstream_cuda_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CudaOptions {
    pub(crate) struct_size: u32,
    pub(crate) reserved: u32,
    pub(crate) device: *const c_char,
    pub(crate) tuning_path: *const c_char,
}

/// `twinstream_null_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NullOptions {
    pub(crate) struct_size: u32,
    pub(crate) reserved: u32,
    pub(crate) image_bytes: u64,
    pub(crate) result_len: u64,
}

/// `twinstream_request_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RequestOptions {
    pub(crate) struct_size: u32,
    pub(crate) priority: i32,
    pub(crate) deadline_after_ns: u64,
    pub(crate) notice: i32,
    pub(crate) reserved: u32,
    pub(crate) callback: Option<Callback>,
    pub(crate) user_data: *mut c_void,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            priority: 0,
            deadline_after_ns: 0,
            notice: NOTICE_NONE,
            reserved: 0,
            callback: None,
            user_data: ptr::null_mut(),
        }
    }
}

/// `twinstream_geometry`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Geometry {
    pub(crate) struct_size: u32,
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) reserved: u32,
    pub(crate) image_bytes: u64,
    pub(crate) result_len: u64,
    pub(crate) batch_len_max: u64,
}

/// `twinstream_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) struct_size: u32,
    pub(crate) reserved: u32,
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    pub(crate) rejected: u64,
    pub(crate) expired: u64,
    pub(crate) cancelled: u64,
    pub(crate) failed: u64,
    pub(crate) device_lost: u64,
    pub(crate) shut_down: u64,
    pub(crate) alive: u64,
    pub(crate) waiting: u64,
    pub(crate) arrival_rate_hz: f64,
    pub(crate) upload: [f64; 2],
    pub(crate) compute: [f64; 2],
    pub(crate) download: [f64; 2],
    pub(crate) batches: [u64; 5],
    pub(crate) batch_len_mean: f64,
    pub(crate) batch_len_max: u64,
    pub(crate) latency_mean_ns: f64,
    pub(crate) latency_p50_ns: u64,
    pub(crate) latency_p99_ns: u64,
    pub(crate) latency_p999_ns: u64,
    pub(crate) latency_max_ns: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) downloaded_bytes: u64,
    pub(crate) late: u64,
    pub(crate) refused: [u64; 4],
    pub(crate) slots_in_use: u64,
    pub(crate) slot_len: u64,
    pub(crate) waiting_time: Latency,
    pub(crate) computing_time: Latency,
    pub(crate) notifying_time: Latency,
    pub(crate) callback_ns: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_joined: u64,
    pub(crate) cache_misses: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) cache_is_on: u64,
    pub(crate) devices: u64,
    pub(crate) devices_lost: u64,
}

/// Mean and 99th percentile of a part of the latency.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) mean_ns: f64,
    pub(crate) p99_ns: u64,
}

const _: () = {
    assert!(size_of::<Options>() == 152 && offset_of!(Options, slot_len) == 80);
    assert!(size_of::<CpuOptions>() == 8 && offset_of!(CpuOptions, thread_len) == 4);
    assert!(size_of::<CudaOptions>() == 24 && offset_of!(CudaOptions, device) == 8);
    assert!(size_of::<NullOptions>() == 24 && offset_of!(NullOptions, image_bytes) == 8);
    assert!(size_of::<RequestOptions>() == 40 && offset_of!(RequestOptions, callback) == 24);
    assert!(size_of::<Geometry>() == 40 && offset_of!(Geometry, image_bytes) == 16);
    assert!(size_of::<Stats>() == 424 && offset_of!(Stats, batch_len_mean) == 184);
};

// SAFETY: plain C structs of integers, floats and pointers that open with `struct_size`.
unsafe impl Versioned for Options {
    const NAME: &str = "twinstream_options";
    const VERSIONS_BYTES: &[usize] = &[120, 128, 136, 144, 152];
}

// SAFETY: the same.
unsafe impl Versioned for CpuOptions {
    const NAME: &str = "twinstream_cpu_options";
    const VERSIONS_BYTES: &[usize] = &[8];
}

// SAFETY: the same.
unsafe impl Versioned for CudaOptions {
    const NAME: &str = "twinstream_cuda_options";
    const VERSIONS_BYTES: &[usize] = &[24];
}

// SAFETY: the same.
unsafe impl Versioned for NullOptions {
    const NAME: &str = "twinstream_null_options";
    const VERSIONS_BYTES: &[usize] = &[24];
}

// SAFETY: the same; its callback is an `Option`, of which NULL is a value, as is any function's
// address, which is all that C can put there.
unsafe impl Versioned for RequestOptions {
    const NAME: &str = "twinstream_request_options";
    const VERSIONS_BYTES: &[usize] = &[40];
}

// SAFETY: a plain C struct of integers that opens with `struct_size`.
unsafe impl Versioned for Geometry {
    const NAME: &str = "twinstream_geometry";
    const VERSIONS_BYTES: &[usize] = &[40];
}

// SAFETY: a plain C struct of integers and floats that opens with `struct_size`.
unsafe impl Versioned for Stats {
    const NAME: &str = "twinstream_stats";
    const VERSIONS_BYTES: &[usize] = &[256, 368, 408, 424];
}

/// The caller's `struct_size`, if it is a version that is known.
pub(crate) fn known_bytes<T: Versioned>(struct_size: usize) -> Outcome<usize> {
    if !T::VERSIONS_BYTES.contains(&struct_size) {
        let (name, known) = (T::NAME, T::VERSIONS_BYTES);
        let text = format!("struct_size of {name} is {struct_size}: expected one of {known:?}");
        return Err(Failed::new(Status::StructSize, text));
    }
    Ok(struct_size)
}

/// `pointer`, unless it is NULL.
pub(crate) fn not_null<T>(pointer: *const T, name: &'static str) -> Outcome<()> {
    match pointer.is_null() {
        true => Err(Failed::new(Status::Null, name)),
        false => Ok(()),
    }
}

/// Reads a struct of any known version; fields that the caller does not have are as in `missing`.
///
/// # Safety
/// `source` is NULL, or points to a struct whose `struct_size` says how much of it there is.
pub(crate) unsafe fn read<T: Versioned>(source: *const T, mut missing: T) -> Outcome<T> {
    not_null(source, "a struct of options is NULL")?;
    // SAFETY: every version has a `struct_size`, and no more bytes than it says are read, nor
    // more than `missing` has.
    unsafe {
        let bytes = known_bytes::<T>(ptr::read_unaligned(source.cast::<u32>()) as usize)?;
        ptr::copy_nonoverlapping(source.cast::<u8>(), (&raw mut missing).cast::<u8>(), bytes);
    }
    Ok(missing)
}

/// Writes as much of `value` as the caller's `struct_size` has room for, and leaves that as it is.
///
/// # Safety
/// As for [`read`]; nobody else reads or writes the struct meanwhile.
pub(crate) unsafe fn write<T: Versioned>(target: *mut T, value: &T) -> Outcome<()> {
    not_null(target, "a struct to fill is NULL")?;
    // SAFETY: every version has a `struct_size`, which is the caller's word on its room.
    unsafe {
        let struct_size = ptr::read_unaligned(target.cast::<u32>());
        fill(target, known_bytes::<T>(struct_size as usize)?, value);
        ptr::write_unaligned(target.cast::<u32>(), struct_size);
    }
    Ok(())
}

/// Writes the first `bytes` of `value`.
///
/// # Safety
/// There is room for them, and `value` has as many; nobody else uses the struct meanwhile.
pub(crate) unsafe fn fill<T: Versioned>(target: *mut T, bytes: usize, value: &T) {
    let source = ptr::from_ref(value).cast::<u8>();
    // SAFETY: the caller's word.
    unsafe { ptr::copy_nonoverlapping(source, target.cast::<u8>(), bytes) };
}

/// Writes an output.
///
/// # Safety
/// `target` is NULL, or may be written.
pub(crate) unsafe fn put<T>(target: *mut T, value: T) {
    if !target.is_null() {
        // SAFETY: the caller's word.
        unsafe { target.write(value) };
    }
}
