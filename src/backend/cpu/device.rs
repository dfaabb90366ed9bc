//! The CPU as an asynchronous device: memory of its own, and a thread for each of the three stages.
//!
//! Invariant: an image is copied into a device slot, computed out of it and its result copied back,
//! each by the thread whose work that is, in the order asked for; times are measured around that
//! work alone. A panic on any of them loses the device. After [`Backend::attach`] nothing is
//! allocated: lists travel in buffers that go back and forth. Knows no clock but its stopwatches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::Cpu;
use crate::backend::{Attachment, Backend, Completion, Fault, Geometry, Images, ResultSlot};
use crate::error::{Error, Kind, Result};
use crate::model::Answer;
use crate::ring::Slot;

/// Images that are computed at a time at most: beyond, the processor gains nothing.
const BATCH_LEN_MAX: usize = 64;

/// What one slot of the device holds.
struct Place {
    image: Box<[u8]>,
    answer: Box<[f32]>,
}

/// Device memory. Each place has a lock of its own, which nobody waits for: the engine never asks
/// for two things with one place at a time.
struct Memory {
    images: Arc<dyn Images>,
    places: Box<[Mutex<Place>]>,
}

impl Memory {
    fn place(&self, slot: u32) -> std::sync::MutexGuard<'_, Place> {
        self.places[slot as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work with the buffers that it travels in.
#[derive(Default)]
struct Job {
    numbers: Vec<u32>,
    slots: Vec<Slot>,
    results: Vec<ResultSlot>,
    outcome: Option<Completion>,
}

impl Job {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            numbers: Vec::with_capacity(capacity),
            slots: Vec::with_capacity(capacity),
            results: Vec::with_capacity(capacity),
            outcome: None,
        }
    }
}

/// A thread that does jobs in order, and the buffers for those that may be under way.
struct Worker {
    /// None once the thread is to end.
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Job>,
    spare: Vec<Job>,
    /// Jobs under way.
    len: usize,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(
        name: &str,
        (job_len, capacity): (usize, usize),
        waker: Waker,
        mut work: impl FnMut(&mut Job) + Send + 'static,
    ) -> Result<Self> {
        let (jobs, to_do) = sync_channel::<Job>(job_len);
        let (finished, done) = sync_channel(job_len);
        let run = move || {
            while let Ok(mut job) = to_do.recv() {
                let start = Instant::now();
                let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut job)));
                job.outcome = Some(match outcome {
                    // A time of zero would be no measurement.
                    Ok(()) => Ok((start.elapsed().as_nanos() as u64).max(1)),
                    Err(_) => Err(Fault::lost("a thread of the CPU backend panicked")),
                });
                if finished.send(job).is_err() {
                    return;
                }
                waker.wake_by_ref();
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
            Error::new(Kind::Io, format!("cannot start thread {name}: {error}")).with_source(error)
        })?;
        let spare = (0..job_len).map(|_| Job::with_capacity(capacity)).collect();
        Ok(Self { jobs: Some(jobs), done, spare, len: 0, thread: Some(thread) })
    }

    fn submit(&mut self, fill: impl FnOnce(&mut Job)) {
        let mut job = self.spare.pop().expect("the engine keeps to the number of jobs");
        fill(&mut job);
        self.len += 1;
        let jobs = self.jobs.as_ref().expect("the thread was not told to end");
        let is_sent = jobs.try_send(job).is_ok();
        assert!(is_sent, "the channel has room for every job, and its thread lives");
    }

    fn poll(&mut self, take: impl FnOnce(&mut Job)) -> Option<Completion> {
        if self.len == 0 {
            return None;
        }
        let mut job = self.done.try_recv().ok()?;
        self.len -= 1;
        take(&mut job);
        job.numbers.clear();
        let outcome = job.outcome.take();
        self.spare.push(job);
        outcome
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Panics of its work were caught and reported.
            let _ = thread.join();
        }
    }
}

/// ResNet-50 on the processor, as an asynchronous device.
pub struct CpuDevice {
    geometry: Geometry,
    answer: Answer,
    /// Moves to the compute thread.
    cpu: Option<Cpu>,
    threads: Option<Threads>,
}

struct Threads {
    upload: Worker,
    compute: Worker,
    download: Worker,
}

