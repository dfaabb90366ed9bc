//! The network in 8-bit integers by scalar loops: the definition of every byte that a backend may
//! write.
//!
//! All floating point here is IEEE single rounded to nearest even, and `mul_add` rounds once. Slow
//! by intent. Knows nothing of threads, packing or where outputs lie.

use std::ops::Range;

use crate::error::{Error, Kind, Result};
use crate::lower::{ConvStep, DType, Shortcut, Steps, Work};
use crate::model::{Model, Op, Quantized, QuantizedFilter, Shape};

/// What each step of the network writes for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// By step, in the order of [`Steps::list`], but for the last.
    pub activations: Vec<Vec<u8>>,
    /// What the last step writes.
    pub logits: Vec<f32>,
}

/// Computes one image of `height` x `width` pixels: u8 RGB, height x width x 3.
///
/// # Errors
/// `is_argument` when the model is not one in 8-bit integers, or the image has another length;
/// `is_weights` when the weights file was changed since it was opened.
pub fn reference(model: &Model, height: usize, width: usize, image: &[u8]) -> Result<Outputs> {
    let network = model.network(height, width)?;
    let Some(quantized) = model.quantized() else {
        let message = format!("{}: not a network in 8-bit integers", model.path().display());
        return Err(Error::new(Kind::Argument, message));
    };
    let steps = Steps::new(&network, DType::I8);
    let expected_bytes = network.input_shape().value_len();
    if image.len() != expected_bytes {
        let message = format!("{} bytes of an image: expected {expected_bytes}", image.len());
        return Err(Error::new(Kind::Argument, message));
    }
    let mut outputs = Outputs { activations: Vec::new(), logits: Vec::new() };
    for step in &steps.list {
        let done = &outputs.activations;
        let written = match &step.work {
            Work::Stem { filter, input_shape, conv_shape } => {
                let filter = quantized.filter(*filter)?;
                let conv = stem(quantized, &filter, *input_shape, *conv_shape, image);
                max_pool(*conv_shape, step.output_shape, &conv)
            }
            Work::Conv(conv) => conv_step(quantized, conv, done)?,
            Work::AveragePool { input, input_shape } => {
                let multiplier = quantized.average_multiplier(input_shape.pixel_len());
                average_pool(*input_shape, &done[*input], multiplier)
            }
            Work::FullyConnected { input, filter, .. } => {
                let QuantizedFilter { weights, multiplier, bias } = quantized.filter(*filter)?;
                let input = &done[*input];
                let sums = weights.chunks_exact(input.len()).map(|weights| dot(weights, input));
                let scaled = sums.zip(multiplier).zip(bias);
                outputs.logits = scaled.map(|((sum, m), b)| (sum as f32).mul_add(m, b)).collect();
                break;
            }
        };
        outputs.activations.push(written);
    }
    Ok(outputs)
}

/// To the nearest u8, of two the even one.
fn to_u8(value: f32) -> u8 {
    value.round_ties_even().clamp(0.0, 255.0) as u8
}

fn dot(weights: &[i8], activations: &[u8]) -> i32 {
    weights.iter().zip(activations).map(|(&w, &a)| i32::from(w) * i32::from(a)).sum()
}

/// The first layer's output before the pool.
fn stem(
    quantized: &Quantized,
    filter: &QuantizedFilter,
    input: Shape,
    output: Shape,
    image: &[u8],
) -> Vec<u8> {
    let mut values = Vec::with_capacity(output.value_len());
    let window = (7, 2, 3);
    for y in 0..output.height {
        for x in 0..output.width {
            let (rows, columns) = (taps(y, input.height, window), taps(x, input.width, window));
            let bias = quantized.stem_bias(filter, rows, columns);
            for (channel, &bias) in bias.iter().enumerate() {
                let sum = window_sum(filter, input, image, window, (y, x), channel);
                values.push(to_u8((sum as f32).mul_add(filter.multiplier[channel], bias)));
            }
        }
    }
    values
}

fn conv_step(quantized: &Quantized, step: &ConvStep, done: &[Vec<u8>]) -> Result<Vec<u8>> {
    let filter = quantized.filter(step.conv.filter)?;
    let window = (step.conv.kernel, step.conv.stride, step.conv.padding);
    let shortcut = match step.shortcut {
        Some(shortcut) => Some((shortcut, quantized.filter(shortcut.filter)?)),
        None => None,
    };
    let residual = step
        .residual
        .map(|residual| (&done[residual], quantized.residual_multiplier(step.conv.filter)));
    let output = step.output_shape;
    let mut values = Vec::with_capacity(output.value_len());
    for y in 0..output.height {
        for x in 0..output.width {
            for channel in 0..output.channels {
                let mut sum = window_sum(
                    &filter,
                    step.input_shape,
                    &done[step.input],
                    window,
                    (y, x),
                    channel,
                );
                if let Some((Shortcut { input, input_shape, stride, .. }, filter)) = &shortcut {
                    let window = (1, *stride, 0);
                    let added =
                        window_sum(filter, *input_shape, &done[*input], window, (y, x), channel);
                    let scaled = added as f32 * filter.multiplier[channel];
                    sum += scaled.round_ties_even() as i32;
                }
                let mut value =
                    (sum as f32).mul_add(filter.multiplier[channel], filter.bias[channel]);
                if let Some((residual, multiplier)) = residual {
                    value = f32::from(residual[values.len()]).mul_add(multiplier, value);
                }
                values.push(to_u8(value));
            }
        }
    }
    Ok(values)
}

/// One channel's sum at one output pixel, over the taps that see the image.
fn window_sum(
    filter: &QuantizedFilter,
    input: Shape,
    values: &[u8],
    window: (usize, usize, usize),
    (y, x): (usize, usize),
    channel: usize,
) -> i32 {
    let (kernel, stride, padding) = window;
    let weights = &filter.weights[channel * kernel * kernel * input.channels..];
    let mut sum = 0;
    for row in taps(y, input.height, window) {
        for column in taps(x, input.width, window) {
            let (from_y, from_x) = (y * stride + row - padding, x * stride + column - padding);
            let weights = &weights[(row * kernel + column) * input.channels..][..input.channels];
            let pixel = &values[(from_y * input.width + from_x) * input.channels..];
            sum += dot(weights, pixel);
        }
    }
    sum
}

/// The kernel rows (or columns) that see one of `side` inputs at output `at`.
fn taps(at: usize, side: usize, (kernel, stride, padding): (usize, usize, usize)) -> Range<usize> {
    padding.saturating_sub(at * stride)..kernel.min(side + padding - at * stride)
}

fn max_pool(input: Shape, output: Shape, values: &[u8]) -> Vec<u8> {
    let window = Op::MaxPool.window();
    let (_, stride, padding) = window;
    let mut pooled = Vec::with_capacity(output.value_len());
    for y in 0..output.height {
        for x in 0..output.width {
            for channel in 0..output.channels {
                let rows = taps(y, input.height, window).map(|row| y * stride + row - padding);
                let tap = |row: usize| {
                    taps(x, input.width, window).map(move |column| {
                        let at = row * input.width + x * stride + column - padding;
                        values[at * input.channels + channel]
                    })
                };
                pooled.push(rows.flat_map(tap).max().unwrap_or(0));
            }
        }
    }
    pooled
}

fn average_pool(input: Shape, values: &[u8], multiplier: f32) -> Vec<u8> {
    let sum = |channel: usize| -> u32 {
        values.iter().skip(channel).step_by(input.channels).map(|&value| u32::from(value)).sum()
    };
    (0..input.channels).map(|channel| to_u8(sum(channel) as f32 * multiplier)).collect()
}
