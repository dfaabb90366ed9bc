//! Measures tiles and splits on the device, and plans without one: what `twinstream tune` and
//! `twinstream inspect` show.
//!
//! Invariant: measurements use a device of their own, beside no engine of this process.

use std::collections::BTreeSet;

use super::fixture::{Fixture, buckets};
use super::timer::LaunchTimer;
use crate::backend::cuda::choice::{Chooser, Unproven};
use crate::backend::cuda::device::CudaOptions;
use crate::backend::cuda::executor::Executor;
use crate::backend::cuda::kernels::family::Choice;
use crate::backend::cuda::plan::{BUCKETS, Plan, plans};
use crate::backend::cuda::sizes::{Buffers, Sizes};
use crate::backend::cuda::sys::context::Context;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::backend::cuda::tuning::{Tuning, input_key};
use crate::backend::cuda::verdicts::Verdicts;
use crate::backend::cuda::weights::Layout;
use crate::error::Result;
use crate::lower::{DType, Step, Steps, Work};
use crate::model::{Answer, Model, Network};
use crate::setters::setters;

/// A convolution as it is launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSummary {
    /// torchvision's name of the layer.
    pub layer: String,
    /// The kernel, named by its tile: output pixels x output channels.
    pub kernel: &'static str,
    /// Blocks.
    pub block_len: u32,
    /// Blocks that share a tile's sum.
    pub split_k: u32,
    /// Whether it is used because the device has shown that it computes what it should.
    pub is_proven: bool,
}

impl ConvSummary {
    fn new(step: &Step, choice: Choice, batch_len: usize, device: &DeviceInfo) -> Self {
        Self {
            layer: step.name.clone(),
            kernel: choice.kernel().name,
            block_len: choice.block_len(step, batch_len, device),
            split_k: choice.split_k,
            is_proven: choice.family.needs_proof(),
        }
    }
}

/// How batches up to one length are computed, and the device memory that takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSummary {
    /// Longest batch.
    pub batch_len: usize,
    /// Images that the stem and layers 1 and 2 compute at a time; none: all of them.
    pub chunk_len: Option<usize>,
    /// Packed weights.
    pub weight_bytes: usize,
    /// Activations alive at a time, in one arena.
    pub activation_bytes: usize,
    /// Partial sums of split convolutions.
    pub workspace_bytes: usize,
    /// All of it, with results, without the input ring.
    pub peak_bytes: usize,
    /// In the order of execution.
    pub convs: Vec<ConvSummary>,
    /// What the device could run, but for a proof.
    pub unproven: Vec<Unproven>,
}

/// The plan of each batch bucket on a device, which need not be there.
///
/// # Errors
/// `is_device` where it runs no kernel for a step, as for each in a precision that it lacks.
pub fn plan_summaries(
    network: &Network,
    precision: DType,
    device: &DeviceInfo,
    known: (&Tuning, &Verdicts),
) -> Result<Vec<PlanSummary>> {
    let steps = Steps::new(network, precision);
    let shape = network.input_shape();
    let chooser = Chooser::new(device, (shape.height, shape.width), known);
    let summary = |plan: Plan| {
        let of_plan = std::slice::from_ref(&plan);
        let buffers = Buffers::new(&steps, of_plan, Answer::Logits, 0);
        let sizes = Sizes::new(&Layout::new(&steps, of_plan), &buffers);
        PlanSummary {
            batch_len: plan.batch_len,
            chunk_len: plan.chunk_len,
            weight_bytes: sizes.weights,
            activation_bytes: sizes.activations,
            workspace_bytes: sizes.workspace,
            peak_bytes: sizes.total(),
            convs: summaries(&steps, &plan, device),
            unproven: plan.unproven(&steps, &chooser),
        }
    };
    let plans = plans(&steps, BUCKETS[BUCKETS.len() - 1], &chooser)?;
    Ok(plans.into_iter().map(summary).collect())
}

fn summaries(steps: &Steps, plan: &Plan, device: &DeviceInfo) -> Vec<ConvSummary> {
    let of_step = steps.list.iter().zip(&plan.choices);
    let convs = of_step.filter(|(step, _)| matches!(step.work, Work::Conv(_)));
    let summary = |(step, &choice)| ConvSummary::new(step, choice, plan.batch_len, device);
    convs.map(summary).collect()
}

/// What [`tune`] measures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TuneOptions {
    /// Batch buckets; others are rounded up to one.
    pub batch_lens: Vec<usize>,
    /// Choices that are measured for each convolution: of each kernel the one that the model finds
    /// best, the best kernels first, and then the model's best of the others; and lengths of chunks
    /// that are, the likeliest.
    pub choice_len: usize,
    /// Launches behind one another that are timed as one.
    pub repeat_len: usize,
}

setters!(TuneOptions { batch_lens: Vec<usize>, choice_len: usize, repeat_len: usize });

impl Default for TuneOptions {
    fn default() -> Self {
        Self { batch_lens: BUCKETS.to_vec(), choice_len: 16, repeat_len: 20 }
    }
}

/// A convolution's measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What was best, and is noted.
    pub conv: ConvSummary,
    /// Longest batch.
    pub batch_len: usize,
    /// Nanoseconds of its launch.
    pub best_ns: f64,
    /// Those of the choice that the model of the device makes without measurements.
    pub model_ns: f64,
    /// Everything that was measured, that choice first.
    pub choices: Vec<MeasuredChoice>,
}

/// One way to launch a convolution, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredChoice {
    /// The kernel.
    pub kernel: &'static str,
    /// Blocks that share a tile's sum.
    pub split_k: u32,
    /// Nanoseconds of a launch, with the gap behind it.
    pub elapsed_ns: f64,
}

