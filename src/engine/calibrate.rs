//! First values of the stages' costs: batches of several lengths through the device before anyone
//! is served.
//!
//! Invariant: every slot that was used is free again afterwards, unless the device is lost. Looks
//! at the times that the device reports, and at no others.

use std::thread;
use std::time::{Duration, Instant};

use super::announced::NOWHERE;
use super::lane::Device;
use super::shared::{ALONE, NEVER_NS, Request, Shared};
use super::stall::StallWatchdog;
use crate::backend::{Completion, Fault, ResultSlot};
use crate::ring::{Consumer, Slot};
use crate::sched::{Line, Priority, Scheduler, Stage, Stages, calibration_lens};

/// As their times are listed.
const STAGES: [Stage; 3] = [Stage::Upload, Stage::Compute, Stage::Download];
/// Batches up to this length are always timed: long enough to tell a cost per image from a fixed
/// cost, short enough to be over soon on a slow device.
const LONG_LEN: usize = 8;
/// Longer ones are timed as long as the last one computed for less: nobody waits long for a start.
const COMPUTE_NS_MAX: u64 = 50_000_000;
/// Measured runs of each length up to `LONG_LEN`, behind one to warm up; the median counts.
const RUN_LEN: usize = 3;
/// Runs of longer ones, the device being warm; the shorter time counts.
const LONG_RUN_LEN: usize = 2;
/// Looks at the device even if it wakes nobody.
const LOOK: Duration = Duration::from_millis(1);

/// What the stages of a device take on which nothing else runs.
#[derive(Clone, Debug)]
pub(super) struct Calibration {
    pub(super) lines: Stages<Line>,
    /// Batch lengths, ascending, each with the time of upload, compute and download in nanoseconds.
    timed: Vec<(usize, [u64; 3])>,
}

impl Calibration {
    /// The lines as they are given, without a measurement.
    pub(super) const fn given(lines: Stages<Line>) -> Self {
        Self { lines, timed: Vec::new() }
    }

    /// Lets a scheduler know what was timed on a lane's device.
    pub(super) fn teach(&self, scheduler: &mut Scheduler, lane: usize) {
        for &(batch_len, times_ns) in &self.timed {
            for (stage, elapsed_ns) in STAGES.into_iter().zip(times_ns) {
                scheduler.calibrated(lane, stage, batch_len, elapsed_ns);
            }
        }
    }

    fn new(timed: Vec<(usize, [u64; 3])>) -> Self {
        let (short, long) = (timed[0], timed[timed.len() - 1]);
        let [upload, compute, download] = [0, 1, 2].map(|stage| {
            let (short_ns, long_ns) = (short.1[stage], long.1[stage]);
            // Noise may have made the longer batch the quicker one, or one length is all there is:
            // what is seen then is a fixed cost.
            Line::through((short.0, short_ns), (long.0, long_ns))
                .unwrap_or(Line::new(long_ns as f64, 0.0))
        });
        Self { lines: Stages { upload, compute, download }, timed }
    }
}

/// Times batches on a device on which nothing else runs.
pub(super) fn calibrate(
    device: &mut Device,
    shared: &Shared,
    images: &mut Consumer<Request>,
    batch_len_max: usize,
    timeout: Duration,
) -> Result<Calibration, Fault> {
    let mut slots = Vec::with_capacity(batch_len_max);
    let mut results = Vec::with_capacity(batch_len_max);
    for _ in 0..batch_len_max {
        let result = shared.results.lease().expect("no result slot is in use yet").into_owned();
        let request = Request {
            committed_ns: 0,
            deadline_ns: NEVER_NS,
            priority: Priority::Normal,
            place: NOWHERE,
            is_hashed: false,
            group: ALONE,
            result,
            handler: None,
        };
        let lease = shared.images.lease().expect("no slot is in use yet");
        lease.commit(request).expect("the ring is open");
        let (slot, request) = images.take().expect("it was just committed");
        slots.push(slot);
        results.push(request.result);
    }
    slots.sort_unstable();
    let mut timed: Vec<(usize, [u64; 3])> = Vec::new();
    for batch_len in calibration_lens(batch_len_max) {
        let is_long = batch_len > LONG_LEN;
        if is_long && timed.last().is_some_and(|(_, times_ns)| times_ns[1] > COMPUTE_NS_MAX) {
            break;
        }
        let mut runs = Vec::new();
        for _ in 0..if is_long { LONG_RUN_LEN } else { 1 + RUN_LEN } {
            runs.push(run(device, &slots, &mut results, batch_len, timeout)?);
        }
        if !is_long {
            runs.remove(0);
        }
        let middle = |stage: usize| {
            runs.sort_by_key(|times_ns| times_ns[stage]);
            runs[(runs.len() - 1) / 2][stage]
        };
        timed.push((batch_len, [0, 1, 2].map(middle)));
    }
    shared.images.release(slots);
    Ok(Calibration::new(timed))
}

/// One batch through the three stages: the time of each in nanoseconds.
fn run(
    device: &mut Device,
    slots: &[Slot],
    results: &mut Vec<ResultSlot>,
    batch_len: usize,
    timeout: Duration,
) -> Result<[u64; 3], Fault> {
    let Device { backend, images } = device;
    let slots = &slots[..batch_len];
    let mut lent: Vec<Slot> = slots.iter().map(|slot| images.lend(slot)).collect();
    let mut targets: Vec<ResultSlot> = results.drain(..batch_len).collect();
    let numbers: Vec<u32> = slots.iter().map(Slot::index).collect();
    backend.upload(&mut lent);
    let upload_ns = wait(timeout, || backend.poll_upload(&mut lent))?;
    images.take_back(lent);
    backend.compute(&numbers);
    let compute_ns = wait(timeout, || backend.poll_compute())?;
    backend.download(&numbers, &mut targets);
    let download_ns = wait(timeout, || backend.poll_download(results))?;
    Ok([upload_ns, compute_ns, download_ns])
}

fn wait(timeout: Duration, mut poll: impl FnMut() -> Option<Completion>) -> Completion {
    let start = Instant::now();
    let mut watchdog = StallWatchdog::new(timeout);
    loop {
        if let Some(completion) = poll() {
            return completion;
        }
        if watchdog.is_stalled(start.elapsed().as_nanos() as u64) {
            return Err(watchdog.fault());
        }
        thread::park_timeout(LOOK);
    }
}
