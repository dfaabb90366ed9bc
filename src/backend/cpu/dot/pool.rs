//! The two pools, of u8 or bf16 in NHWC.
//!
//! Plain loops, which the compiler turns into the vector instructions of each target. Values are
//! not negative, so bf16 compare as integers do.

use half::bf16;
use multiversion::multiversion;

use crate::model::{Op, Shape};

/// Channels that are pooled at a time.
pub(super) const CHANNEL_LEN: usize = 64;

/// One output row of the max pool of the image `input`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx2", "x86_64+avx2", "aarch64+neon"))]
pub(super) fn max_pool_u8(shape: Shape, input: &[u8], row: usize, output: &mut [u8]) {
    max_pool(shape, input, row, output);
}

/// As [`max_pool_u8`], of bf16 as bits.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx2", "x86_64+avx2", "aarch64+neon"))]
pub(super) fn max_pool_bf16(shape: Shape, input: &[u16], row: usize, output: &mut [u16]) {
    max_pool(shape, input, row, output);
}

#[inline(always)]
fn max_pool<T: Copy + Ord + Default>(shape: Shape, input: &[T], row: usize, output: &mut [T]) {
    let (kernel, stride, padding) = Op::MaxPool.window();
    let Shape { height, width, channels } = shape;
    let taps = |output: usize, side: usize| {
        let start = (output * stride).saturating_sub(padding);
        start..side.min(output * stride + kernel - padding)
    };
    for (column, values) in output.chunks_exact_mut(channels).enumerate() {
        for (part, values) in values.as_chunks_mut::<CHANNEL_LEN>().0.iter_mut().enumerate() {
            let mut largest = [T::default(); CHANNEL_LEN];
            for y in taps(row, height) {
                for x in taps(column, width) {
                    let at = (y * width + x) * channels + part * CHANNEL_LEN;
                    for (largest, &tap) in largest.iter_mut().zip(&input[at..at + CHANNEL_LEN]) {
                        *largest = (*largest).max(tap);
                    }
                }
            }
            *values = largest;
        }
    }
}

/// Averages 64 channels, from `channel` on, of the image `input` with so many channels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx2", "x86_64+avx2", "aarch64+neon"))]
pub(super) fn average_u8(
    input: &[u8],
    channels: usize,
    channel: usize,
    multiplier: f32,
    output: &mut [u8; CHANNEL_LEN],
) {
    let mut sums = [0u32; CHANNEL_LEN];
    for pixel in input.chunks_exact(channels) {
        for (sum, &value) in sums.iter_mut().zip(&pixel[channel..channel + CHANNEL_LEN]) {
            *sum += u32::from(value);
        }
    }
    for (value, sum) in output.iter_mut().zip(sums) {
        *value = (sum as f32 * multiplier).round_ties_even().clamp(0.0, 255.0) as u8;
    }
}

/// As [`average_u8`], of bf16 as bits.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx2", "x86_64+avx2", "aarch64+neon"))]
pub(super) fn average_bf16(
    input: &[u16],
    channels: usize,
    channel: usize,
    multiplier: f32,
    output: &mut [u16; CHANNEL_LEN],
) {
    let mut sums = [0f32; CHANNEL_LEN];
    for pixel in input.chunks_exact(channels) {
        for (sum, &value) in sums.iter_mut().zip(&pixel[channel..channel + CHANNEL_LEN]) {
            *sum += f32::from_bits(u32::from(value) << 16);
        }
    }
    for (value, sum) in output.iter_mut().zip(sums) {
        *value = bf16::from_f32(sum * multiplier).to_bits();
    }
}
