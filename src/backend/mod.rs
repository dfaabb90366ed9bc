//! What executes the network: the trait that the engine drives, and its implementations.
//!
//! Invariant: whoever works on host memory owns it. Slots and result slots move into a backend with
//! the copy that needs them and come back when it is over, so a device that never answers can't
//! write into memory that was handed to someone else. Knows nothing of policies, queues or
//! requests.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod null;
mod open;
#[cfg(feature = "sim")]
mod simulated;

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Waker;

pub use null::Null;
pub use open::{BackendSpec, BackendSpecs, OpenOptions};
#[cfg(feature = "sim")]
pub use simulated::SimulatedDevice;

use crate::error::Result;
use crate::ring::{Lease, Reader, Ring, Run, Slot};
use crate::sched::Timing;

/// A place on the host that a result is downloaded to: 32-bit floats in the machine's byte order.
/// The engine has its request's times travel with it.
pub type ResultSlot = Lease<'static, Timing>;

/// Sizes that a backend works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of one image.
    pub image_bytes: usize,
    /// Values of one result.
    pub result_len: usize,
    /// Longest chunk to upload and longest batch to compute, at least one.
    pub batch_len_max: usize,
}

/// Reads images out of taken slots, whatever else their ring carries.
pub trait Images: Send + Sync {
    /// The bytes of one image, and no more.
    ///
    /// # Panics
    /// When the slot is another ring's.
    fn image<'a>(&'a self, slot: &'a Slot) -> &'a [u8];

    /// Calls `visit` with each run of neighbours among `slots`: a copy each. Slots that ascend,
    /// as the engine hands them over, give the fewest.
    ///
    /// # Panics
    /// When a slot is another ring's.
    fn visit_runs(&self, slots: &[Slot], visit: &mut dyn FnMut(Run<'_>));
}

impl<T: Send> Images for Ring<T> {
    fn image<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        self.bytes(slot)
    }

    fn visit_runs(&self, slots: &[Slot], visit: &mut dyn FnMut(Run<'_>)) {
        self.runs(slots).for_each(visit);
    }
}

impl<T: Send> Images for Reader<T> {
    fn image<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        self.bytes(slot)
    }

    fn visit_runs(&self, slots: &[Slot], visit: &mut dyn FnMut(Run<'_>)) {
        self.runs(slots).for_each(visit);
    }
}

/// What a backend is given before its first work.
#[non_exhaustive]
pub struct Attachment {
    /// Where the images of slots are read.
    pub images: Arc<dyn Images>,
    /// Slots, on the host as on the device: numbers run from 0 to below it.
    pub slot_len: usize,
    /// From the start of one slot's image to the next one's.
    pub stride_bytes: usize,
    /// Longest batch that will be asked for, at most the backend's own longest.
    pub batch_len_max: usize,
    /// The most batches between the start of their computing and the end of their download.
    pub depth: usize,
    /// Wakes the thread that polls. A backend wakes it after each completion, unless the thread
    /// has not slept since ([`Backend::before_sleep`]).
    pub waker: Waker,
}

impl Attachment {
    /// Of the images in a ring. `batch_len_max`, `depth` and `waker` are as the fields say.
    pub fn new<T: Send + 'static>(
        images: &Ring<T>,
        batch_len_max: usize,
        depth: usize,
        waker: Waker,
    ) -> Self {
        Self {
            slot_len: images.slot_len() as usize,
            stride_bytes: images.stride_bytes(),
            images: Arc::new(images.clone()),
            batch_len_max,
            depth,
            waker,
        }
    }
}

/// Why a stage did not complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Fault {
    /// The device is gone for good; otherwise only this piece of work is.
    pub is_lost: bool,
    /// What the device said.
    pub message: Cow<'static, str>,
}

impl Fault {
    /// This work failed; the next may succeed.
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_lost: false, message: message.into() }
    }

    /// The device will do no more work.
    pub fn lost(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_lost: true, message: message.into() }
    }
}

/// How a piece of work ended: the nanoseconds that it took the device, or why it failed.
pub type Completion = std::result::Result<u64, Fault>;

/// A device that uploads, computes and downloads, each in the order asked for, beside each other.
///
/// An image's place on the device has its slot's number. No call blocks, and none but `attach`
/// allocates. Work is never refused: what cannot even begin is reported as failed in its turn. A
/// panic, or a [`Fault`] that says so, loses the device.
pub trait Backend: Send {
    /// Sizes, the same throughout its life.
    fn geometry(&self) -> Geometry;

    /// Calls `make`, which allocates the memory that images and results will lie in, such that the
    /// device can copy from and to it at full speed. Called once, before `attach`, on any thread.
    fn with_host_memory(&self, make: &mut dyn FnMut()) {
        make();
    }

    /// Makes room on the device. Called once, before any work, by the thread that will poll.
    ///
    /// # Errors
    /// When the device has no such room or cannot be used.
    fn attach(&mut self, attachment: Attachment) -> Result<()>;

    /// Copies images to the device; takes all of `slots`, which ascend, and keeps them until
    /// [`Backend::poll_upload`] hands them back. One at a time.
    fn upload(&mut self, slots: &mut Vec<Slot>);

    /// Computes the images that the listed places of the device hold. One batch at a time.
    fn compute(&mut self, slots: &[u32]);

    /// Copies results to the host; takes all of `results`, the n-th for the n-th of `slots`, and
    /// keeps them until [`Backend::poll_download`] hands them back. `slots` are those of the oldest
    /// batch that was computed and is not downloaded; at most [`Attachment::depth`] await or
    /// undergo it.
    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>);

    /// Reports the upload if it ended since, and appends its slots to `slots`.
    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion>;

    /// Reports the batch if its computing ended since.
    fn poll_compute(&mut self) -> Option<Completion>;

    /// Reports the oldest download if it ended since, and appends its results to `results`, in
    /// order.
    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion>;

    /// The thread that polls is about to sleep and wants to be woken when work ends, as by a waker
    /// of [`Attachment`]. A backend that wakes it at every end has nothing to do.
    fn before_sleep(&mut self) {}
}

impl<B: Backend + 'static> From<B> for Box<dyn Backend> {
    fn from(backend: B) -> Self {
        Box::new(backend)
    }
}
