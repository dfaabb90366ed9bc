//! The C functions of `cuda/ring/ring.h`, bound by hand; names and contracts are the header's.
//!
//! Invariant: sizes and offsets equal those that `cuda/ring/ring.cpp` asserts on its side.

use std::marker::{PhantomData, PhantomPinned};
use std::mem::{align_of, offset_of, size_of};

pub(super) const OK: i32 = 0;
pub(super) const ARGUMENT: i32 = 1;
pub(super) const MEMORY: i32 = 2;
pub(super) const FULL: i32 = 3;
pub(super) const CLOSED: i32 = 4;

pub(super) const SLOT_LEN_MAX: u32 = 65_536;

/// `twinstream_ring`: never looked into from here.
#[repr(C)]
pub(super) struct Ring {
    opaque: [u8; 0],
    marker: PhantomData<(*mut u8, PhantomPinned)>,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) len: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) base: *mut u8,
    pub(super) stride_bytes: u64,
    pub(super) slot_len: u32,
    pub(super) memory: u32,
}

const _: () = {
    assert!(size_of::<Run>() == 8 && align_of::<Run>() == 4);
    assert!(offset_of!(Run, len) == 4);
    assert!(size_of::<Layout>() == 24 && align_of::<Layout>() == 8);
    assert!(offset_of!(Layout, stride_bytes) == 8);
    assert!(offset_of!(Layout, slot_len) == 16);
    assert!(offset_of!(Layout, memory) == 20);
};

unsafe extern "C" {
    pub(super) fn twinstream_ring_create(
        slot_len: u32,
        slot_bytes: u64,
        memory_weakest: u32,
        ring: *mut *mut Ring,
    ) -> i32;
    pub(super) fn twinstream_ring_destroy(ring: *mut Ring);
    pub(super) fn twinstream_ring_describe(ring: *const Ring, layout: *mut Layout);
    pub(super) fn twinstream_ring_lease(ring: *mut Ring, slot: *mut u32) -> i32;
    pub(super) fn twinstream_ring_used_len(ring: *const Ring) -> u32;
    pub(super) fn twinstream_ring_commit(
        ring: *mut Ring,
        slot: u32,
        consumer_sleeps: *mut u32,
    ) -> i32;
    pub(super) fn twinstream_ring_take(ring: *mut Ring, len_max: u32, run: *mut Run);
    pub(super) fn twinstream_ring_release(ring: *mut Ring, run: Run) -> i32;
    pub(super) fn twinstream_ring_sleep(ring: *mut Ring) -> i32;
    pub(super) fn twinstream_ring_wake(ring: *mut Ring);
    pub(super) fn twinstream_ring_close(ring: *mut Ring);
    pub(super) safe fn twinstream_ring_fork_count() -> u32;
}
