//! What an engine has done, as a snapshot.
//!
//! Invariant: `accepted` is the sum of all outcomes and of `alive_len`; each of the four latencies
//! holds as many durations as were `completed`, and the sum of `latency` is that of its parts.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::arrivals::Arrivals;
use super::histogram::{LatencyHistogram, LengthHistogram};
use super::options::{DEVICE_LEN_MAX, Failure, Refused};
use crate::backend::Geometry;
use crate::sched::{Line, Reason, Scheduler, Stage, Stages};

/// How often leases and commits were refused, by reason; these requests are not among the accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// As [`Refused::Full`].
    pub full: u64,
    /// As [`Refused::Size`].
    pub size: u64,
    /// As [`Refused::ShutDown`].
    pub shut_down: u64,
    /// As [`Refused::DeviceLost`].
    pub device_lost: u64,
}

/// What became of images that were looked for among those seen before; see
/// [`EngineOptions::cache_bytes`](super::EngineOptions#structfield.cache_bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Their answer was kept.
    pub hits: u64,
    /// An equal image was in flight, whose answer they waited for.
    pub joined: u64,
    /// Neither.
    pub misses: u64,
    /// Accepted, not ended, and waiting for the answer of an equal image: computed are others.
    pub following: u64,
    /// Bytes of the answers that are kept, with what finding them takes.
    pub bytes: u64,
    /// Whether all images are looked for; not where there is no cache, nor while that does not pay.
    pub is_on: bool,
}

/// What one device has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DeviceStats {
    /// Batches whose computing was started.
    pub batches: u64,
    /// Images in them.
    pub images: u64,
    /// Whether it is lost: the others serve on without it.
    pub is_lost: bool,
    /// Lines fitted to its stages.
    pub fits: Stages<Line>,
}

/// Of each device, in the order in which their backends were given: dereferences to a slice.
#[derive(Clone, Copy, PartialEq)]
pub struct Devices {
    len: usize,
    all: [DeviceStats; DEVICE_LEN_MAX],
}

impl Default for Devices {
    fn default() -> Self {
        Self { len: 0, all: [DeviceStats::default(); DEVICE_LEN_MAX] }
    }
}

impl Devices {
    /// Those that are not lost.
    pub fn left(&self) -> impl Iterator<Item = &DeviceStats> {
        self.iter().filter(|device| !device.is_lost)
    }
}

impl Deref for Devices {
    type Target = [DeviceStats];

    fn deref(&self) -> &[DeviceStats] {
        &self.all[..self.len]
    }
}

impl DerefMut for Devices {
    fn deref_mut(&mut self) -> &mut [DeviceStats] {
        &mut self.all[..self.len]
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

/// Counts since the start, and the present state. At most about a millisecond old.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
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
    /// Of those completed, how many callers could see their answer only after its deadline: that of
    /// the request or the engine's latency bound, whichever is earlier.
    pub late: u64,
    /// What was refused before it was accepted.
    pub refused: Refusals,
    /// Why requests are refused for good now; none while they are accepted.
    pub refusal: Option<Refused>,
    /// Image slots in use, by leases and by requests until they end; a moment's count.
    pub slots_in_use: u32,
    /// Image slots that there are.
    pub slot_len: u32,
    /// Accepted and not ended.
    pub alive_len: u64,
    /// Of these, how many wait for their upload.
    pub waiting_len: usize,
    /// Arrivals a second: requests accepted in the last five seconds, over these. Of an engine that
    /// is younger, over its life, but a second at least.
    pub arrival_rate_hz: f64,
    /// Lines fitted to the stages of the first device that is not lost.
    pub fits: Stages<Line>,
    /// How often each stage was started, by reason in the order of [`Reason::ALL`].
    pub started: Stages<[u64; Reason::ALL.len()]>,
    /// Lengths of the batches that were computed.
    pub batch_lens: LengthHistogram,
    /// From a request's commit to the moment at which its caller can see the answer: it is in the
    /// ticket, or its handler is called. Of those that completed, as are its three parts.
    pub latency: LatencyHistogram,
    /// Of it, until its batch begins to compute; its upload is in here.
    pub waiting: LatencyHistogram,
    /// Of it, until the scheduling thread learns that its result was downloaded.
    pub computing: LatencyHistogram,
    /// Of it, until the caller can see the answer: the callbacks of others before it are in here.
    pub notifying: LatencyHistogram,
    /// Time that telling callers took in nanoseconds: in handlers and wakers, C's callbacks among
    /// them.
    pub callback_ns: u64,
    /// Bytes of images whose copy to the device was started.
    pub uploaded_bytes: u64,
    /// Bytes of results whose copy to the host was started.
    pub downloaded_bytes: u64,
    /// Of images seen before.
    pub cache: CacheStats,
    /// Of each device.
    pub devices: Devices,
    pub(super) arrivals: Arrivals,
}

impl Stats {
    /// Of an engine that serves from `begin_ns` on, with so many devices.
    pub(super) fn new(begin_ns: u64, device_len: usize) -> Self {
        let devices = Devices { len: device_len, ..Devices::default() };
        Self { arrivals: Arrivals::new(begin_ns), devices, ..Self::default() }
    }

    /// A lane's stage was started, of so many images.
    pub(super) fn count_start(
        &mut self,
        (lane, stage): (usize, Stage),
        len: usize,
        sizes: Geometry,
    ) {
        let bytes = |image_bytes: usize| (len * image_bytes) as u64;
        match stage {
            Stage::Upload => self.uploaded_bytes += bytes(sizes.image_bytes),
            Stage::Compute => {
                self.batch_lens.record(len);
                self.devices[lane].batches += 1;
                self.devices[lane].images += len as u64;
            }
            Stage::Download => {
                self.downloaded_bytes += bytes(sizes.result_len * size_of::<f32>());
            }
        }
    }

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

    /// Of the requests that are accepted and not ended, those that are computed themselves: the
    /// others follow an equal image in flight.
    pub fn computed_len(&self) -> u64 {
        self.alive_len - self.cache.following
    }

    /// What an image takes by itself to pass all stages of the quickest device that is left, in
    /// nanoseconds: no caller gets a computed answer sooner.
    pub fn alone_ns(&self) -> f64 {
        let alone_ns = |Stages { upload, compute, download }: &Stages<Line>| -> f64 {
            [upload, compute, download].into_iter().map(|line| line.at_ns(1)).sum()
        };
        let left = self.devices.left().map(|device| alone_ns(&device.fits));
        left.reduce(f64::min).unwrap_or_else(|| alone_ns(&self.fits))
    }

    /// Takes over what the scheduler counts.
    pub(super) fn read(&mut self, scheduler: &Scheduler) {
        for (lane, device) in self.devices.iter_mut().enumerate() {
            let cost = scheduler.cost(lane);
            device.fits = Stages {
                upload: cost.line(Stage::Upload),
                compute: cost.line(Stage::Compute),
                download: cost.line(Stage::Download),
            };
        }
        self.fits = self.devices.left().next().unwrap_or(&self.devices[0]).fits;
        let started = |stage| Reason::ALL.map(|reason| scheduler.decision_len(stage, reason));
        self.waiting_len = scheduler.waiting_len();
        self.started = Stages {
            upload: started(Stage::Upload),
            compute: started(Stage::Compute),
            download: started(Stage::Download),
        };
    }
}
