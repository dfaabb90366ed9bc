//! The cost model against known truths: lines, staircases, outliers, drift, a wrong start.

use super::*;

const TRUTH: Line = Line::new(500_000.0, 25_000.0);

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
    for _ in 0..=ODD_RUN {
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
fn margin_covers_the_noise_and_tells_how_sure() {
    let mut cost = CostModel::new(Stages { upload: TRUTH, compute: TRUTH, download: TRUTH });
    assert_eq!(cost.certainty(Stage::Compute).sample_len, 0);
    for (i, len) in batch_lens(300).enumerate() {
        let noise = 1.0 + 0.1 * ((i * 13 % 21) as f64 / 10.0 - 1.0);
        cost.observe(Stage::Compute, len, (TRUTH.at_ns(len) * noise) as u64);
    }
    let certainty = cost.certainty(Stage::Compute);
    assert_eq!(certainty.sample_len, WINDOW_LEN);
    assert!((0.03..0.08).contains(&certainty.deviation_median), "{certainty:?}");
    assert!((0.08..0.13).contains(&certainty.deviation_high), "{certainty:?}");
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
