//! The stem: pixels to pooled activations, in one kernel; of 8-bit integers, from the pixels as
//! they are.

use std::ops::Range;

use half::f16;

use super::abi;
use super::family::Arguments;
use super::launch::{Kernel, Params};
use super::packed::{Packed, quantized, rounded};
use super::single::Single;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Model, Shape};

/// Output channels, kernel rows, padded columns and padded channels of the filter.
const FILTER_SHAPE: [usize; 4] = [64, 7, 8, 4];
/// Columns and channels that it has.
const FILTER_COLUMNS: usize = 7;
const FILTER_CHANNELS: usize = 3;
/// Pixels between those of the convolution, and around the image.
const STRIDE: usize = 2;
const PADDING: usize = 3;
/// Kinds of pixels on an axis, by the taps that see the image.
const BORDER_LEN: usize = abi::TWINSTREAM_STEM_I8_BORDERS as usize;

pub(super) static F16: Single = Single {
    kernel: &Kernel::alone("stem", abi::TWINSTREAM_STEM_THREADS, abi::TWINSTREAM_STEM_SHARED_BYTES),
    dtype: DType::F16,
    computes,
    grid,
    params,
    packed_bytes: |_| {
        let weight_len: usize = FILTER_SHAPE.iter().product();
        (weight_len * size_of::<f16>(), FILTER_SHAPE[0] * size_of::<f32>())
    },
    pack: pack_f16,
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
    packed_bytes: |_| {
        let bias_len = (BORDER_LEN * BORDER_LEN + 1) * FILTER_SHAPE[0];
        (FILTER_SHAPE.iter().product(), bias_len * size_of::<f32>())
    },
    pack: pack_i8,
};

fn computes(work: &Work) -> bool {
    matches!(work, Work::Stem { .. })
}

/// Shapes of the image, and of the convolution before the pool.
fn shapes_of(step: &Step) -> (Shape, Shape) {
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
    let (input_shape, conv_shape) = shapes_of(step);
    Box::new(abi::twinstream_stem_params {
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
    })
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

fn pack_f16(model: &Model, step: &Step) -> Result<Packed> {
    let (weights, bias) = rounded(model, "conv1", filter_of(step))?;
    Ok(Packed::f16(&padded(&weights, f16::ZERO), bias))
}

/// A bias for each kind of row and of column, then the multipliers.
fn pack_i8(model: &Model, step: &Step) -> Result<Packed> {
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
    Ok(Packed::i8(&padded(&filter.weights, 0), bias))
}
