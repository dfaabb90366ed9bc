//! Histograms of fixed size: latencies within 1.6 %, batch lengths by power of two.
//!
//! Invariant: every recorded value is in exactly one bucket, and count, sum and maximum are exact.
//! Recording neither allocates nor fails. Knows nothing of requests, stages and text.

use std::fmt;

/// Buckets of an octave, as a power of two: each is as wide as a 32nd of the values in it.
const PART_BITS: u32 = 5;
const PART_LEN: usize = 1 << PART_BITS;
/// Nanoseconds of the first buckets' width, as a power of two: a request takes a microsecond at
/// least, and that many times 32.
const UNIT_BITS: u32 = 6;
/// Buckets up to 2^37 ns, more than two minutes.
const BUCKET_LEN: usize = PART_LEN * (38 - UNIT_BITS - PART_BITS) as usize;
/// Powers of two up to the most slots that an engine has.
const LENGTH_BUCKET_LEN: usize = 16;

/// Durations, in buckets that are 3 % wide from 2 µs to two minutes, and 64 ns below.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LatencyHistogram {
    counts: [u64; BUCKET_LEN],
    len: u64,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { counts: [0; BUCKET_LEN], len: 0, sum_ns: 0, max_ns: 0 }
    }
}

impl LatencyHistogram {
    /// Counts a duration; one beyond two minutes falls into the last bucket.
    pub fn record(&mut self, duration_ns: u64) {
        self.counts[bucket(duration_ns)] += 1;
        self.len += 1;
        self.sum_ns = self.sum_ns.saturating_add(duration_ns);
        self.max_ns = self.max_ns.max(duration_ns);
    }

    /// Durations recorded.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none was recorded.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sum of the durations in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Mean in nanoseconds, exact; 0 if nothing was recorded.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.len.max(1) as f64
    }

    /// The longest in nanoseconds, exact; 0 if nothing was recorded.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The duration in nanoseconds that a share `quantile` (0 to 1) stays within: the middle of its
    /// bucket, at most 1.6 % or 32 ns off. 0 if nothing was recorded.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let rank = ((quantile * self.len as f64).ceil() as u64).max(1);
        let mut below_len = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below_len += count;
            if below_len >= rank {
                return lower_ns(index).midpoint(lower_ns(index + 1)).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// How many durations are shorter than `limit_ns`; exact where that is 1, 1.5 or another
    /// multiple of a 32nd of a power of two.
    pub fn below_len(&self, limit_ns: u64) -> u64 {
        self.counts[..bucket(limit_ns)].iter().sum()
    }
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyHistogram")
            .field("len", &self.len)
            .field("p50_ns", &self.quantile_ns(0.5))
            .field("p99_ns", &self.quantile_ns(0.99))
            .field("max_ns", &self.max_ns)
            .finish_non_exhaustive()
    }
}

fn bucket(duration_ns: u64) -> usize {
    let units = duration_ns >> UNIT_BITS;
    // The octaves after the first two are halved, quartered, … to the same number of buckets.
    let shift = units.checked_ilog2().unwrap_or(0).saturating_sub(PART_BITS);
    let index = ((shift as usize) << PART_BITS) + (units >> shift) as usize;
    index.min(BUCKET_LEN - 1)
}

/// The least duration in a bucket.
fn lower_ns(index: usize) -> u64 {
    let shift = (index >> PART_BITS).saturating_sub(1) as u32;
    let part = index as u64 - (u64::from(shift) << PART_BITS);
    part << (shift + UNIT_BITS)
}

/// Batch lengths: how many batches held up to 1, 2, 4, … 32,768 images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LengthHistogram {
    counts: [u64; LENGTH_BUCKET_LEN],
    len: u64,
    image_len: u64,
    len_max: usize,
}

impl LengthHistogram {
    /// Counts a batch, which holds one image at least.
    pub fn record(&mut self, batch_len: usize) {
        let bucket = batch_len.next_power_of_two().ilog2() as usize;
        self.counts[bucket.min(LENGTH_BUCKET_LEN - 1)] += 1;
        self.len += 1;
        self.image_len += batch_len as u64;
        self.len_max = self.len_max.max(batch_len);
    }

    /// Batches.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Images in all batches.
    pub fn image_len(&self) -> u64 {
        self.image_len
    }

    /// Images in the longest batch.
    pub fn len_max(&self) -> usize {
        self.len_max
    }

    /// Mean images in a batch; 0 if there was none.
    pub fn mean(&self) -> f64 {
        self.image_len as f64 / self.len.max(1) as f64
    }

    /// Each bucket's longest length, and how many batches are longer than that of the bucket before
    /// and no longer than this.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().enumerate().map(|(bucket, &count)| (1 << bucket, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_without_gap_or_overlap() {
        for index in 0..BUCKET_LEN - 1 {
            assert_eq!(bucket(lower_ns(index)), index);
            assert_eq!(bucket(lower_ns(index + 1) - 1), index);
            let (low_ns, high_ns) = (lower_ns(index) as f64, lower_ns(index + 1) as f64);
            assert!(high_ns - low_ns <= (low_ns / 32.0).max(64.0), "bucket {index}");
        }
        assert_eq!(bucket(u64::MAX), BUCKET_LEN - 1);
        assert!(lower_ns(BUCKET_LEN) > 120_000_000_000);
    }

    /// Quantiles of drawn durations against the exact ones.
    #[test]
    fn quantiles_are_close_and_the_rest_exact() {
        let mut state = 0x1234_5678_u64;
        let mut durations_ns: Vec<u64> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Even over the logarithm, from a microsecond to a minute.
                (1e3 * (6e7_f64).powf((state >> 11) as f64 / (1_u64 << 53) as f64)) as u64
            })
            .collect();
        let mut histogram = LatencyHistogram::default();
        durations_ns.iter().for_each(|&duration_ns| histogram.record(duration_ns));
        durations_ns.sort_unstable();
        for quantile in [0.0001, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = (quantile * durations_ns.len() as f64).ceil() as usize;
            let exact_ns = durations_ns[rank - 1] as f64;
            let found_ns = histogram.quantile_ns(quantile) as f64;
            assert!((found_ns - exact_ns).abs() <= (exact_ns / 62.0).max(32.0), "{quantile}");
        }
        assert_eq!(histogram.len(), 20_000);
        assert_eq!(histogram.sum_ns(), durations_ns.iter().sum::<u64>());
        assert_eq!(histogram.max_ns(), *durations_ns.last().unwrap());
        let limit_ns = 3 << 20;
        let below_len = durations_ns.iter().filter(|&&duration_ns| duration_ns < limit_ns).count();
        assert_eq!(histogram.below_len(limit_ns), below_len as u64);
        assert_eq!(LatencyHistogram::default().quantile_ns(0.5), 0);
    }

    #[test]
    fn lengths_fall_between_powers_of_two() {
        let mut histogram = LengthHistogram::default();
        [1, 2, 3, 4, 5, 256, 257, 32_768].into_iter().for_each(|len| histogram.record(len));
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1, 1), (2, 1), (4, 2), (8, 1), (256, 1), (512, 1), (32_768, 1)]);
        assert_eq!((histogram.len(), histogram.len_max()), (8, 32_768));
        assert_eq!(histogram.image_len(), 33_296);
    }
}
