//! The cost model against known truths: lines, staircases, outliers, drift, a wrong start; and
//! over millions of batches, after which the lengths not in use must be known as well.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::*;

pub(super) const TRUTH: Line = Line::new(500_000.0, 25_000.0);

/// Batch lengths 1 to 64 in a scattered, repeatable order.
fn batch_lens(len: usize) -> impl Iterator<Item = usize> {
    (0..len).map(|i| i * 37 % 64 + 1)
}

fn model(line: Line) -> StageModel {
    StageModel::new(line)
}

fn worst_error(model: &StageModel, truth: impl Fn(usize) -> f64) -> f64 {
    (1..=64).map(|len| (model.predict_ns(len) / truth(len) - 1.0).abs()).fold(0.0, f64::max)
}

#[test]
fn keeps_a_true_line() {
    let mut model = model(TRUTH);
    for len in batch_lens(500) {
        model.observe(len, TRUTH.at_ns(len) as u64);
    }
    assert!(worst_error(&model, |len| TRUTH.at_ns(len)) < 1e-4);
    assert!(model.margin < 1e-4);
}

#[test]
fn corrects_a_start_that_is_twice_or_half_the_truth() {
    for factor in [0.5, 2.0] {
        let mut model = model(Line::new(TRUTH.fixed_ns * factor, TRUTH.per_image_ns * factor));
        for len in batch_lens(20) {
            model.observe(len, TRUTH.at_ns(len) as u64);
        }
        let error = worst_error(&model, |len| TRUTH.at_ns(len));
        assert!(error < 0.02, "factor {factor}: {error}");
    }
}

#[test]
fn corrects_a_start_with_the_wrong_share_of_fixed_cost() {
    for (start, allowed) in
        [(Line::new(250_000.0, 40_000.0), 0.1), (Line::new(50_000.0, 50_000.0), 0.2)]
    {
        let mut model = model(start);
        for len in batch_lens(400) {
            model.observe(len, TRUTH.at_ns(len) as u64);
        }
        let error = worst_error(&model, |len| TRUTH.at_ns(len));
        assert!(error < allowed, "{start:?}: {error}");
        let line_error = model.line.at_ns(32) / TRUTH.at_ns(32) - 1.0;
        assert!(line_error.abs() < 0.02, "{start:?}: {line_error}");
    }
}

#[test]
fn is_not_moved_by_one_outlier_in_ten() {
    let mut model = model(TRUTH);
    for (i, len) in batch_lens(2_000).enumerate() {
        let factor = if i * 7 % 10 == 0 { 10.0 } else { 1.0 };
        // Half a percent of noise, either way.
        let noise = 1.0 + 0.005 * ((i % 3) as f64 - 1.0);
        model.observe(len, (TRUTH.at_ns(len) * factor * noise) as u64);
    }
    let error = worst_error(&model, |len| TRUTH.at_ns(len));
    assert!(error < 0.02, "{error}");
}

#[test]
fn follows_a_step_within_a_few_batches_and_a_drift_throughout() {
    let mut model = model(TRUTH);
    for len in batch_lens(100) {
        model.observe(len, TRUTH.at_ns(len) as u64);
    }
    for len in batch_lens(SHIFT_RUN + 1) {
        model.observe(len, (1.7 * TRUTH.at_ns(len)) as u64);
    }
    let error = worst_error(&model, |len| 1.7 * TRUTH.at_ns(len));
    assert!(error < 0.02, "after the step: {error}");
    for (i, len) in batch_lens(2_000).enumerate() {
        let factor = 1.7 - 0.7 * i as f64 / 2_000.0;
        let error = model.predict_ns(len) / (factor * TRUTH.at_ns(len)) - 1.0;
        assert!(error.abs() < 0.03, "batch {i} of the drift: {error}");
        model.observe(len, (factor * TRUTH.at_ns(len)) as u64);
    }
}

#[test]
fn learns_a_staircase() {
    let stairs = |len: usize| TRUTH.at_ns(len.div_ceil(16) * 16);
    let mut model = model(Line::new(TRUTH.fixed_ns, TRUTH.per_image_ns));
    for len in batch_lens(1_500) {
        model.observe(len, stairs(len) as u64);
    }
    let mean_error =
        (1..=64).map(|len| (model.predict_ns(len) / stairs(len) - 1.0).abs()).sum::<f64>() / 64.0;
    let line_error =
        (1..=64).map(|len| (model.line.at_ns(len) / stairs(len) - 1.0).abs()).sum::<f64>() / 64.0;
    assert!(mean_error < 0.05 && mean_error < 0.7 * line_error, "{mean_error} {line_error}");
}

