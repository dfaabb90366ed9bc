//! How often a tensor has which values, and the u8 scales that follow from it.
//!
//! Invariant: the range is a power of two and bins are halves of one another when it grows, so that
//! counts depend on the values alone, not on their order. Knows nothing of networks.

/// Bins of the range: 16 and more for each u8 step, wherever the largest value lies.
const BIN_LEN: usize = 8192;
/// What the range begins with: bins per unit stay finite.
const RANGE_MIN: f32 = f32::MIN_POSITIVE * BIN_LEN as f32;
/// Largest u8.
const LEVEL_MAX: f64 = 255.0;
/// Parts of the largest value at which a tensor may be cut, as least errors are looked for.
const CUT_LEN: usize = 128;
/// Smallest of them: three quarters of the values' range are never given up.
const CUT_MIN: usize = CUT_LEN / 4;

/// Two scales that differ by less are not both tried.
const NEAR: f32 = 0.04;
/// Tensors of smaller values count as zeros.
const SCALE_MIN: f32 = 1e-30;

/// By what a tensor's scale was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// The largest value is the largest u8.
    Maximum,
    /// A quarter more than the largest value is.
    Margin25,
    /// A half more than the largest value is.
    Margin50,
    /// One value in ten thousand is cut.
    Percentile9999,
    /// One value in a thousand is cut.
    Percentile999,
    /// The mean squared error is least.
    SquaredError,
    /// The distribution stays the nearest, by Kullback and Leibler's divergence.
    Divergence,
    /// All values were zero.
    Zero,
}

impl Method {
    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maximum => "maximum",
            Self::Margin25 => "maximum + 25 %",
            Self::Margin50 => "maximum + 50 %",
            Self::Percentile9999 => "99.99 %",
            Self::Percentile999 => "99.9 %",
            Self::SquaredError => "squared error",
            Self::Divergence => "divergence",
            Self::Zero => "all zero",
        }
    }
}

