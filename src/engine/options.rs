//! What an engine and a request can be told, and how either can be refused or fail.
//!
//! Plain values; their defaults are meant to be kept.

use std::time::{Duration, Instant};

use crate::ring::Memory;
use crate::sched::{Line, PolicySpec, Priority, Stages};
use crate::setters::setters;

/// Slots at most: their results, twice as many, fit the largest ring.
pub(super) const SLOT_LEN_MAX: usize = 32_768;

/// Devices of an engine at most: one thread looks at all of them.
pub(super) const DEVICE_LEN_MAX: usize = 32;

/// Events of a trace at most, 64 bytes each.
pub(super) const TRACE_LEN_MAX: usize = 1 << 24;

/// Who may wait for slots at a time.
pub(super) const WAITER_LEN_MAX: u32 = 1024;

/// How an [`Engine`](super::Engine) runs.
///
/// ```
/// use twinstream::engine::EngineOptions;
/// use twinstream::sched::PolicySpec;
///
/// let options = EngineOptions::default().policy(PolicySpec::Jit).slot_len(64);
/// assert_eq!(options.slot_len, 64);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EngineOptions {
    /// How batches are chosen, unless
    /// [`Engine::start_with_policy`](super::Engine::start_with_policy) says otherwise.
    pub policy: PolicySpec,
    /// The most requests alive at a time, 1 to 32,768; so many images have a place on the host and
    /// one on the device. There are twice as many places for results, which are in use until the
    /// answer is dropped.
    pub slot_len: usize,
    /// Longest batch, at least one; the backend's own limit holds as well.
    pub batch_len_max: usize,
    /// Bound on the latency of each request: its deadline is at most so long after its commit
    /// reached the scheduler.
    pub latency_bound: Option<Duration>,
    /// How long the scheduling thread and waiting tickets spin before they sleep. Longer lowers
    /// latency and costs processor time; zero where there are few cores.
    pub spin: Duration,
    /// The core that the scheduling thread is pinned to, numbered as the system does; none: the
    /// system chooses, which is right unless a core is set apart for it. Linux alone.
    pub core: Option<usize>,
    /// A device that has work and ends none of it for so long is given up as lost; above zero.
    /// Time during which the process is stopped hardly counts. Guards serving and draining, not the
    /// end of an [`Engine`](super::Engine).
    pub stall_timeout: Duration,
    /// The weakest memory to accept for images and results.
    pub memory_weakest: Memory,
    /// What the stages cost at first; none: measured as the engine starts, by four batches of each
    /// power of two up to 8 images, and two of each longer one while they compute for 50 ms at
    /// most.
    pub costs: Option<Stages<Line>>,
    /// How many of the latest events [`Engine::take_trace`](super::Engine::take_trace) gives, up to
    /// 16,777,216 of 64 bytes each; 0: nothing is recorded.
    pub trace_len: usize,
    /// Bytes for the answers of images seen before; 0: none are kept. Equal images in flight are
    /// then computed once, and later ones are given the answer that is kept, where that pays: see
    /// `docs/ENGINE.md`.
    pub cache_bytes: usize,
}

setters!(EngineOptions {
    policy: PolicySpec,
    slot_len: usize,
    batch_len_max: usize,
    latency_bound: Option<Duration>,
    spin: Duration,
    core: Option<usize>,
    stall_timeout: Duration,
    memory_weakest: Memory,
    costs: Option<Stages<Line>>,
    trace_len: usize,
    cache_bytes: usize,
});

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            policy: PolicySpec::default(),
            slot_len: 1024,
            batch_len_max: 256,
            latency_bound: None,
            // About what it costs to wake a thread on a processor that idles.
            spin: Duration::from_micros(if cores > 1 { 50 } else { 0 }),
            core: None,
            stall_timeout: Duration::from_secs(30),
            memory_weakest: Memory::Plain,
            costs: None,
            trace_len: 0,
            cache_bytes: 0,
        }
    }
}

/// What a request asks for beyond its result.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RequestOptions {
    /// When the result must be there.
    pub deadline: Option<Instant>,
    /// Which requests it goes before.
    pub priority: Priority,
}

setters!(RequestOptions { deadline: Option<Instant>, priority: Priority });

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Every slot for images or results is in use, or too many of them are, or others wait for
    /// them: shed load, retry later, or wait.
    #[error("every slot is in use")]
    Full,
    /// The image is not of the size that the network takes.
    #[error("the image is not of the size that Engine::geometry().image_bytes says")]
    Size,
    /// No image, or more than there are slots.
    #[error("one request has from 1 to EngineOptions::slot_len images")]
    Len,
    /// The engine drains or was shut down.
    #[error("the engine was shut down")]
    ShutDown,
    /// The device is gone for good; [`Engine::fault`](super::Engine::fault) says why.
    #[error("the device is lost")]
    DeviceLost,
    /// The engine is that of the process which this one was forked off: start engines afterwards.
    #[error("another process started the engine: start engines after forking")]
    Forked,
}

impl Refused {
    /// Number of reasons.
    pub(super) const LEN: usize = Self::Forked as usize + 1;
}

/// Why an accepted request has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Too much was ahead of it as it arrived: it would have missed its deadline.
    #[error("the deadline cannot be met")]
    Rejected,
    /// It could not meet its deadline any more and was not computed.
    #[error("the deadline passed")]
    Expired,
    /// The caller cancelled it.
    #[error("the request was cancelled")]
    Cancelled,
    /// The device failed at it; the next may succeed.
    #[error("the device failed")]
    Failed,
    /// The device was lost before it was done.
    #[error("the device is lost")]
    DeviceLost,
    /// The engine was shut down before it was done, or this is a process that was forked off.
    #[error("the engine was shut down")]
    ShutDown,
}

impl Failure {
    /// Each by its number.
    pub(super) const ALL: [Self; 6] = [
        Self::Rejected,
        Self::Expired,
        Self::Cancelled,
        Self::Failed,
        Self::DeviceLost,
        Self::ShutDown,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_numbers() {
        let numbers = Failure::ALL.map(|failure| failure as usize);
        assert_eq!(numbers, std::array::from_fn(|number| number));
    }
}
