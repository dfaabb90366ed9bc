//! When a completed request passed which stage, and in which batch.
//!
//! Invariant: moments ascend in the order in which the fields stand. Plain values.

use super::policy::Reason;

/// The life of a request that completed. Moments are nanoseconds of the caller's clock; an engine's
/// counts from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// It arrived; in an engine: it was committed.
    pub arrival_ns: u64,
    /// The upload with its image began.
    pub upload_started_ns: u64,
    /// Its image was in device memory.
    pub upload_ended_ns: u64,
    /// Its batch began to compute.
    pub compute_started_ns: u64,
    /// Its batch was computed.
    pub compute_ended_ns: u64,
    /// The download of its batch began.
    pub download_started_ns: u64,
    /// Its result was on the host.
    pub download_ended_ns: u64,
    /// The caller could see the answer, or its handler was called.
    pub announced_ns: u64,
    /// Number of its batch: 0 for the first that began to compute, and so on.
    pub batch: u64,
    /// Images in its batch.
    pub batch_len: usize,
    /// Why the batch began to compute when it did.
    pub reason: Reason,
    /// How long the batch was expected to compute, in nanoseconds.
    pub predicted_ns: u64,
    /// How long it computed, in nanoseconds, as the device measured it.
    pub computed_ns: u64,
}

impl Timing {
    /// Of a batch that begins to compute; what is before and what comes later is 0.
    pub(crate) fn of_batch(batch: u64, batch_len: usize, reason: Reason, now_ns: u64) -> Self {
        Self {
            arrival_ns: 0,
            upload_started_ns: 0,
            upload_ended_ns: 0,
            compute_started_ns: now_ns,
            compute_ended_ns: 0,
            download_started_ns: 0,
            download_ended_ns: 0,
            announced_ns: 0,
            batch,
            batch_len,
            reason,
            predicted_ns: 0,
            computed_ns: 0,
        }
    }

    /// From its arrival until its upload began, in nanoseconds.
    pub fn queued_ns(&self) -> u64 {
        self.upload_started_ns - self.arrival_ns
    }

    /// How long it was uploaded, in nanoseconds.
    pub fn uploading_ns(&self) -> u64 {
        self.upload_ended_ns - self.upload_started_ns
    }

    /// How long it lay in device memory until its batch began to compute, in nanoseconds.
    pub fn waiting_ns(&self) -> u64 {
        self.compute_started_ns - self.upload_ended_ns
    }

    /// How long its batch was computed, in nanoseconds, by the caller's clock.
    pub fn computing_ns(&self) -> u64 {
        self.compute_ended_ns - self.compute_started_ns
    }

    /// From the end of its computing until its result was on the host, in nanoseconds.
    pub fn downloading_ns(&self) -> u64 {
        self.download_ended_ns - self.compute_ended_ns
    }

    /// From then until its answer was announced, in nanoseconds.
    pub fn announcing_ns(&self) -> u64 {
        self.announced_ns - self.download_ended_ns
    }

    /// From its arrival until its answer was announced, in nanoseconds: the sum of these six.
    pub fn latency_ns(&self) -> u64 {
        self.announced_ns - self.arrival_ns
    }
}
