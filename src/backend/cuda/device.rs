//! The GPU as an asynchronous device: three streams, one graph a batch bucket, results that leave
//! the device as soon as they are there.
//!
//! Invariant: no call after [`Backend::attach`] blocks or allocates. What a copy or kernel uses is
//! neither reused nor freed before an event behind it was seen; streams are ordered among each
//! other by events alone. `docs/GPU.md` argues the order.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::Arc;
use std::task::Waker;

use super::choice::{Chooser, log_unproven};
use super::executor::{Executor, Slots};
use super::plan::{BUCKETS, batch_len_limit, plans};
use super::sizes::RESULT_LEN;
use super::sys::context::Context;
use super::sys::driver::Code;
use super::sys::info::{DeviceId, DeviceInfo};
use super::sys::memory::PinnedMemory;
use super::sys::nvtx;
use super::sys::stream::{Event, Graph, Priority, Stream};
use super::sys::waiter::Waiter;
use super::tuning::Tuning;
use super::verdicts::Verdicts;
use super::weights::Weights;
use crate::backend::{Attachment, Backend, Completion, Fault, Geometry, Images, ResultSlot};
use crate::error::{Error, Kind, Result};
use crate::lower::{DType, Steps};
use crate::model::{Answer, Model, ModelConfig, Network};
use crate::ring::Slot;
use crate::setters::setters;

/// How a [`CudaDevice`] runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaOptions {
    /// Which device.
    pub device: DeviceId,
    /// Height of the input images in pixels.
    pub height: usize,
    /// Width of the input images in pixels.
    pub width: usize,
    /// Whether each batch is launched as one graph. Kernel profilers want it off, to run kernels
    /// one by one; it costs microseconds of the host for each of 52 launches.
    pub graphs: bool,
    /// Tiles that were measured to be best, see [`Tuning::stored`]; others are chosen by a model of
    /// the device.
    pub tuning: Tuning,
    /// What kernels that need a proof have shown, see [`Verdicts::stored`]; those that were not
    /// tried, or were refused, are not used.
    pub verdicts: Verdicts,
    /// What images are answered with.
    pub answer: Answer,
    /// What is computed in: `F16`, or `I8` with a model that was calibrated for it.
    pub precision: DType,
}

setters!(CudaOptions {
    device: DeviceId,
    height: usize,
    width: usize,
    graphs: bool,
    tuning: Tuning,
    verdicts: Verdicts,
    answer: Answer,
    precision: DType,
});

impl CudaOptions {
    /// The first device, and the model's own input size and precision.
    pub fn for_model(model: &Model) -> Self {
        let config = model.config();
        Self {
            device: DeviceId::Index(0),
            height: config.height,
            width: config.width,
            graphs: true,
            tuning: Tuning::default(),
            verdicts: Verdicts::default(),
            answer: Answer::Logits,
            precision: if model.quantized().is_some() { DType::I8 } else { DType::F16 },
        }
    }

    /// What kernels are chosen by.
    pub(super) fn known(&self) -> (&Tuning, &Verdicts) {
        (&self.tuning, &self.verdicts)
    }

    /// The steps of the model's network in the precision that is asked for.
    pub(super) fn steps(&self, model: &Model, network: &Network) -> Result<Steps> {
        let problem = match self.precision {
            DType::F16 => None,
            DType::I8 if model.quantized().is_some() => None,
            DType::I8 => Some(format!(
                "precision i8: {} holds weights in floating point: calibrate them with `twinstream \
                 calibrate`",
                model.path().display()
            )),
            other => Some(format!("precision {other}: a GPU computes in f16 or i8")),
        };
        match problem {
            None => Ok(Steps::new(network, self.precision)),
            Some(problem) => Err(Error::new(Kind::Argument, problem)),
        }
    }
}

/// ResNet-50 on an NVIDIA GPU, as an asynchronous device.
pub struct CudaDevice {
    geometry: Geometry,
    options: CudaOptions,
    context: Arc<Context>,
    /// What [`Backend::attach`] makes room for.
    prepared: Option<(Weights, ModelConfig, Steps)>,
    attached: Option<Attached>,
}

