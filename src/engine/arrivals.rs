//! The rate at which requests came in over the last seconds.
//!
//! Invariant: an arrival counts for five seconds, give or take a tenth, and then no more. Counting
//! neither allocates nor fails. Serves whoever watches; policies have estimates of their own.

const BUCKET_NS: u64 = 100_000_000;
/// Five seconds of whole buckets, and the one that fills.
const BUCKET_LEN: usize = 51;
/// An engine that is younger has no seconds to look back over.
const SPAN_MIN_NS: u64 = 1_000_000_000;

/// Arrivals by tenth of a second, a ring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arrivals {
    counts: [u64; BUCKET_LEN],
    latest: u64,
    begin_ns: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Arrivals {
    /// None yet; the engine serves from `begin_ns` on.
    pub(super) fn new(begin_ns: u64) -> Self {
        Self { counts: [0; BUCKET_LEN], latest: begin_ns / BUCKET_NS, begin_ns }
    }

    /// Counts an arrival.
    pub(super) fn count(&mut self, now_ns: u64) {
        let bucket = now_ns / BUCKET_NS;
        let passed = bucket.saturating_sub(self.latest).min(BUCKET_LEN as u64);
        for number in 0..passed {
            self.counts[place(bucket - number)] = 0;
        }
        self.latest = self.latest.max(bucket);
        self.counts[place(self.latest)] += 1;
    }

    /// Arrivals a second over the last five; over its life, but a second at least, where it is
    /// younger.
    pub(super) fn rate_hz(&self, now_ns: u64) -> f64 {
        let newest = (now_ns / BUCKET_NS).max(self.latest);
        let oldest = newest.saturating_sub(BUCKET_LEN as u64 - 1);
        let arrival_len: u64 =
            (oldest..=self.latest).map(|number| self.counts[place(number)]).sum();
        let span_ns = now_ns.saturating_sub(self.begin_ns.max(oldest * BUCKET_NS));
        arrival_len as f64 * 1e9 / span_ns.max(SPAN_MIN_NS) as f64
    }
}

fn place(number: u64) -> usize {
    (number % BUCKET_LEN as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Arrivals every `gap_ns` from `from_ns` on, for `seconds`; when they end.
    fn arrive(arrivals: &mut Arrivals, from_ns: u64, gap_ns: u64, seconds: u64) -> u64 {
        let end_ns = from_ns + seconds * SECOND_NS;
        (from_ns..end_ns).step_by(gap_ns as usize).for_each(|now_ns| arrivals.count(now_ns));
        end_ns
    }

    #[test]
    fn says_what_came_within_five_percent() {
        for rate_hz in [1, 20, 500, 10_000] {
            for offset_ns in [0, 12_345_678, 99_999_999] {
                let begin_ns = 3 * SECOND_NS + offset_ns;
                let mut arrivals = Arrivals::new(begin_ns);
                for seconds in [1, 2, 4, 5, 30] {
                    let mut arrivals_now = arrivals;
                    let end_ns = arrive(&mut arrivals_now, begin_ns, SECOND_NS / rate_hz, seconds);
                    let found_hz = arrivals_now.rate_hz(end_ns);
                    let off_hz = (found_hz - rate_hz as f64).abs();
                    assert!(off_hz <= 0.05 * rate_hz as f64 || rate_hz == 1 && off_hz <= 0.25);
                }
                let end_ns = arrive(&mut arrivals, begin_ns, SECOND_NS / rate_hz, 7);
                assert!(arrivals.rate_hz(end_ns + 2 * SECOND_NS) < 0.7 * rate_hz as f64);
                assert_eq!(arrivals.rate_hz(end_ns + 6 * SECOND_NS), 0.0);
            }
        }
    }

    #[test]
    fn follows_a_change_and_forgets_across_gaps() {
        let mut arrivals = Arrivals::new(0);
        let changed_ns = arrive(&mut arrivals, 0, SECOND_NS / 500, 10);
        let end_ns = arrive(&mut arrivals, changed_ns, SECOND_NS / 20, 6);
        assert!((arrivals.rate_hz(end_ns) - 20.0).abs() <= 1.0, "{}", arrivals.rate_hz(end_ns));
        // A gap of any length leaves nothing behind in the ring.
        for gap_ns in [5 * SECOND_NS, 51 * BUCKET_NS, 1_000 * SECOND_NS] {
            let mut later = arrivals;
            later.count(end_ns + gap_ns + 2 * BUCKET_NS);
            let found_hz = later.rate_hz(end_ns + gap_ns + 2 * BUCKET_NS);
            assert!(found_hz < 0.25, "{found_hz}");
        }
    }
}
