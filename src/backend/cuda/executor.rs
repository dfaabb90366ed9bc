//! The network on a device: packed weights, memory, and the launches of each batch bucket.
//!
//! Invariant: after [`Executor::new`] nothing is allocated, on host or device; launches point into
//! memory that the executor owns, and are put on one stream by its owner, one batch at a time.

use std::sync::Arc;

use super::choice::Choice;
use super::context::{Context, Function};
use super::driver::Code;
use super::launch as abi;
use super::memory::{DeviceMemory, PinnedMemory};
use super::plan::{Plan, VALUE_BYTES};
use super::stream::{KernelLaunch, Stream};
use super::weights::{Packed, pack_conv, pack_fully_connected, pack_stem};
use crate::error::{Error, Kind, Result};
use crate::lower::{ConvStep, Step, Steps, Work};
use crate::model::{Answer, Model, ModelConfig};

/// Buffers that results alternate between: so many batches await or undergo their download.
pub(super) const RESULT_LEN: usize = abi::TWINSTREAM_RESULT_LEN as usize;
/// What starts at a multiple of this suits every kernel.
const ALIGN_BYTES: usize = 256;
/// Words of a batch's description: its length, its result buffer and the slots.
const BATCH_WORD_LEN: usize = size_of::<abi::twinstream_batch>() / size_of::<u32>();
/// Channels that a block of the average pool takes.
const POOL_CHANNEL_LEN: usize = 64;

/// Filters on the device, by step.
pub(super) struct Weights {
    memory: DeviceMemory,
    /// Where weights and bias of a step begin, in bytes; both 0 where it has none.
    places: Vec<(usize, usize)>,
}

impl Weights {
    /// Packs and uploads all filters, one after another. The context is current.
    pub(super) fn new(context: &Arc<Context>, model: &Model, steps: &Steps) -> Result<Self> {
        let mut len_bytes = 0;
        let mut take = |bytes: usize| {
            let place = len_bytes;
            len_bytes += bytes.next_multiple_of(ALIGN_BYTES);
            place
        };
        let places = steps.list.iter().map(|step| match filter_len(step) {
            (0, 0) => (0, 0),
            (weight_len, bias_len) => {
                (take(weight_len * VALUE_BYTES), take(bias_len * size_of::<f32>()))
            }
        });
        let places: Vec<_> = places.collect();
        let memory = DeviceMemory::new(context, len_bytes)
            .map_err(|code| no_room(code, format_args!("{len_bytes} bytes of weights")))?;
        for (step, &(weights, bias)) in steps.list.iter().zip(&places) {
            let packed = match &step.work {
                Work::Stem { filter, .. } => pack_stem(model, *filter)?,
                Work::Conv(conv) => pack_conv(model, &step.name, conv)?,
                Work::FullyConnected { filter, .. } => pack_fully_connected(model, *filter)?,
                Work::AveragePool { .. } => continue,
            };
            let Packed { weights: values, bias: biases } = packed;
            debug_assert_eq!((values.len(), biases.len()), filter_len(step), "{}", step.name);
            memory
                .write(weights, bytemuck::cast_slice(&bits(&values)))
                .and_then(|()| memory.write(bias, bytemuck::cast_slice(&biases)))
                .map_err(|code| code.error(format!("uploading the weights of {}", step.name)))?;
        }
        Ok(Self { memory, places })
    }

    fn addresses(&self, step: usize) -> (u64, u64) {
        let (weights, bias) = self.places[step];
        (self.memory.range(weights, 0), self.memory.range(bias, 0))
    }
}

