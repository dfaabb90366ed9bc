//! How a stage's times depend on the batch length: a calibration, one level for all lengths, and a
//! ratio for each bucket of lengths, since real stages are staircases.
//!
//! Measurements tell only the product of level and ratio. Were both fitted, noise would drive them
//! apart, and with the level all lengths not in use, without bound. So one parameter follows from
//! the others: a bucket's first samples are its own, and of whatever comes then its ratio keeps a
//! fixed part and the level takes the rest, which leaves `level / (product of ratios)^LEVEL_SHARE`
//! as it was. A length that is not in use moves with the mean of those that are, and comes back
//! with them, whatever noise, drift or steps they go through.

use super::super::line::Line;

/// Up to this batch length each has a bucket of its own, …
const SINGLE_LEN: usize = 16;
/// … above it each multiple of this: the tiles and graph sizes that cause staircases are.
const BUCKET_STEP: usize = 8;
/// Buckets; batches longer than the last one's share it. A set of them is the bits of a word.
const BUCKET_LEN: usize = u64::BITS as usize;
/// A bucket's first samples, which are averaged.
const FIRST_SAMPLES: u32 = 16;
/// A bucket is believed by `n / (n + BUCKET_DOUBT)` after n samples.
const BUCKET_DOUBT: f64 = 0.5;
/// Share of a later sample's deviation that a bucket's ratio moves by.
const RATIO_STEP: f64 = 1.0 / 256.0;
/// How many times as far the level moves: where one length is in use, all others follow it by 16
/// parts in 17.
const LEVEL_SHARE: u32 = 16;
/// So few samples of a bucket may all be wrong; as many outliers on one side tell that they are.
const FEW: u32 = 3;
/// So many outliers of one bucket are its own stair, if others were as predicted meanwhile: at one
/// outlier in ten, chance alone does that once in 10⁸ batches.
const STAIR_RUN: u32 = 8;
/// What no step weighs at first, in lengths met.
const STEP_DOUBT: f64 = 0.5;
/// A length may seem to lie below the line by so much: were noise counted on one side only, lines
/// would look like stairs.
const STEP_MIN: f64 = -0.25;
/// Neighbours whose times differ by less than this share tell nothing of steps between them.
const STEP_RISE_MIN: f64 = 0.1;
/// A length so close to the longer one tells nothing either.
const STEP_SHARE_MAX: f64 = 0.9;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Measured time over the calibration's at the present level.
    ratio: f64,
    /// Its samples, at most `FIRST_SAMPLES`.
    sample_len: u32,
    /// Variance of the ratio over that of a sample.
    variance: f64,
    /// Samples of all buckets up to its latest.
    sampled_at: u64,
    outliers: Outliers,
}

/// Outliers of a bucket since its latest sample, all on one side.
#[derive(Clone, Copy, Debug)]
struct Outliers {
    len: u32,
    /// What the ratio would be for each, added up.
    ratio_sum: f64,
    /// Samples of all buckets before the first.
    since: u64,
}

impl Outliers {
    const NONE: Self = Self { len: 0, ratio_sum: 0.0, since: 0 };
}

/// What a length's bucket tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampled {
    pub(super) time_ns: f64,
    /// Standard error of it over that of a sample.
    pub(super) error: f64,
    /// How far to believe it, from 0 to 1.
    pub(super) belief: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Shape {
    calibration: Line,
    level: f64,
    buckets: [Bucket; BUCKET_LEN],
    sample_len: u64,
    /// Buckets with samples, a bit each.
    tried: u64,
    /// How far up a length between two tried ones lies: 0, on the line between them; 1, level with
    /// the longer one, as on a stair. The mean of what was met, after `step_len` of them.
    step: f64,
    step_len: u32,
}

impl Shape {
    pub(super) fn new(calibration: Line) -> Self {
        let bucket = Bucket {
            ratio: 1.0,
            sample_len: 0,
            variance: 1.0,
            sampled_at: 0,
            outliers: Outliers::NONE,
        };
        Self {
            calibration,
            level: 1.0,
            buckets: [bucket; BUCKET_LEN],
            sample_len: 0,
            tried: 0,
            step: 0.0,
            step_len: 0,
        }
    }

    /// What the samples of a length's bucket tell.
    pub(super) fn sampled(&self, batch_len: usize) -> Sampled {
        let bucket = &self.buckets[bucket_index(batch_len)];
        let len = f64::from(bucket.sample_len);
        let time_ns = bucket.ratio * self.level_ns(batch_len);
        Sampled { time_ns, error: bucket.variance.sqrt(), belief: len / (len + BUCKET_DOUBT) }
    }

    pub(super) fn is_untried(&self, batch_len: usize) -> bool {
        self.buckets[bucket_index(batch_len)].sample_len == 0
    }

