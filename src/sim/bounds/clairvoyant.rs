//! Least latency quantile on one trace of any policy, even one that knows the trace in advance.
//!
//! For a latency L, a dynamic programme asks whether all but the allowed share of the images can be
//! done within L of their arrival: F(i, m) is the earliest moment at which the first i images are
//! settled, m of them given up. A search over L finds the least. Given-up images cost nothing,
//! which only lowers the bound: it holds for policies that may refuse, too. Whoever answers all in
//! the order they came is held to the second bound, the least L for which few enough are late.

use super::ServiceTimes;
use super::front::least_cost;

/// The search for the least latency ends at this relative width.
const PRECISION: f64 = 1e-3;

/// Least latency in nanoseconds, to 1 part in 10³ and never above the true least, that a share of
/// `quantile` of the images can be held to on the arrivals given.
///
/// # Panics
/// When there are no arrivals, or they are not sorted.
pub fn clairvoyant_quantile_ns(times: &ServiceTimes, arrivals_ns: &[u64], quantile: f64) -> f64 {
    assert!(!arrivals_ns.is_empty() && arrivals_ns.is_sorted(), "arrivals must be in order");
    let given_up_max = beyond_len(arrivals_ns.len(), quantile);
    let arrivals_ns: Vec<f64> = arrivals_ns.iter().map(|&at| at as f64).collect();
    least_ns(times.at_ns(1), 2.0, |latency_ns| {
        Search::new(times, &arrivals_ns, latency_ns, given_up_max).needed_share()
    })
}

/// As [`clairvoyant_quantile_ns`], of policies that compute every image, in the order they came.
/// `ready_ns` as in [`clairvoyant_mean_ns`](super::clairvoyant_mean_ns), whose argument holds here
/// too: an image is late or not by when its batch ends.
///
/// # Panics
/// When there are no arrivals, not as many of both kinds, or they are not sorted.
pub fn in_order_quantile_ns(
    times: &ServiceTimes,
    arrivals_ns: &[u64],
    ready_ns: &[u64],
    quantile: f64,
) -> f64 {
    assert!(!arrivals_ns.is_empty() && arrivals_ns.len() == ready_ns.len(), "one of each");
    assert!(arrivals_ns.is_sorted() && ready_ns.is_sorted(), "arrivals must be in order");
    let late_max = beyond_len(arrivals_ns.len(), quantile);
    // Giving up is no worse, and found faster.
    let giving_up_ns = clairvoyant_quantile_ns(times, arrivals_ns, quantile);
    least_ns(giving_up_ns, 1.1, |latency_ns| {
        let late_len = |first: usize, len: usize, done_ns: u64| {
            let is_late = |&at_ns: &u64| (done_ns - at_ns) as f64 > latency_ns;
            arrivals_ns[first..first + len].partition_point(is_late) as u64
        };
        match least_cost(times, ready_ns, late_max as u64, late_len) {
            Ok(late_len) => share(late_len as usize, late_max),
            Err(done_len) => share_so_far(late_max, done_len, arrivals_ns.len()),
        }
    })
}

/// As a measured quantile counts: so many images lie above the one that it reads.
fn beyond_len(image_len: usize, quantile: f64) -> usize {
    ((1.0 - quantile) * image_len as f64).floor() as usize
}

/// The images beyond the latency as a share of those that may be.
fn share(needed: usize, allowed: usize) -> f64 {
    if needed == 0 { 0.0 } else { needed as f64 / allowed as f64 }
}

/// The same, above 1, when one too many was found among the first `seen` images, projected.
fn share_so_far(allowed: usize, seen: usize, image_len: usize) -> f64 {
    (allowed + 1) as f64 / allowed as f64 * (image_len as f64 / seen as f64)
}

/// The least latency for which `needed` gives a share of at most 1, `start_ns` or above; it is
/// looked for below the first of those that rise from there by `factor`.
fn least_ns(start_ns: f64, factor: f64, needed: impl Fn(f64) -> f64) -> f64 {
    let mut low = (start_ns, needed(start_ns));
    if low.1 <= 1.0 {
        return low.0;
    }
    let mut high = (factor * low.0, needed(factor * low.0));
    while high.1 > 1.0 {
        low = high;
        high = (factor * low.0, needed(factor * low.0));
    }
    while high.0 - low.0 > PRECISION * low.0 {
        let probe_ns = probe_ns(low, high);
        let probe = (probe_ns, needed(probe_ns));
        *(if probe.1 <= 1.0 { &mut high } else { &mut low }) = probe;
    }
    low.0
}

/// Where to look next between two latencies with the shares that they need: where the logarithm of
/// the share is expected to cross zero, a little towards the farther end so as to enclose it.
fn probe_ns(low: (f64, f64), high: (f64, f64)) -> f64 {
    let width_ns = high.0 - low.0;
    let (low_log, high_log) = (low.1.ln(), high.1.ln());
    let crossing = low_log / (low_log - high_log);
    if !(low_log.is_finite() && high_log.is_finite() && crossing.is_finite()) {
        return low.0 + 0.5 * width_ns;
    }
    let margin = 0.4 * PRECISION * low.0 / width_ns;
    let aim = if crossing < 0.5 { crossing + margin } else { crossing - margin };
    low.0 + aim.clamp(margin.min(0.5), 1.0 - margin.min(0.5)).clamp(0.05, 0.95) * width_ns
}

