//! How much device memory an engine needs, and how that is shared out.
//!
//! Invariant: each size is computed here and nowhere else: what is planned, what is allocated and
//! what is said when there is no room are the same numbers. Knows no device.

use super::kernels::abi;
use super::kernels::family::Workspace;
use super::plan::Plan;
use super::weights::Layout;
use crate::lower::Steps;
use crate::model::Answer;

/// Buffers that results alternate between: so many batches await or undergo their download.
pub(super) const RESULT_LEN: usize = abi::TWINSTREAM_RESULT_LEN as usize;

/// Bytes of each buffer, the weights' apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffers {
    /// The input ring.
    pub(super) images: usize,
    /// All activations, for the longest batch, and for a chunk of it where there are chunks.
    pub(super) arena: usize,
    pub(super) partials: usize,
    pub(super) semaphores: usize,
    /// One of [`RESULT_LEN`].
    pub(super) logits: usize,
    /// One of [`RESULT_LEN`]; 0 where logits are the answer.
    pub(super) best: usize,
}

impl Buffers {
    /// For the longest of the plans' batches, beside an input ring of `images` bytes.
    pub(super) fn new(steps: &Steps, plans: &[Plan], answer: Answer, images: usize) -> Self {
        let batch_len = plans.iter().map(|plan| plan.batch_len).max().unwrap_or(0);
        let room_len = plans.iter().map(Plan::room_len).max().unwrap_or(0);
        let workspaces = plans.iter().map(|plan| plan.workspace);
        let workspace = workspaces.fold(Workspace::default(), Workspace::max);
        let best_len = match answer {
            Answer::Logits => 0,
            Answer::TopK(count) => count,
        };
        Self {
            images,
            arena: room_len * steps.arena_bytes(),
            partials: workspace.partials_bytes,
            semaphores: workspace.semaphore_len * size_of::<u32>(),
            logits: batch_len * steps.class_count() * size_of::<f32>(),
            best: batch_len * best_len * size_of::<abi::twinstream_class>(),
        }
    }
}

/// Bytes of device memory that an engine needs, as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) weights: usize,
    /// The input ring.
    pub(super) images: usize,
    pub(super) activations: usize,
    /// Partial sums and counters of split convolutions.
    pub(super) workspace: usize,
    pub(super) results: usize,
}

impl Sizes {
    pub(super) fn new(weights: &Layout, buffers: &Buffers) -> Self {
        Self {
            weights: weights.len_bytes,
            images: buffers.images,
            activations: buffers.arena,
            workspace: buffers.partials + buffers.semaphores,
            results: RESULT_LEN * (buffers.logits + buffers.best),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.weights + self.images + self.activations + self.workspace + self.results
    }
}
