//! Cost model: what a stage will take for a batch of a given length, learnt from what it took.
//!
//! Each stage keeps a least-squares line over a bounded window of measured batches, begun from
//! two calibration batches, and beside it a correction for each bucket of batch lengths, since real
//! stages are staircases. Single outliers are set aside; several in a row on the same side are a
//! new level, believed at once. Predictions are always positive and finite. Times are those that
//! the device measured for the stage alone; when and why a batch ran is not known here.

use super::line::{Line, Stage, Stages};
use super::recent::Recent;

/// Batches that the line is fitted to.
const WINDOW_LEN: usize = 64;
/// A time this many standard deviations off is an outlier; 1.4826 makes a median one of them.
const OUTLIER: f64 = 3.0 * 1.4826;
/// Times closer than this are never outliers: the model itself is not better.
const OUTLIER_MIN: f64 = 0.1;
/// What is an outlier before so many deviations are known.
const OUTLIER_FIRST: f64 = 0.2;
const DEVIATIONS_MIN: usize = 2 * SHIFT_RUN;
/// So many outliers in a row on one side are a new level: at one outlier in ten, chance alone does
/// that once in 10⁸ batches.
const SHIFT_RUN: usize = 8;
/// So many outliers in a row of one bucket are its own stair, once the line has settled.
const ODD_RUN: u32 = 3;
/// Unless they are so many times off: stairs at most double, hiccups may take any time.
const STAIR_MAX: f64 = 3.0;
/// What the shape known so far weighs, in samples that are a typical batch length apart.
const SHAPE_WEIGHT: f64 = 2.0;
/// Up to this batch length each has a bucket of its own, above it each multiple of it: the tiles
/// and graph sizes that cause staircases are multiples of 8.
const BUCKET_STEP: usize = 8;
/// Buckets; batches longer than the last one's share it.
const BUCKET_LEN: usize = 64;
/// Samples that a bucket's correction remembers.
const BUCKET_MEMORY: f64 = 16.0;
/// A correction is believed by `n / (n + BUCKET_DOUBT)` after n samples.
const BUCKET_DOUBT: f64 = 0.5;
/// Batches over which a drift is taken to be that of all lengths.
const LEVEL_MEMORY: f64 = 16.0;
/// Share of the measured times that stay within the margin on either side.
const MARGIN_QUANTILE: f64 = 0.95;

/// Cost of the three stages of a batch.
#[derive(Clone, Debug)]
pub struct CostModel {
    stages: Stages<StageModel>,
}

/// How sure a stage's predictions are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certainty {
    /// Measured batches that the line stands on, at most 64.
    pub sample_len: usize,
    /// Relative deviation that half of the recent times stay within; 0 before the first.
    pub deviation_median: f64,
    /// Relative deviation that 95 % of the recent times stay within; 0 before the first.
    pub deviation_high: f64,
}

impl CostModel {
    /// Begins with the lines of a calibration; see [`Line::through`].
    pub fn new(lines: Stages<Line>) -> Self {
        Self {
            stages: Stages {
                upload: StageModel::new(lines.upload),
                compute: StageModel::new(lines.compute),
                download: StageModel::new(lines.download),
            },
        }
    }

    /// Learns that `stage` took `elapsed_ns` for a batch of `batch_len` images.
    ///
    /// An empty batch or a time of zero is no measurement and changes nothing.
    pub fn observe(&mut self, stage: Stage, batch_len: usize, elapsed_ns: u64) {
        self.stages.of_mut(stage).observe(batch_len, elapsed_ns);
    }

    /// Expected time of a stage for a batch of `batch_len` images, in nanoseconds.
    pub fn predict_ns(&self, stage: Stage, batch_len: usize) -> u64 {
        whole_ns(self.stages.of(stage).predict_ns(batch_len))
    }

    /// Time that a stage rarely exceeds: the expected one and a high quantile of the residuals.
    pub fn predict_high_ns(&self, stage: Stage, batch_len: usize) -> u64 {
        let model = self.stages.of(stage);
        whole_ns(model.predict_ns(batch_len) * (1.0 + model.margin))
    }

    /// Mean of measured times over predicted ones. Predictions are of what is usual; this is above
    /// 1 by what outliers add.
    pub fn overrun(&self, stage: Stage) -> f64 {
        self.stages.of(stage).overrun
    }

    /// The line fitted to a stage, without the corrections of its buckets.
    pub fn line(&self, stage: Stage) -> Line {
        self.stages.of(stage).line
    }

    /// How sure the predictions of a stage are.
    pub fn certainty(&self, stage: Stage) -> Certainty {
        let model = self.stages.of(stage);
        Certainty {
            sample_len: model.sums.len as usize,
            deviation_median: model.deviations.quantile(0.5),
            deviation_high: model.margin,
        }
    }