impl CudaDevice {
    /// Opens the device and uploads the weights of `model`.
    ///
    /// # Errors
    /// `is_device` where there is no driver, or it fails; `is_argument` for a device that is not
    /// there, an input size that the network cannot take, an answer that it cannot give or a
    /// precision that the model's weights are not for; `is_memory` when the weights do not fit;
    /// `is_weights` when one exceeds f16, when they are to be f16 and are integers, or when the
    /// file was changed since it was opened.
    pub fn new(model: &Model, options: &CudaOptions) -> Result<Self> {
        let network = model.network(options.height, options.width)?;
        let result_len = options.answer.value_len(network.class_count())?;
        let steps = options.steps(model, &network)?;
        let context = Context::new(options.device)?;
        let _pushed = context.push_current();
        let geometry = Geometry {
            image_bytes: network.input_shape().value_len(),
            result_len,
            batch_len_max: BUCKETS[BUCKETS.len() - 1].min(batch_len_limit(&steps)),
        };
        let size = (options.height, options.width);
        let chooser = Chooser::new(context.info(), size, options.known());
        // Of all buckets: which of them there will be is known when an engine attaches.
        let plans = plans(&steps, geometry.batch_len_max, &chooser)?;
        let notable = plans.iter().flat_map(|plan| {
            steps.list.iter().flat_map(|step| chooser.notable(step, plan.batch_len))
        });
        log_unproven(context.info(), &notable.collect::<Vec<_>>());
        let weights = Weights::new(&context, model, &steps, &plans)?;
        Ok(Self {
            geometry,
            options: options.clone(),
            prepared: Some((weights, model.config().clone(), steps)),
            attached: None,
            context: Arc::clone(&context),
        })
    }

    /// The device that it runs on.
    pub fn info(&self) -> &DeviceInfo {
        self.context.info()
    }

    /// For calls to the driver: the thread that polls may drive other devices too.
    fn attached(&mut self) -> &mut Attached {
        // Where that fails, so do the calls, and say so.
        let _ = self.context.set_current();
        self.attached.as_mut().expect("the backend was attached")
    }
}

impl std::fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaDevice")
            .field("geometry", &self.geometry)
            .field("device", self.info())
            .finish_non_exhaustive()
    }
}

fn events(context: &Arc<Context>, len: usize) -> std::result::Result<Vec<Event>, Code> {
    (0..len).map(|_| Event::new(context)).collect()
}

/// A stream with the thread that wakes the poller for it.
struct StageStream {
    stream: Stream,
    /// By result buffer, or one.
    starts: Box<[Event]>,
    ends: Arc<[Event]>,
    waiter: Waiter,
}

impl StageStream {
    fn new(
        context: &Arc<Context>,
        name: &str,
        priority: Priority,
        event_len: usize,
        waker: &Waker,
    ) -> Result<Self> {
        type Parts = (Stream, Box<[Event]>, Arc<[Event]>);
        let make = || -> std::result::Result<Parts, Code> {
            Ok((
                Stream::new(context, priority)?,
                events(context, event_len)?.into(),
                events(context, event_len)?.into(),
            ))
        };
        let (stream, starts, ends) =
            make().map_err(|code| code.error("making streams and events"))?;
        nvtx::name_stream(&stream, name);
        let waiter = Waiter::start(name, context, Arc::clone(&ends), waker.clone())?;
        Ok(Self { stream, starts, ends, waiter })
    }

    /// How work between the events `index` ended, once it did.
    fn poll(&self, index: usize) -> Option<Completion> {
        let elapsed = match self.ends[index].is_done() {
            Ok(false) => return None,
            Ok(true) => self.ends[index].elapsed_ns(&self.starts[index]),
            Err(code) => Err(code),
        };
        Some(elapsed.map_err(Fault::from))
    }
}

/// Work on its way.
struct Job {
    /// Why it did not even begin.
    refused: Option<Code>,
    _range: nvtx::Range,
}

impl Job {
    /// Submits what `name` says, so many images, within the range that a profiler shows.
    fn begin(
        name: &'static CStr,
        len: usize,
        submit: impl FnOnce() -> std::result::Result<(), Code>,
    ) -> Self {
        let range = nvtx::Range::new(name, len as u64);
        Self { refused: submit().err(), _range: range }
    }

    /// How it ended, if it did; `stream` is asked where it has begun.
    fn poll(&self, stream: &StageStream, index: usize) -> Option<Completion> {
        match self.refused {
            Some(code) => Some(Err(code.into())),
            None => stream.poll(index),
        }
    }
}

/// A batch from its computing to the end of its download, by result buffer.
struct Batch {
    /// Its slots, in the order of its results.
    slots: Vec<u32>,
    targets: Vec<ResultSlot>,
    /// Why the copy of its results did not begin.
    refused: Option<Code>,
    range: Option<nvtx::Range>,
}

/// All that exists once the engine has said how much there is to be.
struct Attached {
    // Streams before what their work uses.
    transfer: StageStream,
    compute: StageStream,
    download: StageStream,
    graphs: Vec<Graph>,
    executor: Executor,
    /// Results as they arrive, by result buffer.
    staging: PinnedMemory,
    images: Arc<dyn Images>,
    image_bytes: usize,
    result_len: usize,
    uploading: Option<Job>,
    uploaded: Vec<Slot>,
    /// The batch that is computed, and its result buffer.
    computing: Option<(Job, usize)>,
    batches: [Batch; RESULT_LEN],
    next_result: usize,
    /// Result buffers of batches that are computed and not asked for.
    computed: VecDeque<usize>,
    /// Result buffers of the downloads that were asked for.
    downloading: VecDeque<usize>,
}

