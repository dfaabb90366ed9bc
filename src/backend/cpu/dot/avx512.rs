//! AVX-512: a panel is four registers, with VNNI for 8-bit integers and with AVX512-BF16.
//!
//! A panel's order of 8-bit channels makes the packs of the last step leave them in their natural
//! order.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::tile::{Kernels, Lanes, Scales, kernels};

/// 32-bit values of a register.
const LANE_LEN: usize = 16;

/// 8-bit integers.
struct Integers;
/// bf16.
struct Halves;

pub(super) fn integers() -> Kernels {
    kernels!(
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        Integers
    )
}

pub(super) fn halves() -> Kernels {
    kernels!(
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        Halves
    )
}

/// `four(function)`: its results for 0 to 3.
macro_rules! four {
    (|$vector:ident| $value:expr) => {
        [
            {
                let $vector = 0usize;
                $value
            },
            {
                let $vector = 1usize;
                $value
            },
            {
                let $vector = 2usize;
                $value
            },
            {
                let $vector = 3usize;
                $value
            },
        ]
    };
}

/// What any type's [`Lanes`] are: a panel of four registers of weights, which meet the same four
/// bytes of input in all lanes. Sums are registers of `$sum`, cleared by `$zero`.
macro_rules! four_registers {
    ($sum:ty, $zero:ident) => {
        const PANEL_LEN: usize = 4 * LANE_LEN;
        type Sums = [$sum; 4];
        type Weights = [__m512i; 4];
        type Input = __m512i;

        #[inline(always)]
        unsafe fn zero() -> Self::Sums {
            // SAFETY: as the caller vouches.
            unsafe { [$zero(); 4] }
        }

        #[inline(always)]
        unsafe fn weights(at: *const u8) -> Self::Weights {
            // SAFETY: as the caller vouches; panels are aligned to their registers.
            unsafe { four!(|v| _mm512_load_si512(at.add(v * 64).cast())) }
        }

        #[inline(always)]
        unsafe fn input(at: *const u8) -> Self::Input {
            // SAFETY: as the caller vouches.
            unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn prefetch(line: *const u8) {
            // SAFETY: fetching is no access.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        }
    };
}

#[inline(always)]
unsafe fn load_f32(at: *const f32, vector: usize) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe { _mm512_loadu_ps(at.add(vector * LANE_LEN)) }
}

#[inline(always)]
unsafe fn scaled(sums: [__m512i; 4], scales: &Scales) -> [__m512; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        four!(|v| {
            let (m, b) = (load_f32(scales.multiplier, v), load_f32(scales.bias, v));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[v]), m, b)
        })
    }
}

/// The u8 of a panel as 32-bit integers, in the panel's order.
#[inline(always)]
unsafe fn widen(values: __m512i) -> [__m512i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let zero = _mm512_setzero_si512();
        let low = _mm512_unpacklo_epi8(values, zero);
        let high = _mm512_unpackhi_epi8(values, zero);
        [
            _mm512_unpacklo_epi16(low, zero),
            _mm512_unpackhi_epi16(low, zero),
            _mm512_unpacklo_epi16(high, zero),
            _mm512_unpackhi_epi16(high, zero),
        ]
    }
}

impl Lanes for Integers {
    four_registers!(__m512i, _mm512_setzero_si512);

    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, input: Self::Input, weights: Self::Weights) -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe { four!(|v| _mm512_dpbusd_epi32(sums[v], input, weights[v])) }
    }

    #[inline(always)]
    unsafe fn rescale(sums: Self::Sums, multiplier: *const f32) -> Self::Sums {
        // SAFETY: as the caller vouches.
        unsafe {
            four!(|v| {
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[v]), load_f32(multiplier, v));
                _mm512_cvtps_epi32(scaled)
            })
        }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, scales: &Scales, output: *mut u8) {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut values = scaled(sums, scales);
            if let Some(multiplier) = scales.residual {
                let added = widen(_mm512_loadu_si512(output.cast()));
                let multiplier = _mm512_set1_ps(multiplier);
                values = four!(|v| {
                    _mm512_fmadd_ps(_mm512_cvtepi32_ps(added[v]), multiplier, values[v])
                });
            }
            let rounded = four!(|v| _mm512_cvtps_epi32(values[v]));
            // Saturation is the clamp, and the ReLU.
            let low = _mm512_packs_epi32(rounded[0], rounded[1]);
            let high = _mm512_packs_epi32(rounded[2], rounded[3]);
            _mm512_storeu_si512(output.cast(), _mm512_packus_epi16(low, high));
        }
    }

    #[inline(always)]
    unsafe fn logits(sums: Self::Sums, scales: &Scales, logits: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { store_f32(scaled(sums, scales), logits) }
    }

    /// Packs narrow each 16 bytes of a register by themselves: of four registers, 16 channels come
    /// to lie one after another if each register has four of them.
    fn channel(place: usize) -> usize {
        let (register, lane) = (place / LANE_LEN, place % LANE_LEN);
        lane / 4 * 16 + register * 4 + lane % 4
    }
}

#[inline(always)]
unsafe fn store_f32(values: [__m512; 4], output: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe { four!(|v| _mm512_storeu_ps(output.add(v * LANE_LEN), values[v])) };
}

#[inline(always)]
unsafe fn biased(sums: [__m512; 4], scales: &Scales) -> [__m512; 4] {
    // SAFETY: as the caller vouches.
    unsafe { four!(|v| _mm512_add_ps(sums[v], load_f32(scales.bias, v))) }
}

impl Lanes for Halves {
    four_registers!(__m512, _mm512_setzero_ps);

    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, input: Self::Input, weights: Self::Weights) -> Self::Sums {
        // SAFETY: as the caller vouches; registers of bf16 are 512 bits too.
        unsafe {
            four!(|v| {
                let (input, weights) = (
                    transmute::<__m512i, __m512bh>(input),
                    transmute::<__m512i, __m512bh>(weights[v]),
                );
                _mm512_dpbf16_ps(sums[v], weights, input)
            })
        }
    }

    /// bf16 have one unit.
    #[inline(always)]
    unsafe fn rescale(sums: Self::Sums, _multiplier: *const f32) -> Self::Sums {
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, scales: &Scales, output: *mut u8) {
        // SAFETY: as the caller vouches; registers of bf16 are 512 bits too.
        unsafe {
            let mut values = biased(sums, scales);
            if scales.residual.is_some() {
                values = four!(|v| {
                    let added =
                        _mm512_cvtepu16_epi32(_mm256_loadu_si256(output.add(v * 32).cast()));
                    _mm512_add_ps(values[v], _mm512_castsi512_ps(_mm512_slli_epi32::<16>(added)))
                });
            }
            let zero = _mm512_setzero_ps();
            let values = four!(|v| _mm512_max_ps(values[v], zero));
            let low = _mm512_cvtne2ps_pbh(values[1], values[0]);
            let high = _mm512_cvtne2ps_pbh(values[3], values[2]);
            _mm512_storeu_si512(output.cast(), transmute::<__m512bh, __m512i>(low));
            _mm512_storeu_si512(output.add(64).cast(), transmute::<__m512bh, __m512i>(high));
        }
    }

    #[inline(always)]
    unsafe fn logits(sums: Self::Sums, scales: &Scales, logits: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { store_f32(biased(sums, scales), logits) }
    }
}
