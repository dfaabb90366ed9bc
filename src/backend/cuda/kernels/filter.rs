//! Filters of convolutions, in the order in which the kernels of a family read them.
//!
//! Invariant: families differ in the numbers of [`Order`] alone; what a filter holds, and what is
//! added to a sum, is said once. Knows no kernel.

use half::f16;

use super::abi;
use super::packed::{Packed, quantized, rounded};
use crate::error::Result;
use crate::lower::{ConvStep, DType, Step, Work};
use crate::model::{Model, QuantizedFilter};

/// Output channels whose weights lie together.
const OUTPUTS_LEN: usize = abi::TWINSTREAM_CHANNEL_STEP as usize;
/// Bytes of K that a kernel takes at a step: of one output they are a row.
pub(super) const STEP_BYTES: usize = 128;
/// A row is made of chunks.
const CHUNK_BYTES: usize = 16;

/// How K runs over the weights of an output, and where they lie: `[outputs / 64][steps][64 rows]
/// [128 bytes]`.
pub(super) struct Order {
    /// Input channels of one tap that follow one another, the last ones filled up with zeros; then
    /// come as many of the next tap, and after all taps the next channels.
    pub(super) block_len: usize,
    /// The row, of 64, and the chunk, of eight, in which the chunk of an output lies.
    pub(super) place: fn(output: usize, chunk: usize) -> (usize, usize),
}

/// A step's convolution.
pub(super) fn conv_of(step: &Step) -> &ConvStep {
    match &step.work {
        Work::Conv(conv) => conv,
        _ => unreachable!("asked for a convolution"),
    }
}

/// Terms of the projection's sum.
fn shortcut_len(conv: &ConvStep) -> usize {
    conv.shortcut.map_or(0, |shortcut| shortcut.input_shape.channels)
}

/// Outputs of a step, and the values of one tensor of f32 that each has: a bias, and of integers
/// what multiplies its sum and what is added to that.
fn bias_len(step: &Step) -> usize {
    step.output_shape.channels * if step.dtype == DType::I8 { 3 } else { 1 }
}

impl Order {
    /// Steps of K: whole ones for the convolution's own sum, and for the projection's.
    pub(super) fn steps(&self, step: &Step) -> usize {
        let (conv, step_len) = (conv_of(step), STEP_BYTES / step.dtype.size_bytes());
        let tap_len = conv.rows.len * conv.columns.len;
        let own_len = conv.input_shape.channels.next_multiple_of(self.block_len) * tap_len;
        own_len.div_ceil(step_len) + shortcut_len(conv).div_ceil(step_len)
    }

