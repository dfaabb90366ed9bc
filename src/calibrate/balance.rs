//! A factor for each channel of each tensor, so that channels of small values use more of the u8
//! that all channels share a scale for.
//!
//! Invariant: the network computes the same. What writes a channel is divided by its factor, what
//! reads it multiplied; tensors that are added to one another, or averaged, have the same factors.

use crate::lower::{Steps, Work};

/// How much of a channel's distance to the largest is made good: all of it would leave weights that
/// differ as much in place of values.
const SHARE: f32 = 0.5;
/// Least factor: what was seen of a channel is not all that it may hold.
const FACTOR_MIN: f32 = 1.0 / 16.0;

/// By step but the last: the factors of its channels, each up to one, where the largest values of
/// channels are `maxima`.
pub(super) fn factors(steps: &Steps, maxima: &[&[f32]]) -> Vec<Vec<f32>> {
    // The step whose factors a step has.
    let mut group_of: Vec<usize> = (0..maxima.len()).collect();
    let mut grouped: Vec<Vec<f32>> = maxima.iter().map(|maxima| maxima.to_vec()).collect();
    for (index, step) in steps.list[..maxima.len()].iter().enumerate() {
        let with = match &step.work {
            Work::Conv(conv) => conv.residual,
            Work::AveragePool { input, .. } => Some(*input),
            Work::Stem { .. } | Work::FullyConnected { .. } => None,
        };
        if let Some(with) = with {
            let group = group_of[with];
            group_of[index] = group;
            let largest = grouped[group].iter_mut().zip(maxima[index]);
            largest.for_each(|(largest, &max)| *largest = largest.max(max));
        }
    }
    let of_group = |&group: &usize| {
        let largest = grouped[group].iter().fold(f32::MIN_POSITIVE, |a, &b| a.max(b));
        let factor = |&max: &f32| (max / largest).powf(share()).max(FACTOR_MIN);
        grouped[group].iter().map(factor).collect()
    };
    group_of.iter().map(of_group).collect()
}

fn share() -> f32 {
    std::env::var("SHARE").map_or(SHARE, |v| v.parse().unwrap())
}

/// Multiplies what reads a tensor, `[…][channel]`, with its factors.
pub(super) fn scale_inputs(weights: &mut [f32], factors: &[f32]) {
    for tap in weights.chunks_exact_mut(factors.len()) {
        tap.iter_mut().zip(factors).for_each(|(weight, factor)| *weight *= factor);
    }
}

/// Divides what writes a tensor, `[channel][…]`, by its factors.
pub(super) fn scale_outputs(values: &mut [f32], factors: &[f32]) {
    let len = values.len() / factors.len();
    for (values, factor) in values.chunks_exact_mut(len).zip(factors) {
        values.iter_mut().for_each(|value| *value /= factor);
    }
}
