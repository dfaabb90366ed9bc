//! A step as kernels are tried on it: where it reads and writes in the arena, and how far from the
//! safe kernel's its values may be.
//!
//! Knows sizes, no device.

use std::ops::Range;

use super::workbench::Tolerance;
use crate::backend::cuda::executor::{Executor, Loaded};
use crate::backend::cuda::kernels::family::Choice;
use crate::backend::cuda::plan::Plan;
use crate::lower::{DType, Step, Work};

/// What a step reads when a kernel is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Small integers, of which any sum is exact; 8-bit integers of any value.
    Exact,
    /// What the layers before make of noise.
    Real,
}

/// See the module.
pub(super) struct Subject<'a> {
    pub(super) index: usize,
    pub(super) step: Step,
    pub(super) batch_len: usize,
    /// Bytes of the arena that the length takes, and those of one image more as a guard.
    pub(super) arena: Range<usize>,
    /// The step's output, of all images, and the bytes of one.
    pub(super) output: Range<usize>,
    pub(super) image_bytes: usize,
    /// Whether the output holds the residual first.
    pub(super) is_in_place: bool,
    /// What else it reads, with the bytes of an image.
    inputs: Vec<(Range<usize>, usize)>,
    /// None: bit for bit.
    pub(super) tolerance: Option<Tolerance>,
    /// What computes it safely, and all steps.
    pub(super) safe_choice: Choice,
    pub(super) safe: &'a [Loaded],
}

impl<'a> Subject<'a> {
    pub(super) fn new(
        executor: &Executor,
        (index, plan): (usize, &Plan),
        safe: &'a [Loaded],
    ) -> Self {
        let (steps, batch_len) = (executor.steps(), plan.batch_len);
        let step = steps.list[index].clone();
        let place = |step: usize| {
            let ((_, offset_bytes), image_bytes) = executor.first_output(step, batch_len);
            (offset_bytes..offset_bytes + batch_len * image_bytes, image_bytes)
        };
        let (output, image_bytes) = place(index);
        let (mut inputs, mut is_in_place) = (Vec::new(), false);
        match &step.work {
            Work::Conv(conv) => {
                inputs.push(place(conv.input));
                inputs.extend(conv.shortcut.map(|shortcut| place(shortcut.input)));
                is_in_place = conv.residual.is_some();
            }
            Work::AveragePool { input, .. } => inputs.push(place(*input)),
            Work::Stem { .. } => {}
            Work::FullyConnected { .. } => unreachable!("no kernel of its needs a proof"),
        }
        Self {
            index,
            batch_len,
            arena: 0..(batch_len + 1) * steps.arena_bytes(),
            output,
            image_bytes,
            is_in_place,
            inputs,
            tolerance: tolerance(&step),
            safe_choice: plan.choices[index],
            safe,
            step,
        }
    }

    /// Where images beyond the batch's would be read.
    pub(super) fn beyond(&self, image_len: usize) -> impl Iterator<Item = Range<usize>> {
        let inputs = self.inputs.iter();
        let beyond = inputs.map(move |(range, bytes)| range.start + image_len * bytes..range.end);
        beyond.filter(|range| !range.is_empty())
    }

    /// The arena but for the output, and for images beyond the batch.
    pub(super) fn rest(&self, image_len: usize) -> Vec<Range<usize>> {
        let mut spared = vec![self.output.clone()];
        spared.extend(self.beyond(image_len));
        spared.sort_by_key(|range| range.start);
        spared.push(self.arena.end..self.arena.end);
        let mut rest = Vec::new();
        let mut start = self.arena.start;
        for range in spared {
            if start < range.start {
                rest.push(start..range.start);
            }
            start = start.max(range.end);
        }
        rest
    }
}

/// What sums in f16 may differ by: in each of two kernels, roundings of products and partial sums,
/// as the kernels' own tests allow them (`cuda/tests/check.hpp`), and besides what a tensor core
/// that truncates takes off a sum at every 16th of its terms; and the rounding to f16.
fn tolerance(step: &Step) -> Option<Tolerance> {
    let term_len = match &step.work {
        _ if step.dtype != DType::F16 => return None,
        Work::Conv(conv) => conv.sum_len() + 2,
        // 7x7 of three colours, and a bias; the pool only chooses.
        Work::Stem { .. } => 7 * 7 * 3 + 1,
        _ => return None,
    } as f32;
    let rounded = 4.0 * term_len.sqrt() * 2f32.powi(-24);
    let truncated = term_len / 16.0 * 2f32.powi(-23);
    // Magnitudes are rounded to f16 themselves.
    let sum_error = 2.0 * (rounded + truncated) * (1.0 + 2f32.powi(-10));
    Some(Tolerance { sum_error, value_error: 2f32.powi(-10), least_error: 2f32.powi(-24) })
}
