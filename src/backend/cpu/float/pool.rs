//! The layers without weights: normalisation of u8 pixels, max pool, global average pool.
//!
//! Plain loops over NHWC values with the channels innermost, which the compiler turns into the
//! vector instructions of each target.

use multiversion::multiversion;

use crate::model::{ModelConfig, Op, Shape};

/// Maps each u8 RGB value to `value · scale + offset`: (value / 255 − mean) / std.
pub(super) struct Normalize {
    scale: [f32; 3],
    offset: [f32; 3],
}

impl Normalize {
    pub(super) fn new(config: &ModelConfig) -> Self {
        Self {
            scale: std::array::from_fn(|c| (1.0 / (255.0 * f64::from(config.std[c]))) as f32),
            offset: std::array::from_fn(|c| {
                (-f64::from(config.mean[c]) / f64::from(config.std[c])) as f32
            }),
        }
    }

    pub(super) fn run(&self, pixels: &[u8], output: &mut [f32]) {
        for (pixel, values) in pixels.chunks_exact(3).zip(output.chunks_exact_mut(3)) {
            for channel in 0..3 {
                values[channel] =
                    f32::from(pixel[channel]) * self.scale[channel] + self.offset[channel];
            }
        }
    }
}

/// One output row of the max pool for the image `input`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub(super) fn max_pool_row(input_shape: Shape, input: &[f32], row: usize, output: &mut [f32]) {
    let (kernel, stride, padding) = Op::MaxPool.window();
    let Shape { height, width, channels } = input_shape;
    let taps = |output: usize, side: usize| {
        let start = (output * stride).saturating_sub(padding);
        start..side.min(output * stride + kernel - padding)
    };
    for (column, values) in output.chunks_exact_mut(channels).enumerate() {
        values.fill(f32::NEG_INFINITY);
        for y in taps(row, height) {
            for x in taps(column, width) {
                let at = (y * width + x) * channels;
                for (value, &tap) in values.iter_mut().zip(&input[at..at + channels]) {
                    *value = value.max(tap);
                }
            }
        }
    }
}

/// The mean over all pixels of the image `input`, a value a channel.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
pub(super) fn global_average(input: &[f32], output: &mut [f32]) {
    output.fill(0.0);
    let pixels = input.chunks_exact(output.len());
    let share = 1.0 / pixels.len() as f32;
    for pixel in pixels {
        for (sum, &value) in output.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
    for sum in output {
        *sum *= share;
    }
}
