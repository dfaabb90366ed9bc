//! What the network's answers lose when activations are rounded to u8, on some of the images.
//!
//! Invariant: images are kept evenly over all that were seen, whatever their number. Computed is in
//! f32, with each step's output rounded in place to what its u8 would stand for.

use super::report::Report;
use super::weights::round_small;
use crate::backend::cpu::{Cpu, CpuOptions};
use crate::error::Result;
use crate::lower::DType;
use crate::model::{Model, top_k};

/// Largest u8.
const LEVEL_MAX: f32 = 255.0;

/// Images that are kept, at least, of many.
pub(super) const KEPT_LEN: usize = 32;
/// One image of so many is for trials: ranges do not follow from it, or no margin beyond what was
/// seen would ever be found worth its price.
const TRIAL_STRIDE: usize = 4;

/// Images for trials and their logits.
pub(super) struct Kept {
    pub(super) images: Vec<u8>,
    pub(super) logits: Vec<f32>,
    /// Images from one that is kept to the next.
    stride: usize,
    seen_len: usize,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self { images: Vec::new(), logits: Vec::new(), stride: TRIAL_STRIDE, seen_len: 0 }
    }

    /// Images that came.
    pub(super) fn seen_len(&self) -> usize {
        self.seen_len
    }

    /// Whether the image `ahead` of the next is one from which ranges follow. The first is for
    /// both, since it may be the only one.
    pub(super) fn is_for_ranges(&self, ahead: usize) -> bool {
        let index = self.seen_len + ahead;
        index == 0 || !index.is_multiple_of(TRIAL_STRIDE)
    }

    pub(super) fn add(&mut self, image: &[u8], logits: &[f32]) {
        if self.seen_len.is_multiple_of(self.stride) {
            self.images.extend_from_slice(image);
            self.logits.extend_from_slice(logits);
        }
        self.seen_len += 1;
        if self.images.len() >= 2 * KEPT_LEN * image.len() {
            thin(&mut self.images, image.len());
            thin(&mut self.logits, logits.len());
            self.stride *= 2;
        }
    }
}

impl Kept {
    /// How the kept images' logits by `model`, in 8-bit integers, compare with those in f32; of no
    /// layers.
    pub(super) fn compare(&self, model: &Model, options: &CpuOptions) -> Result<Report> {
        let class_count = model.class_count();
        let mut cpu = Cpu::new(model, &options.precision(DType::I8))?;
        let mut found = vec![0.0; self.logits.len()];
        cpu.infer(&self.images, &mut found)?;
        let best = |logits: &[f32]| top_k(logits, 1)[0].index;
        let pairs = found.chunks_exact(class_count).zip(self.logits.chunks_exact(class_count));
        let kept_len = pairs.len();
        let same_len = pairs.filter(|(found, expected)| best(found) == best(expected)).count();
        let sum: f64 = self.logits.iter().copied().map(f64::from).sum();
        let mean = (sum / self.logits.len() as f64) as f32;
        Ok(Report {
            layers: Vec::new(),
            image_len: self.seen_len,
            kept_len,
            loss: squared_error(&found, &self.logits),
            variance: squared_error(&vec![mean; found.len()], &self.logits),
            agreement: same_len as f64 / kept_len as f64,
        })
    }
}

/// Leaves every second part.
fn thin<T: Copy>(values: &mut Vec<T>, part_len: usize) {
    *values = values.chunks_exact(part_len).step_by(2).flatten().copied().collect();
}

/// The kept images, computed again and again.
pub(super) struct Trials {
    cpu: Cpu,
    kept: Kept,
    /// Images and logits of every fourth of them.
    few: (Vec<u8>, Vec<f32>),
    /// By step but the last, of each channel.
    factors: Vec<Vec<f32>>,
}

impl Trials {
    /// `cpu` computes in f32; the outputs' channels are divided by `factors` before they are
    /// rounded.
    pub(super) fn new(cpu: Cpu, kept: Kept, factors: Vec<Vec<f32>>) -> Self {
        let (mut images, mut logits) = (kept.images.clone(), kept.logits.clone());
        for _ in 0..2 {
            thin(&mut images, cpu.image_bytes());
            thin(&mut logits, cpu.network().class_count());
        }
        Self { cpu, kept, few: (images, logits), factors }
    }

    /// Calls `see` with each step but the last, and its output's values as they would be rounded.
    pub(super) fn observe(&mut self, see: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let (factors, mut scaled) = (&self.factors, Vec::new());
        let mut logits = vec![0.0; self.kept.logits.len()];
        self.cpu.infer_observed(&self.kept.images, &mut logits, &mut |step, values| {
            let factors = factors[step].iter().cycle();
            scaled.clear();
            scaled.extend(values.iter().zip(factors).map(|(value, factor)| value / factor));
            see(step, &scaled);
        })
    }

    /// The logits' mean squared error when the outputs of steps that have a scale are rounded.
    pub(super) fn loss(&mut self, scales: &[Option<f32>]) -> Result<f64> {
        let Self { cpu, kept, factors, .. } = self;
        loss(cpu, (&kept.images, &kept.logits), factors, scales)
    }

    /// The same of few images, for a fourth of the time.
    pub(super) fn rough_loss(&mut self, scales: &[Option<f32>]) -> Result<f64> {
        let Self { cpu, few, factors, .. } = self;
        loss(cpu, (&few.0, &few.1), factors, scales)
    }

    pub(super) fn into_kept(self) -> Kept {
        self.kept
    }
}

fn loss(
    cpu: &mut Cpu,
    (images, logits): (&[u8], &[f32]),
    factors: &[Vec<f32>],
    scales: &[Option<f32>],
) -> Result<f64> {
    let (mut found, mut units) = (vec![0.0; logits.len()], Vec::new());
    cpu.infer_observed(images, &mut found, &mut |step, values| {
        let Some(scale) = scales[step] else { return };
        units.clear();
        units.extend(factors[step].iter().map(|factor| factor * scale));
        for pixel in values.chunks_exact_mut(units.len()) {
            for (value, unit) in pixel.iter_mut().zip(&units) {
                *value = round_small((*value / unit).clamp(0.0, LEVEL_MAX)) * unit;
            }
        }
    })?;
    Ok(squared_error(&found, logits))
}

/// Mean of the squared differences.
pub(super) fn squared_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    found.iter().zip(expected).map(square).sum::<f64>() / found.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_kept_evenly() {
        // With the last image twice as many are kept as must be, at strides of 4 and 8.
        let [two, four] = [4, 8].map(|stride| (2 * KEPT_LEN - 1) * stride + 1);
        let cases = [(1, 4), (two - 1, 4), (two, 8), (four - 1, 8), (four, 16)];
        for (seen_len, stride) in cases {
            let mut kept = Kept::new();
            (0..seen_len).for_each(|at: usize| kept.add(&[at as u8, 7], &[at as f32]));
            let expected: Vec<f32> = (0..seen_len).step_by(stride).map(|at| at as f32).collect();
            assert_eq!(kept.logits, expected, "{seen_len}");
            assert_eq!(kept.images.len(), 2 * expected.len());
            assert_eq!(kept.seen_len(), seen_len);
        }
    }
}
