//! Packed weights, each value turned into another by itself, so that families that pack the same
//! weights in different orders still have the same.
//!
//! Invariant: zeros stay zeros, those that fill up among them. Knows no order.

use crate::backend::cuda::kernels::packed::Packed;

/// The sign of an f16, and of an f32.
const SIGN_F16: u16 = 1 << 15;
/// The f16 value 1.
const ONE_F16: u16 = 0x3c00;
/// Biases are no larger, as integers.
const BIAS_MAX: u32 = 8;

/// f16 weights as pseudorandom integers from -1 to 1, by their bits, and biases as small ones.
pub(super) fn integers(packed: &Packed) -> Packed {
    map(
        packed,
        |weight| match scatter(u32::from(weight & !SIGN_F16), u32::from(weight)) % 3 {
            0 => 0,
            1 => ONE_F16,
            _ => ONE_F16 | SIGN_F16,
        },
        |bias| {
            let random = scatter(bias.abs().to_bits(), bias.to_bits()) % (2 * BIAS_MAX + 1);
            if bias == 0.0 { 0.0 } else { random as f32 - BIAS_MAX as f32 }
        },
    )
}

/// f16 weights and biases without their signs: sums of values that have none become those of their
/// terms' magnitudes.
pub(super) fn magnitudes(packed: &Packed) -> Packed {
    map(packed, |weight| weight & !SIGN_F16, f32::abs)
}

fn map(packed: &Packed, weight: fn(u16) -> u16, bias: fn(f32) -> f32) -> Packed {
    let halves = packed.weights.chunks_exact(2).map(|it| u16::from_ne_bytes([it[0], it[1]]));
    Packed {
        weights: halves.flat_map(|half| weight(half).to_ne_bytes()).collect(),
        bias: packed.bias.iter().map(|&value| bias(value)).collect(),
    }
}

/// Random bits for a number; none for zero.
fn scatter(magnitude: u32, bits: u32) -> u32 {
    if magnitude == 0 {
        return 0;
    }
    let mixed = (bits ^ bits >> 16).wrapping_mul(0x21f0_aaad);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x735a_2d97);
    mixed ^ mixed >> 15
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    /// Goal: values are integers of either sign, about as many of each, by the value alone; zeros
    /// stay, also below zero. Method: all f16 values of magnitudes that weights have.
    #[test]
    fn weights_become_integers_by_their_bits() {
        let weights: Vec<f16> =
            (0x2000..0x3000).chain(0xa000..0xb000).map(f16::from_bits).collect();
        let zeros = [f16::ZERO, f16::NEG_ZERO];
        let of = |weights: &[f16]| {
            let packed = integers(&Packed::f16(weights, vec![0.0, 0.5, -3.25]));
            assert_eq!(packed.bias[0], 0.0);
            assert!(packed.bias.iter().all(|bias| bias.fract() == 0.0 && bias.abs() <= 8.0));
            let halves = packed.weights.chunks_exact(2);
            let value = |it: &[u8]| f16::from_ne_bytes([it[0], it[1]]).to_f32();
            halves.map(value).collect::<Vec<_>>()
        };
        assert_eq!(of(&zeros), [0.0; 2]);
        let values = of(&weights);
        for expected in [-1.0, 0.0, 1.0] {
            let len = values.iter().filter(|&&value| value == expected).count();
            assert!(len.abs_diff(weights.len() / 3) < weights.len() / 20, "{expected}: {len}");
        }
        let reversed: Vec<f16> = weights.iter().rev().copied().collect();
        assert!(of(&reversed).iter().rev().eq(&values));
        let without_sign = magnitudes(&Packed::f16(&[f16::from_f32(-0.5)], vec![-2.0]));
        assert_eq!(without_sign.weights, f16::from_f32(0.5).to_ne_bytes());
        assert_eq!(without_sign.bias, [2.0]);
    }
}
