//! The CPU backend: the embedded default, and the oracle of all other backends.
//!
//! FP32 throughout, batch norm folded, weights packed once. After [`Cpu::new`] nothing is
//! allocated. Knows nothing of queues, clocks or batching policy.

mod conv;
mod device;
mod kernel;
mod pool;
mod team;
mod winograd;

use crate::error::{Error, Kind, Result};
use crate::model::{Arena, Layer, Model, Network, Op, TensorId};
use conv::{Conv, Operands};
pub use device::CpuDevice;
use kernel::Kernels;
use pool::Normalize;
use team::Team;
use winograd::{Scratch, Winograd};

/// Images are computed in groups whose activations fit into this much cache; larger groups would
/// fetch activations from memory, smaller ones would fetch the weights more often.
const GROUP_BYTES: usize = 16 << 20;

/// How a [`Cpu`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads that compute, the calling thread among them.
    pub threads: usize,
    /// Height of the input images in pixels.
    pub height: usize,
    /// Width of the input images in pixels.
    pub width: usize,
}

impl CpuOptions {
    /// The model's own input size, and a thread for every processor available to this process.
    pub fn for_model(model: &Model) -> Self {
        let config = model.config();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, height: config.height, width: config.width }
    }
}

/// The vector instructions that the backend uses on this processor: `AVX-512`, `AVX2`, `NEON` or
/// `none`.
pub fn vector_instructions() -> &'static str {
    Kernels::detect().name()
}

/// A layer with a filter, in the form that multiplies least.
enum Product {
    Direct(Conv),
    Winograd(Winograd),
}

/// ResNet-50 on the processor.
pub struct Cpu {
    network: Network,
    arena: Arena,
    products: Vec<Product>,
    scratch: Scratch,
    normalize: Normalize,
    kernels: Kernels,
    team: Team,
    group_len: usize,
    activations: Vec<f32>,
}

impl Cpu {
    /// Packs the weights of `model`, allocates activations and starts threads.
    ///
    /// # Errors
    /// `is_argument` for an input size that the network cannot take or a thread count out of range;
    /// `is_weights` when the weights file was changed since it was opened; `is_io` when a thread
    /// cannot be started.
    pub fn new(model: &Model, options: &CpuOptions) -> Result<Self> {
        Self::with_kernels(model, options, Kernels::detect())
    }

