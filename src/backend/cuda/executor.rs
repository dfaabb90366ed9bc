//! The network on a device: its memory, and the launches of each batch bucket.
//!
//! Invariant: after [`Executor::new`] nothing is allocated, on host or device; launches point into
//! memory that the executor owns, and are put on one stream by its owner, one batch at a time.

use std::ops::Range;
use std::sync::Arc;

use super::kernels::family::{Arguments, Choice, Family};
use super::kernels::launch::{Launch, Params};
use super::kernels::packed::Packed;
use super::kernels::{abi, describe, top_k};
use super::plan::Plan;
use super::sizes::{Buffers, RESULT_LEN, Sizes};
use super::sys::context::{Context, Function};
use super::sys::driver::Code;
use super::sys::memory::{DeviceMemory, PinnedMemory, no_room};
use super::sys::stream::{KernelLaunch, Stream};
use super::weights::Weights;
use crate::error::Result;
use crate::lower::{Steps, Work};
use crate::model::{Answer, ModelConfig};

/// Words of a batch's description: its length, its result buffer and the slots.
const BATCH_WORD_LEN: usize = size_of::<abi::twinstream_batch>() / size_of::<u32>();

/// The input ring, on the device as on the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    pub(super) len: usize,
    /// From one image to the next.
    pub(super) stride_bytes: usize,
}

/// A launch whose kernel is on the device.
pub(super) struct Loaded {
    kernel: KernelLaunch,
    params: Box<dyn Params>,
}

/// Images that launches compute together: of a batch, or of a chunk of one.
struct Span {
    /// Images at most.
    len: usize,
    /// Where their description is.
    batch: u64,
    /// Where each step's output begins.
    outputs: Vec<u64>,
}

/// Memory of the device, and everything that is launched on it.
pub(super) struct Executor {
    context: Arc<Context>,
    weights: Weights,
    steps: Steps,
    plans: Vec<Plan>,
    /// By plan, in order: the descriptions', the steps', the first ones' once a chunk, and what the
    /// answer takes.
    launches: Vec<Vec<Loaded>>,
    answer: Answer,
    scale: [f32; 3],
    shift: [f32; 3],
    buffers: Buffers,
    images: DeviceMemory,
    stride_bytes: usize,
    arena: DeviceMemory,
    partials: DeviceMemory,
    semaphores: DeviceMemory,
    logits: DeviceMemory,
    /// Empty where logits are the answer.
    best: DeviceMemory,
    batch: DeviceMemory,
    /// What the first kernel copies to `batch`.
    description: PinnedMemory,
}

// SAFETY: its handles and addresses are those of things that it owns or that its context holds, and
// the driver takes them on any thread.
unsafe impl Send for Executor {}

impl Executor {
    /// Makes room for the images of `slots` and the longest of the plans' batches. The context is
    /// current.
    pub(super) fn new(
        context: &Arc<Context>,
        (weights, config): (Weights, &ModelConfig),
        (steps, plans): (Steps, Vec<Plan>),
        (answer, slots): (Answer, Slots),
    ) -> Result<Self> {
        let buffers = Buffers::new(&steps, &plans, answer, slots.len * slots.stride_bytes);
        let room = |bytes| DeviceMemory::new(context, bytes);
        let word_len = plans.iter().map(description_len).max().unwrap_or(1) * BATCH_WORD_LEN;
        let allocate = || {
            let semaphores = room(buffers.semaphores)?;
            // Each launch leaves them at zero again.
            semaphores.clear()?;
            Ok((
                room(buffers.images)?,
                room(buffers.arena)?,
                (room(buffers.partials)?, semaphores),
                room(RESULT_LEN * buffers.logits)?,
                room(RESULT_LEN * buffers.best)?,
                room(word_len * size_of::<u32>())?,
                PinnedMemory::new(context, word_len)?,
            ))
        };
        let (images, arena, (partials, semaphores), logits, best, batch, description) = allocate()
            .map_err(|code| {
                let sizes = Sizes::new(weights.layout(), &buffers);
                no_room(code, format_args!("{sizes:?} (bytes)"))
            })?;
        let mut executor = Self {
            context: Arc::clone(context),
            weights,
            launches: Vec::new(),
            answer,
            scale: std::array::from_fn(|c| 1.0 / (255.0 * config.std[c])),
            shift: std::array::from_fn(|c| -config.mean[c] / config.std[c]),
            steps,
            plans: Vec::new(),
            buffers,
            images,
            stride_bytes: slots.stride_bytes,
            arena,
            partials,
            semaphores,
            logits,
            best,
            batch,
            description,
        };
        for plan in &plans {
            let launches = executor.load_plan(plan)?;
            executor.launches.push(launches);
        }
        executor.plans = plans;
        // Weights and zeros are there before any stream reads them.
        context.synchronize().map_err(|code| code.error("uploading the weights"))?;
        Ok(executor)
    }

