//! Times of single launches, whole batches and copies, beside what the hardware would allow: what
//! `twinstream profile` shows.
//!
//! Invariant: all times are differences of events on the device, of several repetitions, on real
//! activations; what was timed has answered, and the answers are told.

use super::fixture::{Fixture, buckets};
use super::timer::{LaunchTimer, median};
use crate::backend::cuda::choice::Chooser;
use crate::backend::cuda::device::CudaOptions;
use crate::backend::cuda::executor::Executor;
use crate::backend::cuda::plan::Plan;
use crate::backend::cuda::sys::context::Context;
use crate::backend::cuda::sys::driver::Code;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::backend::cuda::sys::memory::PinnedMemory;
use crate::backend::cuda::sys::stream::{Event, Graph, Priority, Stream};
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::Model;
use crate::setters::setters;

/// At most so many series of batches are timed, each as one; their median counts.
const SERIES_LEN_MAX: usize = 5;

/// What [`profile`] measures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileOptions {
    /// Batch buckets; others are rounded up to one.
    pub batch_lens: Vec<usize>,
    /// Batches behind one another, copies and launches of a kind that are timed.
    pub repeat_len: usize,
}

setters!(ProfileOptions { batch_lens: Vec<usize>, repeat_len: usize });

impl Default for ProfileOptions {
    fn default() -> Self {
        Self { batch_lens: vec![1, 8, 32, 128, 256], repeat_len: 50 }
    }
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchProfile {
    /// torchvision's name of the layer.
    pub layer: String,
    /// The kernel; convolutions with their split.
    pub kernel: String,
    /// Its time, behind others of its kind: their mean.
    pub elapsed_ns: f64,
    /// The least that products at the tensor cores' rate, or bytes at the memory's, would take.
    pub bound_ns: f64,
    /// What it writes for the batch's first image, as it lies in memory.
    pub output: Vec<u8>,
}

/// Batches of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchProfile {
    /// Images.
    pub batch_len: usize,
    /// Of the whole network as a graph, on a device that idled: the host's launch counts.
    pub graph_ns: f64,
    /// Of a graph behind others: the device's time alone.
    pub back_to_back_ns: f64,
    /// Of the whole network, launch by launch, on a device that idled.
    pub launches_ns: f64,
    /// Of the copy of a batch's images to the device, behind others.
    pub upload_ns: f64,
    /// Of a graph behind others, with the copy of the next batch's images beside it.
    pub saturated_ns: f64,
    /// In the order of execution.
    pub launches: Vec<LaunchProfile>,
    /// The images that were computed: u8 RGB pixels, height x width x 3 each.
    pub images: Vec<u8>,
    /// What they were answered with, `class_count` values each.
    pub logits: Vec<f32>,
}

impl BatchProfile {
    /// The share of an upload that computing hides where batch follows batch: what of it does not
    /// make the batch longer.
    pub fn upload_hidden(&self) -> f64 {
        let shown_ns = self.saturated_ns - self.back_to_back_ns;
        (1.0 - shown_ns / self.upload_ns).clamp(0.0, 1.0)
    }
}

/// Measures full batches of noise, bucket by bucket from the shortest, and tells `report` of each.
///
/// # Errors
/// As [`tune`](super::tune::tune).
pub fn profile(
    model: &Model,
    options: &CudaOptions,
    profile_options: &ProfileOptions,
    report: &mut dyn FnMut(&BatchProfile),
) -> Result<()> {
    let network = model.network(options.height, options.width)?;
    let steps = options.steps(model, &network)?;
    let buckets = buckets(&profile_options.batch_lens)?;
    let context = Context::new(options.device)?;
    let _pushed = context.push_current();
    let size = (options.height, options.width);
    let chooser = Chooser::new(context.info(), size, options.known());
    let plans = buckets.iter().map(|&batch_len| Plan::new(&steps, batch_len, &chooser));
    let plans = plans.collect::<Result<_>>()?;
    let mut fixture = Fixture::new(&context, model, (steps, plans))?;
    let measuring = |code: Code| code.error("measuring");
    for plan in 0..buckets.len() {
        fixture.prepare(plan).map_err(measuring)?;
        let launches = LaunchTimer::new(&fixture, plan, profile_options.repeat_len)?;
        let bench = Bench::new(&fixture, plan, launches, profile_options.repeat_len);
        report(&bench.and_then(|bench| bench.profile()).map_err(measuring)?);
    }
    Ok(())
}

/// What measurements of one batch length need.
struct Bench<'a> {
    // Before the memory that their work uses.
    compute: Stream,
    transfer: Stream,
    graph: Graph,
    start: Event,
    end: Event,
    /// Of the latest two batches and uploads.
    computed: [Event; 2],
    uploaded: [Event; 2],
    answers: PinnedMemory,
    launches: LaunchTimer<'a>,
    fixture: &'a Fixture,
    executor: &'a Executor,
    plan: usize,
    batch_len: usize,
    repeat_len: usize,
}

