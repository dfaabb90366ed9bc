//! Times single launches of an executor's steps, as they run within a batch's graph.
//!
//! Invariant: what is timed is the device's work alone: launches follow one another inside a graph,
//! so that the host's pace does not count.

use std::sync::Arc;

use super::context::Context;
use super::driver::Code;
use super::executor::{Executor, Launch};
use super::stream::{Event, Priority, Stream};

/// See the module.
pub(super) struct LaunchTimer<'a> {
    // Before the executor, whose memory its work uses.
    stream: Stream,
    start: Event,
    end: Event,
    repeat_len: usize,
    executor: &'a Executor,
}

impl<'a> LaunchTimer<'a> {
    /// Times the mean of `repeat_len` launches, at least one, of the batch that was described.
    pub(super) fn new(
        executor: &'a Executor,
        context: &Arc<Context>,
        repeat_len: usize,
    ) -> Result<Self, Code> {
        let stream = Stream::new(context, Priority::Usual)?;
        // SAFETY: the executor outlives the stream's work, which is waited for here.
        unsafe { executor.enqueue_description(&stream)? };
        stream.synchronize()?;
        let (start, end) = (Event::new(context)?, Event::new(context)?);
        Ok(Self { stream, start, end, repeat_len: repeat_len.max(1), executor })
    }

    /// Nanoseconds of a launch behind others of its kind, with what it reads in the level-2 cache
    /// where it fits.
    pub(super) fn launch_ns(&self, launch: &Launch) -> Result<f64, Code> {
        let graph = self.stream.capture(|| {
            (0..self.repeat_len).try_for_each(|_| {
                // SAFETY: the executor outlives the stream's work, which is waited for below.
                unsafe { self.executor.enqueue_launch(launch, &self.stream) }
            })
        })?;
        // SAFETY: as above.
        let replay = || unsafe { self.stream.replay(&graph) };
        // One to warm up.
        replay()?;
        self.start.record(&self.stream)?;
        replay()?;
        self.end.record(&self.stream)?;
        self.stream.synchronize()?;
        Ok(self.end.elapsed_ns(&self.start)? as f64 / self.repeat_len as f64)
    }
}
