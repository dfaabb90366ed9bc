//! The network in 8-bit integers or bf16, by dot products of four or two values.
//!
//! Weights are packed once, in panels as wide as the instruction set's tiles. 8-bit integers give
//! the same bytes on all of them, those of [`super::reference`]; bf16 is summed in f32, in an order
//! of its own. Each step's output lies where the steps place it, in one buffer of bytes. After
//! [`Dot::new`] nothing is allocated. Knows nothing of who asks and how images come in groups.

#[cfg(target_arch = "x86_64")]
mod avx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bytes;
mod filter;
mod isa;
mod plain;
mod pool;
mod product;
mod region;
mod stem;
#[cfg(test)]
mod tests;
mod tile;

use std::slice;
use std::sync::Arc;

use super::team::Team;
use crate::error::Result;
use crate::lower::{ConvStep, DType, Steps, Work};
use crate::model::{Model, Shape};
use bytes::Bytes;
use filter::Filter;
pub(super) use isa::Isa;
use product::{Input, Operands, Product};
use region::Window;
use stem::Stem;

/// Channels of an averaging task.
const AVERAGE_LEN: usize = 512;

/// A step with its weights.
enum Ready {
    /// Each team has its own, for its intermediate values.
    Stem,
    Product(Box<Product>),
    /// The multiplier.
    AveragePool(f32),
}

/// The network made ready: what teams that compute beside each other share.
struct Packed {
    dtype: DType,
    steps: Steps,
    /// By step.
    ready: Box<[Ready]>,
    group_len: usize,
}

/// Executes the steps.
pub(super) struct Dot {
    packed: Arc<Packed>,
    stem: Stem,
    /// The arena for a group.
    activations: Bytes,
}

impl Dot {
    /// Packs the weights of `model` for `steps`, in 8-bit integers or bf16, to be executed with
    /// `isa`, one of those that the processor has for them.
    ///
    /// # Errors
    /// `is_weights` when the weights are not of this type, or the file was changed since it was
    /// opened.
    pub(super) fn new(model: &Model, steps: Steps, isa: Isa, group_len: usize) -> Result<Self> {
        let dtype = steps.list[0].dtype;
        let arithmetic = (isa, dtype);
        let product = |filter: usize, input: Input, output: Shape| {
            let filter = Filter::new(model, dtype, filter)?;
            Ok(Product::new(arithmetic, &filter, input, output, group_len))
        };
        let (mut stem, mut ready) = (None, Vec::with_capacity(steps.list.len()));
        for step in &steps.list {
            ready.push(match &step.work {
                Work::Stem { filter, input_shape, conv_shape } => {
                    let shapes = [*input_shape, *conv_shape, step.output_shape];
                    stem = Some(Stem::new(model, arithmetic, *filter, shapes, group_len)?);
                    Ready::Stem
                }
                Work::Conv(conv) => {
                    Ready::Product(Box::new(conv_product(model, arithmetic, conv, group_len)?))
                }
                Work::AveragePool { input_shape, .. } => {
                    Ready::AveragePool(match model.quantized() {
                        Some(quantized) => quantized.average_multiplier(input_shape.pixel_len()),
                        None => 1.0 / input_shape.pixel_len() as f32,
                    })
                }
                Work::FullyConnected { filter, channels, class_count, .. } => {
                    let pixel = |channels| Shape { height: 1, width: 1, channels };
                    let input = Input::new(pixel(*channels), Window::ONE, dtype);
                    let product = product(*filter, input, pixel(*class_count))?;
                    Ready::Product(Box::new(product.logits()))
                }
            });
        }
        let stem = stem.expect("the network begins with the stem");
        Ok(Self::of(Arc::new(Packed { dtype, steps, ready: ready.into(), group_len }), stem))
    }

    fn of(packed: Arc<Packed>, stem: Stem) -> Self {
        let activations = Bytes::new(packed.steps.arena_bytes() * packed.group_len);
        Self { packed, stem, activations }
    }

    /// Another with the same weights.
    pub(super) fn share(&self) -> Self {
        Self::of(Arc::clone(&self.packed), self.stem.share())
    }

    /// The most images at a time.
    pub(super) fn group_len(&self) -> usize {
        self.packed.group_len
    }