    /// Time of a length that was never tried, from the nearest ones that were; `beyond_ns` where
    /// all tried ones are shorter, but no less than theirs, or longer, but no more.
    pub(super) fn untried_ns(&self, batch_len: usize, beyond_ns: f64) -> f64 {
        match self.neighbours(batch_len) {
            [Some(low), Some(high)] => {
                let share = share(batch_len, low, high);
                let rise_ns = (high.time_ns - low.time_ns).max(0.0);
                low.time_ns + rise_ns * (share + self.step.max(0.0) * (1.0 - share))
            }
            [Some(low), None] => beyond_ns.max(low.time_ns),
            [None, Some(high)] => beyond_ns.min(high.time_ns),
            [None, None] => beyond_ns,
        }
    }

    /// Whether a time fits between those of the tried lengths next to an untried one, give or take
    /// the share `allowed`: if not, it is no step between them, all of them are off.
    pub(super) fn is_between(&self, batch_len: usize, time_ns: f64, allowed: f64) -> bool {
        let [low, high] = self.neighbours(batch_len);
        low.is_none_or(|low| time_ns >= (1.0 - allowed) * low.time_ns)
            && high.is_none_or(|high| time_ns <= (1.0 + allowed) * high.time_ns)
    }

    /// The longest tried length below an untried one, and the shortest above it.
    fn neighbours(&self, batch_len: usize) -> [Option<Tried>; 2] {
        let index = bucket_index(batch_len);
        let below = self.tried & ((1 << index) - 1);
        let above = self.tried >> index;
        let tried = |index: usize| {
            let len = longest_of(index);
            Tried { len: len as f64, time_ns: self.buckets[index].ratio * self.level_ns(len) }
        };
        let low = (below != 0).then(|| tried(63 - below.leading_zeros() as usize));
        let high = (above != 0).then(|| tried(index + above.trailing_zeros() as usize));
        [low, high]
    }

    /// Learns how far up between its neighbours a length lies that was tried for the first time.
    fn learn_step(&mut self, batch_len: usize, time_ns: f64) {
        let [Some(low), Some(high)] = self.neighbours(batch_len) else { return };
        let share = share(batch_len, low, high);
        let rise_ns = high.time_ns - low.time_ns;
        if rise_ns < STEP_RISE_MIN * low.time_ns || share > STEP_SHARE_MAX {
            return;
        }
        let step = ((time_ns - low.time_ns) / rise_ns - share) / (1.0 - share);
        self.step_len = (self.step_len + 1).min(FIRST_SAMPLES);
        self.step +=
            (step.clamp(STEP_MIN, 1.0) - self.step) / (f64::from(self.step_len) + STEP_DOUBT);
    }

    pub(super) fn learn(&mut self, batch_len: usize, time_ns: f64) {
        if self.is_untried(batch_len) {
            self.learn_step(batch_len, time_ns);
            self.tried |= bucket_of(batch_len);
        }
        let ratio = time_ns / self.level_ns(batch_len);
        self.sample_len += 1;
        let bucket = &mut self.buckets[bucket_index(batch_len)];
        bucket.sampled_at = self.sample_len;
        bucket.outliers = Outliers::NONE;
        if bucket.sample_len < FIRST_SAMPLES {
            bucket.sample_len += 1;
            bucket.ratio += (ratio - bucket.ratio) / f64::from(bucket.sample_len);
            bucket.variance = 1.0 / f64::from(bucket.sample_len);
            return;
        }
        let step = 1.0 + (ratio / bucket.ratio - 1.0) * RATIO_STEP;
        bucket.ratio *= step;
        let kept = 1.0 - RATIO_STEP;
        bucket.variance = kept * kept * bucket.variance + RATIO_STEP * RATIO_STEP;
        self.level *= power(step, LEVEL_SHARE);
    }

    /// Takes note of an outlier that may be a stair. Whether there were enough to believe it.
    pub(super) fn set_aside(&mut self, batch_len: usize, time_ns: f64) -> bool {
        let ratio = time_ns / self.level_ns(batch_len);
        let index = bucket_index(batch_len);
        let bucket = &mut self.buckets[index];
        let is_above = bucket.outliers.ratio_sum > f64::from(bucket.outliers.len) * bucket.ratio;
        if bucket.outliers.len == 0 || (ratio > bucket.ratio) != is_above {
            bucket.outliers = Outliers { since: self.sample_len, ..Outliers::NONE };
        }
        bucket.outliers.len += 1;
        bucket.outliers.ratio_sum += ratio;
        let Bucket { ratio: before, sample_len, outliers, .. } = *bucket;
        let ratio = outliers.ratio_sum / f64::from(outliers.len);
        let held = if outliers.len >= STAIR_RUN { self.sampled_since(outliers.since) } else { 0 };
        let is_stair = held != 0;
        if !is_stair && (!(1..=FEW).contains(&sample_len) || outliers.len < FEW) {
            return false;
        }
        self.tried |= 1 << index;
        if sample_len < FIRST_SAMPLES {
            let bucket = &mut self.buckets[index];
            (bucket.ratio, bucket.sample_len) = (ratio, outliers.len.min(FIRST_SAMPLES));
            bucket.variance = 1.0 / f64::from(bucket.sample_len);
        } else {
            self.change(1 << index, held, ratio / before);
        }
        self.buckets[index].outliers = Outliers::NONE;
        true
    }