impl MeasuredChoice {
    fn new((choice, elapsed_ns): (Choice, f64)) -> Self {
        Self { kernel: choice.kernel().name, split_k: choice.split_k, elapsed_ns }
    }
}

/// Measures the choices for each convolution and batch bucket on the device, for the stem where
/// there are several, and notes the best in `tuning`. Bucket by bucket, from the shortest, tells
/// `report` what was measured and all that is noted, so that it may be stored before the next.
///
/// Convolutions run by themselves, on real activations, with what they read in the level-2 cache
/// where it fits.
///
/// # Errors
/// As [`crate::backend::cuda::CudaDevice::new`]; `is_argument` when a batch is empty or longer than
/// 256 images.
pub fn tune(
    model: &Model,
    options: &CudaOptions,
    tune_options: &TuneOptions,
    tuning: &mut Tuning,
    report: &mut dyn FnMut(&[Measured], &Tuning),
) -> Result<()> {
    let network = model.network(options.height, options.width)?;
    let steps = options.steps(model, &network)?;
    let buckets = buckets(&tune_options.batch_lens)?;
    let context = Context::new(options.device)?;
    let _pushed = context.push_current();
    let size = input_key((options.height, options.width), options.precision);
    let known = tuning.clone();
    let known = (&known, &options.verdicts);
    let chooser = Chooser::new(context.info(), (options.height, options.width), known);
    let plans = buckets.iter().map(|&batch_len| roomy_plan(&steps, batch_len, &chooser));
    let plans = plans.collect::<Result<_>>()?;
    let mut fixture = Fixture::new(&context, model, (steps, plans))?;
    for (plan, batch_len) in buckets.into_iter().enumerate() {
        fixture.prepare(plan).map_err(|code| code.error("preparing the measurement"))?;
        let timer = LaunchTimer::new(&fixture, plan, tune_options.repeat_len)?;
        let executor = fixture.executor();
        let mut measured = Vec::new();
        for (index, step) in executor.steps().list.iter().enumerate() {
            let mut choices = kernel_by_kernel(chooser.ranked(step, batch_len));
            let is_measured = match step.work {
                Work::Conv(_) => true,
                Work::Stem { .. } => choices.len() > 1,
                _ => false,
            };
            if !is_measured {
                continue;
            }
            choices.truncate(tune_options.choice_len.max(1));
            let times_ns = times_ns(&timer, executor, index, &choices, batch_len)?;
            let times = choices.into_iter().zip(times_ns);
            let best = times.clone().min_by(|one, other| one.1.total_cmp(&other.1));
            let (choice, best_ns) = best.expect("at least one choice was measured");
            let noted = (choice.kernel().name, choice.split_k);
            tuning.set((context.info(), &size), &step.name, batch_len, noted);
            let conv = ConvSummary::new(step, choice, batch_len, context.info());
            let choices: Vec<_> = times.map(MeasuredChoice::new).collect();
            let model_ns = choices[0].elapsed_ns;
            measured.push(Measured { conv, batch_len, best_ns, model_ns, choices });
        }
        report(&measured, tuning);
    }
    Ok(())
}

/// The model's plan, with room for every other choice.
fn roomy_plan(steps: &Steps, batch_len: usize, chooser: &Chooser) -> Result<Plan> {
    let mut plan = Plan::new(steps, batch_len, chooser)?;
    for (index, step) in steps.list.iter().enumerate() {
        let choices = chooser.ranked(step, batch_len);
        choices.into_iter().for_each(|choice| plan.make_room(step, index, choice));
    }
    Ok(plan)
}

/// Ranked choices in another order: the first of each kernel, then the others.
pub(super) fn kernel_by_kernel(ranked: Vec<Choice>) -> Vec<Choice> {
    let mut seen = BTreeSet::new();
    let is_first = |choice: &Choice| seen.insert(choice.kernel().name);
    let (mut choices, others): (Vec<_>, Vec<_>) = ranked.into_iter().partition(is_first);
    choices.extend(others);
    choices
}

/// Nanoseconds of each of the choices for a step.
fn times_ns(
    timer: &LaunchTimer,
    executor: &Executor,
    step: usize,
    choices: &[Choice],
    batch_len: usize,
) -> Result<Vec<f64>> {
    let time_ns = |&choice: &Choice| {
        let launch = executor.launch(step, choice, batch_len)?;
        timer.launch_ns(step, &launch).map_err(|code| {
            let (name, kernel) = (&executor.steps().list[step].name, choice.kernel().name);
            code.error(format!("measuring {name} by {kernel}"))
        })
    };
    choices.iter().map(time_ns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no kernel goes unmeasured because others are ranked ahead of it with many splits.
    #[test]
    fn every_kernel_is_measured_before_splits_of_any() {
        let device = DeviceInfo::h100();
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap(), DType::F16);
        let step = steps.list.iter().find(|step| step.name == "layer4.1.conv2").unwrap();
        let (tuning, verdicts) = (Tuning::default(), Verdicts::default());
        let ranked = Chooser::new(&device, (224, 224), (&tuning, &verdicts)).ranked(step, 1);
        let names = |choices: &[Choice]| {
            choices.iter().map(|choice| choice.kernel().name).collect::<BTreeSet<_>>()
        };
        let kernels = names(&ranked);
        assert!(names(&ranked[..kernels.len()]).len() < kernels.len());
        let choices = kernel_by_kernel(ranked.clone());
        assert_eq!(names(&choices[..kernels.len()]), kernels);
        assert_eq!((choices[0], choices.len()), (ranked[0], ranked.len()));
    }
}