/// One length for long, then one on the next stair: three of it are believed, and the step of a
/// device that is only ever asked for one length is followed too.
#[test]
fn learns_a_stair_that_is_rarely_met() {
    let mut model = model(TRUTH);
    for len in batch_lens(200).map(|len| len % 4 + 29) {
        model.observe(len, TRUTH.at_ns(len) as u64);
    }
    let next_ns = 1.5 * TRUTH.at_ns(36);
    for _ in 0..4 {
        model.observe(36, next_ns as u64);
    }
    assert!((model.predict_ns(36) / next_ns - 1.0).abs() < 0.1, "{}", model.predict_ns(36));
    assert!((model.predict_ns(30) / TRUTH.at_ns(30) - 1.0).abs() < 0.03);
    for _ in 0..100 {
        model.observe(30, 2 * TRUTH.at_ns(30) as u64);
    }
    let error = model.predict_ns(30) / (2.0 * TRUTH.at_ns(30)) - 1.0;
    assert!(error.abs() < 0.02, "{error}");
}

#[test]
fn refuses_nonsense() {
    let mut model = model(TRUTH);
    model.observe(0, 5);
    model.observe(5, 0);
    assert_eq!(model.sums.len, 0.0);
    // One distinct length: the level moves, the slope stays.
    for _ in 0..200 {
        model.observe(8, (1.2 * TRUTH.at_ns(8)) as u64);
    }
    assert!((model.predict_ns(8) / (1.2 * TRUTH.at_ns(8)) - 1.0).abs() < 0.01);
    assert!(model.line.per_image_ns >= TRUTH.per_image_ns);
    // Longer batches that take less time: never a falling line.
    for len in batch_lens(500) {
        model.observe(len, (1_000_000 - 10_000 * len) as u64);
        assert!(model.line.per_image_ns >= 0.0 && model.line.fixed_ns >= 0.0);
    }
}

#[test]
fn margin_covers_the_noise() {
    let mut cost = CostModel::new(Stages { upload: TRUTH, compute: TRUTH, download: TRUTH });
    for (i, len) in batch_lens(300).enumerate() {
        let noise = 1.0 + 0.1 * ((i * 13 % 21) as f64 / 10.0 - 1.0);
        cost.observe(Stage::Compute, len, (TRUTH.at_ns(len) * noise) as u64);
    }
    let model = &cost.stages.compute;
    assert_eq!(model.sums.len as usize, WINDOW_LEN);
    assert!((0.03..0.08).contains(&model.deviations.quantile(0.5)), "{:?}", model.deviations);
    assert!((0.08..0.13).contains(&model.margin), "{}", model.margin);
    assert!(
        cost.predict_high_ns(Stage::Compute, 8) as f64
            > 1.07 * cost.predict_ns(Stage::Compute, 8) as f64
    );
}

#[test]
fn longest_batch_within_a_time() {
    let flat = Line::new(1_000.0, 0.0);
    let cost = CostModel::new(Stages { upload: flat, compute: TRUTH, download: flat });
    assert_eq!(cost.batch_len_within(501_000 + 10 * 25_000, 256), 10);
    assert_eq!(cost.batch_len_within(500_000, 256), 0);
    assert_eq!(cost.batch_len_within(u64::MAX, 256), 256);
}

#[test]
fn nothing_overflows() {
    let endless = Line::new(1e30, 1e30);
    let cost = CostModel::new(Stages { upload: endless, compute: endless, download: endless });
    assert_eq!(cost.finish_high_ns(usize::MAX), 2 * TIME_NS_MAX);
    let mut cost = CostModel::new(Stages { upload: TRUTH, compute: TRUTH, download: TRUTH });
    for i in 0..200 {
        let elapsed_ns = if i / 20 % 2 == 0 { u64::MAX } else { 1 };
        for stage in [Stage::Upload, Stage::Compute, Stage::Download] {
            cost.observe(stage, i % 3 + 1, elapsed_ns);
        }
        for len in [1, 2, 3, 8, 64, usize::MAX] {
            assert!((2..=2 * TIME_NS_MAX).contains(&cost.finish_high_ns(len)), "{i} {len}");
        }
    }
}