fn bits(values: &[half::f16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Values of a step's weights and bias as they are packed.
fn filter_len(step: &Step) -> (usize, usize) {
    match &step.work {
        Work::Stem { .. } => (64 * 7 * 8 * 4, 64),
        Work::Conv(conv) => {
            let outputs = conv.output_shape.channels;
            (outputs * conv.sum_len(), outputs)
        }
        Work::AveragePool { .. } => (0, 0),
        Work::FullyConnected { channels, class_count, .. } => {
            (channels * class_count, *class_count)
        }
    }
}

fn no_room(code: Code, what: std::fmt::Arguments) -> Error {
    if !code.is_memory() {
        return code.error("allocating device memory");
    }
    let free = cust::memory::mem_get_info().map_or(0, |(free, _)| free);
    Error::new(Kind::Memory, format!("the device has no room for {what}: {free} bytes are free"))
}

/// The input ring, on the device as on the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    pub(super) len: usize,
    /// From one image to the next.
    pub(super) stride_bytes: usize,
}

/// Bytes of device memory that an engine needs.
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
    /// Of these plans, beside an input ring of `images` bytes.
    pub(super) fn new(steps: &Steps, plans: &[Plan], answer: Answer, images: usize) -> Self {
        let batch_len = plans.iter().map(|plan| plan.batch_len).max().unwrap_or(0);
        let filters = steps.list.iter().map(|step| {
            let (weight_len, bias_len) = filter_len(step);
            (weight_len * VALUE_BYTES).next_multiple_of(ALIGN_BYTES)
                + (bias_len * size_of::<f32>()).next_multiple_of(ALIGN_BYTES)
        });
        Self {
            weights: filters.sum(),
            images,
            activations: steps.arena_len * VALUE_BYTES * batch_len,
            workspace: partials_bytes(plans) + arrival_len(plans) * size_of::<u32>(),
            results: RESULT_LEN * batch_len * (logits_bytes(steps) + best_bytes(answer)),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.weights + self.images + self.activations + self.workspace + self.results
    }
}

fn partials_bytes(plans: &[Plan]) -> usize {
    plans.iter().map(|plan| plan.partials_bytes).max().unwrap_or(0)
}

fn arrival_len(plans: &[Plan]) -> usize {
    plans.iter().map(|plan| plan.arrival_len).max().unwrap_or(0)
}

/// Of one image's logits.
fn logits_bytes(steps: &Steps) -> usize {
    steps.class_count() * size_of::<f32>()
}

/// Of one image's best classes, where these are asked for.
fn best_bytes(answer: Answer) -> usize {
    match answer {
        Answer::Logits => 0,
        Answer::TopK(count) => count * size_of::<abi::twinstream_class>(),
    }
}

/// A kernel's parameters.
#[derive(Clone, Copy)]
enum Params {
    Describe(abi::twinstream_describe_params),
    Stem(abi::twinstream_stem_params),
    Conv(abi::twinstream_conv_params),
    AveragePool(abi::twinstream_average_pool_params),
    FullyConnected(abi::twinstream_fully_connected_params),
    TopK(abi::twinstream_top_k_params),
}

impl Params {
    /// The file of `cuda/` whose kernels take them.
    fn module(&self) -> &'static str {
        match self {
            Self::Describe(_) => "describe",
            Self::Stem(_) => "stem",
            Self::Conv(_) => "conv",
            Self::AveragePool(_) => "average_pool",
            Self::FullyConnected(_) => "fully_connected",
            Self::TopK(_) => "top_k",
        }
    }
}

/// One kernel with all that it needs.
#[derive(Clone, Copy)]
pub(super) struct Launch {
    kernel: KernelLaunch,
    params: Params,
}

