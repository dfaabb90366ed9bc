//! Times of single launches, whole batches and copies, beside what the hardware would allow: what
//! `twinstream profile` shows.
//!
//! Invariant: all times are differences of events on the device, of several repetitions;
//! measurements use a device of their own.

use std::sync::Arc;

use super::choice::Chooser;
use super::context::{Context, DeviceInfo};
use super::device::CudaOptions;
use super::driver::Code;
use super::executor::{Executor, Weights};
use super::memory::PinnedMemory;
use super::plan::{BUCKETS, Plan, Step, Steps, VALUE_BYTES, Work};
use super::stream::{Event, Graph, Priority, Stream};
use super::timer::LaunchTimer;
use crate::error::{Error, Kind, Result};
use crate::model::{Answer, Model};

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
}

/// Batches of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchProfile {
    /// Images.
    pub batch_len: usize,
    /// Of the whole network as a graph.
    pub graph_ns: f64,
    /// Of the whole network, launch by launch.
    pub launches_ns: f64,
    /// Of the images' copy to the device.
    pub upload_ns: f64,
    /// Of graph and copy, begun together on two streams.
    pub both_ns: f64,
    /// In the order of execution.
    pub launches: Vec<LaunchProfile>,
}

impl BatchProfile {
    /// The share of the shorter of the two, copy and graph, that the other hid.
    pub fn overlap(&self) -> f64 {
        let hidden_ns = self.upload_ns + self.graph_ns - self.both_ns;
        (hidden_ns / self.upload_ns.min(self.graph_ns)).clamp(0.0, 1.0)
    }
}

/// Measures full batches of the given lengths, each rounded up to a bucket.
///
/// # Errors
/// As [`super::tune`].
pub fn profile(
    model: &Model,
    options: &CudaOptions,
    (batch_lens, repeat_len): (&[usize], usize),
) -> Result<Vec<BatchProfile>> {
    let network = model.network(options.height, options.width)?;
    let context = Context::new(options.device)?;
    let _entered = context.enter();
    let size = (options.height, options.width);
    let chooser = Chooser::new(context.info(), size, Some(&options.tuning));
    let mut profiles = Vec::new();
    for &batch_len in batch_lens {
        let bucket = BUCKETS.into_iter().find(|&bucket| (1..=bucket).contains(&batch_len));
        let Some(batch_len) = bucket else {
            let message = format!("a batch of {batch_len}: must be from 1 to 256 images");
            return Err(Error::new(Kind::Argument, message));
        };
        let steps = Steps::new(&network);
        let plan = Plan::new(&steps, batch_len, &chooser);
        let weights = Weights::new(&context, model, &steps)?;
        let parts = (weights, model.config());
        let mut executor =
            Executor::new(&context, parts, (steps, vec![plan]), (Answer::Logits, batch_len))?;
        let slots: Vec<u32> = (0..batch_len as u32).collect();
        executor.describe(0, &slots);
        let measured = Bench::new(&context, &executor, (batch_len, repeat_len))
            .and_then(|bench| bench.profile(context.info()));
        profiles.push(measured.map_err(|code| code.error("measuring"))?);
    }
    Ok(profiles)
}

/// What measurements of one batch length need.
struct Bench<'a> {
    // Before the memory that their work uses.
    compute: Stream,
    transfer: Stream,
    graph: Graph,
    events: [Event; 3],
    source: PinnedMemory,
    launches: LaunchTimer<'a>,
    executor: &'a Executor,
    batch_len: usize,
    repeat_len: usize,
}

impl<'a> Bench<'a> {
    fn new(
        context: &Arc<Context>,
        executor: &'a Executor,
        (batch_len, repeat_len): (usize, usize),
    ) -> std::result::Result<Self, Code> {
        let compute = Stream::new(context, Priority::Usual)?;
        // SAFETY: the executor outlives the streams' work, which each measurement waits for.
        let graph = compute.capture(|| unsafe { executor.enqueue(0, &compute) })?;
        Ok(Self {
            compute,
            transfer: Stream::new(context, Priority::Highest)?,
            graph,
            events: [Event::new(context)?, Event::new(context)?, Event::new(context)?],
            source: PinnedMemory::new(context, batch_len * executor.stride_bytes() / 4)?,
            launches: LaunchTimer::new(executor, context, repeat_len)?,
            executor,
            batch_len,
            repeat_len: repeat_len.max(1),
        })
    }

