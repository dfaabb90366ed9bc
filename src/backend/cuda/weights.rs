//! Filters in the layouts that the kernels read (`cuda/launch.h`), rounded to f16.
//!
//! Invariant: a rounded weight is finite; what f16 cannot hold is refused by name. Knows no device.

use half::f16;

use super::plan::STEP_LEN;
use crate::error::{Error, Kind, Result};
use crate::lower::ConvStep;
use crate::model::{Filter, Model};

/// Kernel rows, padded columns and padded channels of the stem's filter.
const STEM_SHAPE: [usize; 3] = [7, 8, 4];
/// Columns and channels that the stem's filter has.
const STEM_COLUMNS: usize = 7;
const STEM_CHANNELS: usize = 3;

/// Weights and bias as bytes for the device.
pub(super) struct Packed {
    pub(super) weights: Vec<f16>,
    pub(super) bias: Vec<f32>,
}

fn round(name: &str, value: f32) -> Result<f16> {
    let rounded = f16::from_f32(value);
    if rounded.is_finite() {
        return Ok(rounded);
    }
    let message = format!("{name}: the weight {value}, batch norm folded in, exceeds f16");
    Err(Error::new(Kind::Weights, message))
}

/// `[output][7][7][3]` to `[output][7][8][4]`, zeros in what is added.
pub(super) fn pack_stem(model: &Model, filter: usize) -> Result<Packed> {
    let Filter { weights, bias } = model.filter(filter)?;
    let [rows, columns, channels] = STEM_SHAPE;
    let mut packed = vec![f16::ZERO; bias.len() * rows * columns * channels];
    // A kernel row of one output channel, before and after.
    let from = weights.chunks_exact(STEM_COLUMNS * STEM_CHANNELS);
    for (from, to) in from.zip(packed.chunks_exact_mut(columns * channels)) {
        for (from, to) in from.chunks_exact(STEM_CHANNELS).zip(to.chunks_exact_mut(channels)) {
            for (from, to) in from.iter().zip(to) {
                *to = round("conv1", *from)?;
            }
        }
    }
    Ok(Packed { weights: packed, bias })
}

/// `[output][row][column][input]`, and a projection's `[output][input]` behind it, to tiles of 64
/// outputs by 64 terms of the sum.
pub(super) fn pack_conv(model: &Model, name: &str, step: &ConvStep) -> Result<Packed> {
    let Filter { weights, mut bias } = model.filter(step.conv.filter)?;
    let shortcut = step.shortcut.map(|shortcut| model.filter(shortcut.filter)).transpose()?;
    let inputs = step.input_shape.channels;
    let (outputs, sum_len) = (step.output_shape.channels, step.sum_len());
    let mut packed = vec![f16::ZERO; outputs * sum_len];
    let mut sum: Vec<f32> = Vec::with_capacity(sum_len);
    for output in 0..outputs {
        sum.clear();
        let side = step.conv.kernel;
        for inputs_first in (0..inputs).step_by(STEP_LEN) {
            for row in step.rows.first..step.rows.first + step.rows.len {
                for column in step.columns.first..step.columns.first + step.columns.len {
                    let tap = (output * side + row) * side + column;
                    sum.extend_from_slice(&weights[tap * inputs + inputs_first..][..STEP_LEN]);
                }
            }
        }
        if let (Some(filter), Some(shortcut)) = (&shortcut, step.shortcut) {
            let inputs = shortcut.input_shape.channels;
            sum.extend_from_slice(&filter.weights[output * inputs..][..inputs]);
        }
        let tiles = output / STEP_LEN * (sum_len / STEP_LEN);
        for (tile, terms) in sum.chunks_exact(STEP_LEN).enumerate() {
            let first = ((tiles + tile) * STEP_LEN + output % STEP_LEN) * STEP_LEN;
            for (to, from) in packed[first..first + STEP_LEN].iter_mut().zip(terms) {
                *to = round(name, *from)?;
            }
        }
    }
    if let Some(filter) = shortcut {
        bias.iter_mut().zip(filter.bias).for_each(|(sum, bias)| *sum += bias);
    }
    Ok(Packed { weights: packed, bias })
}

/// As it is, rounded.
pub(super) fn pack_fully_connected(model: &Model, filter: usize) -> Result<Packed> {
    let Filter { weights, bias } = model.filter(filter)?;
    let weights = weights.into_iter().map(|value| round("fc", value)).collect::<Result<_>>()?;
    Ok(Packed { weights, bias })
}
