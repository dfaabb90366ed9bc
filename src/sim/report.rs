//! What a simulated run came to: counts, exact latencies, batch lengths, the hash of all events.

use crate::sched::{Reason, Stage, Trace};

/// Exact latencies of the requests that completed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    sorted_ns: Vec<u64>,
}

impl Latencies {
    /// The latencies given, in any order.
    pub fn new(mut latencies_ns: Vec<u64>) -> Self {
        latencies_ns.sort_unstable();
        Self { sorted_ns: latencies_ns }
    }

    /// All of them in nanoseconds, ascending.
    pub fn sorted_ns(&self) -> &[u64] {
        &self.sorted_ns
    }

    /// Mean in nanoseconds; 0 if nothing completed.
    pub fn mean_ns(&self) -> f64 {
        let sum: u128 = self.sorted_ns.iter().map(|&latency_ns| u128::from(latency_ns)).sum();
        sum as f64 / self.sorted_ns.len().max(1) as f64
    }

    /// The smallest latency in nanoseconds that a share `quantile` (0 to 1) stays within; 0 if
    /// nothing completed.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.sorted_ns.len() as f64).ceil() as usize;
        self.sorted_ns.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The largest in nanoseconds; 0 if nothing completed.
    pub fn max_ns(&self) -> u64 {
        self.sorted_ns.last().copied().unwrap_or(0)
    }
}

/// A simulated run in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that arrived.
    pub offered_len: u64,
    /// Requests that were answered.
    pub completed_len: u64,
    /// Of these, those answered by their deadline, if they had one.
    pub on_time_len: u64,
    /// Requests turned away as they arrived.
    pub rejected_len: u64,
    /// Of these, the ones that found every slot in use.
    pub full_len: u64,
    /// Requests accepted and told later that they expired.
    pub expired_len: u64,
    /// Requests that the caller gave up.
    pub cancelled_len: u64,
    /// Requests whose stage failed.
    pub failed_len: u64,
    /// From the scheduled arrival to the result on the host, of those answered.
    pub latencies: Latencies,
    /// Batches computed.
    pub batch_count: u64,
    /// Images in them.
    pub batched_len: u64,
    /// Images in the longest of them.
    pub batch_len_max: usize,
    /// When the last request ended, in nanoseconds of virtual time.
    pub end_ns: u64,
    /// Hash over every event and its moment: equal runs have equal hashes.
    pub event_hash: u64,
    /// The scheduler's latest events.
    pub trace: Trace,
    pub(super) decisions: [[u64; Reason::ALL.len()]; 3],
}

impl Report {
    /// Answers a second over the whole run.
    pub fn throughput_hz(&self) -> f64 {
        self.completed_len as f64 * 1e9 / self.end_ns.max(1) as f64
    }

    /// Answers in time a second over the whole run.
    pub fn goodput_hz(&self) -> f64 {
        self.on_time_len as f64 * 1e9 / self.end_ns.max(1) as f64
    }

    /// Requests that ended, in whatever way; the others wait for a device that never comes back.
    pub fn ended_len(&self) -> u64 {
        let refused_len = self.rejected_len + self.expired_len + self.cancelled_len;
        self.completed_len + refused_len + self.failed_len
    }

    /// Mean images in a batch; 0 if none was computed.
    pub fn batch_len_mean(&self) -> f64 {
        self.batched_len as f64 / self.batch_count.max(1) as f64
    }

    /// Adds another run's counts and events; neither its latencies nor its end.
    pub(super) fn add(&mut self, other: &Self) {
        self.offered_len += other.offered_len;
        self.completed_len += other.completed_len;
        self.on_time_len += other.on_time_len;
        self.rejected_len += other.rejected_len;
        self.full_len += other.full_len;
        self.expired_len += other.expired_len;
        self.cancelled_len += other.cancelled_len;
        self.failed_len += other.failed_len;
        self.batch_count += other.batch_count;
        self.batched_len += other.batched_len;
        self.batch_len_max = self.batch_len_max.max(other.batch_len_max);
        self.event_hash = mix(self.event_hash, other.event_hash);
        for (counts, more) in self.decisions.iter_mut().zip(&other.decisions) {
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }

    /// How often a stage was started for a reason.
    pub fn decision_len(&self, stage: Stage, reason: Reason) -> u64 {
        self.decisions[stage as usize][reason as usize]
    }
}

/// One step of a multiplicative hash: order matters, every bit of the word reaches the top ones.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
