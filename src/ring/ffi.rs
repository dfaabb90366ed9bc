//! The C functions of the ring, made by bindgen from `cuda/ring/ring.h`.
//!
//! Invariant: equals the header; `ffi/tests/bindings.rs` compares the two.

#![allow(dead_code, non_camel_case_types, non_upper_case_globals)]

pub const TWINSTREAM_RING_SLOT_LEN_MAX: u32 = 65536;
pub const TWINSTREAM_RING_SLOT_ALIGN_BYTES: u32 = 64;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_ring {
    _unused: [u8; 0],
}
pub const TWINSTREAM_RING_OK: _bindgen_ty_1 = 0;
pub const TWINSTREAM_RING_ARGUMENT: _bindgen_ty_1 = 1;
pub const TWINSTREAM_RING_MEMORY: _bindgen_ty_1 = 2;
pub const TWINSTREAM_RING_FULL: _bindgen_ty_1 = 3;
pub const TWINSTREAM_RING_CLOSED: _bindgen_ty_1 = 4;
pub const TWINSTREAM_RING_MISUSE: _bindgen_ty_1 = 5;
pub type _bindgen_ty_1 = ::std::os::raw::c_uint;
pub const TWINSTREAM_MEMORY_CUDA: _bindgen_ty_2 = 1;
pub const TWINSTREAM_MEMORY_LOCKED: _bindgen_ty_2 = 2;
pub const TWINSTREAM_MEMORY_PLAIN: _bindgen_ty_2 = 3;
pub type _bindgen_ty_2 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_run {
    pub first: u32,
    pub len: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of twinstream_run"][::std::mem::size_of::<twinstream_run>() - 8usize];
    ["Alignment of twinstream_run"][::std::mem::align_of::<twinstream_run>() - 4usize];
    [
        "Offset of field: twinstream_run::first",
    ][::std::mem::offset_of!(twinstream_run, first) - 0usize];
    [
        "Offset of field: twinstream_run::len",
    ][::std::mem::offset_of!(twinstream_run, len) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_ring_layout {
    pub base: *mut u8,
    pub stride_bytes: u64,
    pub slot_len: u32,
    pub memory: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_ring_layout",
    ][::std::mem::size_of::<twinstream_ring_layout>() - 24usize];
    [
        "Alignment of twinstream_ring_layout",
    ][::std::mem::align_of::<twinstream_ring_layout>() - 8usize];
    [
        "Offset of field: twinstream_ring_layout::base",
    ][::std::mem::offset_of!(twinstream_ring_layout, base) - 0usize];
    [
        "Offset of field: twinstream_ring_layout::stride_bytes",
    ][::std::mem::offset_of!(twinstream_ring_layout, stride_bytes) - 8usize];
    [
        "Offset of field: twinstream_ring_layout::slot_len",
    ][::std::mem::offset_of!(twinstream_ring_layout, slot_len) - 16usize];
    [
        "Offset of field: twinstream_ring_layout::memory",
    ][::std::mem::offset_of!(twinstream_ring_layout, memory) - 20usize];
};
unsafe extern "C" {
    pub fn twinstream_ring_create(
        slot_len: u32,
        slot_bytes: u64,
        memory_weakest: u32,
        ring: *mut *mut twinstream_ring,
    ) -> i32;
}
unsafe extern "C" {
    pub fn twinstream_ring_destroy(ring: *mut twinstream_ring);
}
unsafe extern "C" {
    pub fn twinstream_ring_describe(
        ring: *const twinstream_ring,
        layout: *mut twinstream_ring_layout,
    );
}
unsafe extern "C" {
    pub fn twinstream_ring_lease(
        ring: *mut twinstream_ring,
        len_max: u32,
        is_next: u32,
        run: *mut twinstream_run,
    ) -> i32;
}
unsafe extern "C" {
    pub fn twinstream_ring_used_len(ring: *const twinstream_ring) -> u32;
}
unsafe extern "C" {
    pub fn twinstream_ring_commit(
        ring: *mut twinstream_ring,
        slot: u32,
        consumer_sleeps: *mut u32,
    ) -> i32;
}
unsafe extern "C" {
    pub fn twinstream_ring_take(
        ring: *mut twinstream_ring,
        len_max: u32,
        run: *mut twinstream_run,
    );
}
unsafe extern "C" {
    pub fn twinstream_ring_release(
        ring: *mut twinstream_ring,
        run: twinstream_run,
        is_awaited: *mut u32,
    ) -> i32;
}
unsafe extern "C" {
    pub fn twinstream_ring_await(ring: *mut twinstream_ring, is_awaited: u32);
}
unsafe extern "C" {
    pub fn twinstream_ring_sleep(ring: *mut twinstream_ring) -> i32;
}
unsafe extern "C" {
    pub fn twinstream_ring_wake(ring: *mut twinstream_ring);
}
unsafe extern "C" {
    pub fn twinstream_ring_close(ring: *mut twinstream_ring);
}
unsafe extern "C" {
    pub fn twinstream_ring_fork_count() -> u32;
}
