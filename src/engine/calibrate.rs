//! First values of the stages' lines: two batch sizes through the device before anyone is served.
//!
//! Invariant: every slot that was used is free again afterwards, unless the device is lost. Looks
//! at the times that the device reports, and at no others.

use std::thread;
use std::time::{Duration, Instant};

use super::shared::{NEVER_NS, Request, Shared};
use super::stall::StallWatchdog;
use crate::backend::{Backend, Completion, Fault, ResultSlot};
use crate::ring::{Consumer, Slot};
use crate::sched::{Line, Priority, Stages};

/// The longer of the two batches: long enough to tell a cost per image from a fixed cost, short
/// enough to be over soon on a slow device.
const LONG_LEN: usize = 8;
/// Measured runs of each length, behind one to warm up; the median counts.
const RUN_LEN: usize = 3;
/// Looks at the device even if it wakes nobody.
const LOOK: Duration = Duration::from_millis(1);

/// The lines of a device on which nothing else runs.
pub(super) fn calibrate(
    backend: &mut dyn Backend,
    shared: &Shared,
    images: &mut Consumer<Request>,
    batch_len_max: usize,
    timeout: Duration,
) -> Result<Stages<Line>, Fault> {
    let long_len = LONG_LEN.min(batch_len_max);
    let mut slots = Vec::with_capacity(long_len);
    let mut results = Vec::with_capacity(long_len);
    for _ in 0..long_len {
        let result = shared.results.lease().expect("no result slot is in use yet").into_owned();
        let request = Request {
            committed_ns: 0,
            deadline_ns: NEVER_NS,
            priority: Priority::Normal,
            result,
            handler: None,
        };
        let lease = shared.images.lease().expect("no slot is in use yet");
        lease.commit(request).expect("the ring is open");
        let (slot, request) = images.take().expect("it was just committed");
        slots.push(slot);
        results.push(request.result);
    }
    let mut measure = |batch_len| {
        let mut runs = Vec::new();
        for _ in 0..=RUN_LEN {
            let (slots, results) = (&mut slots, &mut results);
            runs.push(run(backend, slots, results, batch_len, timeout)?);
        }
        runs.remove(0);
        let median = |stage: usize| {
            runs.sort_by_key(|times_ns| times_ns[stage]);
            runs[RUN_LEN / 2][stage]
        };
        Ok::<_, Fault>([0, 1, 2].map(median))
    };
    let short_ns = measure(1)?;
    let long_ns = measure(long_len)?;
    shared.images.release(slots);
    let [upload, compute, download] = [0, 1, 2].map(|stage| {
        let (short_ns, long_ns) = (short_ns[stage], long_ns[stage]);
        // Noise may have made the longer batch the quicker one, or one length is all there is:
        // what is seen then is a fixed cost.
        Line::through((1, short_ns), (long_len, long_ns)).unwrap_or(Line::new(long_ns as f64, 0.0))
    });
    Ok(Stages { upload, compute, download })
}

/// One batch through the three stages: the time of each in nanoseconds.
fn run(
    backend: &mut dyn Backend,
    slots: &mut Vec<Slot>,
    results: &mut Vec<ResultSlot>,
    batch_len: usize,
    timeout: Duration,
) -> Result<[u64; 3], Fault> {
    let mut chunk: Vec<Slot> = slots.drain(..batch_len).collect();
    let mut targets: Vec<ResultSlot> = results.drain(..batch_len).collect();
    let numbers: Vec<u32> = chunk.iter().map(Slot::index).collect();
    backend.upload(&mut chunk);
    let upload_ns = wait(timeout, || backend.poll_upload(slots))?;
    backend.compute(&numbers);
    let compute_ns = wait(timeout, || backend.poll_compute())?;
    backend.download(&numbers, &mut targets);
    let download_ns = wait(timeout, || backend.poll_download(results))?;
    slots.sort_unstable();
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
