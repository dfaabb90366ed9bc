//! Structs and sizes of the kernels that prove others, made by bindgen from `cuda/prove.h`.
//!
//! Invariant: equals the header; `ffi/tests/bindings.rs` compares the two.

#![allow(dead_code, non_camel_case_types, non_upper_case_globals)]

pub const TWINSTREAM_PROVE_ONES: _bindgen_ty_3 = 0;
pub const TWINSTREAM_PROVE_ZEROS: _bindgen_ty_3 = 1;
pub const TWINSTREAM_PROVE_BYTES: _bindgen_ty_3 = 2;
pub const TWINSTREAM_PROVE_SMALL_BYTES: _bindgen_ty_3 = 3;
pub const TWINSTREAM_PROVE_SMALL_HALVES: _bindgen_ty_3 = 4;
pub type _bindgen_ty_3 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_prove_fill_params {
    pub to: u64,
    pub chunk_len: u64,
    pub seed: u32,
    pub values: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_prove_fill_params",
    ][::std::mem::size_of::<twinstream_prove_fill_params>() - 24usize];
    [
        "Alignment of twinstream_prove_fill_params",
    ][::std::mem::align_of::<twinstream_prove_fill_params>() - 8usize];
    [
        "Offset of field: twinstream_prove_fill_params::to",
    ][::std::mem::offset_of!(twinstream_prove_fill_params, to) - 0usize];
    [
        "Offset of field: twinstream_prove_fill_params::chunk_len",
    ][::std::mem::offset_of!(twinstream_prove_fill_params, chunk_len) - 8usize];
    [
        "Offset of field: twinstream_prove_fill_params::seed",
    ][::std::mem::offset_of!(twinstream_prove_fill_params, seed) - 16usize];
    [
        "Offset of field: twinstream_prove_fill_params::values",
    ][::std::mem::offset_of!(twinstream_prove_fill_params, values) - 20usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_prove_difference {
    pub len: u32,
    pub first_inverted: u32,
    pub worst_bits: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_prove_difference",
    ][::std::mem::size_of::<twinstream_prove_difference>() - 12usize];
    [
        "Alignment of twinstream_prove_difference",
    ][::std::mem::align_of::<twinstream_prove_difference>() - 4usize];
    [
        "Offset of field: twinstream_prove_difference::len",
    ][::std::mem::offset_of!(twinstream_prove_difference, len) - 0usize];
    [
        "Offset of field: twinstream_prove_difference::first_inverted",
    ][::std::mem::offset_of!(twinstream_prove_difference, first_inverted) - 4usize];
    [
        "Offset of field: twinstream_prove_difference::worst_bits",
    ][::std::mem::offset_of!(twinstream_prove_difference, worst_bits) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_prove_compare_params {
    pub found: u64,
    pub expected: u64,
    pub magnitudes: u64,
    pub difference: u64,
    pub chunk_len: u32,
    pub value_bytes: u32,
    pub sum_error: f32,
    pub value_error: f32,
    pub least_error: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_prove_compare_params",
    ][::std::mem::size_of::<twinstream_prove_compare_params>() - 56usize];
    [
        "Alignment of twinstream_prove_compare_params",
    ][::std::mem::align_of::<twinstream_prove_compare_params>() - 8usize];
    [
        "Offset of field: twinstream_prove_compare_params::found",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, found) - 0usize];
    [
        "Offset of field: twinstream_prove_compare_params::expected",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, expected) - 8usize];
    [
        "Offset of field: twinstream_prove_compare_params::magnitudes",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, magnitudes) - 16usize];
    [
        "Offset of field: twinstream_prove_compare_params::difference",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, difference) - 24usize];
    [
        "Offset of field: twinstream_prove_compare_params::chunk_len",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, chunk_len) - 32usize];
    [
        "Offset of field: twinstream_prove_compare_params::value_bytes",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, value_bytes) - 36usize];
    [
        "Offset of field: twinstream_prove_compare_params::sum_error",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, sum_error) - 40usize];
    [
        "Offset of field: twinstream_prove_compare_params::value_error",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, value_error) - 44usize];
    [
        "Offset of field: twinstream_prove_compare_params::least_error",
    ][::std::mem::offset_of!(twinstream_prove_compare_params, least_error) - 48usize];
};
pub const TWINSTREAM_PROVE_FILL_THREADS: _bindgen_ty_4 = 256;
pub const TWINSTREAM_PROVE_FILL_SHARED_BYTES: _bindgen_ty_4 = 0;
pub const TWINSTREAM_PROVE_COMPARE_THREADS: _bindgen_ty_4 = 256;
pub const TWINSTREAM_PROVE_COMPARE_SHARED_BYTES: _bindgen_ty_4 = 0;
pub type _bindgen_ty_4 = ::std::os::raw::c_uint;
