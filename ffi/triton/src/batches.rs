//! Which batches of the engine were reported.
//!
//! Invariant: each batch is told as new once, by whichever of its images is answered first. Knows
//! nothing of the server.

use std::collections::BTreeMap;

/// Batches some of whose images are not answered, by their numbers. What was cancelled after its
/// batch began leaves an entry behind: the oldest go where there are too many.
pub(crate) struct Batches {
    left_lens: BTreeMap<u64, usize>,
    len_max: usize,
}

impl Batches {
    /// For so many images that are not answered, at most.
    pub(crate) fn new(len_max: usize) -> Self {
        Self { left_lens: BTreeMap::new(), len_max }
    }

    /// An image of this batch is answered: whether it is the batch's first.
    pub(crate) fn is_first(&mut self, batch: u64, batch_len: usize) -> bool {
        let before = self.left_lens.remove(&batch);
        let left_len = before.unwrap_or(batch_len) - 1;
        if left_len > 0 {
            self.left_lens.insert(batch, left_len);
        }
        if self.left_lens.len() > self.len_max {
            self.left_lens.pop_first();
        }
        before.is_none()
    }
}
