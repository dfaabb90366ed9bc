//! The network on a device, set up to be measured: plans for the batch buckets that are asked for,
//! and images of noise.
//!
//! Invariant: measurements use a device of their own, beside no engine of this process. Weights are
//! uploaded once, for all buckets. Nothing that is measured reads zeros or what nobody wrote, which
//! would take less power than images do.

use std::sync::Arc;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::backend::cuda::executor::{Executor, Slots};
use crate::backend::cuda::plan::{BUCKETS, Plan};
use crate::backend::cuda::sys::context::Context;
use crate::backend::cuda::sys::driver::Code;
use crate::backend::cuda::sys::memory::PinnedMemory;
use crate::backend::cuda::sys::stream::{Priority, Stream};
use crate::backend::cuda::weights::Weights;
use crate::error::{Error, Kind, Result};
use crate::lower::Steps;
use crate::model::{Answer, Model};

/// The buckets of these batches, ascending, each once.
///
/// # Errors
/// `is_argument` when a batch is empty or longer than the longest bucket.
pub(crate) fn buckets(batch_lens: &[usize]) -> Result<Vec<usize>> {
    let bucket_of = |&batch_len: &usize| {
        let bucket = BUCKETS.into_iter().find(|&bucket| (1..=bucket).contains(&batch_len));
        bucket.ok_or_else(|| {
            let message = format!("a batch of {batch_len}: must be from 1 to 256 images");
            Error::new(Kind::Argument, message)
        })
    };
    let mut buckets = batch_lens.iter().map(bucket_of).collect::<Result<Vec<_>>>()?;
    buckets.sort_unstable();
    buckets.dedup();
    Ok(buckets)
}

/// See the module. The context is current while it is used.
pub(crate) struct Fixture {
    context: Arc<Context>,
    executor: Executor,
    /// As many as the longest batch holds, side by side.
    images: PinnedMemory,
}

impl Fixture {
    /// Makes room for the plans, which ascend, and for twice the longest batch's images.
    pub(crate) fn new(
        context: &Arc<Context>,
        model: &Model,
        (steps, plans): (Steps, Vec<Plan>),
    ) -> Result<Self> {
        let batch_len_max = plans.last().map_or(0, |plan| plan.batch_len);
        let image_bytes = steps.input_shape().value_len();
        let weights = (Weights::new(context, model, &steps, &plans)?, model.config());
        let slots = Slots { len: 2 * batch_len_max, stride_bytes: image_bytes };
        let executor = Executor::new(context, weights, (steps, plans), (Answer::Logits, slots))?;
        let word_len = (batch_len_max * image_bytes).div_ceil(size_of::<u32>());
        let mut images = PinnedMemory::new(context, word_len)
            .map_err(|code| code.error("page-locked memory for images"))?;
        fill_with_noise(images.words_mut());
        Ok(Self { context: Arc::clone(context), executor, images })
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(crate) fn executor_mut(&mut self) -> &mut Executor {
        &mut self.executor
    }

    /// Images of a batch, page-locked.
    pub(crate) fn images(&self, batch_len: usize) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(self.images.words());
        &bytes[..batch_len * self.executor.stride_bytes()]
    }

    /// Uploads the images of a plan's full batch to the first slots, and describes it. Nothing is
    /// under way.
    pub(crate) fn prepare(&mut self, plan: usize) -> std::result::Result<(), Code> {
        let batch_len = self.executor.plans()[plan].batch_len;
        self.upload(batch_len)?;
        self.describe(plan, batch_len)
    }

    /// Uploads so many images to the first slots. Nothing is under way.
    pub(crate) fn upload(&self, batch_len: usize) -> std::result::Result<(), Code> {
        let stream = Stream::new(&self.context, Priority::Usual)?;
        // SAFETY: the images are page-locked and never written again; the copy is waited for.
        unsafe { stream.upload(self.executor.images(), 0, self.images(batch_len))? };
        stream.synchronize()
    }

    /// Describes a plan's batch of the images in the first slots. Nothing is under way.
    pub(crate) fn describe(
        &mut self,
        plan: usize,
        batch_len: usize,
    ) -> std::result::Result<(), Code> {
        let slots: Vec<u32> = (0..batch_len as u32).collect();
        self.executor.describe(plan, 0, &slots);
        let stream = Stream::new(&self.context, Priority::Usual)?;
        // SAFETY: the description is waited for.
        unsafe { self.executor.enqueue_description(plan, &stream)? };
        stream.synchronize()
    }
}

/// Pseudorandom numbers from a fixed seed.
fn fill_with_noise(words: &mut [u32]) {
    let mut random = SplitMix64::seed_from_u64(0);
    words.fill_with(|| random.next_u64() as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_measured_once_a_bucket() {
        assert_eq!(buckets(&[256, 3, 4, 1]).unwrap(), [1, 4, 256]);
        for batch_len in [0, 257] {
            assert!(buckets(&[1, batch_len]).unwrap_err().is_argument(), "{batch_len}");
        }
    }

    /// Goal: the generator stays the same, and all bits are used.
    #[test]
    fn noise_is_noise() {
        let mut words = [0; 4096];
        fill_with_noise(&mut words);
        assert_eq!(words[..2], [0x7b1d_cdaf, 0xa1b9_65f4]);
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        let mean = bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / bytes.len() as f64;
        // Of so many bytes it strays by 0.6.
        assert!((mean - 127.5).abs() < 3.0, "{mean}");
    }
}
