//! Holds kernels that need a proof against the safe ones, on the device: what `twinstream prove`
//! does for one family, in a process of its own.
//!
//! Invariant: seeds are fixed, so a kernel that is refused is refused again. A verdict is told
//! before the next kernel is tried, so that whoever listens knows what a process ended over.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::cases::{ProveOptions, Trial, trials};
use super::fixture::Fixture;
use super::mapped::{integers, magnitudes};
use super::subject::{Data, Subject};
use super::workbench::{Difference, Part, Workbench};
use crate::backend::cuda::choice::Chooser;
use crate::backend::cuda::device::CudaOptions;
use crate::backend::cuda::executor::Loaded;
use crate::backend::cuda::kernels::family::Family;
use crate::backend::cuda::kernels::packed::Packed;
use crate::backend::cuda::kernels::prove_abi;
use crate::backend::cuda::plan::Plan;
use crate::backend::cuda::sys::context::Context;
use crate::backend::cuda::sys::driver::Code;
use crate::backend::cuda::sys::memory::{DeviceMemory, no_room};
use crate::backend::cuda::tuning::Tuning;
use crate::backend::cuda::verdicts::{Case, Verdict, Verdicts};
use crate::error::{Error, Result};
use crate::lower::{DType, Steps, Work};
use crate::model::Model;

type Outcome<T> = std::result::Result<T, Flaw>;
/// Is told of a case when it is begun, and again with its verdict.
type Report<'a> = dyn FnMut(&Case, Option<&Verdict>) + 'a;

/// What memory is filled by.
const CHUNK_BYTES: usize = 16;
/// Repetitions are alone, with caches flushed, beside other work, or in a graph, as many of each.
const KIND_LEN: usize = 4;

/// Why a kernel is refused.
enum Flaw {
    /// It computes something else.
    Differs(String),
    /// The driver or the host ended it.
    Driver(Code),
    Host(Error),
}

impl From<Code> for Flaw {
    fn from(code: Code) -> Self {
        Self::Driver(code)
    }
}

impl From<Error> for Flaw {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs(how) => f.write_str(how),
            Self::Driver(code) => write!(f, "the driver says: {code}"),
            Self::Host(error) => error.fmt(f),
        }
    }
}

/// Tries every case of [`cases`](super::cases::cases) on the device, beside no engine of this
/// process, and tells `report`: of each when it is begun, and again with its verdict.
///
/// A kernel that faults or never ends takes the device's context, or this process, with it. Where
/// that matters, prove in a process of its own, as `twinstream prove` does; the case that was begun
/// last is the one to refuse.
///
/// # Errors
/// As [`cases`](super::cases::cases); `is_memory` where the device has no room; `is_device` where
/// it fails, also behind the verdict on a kernel that it failed over: nothing more is tried then.
pub fn prove(
    model: &Model,
    options: &CudaOptions,
    prove_options: &ProveOptions,
    report: &mut Report,
) -> Result<()> {
    let steps = options.steps(model, &model.network(options.height, options.width)?)?;
    let context = Context::new(options.device)?;
    let _pushed = context.push_current();
    let trials = trials(&steps, context.info(), options, prove_options)?;
    let Some(&longest) = trials.keys().last() else { return Ok(()) };
    let (untuned, unproven) = (Tuning::default(), Verdicts::default());
    let size = (options.height, options.width);
    let safe = Chooser::new(context.info(), size, (&untuned, &unproven));
    let plan = |(&batch_len, trials): (&usize, &Vec<Trial>)| {
        let mut plan = Plan::new(&steps, batch_len, &safe)?;
        for Trial { step, choice, .. } in trials {
            plan.make_room(&steps.list[*step], *step, *choice);
        }
        Ok(plan)
    };
    let mut plans = trials.iter().map(plan).collect::<Result<Vec<_>>>()?;
    // Room behind the longest that none of them may touch.
    plans.push(Plan::new(&steps, longest + 1, &safe)?);
    let mut prover = Prover::new(&context, model, (steps, plans), prove_options)?;
    for (plan, trials) in trials.into_values().enumerate() {
        prover.walk(plan, &trials, report)?;
    }
    Ok(())
}

/// What a family reads for a step: the model's weights, and in f16 those of exact data.
struct Filter {
    own: Packed,
    exact: Option<Packed>,
}