pub(super) struct Draw(SplitMix64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Between 0 and 1, neither included.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of mean 0 and deviation 1, near enough to normal.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

/// Measured over usual time.
type Noise = fn(&mut Draw) -> f64;

const NOISES: [(&str, Noise); 6] = [
    ("none", |_| 1.0),
    ("uniform", |draw| 0.97 + 0.06 * draw.share()),
    ("normal", |draw| 1.0 + 0.05 * draw.normal()),
    ("skewed", |draw| 0.95 - 0.05 * draw.share().ln()),
    ("hiccups", |draw| {
        let factor = if draw.next() % 50 == 0 { 1.5 + 0.5 * draw.share() } else { 1.0 };
        factor * (1.0 + 0.05 * draw.normal())
    }),
    ("outliers", |draw| if draw.next() % 10 == 0 { 10.0 } else { 1.0 + 0.02 * draw.normal() }),
];

const ALL_LENS: [usize; 10] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64];

/// Learns every length, then serves `batch_len` for very long. Panics once a length is predicted
/// wrong by more than `allowed`.
fn serve(
    what: &str,
    mut model: StageModel,
    truth: impl Fn(usize) -> f64,
    noise: Noise,
    batch_len: impl Fn(&mut Draw) -> usize,
    allowed: impl Fn(usize) -> f64,
) {
    const BATCHES: usize = 1_000_000;
    let mut draw = Draw::new(1);
    for len in ALL_LENS.repeat(30) {
        model.observe(len, (truth(len) * noise(&mut draw)) as u64);
    }
    for i in 0..=BATCHES {
        if i % 1_000 == 0 && i > 0 {
            for len in ALL_LENS {
                let error = model.predict_ns(len) / truth(len) - 1.0;
                assert!(error.abs() < allowed(len), "{what}: length {len}, batch {i}: {error}");
            }
        }
        let len = batch_len(&mut draw);
        model.observe(len, (truth(len) * noise(&mut draw)) as u64);
    }
}

#[test]
fn noise_of_one_length_moves_no_other() {
    for (name, noise) in NOISES {
        serve(name, model(TRUTH), |len| TRUTH.at_ns(len), noise, |_| 1, |_| 0.1);
    }
}

#[test]
fn noise_of_a_few_lengths_moves_no_other() {
    for (name, noise) in NOISES {
        let few = |draw: &mut Draw| 1 + draw.next() as usize % 3;
        serve(name, model(TRUTH), |len| TRUTH.at_ns(len), noise, few, |_| 0.1);
    }
}

/// The line through two of its points is wrong about most of a staircase, and so is its scale.
#[test]
fn a_staircase_moves_no_length_that_is_not_in_use() {
    let stairs = |len: usize| 100_000.0 + 160_000.0 * len.div_ceil(8) as f64;
    for (name, noise) in [NOISES[0], NOISES[1]] {
        for start in [
            Line::new(stairs(8), 0.0),
            Line::new(240_000.0, 20_000.0),
            Line::new(480_000.0, 40_000.0),
            Line::new(120_000.0, 10_000.0),
        ] {
            // Lengths 9 to 12 share a bucket with 16.
            let allowed = |len| if len == 16 { 0.3 } else { 0.12 };
            let up_to_12 = |draw: &mut Draw| 1 + draw.next() as usize % 12;
            let what = format!("{name}, {start:?}");
            serve(&what, model(start), stairs, noise, up_to_12, allowed);
        }
    }
}

#[test]
fn a_lasting_change_at_one_length_moves_all() {
    let warm = || {
        let mut model = model(TRUTH);
        for len in ALL_LENS.repeat(30) {
            model.observe(len, TRUTH.at_ns(len) as u64);
        }
        model
    };
    for factor in [2.0, 0.5] {
        let mut stepped = warm();
        for _ in 0..2 * SHIFT_RUN {
            stepped.observe(1, (factor * TRUTH.at_ns(1)) as u64);
        }
        let mut drifted = warm();
        for i in 0..2_000 {
            let now = 1.0 + (factor - 1.0) * (i as f64 / 1_000.0).min(1.0);
            drifted.observe(1, (now * TRUTH.at_ns(1)) as u64);
        }
        for (name, model) in [("step", stepped), ("drift", drifted)] {
            let error = worst_error(&model, |len| factor * TRUTH.at_ns(len));
            assert!(error < 0.06, "{name} x{factor}: {error}");
        }
    }
}