/// Values from zero up.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    /// Values from here would be in no bin.
    range: f32,
    zero_len: u64,
    max: f32,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BIN_LEN], range: RANGE_MIN, zero_len: 0, max: 0.0 }
    }

    /// Counts values, of which none is negative, and none that leaves f32 when it is doubled.
    pub(super) fn add(&mut self, values: &[f32]) {
        let largest = values.iter().fold(0.0, |largest: f32, &value| largest.max(value));
        self.max = self.max.max(largest);
        self.grow(largest);
        let bins = BIN_LEN as f32 / self.range;
        for &value in values {
            match value > 0.0 {
                true => self.counts[(value * bins) as usize] += 1,
                false => self.zero_len += 1,
            }
        }
    }

    /// Makes the range exceed `value`.
    fn grow(&mut self, value: f32) {
        while value >= self.range {
            self.range *= 2.0;
            for bin in 0..BIN_LEN / 2 {
                self.counts[bin] = self.counts[2 * bin] + self.counts[2 * bin + 1];
            }
            self.counts[BIN_LEN / 2..].fill(0);
        }
    }

    /// Scales by all methods, best guess first; those that are nearly another's are left out.
    /// `largest` was seen among other values.
    pub(super) fn scales(&self, largest: f32) -> Vec<(Method, f32)> {
        let largest = if largest > 0.0 { largest } else { self.max };
        if largest < SCALE_MIN * LEVEL_MAX as f32 {
            return vec![(Method::Zero, 1.0)];
        }
        let largest = f64::from(largest);
        let mut found = vec![
            (Method::Margin25, 1.25 * largest),
            (Method::Maximum, largest),
            (Method::Margin50, 1.5 * largest),
        ];
        if self.max >= SCALE_MIN * LEVEL_MAX as f32 {
            found.extend([
                (Method::SquaredError, self.least(|cut| self.squared_error(cut))),
                (Method::Percentile9999, self.percentile(0.9999)),
                (Method::Percentile999, self.percentile(0.999)),
                (Method::Divergence, self.least(|cut| self.divergence(cut))),
            ]);
        }
        let mut scales: Vec<(Method, f32)> = Vec::new();
        for (method, cut) in found {
            let scale = (cut / LEVEL_MAX) as f32;
            let is_near = |&(_, other): &(Method, f32)| (scale / other - 1.0).abs() < NEAR;
            if !scales.iter().any(is_near) {
                scales.push((method, scale));
            }
        }
        scales
    }

    /// The mean squared error with a scale, beside the mean square.
    pub(super) fn relative_error(&self, scale: f32) -> f64 {
        let square = |(bin, &count): (usize, &u64)| count as f64 * self.middle(bin).powi(2);
        let squares: f64 = self.counts.iter().enumerate().map(square).sum();
        match squares > 0.0 {
            true => self.squared_error(f64::from(scale) * LEVEL_MAX) / squares,
            false => 0.0,
        }
    }

    /// What a value in a bin is taken for.
    fn middle(&self, bin: usize) -> f64 {
        let middle = (bin as f64 + 0.5) * f64::from(self.range) / BIN_LEN as f64;
        middle.min(self.max.into())
    }

    /// The value that a share of all values stays within; the largest where that cuts more than
    /// three quarters of the range.
    fn percentile(&self, share: f64) -> f64 {
        let len = self.zero_len + self.counts.iter().sum::<u64>();
        let rank = (share * len as f64).ceil() as u64;
        let mut below_len = self.zero_len;
        for (bin, count) in self.counts.iter().enumerate() {
            below_len += count;
            let upper = (bin + 1) as f64 * f64::from(self.range) / BIN_LEN as f64;
            if below_len >= rank && upper >= f64::from(self.max) * CUT_MIN as f64 / CUT_LEN as f64 {
                return upper.min(self.max.into());
            }
        }
        self.max.into()
    }

    /// The cut at which `cost` is least.
    fn least(&self, cost: impl Fn(f64) -> f64) -> f64 {
        let cut = |part: usize| f64::from(self.max) * part as f64 / CUT_LEN as f64;
        let costs = (CUT_MIN..=CUT_LEN).map(|part| (cost(cut(part)), cut(part)));
        costs.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(self.max.into(), |(_, cut)| cut)
    }

    /// The sum of squared errors when the values up to `cut` are given all levels.
    fn squared_error(&self, cut: f64) -> f64 {
        let scale = cut / LEVEL_MAX;
        let error = |(bin, &count): (usize, &u64)| {
            let value = self.middle(bin);
            let level = (value / scale).round().min(LEVEL_MAX);
            count as f64 * (value - level * scale).powi(2)
        };
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(error).sum()
    }

    /// How far the distribution of the values above zero goes from itself when those up to `cut`
    /// are given all levels, each for all bins that it stands for, and the others the last.
    fn divergence(&self, cut: f64) -> f64 {
        let scale = cut / LEVEL_MAX;
        let level = |bin: usize| (self.middle(bin) / scale).round().min(LEVEL_MAX) as usize;
        let used = (0..BIN_LEN).filter(|&bin| self.counts[bin] > 0);
        let mut sums = [(0u64, 0u64); LEVEL_MAX as usize + 1];
        for bin in used.clone().filter(|&bin| self.middle(bin) <= cut) {
            let (count, bins) = &mut sums[level(bin)];
            *count += self.counts[bin];
            *bins += 1;
        }
        let kept_len: u64 = sums.iter().map(|(count, _)| count).sum();
        let len: u64 = self.counts.iter().sum();
        // What is cut comes to the last bin that is not.
        let last = used.clone().rfind(|&bin| self.middle(bin) <= cut);
        if last.is_none() {
            return f64::INFINITY;
        }
        used.filter(|&bin| self.middle(bin) <= cut)
            .map(|bin| {
                let cut_len = if Some(bin) == last { len - kept_len } else { 0 };
                let real = (self.counts[bin] + cut_len) as f64 / len as f64;
                let (count, bins) = sums[level(bin)];
                let seen = count as f64 / bins as f64 / kept_len as f64;
                real * (real / seen).ln()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = f32>) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.add(&values.into_iter().collect::<Vec<_>>());
        histogram
    }

    fn scale_by(histogram: &Histogram, method: Method) -> Option<f32> {
        let scales = histogram.scales(histogram.max);
        scales.iter().find(|(found, _)| *found == method).map(|(_, scale)| *scale)
    }

    /// A value of `share` is an outlier of ten times the others' range.
    fn with_outliers(share: usize) -> Histogram {
        filled((0..1_000_000).map(|at| match at % share {
            0 => 100.0,
            _ => (at % 1000) as f32 / 100.0,
        }))
    }

    #[test]
    fn order_does_not_matter() {
        let values: Vec<f32> = (0..10_000).map(|at| ((at * 37) % 1009) as f32 * 0.01).collect();
        let all = filled(values.iter().copied());
        let mut apart = Histogram::new();
        values.iter().rev().for_each(|&value| apart.add(&[value]));
        assert_eq!(all.counts, apart.counts);
        assert_eq!((all.range, all.zero_len, all.max), (apart.range, apart.zero_len, apart.max));
        assert_eq!(all.range, 16.0);
        assert_eq!(all.counts.iter().sum::<u64>() + all.zero_len, 10_000);
    }

    #[test]
    fn even_values_are_cut_nowhere() {
        let histogram = filled((0..100_000).map(|at| at as f32 * 1e-3));
        let methods: Vec<Method> =
            histogram.scales(histogram.max).iter().map(|(method, _)| *method).collect();
        assert_eq!(methods, [Method::Margin25, Method::Maximum, Method::Margin50]);
        // A step's twelfth, squared, beside a third of the range's square.
        let error = histogram.relative_error(100.0 / 255.0);
        assert!((error * 255.0 * 255.0 * 4.0 - 1.0).abs() < 0.05, "{error}");
    }

    #[test]
    fn rare_outliers_are_cut_by_those_that_should() {
        let histogram = with_outliers(20_000);
        assert_eq!(scale_by(&histogram, Method::Maximum), Some(100.0 / 255.0));
        // Percentiles that would leave a tenth of the range stop at a quarter of it.
        let percentile = histogram.percentile(0.9999);
        assert!((percentile / 25.0 - 1.0).abs() < 0.01, "{percentile}");
        // 50 values that lose 75 each cost more than a step a quarter as fine gains.
        let error = |cut: f64| histogram.squared_error(cut);
        let least = histogram.least(error);
        assert!(least > 50.0 && error(least) <= error(100.0) && error(100.0) < error(25.0));
        // One value of a million does not.
        let histogram = with_outliers(1_000_000);
        assert!(histogram.least(|cut| histogram.squared_error(cut)) < 50.0);
    }

    #[test]
    fn least_divergence_cuts_what_would_hide_the_shape() {
        // Exponential, most below 0.2, and one value of 10.
        let tail = |at: u32| -0.1 * (1.0 - (f64::from(at) + 0.5) / 100_000.0).ln() as f32;
        let histogram = filled((0..100_000).map(tail).chain([10.0]));
        let least = histogram.least(|cut| histogram.divergence(cut));
        assert!(least < 5.0, "{least}");
    }

    #[test]
    fn equal_values_are_not_cut() {
        let histogram = filled([3.0; 100]);
        assert!(histogram.least(|cut| histogram.divergence(cut)) > 2.9);
        assert!(histogram.least(|cut| histogram.squared_error(cut)) > 2.9);
    }

    #[test]
    fn nothing_but_zeros_gets_a_scale() {
        assert_eq!(filled([0.0; 9]).scales(0.0), [(Method::Zero, 1.0)]);
        assert_eq!(Histogram::new().scales(0.0), [(Method::Zero, 1.0)]);
    }
}
