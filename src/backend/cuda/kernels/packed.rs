//! Filters as the device gets them: bytes of weights, and a bias in f32.
//!
//! Invariant: a rounded weight is finite; what a type cannot hold is refused by name.

use half::f16;

use crate::error::{Error, Kind, Result};

/// Weights and bias of a step, in the layout of its family.
#[derive(Default)]
pub(crate) struct Packed {
    pub(crate) weights: Vec<u8>,
    pub(crate) bias: Vec<f32>,
}

impl Packed {
    pub(super) fn f16(weights: &[f16], bias: Vec<f32>) -> Self {
        let weights = weights.iter().flat_map(|value| value.to_bits().to_ne_bytes()).collect();
        Self { weights, bias }
    }
}

/// A weight of layer `name` as f16.
pub(super) fn round(name: &str, value: f32) -> Result<f16> {
    let rounded = f16::from_f32(value);
    if rounded.is_finite() {
        return Ok(rounded);
    }
    let message = format!("{name}: the weight {value}, batch norm folded in, exceeds f16");
    Err(Error::new(Kind::Weights, message))
}
