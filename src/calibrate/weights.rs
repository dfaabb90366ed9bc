//! Weights to s8, a scale an output channel.
//!
//! Invariant: every scale is above zero and no weight is -128. Knows nothing of layers; what else a
//! channel's scale must be large enough for is an argument.

/// Largest s8 in use.
const LEVEL_MAX: f32 = 127.0;
/// Shares of a channel's largest weight that are tried as what the largest s8 stands for.
const CUT_LEN: usize = 16;
/// Between two of them.
const CUT_STEP: f32 = 0.03;
/// A channel's scale beside the layer's largest, at least: smaller weights make no difference.
const SCALE_MIN: f32 = 1.0 / (1 << 24) as f32;
/// One and a half times 2^23, beside which f32 has integers alone.
const ROUNDER: f32 = 12_582_912.0;

/// A layer's weights in 8-bit integers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantized {
    pub(super) weights: Vec<i8>,
    /// A value a channel.
    pub(super) scales: Vec<f32>,
    /// Mean squared error of what the weights add up to, beside its mean square, were inputs
    /// independent.
    pub(super) error: f64,
    /// Channels whose largest weights are cut since that lessens the error.
    pub(super) cut_len: usize,
}

/// Quantises `weights` (`[output channel][tap][input channel]`): each channel by the scale with the
/// least error of its sums, where input channels have mean squares `squares`, but by no less than
/// `scales_min`.
pub(super) fn quantize(weights: &[f32], squares: &[f64], scales_min: &[f32]) -> Quantized {
    let len = weights.len() / scales_min.len();
    let channels = || weights.chunks_exact(len);
    let largest = |channel: &[f32]| channel.iter().fold(0.0, |max: f32, w| max.max(w.abs()));
    let layer_max = channels().map(largest).fold(0.0, f32::max) / LEVEL_MAX;
    // A layer of zeros has any scale.
    let floor = if layer_max > f32::MIN_POSITIVE / SCALE_MIN { layer_max * SCALE_MIN } else { 1.0 };
    let squares: Vec<f32> = squares.iter().map(|&square| square as f32).collect();
    let mut found = Quantized { weights: Vec::new(), scales: Vec::new(), error: 0.0, cut_len: 0 };
    let (mut noise, mut signal) = (0.0, 0.0);
    for (channel, &scale_min) in channels().zip(scales_min) {
        let scale_max = largest(channel) / LEVEL_MAX;
        let scale_min = scale_min.max(floor);
        let scales = (0..CUT_LEN)
            .map(|cut| scale_max * (1.0 - CUT_STEP * cut as f32))
            .map(|scale| scale.max(scale_min));
        let scales = scales.map(|scale| (error(channel, &squares, scale), scale));
        let (least, scale) = scales.min_by(|a, b| a.0.total_cmp(&b.0)).expect("some are tried");
        found.cut_len += usize::from(scale < scale_max);
        found.scales.push(scale);
        found.weights.extend(channel.iter().map(|&weight| round(weight / scale) as i8));
        noise += least;
        signal += error(channel, &squares, f32::INFINITY);
    }
    found.error = if signal > 0.0 { noise / signal } else { 0.0 };
    found
}

/// A value of at most some thousands to the nearest integer, of two the even one; unlike f32's own
/// function it takes two instructions on every processor.
pub(super) fn round_small(value: f32) -> f32 {
    value + ROUNDER - ROUNDER
}

/// To the nearest s8 in use.
fn round(value: f32) -> f32 {
    round_small(value.clamp(-LEVEL_MAX, LEVEL_MAX))
}

/// The mean squared error of a channel's sum with a scale; with an infinite one, its mean square.
fn error(channel: &[f32], squares: &[f32], scale: f32) -> f64 {
    let scale_back = if scale.is_finite() { scale } else { 0.0 };
    let of_tap = |tap: &[f32]| -> f32 {
        let error = |(&weight, &square): (&f32, &f32)| {
            let error = weight - round(weight / scale) * scale_back;
            error * error * square
        };
        tap.iter().zip(squares).map(error).sum()
    };
    channel.chunks_exact(squares.len()).map(|tap| f64::from(of_tap(tap))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_even_integers() {
        for (value, expected) in [(0.5, 0.0), (1.5, 2.0), (-2.5, -2.0), (254.6, 255.0), (-0.2, 0.0)]
        {
            assert_eq!(round_small(value), expected);
        }
    }

    /// From -1 to 1, evenly.
    fn even(len: usize) -> Vec<f32> {
        (0..len).map(|at| 2.0 * at as f32 / (len - 1) as f32 - 1.0).collect()
    }

    #[test]
    fn even_weights_keep_their_largest() {
        let weights = even(1001);
        let found = quantize(&weights, &[1.0], &[0.0]);
        assert_eq!(found.scales, [1.0 / 127.0]);
        assert_eq!((found.weights[0], found.weights[500], found.weights[1000]), (-127, 0, 127));
        assert_eq!(found.cut_len, 0);
        // A step's twelfth beside a third.
        assert!((found.error * 127.0 * 127.0 * 4.0 - 1.0).abs() < 0.05, "{}", found.error);
    }

    #[test]
    fn an_outlier_that_hardly_counts_is_cut() {
        let mut weights = even(1000);
        weights[7] = 1.3;
        let mut squares = vec![1.0; 1000];
        squares[7] = 1e-6;
        let found = quantize(&weights, &squares, &[0.0]);
        assert!(found.scales[0] < 1.1 / 127.0, "{:?}", found.scales);
        assert_eq!((found.weights[7], found.cut_len), (127, 1));
        let found = quantize(&weights, &[1e3; 1000], &[0.0]);
        assert_eq!(found.scales, [1.3 / 127.0]);
    }

    #[test]
    fn channels_have_scales_of_their_own() {
        let mut weights = even(64);
        weights.extend(even(64).iter().map(|weight| weight * 1e-3));
        weights.extend([0.0; 64]);
        weights.extend([1e-30; 64]);
        let found = quantize(&weights, &[1.0; 64], &[0.0, 0.0, 0.0, 0.0]);
        assert_eq!(found.weights[..64], found.weights[64..128]);
        assert!(found.weights[128..].iter().all(|&weight| weight == 0));
        assert!((found.scales[0] / found.scales[1] / 1e3 - 1.0).abs() < 1e-5);
        assert!(found.scales.iter().all(|&scale| scale >= 1e-10), "{:?}", found.scales);
    }

    #[test]
    fn a_layer_of_zeros_gets_a_scale() {
        let found = quantize(&[0.0; 4], &[1.0], &[0.0; 4]);
        assert_eq!((found.scales, found.error), (vec![1.0; 4], 0.0));
    }

    #[test]
    fn a_scale_is_as_large_as_it_must_be() {
        let found = quantize(&even(64), &[1.0], &[0.5]);
        assert_eq!(found.scales, [0.5]);
        assert_eq!((found.weights[0], found.weights[63]), (-2, 2));
    }
}
