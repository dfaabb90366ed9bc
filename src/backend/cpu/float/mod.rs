//! The network in FP32: batch norm folded, weights packed once.
//!
//! Knows nothing of who asks and how images come in groups.

mod conv;
mod kernel;
mod pool;
mod winograd;

use std::slice;
use std::sync::Arc;

use super::team::Team;
use crate::error::Result;
use crate::lower::{ALIGN_LEN, DType, Step, Steps, Work};
use crate::model::{Model, Network, Op, Shape};
use conv::{Conv, Operands};
use kernel::Kernels;
use pool::Normalize;
use winograd::{Scratch, Winograd};

/// Images are computed in groups whose activations fit into this much cache; larger groups would
/// fetch activations from memory, smaller ones would fetch the weights more often.
const GROUP_BYTES: usize = 16 << 20;

/// The vector instructions in use on this processor.
pub(super) fn vector_instructions() -> &'static str {
    Kernels::detect().name()
}

/// A layer with a filter, in the form that multiplies least.
enum Product {
    Direct(Conv),
    Winograd(Winograd),
}

impl Product {
    /// Computes `batch_len` images.
    ///
    /// # Safety
    /// As for [`Conv::run`].
    unsafe fn run(
        &self,
        team: &mut Team,
        kernels: &Kernels,
        scratch: &mut Scratch,
        operands: Operands,
        batch_len: usize,
    ) {
        // SAFETY: as the caller vouches.
        unsafe {
            match self {
                Self::Direct(conv) => conv.run(team, kernels, operands, batch_len),
                Self::Winograd(conv) => conv.run(team, kernels, scratch, operands, batch_len),
            }
        }
    }
}

/// The network made ready: what teams that compute beside each other share.
struct Packed {
    steps: Steps,
    /// By index of the filter.
    products: Box<[Product]>,
    normalize: Normalize,
    kernels: Kernels,
    group_len: usize,
    /// Values of the arena for an image.
    arena_len: usize,
    /// What the stem works on, in the arena.
    stem: StemPlaces,
}

/// Executes the steps.
pub(super) struct Float {
    packed: Arc<Packed>,
    scratch: Scratch,
    /// The arena for a group.
    activations: Vec<f32>,
}

/// Where the stem's intermediate values lie in the arena, in values an image: behind its output, in
/// what later steps write.
struct StemPlaces {
    /// The normalised image.
    input: usize,
    /// The convolution's output, which the pool reads.
    conv: usize,
    /// The end of both.
    end: usize,
}

impl StemPlaces {
    fn new(step: &Step) -> Self {
        let Work::Stem { input_shape, conv_shape, .. } = &step.work else {
            unreachable!("the network begins with the stem")
        };
        let aligned = |shape: &Shape| shape.value_len().next_multiple_of(ALIGN_LEN);
        let input = step.offset + aligned(&step.output_shape);
        let conv = input + aligned(input_shape);
        Self { input, conv, end: conv + aligned(conv_shape) }
    }
}

impl Float {
    /// Packs the weights of `model`, for a team of `thread_len`.
    pub(super) fn new(model: &Model, network: &Network, thread_len: usize) -> Result<Self> {
        Self::with_kernels(model, network, thread_len, Kernels::detect())
    }

    fn with_kernels(
        model: &Model,
        network: &Network,
        thread_len: usize,
        kernels: Kernels,
    ) -> Result<Self> {
        let steps = Steps::new(network, DType::F32);
        let stem = StemPlaces::new(&steps.list[0]);
        let arena_len = steps.arena_len.max(stem.end);
        let mut products = Vec::new();
        for layer in network.layers() {
            let filter = match layer.op {
                Op::Conv(conv) => conv.filter,
                Op::FullyConnected(filter) => filter,
                Op::MaxPool | Op::GlobalAveragePool => continue,
            };
            assert_eq!(filter, products.len(), "filters are numbered in layer order");
            let filter = model.filter(filter)?;
            products.push(match Winograd::suits(layer, &kernels) {
                true => Product::Winograd(Winograd::new(layer, &filter, &kernels)),
                false => Product::Direct(Conv::new(layer, &filter, &kernels)),
            });
        }
        let group_len = (GROUP_BYTES / (arena_len * size_of::<f32>())).max(1);
        log::debug!(
            "FP32 on the CPU: panels of {} channels, groups of {group_len} images",
            kernels.panel_len()
        );
        let packed = Packed {
            normalize: Normalize::new(model.config()),
            steps,
            stem,
            products: products.into(),
            kernels,
            group_len,
            arena_len,
        };
        Ok(Self::of(Arc::new(packed), thread_len))
    }

    fn of(packed: Arc<Packed>, thread_len: usize) -> Self {
        let Packed { products, group_len, kernels, arena_len, .. } = &*packed;
        let patches_len = products.iter().map(|product| match product {
            Product::Direct(_) => 0,
            Product::Winograd(winograd) => winograd.patches_len(*group_len),
        });
        let scratch = Scratch::new(patches_len.max().unwrap_or(0), thread_len, kernels);
        Self { scratch, activations: vec![0.0; arena_len * group_len], packed }
    }

    /// Another with the same weights, for a team of `thread_len`.
    pub(super) fn share(&self, thread_len: usize) -> Self {
        Self::of(Arc::clone(&self.packed), thread_len)
    }

    /// The most images at a time.
    pub(super) fn group_len(&self) -> usize {
        self.packed.group_len
    }