/// F(i, ·) of one i: infinite below `given_up_min`; past the values kept, the engine is idle when
/// the next image arrives.
#[derive(Clone, Default)]
struct Row {
    given_up_min: usize,
    finish_ns: Vec<f64>,
}

struct Search<'a> {
    times: &'a ServiceTimes,
    arrivals_ns: &'a [f64],
    latency_ns: f64,
    given_up_max: usize,
    /// The rows of the last B + 1 image counts, in a ring by image count.
    rows: Vec<Row>,
}

impl<'a> Search<'a> {
    fn new(
        times: &'a ServiceTimes,
        arrivals_ns: &'a [f64],
        latency_ns: f64,
        given_up_max: usize,
    ) -> Self {
        let ring_len = times.batch_len_max() + 1;
        let mut rows = vec![Row::default(); ring_len];
        rows[0] = Row { given_up_min: 0, finish_ns: vec![f64::NEG_INFINITY] };
        Self { times, arrivals_ns, latency_ns, given_up_max, rows }
    }

    /// The images that must be given up, as a share of those that may be; above 1 as soon as they
    /// are known to be too many, and then projected from the part of the trace that was seen.
    fn needed_share(mut self) -> f64 {
        let ring_len = self.rows.len();
        let image_len = self.arrivals_ns.len();
        let mut given_up = 0;
        for settled in 1..=image_len {
            let mut row = std::mem::take(&mut self.rows[settled % ring_len]);
            self.fill(settled, &mut row);
            let Some(first) = row.finish_ns.iter().position(|finish| finish.is_finite()) else {
                return share_so_far(self.given_up_max, settled, image_len);
            };
            row.given_up_min += first;
            row.finish_ns.drain(..first);
            given_up = row.given_up_min;
            // Past the first value that leaves the engine idle, giving up more wins nothing.
            if let Some(&next_ns) = self.arrivals_ns.get(settled)
                && let Some(idle) = row.finish_ns.iter().position(|&finish| finish <= next_ns)
            {
                row.finish_ns.truncate(idle + 1);
            }
            self.rows[settled % ring_len] = row;
        }
        share(given_up, self.given_up_max)
    }

    /// Computes F(settled, ·) for as many given-up counts as can differ.
    fn fill(&self, settled: usize, row: &mut Row) {
        let ring_len = self.rows.len();
        let newest_ns = self.arrivals_ns[settled - 1];
        let before = &self.rows[(settled - 1) % ring_len];
        row.given_up_min = before.given_up_min;
        row.finish_ns.clear();
        row.finish_ns.push(f64::INFINITY);
        row.finish_ns.extend_from_slice(&before.finish_ns);
        row.finish_ns.truncate(self.given_up_max + 1 - row.given_up_min);
        for len in 1..=self.times.batch_len_max().min(settled) {
            let time_ns = self.times.at_ns(len);
            let due_ns = self.arrivals_ns[settled - len] + self.latency_ns;
            // Longer batches have an older head and take longer: none fits from here on.
            if newest_ns + time_ns > due_ns {
                break;
            }
            let earlier = &self.rows[(settled - len) % ring_len];
            serve(row, earlier, newest_ns, time_ns, due_ns);
            // The engine is idle by now whatever was given up: longer batches only end later.
            if earlier.given_up_min <= row.given_up_min
                && earlier.finish_at(row.given_up_min) <= newest_ns
            {
                break;
            }
        }
    }
}

impl Row {
    fn finish_at(&self, given_up: usize) -> f64 {
        let index = given_up - self.given_up_min;
        self.finish_ns.get(index).copied().unwrap_or(f64::NEG_INFINITY)
    }
}

