//! The steps of the network as launches, for one longest batch: each step's kernel, and the memory
//! that they share.
//!
//! Invariant: a plan holds sizes alone, no address, so it is the same on every device but for the
//! kernels, which are chosen for one.

use std::ops::Range;

use super::choice::Chooser;
use super::kernels::family::{Choice, Family, Workspace};
use crate::error::{Error, Kind, Result};
use crate::lower::{Step, Steps};

/// Longest batches that there is a plan, and a graph, for.
pub(super) const BUCKETS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
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
            chunk_len: chooser.chunk_len(steps.list[0].dtype, batch_len),
            chunked_len: chunked_len(steps),
            choices: choices.clone(),
            workspace: Workspace::default(),
            families: vec![Vec::new(); choices.len()],
        };
        for (index, choice) in choices.into_iter().enumerate() {
            plan.make_room(&steps.list[index], index, choice);
        }
        Ok(plan)
    }

    /// The images of each chunk, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let batch_len = self.batch_len;
        self.chunk_len.into_iter().flat_map(move |chunk_len| {
            let firsts = (0..batch_len).step_by(chunk_len);
            firsts.map(move |first| first..batch_len.min(first + chunk_len))
        })
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
        let chooser = Chooser::new(&device, (32, 32), None);
        let error = Plan::new(&steps(32), 1, &chooser).unwrap_err();
        assert!(error.is_device(), "{error}");
        assert!(error.to_string().contains("compute capability 7.5"), "{error}");
    }
}
