//! 8-bit integers without vector instructions: for any processor.

use super::order;
use super::tile::{Kernel, Lanes, PANEL_LEN, PIXEL_MAX, STEP_BYTES, Scales, kernels};

/// Channels of a part.
const CHANNEL_LEN: usize = 16;

struct Integers;

pub(super) fn integers() -> [Kernel; PIXEL_MAX] {
    kernels!(Integers)
}

/// The outputs of a part before they are rounded.
#[inline(always)]
unsafe fn scaled(sums: &[i32; CHANNEL_LEN], scales: &Scales, part: usize) -> [f32; CHANNEL_LEN] {
    std::array::from_fn(|index| {
        let place = part * CHANNEL_LEN + index;
        // SAFETY: as the caller vouches.
        let (multiplier, bias) =
            unsafe { (*scales.multiplier.add(place), *scales.bias.add(place)) };
        (sums[index] as f32).mul_add(multiplier, bias)
    })
}

impl Lanes for Integers {
    const PART_LEN: usize = PANEL_LEN / CHANNEL_LEN;
    type Sums = [i32; CHANNEL_LEN];
    type Weights = [i8; CHANNEL_LEN * STEP_BYTES];
    type Input = [u8; STEP_BYTES];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; CHANNEL_LEN]
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> Self::Weights {
        // SAFETY: as the caller vouches.
        unsafe { at.cast::<Self::Weights>().read() }
    }

    #[inline(always)]
    unsafe fn input(at: *const u8) -> Self::Input {
        // SAFETY: as the caller vouches.
        unsafe { at.cast::<Self::Input>().read() }
    }

    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, input: Self::Input, weights: Self::Weights) -> Self::Sums {
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<STEP_BYTES>().0) {
            for (&weight, value) in weights.iter().zip(input) {
                *sum += i32::from(weight) * i32::from(value);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn rescale(sums: Self::Sums, multiplier: *const f32) -> Self::Sums {
        std::array::from_fn(|index| {
            // SAFETY: as the caller vouches.
            let multiplier = unsafe { *multiplier.add(index) };
            (sums[index] as f32 * multiplier).round_ties_even() as i32
        })
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, scales: &Scales, part: usize, output: *mut u8) {
        // SAFETY: as the caller vouches.
        let values = unsafe { scaled(&sums, scales, part) };
        for (index, mut value) in values.into_iter().enumerate() {
            let channel = order::of_integers(part * CHANNEL_LEN + index);
            // SAFETY: as the caller vouches.
            let output = unsafe { &mut *output.add(channel) };
            if let Some(multiplier) = scales.residual {
                value = f32::from(*output).mul_add(multiplier, value);
            }
            *output = value.round_ties_even().clamp(0.0, 255.0) as u8;
        }
    }

    #[inline(always)]
    unsafe fn logits(
        sums: Self::Sums,
        scales: &Scales,
        part: usize,
        logits: &mut [f32; PANEL_LEN],
    ) {
        // SAFETY: as the caller vouches.
        let values = unsafe { scaled(&sums, scales, part) };
        logits[part * CHANNEL_LEN..][..CHANNEL_LEN].copy_from_slice(&values);
    }

    fn channel(place: usize) -> usize {
        order::of_integers(place)
    }
}