    /// The input ring.
    pub(super) fn images(&self) -> &DeviceMemory {
        &self.images
    }

    /// All activations.
    pub(super) fn arena(&self) -> &DeviceMemory {
        &self.arena
    }

    /// Factors and summands of pixels, by colour.
    pub(super) fn normalisation(&self) -> ([f32; 3], [f32; 3]) {
        (self.scale, self.shift)
    }

    /// Replaces them for launches that are made from now on.
    pub(super) fn set_normalisation(&mut self, (scale, shift): ([f32; 3], [f32; 3])) {
        (self.scale, self.shift) = (scale, shift);
    }

    /// Replaces what a family reads for a step. No work is under way.
    pub(super) fn write_weights(
        &self,
        step: usize,
        family: &dyn Family,
        packed: &Packed,
    ) -> std::result::Result<(), Code> {
        self.weights.replace(step, family, packed)?;
        self.context.synchronize()
    }

    /// From one image of the input ring to the next.
    pub(super) fn stride_bytes(&self) -> usize {
        self.stride_bytes
    }

    /// The result buffers.
    pub(super) fn results(&self) -> &DeviceMemory {
        match self.answer {
            Answer::Logits => &self.logits,
            Answer::TopK(_) => &self.best,
        }
    }

    /// From one result buffer to the next, in bytes.
    pub(super) fn result_stride_bytes(&self) -> usize {
        match self.answer {
            Answer::Logits => self.buffers.logits,
            Answer::TopK(_) => self.buffers.best,
        }
    }

    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    pub(super) fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The shortest plan that a batch fits into.
    pub(super) fn plan_for(&self, batch_len: usize) -> usize {
        let plan = self.plans.iter().position(|plan| batch_len <= plan.batch_len);
        plan.expect("no batch is longer than the longest plan")
    }

    /// Says what the next batch consists of, and each of its plan's chunks. That of the one before
    /// was read.
    pub(super) fn describe(&mut self, plan: usize, result: usize, slots: &[u32]) {
        let plan = &self.plans[plan];
        let spans = std::iter::once(0..plan.batch_len).chain(plan.chunks());
        let descriptions = self.description.words_mut().chunks_exact_mut(BATCH_WORD_LEN);
        for (words, images) in descriptions.zip(spans) {
            let slots = &slots[images.start.min(slots.len())..images.end.min(slots.len())];
            words[0] = slots.len() as u32;
            words[1] = result as u32;
            words[2..2 + slots.len()].copy_from_slice(slots);
        }
    }

    /// Puts a plan's work on a stream.
    ///
    /// # Safety
    /// The executor lives, and neither its memory nor the description is used otherwise, until the
    /// work was seen to be over, each time it is done where a graph captures it.
    pub(super) unsafe fn enqueue(
        &self,
        plan: usize,
        stream: &Stream,
    ) -> std::result::Result<(), Code> {
        // SAFETY: as the caller vouches.
        unsafe {
            self.launches[plan].iter().try_for_each(|launch| self.enqueue_launch(launch, stream))
        }
    }

    /// Puts one launch on a stream.
    ///
    /// # Safety
    /// As for [`Executor::enqueue`].
    pub(super) unsafe fn enqueue_launch(
        &self,
        launch: &Loaded,
        stream: &Stream,
    ) -> std::result::Result<(), Code> {
        // SAFETY: each family pairs its kernels with their own parameters; the caller vouches for
        // what these point to.
        unsafe { stream.launch(&launch.kernel, launch.params.pointer()) }
    }

    /// Brings the descriptions of a plan's batch to the device.
    ///
    /// # Safety
    /// As for [`Executor::enqueue`].
    pub(super) unsafe fn enqueue_description(
        &self,
        plan: usize,
        stream: &Stream,
    ) -> std::result::Result<(), Code> {
        let launch = self.find(self.description(&self.plans[plan]))?;
        // SAFETY: as the caller vouches.
        unsafe { self.enqueue_launch(&launch, stream) }
    }

    /// All launches of a batch, in order.
    fn load_plan(&self, plan: &Plan) -> Result<Vec<Loaded>> {
        let mut launches = vec![self.load(self.description(plan))?];
        let mut steps = 0..plan.choices.len();
        for (index, images) in plan.chunks().enumerate() {
            let chunk = self.chunk(plan, index, images);
            for step in 0..plan.chunked_len {
                launches.push(self.launch_of(step, plan.choices[step], &chunk)?);
            }
            steps.start = plan.chunked_len;
        }
        let batch = self.whole(plan.batch_len);
        for step in steps {
            launches.push(self.launch_of(step, plan.choices[step], &batch)?);
        }
        if let Some(launch) = self.top_k(plan.batch_len) {
            launches.push(self.load(launch)?);
        }
        Ok(launches)
    }

    /// The launch that brings the descriptions of a plan's batch to the device.
    fn description(&self, plan: &Plan) -> Launch {
        let (source, _) = self.description.range(0, self.description.len_bytes());
        let len = description_len(plan) as u32;
        // Page-locked memory has the same address on the device.
        describe::launch(source.addr() as u64, self.batch.address(), len)
    }