    fn profile(&self, device: &DeviceInfo) -> std::result::Result<BatchProfile, Code> {
        // SAFETY: as for the capture; the source is never written.
        let (graph, launches, upload) = unsafe {
            (
                self.median_ns(&|| self.compute.replay(&self.graph))?,
                self.median_ns(&|| self.executor.enqueue(0, &self.compute))?,
                self.median_ns(&|| {
                    self.compute.upload_pinned(self.executor.images(), &self.source)
                })?,
            )
        };
        let both = self.median_ns(&|| {
            let [_, _, uploaded] = &self.events;
            self.transfer.wait(&self.events[0])?;
            // SAFETY: as above.
            unsafe {
                self.transfer.upload_pinned(self.executor.images(), &self.source)?;
                self.compute.replay(&self.graph)?;
            }
            uploaded.record(&self.transfer)?;
            self.compute.wait(uploaded)
        })?;
        let steps = self.executor.steps().list.iter().enumerate();
        let launch = |(index, step): (usize, &Step)| {
            let choice = self.executor.plans()[0].choices[index];
            let launch = self.executor.launch(index, choice, self.batch_len)?;
            let elapsed_ns = self.launches.launch_ns(&launch)?;
            let kernel = match (choice, &step.work) {
                (Some(choice), _) => format!("{}/{}", choice.tile().name, choice.split_len),
                (None, Work::Stem { .. }) => "stem".to_owned(),
                (None, Work::AveragePool { .. }) => "average_pool".to_owned(),
                (None, _) => "fully_connected".to_owned(),
            };
            let bound_ns = bound_ns(step, self.batch_len, device);
            Ok(LaunchProfile { layer: step.name.clone(), kernel, elapsed_ns, bound_ns })
        };
        Ok(BatchProfile {
            batch_len: self.batch_len,
            graph_ns: graph,
            launches_ns: launches,
            upload_ns: upload,
            both_ns: both,
            launches: steps.map(launch).collect::<std::result::Result<_, Code>>()?,
        })
    }

    /// The median time of what `enqueue` puts on the compute stream, behind one to warm up.
    fn median_ns(
        &self,
        enqueue: &dyn Fn() -> std::result::Result<(), Code>,
    ) -> std::result::Result<f64, Code> {
        let [start, end, _] = &self.events;
        let mut times_ns = Vec::with_capacity(self.repeat_len);
        for repeat in 0..=self.repeat_len {
            start.record(&self.compute)?;
            enqueue()?;
            end.record(&self.compute)?;
            self.compute.synchronize()?;
            if repeat > 0 {
                times_ns.push(end.elapsed_ns(start)?);
            }
        }
        times_ns.sort_unstable();
        Ok(times_ns[times_ns.len() / 2] as f64)
    }
}

/// The least a launch can take on the device: its products or its bytes, each read or written once.
fn bound_ns(step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
    let output_len = step.output_shape.value_len();
    let (macs, weight_len, read_bytes, write_bytes) = match &step.work {
        Work::Stem { input_shape, conv_shape, .. } => {
            let taps = 7 * 7 * 3;
            let macs = conv_shape.value_len() * taps;
            (macs, 64 * taps, input_shape.value_len(), output_len * VALUE_BYTES)
        }
        Work::Conv(conv) => {
            let outputs = conv.output_shape.channels;
            let shortcut_len =
                conv.shortcut.map_or(0, |s| s.input_shape.value_len() / (s.stride * s.stride));
            let residual_len = conv.residual.map_or(0, |_| output_len);
            let read_len = conv.input_shape.value_len() + shortcut_len + residual_len;
            let macs = output_len * conv.sum_len();
            (macs, outputs * conv.sum_len(), read_len * VALUE_BYTES, output_len * VALUE_BYTES)
        }
        Work::AveragePool { input_shape, .. } => {
            (0, 0, input_shape.value_len() * VALUE_BYTES, output_len * VALUE_BYTES)
        }
        Work::FullyConnected { channels, class_count, .. } => {
            let macs = channels * class_count;
            (macs, macs, channels * VALUE_BYTES, class_count * size_of::<f32>())
        }
    };
    let bytes = batch_len * (read_bytes + write_bytes) + weight_len * VALUE_BYTES;
    let products_ns = (batch_len * macs) as f64 / device.macs_per_ns();
    products_ns.max(bytes as f64 / device.memory_bytes_per_ns())
}