impl Attached {
    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.uploaded.append(slots);
        let len = self.uploaded.len();
        self.uploading = Some(Job::begin(c"upload", len, || self.begin_upload()));
    }

    fn begin_upload(&mut self) -> std::result::Result<(), Code> {
        let StageStream { stream, starts, ends, .. } = &self.transfer;
        starts[0].record(stream)?;
        let (stride_bytes, image_bytes) = (self.executor.stride_bytes(), self.image_bytes);
        let mut copied = Ok(());
        self.images.visit_runs(&self.uploaded, &mut |run| {
            let (first, len) = (run.first as usize, run.len as usize);
            assert_eq!(run.bytes.len(), (len - 1) * stride_bytes + image_bytes, "rings differ");
            let target = self.executor.images();
            if copied.is_ok() {
                // SAFETY: the ring's memory was made page-locked for this device, or the driver
                // stages the copy; the slots are kept until the event behind it was seen.
                copied = unsafe { stream.upload(target, first * stride_bytes, run.bytes) };
            }
        });
        // Even of a copy that failed: those before it must be over before their slots are reused.
        let recorded = ends[0].record(stream);
        copied.and(recorded)
    }

    fn compute(&mut self, slots: &[u32]) {
        let result = self.next_result;
        self.next_result = (result + 1) % RESULT_LEN;
        let batch = &mut self.batches[result];
        batch.slots.clear();
        batch.slots.extend_from_slice(slots);
        let len = slots.len();
        let plan = self.executor.plan_for(len);
        self.executor.describe(plan, result, slots);
        let job = Job::begin(c"compute", len, || self.begin_compute(result, plan));
        let is_begun = job.refused.is_none();
        self.computing = Some((job, result));
        if is_begun {
            let range = nvtx::Range::new(c"download", len as u64);
            let begun = self.begin_download(result, len);
            let batch = &mut self.batches[result];
            batch.refused = begun.err();
            batch.range = Some(range);
        }
    }

    fn begin_compute(&self, result: usize, plan: usize) -> std::result::Result<(), Code> {
        let StageStream { stream, starts, ends, .. } = &self.compute;
        starts[result].record(stream)?;
        // SAFETY: graphs and kernels use the executor's memory, which outlives the streams' work
        // (`drop`), one batch after another.
        let launched = unsafe {
            match self.graphs.get(plan) {
                Some(graph) => stream.replay(graph),
                None => self.executor.enqueue(plan, stream),
            }
        };
        // Even of a batch that failed half-way: its kernels must be over before the next.
        ends[result].record(stream).and(launched)
    }

    /// Sends the results after their batch, before anyone asks: the answer need not wait for the
    /// host to see the batch's end and to come back.
    fn begin_download(&self, result: usize, len: usize) -> std::result::Result<(), Code> {
        let StageStream { stream, starts, ends, .. } = &self.download;
        stream.wait(&self.compute.ends[result])?;
        starts[result].record(stream)?;
        let offset_bytes = result * self.executor.result_stride_bytes();
        let len_bytes = len * self.result_len * size_of::<f32>();
        // SAFETY: this buffer's staging is read after the event behind the copy was seen, and not
        // used again before.
        let copied = unsafe {
            let from = (self.executor.results(), offset_bytes);
            stream.download((&self.staging, offset_bytes), from, len_bytes)
        };
        ends[result].record(stream).and(copied)
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        let completion = self.uploading.as_ref()?.poll(&self.transfer, 0)?;
        if completion.is_err() && !self.is_over(&self.transfer.ends[0]) {
            // Copies that did begin may still read the slots.
            return None;
        }
        self.uploading = None;
        slots.append(&mut self.uploaded);
        Some(completion)
    }

    /// Whether nothing before the event is under way any more.
    fn is_over(&self, event: &Event) -> bool {
        !matches!(event.is_done(), Ok(false))
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        let (job, result) = self.computing.as_ref()?;
        let result = *result;
        let completion = job.poll(&self.compute, result)?;
        if completion.is_err() && !self.is_over(&self.compute.ends[result]) {
            return None;
        }
        self.computing = None;
        if completion.is_ok() {
            self.computed.push_back(result);
        }
        Some(completion)
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        let result = self.computed.pop_front().expect("a batch that was computed is downloaded");
        let batch = &mut self.batches[result];
        assert_eq!(batch.slots, slots, "the oldest batch is downloaded, in its order");
        batch.targets.append(results);
        self.downloading.push_back(result);
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        let result = *self.downloading.front()?;
        let completion = match self.batches[result].refused {
            Some(code) => Err(code.into()),
            None => self.download.poll(result)?,
        };
        if completion.is_err() && !self.is_over(&self.download.ends[result]) {
            return None;
        }
        self.downloading.pop_front();
        let batch = &mut self.batches[result];
        batch.range = None;
        batch.refused = None;
        if completion.is_ok() {
            let first = result * self.executor.result_stride_bytes() / size_of::<f32>();
            let rows = self.staging.words()[first..].chunks_exact(self.result_len);
            for (target, row) in batch.targets.iter_mut().zip(rows) {
                target.copy_from_slice(bytemuck::cast_slice(row));
            }
        }
        results.append(&mut batch.targets);
        Some(completion)
    }

    fn arm(&self) {
        if self.uploading.is_some() {
            self.transfer.waiter.arm(0);
        }
        if let Some((_, result)) = &self.computing {
            self.compute.waiter.arm(*result);
        }
        if let Some(&result) = self.downloading.front() {
            self.download.waiter.arm(result);
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Nothing may use what is about to go. On a lost device this returns at once.
        for stage in [&self.transfer, &self.compute, &self.download] {
            if let Err(code) = stage.stream.synchronize() {
                log::warn!("waiting for the device's last work: {code}");
            }
        }
    }
}

