//! Streams, events and graphs, which `cust` does not offer in the form that is needed here: streams
//! that don't wait for the legacy one, events that can be waited for again, graphs at all.
//!
//! Invariant: each object keeps its context alive, and failures of its destruction are logged. The
//! context must be current on the calling thread, except when dropping.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use super::context::Context;
use super::driver::{self, Code, Handle, LaunchAttribute, LaunchConfig, check, check_ready};
use super::memory::{DeviceMemory, PinnedMemory};

/// CU_STREAM_NON_BLOCKING: no order with the legacy stream, which others in the process may use.
const STREAM_NON_BLOCKING: u32 = 1;
/// CU_EVENT_BLOCKING_SYNC: a thread that waits sleeps.
const EVENT_BLOCKING_SYNC: u32 = 1;
/// CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other engines may do as they like meanwhile.
const CAPTURE_MODE_THREAD_LOCAL: i32 = 1;

/// How soon a stream's work goes before that of others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Usual,
    Highest,
}

/// Work in order.
pub(crate) struct Stream {
    handle: Handle,
    context: Arc<Context>,
}

/// A kernel with its launch sizes; threads all lie along x.
#[derive(Clone, Copy)]
pub(crate) struct KernelLaunch {
    pub(crate) function: Handle,
    pub(crate) grid: [u32; 3],
    pub(crate) thread_len: u32,
    pub(crate) shared_bytes: u32,
    /// Blocks, neighbours along x, of a cluster; the grid is made of whole ones.
    pub(crate) cluster_len: u32,
    /// Whether it may begin while the kernel before it on the stream still runs; it waits itself
    /// before it touches what that one does.
    pub(crate) is_dependent: bool,
}

