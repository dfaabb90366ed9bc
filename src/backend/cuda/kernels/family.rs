//! What a kernel family is asked for, and how one of its kernels is chosen for a step.
//!
//! A family is what one file of `cuda/` is compiled to: kernels that compute the same kind of step
//! from weights packed alike, and differ in the sizes of their blocks. It is given a step and a
//! value with addresses; it knows no memory, stream or plan.

use std::fmt;

use super::launch::{Kernel, Launch};
use super::packed::Packed;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::Step;
use crate::model::Model;

/// See the module. A family is handed its own choices alone, and steps that it offered one for.
pub(crate) trait Family: fmt::Debug + Sync {
    /// The module of its first kernel, which no other family has.
    fn module(&self) -> &'static str {
        self.kernel(0).module
    }

    /// The kernel that [`Choice::index`] means.
    fn kernel(&self, index: usize) -> &'static Kernel;

    /// Whether a device has to have shown that these kernels compute there what others do, before
    /// an engine may use them (`measure/prove.rs`).
    ///
    /// They are then given other weights too: of f16, each value is packed as it is, in whatever
    /// order, zeros filling up. Of what lies in the arena they write the step's output alone, no
    /// byte of it depends on images beyond the batch, and each launch leaves the same. Of steps,
    /// they compute the stem, convolutions or the average pool.
    fn needs_proof(&self) -> bool {
        false
    }

    /// Every way to launch a step for batches up to a length, whatever the device; none where the
    /// family does not compute such a step.
    fn choices(&'static self, step: &Step, batch_len: usize) -> Vec<Choice>;

    /// Blocks.
    fn grid(&self, choice: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> [u32; 3];

    /// Parameters of a launch.
    ///
    /// # Errors
    /// `is_device` where the driver cannot describe to the device what a kernel is to read.
    fn launch(
        &self,
        choice: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Result<Launch>;

    /// Estimated clocks of a launch: the fewest are chosen, of this family and of all others that
    /// compute the step.
    fn clocks(&self, choice: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> f64;

    /// Memory that a launch uses beside what it reads and writes.
    fn workspace(&self, _: Choice, _: &Step, _batch_len: usize) -> Workspace {
        Workspace::default()
    }

    /// Bytes of a step's weights and bias as they are packed; 0 where it has none.
    fn packed_bytes(&self, step: &Step) -> (usize, usize);

    /// A step's weights and bias for these kernels.
    ///
    /// # Errors
    /// `is_weights` when the type of the weights cannot hold one, or the file was changed.
    fn pack(&self, model: &Model, step: &Step) -> Result<Packed>;
}

/// How a step is launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) family: &'static dyn Family,
    /// Which of the family's kernels.
    pub(super) index: usize,
    /// Blocks that share the sum of one output, each a part of K.
    pub(crate) split_k: u32,
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        (self.kernel().name, self.split_k) == (other.kernel().name, other.split_k)
    }
}

impl Eq for Choice {}

impl Choice {
    pub(crate) fn kernel(self) -> &'static Kernel {
        self.family.kernel(self.index)
    }

    pub(crate) fn block_len(self, step: &Step, batch_len: usize, device: &DeviceInfo) -> u32 {
        self.family.grid(self, step, batch_len, device).iter().product()
    }
}

/// Memory that the launches of a batch share, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workspace {
    /// Bytes of partial sums.
    pub(crate) partials_bytes: usize,
    /// Counters of the blocks of a tile that left theirs.
    pub(crate) semaphore_len: usize,
}

impl Workspace {
    /// What is enough for either.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            partials_bytes: self.partials_bytes.max(other.partials_bytes),
            semaphore_len: self.semaphore_len.max(other.semaphore_len),
        }
    }
}

/// What a launch is given beside its step: the device and addresses on it, and how pixels are
/// normalised.
pub(crate) struct Arguments<'a> {
    pub(crate) device: &'a DeviceInfo,
    /// The input ring.
    pub(crate) images: u64,
    /// From one image of the ring to the next.
    pub(crate) image_stride_bytes: u64,
    /// Normalisation of pixels, by colour: factor and summand.
    pub(crate) scale: [f32; 3],
    pub(crate) shift: [f32; 3],
    /// The batch's description.
    pub(crate) batch: u64,
    /// The step's own weights, packed by the family.
    pub(crate) weights: u64,
    pub(crate) bias: u64,
    /// By step, where their outputs begin; the logits' in the first of their buffers.
    pub(crate) outputs: &'a [u64],
    /// The step's own output.
    pub(crate) output: u64,
    /// From one buffer of logits to the next.
    pub(crate) logits_stride_bytes: u64,
    /// The workspace.
    pub(crate) partials: u64,
    pub(crate) semaphores: u64,
}