    /// The launch that ranks the classes, where they are the answer.
    fn top_k(&self, batch_len: usize) -> Option<Launch> {
        let Answer::TopK(count) = self.answer else { return None };
        let params = abi::twinstream_top_k_params {
            logits: self.logits.address(),
            best: self.best.address(),
            batch: self.batch.address(),
            logits_result_bytes: self.buffers.logits as u64,
            best_result_bytes: self.buffers.best as u64,
            classes: self.steps.class_count() as u32,
            k: count as u32,
        };
        Some(top_k::launch(batch_len, params))
    }

    /// The launch of a step for batches up to a length, as chosen.
    pub(super) fn launch(&self, step: usize, choice: Choice, batch_len: usize) -> Result<Loaded> {
        self.launch_of(step, choice, &self.whole(batch_len))
    }

    fn launch_of(&self, step: usize, choice: Choice, span: &Span) -> Result<Loaded> {
        let (weights, bias) = self.weights.addresses(step, choice.family);
        let arguments = Arguments {
            device: self.context.info(),
            images: self.images.address(),
            image_stride_bytes: self.stride_bytes as u64,
            scale: self.scale,
            shift: self.shift,
            batch: span.batch,
            weights,
            bias,
            output: span.outputs[step],
            outputs: &span.outputs,
            logits_stride_bytes: self.buffers.logits as u64,
            partials: self.partials.address(),
            semaphores: self.semaphores.address(),
        };
        let step = &self.steps.list[step];
        self.load(choice.family.launch(choice, step, span.len, &arguments)?)
    }

    /// All images of batches of a length.
    fn whole(&self, batch_len: usize) -> Span {
        let outputs = (0..self.steps.list.len()).map(|step| self.output(step, batch_len));
        Span { len: batch_len, batch: self.batch.address(), outputs: outputs.collect() }
    }

    /// A chunk of a plan's batches. What its last step writes is where the batch's next one reads
    /// it; all else lies behind the batch's activations, in the same place for each chunk, so that
    /// the level-2 cache holds it.
    fn chunk(&self, plan: &Plan, index: usize, images: Range<usize>) -> Span {
        let mut span = self.whole(plan.batch_len);
        let first_bytes = plan.batch_len * self.steps.arena_bytes();
        let last = plan.chunked_len - 1;
        for (step, output) in span.outputs[..last].iter_mut().enumerate() {
            let ((memory, offset_bytes), image_bytes) = self.first_output(step, images.len());
            *output = memory.range(first_bytes + offset_bytes, image_bytes * images.len());
        }
        let (_, image_bytes) = self.first_output(last, plan.batch_len);
        span.outputs[last] += (images.start * image_bytes) as u64;
        span.len = images.len();
        span.batch += ((1 + index) * size_of::<abi::twinstream_batch>()) as u64;
        span
    }

    /// Where a step's output begins for batches of a length.
    fn output(&self, step: usize, batch_len: usize) -> u64 {
        let ((memory, offset_bytes), image_bytes) = self.first_output(step, batch_len);
        memory.range(offset_bytes, image_bytes * batch_len)
    }

    /// What a step writes for the first image of batches of a length: memory with an offset, and
    /// length, in bytes. Of logits, those of the first result buffer.
    pub(super) fn first_output(
        &self,
        step: usize,
        batch_len: usize,
    ) -> ((&DeviceMemory, usize), usize) {
        let step = &self.steps.list[step];
        let value_len = step.output_shape.value_len();
        if let Work::FullyConnected { .. } = step.work {
            return ((&self.logits, 0), value_len * size_of::<f32>());
        }
        let value_bytes = step.dtype.size_bytes();
        ((&self.arena, step.offset * batch_len * value_bytes), value_len * value_bytes)
    }

    /// Finds a launch's kernel on the device, or names it.
    fn load(&self, launch: Launch) -> Result<Loaded> {
        let name = launch.kernel.name;
        self.find(launch).map_err(|code| code.error(format_args!("finding the kernel {name}")))
    }

    /// Finds a launch's kernel on the device.
    pub(super) fn find(&self, launch: Launch) -> std::result::Result<Loaded, Code> {
        let Launch { kernel, grid, cluster_len, params, may_overlap } = launch;
        let found = self.context.function(kernel.module, kernel.name, kernel.shared_bytes)?;
        let Function { handle: function, waits } = found;
        let kernel = KernelLaunch {
            function,
            grid,
            thread_len: kernel.thread_len,
            shared_bytes: kernel.shared_bytes,
            cluster_len,
            is_dependent: waits && may_overlap,
        };
        Ok(Loaded { kernel, params })
    }
}

/// Descriptions of a plan's batch: its own and those of its chunks.
fn description_len(plan: &Plan) -> usize {
    1 + plan.chunks().count()
}