/// Improves `row` by a batch that follows `earlier`, starts at `newest_ns` at the earliest, takes
/// `time_ns` and must be done by `due_ns`.
fn serve(row: &mut Row, earlier: &Row, newest_ns: f64, time_ns: f64, due_ns: f64) {
    let base = row.given_up_min;
    // `given_up_min` never falls from row to row, so `earlier` covers the start of `row`.
    let offset = base - earlier.given_up_min;
    let known = earlier.finish_ns.get(offset..).unwrap_or_default();
    let shared_len = known.len().min(row.finish_ns.len());
    let (both, idle) = row.finish_ns.split_at_mut(shared_len);
    for (finish, &free_ns) in both.iter_mut().zip(known) {
        let done_ns = free_ns.max(newest_ns) + time_ns;
        let in_time_ns = if done_ns <= due_ns { done_ns } else { f64::INFINITY };
        *finish = finish.min(in_time_ns);
    }
    for finish in idle {
        *finish = finish.min(newest_ns + time_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::random::{Random, Stream};

    fn random_arrivals(seed: u64, len: usize, rate_hz: f64) -> Vec<u64> {
        let mut random = Random::new(seed, Stream::Arrivals);
        let mut now_ns = 0.0;
        let next = |_| {
            now_ns += random.exponential() * 1e9 / rate_hz;
            now_ns as u64
        };
        (0..len).map(next).collect()
    }

    /// Least latency by trying every set of given-up images and every way to batch the rest.
    fn brute_force_ns(times: &ServiceTimes, arrivals_ns: &[u64], given_up_max: usize) -> f64 {
        fn batched(times: &ServiceTimes, kept: &[u64], free_ns: f64, worst_ns: f64) -> f64 {
            let mut best_ns = if kept.is_empty() { worst_ns } else { f64::INFINITY };
            for len in 1..=kept.len().min(times.batch_len_max()) {
                let done_ns = free_ns.max(kept[len - 1] as f64) + times.at_ns(len);
                let worst_ns = worst_ns.max(done_ns - kept[0] as f64);
                best_ns = best_ns.min(batched(times, &kept[len..], done_ns, worst_ns));
            }
            best_ns
        }
        let mut best_ns = f64::INFINITY;
        for given_up in 0_u32..1 << arrivals_ns.len() {
            if given_up.count_ones() as usize <= given_up_max {
                let kept: Vec<u64> = (0..arrivals_ns.len())
                    .filter(|index| given_up & (1 << index) == 0)
                    .map(|index| arrivals_ns[index])
                    .collect();
                best_ns = best_ns.min(batched(times, &kept, 0.0, 0.0));
            }
        }
        best_ns
    }

    #[test]
    fn tiny_traces_agree_with_brute_force() {
        let times = ServiceTimes::new(4, |len| [10.0, 12.0, 20.0, 21.0][len - 1]);
        for seed in 0..60 {
            let arrivals_ns = random_arrivals(seed, 9, 2.5e8);
            for given_up_max in 0..4 {
                let quantile = 1.0 - given_up_max as f64 / 9.0 - 1e-9;
                let found_ns = clairvoyant_quantile_ns(&times, &arrivals_ns, quantile);
                let least_ns = brute_force_ns(&times, &arrivals_ns, given_up_max).max(10.0);
                assert!(
                    found_ns <= least_ns && found_ns >= least_ns * (1.0 - 2.0 * PRECISION),
                    "seed {seed}, {given_up_max} given up: {found_ns} for {least_ns}"
                );
            }
        }
    }

    /// Least latency of all but `late_max` images by trying every way to batch them in order.
    fn brute_force_in_order_ns(times: &ServiceTimes, arrivals_ns: &[u64], late_max: usize) -> f64 {
        fn batched(
            times: &ServiceTimes,
            left: &[u64],
            free_ns: f64,
            so_far: &[f64],
            late_max: usize,
        ) -> f64 {
            if left.is_empty() {
                let mut sorted = so_far.to_vec();
                sorted.sort_by(f64::total_cmp);
                return sorted[sorted.len() - 1 - late_max];
            }
            let mut best_ns = f64::INFINITY;
            for len in 1..=left.len().min(times.batch_len_max()) {
                let done_ns = free_ns.max(left[len - 1] as f64) + times.at_ns(len);
                let mut all = so_far.to_vec();
                all.extend(left[..len].iter().map(|&at_ns| done_ns - at_ns as f64));
                best_ns = best_ns.min(batched(times, &left[len..], done_ns, &all, late_max));
            }
            best_ns
        }
        batched(times, arrivals_ns, 0.0, &[], late_max)
    }

    #[test]
    fn tiny_traces_in_order_agree_with_brute_force() {
        let times = ServiceTimes::new(4, |len| [10.0, 12.0, 20.0, 21.0][len - 1]);
        for seed in 0..60 {
            let arrivals_ns = random_arrivals(seed, 9, 2.5e8);
            for late_max in 0..4 {
                let quantile = 1.0 - late_max as f64 / 9.0 - 1e-9;
                let found_ns = in_order_quantile_ns(&times, &arrivals_ns, &arrivals_ns, quantile);
                let least_ns = brute_force_in_order_ns(&times, &arrivals_ns, late_max).max(10.0);
                assert!(
                    found_ns <= least_ns && found_ns >= least_ns * (1.0 - 2.0 * PRECISION),
                    "seed {seed}, {late_max} late: {found_ns} for {least_ns}"
                );
            }
        }
    }

    #[test]
    fn an_empty_system_needs_one_service() {
        let times = ServiceTimes::new(8, |len| 1_000.0 + 10.0 * len as f64);
        let arrivals_ns: Vec<u64> = (0..500).map(|index| index * 5_000).collect();
        assert_eq!(clairvoyant_quantile_ns(&times, &arrivals_ns, 0.99), 1_010.0);
        assert_eq!(in_order_quantile_ns(&times, &arrivals_ns, &arrivals_ns, 0.99), 1_010.0);
    }
}