/// See the module.
struct Prover<'a> {
    workbench: Workbench,
    model: &'a Model,
    /// By step and the family's module: packing takes longer than proving.
    filters: BTreeMap<(usize, &'static str), Rc<Filter>>,
    /// The model's own normalisation of pixels.
    normalisation: ([f32; 3], [f32; 3]),
    /// The arena before the step, before the step ahead of it, and before the step with exact data.
    before: DeviceMemory,
    earlier: DeviceMemory,
    exact_before: DeviceMemory,
    /// Outputs of a step: those of the safe kernel, their sums' magnitudes, and the first ones of
    /// the kernel that is tried.
    expected: DeviceMemory,
    exact_expected: DeviceMemory,
    magnitudes: DeviceMemory,
    first: DeviceMemory,
    repeat_len: usize,
}

impl<'a> Prover<'a> {
    fn new(
        context: &Arc<Context>,
        model: &'a Model,
        (steps, plans): (Steps, Vec<Plan>),
        prove_options: &ProveOptions,
    ) -> Result<Self> {
        let &ProveOptions { repeat_len, flush_bytes, .. } = prove_options;
        let room_len = plans.last().map_or(0, |plan| plan.batch_len);
        let value_len = steps.list.iter().map(|step| step.output_shape.value_len()).max();
        let output_bytes = room_len * value_len.unwrap_or(0) * steps.list[0].dtype.size_bytes();
        let arena_bytes = room_len * steps.arena_bytes();
        let fixture = Fixture::new(context, model, (steps, plans))?;
        let make = || {
            let room = |bytes| DeviceMemory::new(context, bytes);
            Ok(Self {
                normalisation: fixture.executor().normalisation(),
                workbench: Workbench::new(context, fixture, flush_bytes)?,
                model,
                filters: BTreeMap::new(),
                before: room(arena_bytes)?,
                earlier: room(arena_bytes)?,
                exact_before: room(arena_bytes)?,
                expected: room(output_bytes)?,
                exact_expected: room(output_bytes)?,
                magnitudes: room(output_bytes)?,
                first: room(output_bytes)?,
                repeat_len,
            })
        };
        make().map_err(|code: Code| {
            let bytes = 3 * arena_bytes + 4 * output_bytes + flush_bytes;
            no_room(code, format_args!("{bytes} bytes to prove kernels in"))
        })
    }

    /// Goes through the network with safe kernels, and tries others where their step comes.
    fn walk(&mut self, plan: usize, trials: &[Trial], report: &mut Report) -> Result<()> {
        let proving = |code: Code| code.error("proving kernels");
        self.workbench.prepare(plan).map_err(proving)?;
        let executor = self.workbench.executor();
        let plan = executor.plans()[plan].clone();
        let choices = plan.choices.iter().enumerate();
        let safe = choices.map(|(step, &choice)| executor.launch(step, choice, plan.batch_len));
        let safe = safe.collect::<Result<Vec<Loaded>>>()?;
        let arena_bytes = (plan.batch_len + 1) * executor.steps().arena_bytes();
        let arena = |prover: &Self, to_before: bool| {
            let (arena, before) =
                (prover.workbench.arena(0..arena_bytes), Part::new(&prover.before, 0..arena_bytes));
            let (to, from) = if to_before { (before, arena) } else { (arena, before) };
            prover.workbench.copy(&to, &from)
        };
        let poison = prove_abi::TWINSTREAM_PROVE_ONES;
        self.workbench.fill(&self.workbench.arena(0..arena_bytes), poison).map_err(proving)?;
        let last = trials.iter().map(|trial| trial.step).max().unwrap_or(0);
        for index in 0..=last {
            std::mem::swap(&mut self.before, &mut self.earlier);
            arena(self, true).map_err(proving)?;
            let mut of_step = trials.iter().filter(|trial| trial.step == index).peekable();
            if of_step.peek().is_some() {
                let subject = Subject::new(self.workbench.executor(), (index, &plan), &safe);
                self.compute_expected(&subject)?;
                for trial in of_step {
                    self.try_one(&subject, trial, report)?;
                }
                self.workbench.describe(plan.batch_len).map_err(proving)?;
                arena(self, false).map_err(proving)?;
            }
            let launched = self.workbench.launch(&safe[index]);
            launched.and_then(|()| self.workbench.wait()).map_err(proving)?;
        }
        Ok(())
    }

