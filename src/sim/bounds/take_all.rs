//! The queue that takes all that wait whenever its engine is free: exact mean and tail.
//!
//! The lengths of successive batches form a Markov chain: the next batch is what arrived during
//! this one, or the first arrival after it. Its stationary distribution gives every figure.

use super::ServiceTimes;
use super::poisson::PoissonWindow;
use crate::sched::Line;

/// Batches longer than the table of times may have this probability at most.
const OVERFLOW_MAX: f64 = 1e-9;

/// The stationary distribution is left once a step moves less than this much probability.
const STEP_MIN: f64 = 1e-14;

/// Steps before a chain that is still moving counts as one beyond capacity.
const STEPS_MAX: usize = 20_000;

/// A queue under Poisson arrivals that is served by taking all that wait.
#[derive(Clone, Debug)]
pub struct TakeAll {
    times: ServiceTimes,
    rate_per_ns: f64,
    arrivals: Vec<PoissonWindow>,
    /// Probability that a batch has 1, 2, … images.
    batches: Vec<f64>,
    /// Share of the time that batches of 1, 2, … images are being served.
    time_shares: Vec<f64>,
    mean_ns: f64,
}

impl TakeAll {
    /// The queue with arrivals at `rate_hz`; none when its batches outgrow `times`.
    pub fn new(times: &ServiceTimes, rate_hz: f64) -> Option<Self> {
        let rate_per_ns = rate_hz * 1e-9;
        let len_max = times.batch_len_max();
        if rate_per_ns * times.at_ns(len_max) >= len_max as f64 {
            return None;
        }
        let arrivals: Vec<_> =
            (1..=len_max).map(|len| PoissonWindow::new(rate_per_ns * times.at_ns(len))).collect();
        let batches = stationary(&arrivals)?;
        let (mut cycle_ns, mut image_ns) = (0.0, 0.0);
        let mut busy_ns = Vec::with_capacity(len_max);
        for (index, &probability) in batches.iter().enumerate() {
            let time_ns = times.at_ns(index + 1);
            busy_ns.push(probability * time_ns);
            cycle_ns += probability * (time_ns + arrivals[index].of_zero() / rate_per_ns);
            image_ns += probability
                * ((index + 1) as f64 * time_ns + 0.5 * rate_per_ns * time_ns * time_ns);
        }
        Some(Self {
            times: times.clone(),
            rate_per_ns,
            arrivals,
            batches,
            time_shares: busy_ns.iter().map(|time| time / cycle_ns).collect(),
            mean_ns: image_ns / cycle_ns / rate_per_ns,
        })
    }

