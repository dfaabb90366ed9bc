//! Least mean latency on one trace of any schedule, even one that knows the trace in advance.

use super::ServiceTimes;
use super::front::least_cost;

/// Least mean in nanoseconds of the time from arrival to the end of computing, over every schedule
/// that computes all images. `ready_ns` ascends: before each of these moments fewer images than
/// that are in device memory, whatever is done ([`super::ready_ns`]; the arrivals themselves where
/// there is no upload). Loads near capacity take seconds for 10⁵ arrivals.
///
/// Why no schedule is below it: let its batches, in the order in which they start, be of b₁, b₂, …
/// images, whichever these are, and let Bⱼ = b₁ + … + bⱼ. When batch j starts, batch j − 1 has
/// ended, and Bⱼ images are in device memory: it ends at
/// `eⱼ ≥ max(eⱼ₋₁, ready_ns[Bⱼ - 1]) + T(bⱼ)`. The latencies add up to Σ bⱼ·eⱼ less the sum of all
/// arrivals, which depends on the lengths alone: the order of the images is of no consequence, and
/// the least over all b₁, b₂, … that add up to the trace is a bound. The dynamic programme finds
/// that least exactly. What it passes over cannot be part of a better schedule: of two ways to have
/// computed as many images, the one that is free later and has the higher sum, as the other can do
/// whatever that one does afterwards; and who waits so long for its last image that its first one
/// could have been computed alone meanwhile, as service times never fall.
///
/// Images that are never answered are in no mean. A schedule that leaves some out may be below.
///
/// # Panics
/// When there are no arrivals, not as many of both kinds, or they are not sorted.
pub fn clairvoyant_mean_ns(times: &ServiceTimes, arrivals_ns: &[u64], ready_ns: &[u64]) -> f64 {
    assert!(!arrivals_ns.is_empty() && arrivals_ns.len() == ready_ns.len(), "one of each");
    assert!(arrivals_ns.is_sorted() && ready_ns.is_sorted(), "arrivals must be in order");
    // They wrap around; differences between two are true all the same.
    let mut sums_ns = vec![0_u64];
    for &at_ns in arrivals_ns {
        sums_ns.push(sums_ns[sums_ns.len() - 1].wrapping_add(at_ns));
    }
    let latencies_ns = |first: usize, len: usize, done_ns: u64| {
        let arrivals_ns = sums_ns[first + len].wrapping_sub(sums_ns[first]);
        (len as u64).wrapping_mul(done_ns).wrapping_sub(arrivals_ns)
    };
    let sum_ns = least_cost(times, ready_ns, u64::MAX, latencies_ns);
    sum_ns.expect("no sum is above the largest number") as f64 / arrivals_ns.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::random::{Random, Stream};

    /// The least sum of latencies by trying every order of every way to batch: any subset of those
    /// there may be next.
    fn brute_force_ns(
        times: &ServiceTimes,
        arrivals_ns: &[u64],
        ready_ns: &[u64],
        left: u32,
        free_ns: u64,
    ) -> u64 {
        if left == 0 {
            return 0;
        }
        let mut best_ns = u64::MAX;
        for batch in 1..=left {
            let len = batch.count_ones() as usize;
            if batch & !left != 0 || len > times.batch_len_max() {
                continue;
            }
            let of_batch = || (0..arrivals_ns.len()).filter(|index| batch & (1 << index) != 0);
            let newest_ns = of_batch().map(|index| ready_ns[index]).max().unwrap_or(0);
            let done_ns = free_ns.max(newest_ns) + times.at_ns(len) as u64;
            let own_ns: u64 = of_batch().map(|index| done_ns - arrivals_ns[index]).sum();
            let rest_ns = brute_force_ns(times, arrivals_ns, ready_ns, left & !batch, done_ns);
            best_ns = best_ns.min(own_ns + rest_ns);
        }
        best_ns
    }

    #[test]
    fn tiny_traces_agree_with_brute_force() {
        for shape in [[10.0, 12.0, 20.0, 21.0], [10.0, 11.0, 11.0, 11.0], [4.0, 8.0, 30.0, 40.0]] {
            let times = ServiceTimes::new(4, |len| shape[len - 1]);
            for seed in 0..40 {
                let mut random = Random::new(seed, Stream::Arrivals);
                let mut now_ns = 0.0;
                let mut next = || {
                    // Some come together.
                    now_ns += (5.0 * random.exponential() - 1.0).max(0.0);
                    (now_ns as u64, now_ns as u64 + 3)
                };
                let (arrivals_ns, ready_ns): (Vec<u64>, Vec<u64>) = (0..7).map(|_| next()).unzip();
                let found_ns = clairvoyant_mean_ns(&times, &arrivals_ns, &ready_ns);
                let sum_ns = brute_force_ns(&times, &arrivals_ns, &ready_ns, (1 << 7) - 1, 0);
                assert_eq!((7.0 * found_ns).round() as u64, sum_ns, "seed {seed}, {shape:?}");
            }
        }
    }

    #[test]
    fn moments_far_from_the_start_leave_no_trace() {
        let times = ServiceTimes::new(2, |len| [1_000.0, 1_500.0][len - 1]);
        let arrivals_ns: Vec<u64> = (0..2_000).map(|index| (1 << 61) + index * 5_000).collect();
        assert_eq!(clairvoyant_mean_ns(&times, &arrivals_ns, &arrivals_ns), 1_000.0);
    }
}
