//! A described device in real time: each stage takes as long as the simulator would say, and
//! nothing is computed.
//!
//! Invariant: three engines, as in the simulator: each does one thing at a time, in the order asked
//! for, beside the others; a piece of work is over no earlier than its drawn time after it began.
//! Results keep what their memory held. A thread wakes the engine at the end of each piece of work,
//! as a device's interrupt would; how late it does is the machine's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Attachment, Backend, Completion, Geometry, ResultSlot};
use crate::clock::{EARLY, sharpen_timers};
use crate::error::{Error, Kind, Result};
use crate::ring::Slot;
use crate::sched::{Stage, Stages};
use crate::sim::device::{Device, DeviceSpec};

/// One of the three engines: what it works on, oldest first.
#[derive(Debug)]
struct Work {
    jobs: VecDeque<Job>,
    free: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    end: Instant,
    elapsed_ns: u64,
    len: usize,
}

impl Work {
    fn new(now: Instant) -> Self {
        Self { jobs: VecDeque::new(), free: now }
    }

    /// The oldest job, if it is over.
    fn poll(&mut self) -> Option<Job> {
        let job = self.jobs.front()?;
        (Instant::now() >= job.end).then(|| self.jobs.pop_front()).flatten()
    }
}

/// See the module.
#[derive(Debug)]
pub struct SimulatedDevice {
    device: Device,
    geometry: Geometry,
    start: Instant,
    engines: Stages<Work>,
    uploading: Vec<Slot>,
    downloading: VecDeque<ResultSlot>,
    alarm: Alarm,
}

impl SimulatedDevice {
    /// The device that `spec` describes, with images and results of these sizes; `seed` is that of
    /// its noise.
    ///
    /// # Errors
    /// `is_io` when its thread cannot be started.
    pub fn new(spec: &DeviceSpec, seed: u64, geometry: Geometry) -> Result<Self> {
        let start = Instant::now();
        Ok(Self {
            device: Device::new(spec, seed),
            geometry,
            start,
            engines: Stages {
                upload: Work::new(start),
                compute: Work::new(start),
                download: Work::new(start),
            },
            uploading: Vec::new(),
            downloading: VecDeque::new(),
            alarm: Alarm::new()?,
        })
    }

    fn begin(&mut self, stage: Stage, len: usize) {
        let engine = self.engines.of_mut(stage);
        let start = engine.free.max(Instant::now());
        let since_start_ns = start.duration_since(self.start).as_nanos() as u64;
        let elapsed_ns = self.device.stage_ns(stage, len, since_start_ns);
        let end = start + Duration::from_nanos(elapsed_ns);
        engine.free = end;
        engine.jobs.push_back(Job { end, elapsed_ns, len });
        self.alarm.set(end);
    }
}

impl Backend for SimulatedDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        self.uploading.reserve(attachment.batch_len_max);
        self.downloading.reserve(attachment.slot_len);
        self.engines.upload.jobs.reserve(1);
        self.engines.compute.jobs.reserve(1);
        self.engines.download.jobs.reserve(attachment.depth);
        // An upload, a batch, and the downloads.
        self.alarm.reserve(2 + attachment.depth);
        self.alarm.shared.waker.get_or_init(|| attachment.waker);
        Ok(())
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.begin(Stage::Upload, slots.len());
        self.uploading.append(slots);
    }

    fn compute(&mut self, slots: &[u32]) {
        self.begin(Stage::Compute, slots.len());
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.begin(Stage::Download, slots.len());
        self.downloading.extend(results.drain(..));
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        let job = self.engines.upload.poll()?;
        slots.append(&mut self.uploading);
        Some(Ok(job.elapsed_ns))
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        self.engines.compute.poll().map(|job| Ok(job.elapsed_ns))
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        let job = self.engines.download.poll()?;
        results.extend(self.downloading.drain(..job.len));
        Some(Ok(job.elapsed_ns))
    }
}

/// A thread that wakes whoever polls, at each of the moments that it was told.
#[derive(Debug)]
struct Alarm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Still to come, in no order.
    moments: Mutex<Vec<Instant>>,
    /// Set before the first moment is.
    waker: OnceLock<Waker>,
    is_over: AtomicBool,
}

impl Alarm {
    fn new() -> Result<Self> {
        let shared = Arc::new(Shared {
            moments: Mutex::default(),
            waker: OnceLock::new(),
            is_over: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("simulated-alarm".to_owned())
            .spawn(move || for_thread.ring())
            .map_err(|error| {
                Error::new(Kind::Io, format!("cannot start the simulated device's thread: {error}"))
                    .with_source(error)
            })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Makes room for so many moments.
    fn reserve(&self, len: usize) {
        self.shared.moments.lock().unwrap_or_else(PoisonError::into_inner).reserve(len);
    }

    /// Called by whoever polls.
    fn set(&self, moment: Instant) {
        let now = Instant::now();
        let mut moments = self.shared.moments.lock().unwrap_or_else(PoisonError::into_inner);
        // Who polls is awake and sees what is over: there are never more than the work under way.
        moments.retain(|&moment| moment > now);
        moments.push(moment);
        drop(moments);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ring(&self) {
        sharpen_timers();
        while !self.is_over.load(Ordering::Acquire) {
            let now = Instant::now();
            let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
            let before_len = moments.len();
            moments.retain(|&moment| moment > now);
            let is_due = moments.len() < before_len;
            let next = moments.iter().min().copied();
            drop(moments);
            if is_due && let Some(waker) = self.waker.get() {
                waker.wake_by_ref();
            }
            // A moment that is set meanwhile unparks.
            match next.map(|next| next - now) {
                None => thread::park(),
                Some(left) if left > EARLY => thread::park_timeout(left - EARLY),
                Some(_) => thread::yield_now(),
            }
        }
    }
}
