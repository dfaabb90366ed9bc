//! Arrivals that come in clumps, as services see them: clients in step, cameras, bursts, tides.
//!
//! Each kind is a function of a rate, a number of arrivals and a seed, and gives moments in
//! nanoseconds, ascending. Knows no device.

use crate::sim::random::{Random, Stream};

/// What draws moments of arrival, in arrivals at a mean rate of one.
type Draw = fn(&mut Random, usize) -> Vec<f64>;

/// A kind of arrivals.
pub(super) struct Kind {
    pub(super) name: &'static str,
    draw: Draw,
}

pub(super) const KINDS: [Kind; 8] = [
    Kind { name: "heavy tails", draw: heavy_tails },
    Kind { name: "on and off", draw: on_and_off },
    Kind { name: "tide", draw: tide },
    Kind { name: "8 at once", draw: |_, len| at_once(len, 8) },
    Kind { name: "32 at once", draw: |_, len| at_once(len, 32) },
    Kind { name: "32 nearly at once", draw: nearly_at_once },
    Kind { name: "batches", draw: batches },
    Kind { name: "cameras in step", draw: in_step },
];

impl Kind {
    /// About `len` arrivals at `rate_hz`.
    pub(super) fn times_ns(&self, rate_hz: f64, len: usize, seed: u64) -> Vec<u64> {
        let mut random = Random::new(seed, Stream::Arrivals);
        let mut times = (self.draw)(&mut random, len);
        times.sort_by(f64::total_cmp);
        times.iter().map(|time| (time * 1e9 / rate_hz) as u64).collect()
    }
}

/// Gaps of a Pareto distribution whose mean exists and whose variance does not.
fn heavy_tails(random: &mut Random, len: usize) -> Vec<f64> {
    const SHAPE: f64 = 1.5;
    let least = (SHAPE - 1.0) / SHAPE;
    let mut now = 0.0;
    let mut gap = || least / libm::pow(1.0 - random.uniform(), 1.0 / SHAPE);
    (0..len)
        .map(|_| {
            now += gap();
            now
        })
        .collect()
}

/// Twenty sources that send a third of the time; periods are heavy-tailed, so that the sum is
/// bursty at every scale of time.
fn on_and_off(random: &mut Random, len: usize) -> Vec<f64> {
    const SOURCES: usize = 20;
    const SHAPE: f64 = 1.4;
    /// Arrivals of a period in which a source sends, on average.
    const PERIOD_LEN: f64 = 50.0;
    let gap = SOURCES as f64 / 3.0;
    let end = len as f64;
    let mut times = Vec::new();
    for _ in 0..SOURCES {
        let mut period = |mean: f64| {
            let least = mean * (SHAPE - 1.0) / SHAPE;
            least / libm::pow(1.0 - random.uniform(), 1.0 / SHAPE)
        };
        let sending = PERIOD_LEN * gap;
        // The sources do not begin together.
        let mut now = -period(3.0 * sending);
        let mut spans = Vec::new();
        while now < end {
            let until = now + period(sending);
            spans.push((now, until));
            now = until + period(2.0 * sending);
        }
        for (from, until) in spans {
            let mut at = from + gap * random.exponential();
            while at < until.min(end) {
                if at > 0.0 {
                    times.push(at);
                }
                at += gap * random.exponential();
            }
        }
    }
    times
}

/// A Poisson process whose rate rises and falls by 60 %, four times over the run.
fn tide(random: &mut Random, len: usize) -> Vec<f64> {
    const DEPTH: f64 = 0.6;
    let turn = 4.0 * std::f64::consts::TAU / len as f64;
    let mut times = Vec::new();
    let mut now = 0.0;
    while now < len as f64 {
        now += random.exponential() / (1.0 + DEPTH);
        if random.uniform() * (1.0 + DEPTH) < 1.0 + DEPTH * libm::sin(turn * now) {
            times.push(now);
        }
    }
    times
}

/// So many at one moment, evenly spaced.
fn at_once(len: usize, clump_len: usize) -> Vec<f64> {
    (0..len).map(|index| (index / clump_len * clump_len) as f64).collect()
}

/// 32 within a tenth of the time from one clump to the next.
fn nearly_at_once(random: &mut Random, len: usize) -> Vec<f64> {
    at_once(len, 32).into_iter().map(|at| at + 3.2 * random.uniform()).collect()
}

/// Clumps at random moments, of random lengths: 8 on average, as a client sends that has them.
fn batches(random: &mut Random, len: usize) -> Vec<f64> {
    const CLUMP_LEN: f64 = 8.0;
    let mut times = Vec::new();
    let mut now = 0.0;
    while times.len() < len {
        now += CLUMP_LEN * random.exponential();
        times.push(now);
        while random.uniform() > 1.0 / CLUMP_LEN {
            times.push(now);
        }
    }
    times
}

/// Frames of cameras on one clock: 100 within a few hundredths of the time between two frames.
fn in_step(random: &mut Random, len: usize) -> Vec<f64> {
    const CAMERAS: usize = 100;
    at_once(len, CAMERAS).into_iter().map(|at| at + 10.0 + 3.0 * random.normal()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate is the one asked for, and the moments ascend.
    #[test]
    fn every_kind_has_its_rate() {
        for kind in &KINDS {
            let times_ns = kind.times_ns(1_000.0, 50_000, 1);
            assert!(times_ns.is_sorted(), "{}", kind.name);
            let last_ns = *times_ns.last().expect("there are arrivals");
            let rate_hz = times_ns.len() as f64 * 1e9 / last_ns as f64;
            assert!((750.0..1_250.0).contains(&rate_hz), "{}: {rate_hz}", kind.name);
        }
    }
}
