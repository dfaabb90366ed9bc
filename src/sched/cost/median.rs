//! What the cost model is held against: a median for each bucket of batch lengths, with a line as
//! prior. It takes a tenth of the code; the test shows where that is too little.
//!
//! Knows nothing of margins: only expected times are compared.

use std::collections::VecDeque;

use super::shape::bucket_of;
use super::tests::{Draw, TRUTH};
use super::{Line, StageModel};

/// Latest samples of a bucket, and latest of all, that a median is taken of.
const WINDOW_LEN: usize = 15;
/// What the prior weighs, in samples.
const PRIOR_LEN: usize = 1;

/// Measured times over those of the line.
#[derive(Clone, Default)]
struct Ratios(VecDeque<f64>);

impl Ratios {
    fn push(&mut self, ratio: f64) {
        self.0.push_back(ratio);
        if self.0.len() > WINDOW_LEN {
            self.0.pop_front();
        }
    }

    fn median(&self, prior: f64) -> f64 {
        let mut ratios: Vec<f64> = self.0.iter().copied().chain([prior; PRIOR_LEN]).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        if ratios.len() % 2 == 1 {
            ratios[middle]
        } else {
            ratios[middle - 1].midpoint(ratios[middle])
        }
    }
}

struct Medians {
    line: Line,
    /// All lengths: where the line stands now.
    level: Ratios,
    buckets: Vec<Ratios>,
}

impl Medians {
    fn new(line: Line) -> Self {
        let buckets = vec![Ratios::default(); u64::BITS as usize];
        Self { line, level: Ratios::default(), buckets }
    }
}

/// What learns a stage's times.
trait Model {
    fn predict_ns(&self, batch_len: usize) -> f64;
    fn observe(&mut self, batch_len: usize, elapsed_ns: u64);
}

impl Model for Medians {
    fn predict_ns(&self, batch_len: usize) -> f64 {
        let bucket = &self.buckets[bucket_of(batch_len).trailing_zeros() as usize];
        bucket.median(self.level.median(1.0)) * self.line.at_ns(batch_len)
    }

    fn observe(&mut self, batch_len: usize, elapsed_ns: u64) {
        let ratio = elapsed_ns as f64 / self.line.at_ns(batch_len);
        self.level.push(ratio);
        self.buckets[bucket_of(batch_len).trailing_zeros() as usize].push(ratio);
    }
}

impl Model for StageModel {
    fn predict_ns(&self, batch_len: usize) -> f64 {
        self.predict_ns(batch_len)
    }

    fn observe(&mut self, batch_len: usize, elapsed_ns: u64) {
        self.observe(batch_len, elapsed_ns);
    }
}

/// A device, what is asked of it, and how far the model's errors are from the medians'.
struct Course {
    name: &'static str,
    first_fit: f64,
    /// Usual time of a batch: its length, its number.
    usual_ns: fn(usize, usize) -> f64,
    /// Measured over usual time.
    noise: fn(&mut Draw) -> f64,
    /// Length of the batch of this number.
    batch_len: fn(&mut Draw, usize) -> usize,
    /// Most of the model's mean error over the medians': of the batch that comes next, and of all
    /// lengths.
    ratios_max: [f64; 2],
}

const fn course(
    name: &'static str,
    usual_ns: fn(usize, usize) -> f64,
    noise: fn(&mut Draw) -> f64,
    batch_len: fn(&mut Draw, usize) -> usize,
    ratios_max: [f64; 2],
) -> Course {
    Course { name, first_fit: 1.0, usual_ns, noise, batch_len, ratios_max }
}

fn any(draw: &mut Draw, _: usize) -> usize {
    1 + draw.next() as usize % 64
}

/// Long batches now and then, as a load that comes and goes has them.
fn short(draw: &mut Draw, batch: usize) -> usize {
    if batch % 1_000 < 950 { 1 + draw.next() as usize % 3 } else { 33 + draw.next() as usize % 32 }
}

fn line(batch_len: usize, _: usize) -> f64 {
    TRUTH.at_ns(batch_len)
}

fn stairs(batch_len: usize, _: usize) -> f64 {
    TRUTH.at_ns(batch_len.next_power_of_two())
}

fn drift(batch_len: usize, batch: usize) -> f64 {
    (1.0 + 0.3 * (batch % 2_000) as f64 / 2_000.0) * TRUTH.at_ns(batch_len)
}

fn steps(batch_len: usize, batch: usize) -> f64 {
    if batch % 1_000 < 500 { TRUTH.at_ns(batch_len) } else { 1.6 * TRUTH.at_ns(batch_len) }
}

fn quiet(draw: &mut Draw) -> f64 {
    1.0 + 0.01 * draw.normal()
}

fn jitter(draw: &mut Draw) -> f64 {
    1.0 + 0.05 * draw.normal()
}

fn outliers(draw: &mut Draw) -> f64 {
    if draw.next().is_multiple_of(10) { 10.0 } else { 1.0 + 0.02 * draw.normal() }
}

const COURSES: [Course; 10] = [
    course("line", line, quiet, any, [0.9, 0.9]),
    Course { first_fit: 2.0, ..course("first fit x2", line, quiet, any, [0.9, 0.9]) },
    course("jitter", line, jitter, any, [0.9, 0.9]),
    course("outliers", line, outliers, any, [0.5, 0.7]),
    // Buckets hold lengths on either side of an edge: neither can tell them apart.
    course("stairs", stairs, quiet, any, [1.0, 1.0]),
    course("drift", drift, quiet, any, [0.25, 0.25]),
    course("steps", steps, quiet, any, [0.25, 0.25]),
    // The price: lengths not in use follow the noise of the others a little.
    course("short, jitter", line, jitter, short, [0.9, 2.5]),
    course("short, drift", drift, quiet, short, [0.5, 0.25]),
    course("short, steps", steps, quiet, short, [0.5, 0.1]),
];

/// Mean error of predictions: each of the batch that comes next, and those of all lengths after
/// each hundred batches.
fn errors(course: &Course, model: &mut dyn Model) -> [f64; 2] {
    const BATCHES: usize = 20_000;
    let mut draw = Draw::new(7);
    let [mut next, mut all] = [0.0; 2];
    for batch in 0..BATCHES {
        let batch_len = (course.batch_len)(&mut draw, batch);
        let usual_ns = (course.usual_ns)(batch_len, batch);
        next += (model.predict_ns(batch_len) / usual_ns - 1.0).abs();
        model.observe(batch_len, (usual_ns * (course.noise)(&mut draw)) as u64);
        if batch % 100 == 99 {
            let error = |len| (model.predict_ns(len) / (course.usual_ns)(len, batch) - 1.0).abs();
            all += (1..=64).map(error).sum::<f64>() / 64.0;
        }
    }
    [next / BATCHES as f64, all / (BATCHES / 100) as f64]
}

/// Goal: the model is worth its size. `cargo test --lib medians -- --nocapture` prints the errors.
#[test]
fn medians_are_no_better() {
    for course in &COURSES {
        let factor = course.first_fit;
        let first = Line::new(TRUTH.fixed_ns * factor, TRUTH.per_image_ns * factor);
        let ours = errors(course, &mut StageModel::new(first));
        let medians = errors(course, &mut Medians::new(first));
        for (index, what) in ["next batch", "all lengths"].into_iter().enumerate() {
            let (ours, medians) = (100.0 * ours[index], 100.0 * medians[index]);
            let line = format!("{}, {what}: {ours:.2} %, medians {medians:.2} %", course.name);
            println!("{line}");
            assert!(ours <= course.ratios_max[index] * medians, "{line}");
        }
    }
}
