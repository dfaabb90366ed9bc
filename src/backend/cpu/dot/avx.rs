//! 8-bit integers in registers of 256 bits: with AVX-VNNI, or with AVX2 alone.
//!
//! AVX2's product of bytes saturates, so both sides are widened to 16 bits, whose products are
//! exact. Eight places of a panel are two runs of four channels.

use std::arch::x86_64::*;

use super::order;
use super::tile::{Kernel, Lanes, PANEL_LEN, PIXEL_MAX, Scales, kernels};

/// 32-bit values of a register.
const LANE_LEN: usize = 8;

struct Vnni;
struct Widened;

pub(super) fn vnni() -> [Kernel; PIXEL_MAX] {
    kernels!(
        #[target_feature(enable = "avx2,fma,avxvnni")]
        Vnni
    )
}

pub(super) fn widened() -> [Kernel; PIXEL_MAX] {
    kernels!(
        #[target_feature(enable = "avx2,fma")]
        Widened
    )
}

#[inline(always)]
unsafe fn scaled(sums: __m256i, scales: &Scales, place: usize) -> __m256 {
    // SAFETY: as the caller vouches.
    unsafe {
        let multiplier = _mm256_loadu_ps(scales.multiplier.add(place));
        let bias = _mm256_loadu_ps(scales.bias.add(place));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), multiplier, bias)
    }
}

/// Writes the eight channels at `place`.
#[inline(always)]
unsafe fn store(sums: __m256i, scales: &Scales, place: usize, output: *mut u8) {
    let low = output.wrapping_add(order::of_integers(place)).cast::<i32>();
    let high = output.wrapping_add(order::of_integers(place + LANE_LEN / 2)).cast::<i32>();
    // SAFETY: as the caller vouches.
    unsafe {
        let mut values = scaled(sums, scales, place);
        if let Some(multiplier) = scales.residual {
            let added = _mm_cvtsi32_si128(low.read_unaligned());
            let added = _mm_insert_epi32::<1>(added, high.read_unaligned());
            let added = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(added));
            values = _mm256_fmadd_ps(added, _mm256_set1_ps(multiplier), values);
        }
        let rounded = _mm256_cvtps_epi32(values);
        // Saturation is the clamp, and the ReLU.
        let words = _mm_packs_epi32(
            _mm256_castsi256_si128(rounded),
            _mm256_extracti128_si256::<1>(rounded),
        );
        let bytes = _mm_packus_epi16(words, words);
        low.write_unaligned(_mm_cvtsi128_si32(bytes));
        high.write_unaligned(_mm_extract_epi32::<1>(bytes));
    }
}

#[inline(always)]
unsafe fn rescale(sums: __m256i, multiplier: *const f32) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(multiplier));
        _mm256_cvtps_epi32(scaled)
    }
}

impl Lanes for Vnni {
    const PART_LEN: usize = PANEL_LEN / (2 * LANE_LEN);
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    type Input = __m256i;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> Self::Weights {
        // SAFETY: as the caller vouches; panels are aligned to their registers.
        unsafe { [_mm256_load_si256(at.cast()), _mm256_load_si256(at.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn input(at: *const u8) -> Self::Input {
        // SAFETY: as the caller vouches.
        unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, input: Self::Input, weights: Self::Weights) -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe {
            [
                _mm256_dpbusd_avx_epi32(sums[0], input, weights[0]),
                _mm256_dpbusd_avx_epi32(sums[1], input, weights[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn rescale(sums: Self::Sums, multiplier: *const f32) -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe { [rescale(sums[0], multiplier), rescale(sums[1], multiplier.add(LANE_LEN))] }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, scales: &Scales, part: usize, output: *mut u8) {
        let place = part * 2 * LANE_LEN;
        // SAFETY: as the caller vouches.
        unsafe {
            store(sums[0], scales, place, output);
            store(sums[1], scales, place + LANE_LEN, output);
        }
    }

    #[inline(always)]
    unsafe fn logits(
        sums: Self::Sums,
        scales: &Scales,
        part: usize,
        logits: &mut [f32; PANEL_LEN],
    ) {
        for (index, sums) in sums.into_iter().enumerate() {
            let place = (2 * part + index) * LANE_LEN;
            let logits = &mut logits[place..place + LANE_LEN];
            // SAFETY: as the caller vouches.
            unsafe { _mm256_storeu_ps(logits.as_mut_ptr(), scaled(sums, scales, place)) }
        }
    }

    fn channel(place: usize) -> usize {
        order::of_integers(place)
    }
}

/// The sums of eight channels, each of two lanes.
#[inline(always)]
unsafe fn pairs(sums: [__m256i; 2]) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sums[0], sums[1])) }
}

impl Lanes for Widened {
    const PART_LEN: usize = PANEL_LEN / LANE_LEN;
    /// Two lanes a channel.
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    type Input = __m256i;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> Self::Weights {
        // SAFETY: as the caller vouches; panels are aligned to their registers.
        unsafe {
            [
                _mm256_cvtepi8_epi16(_mm_load_si128(at.cast())),
                _mm256_cvtepi8_epi16(_mm_load_si128(at.add(16).cast())),
            ]
        }
    }

    #[inline(always)]
    unsafe fn input(at: *const u8) -> Self::Input {
        // SAFETY: as the caller vouches.
        unsafe { _mm256_cvtepu8_epi16(_mm_set1_epi32(at.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, input: Self::Input, weights: Self::Weights) -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe {
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(input, weights[0])),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(input, weights[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn rescale(sums: Self::Sums, multiplier: *const f32) -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe {
            let scaled = rescale(pairs(sums), multiplier);
            // Back to two lanes a channel, the second of zero.
            [
                _mm256_cvtepu32_epi64(_mm256_castsi256_si128(scaled)),
                _mm256_cvtepu32_epi64(_mm256_extracti128_si256::<1>(scaled)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, scales: &Scales, part: usize, output: *mut u8) {
        // SAFETY: as the caller vouches.
        unsafe { store(pairs(sums), scales, part * LANE_LEN, output) }
    }

    #[inline(always)]
    unsafe fn logits(
        sums: Self::Sums,
        scales: &Scales,
        part: usize,
        logits: &mut [f32; PANEL_LEN],
    ) {
        let place = part * LANE_LEN;
        let logits = &mut logits[place..place + LANE_LEN];
        // SAFETY: as the caller vouches.
        unsafe { _mm256_storeu_ps(logits.as_mut_ptr(), scaled(pairs(sums), scales, place)) }
    }

    fn channel(place: usize) -> usize {
        order::of_integers(place)
    }
}