impl<'a> Bench<'a> {
    fn new(
        fixture: &'a Fixture,
        plan: usize,
        launches: LaunchTimer<'a>,
        repeat_len: usize,
    ) -> std::result::Result<Self, Code> {
        let (context, executor) = (fixture.context(), fixture.executor());
        let compute = Stream::new(context, Priority::Usual)?;
        // SAFETY: the executor outlives the streams' work, which each measurement waits for.
        let graph = compute.capture(|| unsafe { executor.enqueue(plan, &compute) })?;
        let batch_len = executor.plans()[plan].batch_len;
        let event = || Event::new(context);
        Ok(Self {
            compute,
            transfer: Stream::new(context, Priority::Highest)?,
            graph,
            start: event()?,
            end: event()?,
            computed: [event()?, event()?],
            uploaded: [event()?, event()?],
            answers: PinnedMemory::new(context, batch_len * executor.steps().class_count())?,
            launches,
            fixture,
            executor,
            plan,
            batch_len,
            repeat_len: repeat_len.max(1),
        })
    }

    fn profile(&self) -> std::result::Result<BatchProfile, Code> {
        let (logits, outputs) = (self.logits()?, self.outputs()?);
        let single = |enqueue: &dyn Fn() -> std::result::Result<(), Code>| {
            median_of(self.repeat_len, || self.elapsed_ns(enqueue))
        };
        let graph_ns = single(&|| self.replay())?;
        // SAFETY: as for the capture.
        let launches_ns = single(&|| unsafe { self.executor.enqueue(self.plan, &self.compute) })?;
        let (back_to_back_ns, upload_ns, saturated_ns) = self.series()?;
        let steps = self.executor.steps().list.iter().enumerate().zip(outputs);
        let launches = steps.map(|((index, step), output)| self.launch(index, step, output));
        Ok(BatchProfile {
            batch_len: self.batch_len,
            graph_ns,
            back_to_back_ns,
            launches_ns,
            upload_ns,
            saturated_ns,
            launches: launches.collect::<std::result::Result<_, _>>()?,
            images: self.fixture.images(self.batch_len).to_vec(),
            logits,
        })
    }

    /// Runs the graph once, for its answers.
    fn logits(&self) -> std::result::Result<Vec<f32>, Code> {
        self.replay()?;
        let len_bytes = self.answers.len_bytes();
        // SAFETY: the copy is waited for.
        unsafe {
            self.compute.download((&self.answers, 0), (self.executor.results(), 0), len_bytes)?
        };
        self.compute.synchronize()?;
        Ok(self.answers.words().iter().map(|&word| f32::from_bits(word)).collect())
    }

    /// Runs the steps one by one, for what each writes for the first image.
    fn outputs(&self) -> std::result::Result<Vec<Vec<u8>>, Code> {
        let launches = self.launches.of_plan().iter().enumerate();
        let outputs = launches.map(|(index, launch)| {
            let (from, len_bytes) = self.executor.first_output(index, self.batch_len);
            let word_len = len_bytes.div_ceil(size_of::<u32>());
            let output = PinnedMemory::new(self.fixture.context(), word_len)?;
            // SAFETY: both are waited for.
            unsafe {
                self.executor.enqueue_launch(launch, &self.compute)?;
                self.compute.download((&output, 0), from, len_bytes)?;
            }
            self.compute.synchronize()?;
            Ok(bytemuck::cast_slice(output.words())[..len_bytes].to_vec())
        });
        outputs.collect()
    }

    fn replay(&self) -> std::result::Result<(), Code> {
        // SAFETY: as for the capture.
        unsafe { self.compute.replay(&self.graph) }
    }

    /// Times of a batch, of an upload and of both beside each other, in series of `repeat_len`. The
    /// three alternate, so that a clock that changes meanwhile changes all of them.
    fn series(&self) -> std::result::Result<(f64, f64, f64), Code> {
        let mut times_ns: [Vec<f64>; 3] = Default::default();
        for _ in 0..self.repeat_len.min(SERIES_LEN_MAX) {
            let series: [&dyn Fn() -> std::result::Result<(), Code>; 3] = [
                &|| (0..self.repeat_len).try_for_each(|_| self.replay()),
                &|| (0..self.repeat_len).try_for_each(|_| self.upload(&self.compute)),
                &|| self.enqueue_saturated(),
            ];
            for (times_ns, enqueue) in times_ns.iter_mut().zip(series) {
                times_ns.push(self.elapsed_ns(enqueue)? / self.repeat_len as f64);
            }
        }
        let [compute_ns, upload_ns, saturated_ns] = times_ns.map(median);
        Ok((compute_ns, upload_ns, saturated_ns))
    }

