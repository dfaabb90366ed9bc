//! Poisson probabilities over the window that carries them.

/// Probabilities below this share of the largest are left out; their sum is below 1e-15.
const NEGLIGIBLE: f64 = 1e-18;

/// A Poisson distribution: probabilities of `first`, `first + 1`, …, which add up to 1.
#[derive(Clone, Debug)]
pub(super) struct PoissonWindow {
    pub(super) first: usize,
    pub(super) probabilities: Vec<f64>,
}

impl PoissonWindow {
    pub(super) fn new(mean: f64) -> Self {
        let mode = mean.floor() as usize;
        let mut below = Vec::new();
        let mut relative = 1.0;
        for count in (1..=mode).rev() {
            relative *= count as f64 / mean;
            if relative < NEGLIGIBLE {
                break;
            }
            below.push(relative);
        }
        let first = mode - below.len();
        let mut probabilities: Vec<f64> = below.into_iter().rev().collect();
        relative = 1.0;
        let mut count = mode;
        while relative >= NEGLIGIBLE {
            probabilities.push(relative);
            count += 1;
            relative *= mean / count as f64;
        }
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|probability| *probability /= sum);
        Self { first, probabilities }
    }

    /// Counts with their probabilities.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.probabilities.iter().enumerate().map(|(index, &p)| (self.first + index, p))
    }

    /// Probability that nothing arrives.
    pub(super) fn of_zero(&self) -> f64 {
        if self.first == 0 { self.probabilities[0] } else { 0.0 }
    }

    /// Largest count of the window.
    pub(super) fn last(&self) -> usize {
        self.first + self.probabilities.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_variance_and_zero_are_poissons() {
        for mean in [1e-6, 0.3, 1.0, 7.5, 250.0, 4_000.0] {
            let window = PoissonWindow::new(mean);
            let first: f64 = window.iter().map(|(n, p)| n as f64 * p).sum();
            let second: f64 = window.iter().map(|(n, p)| (n as f64 - mean).powi(2) * p).sum();
            assert!((first / mean - 1.0).abs() < 1e-12, "mean {first} of {mean}");
            assert!((second / mean - 1.0).abs() < 1e-10, "variance {second} of {mean}");
            assert!((window.of_zero() - (-mean).exp()).abs() < 1e-15);
        }
    }
}
