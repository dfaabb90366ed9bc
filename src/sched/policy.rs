//! What a batch policy sees and decides; the policies themselves are the modules below.
//!
//! A policy is asked when an engine is free and has something to do, and answers at once. It
//! changes nothing but itself and knows neither slots nor engines: the scheduler holds every limit.

mod adaptive;
mod aimd;
mod deferred;
mod fixed;
mod jit;
mod lens;
mod paper;
mod serial;
mod spec;
mod stream;

use super::announced::Announcements;
use super::cost::CostModel;
use super::echo::Echo;
use super::gaps::ArrivalGaps;
use super::line::{Line, Stage};

pub use lens::BatchLens;
pub use spec::{Parameter, PolicyError, PolicySpec, PolicyWords};

/// Why a batch or an upload went when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It reached the length that was wanted.
    Full,
    /// Waiting longer would have left the compute engine idle.
    JustInTime,
    /// The engine was idle and nothing was worth waiting for.
    Idle,
    /// A request had waited as long as it may.
    Deadline,
    /// The scheduler drains.
    Flush,
    /// Images went up early because there was time for it; the batch stays open.
    Ahead,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::JustInTime, Self::Idle, Self::Deadline, Self::Flush, Self::Ahead];

    /// Its name in figures and metrics, such as `just-in-time`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::JustInTime => "just-in-time",
            Self::Idle => "idle",
            Self::Deadline => "deadline",
            Self::Flush => "flush",
            Self::Ahead => "ahead",
        }
    }
}

/// A policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start now with the first `len` requests.
    Go {
        /// Requests to take, at least one; clamped to what is there and to the longest batch.
        len: usize,
        /// Why now.
        reason: Reason,
    },
    /// Ask again when anything happens, or at this moment at the latest.
    Hold {
        /// Nanoseconds of the caller's clock; none: only when something happens.
        until_ns: Option<u64>,
    },
    /// End one request as expired, and ask again: the oldest of those that go first in their
    /// priority.
    Drop,
}

impl Decision {
    /// Wait for the next event.
    pub const HOLD: Self = Self::Hold { until_ns: None };

    fn go(len: usize, reason: Reason) -> Self {
        Self::Go { len, reason }
    }

    fn until(until_ns: u64) -> Self {
        Self::Hold { until_ns: Some(until_ns) }
    }
}

/// A lane that serves, beside others. Times are nanoseconds of the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LaneView {
    /// Which one, in the order of [`Config::lines`](super::Config::lines).
    pub lane: usize,
    /// When it is expected to have computed all that it has; the present if it has nothing.
    pub free_ns: u64,
    /// Whether it may begin an upload and nothing is ready for it to compute.
    pub may_take: bool,
    /// Line of its uploads.
    pub upload: Line,
    /// Line of its computing.
    pub compute: Line,
}

/// What a policy is shown. Times are nanoseconds of the caller's clock.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct View<'a> {
    /// The present moment.
    pub now_ns: u64,
    /// Requests in host memory.
    pub waiting_len: usize,
    /// Arrival of the waiting request that came first; the present if none waits.
    pub oldest_arrival_ns: u64,
    /// Arrival of the waiting request that came last; the present if none waits.
    pub latest_arrival_ns: u64,
    /// Requests being uploaded.
    pub uploading_len: usize,
    /// When the upload is expected to end, in the past if it is late; the present if there is none.
    pub upload_free_ns: u64,
    /// Requests in device memory, ready to be computed.
    pub resident_len: usize,
    /// Requests being computed.
    pub computing_len: usize,
    /// When computing is expected to end; the present if nothing computes or it is overdue.
    pub compute_free_ns: u64,
    /// Batches whose results are not on the host yet, the one being computed among them.
    pub batches_in_flight_len: usize,
    /// Requests whose results are on their way to the host.
    pub downloading_len: usize,
    /// Requests that have not ended, wherever they are.
    pub unanswered_len: usize,
    /// Longest batch allowed.
    pub batch_len_max: usize,
    /// Bound on a request's latency, if there is one.
    pub latency_bound_ns: Option<u64>,
    /// Estimated arrivals a nanosecond: a burst is believed at once.
    pub arrivals_per_ns: f64,
    /// Arrivals a nanosecond over the latest batches; none before there were enough.
    pub steady_arrivals_per_ns: Option<f64>,
    /// No deadline of those that wait or are ready to be computed is earlier; none if no request
    /// has one.
    pub earliest_deadline_ns: Option<u64>,
    /// The gaps between the latest arrivals, refused ones included.
    pub gaps: &'a ArrivalGaps,
    /// Clients that wait for their answers, as far as arrivals show it.
    pub echo: &'a Echo,
    /// Requests that are announced.
    pub announcements: &'a Announcements,
    /// Whether the scheduler drains: nothing more will arrive.
    pub is_draining: bool,
    /// What the stages cost.
    pub cost: &'a CostModel,
    /// All lanes that serve the queue, the one that is free first before the others; of those that
    /// are free at the same time, the quicker one. The fields above are of one of them, …
    pub lanes: &'a [LaneView],
    /// … which has this place here. As if it were the only one, it has its share of the arrivals.
    pub rank: usize,
    /// Whether all lanes upload over one link.
    pub is_link_shared: bool,
}

