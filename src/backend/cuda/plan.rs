//! The steps of the network as launches, for one longest batch: each step's kernel, and the memory
//! that they share.
//!
//! Invariant: a plan holds sizes alone, no address, so it is the same on every device but for the
//! kernels, which are chosen for one.

use std::ops::Range;

use super::choice::{Chooser, Unproven};
use super::kernels::family::{Choice, Family, Workspace};
use crate::error::{Error, Kind, Result};
use crate::lower::{Step, Steps};

/// Longest batches that there is a plan, and a graph, for.
pub(super) const BUCKETS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Chunks of layers 1 and 2 are measured of batches as long as this.
const CHUNKED_BATCH_LEN_MIN: usize = 32;
/// Bytes that a kernel copies at once.
const CHUNK_BYTES: usize = 16;

/// Longest batch whose activations the kernels can address: with a signed 32-bit number of chunks,
/// 16 bytes each. Only images of thousands of pixels a side come near.
pub(super) fn batch_len_limit(steps: &Steps) -> usize {
    let image_bytes =
        steps.list.iter().map(|step| step.output_shape.value_len() * step.dtype.size_bytes());
    let chunk_len = image_bytes.max().unwrap_or(1).div_ceil(CHUNK_BYTES);
    i32::MAX as usize / chunk_len
}

/// The plans for batches up to a length: one for each bucket up to the first that holds it.
///
/// # Errors
/// As [`Plan::new`].
pub(super) fn plans(steps: &Steps, batch_len_max: usize, chooser: &Chooser) -> Result<Vec<Plan>> {
    let longest = BUCKETS.iter().position(|&bucket| bucket >= batch_len_max);
    let buckets = &BUCKETS[..=longest.unwrap_or(BUCKETS.len() - 1)];
    buckets.iter().map(|&batch_len| Plan::new(steps, batch_len, chooser)).collect()
}

/// The kernels of all steps for batches up to one length, and the memory that they share.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Longest batch.
    pub(super) batch_len: usize,
    /// Images that the first steps compute at a time; none: all of them, step by step.
    pub(super) chunk_len: Option<usize>,
    /// So many steps, the stem, layer 1 and layer 2, run chunk after chunk where there are chunks.
    pub(super) chunked_len: usize,
    /// By step.
    pub(super) choices: Vec<Choice>,
    /// Enough for each of them.
    pub(super) workspace: Workspace,
    /// By step, the families that want its weights: that of its choice, and of those for which room
    /// was made.
    pub(super) families: Vec<Vec<&'static dyn Family>>,
}

impl Plan {
    /// What the chooser finds best for each step.
    ///
    /// # Errors
    /// `is_device` where the device runs no kernel for a step.
    pub(super) fn new(steps: &Steps, batch_len: usize, chooser: &Chooser) -> Result<Self> {
        let choice = |step: &Step| {
            chooser.choose(step, batch_len).ok_or_else(|| {
                let (major, minor) = chooser.device().capability;
                let message = format!(
                    "{}: no kernel for {} in {} runs at compute capability {major}.{minor}",
                    chooser.device().name,
                    step.name,
                    step.dtype
                );
                Error::new(Kind::Device, message)
            })
        };
        let choices = steps.list.iter().map(choice).collect::<Result<Vec<_>>>()?;
        let mut plan = Self {
            batch_len,
            chunk_len: None,
            chunked_len: chunked_len(steps),
            choices: choices.clone(),
            workspace: Workspace::default(),
            families: vec![Vec::new(); choices.len()],
        };
        for (index, choice) in choices.into_iter().enumerate() {
            plan.make_room(&steps.list[index], index, choice);
        }
        let chunk_len = chooser.chunk_len(steps.list[0].dtype, batch_len);
        plan.chunk_len = chunk_len.filter(|&len| plan.may_chunk(steps, len, chooser));
        Ok(plan)
    }

