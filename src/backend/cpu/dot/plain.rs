//! 8-bit integers without vector instructions of a certain kind: for any processor.

use super::tile::{Kernels, Lanes, STEP_BYTES, Scales, kernels};

/// Channels of a panel.
const CHANNEL_LEN: usize = 8;

struct Integers;

pub(super) fn integers() -> Kernels {
    kernels!(Integers)
}

/// The outputs before they are rounded.
#[inline(always)]
unsafe fn scaled(sums: [i32; CHANNEL_LEN], scales: &Scales) -> [f32; CHANNEL_LEN] {
    std::array::from_fn(|channel| {
        // SAFETY: as the caller vouches.
        let (multiplier, bias) =
            unsafe { (*scales.multiplier.add(channel), *scales.bias.add(channel)) };
        (sums[channel] as f32).mul_add(multiplier, bias)
    })
}

impl Lanes for Integers {
    const PANEL_LEN: usize = CHANNEL_LEN;
    type Sums = [i32; CHANNEL_LEN];
    type Weights = [[i8; STEP_BYTES]; CHANNEL_LEN];
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
        for (sum, weights) in sums.iter_mut().zip(weights) {
            let product = |at: usize| i32::from(weights[at]) * i32::from(input[at]);
            *sum += (product(0) + product(1)) + (product(2) + product(3));
        }
        sums
    }

    #[inline(always)]
    unsafe fn rescale(sums: Self::Sums, multiplier: *const f32) -> Self::Sums {
        std::array::from_fn(|channel| {
            // SAFETY: as the caller vouches.
            let multiplier = unsafe { *multiplier.add(channel) };
            (sums[channel] as f32 * multiplier).round_ties_even() as i32
        })
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, scales: &Scales, output: *mut u8) {
        // SAFETY: as the caller vouches.
        let (values, output) =
            unsafe { (scaled(sums, scales), &mut *output.cast::<[u8; CHANNEL_LEN]>()) };
        for (output, mut value) in output.iter_mut().zip(values) {
            if let Some(multiplier) = scales.residual {
                value = f32::from(*output).mul_add(multiplier, value);
            }
            *output = value.round_ties_even().clamp(0.0, 255.0) as u8;
        }
    }

    #[inline(always)]
    unsafe fn logits(sums: Self::Sums, scales: &Scales, logits: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { logits.cast::<[f32; CHANNEL_LEN]>().write(scaled(sums, scales)) }
    }
}
