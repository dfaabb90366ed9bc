//! Seeded randomness that is the same on every platform.
//!
//! Logarithms and cosines come from `libm` and not from the platform, whose last digits differ.
//! Each user draws from a stream of its own, so that more draws in one never move another.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Which of the independent streams of one seed is drawn from.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Arrivals,
    Device,
    Requests,
}

#[derive(Clone, Debug)]
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        let mut source = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _ in 0..stream as usize {
            source.jump();
        }
        Self(source)
    }

    /// Uniform over [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Exponential of mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.uniform())
    }

    /// Normal of mean 0 and variance 1 (Box and Muller's transform, one of its two values).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two moments of each distribution, over 10⁶ draws.
    #[test]
    fn moments_are_those_of_the_distributions() {
        const LEN: usize = 1_000_000;
        let mut random = Random::new(7, Stream::Device);
        let mut moments = |draw: fn(&mut Random) -> f64| {
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..LEN {
                let value = draw(&mut random);
                sum += value;
                squares += value * value;
            }
            let mean = sum / LEN as f64;
            (mean, squares / LEN as f64 - mean * mean)
        };
        let close = |(mean, variance): (f64, f64), expected: (f64, f64)| {
            assert!((mean - expected.0).abs() < 5e-3, "mean {mean}");
            assert!((variance - expected.1).abs() < 1e-2, "variance {variance}");
        };
        close(moments(Random::uniform), (0.5, 1.0 / 12.0));
        close(moments(Random::exponential), (1.0, 1.0));
        close(moments(Random::normal), (0.0, 1.0));
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let mut arrivals = Random::new(1, Stream::Arrivals);
        let mut device = Random::new(1, Stream::Device);
        assert_ne!(arrivals.uniform(), device.uniform());
    }
}
