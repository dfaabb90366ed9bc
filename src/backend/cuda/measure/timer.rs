//! Times single launches of an executor's steps, as they run within a batch's graph.
//!
//! Invariant: what is timed is the device's work alone: launches follow one another inside a graph,
//! so that the host's pace does not count. A launch reads what the steps before it make of the
//! images in the ring.

use std::cell::Cell;

use super::fixture::Fixture;
use crate::backend::cuda::executor::{Executor, Loaded};
use crate::backend::cuda::sys::driver::Code;
use crate::backend::cuda::sys::stream::{Event, Graph, Priority, Stream};
use crate::error::Result;
use crate::lower::{Step, Work};

/// See the module.
pub(crate) struct LaunchTimer<'a> {
    // Before the executor, whose memory its work uses.
    stream: Stream,
    start: Event,
    end: Event,
    repeat_len: usize,
    executor: &'a Executor,
    /// See [`LaunchTimer::of_plan`].
    launches: Vec<Loaded>,
    /// So many steps, the first ones, have left their outputs where they belong.
    done_len: Cell<usize>,
}

impl<'a> LaunchTimer<'a> {
    /// Times the mean of `repeat_len` launches, at least one, of the batch that was prepared for
    /// this plan.
    pub(crate) fn new(fixture: &'a Fixture, plan: usize, repeat_len: usize) -> Result<Self> {
        let (context, executor) = (fixture.context(), fixture.executor());
        let plan = &executor.plans()[plan];
        let choices = plan.choices.iter().enumerate();
        let launches = choices.map(|(step, &choice)| executor.launch(step, choice, plan.batch_len));
        let launches = launches.collect::<Result<_>>()?;
        let make = || {
            Ok((Stream::new(context, Priority::Usual)?, Event::new(context)?, Event::new(context)?))
        };
        let (stream, start, end) =
            make().map_err(|code: Code| code.error("making a stream and events"))?;
        let (repeat_len, done_len) = (repeat_len.max(1), Cell::new(0));
        Ok(Self { stream, start, end, repeat_len, executor, launches, done_len })
    }

    /// The launches of the plan's steps.
    pub(crate) fn of_plan(&self) -> &[Loaded] {
        &self.launches
    }

    /// Nanoseconds of a step's launch behind others of its kind, with what it reads in the level-2
    /// cache where it fits.
    pub(crate) fn launch_ns(&self, step: usize, launch: &Loaded) -> std::result::Result<f64, Code> {
        self.make_inputs(step)?;
        let graph = self.stream.capture(|| {
            (0..self.repeat_len).try_for_each(|_| {
                // SAFETY: the executor outlives the stream's work, which is waited for below.
                unsafe { self.executor.enqueue_launch(launch, &self.stream) }
            })
        })?;
        let events = (&self.start, &self.end);
        // SAFETY: as above.
        let elapsed_ns = unsafe { replays_ns(&self.stream, events, &graph, 1)? };
        Ok(elapsed_ns / self.repeat_len as f64)
    }

    /// Has the steps before this one run, unless they have.
    fn make_inputs(&self, step: usize) -> std::result::Result<(), Code> {
        // The step itself may have run too: its output lies apart from its inputs.
        if !(step..=step + 1).contains(&self.done_len.get()) {
            for launch in &self.launches[..step] {
                // SAFETY: the executor outlives the stream's work, which the caller waits for.
                unsafe { self.executor.enqueue_launch(launch, &self.stream)? };
            }
        }
        // A residual is added to in place, again and again.
        let is_in_place = |step: &Step| match &step.work {
            Work::Conv(conv) => conv.residual.is_some(),
            _ => false,
        };
        let is_done = !is_in_place(&self.executor.steps().list[step]);
        self.done_len.set(if is_done { step + 1 } else { 0 });
        Ok(())
    }
}

/// Nanoseconds of a batch of this plan, which was prepared, as a graph behind others of its kind:
/// the mean of `repeat_len`, at least one.
pub(crate) fn batch_ns(
    fixture: &Fixture,
    plan: usize,
    repeat_len: usize,
) -> std::result::Result<f64, Code> {
    let (context, executor) = (fixture.context(), fixture.executor());
    let stream = Stream::new(context, Priority::Usual)?;
    let (start, end) = (Event::new(context)?, Event::new(context)?);
    let repeat_len = repeat_len.max(1);
    // SAFETY: the executor outlives the stream's work, which is waited for.
    unsafe {
        let graph = stream.capture(|| executor.enqueue(plan, &stream))?;
        Ok(replays_ns(&stream, (&start, &end), &graph, repeat_len)? / repeat_len as f64)
    }
}

/// Nanoseconds of so many replays, behind one to warm up; they are over then.
///
/// # Safety
/// What the graph uses lives, and is not used otherwise meanwhile.
unsafe fn replays_ns(
    stream: &Stream,
    (start, end): (&Event, &Event),
    graph: &Graph,
    replay_len: usize,
) -> std::result::Result<f64, Code> {
    // SAFETY: as the caller vouches.
    let replay = || unsafe { stream.replay(graph) };
    replay()?;
    start.record(stream)?;
    (0..replay_len).try_for_each(|_| replay())?;
    end.record(stream)?;
    stream.synchronize()?;
    Ok(end.elapsed_ns(start)? as f64)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
