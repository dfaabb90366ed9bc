//! Estimate of the arrival rate: a burst is believed at once, a lull slowly.
//!
//! Two exponentially weighted rates, one short and one long, of which the larger is the answer;
//! both fall while nothing arrives. Beside them the rate over whole batches, which clients that
//! answer every batch with as many requests do not sway. Knows moments only, not what arrived.

/// The short rate looks back over so many batches of one image, the long one over so many times
/// the short one's time.
const SHORT_BATCHES: f64 = 4.0;
const LONG_SHORTS: f64 = 16.0;

/// Batches that the steady rate looks back over, …
const BATCHES: usize = 32;
/// … and more of them, up to so many, …
const BATCHES_MAX: usize = 256;
/// … where they are short, for so many arrivals: fewer would tell the rate to more than 6 %, which
/// misleads where the best length of a batch is one or two.
const ARRIVALS: u64 = 256;

/// Arrival rate over a short time, a long time, and over the latest batches.
#[derive(Clone, Debug)]
pub struct ArrivalRate {
    short: Decaying,
    long: Decaying,
    updated_ns: u64,
    arrival_len: u64,
    /// Moment of the latest batches and the arrivals until then, a ring.
    batches: [(u64, u64); BATCHES_MAX],
    batch_count: usize,
}

#[derive(Clone, Debug)]
struct Decaying {
    /// Events per nanosecond.
    rate: f64,
    inverse_time: f64,
}

impl Decaying {
    fn new(time_ns: f64) -> Self {
        Self { rate: 0.0, inverse_time: 1.0 / time_ns }
    }

    /// Rate after `elapsed_ns` without an arrival. The second-order expansion of the exponential:
    /// the same on every platform, and a long silence still takes it to zero.
    fn after(&self, elapsed_ns: f64) -> f64 {
        let share = elapsed_ns * self.inverse_time;
        self.rate / (1.0 + share + 0.5 * share * share)
    }

    fn arrived(&mut self, elapsed_ns: f64) {
        self.rate = self.after(elapsed_ns) + self.inverse_time;
    }
}

impl ArrivalRate {
    /// No arrivals yet, on a device that computes one image in `compute_ns` nanoseconds.
    pub fn new(compute_ns: f64) -> Self {
        let short_ns = SHORT_BATCHES * compute_ns.max(1.0);
        Self {
            short: Decaying::new(short_ns),
            long: Decaying::new(short_ns * LONG_SHORTS),
            updated_ns: 0,
            arrival_len: 0,
            batches: [(0, 0); BATCHES_MAX],
            batch_count: 0,
        }
    }

    /// Takes note of one arrival.
    pub fn arrived(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns) as f64;
        self.short.arrived(elapsed_ns);
        self.long.arrived(elapsed_ns);
        self.updated_ns = self.updated_ns.max(now_ns);
        self.arrival_len += 1;
    }

    /// Takes note of a batch that starts to compute.
    pub fn batch_started(&mut self, now_ns: u64) {
        self.batches[self.batch_count % BATCHES_MAX] = (now_ns, self.arrival_len);
        self.batch_count += 1;
    }

    /// Arrivals per nanosecond: the larger of the short and the long rate.
    pub fn per_ns(&self, now_ns: u64) -> f64 {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns) as f64;
        self.short.after(elapsed_ns).max(self.long.after(elapsed_ns))
    }

    /// Arrivals per nanosecond over the long time alone: steadier, for what a burst must not sway.
    pub fn long_per_ns(&self, now_ns: u64) -> f64 {
        self.long.after(now_ns.saturating_sub(self.updated_ns) as f64)
    }

    /// Arrivals per nanosecond over the latest 32 batches, or up to 256 if they are short, until
    /// now; none before there were 32.
    pub fn steady_per_ns(&self, now_ns: u64) -> Option<f64> {
        if self.batch_count < BATCHES {
            return None;
        }
        let mut back = BATCHES;
        let before = |back: usize| self.batches[(self.batch_count - back) % BATCHES_MAX];
        while self.arrival_len - before(back).1 < ARRIVALS
            && 2 * back <= BATCHES_MAX.min(self.batch_count)
        {
            back *= 2;
        }
        let (since_ns, arrival_len) = before(back);
        let elapsed_ns = now_ns.saturating_sub(since_ns).max(1);
        Some((self.arrival_len - arrival_len) as f64 / elapsed_ns as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPUTE_NS: f64 = 1e6;

    fn steady(rate: &mut ArrivalRate, from_ns: u64, gap_ns: u64, arrival_len: u64) -> u64 {
        for i in 1..=arrival_len {
            rate.arrived(from_ns + i * gap_ns);
        }
        from_ns + arrival_len * gap_ns
    }

    #[test]
    fn settles_on_a_steady_rate() {
        let mut rate = ArrivalRate::new(COMPUTE_NS);
        let end_ns = steady(&mut rate, 0, 50_000, 20_000);
        let per_ns = rate.per_ns(end_ns);
        assert!((per_ns * 50_000.0 - 1.0).abs() < 0.02, "{per_ns}");
    }

    #[test]
    fn believes_a_burst_at_once_and_a_lull_slowly() {
        let mut rate = ArrivalRate::new(COMPUTE_NS);
        let quiet_end_ns = steady(&mut rate, 0, 1_000_000, 2_000);
        // Ten times the rate for twice the short time.
        let burst_end_ns = steady(&mut rate, quiet_end_ns, 100_000, 80);
        assert!(rate.per_ns(burst_end_ns) > 0.8e-5, "{}", rate.per_ns(burst_end_ns));
        // The old rate for as long: still held to be well above it.
        let lull_end_ns = steady(&mut rate, burst_end_ns, 1_000_000, 8);
        let per_ns = rate.per_ns(lull_end_ns);
        assert!(per_ns > 1.5e-6 && per_ns < 0.8e-5, "{per_ns}");
    }

    #[test]
    fn falls_while_nothing_arrives() {
        let mut rate = ArrivalRate::new(COMPUTE_NS);
        let end_ns = steady(&mut rate, 0, 100_000, 1_000);
        let mut last = rate.per_ns(end_ns);
        for step in 1..20 {
            let now = rate.per_ns(end_ns + step * 50_000_000);
            assert!(now < last);
            last = now;
        }
        assert!(last < 1e-7, "{last}");
    }

    #[test]
    fn steady_rate_counts_whole_batches() {
        let mut rate = ArrivalRate::new(COMPUTE_NS);
        for cycle in 0..80 {
            let now_ns = cycle * 3_000_000;
            // Thirty clients answer each batch at once.
            for _ in 0..30 {
                rate.arrived(now_ns + 10);
            }
            assert_eq!(rate.steady_per_ns(now_ns + 10).is_some(), cycle >= 32);
            if cycle >= 33 {
                let steady = rate.steady_per_ns(now_ns).unwrap_or_default();
                assert!((0.9..=1.1).contains(&(steady / 1e-5)), "{steady}");
            }
            rate.batch_started(now_ns + 20);
        }
    }
}