    /// Mean time from arrival to completion in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.mean_ns
    }

    /// Mean batch length.
    pub fn batch_len_mean(&self) -> f64 {
        self.batches.iter().enumerate().map(|(index, p)| (index + 1) as f64 * p).sum()
    }

    /// Batch length that a share of `quantile` of the batches does not exceed.
    pub fn batch_len_quantile(&self, quantile: f64) -> usize {
        let mut below = 0.0;
        let index = self.batches.iter().position(|probability| {
            below += probability;
            below >= quantile
        });
        index.map_or(self.batches.len(), |index| index + 1)
    }

    /// Probability that an image takes longer than `latency_ns` from arrival to completion.
    ///
    /// An image that arrives during a batch of b waits for a uniform rest of it, and is then served
    /// with the N ~ Poisson(rate · T(b)) others that arrive during it: `T(b)·V + T(1 + N)`.
    pub fn tail(&self, latency_ns: f64) -> f64 {
        let idle_share = 1.0 - self.time_shares.iter().sum::<f64>();
        let mut tail = if self.times.at_ns(1) > latency_ns { idle_share } else { 0.0 };
        for (index, &share) in self.time_shares.iter().enumerate() {
            if share < STEP_MIN * 1e-4 {
                continue;
            }
            let batch_ns = self.times.at_ns(index + 1);
            for (others, probability) in self.arrivals[index].iter() {
                let own_ns = self.times.at_ns((others + 1).min(self.times.batch_len_max()));
                let late = 1.0 - (latency_ns - own_ns) / batch_ns;
                tail += share * probability * late.clamp(0.0, 1.0);
            }
        }
        tail
    }

    /// Latency in nanoseconds that a share of `quantile` of the images does not exceed.
    pub fn quantile_ns(&self, quantile: f64) -> f64 {
        let last_ns = self.times.at_ns(self.times.batch_len_max());
        let (mut low_ns, mut high_ns) = (0.0, 2.0 * last_ns);
        while high_ns - low_ns > 1e-7 * high_ns {
            let middle_ns = 0.5 * (low_ns + high_ns);
            if self.tail(middle_ns) > 1.0 - quantile {
                low_ns = middle_ns;
            } else {
                high_ns = middle_ns;
            }
        }
        high_ns
    }

    /// The queue at the largest rate, to 1 part in 10⁵, whose `quantile` latency stays within
    /// `latency_ns`; none when even a lone image takes longer, or when longer batches than `times`
    /// has would be taken at rates that might be within.
    pub fn largest_within(times: &ServiceTimes, quantile: f64, latency_ns: f64) -> Option<Self> {
        let (mut low_hz, mut high_hz) = (0.0, times.capacity_hz());
        let (mut found, mut is_known) = (None, true);
        while high_hz - low_hz > 1e-5 * high_hz {
            let middle_hz = 0.5 * (low_hz + high_hz);
            let queue = Self::new(times, middle_hz);
            let is_queue = queue.is_some();
            match queue.filter(|queue| queue.tail(latency_ns) <= 1.0 - quantile) {
                Some(queue) => {
                    found = Some(queue);
                    low_hz = middle_hz;
                }
                None => (high_hz, is_known) = (middle_hz, is_queue),
            }
            if high_hz < 1e-6 * times.capacity_hz() {
                break;
            }
        }
        found.filter(|_| is_known)
    }

    /// Arrivals a second.
    pub fn rate_hz(&self) -> f64 {
        self.rate_per_ns * 1e9
    }
}

/// Stationary distribution of the batch length; none when it does not fit the table.
fn stationary(arrivals: &[PoissonWindow]) -> Option<Vec<f64>> {
    let len_max = arrivals.len();
    let mut batches = vec![0.0; len_max];
    batches[0] = 1.0;
    for _ in 0..STEPS_MAX {
        let mut next = vec![0.0; len_max];
        let mut overflow = 0.0;
        for (window, &probability) in arrivals.iter().zip(&batches) {
            if probability < 1e-30 {
                continue;
            }
            for (arrived, share) in window.iter() {
                match next.get_mut(arrived.max(1) - 1) {
                    Some(entry) => *entry += probability * share,
                    None => overflow += probability * share,
                }
            }
        }
        if overflow > OVERFLOW_MAX {
            return None;
        }
        next[len_max - 1] += overflow;
        let step: f64 = next.iter().zip(&batches).map(|(a, b)| (a - b).abs()).sum();
        batches = next;
        if step < STEP_MIN * len_max as f64 {
            return Some(batches);
        }
    }
    None
}