    /// Whether the kernels of the first steps may be launched for chunks of so many images.
    pub(super) fn may_chunk(&self, steps: &Steps, chunk_len: usize, chooser: &Chooser) -> bool {
        let chunked = Self { chunk_len: Some(chunk_len), ..self.clone() };
        let of_steps = steps.list.iter().zip(&self.choices).take(self.chunked_len);
        let mut launches = of_steps.flat_map(|of_step| {
            chunked.span_lens().into_iter().map(move |span_len| (of_step, span_len))
        });
        launches.all(|((step, &choice), span_len)| chooser.may_use(choice, step, span_len))
    }

    /// Whether chunks may be worth it, and are measured.
    pub(super) fn is_measured_in_chunks(&self) -> bool {
        self.batch_len >= CHUNKED_BATCH_LEN_MIN
    }

    /// Images of a chunk, and of the last one where that is shorter.
    pub(super) fn span_lens(&self) -> Vec<usize> {
        let mut lens: Vec<usize> = self.chunks().map(|chunk| chunk.len()).collect();
        lens.dedup();
        lens
    }

    /// The images of each chunk, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let batch_len = self.batch_len;
        self.chunk_len.into_iter().flat_map(move |chunk_len| {
            let firsts = (0..batch_len).step_by(chunk_len);
            firsts.map(move |first| first..batch_len.min(first + chunk_len))
        })
    }

    /// The kernels that its steps could have, but for a proof.
    pub(super) fn unproven(&self, steps: &Steps, chooser: &Chooser) -> Vec<Unproven> {
        steps.list.iter().flat_map(|step| chooser.unproven(step, self.batch_len)).collect()
    }

    /// Images whose activations there is memory for: those of the batch, and apart from them those
    /// of a chunk, whose steps reuse what holds results of chunks before it.
    pub(super) fn room_len(&self) -> usize {
        self.batch_len + self.chunk_len.unwrap_or(0)
    }

    /// Provides for a choice of a step, whatever else is launched.
    pub(super) fn make_room(&mut self, step: &Step, index: usize, choice: Choice) {
        let workspace = choice.family.workspace(choice, step, self.batch_len);
        self.workspace = self.workspace.max(workspace);
        add_family(&mut self.families[index], choice.family);
    }
}

/// Steps ahead of layer 3.
fn chunked_len(steps: &Steps) -> usize {
    let is_late = |step: &Step| step.name.starts_with("layer3.");
    steps.list.iter().position(is_late).expect("the network has a layer 3")
}

/// Adds a family unless it is there, which its module says.
pub(super) fn add_family(families: &mut Vec<&'static dyn Family>, family: &'static dyn Family) {
    if !families.iter().any(|other| other.module() == family.module()) {
        families.push(family);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::sys::info::DeviceInfo;
    use crate::backend::cuda::tuning::Tuning;
    use crate::backend::cuda::verdicts::Verdicts;
    use crate::lower::DType;
    use crate::model::Network;

    fn steps(side: usize) -> Steps {
        Steps::new(&Network::resnet50(10, side, side).unwrap(), DType::F16)
    }

    /// Goal: the longest batch is cut where the kernels' numbers end, far from common sizes.
    #[test]
    fn batches_are_as_long_as_kernels_can_count() {
        let limit = |side| batch_len_limit(&steps(side));
        assert!(limit(1024) > 256);
        // The first block writes 1024 x 1024 x 256 values an image.
        assert_eq!(limit(4096), 63);
    }

    #[test]
    fn a_device_without_kernels_is_refused_by_name() {
        let device = DeviceInfo { capability: (7, 5), ..DeviceInfo::h100() };
        let (tuning, verdicts) = (Tuning::default(), Verdicts::default());
        let chooser = Chooser::new(&device, (32, 32), (&tuning, &verdicts));
        let error = Plan::new(&steps(32), 1, &chooser).unwrap_err();
        assert!(error.is_device(), "{error}");
        assert!(error.to_string().contains("compute capability 7.5"), "{error}");
    }
}