impl CpuDevice {
    /// A device that computes with `cpu` and answers with logits.
    pub fn new(cpu: Cpu) -> Self {
        Self::answering(cpu, Answer::Logits).expect("logits can always be answered with")
    }

    /// A device that computes with `cpu` and answers as told.
    ///
    /// # Errors
    /// `is_argument` for an answer of more classes than there are, or none.
    pub fn answering(cpu: Cpu, answer: Answer) -> Result<Self> {
        let geometry = Geometry {
            image_bytes: cpu.image_bytes(),
            result_len: answer.value_len(cpu.network().class_count())?,
            batch_len_max: BATCH_LEN_MAX,
        };
        Ok(Self { geometry, answer, cpu: Some(cpu), threads: None })
    }

    fn threads(&mut self) -> &mut Threads {
        self.threads.as_mut().expect("the backend was attached")
    }
}

impl std::fmt::Debug for CpuDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuDevice").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Backend for CpuDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        let Attachment { images, slot_len, batch_len_max, depth, waker, .. } = attachment;
        let Geometry { image_bytes, result_len, .. } = self.geometry;
        let place =
            || Place { image: vec![0; image_bytes].into(), answer: vec![0.0; result_len].into() };
        let places = (0..slot_len).map(|_| Mutex::new(place())).collect();
        let memory = Arc::new(Memory { images, places });
        let cpu = self.cpu.take().expect("a backend is attached once");
        let start = |name, job_len, work: Work| {
            Worker::start(name, (job_len, batch_len_max), waker.clone(), work)
        };
        self.threads = Some(Threads {
            upload: start("twinstream-up", 1, upload(Arc::clone(&memory)))?,
            compute: start(
                "twinstream-calc",
                1,
                compute(Arc::clone(&memory), cpu, self.answer, batch_len_max),
            )?,
            download: start("twinstream-down", depth, download(memory))?,
        });
        Ok(())
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.threads().upload.submit(|job| job.slots.append(slots));
    }

    fn compute(&mut self, slots: &[u32]) {
        self.threads().compute.submit(|job| job.numbers.extend_from_slice(slots));
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.threads().download.submit(|job| {
            job.numbers.extend_from_slice(slots);
            job.results.append(results);
        });
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        self.threads().upload.poll(|job| slots.append(&mut job.slots))
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        self.threads().compute.poll(|_| {})
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        self.threads().download.poll(|job| results.append(&mut job.results))
    }
}

/// What a stage does with a job.
type Work = Box<dyn FnMut(&mut Job) + Send>;

fn upload(memory: Arc<Memory>) -> Work {
    Box::new(move |job| {
        for slot in &job.slots {
            let image = memory.images.image(slot);
            memory.place(slot.index()).image.copy_from_slice(image);
        }
    })
}

/// Gathers the listed images side by side, computes them and spreads their answers.
fn compute(memory: Arc<Memory>, mut cpu: Cpu, answer: Answer, batch_len_max: usize) -> Work {
    let (image_bytes, class_count) = (cpu.image_bytes(), cpu.network().class_count());
    let mut images = vec![0; batch_len_max * image_bytes];
    let mut logits = vec![0.0; batch_len_max * class_count];
    Box::new(move |job| {
        let images = &mut images[..job.numbers.len() * image_bytes];
        let logits = &mut logits[..job.numbers.len() * class_count];
        for (&slot, image) in job.numbers.iter().zip(images.chunks_exact_mut(image_bytes)) {
            image.copy_from_slice(&memory.place(slot).image);
        }
        cpu.infer(images, logits).expect("the buffers hold whole images");
        for (&slot, logits) in job.numbers.iter().zip(logits.chunks_exact(class_count)) {
            answer.write(logits, &mut memory.place(slot).answer);
        }
    })
}

fn download(memory: Arc<Memory>) -> Work {
    Box::new(move |job| {
        for (&slot, result) in job.numbers.iter().zip(&mut job.results) {
            let place = memory.place(slot);
            for (bytes, value) in result.chunks_exact_mut(size_of::<f32>()).zip(&place.answer) {
                bytes.copy_from_slice(&value.to_ne_bytes());
            }
        }
    })
}