impl View<'_> {
    /// Whether nothing is in flight on any engine or ready to be computed.
    pub fn is_idle(&self) -> bool {
        self.uploading_len == 0 && self.resident_len == 0 && self.batches_in_flight_len == 0
    }

    /// Waiting requests that fit one batch.
    pub fn batch_len(&self) -> usize {
        self.waiting_len.min(self.batch_len_max)
    }
}

/// A batch whose results have reached the host.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FinishedBatch {
    /// Images in it.
    pub batch_len: usize,
    /// When the upload of its first images began, in nanoseconds of the caller's clock.
    pub upload_started_ns: u64,
    /// When its results were on the host.
    pub finished_ns: u64,
    /// Time from arrival to the start of the upload, averaged over its images, in nanoseconds.
    pub wait_mean_ns: u64,
}

/// Chooses when a batch goes and how many requests it takes.
pub trait Policy: std::fmt::Debug + Send {
    /// The stage whose start closes a batch where so many lanes serve: [`Stage::Upload`] if a batch
    /// is uploaded as one, [`Stage::Compute`] if it is made of whatever is in device memory then.
    fn closes_at(&self, _lane_len: usize) -> Stage {
        Stage::Upload
    }

    /// The upload engine is free and at least one request waits.
    fn upload(&self, view: &View<'_>) -> Decision;

    /// The compute engine is free and at least one request is in device memory. Not asked of a
    /// policy that closes its batches at the upload: these are computed as soon as they can be.
    fn compute(&self, view: &View<'_>) -> Decision {
        Decision::go(view.resident_len, Reason::Idle)
    }

    /// A batch has finished.
    fn finished(&mut self, _batch: &FinishedBatch) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::line::{Line, Stages};

    /// What an idle device's policy answers 100 ns after the first of these arrived, 50 ns after
    /// the last; all stages take 10 + len ns. `change` changes what it is shown.
    pub(super) fn upload_answer(
        words: &str,
        waiting_len: usize,
        change: impl FnOnce(&mut View<'_>),
    ) -> Decision {
        let line = Line::new(10.0, 1.0);
        let mut view = View {
            now_ns: 1_100,
            waiting_len,
            oldest_arrival_ns: 1_000,
            latest_arrival_ns: 1_050,
            uploading_len: 0,
            upload_free_ns: 1_100,
            resident_len: 0,
            computing_len: 0,
            compute_free_ns: 1_100,
            batches_in_flight_len: 0,
            downloading_len: 0,
            unanswered_len: waiting_len,
            batch_len_max: 64,
            latency_bound_ns: None,
            arrivals_per_ns: 0.01,
            steady_arrivals_per_ns: None,
            earliest_deadline_ns: None,
            gaps: &ArrivalGaps::new(1),
            echo: &Echo::new(1),
            announcements: &Announcements::new(1),
            is_draining: false,
            cost: &CostModel::new(Stages { upload: line, compute: line, download: line }),
            lanes: &[],
            rank: 0,
            is_link_shared: false,
        };
        change(&mut view);
        words.parse::<PolicySpec>().unwrap().policy().upload(&view)
    }
}