    /// Batch behind batch, and beside each the upload of the next one's images, ordered as an
    /// engine would whose ring holds two batches: an upload waits for the batch that had its slots,
    /// a batch for its images. What is copied goes to the half of the ring that no batch reads.
    fn enqueue_saturated(&self) -> std::result::Result<(), Code> {
        self.transfer.wait(&self.start)?;
        for batch in 0..self.repeat_len {
            let (now, before) = (batch % 2, (batch + 1) % 2);
            if batch > 0 {
                self.transfer.wait(&self.computed[before])?;
            }
            self.upload(&self.transfer)?;
            self.uploaded[now].record(&self.transfer)?;
            self.replay()?;
            self.computed[now].record(&self.compute)?;
            self.compute.wait(&self.uploaded[now])?;
        }
        Ok(())
    }

    /// Copies a batch's images to slots that the graph does not read.
    fn upload(&self, stream: &Stream) -> std::result::Result<(), Code> {
        let images = self.fixture.images(self.batch_len);
        // SAFETY: they are page-locked and not written while there is a bench, and the copy is
        // waited for.
        unsafe { stream.upload(self.executor.images(), images.len(), images) }
    }

    fn launch(
        &self,
        index: usize,
        step: &Step,
        output: Vec<u8>,
    ) -> std::result::Result<LaunchProfile, Code> {
        let choice = self.executor.plans()[self.plan].choices[index];
        let launch = &self.launches.of_plan()[index];
        let kernel = match &step.work {
            Work::Conv(_) => format!("{}/{}", choice.kernel().name, choice.split_k),
            _ => choice.kernel().name.to_owned(),
        };
        Ok(LaunchProfile {
            layer: step.name.clone(),
            kernel,
            elapsed_ns: self.launches.launch_ns(index, launch)?,
            bound_ns: bound_ns(step, self.batch_len, self.fixture.context().info()),
            output,
        })
    }

    /// The time of what `enqueue` puts on the streams, the compute stream behind the rest.
    fn elapsed_ns(
        &self,
        enqueue: &dyn Fn() -> std::result::Result<(), Code>,
    ) -> std::result::Result<f64, Code> {
        self.start.record(&self.compute)?;
        enqueue()?;
        self.end.record(&self.compute)?;
        self.compute.synchronize()?;
        Ok(self.end.elapsed_ns(&self.start)? as f64)
    }
}

/// The median of so many measurements, behind one to warm up.
fn median_of(
    repeat_len: usize,
    measure: impl Fn() -> std::result::Result<f64, Code>,
) -> std::result::Result<f64, Code> {
    measure()?;
    (0..repeat_len).map(|_| measure()).collect::<std::result::Result<_, _>>().map(median)
}

/// The least a launch can take on the device: its products or its bytes, each read or written once.
fn bound_ns(step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
    let output_len = step.output_shape.value_len();
    let value_bytes = step.dtype.size_bytes();
    let (macs, weight_len, read_bytes, write_bytes) = match &step.work {
        Work::Stem { input_shape, conv_shape, .. } => {
            let taps = 7 * 7 * 3;
            let macs = conv_shape.value_len() * taps;
            (macs, 64 * taps, input_shape.value_len(), output_len * value_bytes)
        }
        Work::Conv(conv) => {
            let outputs = conv.output_shape.channels;
            let shortcut_len =
                conv.shortcut.map_or(0, |s| s.input_shape.value_len() / (s.stride * s.stride));
            let residual_len = conv.residual.map_or(0, |_| output_len);
            let read_len = conv.input_shape.value_len() + shortcut_len + residual_len;
            let macs = output_len * conv.sum_len();
            (macs, outputs * conv.sum_len(), read_len * value_bytes, output_len * value_bytes)
        }
        Work::AveragePool { input_shape, .. } => {
            (0, 0, input_shape.value_len() * value_bytes, output_len * value_bytes)
        }
        Work::FullyConnected { channels, class_count, .. } => {
            let macs = channels * class_count;
            (macs, macs, channels * value_bytes, class_count * size_of::<f32>())
        }
    };
    let bytes = batch_len * (read_bytes + write_bytes) + weight_len * value_bytes;
    // The tensor cores take as many bytes of values a clock, whatever the type.
    let macs_per_ns = device.macs_per_ns() * DType::F16.size_bytes() as f64 / value_bytes as f64;
    let products_ns = (batch_len * macs) as f64 / macs_per_ns;
    products_ns.max(bytes as f64 / device.memory_bytes_per_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lengthens_a_batch_is_not_hidden() {
        let hidden = |saturated_ns| {
            let profile = BatchProfile {
                batch_len: 1,
                graph_ns: 105.0,
                back_to_back_ns: 100.0,
                launches_ns: 300.0,
                upload_ns: 20.0,
                saturated_ns,
                launches: Vec::new(),
                images: Vec::new(),
                logits: Vec::new(),
            };
            profile.upload_hidden()
        };
        assert_eq!([99.0, 100.0, 105.0, 120.0, 150.0].map(hidden), [1.0, 1.0, 0.75, 0.0, 0.0]);
    }
}