    fn with_kernels(model: &Model, options: &CpuOptions, kernels: Kernels) -> Result<Self> {
        let team = Team::new(options.threads)?;
        let network = model.network(options.height, options.width)?;
        let arena = Arena::new(&network);
        let mut products = Vec::new();
        for (index, layer) in network.layers().iter().enumerate() {
            let filter = match layer.op {
                Op::Conv(conv) => {
                    // Convolutions add in place, see `Conv`.
                    let output = arena.offset(TensorId::Layer(index));
                    assert!(conv.residual.is_none_or(|residual| arena.offset(residual) == output));
                    conv.filter
                }
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
        let group_len = (GROUP_BYTES / (arena.value_len() * size_of::<f32>())).max(1);
        let patches_len = products.iter().map(|product| match product {
            Product::Direct(_) => 0,
            Product::Winograd(winograd) => winograd.patches_len(group_len),
        });
        let scratch = Scratch::new(patches_len.max().unwrap_or(0), team.thread_len(), &kernels);
        log::debug!(
            "CPU backend: {} threads, panels of {} channels, groups of {group_len} images",
            team.thread_len(),
            kernels.panel_len()
        );
        Ok(Self {
            activations: vec![0.0; arena.value_len() * group_len],
            normalize: Normalize::new(model.config()),
            network,
            arena,
            products,
            scratch,
            kernels,
            team,
            group_len,
        })
    }

    /// The layers that are executed.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Bytes of one input image: u8 RGB, height x width x 3.
    pub fn image_bytes(&self) -> usize {
        self.network.input_shape().value_len()
    }

    /// Computes the logits of any number of images: `images` holds u8 RGB HWC pixels, one image
    /// after another; `logits` gets `class_count` values an image.
    ///
    /// # Errors
    /// `is_argument` when a length is no whole number of images, or the two disagree.
    pub fn infer(&mut self, images: &[u8], logits: &mut [f32]) -> Result<()> {
        let (image_bytes, class_count) = (self.image_bytes(), self.network.class_count());
        let image_len = images.len() / image_bytes;
        if !images.len().is_multiple_of(image_bytes) || logits.len() != image_len * class_count {
            return Err(Error::new(
                Kind::Argument,
                format!(
                    "{} bytes of images and {} logits: expected {image_bytes} bytes and \
                     {class_count} logits an image",
                    images.len(),
                    logits.len()
                ),
            ));
        }
        let groups = images
            .chunks(image_bytes * self.group_len)
            .zip(logits.chunks_mut(class_count * self.group_len));
        for (images, logits) in groups {
            self.infer_group(images, logits);
        }
        Ok(())
    }

    fn infer_group(&mut self, images: &[u8], logits: &mut [f32]) {
        let batch_len = images.len() / self.image_bytes();
        self.normalize_images(images);
        let (team, kernels) = (&mut self.team, &self.kernels);
        let mut products = self.products.iter();
        for (index, layer) in self.network.layers().iter().enumerate() {
            let place = |tensor| self.arena.offset(tensor) * self.group_len;
            let activations = self.activations.as_mut_ptr();
            let operands = Operands {
                input: activations.wrapping_add(place(layer.input)),
                output: activations.wrapping_add(place(TensorId::Layer(index))),
            };
            // SAFETY: the arena places a layer's tensors apart from each other and inside its
            // `value_len`, of which the vector holds `group_len` times; `self` is borrowed mutably.
            unsafe {
                match layer.op {
                    Op::Conv(_) | Op::FullyConnected(_) => match products.next() {
                        Some(Product::Direct(conv)) => {
                            conv.run(team, kernels, operands, batch_len);
                        }
                        Some(Product::Winograd(conv)) => {
                            let scratch = &mut self.scratch;
                            conv.run(team, kernels, scratch, operands, batch_len);
                        }
                        None => unreachable!("a filter for every layer that has one"),
                    },
                    Op::MaxPool | Op::GlobalAveragePool => {
                        pool_images(team, layer, operands, batch_len);
                    }
                }
            }
        }
        let last = TensorId::Layer(self.network.layers().len() - 1);
        let start = self.arena.offset(last) * self.group_len;
        logits.copy_from_slice(&self.activations[start..start + logits.len()]);
    }

    fn normalize_images(&mut self, images: &[u8]) {
        let start = self.arena.offset(TensorId::Input) * self.group_len;
        let output = &mut self.activations[start..start + images.len()];
        self.normalize.run(images, output);
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("input_shape", &self.network.input_shape())
            .field("threads", &self.team.thread_len())
            .field("group_len", &self.group_len)
            .finish_non_exhaustive()
    }
}

/// Runs a pooling layer, a task an output row.
///
/// # Safety
/// As for [`Conv::run`].
unsafe fn pool_images(team: &mut Team, layer: &Layer, operands: Operands, batch_len: usize) {
    let (input_len, output) = (layer.input_shape.value_len(), layer.output_shape);
    let row_len = output.width * output.channels;
    let operands = &operands;
    team.run(batch_len * output.height, &|_, task| {
        let Operands { input, output: values } = *operands;
        // SAFETY: the caller vouches for the operands; each task writes a row of its own.
        let (input, row) = unsafe {
            (
                std::slice::from_raw_parts(input.add(task / output.height * input_len), input_len),
                std::slice::from_raw_parts_mut(values.add(task * row_len), row_len),
            )
        };
        match layer.op {
            Op::MaxPool => pool::max_pool_row(layer, input, task % output.height, row),
            _ => pool::global_average(input, row),
        }
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
        let options = CpuOptions { threads: 2, height: 40, width: 32 };
        let images: Vec<u8> = (0..5 * 40 * 32 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut expected: Option<Vec<f32>> = None;
        for kernels in Kernels::supported() {
            let panel_len = kernels.panel_len();
            let mut cpu = Cpu::with_kernels(&model, &options, kernels).unwrap();
            let mut logits = vec![0.0; 5 * model.class_count()];
            cpu.infer(&images, &mut logits).unwrap();
            let expected = &*expected.get_or_insert_with(|| logits.clone());
            for (found, expected) in logits.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "panels of {panel_len}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let weights =
            concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
        let model = Model::load(weights.as_ref(), None).unwrap();
        let mut cpu = Cpu::new(&model, &CpuOptions::for_model(&model)).unwrap();
        let image_bytes = cpu.image_bytes();
        for (bytes, logits) in [(image_bytes - 1, 10), (image_bytes, 9), (image_bytes, 20), (0, 10)]
        {
            let error = cpu.infer(&vec![0; bytes], &mut vec![0.0; logits]).unwrap_err();
            assert!(error.is_argument() && error.to_string().contains("3072"), "{error}");
        }
        cpu.infer(&[], &mut []).unwrap();
    }
}