    /// The times of the buckets `moved` have changed by `factor`, those of `held` have not, and all
    /// others by what these have on the whole.
    pub(super) fn change(&mut self, moved: u64, held: u64, factor: f64) {
        let len = moved.count_ones() + held.count_ones();
        let step = root(factor, 1 + LEVEL_SHARE * len);
        let level_step = power(step, LEVEL_SHARE * moved.count_ones());
        self.level *= level_step;
        for (index, bucket) in self.buckets.iter_mut().enumerate() {
            if moved >> index & 1 == 1 {
                bucket.ratio *= factor / level_step;
            } else if held >> index & 1 == 1 {
                bucket.ratio /= level_step;
            }
        }
    }

    /// Forgets the outliers: what they told is taken in.
    pub(super) fn forget_outliers(&mut self) {
        for bucket in &mut self.buckets {
            bucket.outliers = Outliers::NONE;
        }
    }

    /// The calibration at the present level; inside a bucket as far up as steps are.
    fn level_ns(&self, batch_len: usize) -> f64 {
        let longest_len = longest_of(bucket_index(batch_len));
        let up_len = self.step.max(0.0) * longest_len.saturating_sub(batch_len) as f64;
        let Line { fixed_ns, per_image_ns } = self.calibration;
        self.level * (fixed_ns + (batch_len as f64 + up_len) * per_image_ns).max(1.0)
    }

    /// Buckets whose times were as predicted after the first `sample_len` samples, and still are.
    fn sampled_since(&self, sample_len: u64) -> u64 {
        let mut found = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            // First samples agree with whatever they are.
            let is_found = bucket.sample_len == FIRST_SAMPLES
                && bucket.sampled_at > sample_len
                && bucket.outliers.len == 0;
            found |= u64::from(is_found) << index;
        }
        found
    }
}

/// A length that was tried, and what it takes.
#[derive(Clone, Copy)]
struct Tried {
    len: f64,
    time_ns: f64,
}

/// Where a length lies between two others, from 0 to 1.
fn share(batch_len: usize, low: Tried, high: Tried) -> f64 {
    ((batch_len as f64 - low.len) / (high.len - low.len)).clamp(0.0, 1.0)
}

/// The set of the one bucket that a batch length is in.
pub(super) fn bucket_of(batch_len: usize) -> u64 {
    1 << bucket_index(batch_len)
}

fn bucket_index(batch_len: usize) -> usize {
    let index = if batch_len <= SINGLE_LEN {
        batch_len.saturating_sub(1)
    } else {
        SINGLE_LEN - 1 + (batch_len - SINGLE_LEN).div_ceil(BUCKET_STEP)
    };
    index.min(BUCKET_LEN - 1)
}

/// The longest batch of a bucket.
fn longest_of(index: usize) -> usize {
    match index.checked_sub(SINGLE_LEN - 1) {
        None => index + 1,
        Some(steps) => SINGLE_LEN + steps * BUCKET_STEP,
    }
}

/// By products alone: the standard library's powers and logarithms may differ between platforms.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut power = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    power
}

/// By bisecting its logarithm, for the same reason.
fn root(value: f64, degree: u32) -> f64 {
    let (mut low, mut high) = (value.min(1.0), value.max(1.0));
    for _ in 0..48 {
        let middle = low.sqrt() * high.sqrt();
        if power(middle, degree) < value {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the shape takes in once its buckets are known, the level follows from the ratios.
    #[test]
    fn the_level_follows_from_the_ratios() {
        let line = Line::new(500_000.0, 25_000.0);
        let mut shape = Shape::new(line);
        let stairs = |len: usize| line.at_ns(len.next_power_of_two());
        for len in (1..=64).flat_map(|len| [len; 16]) {
            shape.learn(len, stairs(len));
        }
        let constant = |shape: &Shape| {
            let ratios: f64 = shape.buckets.iter().map(|bucket| bucket.ratio.ln()).sum();
            shape.level.ln() - f64::from(LEVEL_SHARE) * ratios
        };
        let before = constant(&shape);
        for i in 0..100_000_usize {
            let len = i * 37 % 64 + 1;
            match i % 100 {
                0..8 => drop(shape.set_aside(64, 1.3 * stairs(64))),
                50 => shape.change(bucket_of(len) | bucket_of(1), bucket_of(99), 1.4),
                60 => shape.change(bucket_of(len), 0, 0.7),
                _ => shape.learn(len, (0.9 + 0.02 * (i % 11) as f64) * stairs(len)),
            }
        }
        assert!((constant(&shape) - before).abs() < 1e-6, "{}", constant(&shape) - before);
    }

    #[test]
    fn roots_undo_powers() {
        for (base, degree) in [(1.001, 1025), (0.5, 17), (3.0, 1), (1.0, 33)] {
            assert!((root(power(base, degree), degree) / base - 1.0).abs() < 1e-12);
        }
        assert_eq!(power(2.0, 10), 1024.0);
    }
}