    /// Computes a group of `batch_len` images; calls `observe` with each step but the last and its
    /// output, which it may change.
    pub(super) fn infer(
        &mut self,
        team: &mut Team,
        batch_len: usize,
        images: &[u8],
        logits: &mut [f32],
        observe: &mut dyn FnMut(usize, &mut [f32]),
    ) {
        let Self { packed, scratch, activations } = self;
        let Packed { steps, products, kernels, stem, normalize, .. } = &**packed;
        let values = activations.as_mut_ptr();
        let group_len = packed.group_len;
        let place = |offset: usize| values.wrapping_add(offset * group_len);
        let output_of = |step: usize| place(steps.list[step].offset);
        let mut multiply = |team: &mut Team, filter: usize, input: *mut f32, output: *mut f32| {
            let operands = Operands { input, output };
            // SAFETY: the arena places what a step reads and writes apart from each other and
            // inside its length, of which the vector holds `group_len` times; `self` is borrowed
            // mutably; the logits are as long as the batch.
            unsafe { products[filter].run(team, kernels, scratch, operands, batch_len) };
        };
        for (index, step) in steps.list.iter().enumerate() {
            let output = place(step.offset);
            match &step.work {
                Work::Stem { filter, input_shape, conv_shape } => {
                    let (input, conv) = (place(stem.input), place(stem.conv));
                    // SAFETY: inside the vector, as above; nothing else refers to it now.
                    let normalized = unsafe { slice::from_raw_parts_mut(input, images.len()) };
                    normalize.run(images, normalized);
                    debug_assert_eq!(images.len(), batch_len * input_shape.value_len());
                    multiply(team, *filter, input, conv);
                    let operands = Operands { input: conv, output };
                    // SAFETY: as above.
                    unsafe { max_pool(team, *conv_shape, step.output_shape, operands, batch_len) };
                }
                Work::Conv(conv) => {
                    // A residual lies where the output goes, and a projection is put there: either
                    // is added in place, see `Conv`.
                    if let Some(shortcut) = conv.shortcut {
                        multiply(team, shortcut.filter, output_of(shortcut.input), output);
                    }
                    multiply(team, conv.conv.filter, output_of(conv.input), output);
                }
                Work::AveragePool { input, input_shape } => {
                    let operands = Operands { input: output_of(*input), output };
                    // SAFETY: as above.
                    unsafe { average_pool(team, *input_shape, operands, batch_len) };
                }
                Work::FullyConnected { input, filter, .. } => {
                    multiply(team, *filter, output_of(*input), logits.as_mut_ptr());
                    return;
                }
            }
            // SAFETY: as above; nothing else refers to it now.
            let written = unsafe {
                slice::from_raw_parts_mut(output, batch_len * step.output_shape.value_len())
            };
            observe(index, written);
        }
    }
}

/// Runs the max pool, a task an output row.
///
/// # Safety
/// As for [`Conv::run`].
unsafe fn max_pool(
    team: &mut Team,
    input_shape: Shape,
    output_shape: Shape,
    operands: Operands,
    batch_len: usize,
) {
    let (input_len, row_len) =
        (input_shape.value_len(), output_shape.width * output_shape.channels);
    let operands = &operands;
    team.run(batch_len * output_shape.height, &|_, task| {
        let Operands { input, output } = *operands;
        let (image, row) = (task / output_shape.height, task % output_shape.height);
        // SAFETY: the caller vouches for the operands; each task writes a row of its own.
        let (input, values) = unsafe {
            (
                slice::from_raw_parts(input.add(image * input_len), input_len),
                slice::from_raw_parts_mut(output.add(task * row_len), row_len),
            )
        };
        pool::max_pool_row(input_shape, input, row, values);
    });
}

/// Runs the global average pool, a task an image.
///
/// # Safety
/// As for [`Conv::run`].
unsafe fn average_pool(team: &mut Team, input_shape: Shape, operands: Operands, batch_len: usize) {
    let (input_len, channels) = (input_shape.value_len(), input_shape.channels);
    let operands = &operands;
    team.run(batch_len, &|_, image| {
        let Operands { input, output } = *operands;
        // SAFETY: the caller vouches for the operands; each task writes an image of its own.
        let (input, values) = unsafe {
            (
                slice::from_raw_parts(input.add(image * input_len), input_len),
                slice::from_raw_parts_mut(output.add(image * channels), channels),
            )
        };
        pool::global_average(input, values);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the panels and tiles of every instruction set give the same network. Method: a batch
    /// of odd size, against the set that the processor would choose.
    #[test]
    fn every_instruction_set_agrees() {
        let weights =
            concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
        let model = Model::load(weights.as_ref(), None).unwrap();
        let network = model.network(40, 32).unwrap();
        let mut team = Team::new(2).unwrap();
        let images: Vec<u8> = (0..5 * 40 * 32 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut expected: Option<Vec<f32>> = None;
        for kernels in Kernels::supported() {
            let panel_len = kernels.panel_len();
            let mut float = Float::with_kernels(&model, &network, 2, kernels).unwrap();
            let mut logits = vec![0.0; 5 * model.class_count()];
            float.infer(&mut team, 5, &images, &mut logits, &mut |_, _| {});
            let expected = &*expected.get_or_insert_with(|| logits.clone());
            for (found, expected) in logits.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "panels of {panel_len}: {found} {expected}"
                );
            }
        }
    }
}