    /// Bytes of a step's weights and bias.
    pub(super) fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        let weights_bytes = step.output_shape.channels * self.steps(step) * STEP_BYTES;
        (weights_bytes, bias_len(step) * size_of::<f32>())
    }

    /// A step's weights and bias; with those of a projection, whose bias is added to the own one.
    ///
    /// # Errors
    /// `is_weights` when the type of the weights cannot hold one, or the file was changed.
    pub(super) fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        match step.dtype {
            DType::I8 => self.pack_i8(model, step),
            _ => self.pack_f16(model, step),
        }
    }

    /// The projection's terms come last.
    fn pack_f16(&self, model: &Model, step: &Step) -> Result<Packed> {
        let conv = conv_of(step);
        let rounded = |filter| rounded(model, &step.name, filter);
        let (weights, mut bias) = rounded(conv.conv.filter)?;
        let shortcut = conv.shortcut.map(|shortcut| rounded(shortcut.filter)).transpose()?;
        let inputs = shortcut_len(conv);
        let packed = self.put_all(step, f16::ZERO, |output, terms| {
            self.own_terms(conv, &weights, output, f16::ZERO, terms);
            if let Some((weights, _)) = &shortcut {
                terms.extend_from_slice(&weights[output * inputs..][..inputs]);
            }
        });
        if let Some((_, added)) = shortcut {
            bias.iter_mut().zip(added).for_each(|(sum, bias)| *sum += bias);
        }
        Ok(Packed::f16(&packed, bias))
    }

    /// The projection's terms come first, filled up to whole steps; behind the bias multipliers,
    /// and what multiplies what is added.
    fn pack_i8(&self, model: &Model, step: &Step) -> Result<Packed> {
        let (conv, quantized) = (conv_of(step), quantized(model));
        let QuantizedFilter { weights, multiplier, mut bias } =
            quantized.filter(conv.conv.filter)?;
        let shortcut =
            conv.shortcut.map(|shortcut| quantized.filter(shortcut.filter)).transpose()?;
        let inputs = shortcut_len(conv);
        let packed = self.put_all(step, 0, |output, terms| {
            if let Some(QuantizedFilter { weights, .. }) = &shortcut {
                terms.extend_from_slice(&weights[output * inputs..][..inputs]);
                terms.resize(inputs.next_multiple_of(STEP_BYTES), 0);
            }
            self.own_terms(conv, &weights, output, 0, terms);
        });
        bias.extend(multiplier);
        bias.extend(match (shortcut, conv.residual) {
            (Some(QuantizedFilter { multiplier, .. }), _) => multiplier,
            (None, Some(_)) => {
                vec![quantized.residual_multiplier(conv.conv.filter); step.output_shape.channels]
            }
            (None, None) => vec![0.0; step.output_shape.channels],
        });
        debug_assert_eq!(bias.len(), bias_len(step));
        Ok(Packed::i8(&packed, bias))
    }

    /// The weights `[output][row][column][input]` that one output's own sum takes, in the order of
    /// K.
    pub(super) fn own_terms<T: Copy>(
        &self,
        conv: &ConvStep,
        weights: &[T],
        output: usize,
        zero: T,
        to: &mut Vec<T>,
    ) {
        let (inputs, side) = (conv.input_shape.channels, conv.conv.kernel);
        for inputs_first in (0..inputs).step_by(self.block_len) {
            let len = self.block_len.min(inputs - inputs_first);
            for row in conv.rows.first..conv.rows.first + conv.rows.len {
                for column in conv.columns.first..conv.columns.first + conv.columns.len {
                    let tap = (output * side + row) * side + column;
                    to.extend_from_slice(&weights[tap * inputs + inputs_first..][..len]);
                    to.resize(to.len() + self.block_len - len, zero);
                }
            }
        }
    }

    /// The terms of all outputs, which `terms_of` appends, each filled up to whole steps, where the
    /// kernels read them.
    pub(super) fn put_all<T: Copy>(
        &self,
        step: &Step,
        zero: T,
        terms_of: impl Fn(usize, &mut Vec<T>),
    ) -> Vec<T> {
        let (outputs, step_len) = (step.output_shape.channels, STEP_BYTES / size_of::<T>());
        let terms_len = self.steps(step) * step_len;
        let mut packed = vec![zero; outputs * terms_len];
        let mut terms = Vec::with_capacity(terms_len);
        for output in 0..outputs {
            terms.clear();
            terms_of(output, &mut terms);
            terms.resize(terms_len, zero);
            let first_row = output / OUTPUTS_LEN * OUTPUTS_LEN * self.steps(step);
            for (row, terms) in terms.chunks_exact(step_len).enumerate() {
                let rows = &mut packed[(first_row + row * OUTPUTS_LEN) * step_len..];
                self.put_row(output % OUTPUTS_LEN, terms, rows);
            }
        }
        packed
    }

    /// Puts the terms of one step of one output among the rows of that step.
    fn put_row<T: Copy>(&self, output: usize, terms: &[T], rows: &mut [T]) {
        let chunk_len = CHUNK_BYTES / size_of::<T>();
        for (chunk, terms) in terms.chunks_exact(chunk_len).enumerate() {
            let (row, place) = (self.place)(output, chunk);
            rows[row * STEP_BYTES / size_of::<T>() + place * chunk_len..][..chunk_len]
                .copy_from_slice(terms);
        }
    }
}