impl Stream {
    pub(crate) fn new(context: &Arc<Context>, priority: Priority) -> Result<Self, Code> {
        let (mut handle, mut least, mut greatest) = (ptr::null_mut(), 0, 0);
        // SAFETY: the arguments are places for what is asked.
        unsafe {
            check(driver::cuCtxGetStreamPriorityRange(&mut least, &mut greatest))?;
            let level = if priority == Priority::Highest { greatest } else { least };
            check(driver::cuStreamCreateWithPriority(&mut handle, STREAM_NON_BLOCKING, level))?;
        }
        Ok(Self { handle, context: Arc::clone(context) })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// Blocks until all its work is done.
    pub(crate) fn synchronize(&self) -> Result<(), Code> {
        // SAFETY: the stream lives.
        check(unsafe { driver::cuStreamSynchronize(self.handle) })
    }

    /// What follows on this stream begins after the event's latest recording.
    pub(crate) fn wait(&self, event: &Event) -> Result<(), Code> {
        // SAFETY: both live; the driver keeps what it needs of the event.
        check(unsafe { driver::cuStreamWaitEvent(self.handle, event.handle, 0) })
    }

    /// Copies bytes of a ring to `offset` of `to`.
    ///
    /// # Safety
    /// `from` is page-locked, and unchanged until the copy was seen to be over.
    pub(crate) unsafe fn upload(
        &self,
        to: &DeviceMemory,
        offset_bytes: usize,
        from: &[u8],
    ) -> Result<(), Code> {
        let address = to.range(offset_bytes, from.len());
        // SAFETY: the target was checked; the caller vouches for the source.
        check(unsafe {
            driver::cuMemcpyHtoDAsync_v2(address, from.as_ptr().cast(), from.len(), self.handle)
        })
    }

    /// Copies bytes, from and to an offset.
    ///
    /// # Safety
    /// That part of `to` is not touched until the copy was seen to be over; `to` lives as long.
    pub(crate) unsafe fn download(
        &self,
        (to, to_offset_bytes): (&PinnedMemory, usize),
        (from, from_offset_bytes): (&DeviceMemory, usize),
        len_bytes: usize,
    ) -> Result<(), Code> {
        let (first, _) = to.range(to_offset_bytes, len_bytes);
        let address = from.range(from_offset_bytes, len_bytes);
        // SAFETY: both ranges were checked; the caller vouches for the target.
        check(unsafe {
            driver::cuMemcpyDtoHAsync_v2(first.cast::<c_void>(), address, len_bytes, self.handle)
        })
    }

    /// Queues a copy of device memory.
    ///
    /// # Safety
    /// Both live until the copy is over, and what is read is not written meanwhile.
    pub(crate) unsafe fn copy(
        &self,
        (to, to_offset_bytes): (&DeviceMemory, usize),
        (from, from_offset_bytes): (&DeviceMemory, usize),
        len_bytes: usize,
    ) -> Result<(), Code> {
        let to = to.range(to_offset_bytes, len_bytes);
        let from = from.range(from_offset_bytes, len_bytes);
        // SAFETY: both ranges were checked; the caller vouches for the rest.
        check(unsafe { driver::cuMemcpyDtoDAsync_v2(to, from, len_bytes, self.handle) })
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// `params` is where the kernel's parameter struct lies, and what that points to lives until
    /// the kernel ended.
    pub(crate) unsafe fn launch(
        &self,
        launch: &KernelLaunch,
        params: *const c_void,
    ) -> Result<(), Code> {
        let attributes = [LaunchAttribute::cluster(launch.cluster_len), LaunchAttribute::DEPENDENT];
        // Devices before 9.0 know no clusters.
        let first = if launch.cluster_len > 1 { 0 } else { 1 };
        let end = if launch.is_dependent { 2 } else { 1 };
        let attributes = &attributes[first..end];
        let config = LaunchConfig {
            grid: launch.grid,
            block: [launch.thread_len, 1, 1],
            shared_bytes: launch.shared_bytes,
            stream: self.handle,
            attributes: attributes.as_ptr(),
            attribute_len: attributes.len() as u32,
        };
        let mut pointers = [params.cast_mut()];
        // SAFETY: the driver copies sizes and parameters in the call; the caller vouches for the
        // rest.
        check(unsafe {
            driver::cuLaunchKernelEx(
                &config,
                launch.function,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        })
    }

    /// Captures what `enqueue` puts on this stream, to be launched as one; it is not carried out.
    /// The graph's way to the device begins.
    pub(crate) fn capture(
        &self,
        enqueue: impl FnOnce() -> Result<(), Code>,
    ) -> Result<Graph, Code> {
        let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream lives, and the arguments are places for handles.
        unsafe {
            check(driver::cuStreamBeginCapture_v2(self.handle, CAPTURE_MODE_THREAD_LOCAL))?;
            let enqueued = enqueue();
            // Ends the capture in any case.
            let ended = check(driver::cuStreamEndCapture(self.handle, &mut graph));
            let made = enqueued.and(ended).and_then(|()| {
                check(driver::cuGraphInstantiateWithFlags(&mut executable, graph, 0))
            });
            if !graph.is_null() {
                driver::log_failure("freeing a graph", driver::cuGraphDestroy(graph));
            }
            made?;
        }
        let graph = Graph { executable, context: Arc::clone(&self.context) };
        // Else the first launch would do it, and take longer than the others.
        // SAFETY: both live.
        check(unsafe { driver::cuGraphUpload(graph.executable, self.handle) })?;
        Ok(graph)
    }

    /// Launches a graph that was captured on a stream of this context.
    ///
    /// # Safety
    /// What its kernels and copies point to lives until it ended.
    pub(crate) unsafe fn replay(&self, graph: &Graph) -> Result<(), Code> {
        // SAFETY: both live; the caller vouches for the rest.
        check(unsafe { driver::cuGraphLaunch(graph.executable, self.handle) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _pushed = self.context.push_current();
        // SAFETY: nobody else has the handle. Work that is under way ends by itself.
        driver::log_failure("freeing a stream", unsafe { driver::cuStreamDestroy_v2(self.handle) });
    }
}

/// A point in a stream's work. May be recorded again; queries mean the latest recording.
pub(crate) struct Event {
    handle: Handle,
    context: Arc<Context>,
}

impl Event {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, Code> {
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is a place for one.
        check(unsafe { driver::cuEventCreate(&mut handle, EVENT_BLOCKING_SYNC) })?;
        Ok(Self { handle, context: Arc::clone(context) })
    }

    pub(crate) fn record(&self, stream: &Stream) -> Result<(), Code> {
        // SAFETY: both live.
        check(unsafe { driver::cuEventRecord(self.handle, stream.handle) })
    }

    /// Whether all before it is done.
    pub(crate) fn is_done(&self) -> Result<bool, Code> {
        // SAFETY: the event lives.
        check_ready(unsafe { driver::cuEventQuery(self.handle) })
    }

    /// Sleeps until all before it is done.
    pub(crate) fn synchronize(&self) -> Result<(), Code> {
        // SAFETY: the event lives; any thread may wait, and what is recorded anew meanwhile does
        // not matter to the driver.
        check(unsafe { driver::cuEventSynchronize(self.handle) })
    }

    /// Nanoseconds since `start`, at least one; both are done.
    pub(crate) fn elapsed_ns(&self, start: &Self) -> Result<u64, Code> {
        let mut milliseconds = 0.0;
        // SAFETY: both live, and the first argument is a place for the time.
        check(unsafe { driver::cuEventElapsedTime(&mut milliseconds, start.handle, self.handle) })?;
        // A time of zero would be no measurement.
        Ok(((f64::from(milliseconds) * 1e6) as u64).max(1))
    }
}

// SAFETY: the driver takes its handles on any thread, several at a time.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}
// SAFETY: as above; a graph is launched by one thread at a time, which has it.
unsafe impl Send for Graph {}

impl Drop for Event {
    fn drop(&mut self) {
        let _pushed = self.context.push_current();
        // SAFETY: nobody else has the handle; what waits for it goes on waiting.
        driver::log_failure("freeing an event", unsafe { driver::cuEventDestroy_v2(self.handle) });
    }
}

/// Captured work that is launched as one.
pub(crate) struct Graph {
    executable: Handle,
    context: Arc<Context>,
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _pushed = self.context.push_current();
        // SAFETY: nobody else has the handle; a launch that is under way keeps what it needs.
        let result = unsafe { driver::cuGraphExecDestroy(self.executable) };
        driver::log_failure("freeing a graph", result);
    }
}

#[cfg(all(test, twinstream_emulated))]
mod tests {
    use super::*;
    use crate::backend::cuda::sys::emulated::{Behaviour, configure};
    use crate::backend::cuda::sys::info::DeviceId;

    const WORD_LEN: usize = 64;
    const LEN_BYTES: usize = WORD_LEN * size_of::<u32>();

    /// A device that one test alone uses, and memory of it.
    fn open(
        index: u32,
        delay_us_max: u32,
    ) -> (Arc<Context>, DeviceMemory, PinnedMemory, PinnedMemory) {
        configure(index, &Behaviour { delay_us_max, ..Behaviour::default() });
        let context = Context::new(DeviceId::Index(index)).unwrap();
        context.set_current().unwrap();
        let device = DeviceMemory::new(&context, LEN_BYTES).unwrap();
        let pinned = || PinnedMemory::new(&context, WORD_LEN).unwrap();
        let (from, to) = (pinned(), pinned());
        (context, device, from, to)
    }

    /// Goal: the emulated device catches what a real one may do to a program that does not wait.
    /// Method: programs that change a source too soon, read too soon, or leave an event out.
    #[test]
    fn late_copies_catch_programs_that_do_not_wait() {
        let (context, device, mut from, to) = open(1, 2_000);
        let (up, down) = (
            Stream::new(&context, Priority::Usual).unwrap(),
            Stream::new(&context, Priority::Usual).unwrap(),
        );
        let done = Event::new(&context).unwrap();
        let round = |from: &PinnedMemory, is_ordered: bool| {
            // SAFETY: all of it lives to the end of the test; what it reads too soon is the point.
            unsafe {
                up.upload(&device, 0, bytemuck::cast_slice(from.words())).unwrap();
                done.record(&up).unwrap();
                if is_ordered {
                    down.wait(&done).unwrap();
                }
                down.download((&to, 0), (&device, 0), LEN_BYTES).unwrap();
            }
        };
        let (mut stale_len, mut early_len) = (0, 0);
        for value in 1..=40 {
            from.words_mut().fill(value);
            round(&from, true);
            early_len += u32::from(to.words()[0] != value);
            down.synchronize().unwrap();
            assert!(to.words().iter().all(|&word| word == value), "ordered by the event");
            from.words_mut().fill(value + 1000);
            round(&from, false);
            down.synchronize().unwrap();
            stale_len += u32::from(to.words()[0] != value + 1000);
            up.synchronize().unwrap();
        }
        eprintln!("of 40: read too soon {early_len}, without the event {stale_len}");
        assert!(early_len > 30 && stale_len > 3, "{early_len}, {stale_len}");
    }

    #[test]
    fn an_event_orders_even_after_it_was_dropped() {
        let (context, device, mut from, to) = open(2, 5_000);
        let up = Stream::new(&context, Priority::Usual).unwrap();
        let down = Stream::new(&context, Priority::Highest).unwrap();
        for value in 1..10 {
            from.words_mut().fill(value);
            let done = Event::new(&context).unwrap();
            // SAFETY: the memory lives, and is left alone until all is done.
            unsafe {
                up.upload(&device, 0, bytemuck::cast_slice(from.words())).unwrap();
                done.record(&up).unwrap();
                down.wait(&done).unwrap();
                drop(done);
                down.download((&to, 0), (&device, 0), LEN_BYTES).unwrap();
            }
            down.synchronize().unwrap();
            assert!(to.words().iter().all(|&word| word == value));
        }
    }

    #[test]
    fn a_graph_copies_what_is_there_when_it_is_launched() {
        let (context, device, mut from, to) = open(3, 0);
        let stream = Stream::new(&context, Priority::Usual).unwrap();
        let (start, end) = (Event::new(&context).unwrap(), Event::new(&context).unwrap());
        // SAFETY: the memory outlives the graph's launches, which are waited for.
        let graph = stream.capture(|| unsafe {
            stream.upload(&device, 0, bytemuck::cast_slice(from.words()))?;
            stream.download((&to, 0), (&device, 0), LEN_BYTES)
        });
        let graph = graph.unwrap();
        for value in [3, 5] {
            from.words_mut().fill(value);
            start.record(&stream).unwrap();
            // SAFETY: as above.
            unsafe { stream.replay(&graph).unwrap() };
            end.record(&stream).unwrap();
            end.synchronize().unwrap();
            assert!(end.is_done().unwrap() && end.elapsed_ns(&start).unwrap() > 0);
            assert!(to.words().iter().all(|&word| word == value));
        }
    }

    /// Goal: a capture that somebody else in the process has begun, in the mode that forbids
    /// calls on all threads, takes no device from us. Method: one is under way while events are
    /// queried.
    #[test]
    fn captures_of_others_forbid_nothing() {
        const CAPTURE_MODE_GLOBAL: i32 = 0;
        const CAPTURE_UNSUPPORTED: i32 = 900;
        let (context, ..) = open(6, 0);
        let stream = Stream::new(&context, Priority::Usual).unwrap();
        let event = Event::new(&context).unwrap();
        event.record(&stream).unwrap();
        event.synchronize().unwrap();
        let theirs = Stream::new(&context, Priority::Usual).unwrap();
        // SAFETY: the stream lives.
        check(unsafe { driver::cuStreamBeginCapture_v2(theirs.handle, CAPTURE_MODE_GLOBAL) })
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pushed = context.push_current();
                assert!(event.is_done().unwrap());
                // What else this thread does is as it was before.
                drop(pushed);
                // SAFETY: the context lives; the events' thread ends with it.
                check(unsafe { driver::cuCtxPushCurrent_v2(context.handle()) }).unwrap();
                let refused = event.is_done().unwrap_err();
                assert_eq!(refused, check(CAPTURE_UNSUPPORTED).unwrap_err());
                assert!(!refused.is_lost());
            });
            scope.spawn(|| {
                context.set_current().unwrap();
                assert!(event.is_done().unwrap());
            });
        });
        let mut graph = ptr::null_mut();
        // SAFETY: as above; the graph is destroyed once.
        unsafe {
            check(driver::cuStreamEndCapture(theirs.handle, &mut graph)).unwrap();
            check(driver::cuGraphDestroy(graph)).unwrap();
        }
    }

