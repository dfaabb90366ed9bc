//! What an engine has done, as a snapshot.
//!
//! Invariant: `accepted` is the sum of all outcomes and of `alive_len`; `latency` holds as many
//! durations as were `completed`.

use super::histogram::{LatencyHistogram, LengthHistogram};
use super::options::Failure;
use crate::sched::{Line, Reason, Scheduler, Stage, Stages};

/// Counts since the start, and the present state. At most about a millisecond old.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Requests whose commit succeeded and that the scheduling thread has seen.
    pub accepted: u64,
    /// Ended with a result.
    pub completed: u64,
    /// Ended as [`Failure::Rejected`].
    pub rejected: u64,
    /// Ended as [`Failure::Expired`].
    pub expired: u64,
    /// Ended as [`Failure::Cancelled`].
    pub cancelled: u64,
    /// Ended as [`Failure::Failed`].
    pub failed: u64,
    /// Ended as [`Failure::DeviceLost`].
    pub device_lost: u64,
    /// Ended as [`Failure::ShutDown`].
    pub shut_down: u64,
    /// Accepted and not ended.
    pub alive_len: u64,
    /// Of these, how many wait for their upload.
    pub waiting_len: usize,
    /// Estimated arrivals a second.
    pub arrival_rate_hz: f64,
    /// Lines fitted to the stages.
    pub fits: Stages<Line>,
    /// How often each stage was started, by reason in the order of [`Reason::ALL`].
    pub started: Stages<[u64; Reason::ALL.len()]>,
    /// Lengths of the batches that were computed.
    pub batch_lens: LengthHistogram,
    /// From a request's admission, when the scheduling thread first sees it, to its result; of
    /// those that completed.
    pub latency: LatencyHistogram,
    /// Bytes of images whose copy to the device was started.
    pub uploaded_bytes: u64,
    /// Bytes of results whose copy to the host was started.
    pub downloaded_bytes: u64,
}

impl Stats {
    pub(super) fn count(&mut self, outcome: Result<(), Failure>) {
        self.alive_len -= 1;
        *match outcome {
            Ok(()) => &mut self.completed,
            Err(Failure::Rejected) => &mut self.rejected,
            Err(Failure::Expired) => &mut self.expired,
            Err(Failure::Cancelled) => &mut self.cancelled,
            Err(Failure::Failed) => &mut self.failed,
            Err(Failure::DeviceLost) => &mut self.device_lost,
            Err(Failure::ShutDown) => &mut self.shut_down,
        } += 1;
    }

    /// Takes over what the scheduler counts.
    pub(super) fn read(&mut self, scheduler: &Scheduler, now_ns: u64) {
        let cost = scheduler.cost();
        let started = |stage| Reason::ALL.map(|reason| scheduler.decision_len(stage, reason));
        self.waiting_len = scheduler.waiting_len();
        self.arrival_rate_hz = scheduler.arrival_rate_hz(now_ns);
        self.fits = Stages {
            upload: cost.line(Stage::Upload),
            compute: cost.line(Stage::Compute),
            download: cost.line(Stage::Download),
        };
        self.started = Stages {
            upload: started(Stage::Upload),
            compute: started(Stage::Compute),
            download: started(Stage::Download),
        };
    }
}
