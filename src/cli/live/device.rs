//! A described device in real time: each stage takes as long as the simulator would say, and
//! nothing is computed.
//!
//! Invariant: three engines, as in the simulator: each does one thing at a time, in the order asked
//! for, beside the others; a piece of work is over no earlier than its drawn time after it began.
//! Results keep what their memory held. A thread wakes the engine at the end of each piece of work,
//! as a device's interrupt would; how late it does is the machine's.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use twinstream::backend::{Attachment, Backend, Completion, Geometry, ResultSlot};
use twinstream::ring::Slot;
use twinstream::sched::{Stage, Stages};
use twinstream::sim::device::{Device, DeviceSpec};

use super::clock::{EARLY, sharpen_timers};

/// Work under way by the backend's contract: an upload, a batch, four downloads.
const WORK_LEN: usize = 6;

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
        Self { jobs: VecDeque::with_capacity(WORK_LEN), free: now }
    }

    /// The oldest job, if it is over.
    fn poll(&mut self) -> Option<Job> {
        let job = self.jobs.front()?;
        (Instant::now() >= job.end).then(|| self.jobs.pop_front()).flatten()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedDevice {
    device: Device,
    geometry: Geometry,
    start: Instant,
    engines: Stages<Work>,
    uploading: Vec<Slot>,
    downloading: VecDeque<ResultSlot>,
    alarm: Alarm,
}

impl SimulatedDevice {
    pub(super) fn new(spec: &DeviceSpec, seed: u64, geometry: Geometry) -> anyhow::Result<Self> {
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

    fn attach(&mut self, attachment: Attachment) -> twinstream::Result<()> {
        self.uploading.reserve(attachment.batch_len_max);
        self.downloading.reserve(attachment.slot_len);
        self.alarm.wakes(attachment.waker);
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
    /// None once the thread is to end.
    moments: Option<SyncSender<Instant>>,
    wakers: SyncSender<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    fn new() -> anyhow::Result<Self> {
        let (moments, to_come) = sync_channel(WORK_LEN);
        let (wakers, waker) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("simulated-alarm".to_owned())
            .spawn(move || {
                // None: the device was dropped before it was attached.
                if let Ok(waker) = waker.recv() {
                    ring(&to_come, &waker);
                }
            })
            .context("cannot start the simulated device's thread")?;
        Ok(Self { moments: Some(moments), wakers, thread: Some(thread) })
    }

    fn wakes(&self, waker: Waker) {
        self.wakers.try_send(waker).expect("a backend is attached once");
    }

    fn set(&self, moment: Instant) {
        let moments = self.moments.as_ref().expect("the thread was not told to end");
        // There is room for the work of a moment; should the thread be late with older ones, it
        // takes this one soon.
        moments.send(moment).expect("the thread lives as long as the device");
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.moments = None;
        // Ends a thread that still waits for its waker.
        self.wakers = sync_channel(1).0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ring(to_come: &Receiver<Instant>, waker: &Waker) {
    sharpen_timers();
    let mut moments: Vec<Instant> = Vec::with_capacity(4 * WORK_LEN);
    loop {
        let received = match moments.iter().min() {
            None => to_come.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(&next) => match next.saturating_duration_since(Instant::now()) {
                left if left > EARLY => to_come.recv_timeout(left - EARLY),
                left if left.is_zero() => {
                    moments.retain(|&moment| moment != next);
                    waker.wake_by_ref();
                    continue;
                }
                _ => to_come.try_recv().map_err(|error| match error {
                    std::sync::mpsc::TryRecvError::Empty => RecvTimeoutError::Timeout,
                    std::sync::mpsc::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
            },
        };
        match received {
            Ok(moment) => moments.push(moment),
            Err(RecvTimeoutError::Timeout) => thread::yield_now(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
