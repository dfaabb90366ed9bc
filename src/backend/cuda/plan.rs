//! The steps of the network as launches, for one longest batch: each convolution's tile, and the
//! memory that they share.
//!
//! Invariant: a plan holds sizes alone, no address, so it is the same on every device but for the
//! tiles, which are chosen for one.

use super::choice::{Choice, Chooser};
use super::launch as abi;
use crate::lower::{ConvStep, Steps, Work};

/// Longest batches that there is a plan, and a graph, for.
pub(super) const BUCKETS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Bytes of an activation.
pub(super) const VALUE_BYTES: usize = 2;
/// Activations that a kernel copies at once.
const CHUNK_LEN: usize = 8;
/// Values of K that a kernel takes at a step.
pub(super) const STEP_LEN: usize = abi::TWINSTREAM_CHANNEL_STEP as usize;

/// Longest batch whose activations the kernels can address: with a signed 32-bit number of chunks,
/// 16 bytes each. Only images of thousands of pixels a side come near.
pub(super) fn batch_len_limit(steps: &Steps) -> usize {
    let image_len = steps.list.iter().map(|step| step.output_shape.value_len()).max();
    let chunk_len = image_len.unwrap_or(1).div_ceil(CHUNK_LEN);
    i32::MAX as usize / chunk_len
}

/// The tiles of all convolutions for batches up to one length, and the memory that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Longest batch.
    pub(super) batch_len: usize,
    /// By step; none for other than convolutions.
    pub(super) choices: Vec<Option<Choice>>,
    /// Bytes of partial sums, at the peak.
    pub(super) partials_bytes: usize,
    /// Counters of arrived blocks, at the peak.
    pub(super) arrival_len: usize,
}

impl Plan {
    pub(super) fn new(steps: &Steps, batch_len: usize, chooser: &Chooser) -> Self {
        let mut plan = Self { batch_len, choices: Vec::new(), partials_bytes: 0, arrival_len: 0 };
        for step in &steps.list {
            let choice = match &step.work {
                Work::Conv(conv) => {
                    let choice = chooser.choose(&step.name, conv, batch_len);
                    plan.make_room(conv, choice);
                    Some(choice)
                }
                _ => None,
            };
            plan.choices.push(choice);
        }
        plan
    }

    /// Makes the shared memory large enough for a choice.
    pub(super) fn make_room(&mut self, conv: &ConvStep, choice: Choice) {
        if choice.split_len > 1 {
            let tile_len = choice.grid(conv, self.batch_len)[..2].iter().product::<u32>() as usize;
            let tile_bytes = choice.tile().m * choice.tile().n * size_of::<f32>();
            self.partials_bytes =
                self.partials_bytes.max(tile_len * choice.split_len as usize * tile_bytes);
            self.arrival_len = self.arrival_len.max(tile_len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;

    /// Goal: the longest batch is cut where the kernels' numbers end, far from common sizes.
    #[test]
    fn batches_are_as_long_as_kernels_can_count() {
        let limit =
            |side| batch_len_limit(&Steps::new(&Network::resnet50(10, side, side).unwrap()));
        assert!(limit(1024) > 256);
        // The first block writes 1024 x 1024 x 256 values an image.
        assert_eq!(limit(4096), 63);
    }
}