    /// Judges a kernel; an error is that the device is lost over it.
    fn try_one(&mut self, subject: &Subject, trial: &Trial, report: &mut Report) -> Result<()> {
        report(&trial.case, None);
        let flaw = self.judge(subject, trial).err();
        let verdict = match &flaw {
            None => Verdict::Equal,
            Some(flaw) => Verdict::Refused(flaw.to_string()),
        };
        report(&trial.case, Some(&verdict));
        match flaw {
            Some(Flaw::Driver(code)) if code.is_lost() => {
                let Case { kernel, layer, .. } = &trial.case;
                Err(code.error(format_args!("proving {kernel} at {layer}")))
            }
            _ => Ok(()),
        }
    }

    /// What the safe kernel makes of both kinds of data, and how large the terms of its sums are.
    fn compute_expected(&mut self, subject: &Subject) -> Result<()> {
        let family = subject.safe_choice.family;
        let filter = self.filter(subject, family)?;
        let compute = |prover: &mut Self| -> Outcome<()> {
            prover.compute_safely(subject, |prover| &prover.expected)?;
            if subject.tolerance.is_some() {
                prover.restore(subject, Data::Real, subject.batch_len)?;
                prover.set_normalisation(Normalisation::Magnitude);
                let large = magnitudes(&filter.own);
                prover.workbench.write_weights(subject.index, family, &large)?;
                prover.compute_safely(subject, |prover| &prover.magnitudes)?;
                prover.set_normalisation(Normalisation::Own);
            }
            let values = match &filter.exact {
                Some(exact) => {
                    prover.workbench.write_weights(subject.index, family, exact)?;
                    prove_abi::TWINSTREAM_PROVE_SMALL_HALVES
                }
                None => prove_abi::TWINSTREAM_PROVE_BYTES,
            };
            let exact_before = Part::new(&prover.exact_before, subject.arena.clone());
            prover.workbench.fill(&exact_before, values)?;
            prover.use_data(subject, Data::Exact)?;
            prover.restore(subject, Data::Exact, subject.batch_len)?;
            prover.compute_safely(subject, |prover| &prover.exact_expected)?;
            prover.workbench.write_weights(subject.index, family, &filter.own)?;
            Ok(prover.use_data(subject, Data::Real)?)
        };
        compute(self).map_err(|flaw| match flaw {
            Flaw::Host(error) => error,
            Flaw::Driver(code) => code.error("proving kernels"),
            Flaw::Differs(_) => unreachable!("nothing was compared"),
        })
    }

    fn filter(&mut self, subject: &Subject, family: &'static dyn Family) -> Result<Rc<Filter>> {
        let key = (subject.index, family.module());
        if let Some(filter) = self.filters.get(&key) {
            return Ok(Rc::clone(filter));
        }
        let own = family.pack(self.model, &subject.step)?;
        let exact = (subject.step.dtype == DType::F16).then(|| integers(&own));
        let filter = Rc::new(Filter { own, exact });
        self.filters.insert(key, Rc::clone(&filter));
        Ok(filter)
    }

    /// Keeps the safe kernel's output.
    fn compute_safely(
        &self,
        subject: &Subject,
        to: impl Fn(&Self) -> &DeviceMemory,
    ) -> Outcome<()> {
        let Subject { index, safe_choice, batch_len, .. } = *subject;
        let launch = self.workbench.executor().launch(index, safe_choice, batch_len)?;
        self.workbench.launch(&launch)?;
        self.keep_output(subject, to(self))?;
        Ok(self.workbench.wait()?)
    }

    fn keep_output(&self, subject: &Subject, to: &DeviceMemory) -> std::result::Result<(), Code> {
        let to = Part::new(to, 0..subject.output.len());
        self.workbench.copy(&to, &self.workbench.arena(subject.output.clone()))
    }

    /// Both kinds of data, and the second again and again.
    fn judge(&mut self, subject: &Subject, trial: &Trial) -> Outcome<()> {
        let (index, family) = (subject.index, trial.choice.family);
        let filter = self.filter(subject, family)?;
        self.use_data(subject, Data::Exact)?;
        if let Some(exact) = &filter.exact {
            self.workbench.write_weights(index, family, exact)?;
        }
        let exact = self.try_lens(subject, trial, Data::Exact);
        if filter.exact.is_some() {
            self.workbench.write_weights(index, family, &filter.own)?;
        }
        self.use_data(subject, Data::Real)?;
        exact?;
        self.try_lens(subject, trial, Data::Real)?;
        self.try_again(subject, trial)
    }

