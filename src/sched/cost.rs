//! Cost model: what a stage will take for a batch of a given length, learnt from what it took.
//!
//! Each stage keeps a least-squares line over a bounded window of measured batches, begun from
//! two calibration batches, and beside it the shape of its times: what each bucket of batch lengths
//! takes relative to the calibration, and a level, by which lengths not in use follow those that
//! are. Single outliers are set aside; several in a row on the same side are a new level, believed
//! at once. Predictions are always positive and at most an hour. Times are those that the device
//! measured for the stage alone; when and why a batch ran is not known here.

mod shape;

use self::shape::{Shape, bucket_of};
use super::line::{Line, Stage, Stages};
use super::recent::Recent;

/// Batches that the line is fitted to.
const WINDOW_LEN: usize = 64;
/// What makes a median of deviations a standard deviation.
const STANDARD: f64 = 1.4826;
/// A time this many standard deviations off is an outlier.
const OUTLIER: f64 = 3.0 * STANDARD;
/// Times closer than this are never outliers: the model itself is not better.
const OUTLIER_MIN: f64 = 0.1;
/// What is an outlier before so many deviations are known.
const OUTLIER_FIRST: f64 = 0.2;
const DEVIATIONS_MIN: usize = 2 * SHIFT_RUN;
/// So many outliers in a row on one side are a new level: at one outlier in ten, chance alone does
/// that once in 10⁸ batches.
const SHIFT_RUN: usize = 8;
/// Outliers may be a stair unless they are so many times off: stairs at most double, hiccups may
/// take any time.
const STAIR_MAX: f64 = 3.0;
/// What the shape known so far weighs, in samples that are a typical batch length apart.
const SHAPE_WEIGHT: f64 = 2.0;
/// Samples that a calibration's time counts as: more than the few that may all be wrong.
const CALIBRATION_RUNS: usize = 4;
/// So many standard errors of a bucket's mean are no step of the stage: fewer would let the policy
/// choose between lengths by noise.
const STEP_ERRORS: f64 = 2.0;
/// Longest time that is believed and predicted: sums of a few of them are far from overflowing.
const TIME_NS_MAX: u64 = 3_600_000_000_000;
/// Share of the measured times that stay within the margin on either side.
const MARGIN_QUANTILE: f64 = 0.95;

/// Cost of the three stages of a batch.
#[derive(Clone, Debug)]
pub struct CostModel {
    stages: Stages<StageModel>,
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