    /// Computes a group of images; calls `observe` with each step but the last and its output.
    ///
    /// # Panics
    /// When the images are not whole ones, more than `group_len`, or `logits` has another length.
    pub(super) fn infer(
        &mut self,
        team: &mut Team,
        images: &[u8],
        logits: &mut [f32],
        observe: &mut dyn FnMut(usize, &[u8]),
    ) {
        let Self { packed, stem, activations } = self;
        let Packed { dtype, steps, ready, group_len } = &**packed;
        let (dtype, group_len) = (*dtype, *group_len);
        let batch_len = images.len() / steps.input_shape().value_len();
        assert_eq!(images.len(), batch_len * steps.input_shape().value_len());
        assert_eq!(logits.len(), batch_len * steps.class_count());
        assert!((1..=group_len).contains(&batch_len), "{batch_len} images");
        let values = activations.as_mut_ptr();
        let size = dtype.size_bytes();
        let output_of =
            |step: usize| values.wrapping_add(steps.list[step].offset * group_len * size);
        for (index, (step, ready)) in steps.list.iter().zip(ready).enumerate() {
            let output = output_of(index);
            // SAFETY: the arena places what a step reads and writes apart from each other, but for
            // a residual, and inside its length, of which there is `group_len` times; `self` is
            // borrowed mutably; the logits are as long as the batch.
            unsafe {
                match (&step.work, ready) {
                    (Work::Conv(conv), Ready::Product(product)) => {
                        let shortcut = conv.shortcut.map_or(conv.input, |shortcut| shortcut.input);
                        let (input, shortcut) = (output_of(conv.input), output_of(shortcut));
                        product.run(team, Operands { input, shortcut, output }, batch_len);
                    }
                    (_, Ready::Stem) => stem.run(team, images, output),
                    (Work::AveragePool { input, input_shape }, Ready::AveragePool(multiplier)) => {
                        let input = output_of(*input);
                        let operands = Operands { input, shortcut: input, output };
                        let what = (dtype, *input_shape, *multiplier);
                        average_pool(team, what, operands, batch_len);
                    }
                    (Work::FullyConnected { input, .. }, Ready::Product(product)) => {
                        let (input, output) = (output_of(*input), logits.as_mut_ptr().cast());
                        product.run(team, Operands { input, shortcut: input, output }, batch_len);
                        return;
                    }
                    _ => unreachable!("each step was made ready for what it computes"),
                }
                let len = batch_len * step.output_shape.value_len() * size;
                observe(index, slice::from_raw_parts(output, len));
            }
        }
    }
}

/// A convolution with what it adds.
fn conv_product(
    model: &Model,
    (isa, dtype): (Isa, DType),
    step: &ConvStep,
    group_len: usize,
) -> Result<Product> {
    let conv = step.conv;
    let window = Window { kernel: conv.kernel, stride: conv.stride, padding: conv.padding };
    let filter = Filter::new(model, dtype, conv.filter)?;
    let input = Input::new(step.input_shape, window, dtype);
    let product = Product::new((isa, dtype), &filter, input, step.output_shape, group_len);
    Ok(match (step.shortcut, step.residual, model.quantized()) {
        (Some(shortcut), ..) => {
            let window = Window { stride: shortcut.stride, ..Window::ONE };
            let input = Input::new(shortcut.input_shape, window, dtype);
            product.shortcut(&Filter::new(model, dtype, shortcut.filter)?, input)
        }
        (None, Some(_), Some(quantized)) => {
            product.residual(quantized.residual_multiplier(conv.filter))
        }
        (None, Some(_), None) => product.residual(1.0),
        (None, None, _) => product,
    })
}

/// Averages over all pixels.
///
/// # Safety
/// The operands hold `batch_len` images; nothing else touches them.
unsafe fn average_pool(
    team: &mut Team,
    (dtype, shape, multiplier): (DType, Shape, f32),
    operands: Operands,
    batch_len: usize,
) {
    let Shape { channels, .. } = shape;
    let (input_len, parts) = (shape.value_len(), channels.div_ceil(AVERAGE_LEN));
    let operands = &operands;
    team.run(batch_len * parts, &|_, task| {
        let (image, first) = (task / parts, task % parts * AVERAGE_LEN);
        let Operands { input, output, .. } = *operands;
        for channel in (first..channels.min(first + AVERAGE_LEN)).step_by(pool::CHANNEL_LEN) {
            let to = image * channels + channel;
            // SAFETY: the caller vouches for the operands, whose alignment suits both types; each
            // task writes channels of its own.
            unsafe {
                match dtype {
                    DType::I8 => {
                        let values = slice::from_raw_parts(input.add(image * input_len), input_len);
                        let output = &mut *output.add(to).cast();
                        pool::average_u8(values, channels, channel, multiplier, output);
                    }
                    _ => {
                        let input = input.cast::<u16>().add(image * input_len);
                        let values = slice::from_raw_parts(input, input_len);
                        let output = &mut *output.cast::<u16>().add(to).cast();
                        pool::average_bf16(values, channels, channel, multiplier, output);
                    }
                }
            }
        }
    });
}