    /// Batches of one image, of all but one, and full ones, these last.
    fn try_lens(&mut self, subject: &Subject, trial: &Trial, data: Data) -> Outcome<()> {
        let executor = self.workbench.executor();
        let launch = executor.launch(subject.index, trial.choice, subject.batch_len)?;
        let mut image_lens = vec![1, subject.batch_len - 1, subject.batch_len];
        image_lens.retain(|&image_len| image_len > 0);
        image_lens.dedup();
        for image_len in image_lens {
            self.restore(subject, data, image_len)?;
            self.workbench.launch(&launch)?;
            let images = if image_len == 1 { "image" } else { "images" };
            let of_data = match (data, subject.step.dtype) {
                (Data::Real, _) => "the network's own values",
                (Data::Exact, DType::F16) => "small integers",
                (Data::Exact, _) => "random values",
            };
            let what = format!("{image_len} {images}, {of_data}");
            self.check_output(subject, data, image_len, &what)?;
            self.check_rest(subject, data, image_len, &what)?;
        }
        Ok(())
    }

    /// The batch's images in the output are those of the safe kernel.
    fn check_output(
        &self,
        subject: &Subject,
        data: Data,
        image_len: usize,
        what: &str,
    ) -> Outcome<()> {
        let expected = match data {
            Data::Exact => &self.exact_expected,
            Data::Real => &self.expected,
        };
        let len_bytes = image_len * subject.image_bytes;
        let tolerance = subject.tolerance.filter(|_| data == Data::Real);
        let within = tolerance.map(|it| (Part::new(&self.magnitudes, 0..len_bytes), it));
        let start = subject.output.start;
        let found = self.workbench.arena(start..start + len_bytes);
        let pair = (found, Part::new(expected, 0..len_bytes), within);
        let value_bytes = subject.step.dtype.size_bytes();
        match self.workbench.compare(&[pair], value_bytes)?[0] {
            None => Ok(()),
            Some(Difference { len, first, worst }) => Err(Flaw::Differs(format!(
                "{len} of {} values differ, first at {first}, by up to {worst} ({what})",
                len_bytes / value_bytes
            ))),
        }
    }

    /// All else in the arena is as it was, but for images beyond the batch.
    fn check_rest(
        &self,
        subject: &Subject,
        data: Data,
        image_len: usize,
        what: &str,
    ) -> Outcome<()> {
        let rest = subject.rest(image_len);
        let pair = |part: &std::ops::Range<usize>| {
            let before = Part::new(self.arena_before(data), part.clone());
            (self.workbench.arena(part.clone()), before, None)
        };
        let differences = self.workbench.compare(&rest.iter().map(pair).collect::<Vec<_>>(), 1)?;
        let mut changed = rest.iter().zip(differences).filter_map(|(part, it)| Some((part, it?)));
        match changed.next() {
            None => Ok(()),
            Some((part, Difference { len, first, .. })) => Err(Flaw::Differs(format!(
                "it writes beyond its output: {len} bytes changed, the first at {} of the \
                 activations, where the output has {} to {} ({what})",
                part.start + first,
                subject.output.start,
                subject.output.end
            ))),
        }
    }

    /// Full batches must be the same bits again: with what is read in the cache and not, beside
    /// other work, and between its neighbours in a graph.
    fn try_again(&mut self, subject: &Subject, trial: &Trial) -> Outcome<()> {
        let Subject { index, batch_len, safe, .. } = *subject;
        let launch = self.workbench.executor().launch(index, trial.choice, batch_len)?;
        self.keep_output(subject, &self.first)?;
        let graph_len = self.repeat_len.div_ceil(KIND_LEN);
        for repeat in 0..self.repeat_len - graph_len {
            self.restore_output(subject, Data::Real)?;
            let how = match repeat % (KIND_LEN - 1) {
                0 => "alone",
                1 => {
                    self.workbench.flush()?;
                    "with caches flushed"
                }
                _ => {
                    self.workbench.disturb()?;
                    "beside other work"
                }
            };
            self.workbench.launch(&launch)?;
            self.check_again(subject, repeat, how)?;
        }
        let ahead = index.checked_sub(1).and_then(|ahead| safe.get(ahead));
        let neighbours = [ahead, Some(&launch), safe.get(index + 1)];
        let graph =
            self.workbench.capture(&neighbours.into_iter().flatten().collect::<Vec<_>>())?;
        let earlier = if ahead.is_some() { &self.earlier } else { &self.before };
        for repeat in 0..graph_len {
            let arena = subject.arena.clone();
            self.workbench
                .copy(&self.workbench.arena(arena.clone()), &Part::new(earlier, arena))?;
            self.workbench.replay(&graph)?;
            self.check_again(subject, repeat, "between its neighbours in a graph")?;
        }
        Ok(())
    }

