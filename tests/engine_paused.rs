//! A process that is stopped for longer than a device may be silent keeps its device.
//!
//! Method: a device whose work takes a thread of this process some milliseconds awake; meanwhile
//! the process is stopped and goes on, as by a debugger or a container that is paused. Alone in its
//! process, as it stops that.

#![cfg(unix)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use twinstream::Result;
use twinstream::backend::{Attachment, Backend, Completion, Geometry, Null, ResultSlot};
use twinstream::engine::{Engine, EngineOptions, RequestOptions};
use twinstream::ring::Slot;

/// What computing takes, in milliseconds that its thread was awake.
const COMPUTE_MS: u64 = 40;
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes its time to compute, and none for the rest.
struct Slow {
    null: Null,
    awake_ms: Arc<AtomicU64>,
    due_ms: u64,
}

impl Backend for Slow {
    fn geometry(&self) -> Geometry {
        self.null.geometry()
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        let (waker, awake_ms) = (attachment.waker.clone(), Arc::clone(&self.awake_ms));
        // Ends with the process.
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(1));
                awake_ms.fetch_add(1, Ordering::Relaxed);
                waker.wake_by_ref();
            }
        });
        self.null.attach(attachment)
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.null.upload(slots);
    }

    fn compute(&mut self, slots: &[u32]) {
        self.due_ms = self.awake_ms.load(Ordering::Relaxed) + COMPUTE_MS;
        self.null.compute(slots);
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.null.download(slots, results);
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        self.null.poll_upload(slots)
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        let is_due = self.awake_ms.load(Ordering::Relaxed) >= self.due_ms;
        is_due.then(|| self.null.poll_compute())?
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        self.null.poll_download(results)
    }
}

#[test]
fn a_process_that_is_stopped_keeps_its_device() {
    let null = Null::new(Geometry { image_bytes: 100, result_len: 2, batch_len_max: 4 });
    let device = Slow { null, awake_ms: Arc::default(), due_ms: 0 };
    let options = EngineOptions::default().slot_len(4).stall_timeout(STALL_TIMEOUT);
    let engine = Engine::start(device, &options).unwrap();

    let id = std::process::id();
    let script = format!("sleep 0.2; kill -STOP {id}; sleep 1.5; kill -CONT {id}");
    let mut stopper = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let mut longest = Duration::ZERO;
    while stopper.try_wait().unwrap().is_none() {
        let begun = Instant::now();
        let ticket = engine.submit(&[1; 100], RequestOptions::default());
        ticket.unwrap_or_else(|refused| panic!("{refused}: {:?}", engine.fault())).wait().unwrap();
        longest = longest.max(begun.elapsed());
    }
    assert!(stopper.wait().unwrap().success());
    assert!(longest > STALL_TIMEOUT, "the process was stopped within a request: {longest:?}");
}