    /// Longest batch, up to `batch_len_max`, whose compute and download rarely take longer than
    /// `slack_ns`; 0 if not even one image's do.
    pub fn batch_len_within(&self, slack_ns: u64, batch_len_max: usize) -> usize {
        let (mut fits_len, mut late_len) = (0, batch_len_max + 1);
        while late_len - fits_len > 1 {
            let middle_len = fits_len.midpoint(late_len);
            if self.finish_high_ns(middle_len) <= slack_ns {
                fits_len = middle_len;
            } else {
                late_len = middle_len;
            }
        }
        fits_len
    }

    /// Compute and download of a batch, rarely exceeded.
    pub(super) fn finish_high_ns(&self, batch_len: usize) -> u64 {
        self.predict_high_ns(Stage::Compute, batch_len)
            + self.predict_high_ns(Stage::Download, batch_len)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    batch_len: f64,
    time_ns: f64,
}

/// Sums over the window, kept up to date as samples come and go.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    len: f64,
    batch_len: f64,
    batch_len_squared: f64,
    time_ns: f64,
    product: f64,
}

impl Sums {
    fn add(&mut self, sample: Sample, weight: f64) {
        self.len += weight;
        self.batch_len += weight * sample.batch_len;
        self.batch_len_squared += weight * sample.batch_len * sample.batch_len;
        self.time_ns += weight * sample.time_ns;
        self.product += weight * sample.batch_len * sample.time_ns;
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Measured time over the calibration's at the present level, averaged.
    ratio: f64,
    sample_len: f64,
    /// Outliers since the last sample that was none.
    odd_len: u32,
}

#[derive(Clone, Debug)]
struct StageModel {
    line: Line,
    /// The calibration, and what it has to be multiplied by now. Unlike the line, which fits the
    /// lengths in use, it says something of all others.
    calibration: Line,
    level: f64,
    /// Line whose shape, its share of fixed cost, the window's evidence is weighed against.
    known: Line,
    window: [Sample; WINDOW_LEN],
    next: usize,
    sums: Sums,
    buckets: [Bucket; BUCKET_LEN],
    deviations: Recent,
    margin: f64,
    /// Measured times over predicted ones, outliers included, averaged.
    overrun: f64,
    /// The latest outliers over their predictions, all on the same side of 1.
    run: [f64; SHIFT_RUN],
    run_len: usize,
}

impl StageModel {
    fn new(line: Line) -> Self {
        let line = Line::new(line.fixed_ns.max(0.0), line.per_image_ns.max(0.0));
        Self {
            line,
            calibration: line,
            level: 1.0,
            known: line,
            window: [Sample::default(); WINDOW_LEN],
            next: 0,
            sums: Sums::default(),
            buckets: [Bucket { ratio: 1.0, sample_len: 0.0, odd_len: 0 }; BUCKET_LEN],
            deviations: Recent::new(),
            margin: 0.0,
            overrun: 1.0,
            run: [0.0; SHIFT_RUN],
            run_len: 0,
        }
    }

    fn predict_ns(&self, batch_len: usize) -> f64 {
        let bucket = self.buckets[bucket_index(batch_len)];
        let line_ns = self.line.at_ns(batch_len);
        let calibrated_ns = self.calibrated_ns(batch_len);
        if bucket.sample_len == 0.0 {
            // The better of what is likely: it costs one batch to learn the truth, but a length
            // thought too ill of would never be tried. Stairs at most double.
            return line_ns.min(calibrated_ns.max(0.5 * line_ns)).max(1.0);
        }
        let belief = bucket.sample_len / (bucket.sample_len + BUCKET_DOUBT);
        (line_ns + belief * (calibrated_ns * bucket.ratio - line_ns)).max(1.0)
    }

    fn calibrated_ns(&self, batch_len: usize) -> f64 {
        (self.level * self.calibration.at_ns(batch_len)).max(1.0)
    }

