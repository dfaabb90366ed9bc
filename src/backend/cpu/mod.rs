//! The CPU backend: the embedded default, and the oracle of all other backends.
//!
//! Weights are packed once, for the precision that is asked for. After [`Cpu::new`] nothing is
//! allocated. Knows nothing of queues, clocks or batching policy.

mod device;
mod dot;
mod float;
mod reference;
mod team;

use crate::error::{Error, Kind, Result};
use crate::lower::{DType, Steps};
use crate::model::{Model, Network};
use crate::setters::setters;
pub use device::CpuDevice;
use dot::{Dot, Isa};
use float::Float;
pub use reference::{Outputs, reference};
use team::Team;

/// Images in reduced precision are computed in groups whose activations fit into this much cache,
/// and of no more than so many.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_LEN_MAX: usize = 64;

/// How a [`Cpu`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    /// Threads that compute, the calling thread among them.
    pub threads: usize,
    /// Height of the input images in pixels.
    pub height: usize,
    /// Width of the input images in pixels.
    pub width: usize,
    /// What is computed in: `F32`, `BF16`, or `I8` with a model that was calibrated for it.
    pub precision: DType,
}

setters!(CpuOptions { threads: usize, height: usize, width: usize, precision: DType });

impl CpuOptions {
    /// The model's own input size and precision, and a thread for every processor available to this
    /// process.
    pub fn for_model(model: &Model) -> Self {
        let config = model.config();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let precision = if model.quantized().is_some() { DType::I8 } else { DType::F32 };
        Self { threads, height: config.height, width: config.width, precision }
    }
}

/// The vector instructions that the backend uses on this processor in `precision`: `AVX-512`,
/// `AVX-512 VNNI`, `AVX-512 BF16`, `AVX-VNNI`, `AVX2`, `NEON` or `none`; nothing where it cannot
/// compute in it.
pub fn vector_instructions(precision: DType) -> Option<&'static str> {
    match precision {
        DType::F32 => Some(float::vector_instructions()),
        _ => Isa::supported(precision).first().map(|isa| isa.name(precision)),
    }
}

/// What executes the steps.
enum Executor {
    Float(Float),
    Dot(Dot),
}

impl Executor {
    fn new(model: &Model, network: &Network, precision: DType, thread_len: usize) -> Result<Self> {
        if precision == DType::F32 {
            return Ok(Self::Float(Float::new(model, network, thread_len)?));
        }
        let refused = |problem: String| Err(Error::new(Kind::Argument, problem));
        if precision == DType::I8 && model.quantized().is_none() {
            return refused(format!(
                "precision i8: {} holds weights in floating point: calibrate them with `twinstream \
                 calibrate`",
                model.path().display()
            ));
        }
        let Some(&isa) = Isa::supported(precision).first() else {
            return refused(match precision {
                DType::BF16 => "precision bf16: this processor has no instructions for it \
                                (AVX512-BF16): use f32, or i8 with calibrated weights"
                    .to_owned(),
                _ => format!("precision {precision}: the CPU computes in f32, bf16 or i8"),
            });
        };
        let steps = Steps::new(network, precision);
        let group_len = (GROUP_BYTES / steps.arena_bytes()).clamp(1, GROUP_LEN_MAX);
        Ok(Self::Dot(Dot::new(model, steps, isa, group_len)?))
    }

    /// Another with the same weights, for a team of `thread_len`.
    fn share(&self, thread_len: usize) -> Self {
        match self {
            Self::Float(float) => Self::Float(float.share(thread_len)),
            Self::Dot(dot) => Self::Dot(dot.share()),
        }
    }

    /// The most images at a time.
    fn group_len(&self) -> usize {
        match self {
            Self::Float(float) => float.group_len(),
            Self::Dot(dot) => dot.group_len(),
        }
    }
}

/// ResNet-50 on the processor.
pub struct Cpu {
    network: Network,
    executor: Executor,
    team: Team,
}

impl Cpu {
    /// Packs the weights of `model`, allocates activations and starts threads.
    ///
    /// # Errors
    /// `is_argument` for an input size that the network cannot take, a thread count out of range or
    /// a precision that the processor or the CPU backend lacks; `is_weights` when the weights are
    /// not of this precision, or their file was changed since it was opened; `is_io` when a thread
    /// cannot be started.
    pub fn new(model: &Model, options: &CpuOptions) -> Result<Self> {
        let team = Team::new(options.threads)?;
        let network = model.network(options.height, options.width)?;
        let executor = Executor::new(model, &network, options.precision, team.thread_len())?;
        Ok(Self { network, executor, team })
    }

    /// Another one of so many threads, which computes beside this one: the weights are the same
    /// memory.
    ///
    /// # Errors
    /// As for [`Cpu::new`], of the threads.
    pub fn share(&self, threads: usize) -> Result<Self> {
        let team = Team::new(threads)?;
        let executor = self.executor.share(team.thread_len());
        Ok(Self { network: self.network.clone(), executor, team })
    }

    /// The network that is executed.
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
        self.infer_observed(images, logits, &mut |_, _| {})
    }

    /// As [`Cpu::infer`]; in FP32, calls `observe` with each step's index and output for a group of
    /// images, the last step's excepted. Later steps read what it makes of the output.
    pub(crate) fn infer_observed(
        &mut self,
        images: &[u8],
        logits: &mut [f32],
        observe: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<()> {
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
        let group_len = self.executor.group_len();
        let groups =
            images.chunks(image_bytes * group_len).zip(logits.chunks_mut(class_count * group_len));
        for (images, logits) in groups {
            match &mut self.executor {
                Executor::Float(float) => {
                    let batch_len = images.len() / image_bytes;
                    float.infer(&mut self.team, batch_len, images, logits, observe);
                }
                Executor::Dot(dot) => dot.infer(&mut self.team, images, logits, &mut |_, _| {}),
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("input_shape", &self.network.input_shape())
            .field("threads", &self.team.thread_len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: teams on the same weights compute the same, beside each other.
    #[test]
    fn teams_that_share_weights_agree() {
        let weights =
            concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
        let model = Model::load(weights.as_ref(), None).unwrap();
        let mut cpu = Cpu::new(&model, &CpuOptions::for_model(&model).threads(1)).unwrap();
        let mut others = [cpu.share(1).unwrap(), cpu.share(2).unwrap()];
        let image_bytes = cpu.image_bytes();
        let images = |seed: usize| -> Vec<u8> {
            (0..3 * image_bytes).map(|i| ((i + seed) * 37 % 251) as u8).collect()
        };
        let infer = |cpu: &mut Cpu, seed: usize| {
            let mut logits = vec![0.0; 30];
            cpu.infer(&images(seed), &mut logits).unwrap();
            logits
        };
        let expected = [1, 2].map(|seed| infer(&mut cpu, seed));
        std::thread::scope(|scope| {
            for (other, seed) in others.iter_mut().zip([1, 2]) {
                let expected = &expected[seed - 1];
                scope.spawn(move || (0..5).for_each(|_| assert_eq!(infer(other, seed), *expected)));
            }
        });
        assert!(cpu.share(0).err().unwrap().is_argument());
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
