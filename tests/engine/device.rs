//! A device for tests: late, unreliable, and strict about what it is asked.
//!
//! It copies images and results at the last moment allowed, answers with a checksum of each image,
//! and panics when it is asked to compute or download what is not there. Delays, failures, loss,
//! stalls and panics happen as its seed says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use twinstream::Result;
use twinstream::backend::{Attachment, Backend, Completion, Fault, Geometry, Images, ResultSlot};
use twinstream::ring::Slot;
use twinstream::sched::calibration_lens;

/// Results are a checksum in pieces of 16 bits, which an f32 holds exactly.
pub const RESULT_LEN: usize = 4;

pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.below(one_in) == 0
    }
}

/// FNV-1a.
pub fn checksum(image: &[u8]) -> u64 {
    image.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub fn result_of(checksum: u64) -> [f32; RESULT_LEN] {
    std::array::from_fn(|piece| (checksum >> (16 * piece) & 0xffff) as f32)
}

/// Pieces of work that calibration takes: three for each of four batches of a length, or of two
/// where it is longer than eight.
pub fn calibration_len(batch_len_max: usize) -> u64 {
    calibration_lens(batch_len_max).map(|len| if len <= 8 { 12 } else { 6 }).sum()
}

/// What goes wrong, once in so many pieces of work; 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    pub delay_us_max: u64,
    pub fail_one_in: u64,
    pub lose_one_in: u64,
    pub stall_one_in: u64,
    pub panic_one_in: u64,
    /// Work that goes well before any of this may happen; see [`calibration_len`].
    pub spared: u64,
}

#[derive(Clone, Copy)]
enum End {
    Well,
    Failed,
    Lost,
    Never,
    Panic,
}

struct Job {
    numbers: Vec<u32>,
    slots: Vec<Slot>,
    results: Vec<ResultSlot>,
    due: Instant,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Poisoned,
    Uploaded(u64),
    Computed(u64),
}

pub struct Device {
    geometry: Geometry,
    plan: Plan,
    random: Random,
    attached: Option<(Arc<dyn Images>, Vec<Place>)>,
    depth: usize,
    uploads: VecDeque<Job>,
    computes: VecDeque<Job>,
    downloads: VecDeque<Job>,
    work_len: u64,
    is_dropped: Arc<AtomicBool>,
    /// Wakes nobody any more.
    is_silent: Arc<AtomicBool>,
}

impl Device {
    pub fn new(image_bytes: usize, batch_len_max: usize, plan: Plan, seed: u64) -> Self {
        Self {
            geometry: Geometry { image_bytes, result_len: RESULT_LEN, batch_len_max },
            plan,
            random: Random::new(seed),
            attached: None,
            depth: 0,
            uploads: VecDeque::new(),
            computes: VecDeque::new(),
            downloads: VecDeque::new(),
            work_len: 0,
            is_dropped: Arc::default(),
            is_silent: Arc::default(),
        }
    }

    /// Becomes true when the device is dropped.
    pub fn is_dropped(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_dropped)
    }

    fn job(&mut self, numbers: Vec<u32>, slots: Vec<Slot>, results: Vec<ResultSlot>) -> Job {
        self.work_len += 1;
        let plan = self.plan;
        let mut end = End::Well;
        if self.work_len > plan.spared {
            let odds = [
                (plan.fail_one_in, End::Failed),
                (plan.lose_one_in, End::Lost),
                (plan.stall_one_in, End::Never),
                (plan.panic_one_in, End::Panic),
            ];
            for (one_in, bad) in odds {
                if self.random.chance(one_in) {
                    end = bad;
                }
            }
        }
        if matches!(end, End::Never) {
            self.is_silent.store(true, Ordering::Relaxed);
        }
        let delay_us = self.random.below(plan.delay_us_max + 1);
        Job { numbers, slots, results, due: Instant::now() + Duration::from_micros(delay_us), end }
    }

    fn attached(&mut self) -> &mut (Arc<dyn Images>, Vec<Place>) {
        self.attached.as_mut().expect("attached before any work")
    }
}

/// The oldest job if it is over, and how it ended.
fn due(jobs: &mut VecDeque<Job>) -> Option<(Job, Completion)> {
    let job = jobs.front()?;
    if Instant::now() < job.due || matches!(job.end, End::Never) {
        return None;
    }
    let job = jobs.pop_front()?;
    let completion = match job.end {
        End::Failed => Err(Fault::failed("injected failure")),
        End::Lost => Err(Fault::lost("injected loss")),
        End::Panic => panic!("injected panic"),
        End::Well | End::Never => Ok(1 + job.numbers.len() as u64 * 100),
    };
    Some((job, completion))
}

impl Backend for Device {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        let places = vec![Place::Poisoned; attachment.slot_len];
        self.attached = Some((attachment.images, places));
        self.depth = attachment.depth;
        let (waker, is_silent) = (attachment.waker, Arc::clone(&self.is_silent));
        // Stands in for the interrupts of a device.
        std::thread::spawn(move || {
            while !is_silent.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(50));
                waker.wake_by_ref();
            }
        });
        Ok(())
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        assert!(self.uploads.is_empty(), "one upload at a time");
        assert!(
            slots.is_sorted() && !slots.is_empty() && slots.len() <= self.geometry.batch_len_max
        );
        let numbers: Vec<u32> = slots.iter().map(Slot::index).collect();
        for &slot in &numbers {
            self.attached().1[slot as usize] = Place::Poisoned;
        }
        let job = self.job(numbers, std::mem::take(slots), Vec::new());
        self.uploads.push_back(job);
    }

    fn compute(&mut self, slots: &[u32]) {
        assert!(self.computes.is_empty(), "one batch at a time");
        assert!(!slots.is_empty() && slots.len() <= self.geometry.batch_len_max);
        let job = self.job(slots.to_vec(), Vec::new(), Vec::new());
        self.computes.push_back(job);
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        assert!(self.downloads.len() < self.depth && slots.len() == results.len());
        let job = self.job(slots.to_vec(), Vec::new(), std::mem::take(results));
        self.downloads.push_back(job);
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        let (job, completion) = due(&mut self.uploads)?;
        let (images, places) = self.attached();
        if completion.is_ok() {
            images.visit_runs(&job.slots, &mut |run| assert!(!run.bytes.is_empty()));
            for slot in &job.slots {
                let place = Place::Uploaded(checksum(images.image(slot)));
                places[slot.index() as usize] = place;
            }
        }
        slots.extend(job.slots);
        Some(completion)
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        let (job, completion) = due(&mut self.computes)?;
        let (_, places) = self.attached();
        for slot in job.numbers {
            let place = &mut places[slot as usize];
            let Place::Uploaded(checksum) = *place else {
                panic!("slot {slot} is computed but is {place:?}");
            };
            *place = if completion.is_ok() { Place::Computed(checksum) } else { Place::Poisoned };
        }
        Some(completion)
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        let (mut job, completion) = due(&mut self.downloads)?;
        let (_, places) = self.attached();
        for (&slot, result) in job.numbers.iter().zip(&mut job.results) {
            let Place::Computed(checksum) = places[slot as usize] else {
                panic!("slot {slot} is downloaded but is {:?}", places[slot as usize]);
            };
            let values = result_of(if completion.is_ok() { checksum } else { 0 });
            for (bytes, value) in result.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_ne_bytes());
            }
        }
        results.extend(job.results);
        Some(completion)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.is_silent.store(true, Ordering::Relaxed);
        self.is_dropped.store(true, Ordering::Relaxed);
    }
}
