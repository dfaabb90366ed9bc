//! A factor for each channel of each tensor, so that channels of small values use more of the u8
//! that all channels share a scale for.
//!
//! Invariant: the network computes the same. What writes a channel is divided by its factor, what
//! reads it multiplied; tensors that are added to one another, or averaged, have the same factors.

use crate::lower::{Steps, Work};

/// The power of a channel's share of the largest that becomes its factor. More would make weights
/// differ as much as values do now: measured, a third costs them nothing, a half more than it gains
/// where logits are made.
const SHARE: f32 = 1.0 / 3.0;
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
        let factor = |&max: &f32| (max / largest).powf(SHARE).max(FACTOR_MIN);
        grouped[group].iter().map(factor).collect()
    };
    group_of.iter().map(of_group).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::DType;
    use crate::model::Network;

    /// Goal: what is added has the factors of what it is added to, and no factor leaves its bounds.
    /// Method: channels of a few sizes, the largest of a stage's in its last block.
    #[test]
    fn tensors_that_are_added_share_factors() {
        let steps = Steps::new(&Network::resnet50(10, 32, 32).unwrap(), DType::F32);
        let list = &steps.list[..steps.list.len() - 1];
        let maxima = |(index, step): (usize, &crate::lower::Step)| -> Vec<f32> {
            let value = |channel: usize| [0.0, 1.0, 8.0][channel % 3] * (index + 1) as f32;
            (0..step.output_shape.channels).map(value).collect()
        };
        let maxima: Vec<Vec<f32>> = list.iter().enumerate().map(maxima).collect();
        let maxima: Vec<&[f32]> = maxima.iter().map(|maxima| &maxima[..]).collect();
        let factors = factors(&steps, &maxima);
        let of = |name: &str| &factors[list.iter().position(|step| step.name == name).unwrap()];
        for (one, other) in [
            ("layer1.0.conv3", "layer1.2.conv3"),
            ("layer3.0.conv3", "layer3.5.conv3"),
            ("layer4.0.conv3", "avgpool"),
        ] {
            assert_eq!(of(one), of(other));
        }
        let of_last = [FACTOR_MIN, 0.5, 1.0];
        of("layer4.2.conv2")[..3].iter().zip(of_last).for_each(|(factor, expected)| {
            assert!((factor - expected).abs() < 1e-6, "{factor}");
        });
    }

    #[test]
    fn scaling_goes_by_channel() {
        let mut weights = [1.0, 2.0, 3.0, 4.0];
        scale_inputs(&mut weights, &[1.0, 10.0]);
        assert_eq!(weights, [1.0, 20.0, 3.0, 40.0]);
        scale_outputs(&mut weights, &[1.0, 0.5]);
        assert_eq!(weights, [1.0, 20.0, 6.0, 80.0]);
    }
}