    fn check_again(&self, subject: &Subject, repeat: usize, how: &str) -> Outcome<()> {
        let found = self.workbench.arena(subject.output.clone());
        let pair = (found, Part::new(&self.first, 0..subject.output.len()), None);
        let value_bytes = subject.step.dtype.size_bytes();
        match self.workbench.compare(&[pair], value_bytes)?[0] {
            None => Ok(()),
            Some(Difference { len, first, worst }) => Err(Flaw::Differs(format!(
                "{len} of {} values differ from those before, first at {first}, by up to {worst} \
                 (repetition {} {how})",
                subject.output.len() / value_bytes,
                repeat + 1
            ))),
        }
    }

    fn arena_before(&self, data: Data) -> &DeviceMemory {
        match data {
            Data::Exact => &self.exact_before,
            Data::Real => &self.before,
        }
    }

    /// The arena as it is before the step, without an output and images beyond the batch.
    fn restore(
        &mut self,
        subject: &Subject,
        data: Data,
        image_len: usize,
    ) -> std::result::Result<(), Code> {
        let before = Part::new(self.arena_before(data), subject.arena.clone());
        self.workbench.copy(&self.workbench.arena(subject.arena.clone()), &before)?;
        self.restore_output(subject, data)?;
        for range in subject.beyond(image_len) {
            self.workbench.fill(&self.workbench.arena(range), prove_abi::TWINSTREAM_PROVE_ONES)?;
        }
        self.workbench.describe(image_len)
    }

    fn restore_output(&self, subject: &Subject, data: Data) -> std::result::Result<(), Code> {
        let output = self.workbench.arena(subject.output.clone());
        if subject.is_in_place {
            let before = Part::new(self.arena_before(data), subject.output.clone());
            return self.workbench.copy(&output, &before);
        }
        self.workbench.fill(&output, prove_abi::TWINSTREAM_PROVE_ONES)
    }

    /// Images and their normalisation, where the step reads these, for launches that are made from
    /// now on. Those of 8-bit integers are noise in any case.
    fn use_data(&mut self, subject: &Subject, data: Data) -> std::result::Result<(), Code> {
        if !matches!(subject.step.work, Work::Stem { .. }) || subject.step.dtype != DType::F16 {
            return Ok(());
        }
        if data == Data::Real {
            self.set_normalisation(Normalisation::Own);
            return self.workbench.upload();
        }
        self.set_normalisation(Normalisation::None);
        let executor = self.workbench.executor();
        let len_bytes = subject.batch_len * executor.stride_bytes();
        let images = Part::new(executor.images(), 0..len_bytes.next_multiple_of(CHUNK_BYTES));
        self.workbench.fill(&images, prove_abi::TWINSTREAM_PROVE_SMALL_BYTES)
    }

    fn set_normalisation(&mut self, normalisation: Normalisation) {
        let (scale, shift) = self.normalisation;
        let largest = |at: usize| shift[at].abs().max((255.0 * scale[at] + shift[at]).abs());
        let normalisation = match normalisation {
            Normalisation::Own => self.normalisation,
            Normalisation::None => ([1.0; 3], [0.0; 3]),
            Normalisation::Magnitude => ([0.0; 3], std::array::from_fn(largest)),
        };
        self.workbench.executor_mut().set_normalisation(normalisation);
    }
}

/// What pixels become.
enum Normalisation {
    /// What the model says.
    Own,
    /// Their numbers.
    None,
    /// The largest magnitude that the model gives any.
    Magnitude,
}