    fn observe(&mut self, batch_len: usize, elapsed_ns: u64) {
        if batch_len == 0 || elapsed_ns == 0 {
            return;
        }
        let predicted_ns = self.predict_ns(batch_len);
        let ratio = elapsed_ns as f64 / predicted_ns;
        let deviation = (ratio - 1.0).abs();
        self.overrun += (ratio - self.overrun) / WINDOW_LEN as f64;
        self.deviations.push(deviation);
        let limit = if self.deviations.len() < DEVIATIONS_MIN {
            OUTLIER_FIRST
        } else {
            (OUTLIER * self.deviations.quantile(0.5)).max(OUTLIER_MIN)
        };
        // No margin covers outliers: it would refuse nearly everything for the sake of a few.
        self.margin = self.deviations.quantile(MARGIN_QUANTILE).min(limit);
        let bucket = &mut self.buckets[bucket_index(batch_len)];
        let may_be_stair =
            self.sums.len as usize == WINDOW_LEN && (1.0 / STAIR_MAX..STAIR_MAX).contains(&ratio);
        let is_new = may_be_stair && bucket.sample_len == 0.0;
        if deviation > limit && !is_new {
            bucket.odd_len += u32::from(may_be_stair);
            self.set_aside(batch_len, ratio);
            return;
        }
        bucket.odd_len = 0;
        self.run_len = 0;
        if !is_new {
            self.level *= 1.0 + (ratio - 1.0).clamp(-0.1, 0.1) / LEVEL_MEMORY;
        }
        let time_ns = elapsed_ns as f64;
        self.add(Sample { batch_len: batch_len as f64, time_ns });
        self.fit();
        let calibrated_ns = self.calibrated_ns(batch_len);
        let bucket = &mut self.buckets[bucket_index(batch_len)];
        bucket.sample_len = (bucket.sample_len + 1.0).min(BUCKET_MEMORY);
        bucket.ratio += (time_ns / calibrated_ns - bucket.ratio) / bucket.sample_len;
    }

    /// Keeps an outlier out of the fit. Enough of one bucket are a stair that was not known; enough
    /// on one side, whatever their length, are a new level: the model is scaled to them and the
    /// window starts anew. The known shape stays, what moved was the level.
    fn set_aside(&mut self, batch_len: usize, ratio: f64) {
        let time_ns = ratio * self.predict_ns(batch_len);
        let calibrated_ns = self.calibrated_ns(batch_len);
        let bucket = &mut self.buckets[bucket_index(batch_len)];
        if bucket.odd_len == ODD_RUN {
            let ratio = time_ns / calibrated_ns;
            *bucket = Bucket { ratio, sample_len: BUCKET_MEMORY, odd_len: 0 };
            self.run_len = 0;
            return;
        }
        if self.run_len > 0 && (ratio > 1.0) != (self.run[0] > 1.0) {
            self.run_len = 0;
        }
        self.run[self.run_len] = ratio;
        self.run_len += 1;
        if self.run_len < SHIFT_RUN {
            return;
        }
        self.run.sort_unstable_by(f64::total_cmp);
        let factor = self.run[SHIFT_RUN / 2];
        self.line = Line::new(self.line.fixed_ns * factor, self.line.per_image_ns * factor);
        self.level *= factor;
        self.sums = Sums::default();
        self.next = 0;
        self.deviations.clear();
        self.run_len = 0;
    }

    fn add(&mut self, sample: Sample) {
        if self.sums.len as usize == WINDOW_LEN {
            self.sums.add(self.window[self.next], -1.0);
        }
        self.window[self.next] = sample;
        self.sums.add(sample, 1.0);
        self.next += 1;
        if self.next == WINDOW_LEN {
            self.next = 0;
            // Once a turn: what was learnt of the shape is kept, rounding errors are not.
            self.known = self.line;
            self.sums = Sums::default();
            for sample in self.window {
                self.sums.add(sample, 1.0);
            }
        }
    }

    /// Least squares through the window's mean, the slope drawn to that of the known shape at the
    /// window's level. A slope below zero is refused for that one; a line that would start below
    /// zero starts at it.
    fn fit(&mut self) {
        let sums = &self.sums;
        let batch_len_mean = sums.batch_len / sums.len;
        let time_mean_ns = sums.time_ns / sums.len;
        let spread = sums.batch_len_squared - sums.batch_len * batch_len_mean;
        let covariance = sums.product - sums.batch_len * time_mean_ns;
        let known_mean_ns = self.known.per_image_ns * batch_len_mean + self.known.fixed_ns;
        let known_slope = self.known.per_image_ns * time_mean_ns / known_mean_ns.max(1.0);
        let weight = SHAPE_WEIGHT * batch_len_mean * batch_len_mean;
        let mut slope = (covariance + weight * known_slope) / (spread + weight);
        if slope < 0.0 {
            slope = known_slope;
        }
        let fixed_ns = time_mean_ns - slope * batch_len_mean;
        self.line = if fixed_ns < 0.0 {
            Line::new(0.0, time_mean_ns / batch_len_mean)
        } else {
            Line::new(fixed_ns, slope)
        };
    }
}

/// Rounded up, without the call that rounding up a float takes on older processors.
fn whole_ns(time_ns: f64) -> u64 {
    (time_ns + 0.999) as u64
}

fn bucket_index(batch_len: usize) -> usize {
    let index = if batch_len <= BUCKET_STEP {
        batch_len.saturating_sub(1)
    } else {
        BUCKET_STEP - 2 + batch_len.div_ceil(BUCKET_STEP)
    };
    index.min(BUCKET_LEN - 1)
}

#[cfg(test)]
mod tests;
