//! The stem: pixels to pooled activations, in one kernel; of 8-bit integers, from the pixels as
//! they are.

use std::ops::Range;

use half::f16;

use super::abi;
use super::family::Arguments;
use super::launch::{Kernel, Params};
use super::packed::{Packed, quantized, rounded};
use super::single::Single;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Model, Shape};

/// Output channels, kernel rows, padded columns and padded channels of the filter.
const FILTER_SHAPE: [usize; 4] = [64, 7, 8, 4];
pub(super) const FILTER_LEN: usize = 64 * 7 * 8 * 4;
/// Columns and channels that it has.
const FILTER_COLUMNS: usize = 7;
const FILTER_CHANNELS: usize = 3;
/// Pixels between those of the convolution, and around the image.
const STRIDE: usize = 2;
const PADDING: usize = 3;
/// Kinds of pixels on an axis, by the taps that see the image.
const BORDER_LEN: usize = abi::TWINSTREAM_STEM_I8_BORDERS as usize;

/// Pixels of the convolution that a block multiplies.
const BLOCK_PIXELS: usize = 256;
// What the model takes a multiprocessor to do at a clock, as of the convolutions (`conv.rs`).
const MAC_BYTES_PER_CLOCK: f64 = 2048.0;
const BLOCK_CLOCKS: f64 = 1500.0;

pub(super) static F16: Single = Single {
    kernel: &Kernel::alone("stem", abi::TWINSTREAM_STEM_THREADS, abi::TWINSTREAM_STEM_SHARED_BYTES),
    dtype: DType::F16,
    computes,
    grid,
    params,
    clocks,
    packed_bytes: |_| (FILTER_LEN * size_of::<f16>(), bias_len(DType::F16) * size_of::<f32>()),
    pack: |model, step| filter_f16(model, step).map(|it| Packed::f16(&it.0, it.1)),
};

pub(super) static I8: Single = Single {
    kernel: &Kernel::alone(
        "stem_i8",
        abi::TWINSTREAM_STEM_I8_THREADS,
        abi::TWINSTREAM_STEM_I8_SHARED_BYTES,
    ),
    dtype: DType::I8,
    computes,
    grid,
    params,
    clocks,
    packed_bytes: |_| (FILTER_LEN, bias_len(DType::I8) * size_of::<f32>()),
    pack: |model, step| filter_i8(model, step).map(|it| Packed::i8(&it.0, it.1)),
};

pub(super) fn computes(work: &Work) -> bool {
    matches!(work, Work::Stem { .. })
}

/// Shapes of the image, and of the convolution before the pool.
pub(super) fn shapes_of(step: &Step) -> (Shape, Shape) {
    match step.work {
        Work::Stem { input_shape, conv_shape, .. } => (input_shape, conv_shape),
        _ => unreachable!("asked for the stem"),
    }
}

fn filter_of(step: &Step) -> usize {
    match step.work {
        Work::Stem { filter, .. } => filter,
        _ => unreachable!("asked for the stem"),
    }
}

fn grid(step: &Step, batch_len: usize) -> [u32; 3] {
    let pooled = step.output_shape;
    let down = (pooled.height as u32).div_ceil(abi::TWINSTREAM_STEM_POOLED_HEIGHT);
    let across = (pooled.width as u32).div_ceil(abi::TWINSTREAM_STEM_POOLED_WIDTH);
    [down * across, batch_len as u32, 1]
}

fn params(step: &Step, arguments: &Arguments) -> Box<dyn Params> {
    Box::new(params_of(step, arguments))
}

pub(super) fn params_of(step: &Step, arguments: &Arguments) -> abi::twinstream_stem_params {
    let (input_shape, conv_shape) = shapes_of(step);
    abi::twinstream_stem_params {
        images: arguments.images,
        batch: arguments.batch,
        weights: arguments.weights,
        bias: arguments.bias,
        output: arguments.output,
        image_bytes: arguments.image_stride_bytes,
        scale: arguments.scale,
        shift: arguments.shift,
        height: input_shape.height as u32,
        width: input_shape.width as u32,
        conv_height: conv_shape.height as u32,
        conv_width: conv_shape.width as u32,
        pooled_height: step.output_shape.height as u32,
        pooled_width: step.output_shape.width as u32,
    }
}

/// Blocks in turns: two share a multiprocessor, and what one waits for, the other hides.
fn clocks(step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
    let block_len: u32 = grid(step, batch_len).iter().product();
    let rounds = (f64::from(block_len) / f64::from(device.multiprocessor_len)).ceil();
    let mac_bytes = (BLOCK_PIXELS * FILTER_LEN * step.dtype.size_bytes()) as f64;
    rounds * mac_bytes / MAC_BYTES_PER_CLOCK + (rounds / 2.0).ceil() * BLOCK_CLOCKS
}

/// Values of the bias, with all that a kernel of integers finds behind it.
pub(super) fn bias_len(dtype: DType) -> usize {
    FILTER_SHAPE[0] * if dtype == DType::I8 { BORDER_LEN * BORDER_LEN + 1 } else { 1 }
}

/// By kind, the kernel rows (or columns) that see one of `side` inputs from an output of that kind,
/// of which there are `output_side`: the first two, those between, the last two.
fn borders(side: usize, output_side: usize) -> [Range<usize>; BORDER_LEN] {
    let from_end = |pixel: usize| output_side.saturating_sub(pixel);
    let pixels = [0, 1, 2, from_end(2), from_end(1)];
    pixels.map(|pixel| {
        let at = pixel.min(output_side - 1) * STRIDE;
        PADDING.saturating_sub(at)..FILTER_COLUMNS.min(side + PADDING - at)
    })
}

/// `[output][7][7][3]` to `[output][7][8][4]`, zeros in what is added.
fn padded<T: Copy>(weights: &[T], zero: T) -> Vec<T> {
    let [_, _, columns, channels] = FILTER_SHAPE;
    let mut padded = vec![zero; FILTER_SHAPE.iter().product()];
    // A kernel row of one output channel, before and after.
    let from = weights.chunks_exact(FILTER_COLUMNS * FILTER_CHANNELS);
    for (from, to) in from.zip(padded.chunks_exact_mut(columns * channels)) {
        let to = to.chunks_exact_mut(channels);
        for (from, to) in from.chunks_exact(FILTER_CHANNELS).zip(to) {
            to[..FILTER_CHANNELS].copy_from_slice(from);
        }
    }
    padded
}

/// The filter in [`FILTER_SHAPE`], and its bias.
pub(super) fn filter_f16(model: &Model, step: &Step) -> Result<(Vec<f16>, Vec<f32>)> {
    let (weights, bias) = rounded(model, "conv1", filter_of(step))?;
    Ok((padded(&weights, f16::ZERO), bias))
}

/// The same of integers: a bias for each kind of row and of column, then the multipliers.
pub(super) fn filter_i8(model: &Model, step: &Step) -> Result<(Vec<i8>, Vec<f32>)> {
    let quantized = quantized(model);
    let filter = quantized.filter(filter_of(step))?;
    let (input, output) = shapes_of(step);
    let mut bias = Vec::new();
    for rows in borders(input.height, output.height) {
        for columns in borders(input.width, output.width) {
            bias.extend(quantized.stem_bias(&filter, rows.clone(), columns));
        }
    }
    bias.extend_from_slice(&filter.multiplier);
    Ok((padded(&filter.weights, 0), bias))
}