impl Backend for CudaDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn with_host_memory(&self, make: &mut dyn FnMut()) {
        let _pushed = self.context.push_current();
        make();
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        let Attachment { images, slot_len, stride_bytes, batch_len_max, depth, waker } = attachment;
        if depth > RESULT_LEN {
            let message = format!(
                "{depth} batches in flight: the GPU has result buffers for at most {RESULT_LEN}"
            );
            return Err(Error::new(Kind::Argument, message));
        }
        let context = &self.context;
        context.set_current().map_err(|code| code.error("using the device's context"))?;
        let (weights, config, steps) = self.prepared.take().expect("a backend is attached once");
        let size = (self.options.height, self.options.width);
        let chooser = Chooser::new(context.info(), size, self.options.known());
        let plans = plans(&steps, batch_len_max, &chooser)?;
        let room = (self.options.answer, Slots { len: slot_len, stride_bytes });
        let executor = Executor::new(context, (weights, &config), (steps, plans), room)?;
        let stage_stream = |name, priority, event_len| {
            StageStream::new(context, name, priority, event_len, &waker)
        };
        let compute = stage_stream("twinstream-calc", Priority::Usual, RESULT_LEN)?;
        let plan_len = if self.options.graphs { executor.plans().len() } else { 0 };
        let capture = |plan| {
            // SAFETY: captured, not carried out; replays are vouched for where they are launched.
            compute.stream.capture(|| unsafe { executor.enqueue(plan, &compute.stream) })
        };
        let graphs = (0..plan_len).map(capture).collect::<std::result::Result<_, _>>();
        // On the device when the first batch comes.
        let graphs = graphs.and_then(|graphs| compute.stream.synchronize().map(|()| graphs));
        let staging_len = RESULT_LEN * executor.result_stride_bytes() / size_of::<u32>();
        let batch = || Batch {
            slots: Vec::with_capacity(batch_len_max),
            targets: Vec::with_capacity(batch_len_max),
            refused: None,
            range: None,
        };
        self.attached = Some(Attached {
            // Both are short beside computing, and what waits for them is latency.
            transfer: stage_stream("twinstream-up", Priority::Highest, 1)?,
            download: stage_stream("twinstream-down", Priority::Highest, RESULT_LEN)?,
            graphs: graphs.map_err(|code: Code| code.error("capturing the graphs"))?,
            staging: PinnedMemory::new(context, staging_len)
                .map_err(|code| code.error("page-locked memory for results"))?,
            compute,
            executor,
            images,
            image_bytes: self.geometry.image_bytes,
            result_len: self.geometry.result_len,
            uploading: None,
            uploaded: Vec::with_capacity(batch_len_max),
            computing: None,
            batches: std::array::from_fn(|_| batch()),
            next_result: 0,
            computed: VecDeque::with_capacity(RESULT_LEN),
            downloading: VecDeque::with_capacity(RESULT_LEN),
        });
        Ok(())
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.attached().upload(slots);
    }

    fn compute(&mut self, slots: &[u32]) {
        self.attached().compute(slots);
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.attached().download(slots, results);
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        self.attached().poll_upload(slots)
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        self.attached().poll_compute()
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        self.attached().poll_download(results)
    }

    fn before_sleep(&mut self) {
        self.attached().arm();
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Whatever thread drops it.
        let _pushed = self.context.push_current();
        self.attached = None;
        self.prepared = None;
    }
}