/// Steps up, drifts down and back up by a step; the clocks of a device go to and fro like this.
#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    /// Of a batch's number.
    type Factor = fn(usize) -> f64;
    type BatchLen = fn(usize) -> usize;
    let sawtooth = |i: usize| 1.7 - 0.7 * (i % 1_000) as f64 / 1_000.0;
    let backward = |i: usize| 1.0 + 0.7 * (i % 1_000) as f64 / 1_000.0;
    let steps = |i: usize| if i % 1_000 < 500 { 2.0 } else { 1.0 };
    let slow_at_first = |i: usize| if i % 500 < 30 { 1.4 } else { 1.0 };
    let cases: [(&str, Factor, BatchLen); 5] = [
        ("sawtooth", sawtooth, |_| 1),
        ("backward", backward, |_| 1),
        ("steps", steps, |_| 1),
        ("steps of some", steps, |i| i % 3 + 1),
        // Faster only after a while under load.
        ("load", slow_at_first, |i| if i % 1_000 < 500 { 1 } else { 64 }),
    ];
    for (name, factor, batch_len) in cases {
        let mut draw = Draw::new(2);
        let mut model = model(TRUTH);
        for len in ALL_LENS.repeat(30) {
            model.observe(len, TRUTH.at_ns(len) as u64);
        }
        for i in 0..300_000 {
            let len = batch_len(i);
            let time_ns = factor(i) * TRUTH.at_ns(len) * (0.97 + 0.06 * draw.share());
            model.observe(len, time_ns as u64);
            if i % 500 == 499 {
                for len in ALL_LENS {
                    let error = model.predict_ns(len) / (factor(i) * TRUTH.at_ns(len)) - 1.0;
                    assert!(error.abs() < 0.1, "{name}: length {len}, batch {i}: {error}");
                }
            }
        }
    }
}

/// What was never tried lies between what was: on a line, and once steps were met, level with the
/// longer one.
#[test]
fn lengths_between_tried_ones_follow_the_steps_that_were_met() {
    let stairs = |len: usize| TRUTH.at_ns(len.next_power_of_two());
    let powers = [1, 2, 4, 8, 16, 32, 64, 128];
    for (truth, met, allowed) in [
        (&(|len| TRUTH.at_ns(len)) as &dyn Fn(usize) -> f64, 0..0, 0.01),
        (&(|len| TRUTH.at_ns(len)), 18..23, 0.02),
        (&stairs, 18..23, 0.15),
    ] {
        let mut model = model(TRUTH);
        for len in powers.into_iter().chain(met.clone()) {
            model.observe(len, truth(len) as u64);
        }
        for len in [3, 6, 12, 40, 48, 72, 100] {
            let error = model.predict_ns(len) / truth(len) - 1.0;
            assert!(error.abs() < allowed, "{met:?}, {len}: {error}");
        }
    }
}

/// What one sample in two tells of a step is kept, what noise could be is not: the policy chooses
/// among lengths, and would choose the errors.
#[test]
fn noise_is_no_step() {
    const SEEDS: u64 = 8;
    let step = |len: usize| if len <= 32 { 0.7 } else { 1.0 };
    let lens = (1..=64).step_by(3);
    let (mut apart_mean, mut errors) = (0.0, [0.0; 65]);
    for seed in 0..SEEDS {
        let mut draw = Draw::new(seed);
        let mut noisy = model(TRUTH);
        let mut stepped = model(TRUTH);
        for len in batch_lens(640) {
            let noise = 1.0 + 0.05 * draw.normal();
            noisy.observe(len, (TRUTH.at_ns(len) * noise) as u64);
            stepped.observe(len, (TRUTH.at_ns(len) * step(len) * noise) as u64);
        }
        // Against the line, which wanders with the noise by itself.
        let apart = |len: usize| (noisy.predict_ns(len) / noisy.line.at_ns(len) - 1.0).abs();
        let mean = lens.clone().map(apart).sum::<f64>() / 22.0;
        assert!(mean < 0.005, "seed {seed}: {mean}");
        apart_mean += mean / SEEDS as f64;
        for len in lens.clone() {
            let error = stepped.predict_ns(len) / (step(len) * TRUTH.at_ns(len)) - 1.0;
            assert!(error.abs() < 0.07, "seed {seed}, {len}: {error}");
            errors[len] += error.abs() / SEEDS as f64;
        }
    }
    assert!(apart_mean < 0.002, "{apart_mean}");
    for len in lens {
        assert!(errors[len] < 0.04, "{len}: {}", errors[len]);
    }
}
