//! What there is to prove for a model on a device: kernels by step and longest batch.
//!
//! Invariant: whatever a plan may launch is among them, chunks included. Asks no device but for its
//! numbers.

use std::collections::BTreeMap;

use super::chunks::CHUNK_LENS;
use super::fixture::buckets;
use super::tune::kernel_by_kernel;
use crate::backend::cuda::choice::Chooser;
use crate::backend::cuda::device::CudaOptions;
use crate::backend::cuda::kernels::family::Choice;
use crate::backend::cuda::plan::{BUCKETS, Plan};
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::backend::cuda::tuning::Tuning;
use crate::backend::cuda::verdicts::{Case, Verdicts};
use crate::error::Result;
use crate::lower::Steps;
use crate::model::Model;
use crate::setters::setters;

/// What [`prove`](super::prove::prove) tries, and how hard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProveOptions {
    /// Batch buckets; others are rounded up to one.
    pub batch_lens: Vec<usize>,
    /// The one family that is tried, by its module; none: all.
    pub family: Option<String>,
    /// So many choices of a convolution are, of those that the model finds best, in the order in
    /// which [`tune`](super::tune::tune) measures them.
    pub choice_len: usize,
    /// Launches of each kernel that must agree, bit for bit.
    pub repeat_len: usize,
    /// Bytes that are written ahead of some of these, and beside others, so that caches hold
    /// nothing else and the memory is busy.
    pub flush_bytes: usize,
}

setters!(ProveOptions {
    batch_lens: Vec<usize>,
    family: Option<String>,
    choice_len: usize,
    repeat_len: usize,
    flush_bytes: usize,
});

impl Default for ProveOptions {
    fn default() -> Self {
        Self {
            batch_lens: BUCKETS.to_vec(),
            family: None,
            choice_len: usize::MAX,
            repeat_len: 20,
            // Twice and more what the level-2 cache of an H100 holds.
            flush_bytes: 128 << 20,
        }
    }
}

/// A case with what is launched for it.
pub(super) struct Trial {
    pub(super) step: usize,
    pub(super) choice: Choice,
    pub(super) case: Case,
}

/// What [`prove`](super::prove::prove) would try: all that needs a proof and has no verdict in
/// `options`, from the shortest batch on.
///
/// # Errors
/// As [`crate::backend::cuda::CudaDevice::new`]; `is_argument` when a batch is empty or longer than
/// 256 images.
pub fn cases(
    model: &Model,
    options: &CudaOptions,
    prove_options: &ProveOptions,
) -> Result<Vec<Case>> {
    let steps = options.steps(model, &model.network(options.height, options.width)?)?;
    let trials = trials(&steps, &DeviceInfo::find(options.device)?, options, prove_options)?;
    Ok(trials.into_values().flatten().map(|trial| trial.case).collect())
}

/// The same, by longest batch; those without a trial are left out.
pub(super) fn trials(
    steps: &Steps,
    device: &DeviceInfo,
    options: &CudaOptions,
    prove_options: &ProveOptions,
) -> Result<BTreeMap<usize, Vec<Trial>>> {
    let size = (options.height, options.width);
    let (untuned, unproven) = (Tuning::default(), Verdicts::default());
    let chooser = Chooser::new(device, size, (&untuned, &unproven));
    let mut trials = BTreeMap::new();
    for (batch_len, step_len) in lens(steps, device, options, prove_options)? {
        let mut of_len: Vec<Trial> = Vec::new();
        for (index, step) in steps.list[..step_len].iter().enumerate() {
            let mut choices = kernel_by_kernel(chooser.ranked_unproven(step, batch_len));
            choices.truncate(prove_options.choice_len.max(1));
            for choice in choices {
                let is_asked = |family: &String| family == choice.family.module();
                if !choice.family.needs_proof()
                    || !prove_options.family.as_ref().is_none_or(is_asked)
                {
                    continue;
                }
                let case = Case::new(device, (choice, step), batch_len);
                let is_new = of_len.iter().all(|trial| !trial.case.is(&case));
                if is_new && options.verdicts.get(&case).is_none() {
                    of_len.push(Trial { step: index, choice, case });
                }
            }
        }
        if !of_len.is_empty() {
            trials.insert(batch_len, of_len);
        }
    }
    Ok(trials)
}

/// Lengths that launches may be for, each with so many steps, the first ones, that may be: all for
/// a bucket, those that run in chunks for a chunk of one.
fn lens(
    steps: &Steps,
    device: &DeviceInfo,
    options: &CudaOptions,
    prove_options: &ProveOptions,
) -> Result<BTreeMap<usize, usize>> {
    let size = (options.height, options.width);
    let (untuned, unproven) = (Tuning::default(), Verdicts::default());
    let safe = Chooser::new(device, size, (&untuned, &unproven));
    let tuned = Chooser::new(device, size, options.known());
    let mut lens = BTreeMap::new();
    for bucket in buckets(&prove_options.batch_lens)? {
        lens.insert(bucket, steps.list.len());
        let mut plan = Plan::new(steps, bucket, &safe)?;
        let measured = CHUNK_LENS.into_iter().filter(|_| plan.is_measured_in_chunks());
        let noted = tuned.chunk_len(options.precision, bucket);
        for chunk_len in measured.chain(noted).filter(|&len| len < bucket).collect::<Vec<_>>() {
            plan.chunk_len = Some(chunk_len);
            for span_len in plan.span_lens() {
                lens.entry(span_len).or_insert(plan.chunked_len);
            }
        }
    }
    Ok(lens)
}
