//! A backend that another one watches: notes each batch that it computes.
//!
//! Invariant: every call goes through unchanged, and no note allocates: once there is no room, no
//! more are taken.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use twinstream::backend::{Attachment, Backend, Completion, Geometry, ResultSlot};
use twinstream::ring::Slot;

/// Batches noted at most.
const BATCH_LEN_MAX: usize = 1 << 16;

/// A batch that was computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// When it was handed to the device.
    pub(crate) start: Instant,
    /// Images in it.
    pub(crate) len: usize,
    /// What it took the device, in nanoseconds; 0 if it has not ended or failed.
    pub(crate) elapsed_ns: u64,
}

/// Batches in the order of their computing.
pub(crate) type Batches = Arc<Mutex<Vec<Batch>>>;

pub(super) struct Watched {
    backend: Box<dyn Backend>,
    batches: Batches,
}

impl Watched {
    pub(super) fn new(backend: Box<dyn Backend>) -> (Self, Batches) {
        let batches: Batches = Arc::new(Mutex::new(Vec::with_capacity(BATCH_LEN_MAX)));
        (Self { backend, batches: Arc::clone(&batches) }, batches)
    }
}

impl Backend for Watched {
    fn geometry(&self) -> Geometry {
        self.backend.geometry()
    }

    fn with_host_memory(&self, make: &mut dyn FnMut()) {
        self.backend.with_host_memory(make);
    }

    fn attach(&mut self, attachment: Attachment) -> twinstream::Result<()> {
        self.backend.attach(attachment)
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.backend.upload(slots);
    }

    fn compute(&mut self, slots: &[u32]) {
        self.backend.compute(slots);
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() < BATCH_LEN_MAX {
            batches.push(Batch { start: Instant::now(), len: slots.len(), elapsed_ns: 0 });
        }
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.backend.download(slots, results);
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        self.backend.poll_upload(slots)
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        let completion = self.backend.poll_compute()?;
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(elapsed_ns), Some(batch)) = (&completion, batches.last_mut())
            && batch.elapsed_ns == 0
        {
            batch.elapsed_ns = *elapsed_ns;
        }
        Some(completion)
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        self.backend.poll_download(results)
    }

    fn before_sleep(&mut self) {
        self.backend.before_sleep();
    }
}