/// Memory of the device, and everything that is launched on it.
pub(super) struct Executor {
    context: Arc<Context>,
    weights: Weights,
    steps: Steps,
    plans: Vec<Plan>,
    batch_len_max: usize,
    /// By plan, in order: the description's, the steps', what the answer takes.
    launches: Vec<Vec<Launch>>,
    answer: Answer,
    scale: [f32; 3],
    shift: [f32; 3],
    images: DeviceMemory,
    stride_bytes: usize,
    arena: DeviceMemory,
    partials: DeviceMemory,
    arrivals: DeviceMemory,
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
        let sizes = Sizes::new(&steps, &plans, answer, slots.len * slots.stride_bytes);
        let batch_len_max = plans.last().map_or(0, |plan| plan.batch_len);
        let room = |bytes| DeviceMemory::new(context, bytes);
        let allocate = || {
            let arrivals = room(arrival_len(&plans) * size_of::<u32>())?;
            // Each launch leaves them at zero again.
            arrivals.clear()?;
            Ok((
                room(sizes.images)?,
                room(sizes.activations)?,
                (room(partials_bytes(&plans))?, arrivals),
                room(RESULT_LEN * batch_len_max * logits_bytes(&steps))?,
                room(RESULT_LEN * batch_len_max * best_bytes(answer))?,
                room(BATCH_WORD_LEN * size_of::<u32>())?,
                PinnedMemory::new(context, BATCH_WORD_LEN)?,
            ))
        };
        let (images, arena, (partials, arrivals), logits, best, batch, description) =
            allocate().map_err(|code| no_room(code, format_args!("{sizes:?} (bytes)")))?;
        let mut executor = Self {
            context: Arc::clone(context),
            weights,
            launches: Vec::new(),
            answer,
            scale: std::array::from_fn(|c| 1.0 / (255.0 * config.std[c])),
            shift: std::array::from_fn(|c| -config.mean[c] / config.std[c]),
            steps,
            batch_len_max,
            plans: Vec::new(),
            images,
            stride_bytes: slots.stride_bytes,
            arena,
            partials,
            arrivals,
            logits,
            best,
            batch,
            description,
        };
        for plan in &plans {
            let launches = plan
                .choices
                .iter()
                .enumerate()
                .map(|(step, &choice)| executor.launch(step, choice, plan.batch_len));
            let launches = std::iter::once(executor.description()).chain(launches);
            let launches = launches.chain(executor.top_k(plan.batch_len));
            let launches = launches.collect::<std::result::Result<_, Code>>();
            let launches = launches.map_err(|code| code.error("finding the kernels"))?;
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
            Answer::Logits => self.logits_stride_bytes(),
            Answer::TopK(_) => self.batch_len_max * best_bytes(self.answer),
        }
    }

    fn logits_stride_bytes(&self) -> usize {
        self.batch_len_max * logits_bytes(&self.steps)
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

    /// Says what the next batch consists of. That of the one before was read.
    pub(super) fn describe(&mut self, result: usize, slots: &[u32]) {
        let words = self.description.words_mut();
        words[0] = slots.len() as u32;
        words[1] = result as u32;
        words[2..2 + slots.len()].copy_from_slice(slots);
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
        launch: &Launch,
        stream: &Stream,
    ) -> std::result::Result<(), Code> {
        let kernel = &launch.kernel;
        // SAFETY: each kernel was paired with its own parameters; the caller vouches for the rest.
        unsafe {
            match &launch.params {
                Params::Describe(params) => stream.launch(kernel, params),
                Params::Stem(params) => stream.launch(kernel, params),
                Params::Conv(params) => stream.launch(kernel, params),
                Params::AveragePool(params) => stream.launch(kernel, params),
                Params::FullyConnected(params) => stream.launch(kernel, params),
                Params::TopK(params) => stream.launch(kernel, params),
            }
        }
    }

    /// Brings the description to the device.
    ///
    /// # Safety
    /// As for [`Executor::enqueue`].
    pub(super) unsafe fn enqueue_description(
        &self,
        stream: &Stream,
    ) -> std::result::Result<(), Code> {
        // SAFETY: as the caller vouches.
        unsafe { self.enqueue_launch(&self.description()?, stream) }
    }

    /// The launch that brings the description to the device.
    fn description(&self) -> std::result::Result<Launch, Code> {
        let (source, _) = self.description.range(0, self.description.len_bytes());
        let params = abi::twinstream_describe_params {
            // Page-locked memory has the same address on the device.
            source: source.addr() as u64,
            batch: self.batch.address(),
        };
        let sizes = (abi::TWINSTREAM_DESCRIBE_THREADS, abi::TWINSTREAM_DESCRIBE_SHARED_BYTES);
        self.pair("describe", [1, 1, 1], sizes, Params::Describe(params))
    }

    /// The launch of a step for batches up to a length, tiled as chosen.
    pub(super) fn launch(
        &self,
        step: usize,
        choice: Option<Choice>,
        batch_len: usize,
    ) -> std::result::Result<Launch, Code> {
        let images = batch_len as u32;
        match (&self.steps.list[step].work, choice) {
            (Work::Conv(conv), Some(choice)) => self.conv(step, conv, choice, batch_len),
            (Work::Conv(_), None) => unreachable!("every convolution was given a tile"),
            (Work::Stem { .. }, _) => self.stem(step, images),
            (&Work::AveragePool { input, input_shape }, _) => {
                let params = abi::twinstream_average_pool_params {
                    input: self.activation(input, batch_len),
                    output: self.activation(step, batch_len),
                    batch: self.batch.address(),
                    pixels: input_shape.pixel_len() as u32,
                    channels: input_shape.channels as u32,
                };
                let grid = [(input_shape.channels / POOL_CHANNEL_LEN) as u32, images, 1];
                let sizes = (
                    abi::TWINSTREAM_AVERAGE_POOL_THREADS,
                    abi::TWINSTREAM_AVERAGE_POOL_SHARED_BYTES,
                );
                self.pair("average_pool", grid, sizes, Params::AveragePool(params))
            }
            (&Work::FullyConnected { input, channels, class_count, .. }, _) => {
                let (weights, bias) = self.weights.addresses(step);
                let params = abi::twinstream_fully_connected_params {
                    input: self.activation(input, batch_len),
                    weights,
                    bias,
                    logits: self.logits.address(),
                    batch: self.batch.address(),
                    result_bytes: self.logits_stride_bytes() as u64,
                    channels: channels as u32,
                    classes: class_count as u32,
                };
                let classes =
                    (class_count as u32).div_ceil(abi::TWINSTREAM_FULLY_CONNECTED_CLASSES);
                let grid = [classes, images.div_ceil(abi::TWINSTREAM_FULLY_CONNECTED_IMAGES), 1];
                let sizes = (
                    abi::TWINSTREAM_FULLY_CONNECTED_THREADS,
                    abi::TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES,
                );
                self.pair("fully_connected", grid, sizes, Params::FullyConnected(params))
            }
        }
    }

    /// The launch that ranks the classes, where they are the answer.
    fn top_k(&self, batch_len: usize) -> Option<std::result::Result<Launch, Code>> {
        let Answer::TopK(count) = self.answer else { return None };
        let params = abi::twinstream_top_k_params {
            logits: self.logits.address(),
            best: self.best.address(),
            batch: self.batch.address(),
            logits_result_bytes: self.logits_stride_bytes() as u64,
            best_result_bytes: self.result_stride_bytes() as u64,
            classes: self.steps.class_count() as u32,
            k: count as u32,
        };
        let sizes = (abi::TWINSTREAM_TOP_K_THREADS, abi::TWINSTREAM_TOP_K_SHARED_BYTES);
        Some(self.pair("top_k", [batch_len as u32, 1, 1], sizes, Params::TopK(params)))
    }

    fn stem(&self, step: usize, images: u32) -> std::result::Result<Launch, Code> {
        let Step { work, output_shape, .. } = &self.steps.list[step];
        let &Work::Stem { input_shape, conv_shape, .. } = work else {
            unreachable!("asked for the stem")
        };
        let (weights, bias) = self.weights.addresses(step);
        let params = abi::twinstream_stem_params {
            images: self.images.address(),
            batch: self.batch.address(),
            weights,
            bias,
            output: self.activation(step, images as usize),
            image_bytes: self.stride_bytes as u64,
            scale: self.scale,
            shift: self.shift,
            height: input_shape.height as u32,
            width: input_shape.width as u32,
            conv_height: conv_shape.height as u32,
            conv_width: conv_shape.width as u32,
            pooled_height: output_shape.height as u32,
            pooled_width: output_shape.width as u32,
        };
        let down = params.pooled_height.div_ceil(abi::TWINSTREAM_STEM_POOLED_HEIGHT);
        let across = params.pooled_width.div_ceil(abi::TWINSTREAM_STEM_POOLED_WIDTH);
        let sizes = (abi::TWINSTREAM_STEM_THREADS, abi::TWINSTREAM_STEM_SHARED_BYTES);
        self.pair("stem", [down * across, images, 1], sizes, Params::Stem(params))
    }

    fn conv(
        &self,
        step: usize,
        conv: &ConvStep,
        choice: Choice,
        batch_len: usize,
    ) -> std::result::Result<Launch, Code> {
        let (weights, bias) = self.weights.addresses(step);
        let is_split = choice.split_len > 1;
        let activation = |input| self.activation(input, batch_len);
        let shortcut_shape = conv.shortcut.map(|shortcut| shortcut.input_shape);
        let params = abi::twinstream_conv_params {
            input: activation(conv.input),
            weights,
            bias,
            residual: conv.residual.map_or(0, activation),
            shortcut: conv.shortcut.map_or(0, |shortcut| activation(shortcut.input)),
            output: activation(step),
            batch: self.batch.address(),
            partials: if is_split { self.partials.address() } else { 0 },
            arrivals: if is_split { self.arrivals.address() } else { 0 },
            input_height: conv.input_shape.height as u32,
            input_width: conv.input_shape.width as u32,
            channels: conv.input_shape.channels as u32,
            output_height: conv.output_shape.height as u32,
            output_width: conv.output_shape.width as u32,
            output_channels: conv.output_shape.channels as u32,
            stride: conv.conv.stride as u32,
            padding: conv.conv.padding as u32,
            tap_row_first: conv.rows.first as u32,
            tap_rows: conv.rows.len as u32,
            tap_column_first: conv.columns.first as u32,
            tap_columns: conv.columns.len as u32,
            shortcut_height: shortcut_shape.map_or(0, |shape| shape.height as u32),
            shortcut_width: shortcut_shape.map_or(0, |shape| shape.width as u32),
            shortcut_channels: shortcut_shape.map_or(0, |shape| shape.channels as u32),
            shortcut_stride: conv.shortcut.map_or(0, |shortcut| shortcut.stride as u32),
            relu: conv.conv.relu.into(),
            split_len: choice.split_len,
        };
        let tile = choice.tile();
        let sizes = (tile.thread_len, tile.shared_bytes);
        self.pair(tile.name, choice.grid(conv, batch_len), sizes, Params::Conv(params))
    }

    /// Where a step's output begins for batches of a length.
    fn activation(&self, step: usize, batch_len: usize) -> u64 {
        let offset = self.steps.list[step].offset * VALUE_BYTES * batch_len;
        let len = self.steps.list[step].output_shape.value_len() * VALUE_BYTES * batch_len;
        self.arena.range(offset, len)
    }

    fn pair(
        &self,
        name: &str,
        grid: [u32; 3],
        (thread_len, shared_bytes): (u32, u32),
        params: Params,
    ) -> std::result::Result<Launch, Code> {
        let found = self.context.function(params.module(), name, shared_bytes)?;
        let Function { handle: function, waits } = found;
        // A batch begins when the one before has ended, whose description it overwrites.
        let is_dependent = waits && !matches!(params, Params::Describe(_));
        let kernel = KernelLaunch { function, grid, thread_len, shared_bytes, is_dependent };
        Ok(Launch { kernel, params })
    }
}