    /// Learns what a calibration measured: the middle of several runs, believed as these are.
    pub(super) fn calibrated(&mut self, stage: Stage, batch_len: usize, elapsed_ns: u64) {
        for _ in 0..CALIBRATION_RUNS {
            self.observe(stage, batch_len, elapsed_ns);
        }
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
            .saturating_add(self.predict_high_ns(Stage::Download, batch_len))
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

#[derive(Clone, Debug)]
struct StageModel {
    line: Line,
    /// Unlike the line, which fits the lengths in use, it says something of all others.
    shape: Shape,
    /// Line whose shape, its share of fixed cost, the window's evidence is weighed against.
    known: Line,
    window: [Sample; WINDOW_LEN],
    next: usize,
    sums: Sums,
    deviations: Recent,
    margin: f64,
    /// Standard deviation of the latest measured times from the predicted ones, as a share, as
    /// their median has it.
    noise: f64,
    /// Measured times over predicted ones, outliers included, averaged.
    overrun: f64,
    /// The latest outliers over their predictions, all on the same side of 1.
    run: [f64; SHIFT_RUN],
    run_len: usize,
    /// Their buckets, a bit each.
    run_buckets: u64,
}

impl StageModel {
    fn new(line: Line) -> Self {
        let line = Line::new(line.fixed_ns.max(0.0), line.per_image_ns.max(0.0));
        Self {
            line,
            shape: Shape::new(line),
            known: line,
            window: [Sample::default(); WINDOW_LEN],
            next: 0,
            sums: Sums::default(),
            deviations: Recent::new(),
            margin: 0.0,
            noise: 0.0,
            overrun: 1.0,
            run: [0.0; SHIFT_RUN],
            run_len: 0,
            run_buckets: 0,
        }
    }

    fn predict_ns(&self, batch_len: usize) -> f64 {
        let line_ns = self.line.at_ns(batch_len);
        if self.shape.is_untried(batch_len) {
            return self.shape.untried_ns(batch_len, line_ns).max(1.0);
        }
        // A bucket's mean is off by its noise over the root of its samples: what lies within a few
        // times that is no step, and to choose between lengths by it would be to choose errors.
        let sampled = self.shape.sampled(batch_len);
        let apart_ns = sampled.time_ns - line_ns;
        let error_ns = STEP_ERRORS * self.noise * line_ns * sampled.error;
        let is_step = if apart_ns == 0.0 { 0.0 } else { 1.0 - (error_ns / apart_ns).powi(2) };
        (line_ns + sampled.belief * is_step.max(0.0) * apart_ns).max(1.0)
    }

    fn observe(&mut self, batch_len: usize, elapsed_ns: u64) {
        if batch_len == 0 || elapsed_ns == 0 {
            return;
        }
        let time_ns = elapsed_ns.min(TIME_NS_MAX) as f64;
        let ratio = time_ns / self.predict_ns(batch_len);
        let deviation = (ratio - 1.0).abs();
        self.overrun += (ratio - self.overrun) / WINDOW_LEN as f64;
        self.deviations.push(deviation);
        let limit = if self.deviations.len() < DEVIATIONS_MIN {
            OUTLIER_FIRST
        } else {
            (OUTLIER * self.deviations.quantile(0.5)).max(OUTLIER_MIN)
        };
        self.noise = STANDARD * self.deviations.quantile(0.5);
        // No margin covers outliers: it would refuse nearly everything for the sake of a few.
        self.margin = self.deviations.quantile(MARGIN_QUANTILE).min(limit);
        let may_be_stair = (1.0 / STAIR_MAX..STAIR_MAX).contains(&ratio);
        let is_new = may_be_stair
            && self.shape.is_untried(batch_len)
            && self.shape.is_between(batch_len, time_ns, limit);
        if deviation > limit && !is_new {
            self.set_aside(batch_len, ratio, may_be_stair.then_some(time_ns));
            return;
        }
        self.end_run();
        self.add(Sample { batch_len: batch_len as f64, time_ns });
        self.fit();
        self.shape.learn(batch_len, time_ns);
    }

    /// Keeps an outlier out of the fit. Enough of one bucket are a stair that was not known; enough
    /// on one side, whatever their length, are a new level: the model is scaled to them and the
    /// window starts anew. The known shape stays, what moved was the level.
    fn set_aside(&mut self, batch_len: usize, ratio: f64, stair_ns: Option<f64>) {
        if self.run_len > 0 && (ratio > 1.0) != (self.run[0] > 1.0) {
            self.end_run();
        }
        self.run[self.run_len] = ratio;
        self.run_len += 1;
        self.run_buckets |= bucket_of(batch_len);
        if let Some(time_ns) = stair_ns
            && self.shape.set_aside(batch_len, time_ns)
        {
            self.end_run();
            return;
        }
        if self.run_len < SHIFT_RUN {
            return;
        }
        self.run.sort_unstable_by(f64::total_cmp);
        let factor = self.run[SHIFT_RUN / 2];
        self.line = Line::new(self.line.fixed_ns * factor, self.line.per_image_ns * factor);
        self.shape.change(self.run_buckets, 0, factor);
        self.shape.forget_outliers();
        self.sums = Sums::default();
        self.next = 0;
        self.deviations.clear();
        self.end_run();
    }

    fn end_run(&mut self) {
        self.run_len = 0;
        self.run_buckets = 0;
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
    ((time_ns + 0.999) as u64).min(TIME_NS_MAX)
}

#[cfg(test)]
mod median;
#[cfg(test)]
mod tests;
