//! Parameter structs and launch sizes of the kernels, made by bindgen from `cuda/launch.h`.
//!
//! Invariant: equals the header; `ffi/tests/bindings.rs` compares the two.

#![allow(dead_code, non_camel_case_types, non_upper_case_globals)]

pub const TWINSTREAM_BATCH_LEN_MAX: _bindgen_ty_1 = 256;
pub const TWINSTREAM_RESULT_LEN: _bindgen_ty_1 = 4;
pub const TWINSTREAM_CHANNEL_STEP: _bindgen_ty_1 = 64;
pub type _bindgen_ty_1 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_batch {
    pub len: u32,
    pub result: u32,
    pub slots: [u32; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of twinstream_batch"][::std::mem::size_of::<twinstream_batch>() - 1032usize];
    [
        "Alignment of twinstream_batch",
    ][::std::mem::align_of::<twinstream_batch>() - 4usize];
    [
        "Offset of field: twinstream_batch::len",
    ][::std::mem::offset_of!(twinstream_batch, len) - 0usize];
    [
        "Offset of field: twinstream_batch::result",
    ][::std::mem::offset_of!(twinstream_batch, result) - 4usize];
    [
        "Offset of field: twinstream_batch::slots",
    ][::std::mem::offset_of!(twinstream_batch, slots) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_describe_params {
    pub source: u64,
    pub batch: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_describe_params",
    ][::std::mem::size_of::<twinstream_describe_params>() - 16usize];
    [
        "Alignment of twinstream_describe_params",
    ][::std::mem::align_of::<twinstream_describe_params>() - 8usize];
    [
        "Offset of field: twinstream_describe_params::source",
    ][::std::mem::offset_of!(twinstream_describe_params, source) - 0usize];
    [
        "Offset of field: twinstream_describe_params::batch",
    ][::std::mem::offset_of!(twinstream_describe_params, batch) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_stem_params {
    pub images: u64,
    pub batch: u64,
    pub weights: u64,
    pub bias: u64,
    pub output: u64,
    pub image_bytes: u64,
    pub scale: [f32; 3usize],
    pub shift: [f32; 3usize],
    pub height: u32,
    pub width: u32,
    pub conv_height: u32,
    pub conv_width: u32,
    pub pooled_height: u32,
    pub pooled_width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_stem_params",
    ][::std::mem::size_of::<twinstream_stem_params>() - 96usize];
    [
        "Alignment of twinstream_stem_params",
    ][::std::mem::align_of::<twinstream_stem_params>() - 8usize];
    [
        "Offset of field: twinstream_stem_params::images",
    ][::std::mem::offset_of!(twinstream_stem_params, images) - 0usize];
    [
        "Offset of field: twinstream_stem_params::batch",
    ][::std::mem::offset_of!(twinstream_stem_params, batch) - 8usize];
    [
        "Offset of field: twinstream_stem_params::weights",
    ][::std::mem::offset_of!(twinstream_stem_params, weights) - 16usize];
    [
        "Offset of field: twinstream_stem_params::bias",
    ][::std::mem::offset_of!(twinstream_stem_params, bias) - 24usize];
    [
        "Offset of field: twinstream_stem_params::output",
    ][::std::mem::offset_of!(twinstream_stem_params, output) - 32usize];
    [
        "Offset of field: twinstream_stem_params::image_bytes",
    ][::std::mem::offset_of!(twinstream_stem_params, image_bytes) - 40usize];
    [
        "Offset of field: twinstream_stem_params::scale",
    ][::std::mem::offset_of!(twinstream_stem_params, scale) - 48usize];
    [
        "Offset of field: twinstream_stem_params::shift",
    ][::std::mem::offset_of!(twinstream_stem_params, shift) - 60usize];
    [
        "Offset of field: twinstream_stem_params::height",
    ][::std::mem::offset_of!(twinstream_stem_params, height) - 72usize];
    [
        "Offset of field: twinstream_stem_params::width",
    ][::std::mem::offset_of!(twinstream_stem_params, width) - 76usize];
    [
        "Offset of field: twinstream_stem_params::conv_height",
    ][::std::mem::offset_of!(twinstream_stem_params, conv_height) - 80usize];
    [
        "Offset of field: twinstream_stem_params::conv_width",
    ][::std::mem::offset_of!(twinstream_stem_params, conv_width) - 84usize];
    [
        "Offset of field: twinstream_stem_params::pooled_height",
    ][::std::mem::offset_of!(twinstream_stem_params, pooled_height) - 88usize];
    [
        "Offset of field: twinstream_stem_params::pooled_width",
    ][::std::mem::offset_of!(twinstream_stem_params, pooled_width) - 92usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_stem_wgmma_params {
    pub stem: twinstream_stem_params,
    pub strip_height: u32,
    pub strips: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_stem_wgmma_params",
    ][::std::mem::size_of::<twinstream_stem_wgmma_params>() - 104usize];
    [
        "Alignment of twinstream_stem_wgmma_params",
    ][::std::mem::align_of::<twinstream_stem_wgmma_params>() - 8usize];
    [
        "Offset of field: twinstream_stem_wgmma_params::stem",
    ][::std::mem::offset_of!(twinstream_stem_wgmma_params, stem) - 0usize];
    [
        "Offset of field: twinstream_stem_wgmma_params::strip_height",
    ][::std::mem::offset_of!(twinstream_stem_wgmma_params, strip_height) - 96usize];
    [
        "Offset of field: twinstream_stem_wgmma_params::strips",
    ][::std::mem::offset_of!(twinstream_stem_wgmma_params, strips) - 100usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_conv_params {
    pub input: u64,
    pub weights: u64,
    pub bias: u64,
    pub residual: u64,
    pub shortcut: u64,
    pub output: u64,
    pub batch: u64,
    pub partials: u64,
    pub semaphores: u64,
    pub input_height: u32,
    pub input_width: u32,
    pub channels: u32,
    pub output_height: u32,
    pub output_width: u32,
    pub output_channels: u32,
    pub stride: u32,
    pub padding: u32,
    pub tap_row_first: u32,
    pub tap_rows: u32,
    pub tap_column_first: u32,
    pub tap_columns: u32,
    pub shortcut_height: u32,
    pub shortcut_width: u32,
    pub shortcut_channels: u32,
    pub shortcut_stride: u32,
    pub relu: u32,
    pub split_k: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_conv_params",
    ][::std::mem::size_of::<twinstream_conv_params>() - 144usize];
    [
        "Alignment of twinstream_conv_params",
    ][::std::mem::align_of::<twinstream_conv_params>() - 8usize];
    [
        "Offset of field: twinstream_conv_params::input",
    ][::std::mem::offset_of!(twinstream_conv_params, input) - 0usize];
    [
        "Offset of field: twinstream_conv_params::weights",
    ][::std::mem::offset_of!(twinstream_conv_params, weights) - 8usize];
    [
        "Offset of field: twinstream_conv_params::bias",
    ][::std::mem::offset_of!(twinstream_conv_params, bias) - 16usize];
    [
        "Offset of field: twinstream_conv_params::residual",
    ][::std::mem::offset_of!(twinstream_conv_params, residual) - 24usize];
    [
        "Offset of field: twinstream_conv_params::shortcut",
    ][::std::mem::offset_of!(twinstream_conv_params, shortcut) - 32usize];
    [
        "Offset of field: twinstream_conv_params::output",
    ][::std::mem::offset_of!(twinstream_conv_params, output) - 40usize];
    [
        "Offset of field: twinstream_conv_params::batch",
    ][::std::mem::offset_of!(twinstream_conv_params, batch) - 48usize];
    [
        "Offset of field: twinstream_conv_params::partials",
    ][::std::mem::offset_of!(twinstream_conv_params, partials) - 56usize];
    [
        "Offset of field: twinstream_conv_params::semaphores",
    ][::std::mem::offset_of!(twinstream_conv_params, semaphores) - 64usize];
    [
        "Offset of field: twinstream_conv_params::input_height",
    ][::std::mem::offset_of!(twinstream_conv_params, input_height) - 72usize];
    [
        "Offset of field: twinstream_conv_params::input_width",
    ][::std::mem::offset_of!(twinstream_conv_params, input_width) - 76usize];
    [
        "Offset of field: twinstream_conv_params::channels",
    ][::std::mem::offset_of!(twinstream_conv_params, channels) - 80usize];
    [
        "Offset of field: twinstream_conv_params::output_height",
    ][::std::mem::offset_of!(twinstream_conv_params, output_height) - 84usize];
    [
        "Offset of field: twinstream_conv_params::output_width",
    ][::std::mem::offset_of!(twinstream_conv_params, output_width) - 88usize];
    [
        "Offset of field: twinstream_conv_params::output_channels",
    ][::std::mem::offset_of!(twinstream_conv_params, output_channels) - 92usize];
    [
        "Offset of field: twinstream_conv_params::stride",
    ][::std::mem::offset_of!(twinstream_conv_params, stride) - 96usize];
    [
        "Offset of field: twinstream_conv_params::padding",
    ][::std::mem::offset_of!(twinstream_conv_params, padding) - 100usize];
    [
        "Offset of field: twinstream_conv_params::tap_row_first",
    ][::std::mem::offset_of!(twinstream_conv_params, tap_row_first) - 104usize];
    [
        "Offset of field: twinstream_conv_params::tap_rows",
    ][::std::mem::offset_of!(twinstream_conv_params, tap_rows) - 108usize];
    [
        "Offset of field: twinstream_conv_params::tap_column_first",
    ][::std::mem::offset_of!(twinstream_conv_params, tap_column_first) - 112usize];
    [
        "Offset of field: twinstream_conv_params::tap_columns",
    ][::std::mem::offset_of!(twinstream_conv_params, tap_columns) - 116usize];
    [
        "Offset of field: twinstream_conv_params::shortcut_height",
    ][::std::mem::offset_of!(twinstream_conv_params, shortcut_height) - 120usize];
    [
        "Offset of field: twinstream_conv_params::shortcut_width",
    ][::std::mem::offset_of!(twinstream_conv_params, shortcut_width) - 124usize];
    [
        "Offset of field: twinstream_conv_params::shortcut_channels",
    ][::std::mem::offset_of!(twinstream_conv_params, shortcut_channels) - 128usize];
    [
        "Offset of field: twinstream_conv_params::shortcut_stride",
    ][::std::mem::offset_of!(twinstream_conv_params, shortcut_stride) - 132usize];
    [
        "Offset of field: twinstream_conv_params::relu",
    ][::std::mem::offset_of!(twinstream_conv_params, relu) - 136usize];
    [
        "Offset of field: twinstream_conv_params::split_k",
    ][::std::mem::offset_of!(twinstream_conv_params, split_k) - 140usize];
};
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_tensor_map {
    pub words: [u64; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_tensor_map",
    ][::std::mem::size_of::<twinstream_tensor_map>() - 128usize];
    [
        "Alignment of twinstream_tensor_map",
    ][::std::mem::align_of::<twinstream_tensor_map>() - 64usize];
    [
        "Offset of field: twinstream_tensor_map::words",
    ][::std::mem::offset_of!(twinstream_tensor_map, words) - 0usize];
};
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_conv_wgmma_params {
    pub input: twinstream_tensor_map,
    pub shortcut: twinstream_tensor_map,
    pub residual: twinstream_tensor_map,
    pub output: twinstream_tensor_map,
    pub weights: u64,
    pub bias: u64,
    pub batch: u64,
    pub channels: u32,
    pub output_height: u32,
    pub output_width: u32,
    pub output_channels: u32,
    pub stride: u32,
    pub padding: u32,
    pub tap_row_first: u32,
    pub tap_rows: u32,
    pub tap_column_first: u32,
    pub tap_columns: u32,
    pub shortcut_channels: u32,
    pub shortcut_stride: u32,
    pub relu: u32,
    pub has_residual: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_conv_wgmma_params",
    ][::std::mem::size_of::<twinstream_conv_wgmma_params>() - 640usize];
    [
        "Alignment of twinstream_conv_wgmma_params",
    ][::std::mem::align_of::<twinstream_conv_wgmma_params>() - 64usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::input",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, input) - 0usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::shortcut",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, shortcut) - 128usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::residual",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, residual) - 256usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::output",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, output) - 384usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::weights",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, weights) - 512usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::bias",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, bias) - 520usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::batch",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, batch) - 528usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::channels",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, channels) - 536usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::output_height",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, output_height) - 540usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::output_width",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, output_width) - 544usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::output_channels",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, output_channels) - 548usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::stride",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, stride) - 552usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::padding",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, padding) - 556usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::tap_row_first",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, tap_row_first) - 560usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::tap_rows",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, tap_rows) - 564usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::tap_column_first",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, tap_column_first) - 568usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::tap_columns",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, tap_columns) - 572usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::shortcut_channels",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, shortcut_channels)
        - 576usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::shortcut_stride",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, shortcut_stride) - 580usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::relu",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, relu) - 584usize];
    [
        "Offset of field: twinstream_conv_wgmma_params::has_residual",
    ][::std::mem::offset_of!(twinstream_conv_wgmma_params, has_residual) - 588usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_average_pool_params {
    pub input: u64,
    pub multiplier: u64,
    pub output: u64,
    pub batch: u64,
    pub pixels: u32,
    pub channels: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_average_pool_params",
    ][::std::mem::size_of::<twinstream_average_pool_params>() - 40usize];
    [
        "Alignment of twinstream_average_pool_params",
    ][::std::mem::align_of::<twinstream_average_pool_params>() - 8usize];
    [
        "Offset of field: twinstream_average_pool_params::input",
    ][::std::mem::offset_of!(twinstream_average_pool_params, input) - 0usize];
    [
        "Offset of field: twinstream_average_pool_params::multiplier",
    ][::std::mem::offset_of!(twinstream_average_pool_params, multiplier) - 8usize];
    [
        "Offset of field: twinstream_average_pool_params::output",
    ][::std::mem::offset_of!(twinstream_average_pool_params, output) - 16usize];
    [
        "Offset of field: twinstream_average_pool_params::batch",
    ][::std::mem::offset_of!(twinstream_average_pool_params, batch) - 24usize];
    [
        "Offset of field: twinstream_average_pool_params::pixels",
    ][::std::mem::offset_of!(twinstream_average_pool_params, pixels) - 32usize];
    [
        "Offset of field: twinstream_average_pool_params::channels",
    ][::std::mem::offset_of!(twinstream_average_pool_params, channels) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_fully_connected_params {
    pub input: u64,
    pub weights: u64,
    pub bias: u64,
    pub logits: u64,
    pub batch: u64,
    pub result_bytes: u64,
    pub channels: u32,
    pub classes: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_fully_connected_params",
    ][::std::mem::size_of::<twinstream_fully_connected_params>() - 56usize];
    [
        "Alignment of twinstream_fully_connected_params",
    ][::std::mem::align_of::<twinstream_fully_connected_params>() - 8usize];
    [
        "Offset of field: twinstream_fully_connected_params::input",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, input) - 0usize];
    [
        "Offset of field: twinstream_fully_connected_params::weights",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, weights) - 8usize];
    [
        "Offset of field: twinstream_fully_connected_params::bias",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, bias) - 16usize];
    [
        "Offset of field: twinstream_fully_connected_params::logits",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, logits) - 24usize];
    [
        "Offset of field: twinstream_fully_connected_params::batch",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, batch) - 32usize];
    [
        "Offset of field: twinstream_fully_connected_params::result_bytes",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, result_bytes) - 40usize];
    [
        "Offset of field: twinstream_fully_connected_params::channels",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, channels) - 48usize];
    [
        "Offset of field: twinstream_fully_connected_params::classes",
    ][::std::mem::offset_of!(twinstream_fully_connected_params, classes) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_class {
    pub index: f32,
    pub probability: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of twinstream_class"][::std::mem::size_of::<twinstream_class>() - 8usize];
    [
        "Alignment of twinstream_class",
    ][::std::mem::align_of::<twinstream_class>() - 4usize];
    [
        "Offset of field: twinstream_class::index",
    ][::std::mem::offset_of!(twinstream_class, index) - 0usize];
    [
        "Offset of field: twinstream_class::probability",
    ][::std::mem::offset_of!(twinstream_class, probability) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct twinstream_top_k_params {
    pub logits: u64,
    pub best: u64,
    pub batch: u64,
    pub logits_result_bytes: u64,
    pub best_result_bytes: u64,
    pub classes: u32,
    pub k: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of twinstream_top_k_params",
    ][::std::mem::size_of::<twinstream_top_k_params>() - 48usize];
    [
        "Alignment of twinstream_top_k_params",
    ][::std::mem::align_of::<twinstream_top_k_params>() - 8usize];
    [
        "Offset of field: twinstream_top_k_params::logits",
    ][::std::mem::offset_of!(twinstream_top_k_params, logits) - 0usize];
    [
        "Offset of field: twinstream_top_k_params::best",
    ][::std::mem::offset_of!(twinstream_top_k_params, best) - 8usize];
    [
        "Offset of field: twinstream_top_k_params::batch",
    ][::std::mem::offset_of!(twinstream_top_k_params, batch) - 16usize];
    [
        "Offset of field: twinstream_top_k_params::logits_result_bytes",
    ][::std::mem::offset_of!(twinstream_top_k_params, logits_result_bytes) - 24usize];
    [
        "Offset of field: twinstream_top_k_params::best_result_bytes",
    ][::std::mem::offset_of!(twinstream_top_k_params, best_result_bytes) - 32usize];
    [
        "Offset of field: twinstream_top_k_params::classes",
    ][::std::mem::offset_of!(twinstream_top_k_params, classes) - 40usize];
    [
        "Offset of field: twinstream_top_k_params::k",
    ][::std::mem::offset_of!(twinstream_top_k_params, k) - 44usize];
};
pub const TWINSTREAM_DESCRIBE_THREADS: _bindgen_ty_2 = 288;
pub const TWINSTREAM_DESCRIBE_SHARED_BYTES: _bindgen_ty_2 = 0;
pub const TWINSTREAM_STEM_POOLED_HEIGHT: _bindgen_ty_2 = 8;
pub const TWINSTREAM_STEM_POOLED_WIDTH: _bindgen_ty_2 = 7;
pub const TWINSTREAM_STEM_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_STEM_SHARED_BYTES: _bindgen_ty_2 = 40928;
pub const TWINSTREAM_STEM_I8_BORDERS: _bindgen_ty_2 = 5;
pub const TWINSTREAM_STEM_I8_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_STEM_I8_SHARED_BYTES: _bindgen_ty_2 = 20976;
pub const TWINSTREAM_STEM_WGMMA_WIDTH: _bindgen_ty_2 = 112;
pub const TWINSTREAM_STEM_WGMMA_GROUPS: _bindgen_ty_2 = 2;
pub const TWINSTREAM_STEM_WGMMA_THREADS: _bindgen_ty_2 = 384;
pub const TWINSTREAM_STEM_WGMMA_SHARED_BYTES: _bindgen_ty_2 = 59136;
pub const TWINSTREAM_STEM_I8_WGMMA_GROUPS: _bindgen_ty_2 = 2;
pub const TWINSTREAM_STEM_I8_WGMMA_THREADS: _bindgen_ty_2 = 384;
pub const TWINSTREAM_STEM_I8_WGMMA_SHARED_BYTES: _bindgen_ty_2 = 59136;
pub const TWINSTREAM_AVERAGE_POOL_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_AVERAGE_POOL_SHARED_BYTES: _bindgen_ty_2 = 2048;
pub const TWINSTREAM_AVERAGE_POOL_I8_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_AVERAGE_POOL_I8_SHARED_BYTES: _bindgen_ty_2 = 4096;
pub const TWINSTREAM_FULLY_CONNECTED_CLASSES: _bindgen_ty_2 = 16;
pub const TWINSTREAM_FULLY_CONNECTED_IMAGES: _bindgen_ty_2 = 32;
pub const TWINSTREAM_FULLY_CONNECTED_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES: _bindgen_ty_2 = 16384;
pub const TWINSTREAM_FULLY_CONNECTED_I8_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES: _bindgen_ty_2 = 16384;
pub const TWINSTREAM_TOP_K_THREADS: _bindgen_ty_2 = 256;
pub const TWINSTREAM_TOP_K_SHARED_BYTES: _bindgen_ty_2 = 64;
pub type _bindgen_ty_2 = ::std::os::raw::c_uint;
