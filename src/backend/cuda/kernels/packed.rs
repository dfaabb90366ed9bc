//! Filters as the device gets them: bytes of weights, and in f32 a bias, and of integers what sums
//! are multiplied with.
//!
//! Invariant: a rounded weight is finite; what a type cannot hold is refused by name.

use half::f16;

use crate::error::{Error, Kind, Result};
use crate::model::{Filter, Model, Quantized};

/// Weights and bias of a step, in the layout of its family.
#[derive(Default)]
pub(crate) struct Packed {
    pub(crate) weights: Vec<u8>,
    /// Behind the bias, a kernel of integers finds multipliers.
    pub(crate) bias: Vec<f32>,
}

impl Packed {
    pub(crate) fn f16(weights: &[f16], bias: Vec<f32>) -> Self {
        let weights = weights.iter().flat_map(|value| value.to_bits().to_ne_bytes()).collect();
        Self { weights, bias }
    }

    pub(super) fn i8(weights: &[i8], bias: Vec<f32>) -> Self {
        Self { weights: bytemuck::cast_slice(weights).to_vec(), bias }
    }
}

/// The integers of a model, which steps of this type are made for alone.
pub(super) fn quantized(model: &Model) -> &Quantized {
    model.quantized().expect("steps in i8 are those of a calibrated model")
}

/// The weights of layer `name` as f16, and its bias.
pub(super) fn rounded(model: &Model, name: &str, filter: usize) -> Result<(Vec<f16>, Vec<f32>)> {
    let Filter { weights, bias } = model.filter(filter)?;
    let weights = weights.into_iter().map(|value| round(name, value));
    Ok((weights.collect::<Result<_>>()?, bias))
}

/// A weight of layer `name` as f16.
fn round(name: &str, value: f32) -> Result<f16> {
    let rounded = f16::from_f32(value);
    if rounded.is_finite() {
        return Ok(rounded);
    }
    let message = format!("{name}: the weight {value}, batch norm folded in, exceeds f16");
    Err(Error::new(Kind::Weights, message))
}