    /// Goal: the blocks of a launch make up clusters of the size that is asked for, by itself and
    /// in a graph. Method: grids of whole clusters, and of some more blocks, which no device runs.
    #[test]
    fn launches_are_made_of_clusters() {
        // What each block of the kernel that describes batches copies from the host: 258 words.
        const COPIED_WORD_LEN: usize = 4 * 258;
        for (block_len, is_graph) in [(4, false), (4, true), (3, false), (3, true)] {
            // As a device that was reset: one that refused a grid is lost.
            let (context, ..) = open(5, 0);
            let stream = Stream::new(&context, Priority::Usual).unwrap();
            let from = PinnedMemory::new(&context, COPIED_WORD_LEN).unwrap();
            let to = DeviceMemory::new(&context, COPIED_WORD_LEN * size_of::<u32>()).unwrap();
            let (source, _) = from.range(0, from.len_bytes());
            let params = [source.addr() as u64, to.address()];
            let launch = KernelLaunch {
                function: context.function("describe", "describe", 0).unwrap().handle,
                grid: [block_len, 1, 1],
                thread_len: 288,
                shared_bytes: 0,
                cluster_len: 2,
                is_dependent: true,
            };
            // SAFETY: what the kernel reads and writes lives until it was waited for.
            let enqueue = || unsafe { stream.launch(&launch, params.as_ptr().cast()) };
            let graph = is_graph.then(|| stream.capture(enqueue).unwrap());
            match &graph {
                // SAFETY: as above.
                Some(graph) => unsafe { stream.replay(graph).unwrap() },
                None => enqueue().unwrap(),
            }
            assert_eq!(stream.synchronize().is_ok(), block_len == 4, "in a graph: {is_graph}");
        }
    }

    #[test]
    #[should_panic(expected = "exceed")]
    fn copies_beyond_the_memory_are_refused() {
        let (_context, device, _, _) = open(4, 0);
        device.range(LEN_BYTES - 4, 8);
    }
}