/// Inoue's closed-form upper bound on the mean time in nanoseconds when all are taken, without a
/// limit on the batch; none at or beyond capacity.
///
/// Source: Y. Inoue, "Queueing analysis of GPU-based inference servers with dynamic batching: a
/// closed-form characterization", Performance Evaluation 147 (2021), arXiv 1912.06322.
pub fn inoue_mean_ns(line: Line, rate_hz: f64) -> Option<f64> {
    let (a, t, rate) = (line.per_image_ns, line.fixed_ns, rate_hz * 1e-9);
    let load = rate * a;
    if load >= 1.0 {
        return None;
    }
    let light =
        (a + t) / (2.0 * (1.0 - load)) * (1.0 + 2.0 * rate * t + (1.0 - rate * t) / (1.0 + load));
    let heavy = 1.5 * t / (1.0 - load) + 0.5 * a * (load + 2.0) / (1.0 - load * load);
    Some(light.min(heavy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::random::{Random, Stream};

    const LINE: Line = Line::new(500_000.0, 25_000.0);

    fn queue(load: f64) -> TakeAll {
        let times = ServiceTimes::new(2_000, |len| LINE.at_ns(len));
        TakeAll::new(&times, load / LINE.per_image_ns * 1e9).unwrap()
    }

    /// Latencies of images under direct simulation, sorted.
    fn simulated_ns(rate_hz: f64, image_len: usize) -> Vec<f64> {
        let mut random = Random::new(23, Stream::Arrivals);
        let (mut free_ns, mut arrival_ns) = (0.0_f64, 0.0);
        let mut arrive = || {
            arrival_ns += random.exponential() * 1e9 / rate_hz;
            arrival_ns
        };
        let mut latencies_ns = Vec::with_capacity(image_len);
        let mut next_ns = arrive();
        while latencies_ns.len() < image_len {
            let start_ns = free_ns.max(next_ns);
            let mut batch = Vec::new();
            while next_ns <= start_ns {
                batch.push(next_ns);
                next_ns = arrive();
            }
            free_ns = start_ns + LINE.at_ns(batch.len());
            latencies_ns.extend(batch.iter().map(|at| free_ns - at));
        }
        latencies_ns.sort_by(f64::total_cmp);
        latencies_ns
    }

    #[test]
    fn mean_and_tail_are_those_of_a_simulation() {
        for (load, tolerance) in [(0.1, 3e-3), (0.5, 5e-3), (0.8, 2e-2)] {
            let exact = queue(load);
            let latencies_ns = simulated_ns(exact.rate_hz(), 1_000_000);
            let mean_ns = latencies_ns.iter().sum::<f64>() / latencies_ns.len() as f64;
            let ratio = mean_ns / exact.mean_ns();
            assert!((ratio - 1.0).abs() < tolerance, "load {load}: ratio {ratio}");
            for quantile in [0.5, 0.9, 0.99] {
                let at = (quantile * latencies_ns.len() as f64) as usize;
                let ratio = latencies_ns[at] / exact.quantile_ns(quantile);
                assert!((ratio - 1.0).abs() < tolerance, "load {load}, {quantile}: {ratio}");
            }
        }
    }

    #[test]
    fn the_tail_integrates_to_the_mean() {
        let exact = queue(0.5);
        let step_ns = 10_000.0;
        let area: f64 = (0..2_000).map(|i| exact.tail((i as f64 + 0.5) * step_ns) * step_ns).sum();
        assert!((area / exact.mean_ns() - 1.0).abs() < 1e-5, "{area} {}", exact.mean_ns());
    }

    #[test]
    fn inoues_bound_holds_within_a_tenth() {
        for load in [0.05, 0.2, 0.5, 0.8, 0.9] {
            let exact_ns = queue(load).mean_ns();
            let bound_ns = inoue_mean_ns(LINE, load / LINE.per_image_ns * 1e9).unwrap();
            let excess = bound_ns / exact_ns - 1.0;
            assert!((0.0..0.1).contains(&excess), "load {load}: {bound_ns} over {exact_ns}");
        }
        assert_eq!(inoue_mean_ns(LINE, 40_000.0), None);
    }

    #[test]
    fn the_largest_rate_meets_its_latency_exactly() {
        let times = ServiceTimes::new(2_000, |len| LINE.at_ns(len));
        let plan = TakeAll::largest_within(&times, 0.99, 5e6).unwrap();
        let p99_ns = plan.quantile_ns(0.99);
        assert!((p99_ns / 5e6 - 1.0).abs() < 1e-3, "p99 {p99_ns}");
        assert!(plan.batch_len_quantile(0.5) as f64 <= plan.batch_len_mean() * 1.2);
        assert!(TakeAll::largest_within(&times, 0.99, 500_000.0).is_none());
    }

    #[test]
    fn batches_that_outgrow_the_table_are_refused() {
        let times = ServiceTimes::new(64, |len| LINE.at_ns(len));
        assert!(TakeAll::new(&times, 0.7 * 40_000.0).is_none());
    }
}
