//! Separable antialiased resampling with the arithmetic of Pillow, of which only a window is
//! computed.
//!
//! Invariant: every value equals the one that Pillow's `Image.resize` gives at that place: weights
//! in f64 rounded to 22 fractional bits, a horizontal pass into u8, then a vertical one. Knows
//! nothing of files and of how sizes are chosen. (Checked against Pillow by
//! `tests/golden_image.rs`.)

use std::ops::Range;

use super::Rgb8;
use crate::model::Interpolation;

/// Fractional bits of a weight: 32, less 8 for the pixel and 2 for sums beyond 1 (bicubic
/// overshoot).
const WEIGHT_BITS: u32 = 32 - 8 - 2;
/// Half a unit, so that the shift rounds.
const ROUND: i32 = 1 << (WEIGHT_BITS - 1);

/// What one axis of the result is made of: its full length and the part of it that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Length of this axis of the whole resized image.
    pub(super) resized_len: usize,
    /// The positions of it to compute.
    pub(super) window: Range<usize>,
}

/// The window of `image` resized to `x.resized_len` by `y.resized_len`: `[y.window, x.window, 3]`.
///
/// Work and memory follow the window and the source, not the resized image: a 1x5000 strip enlarged
/// to 256x1280000 costs no more than its crop.
pub(super) fn resample(image: &Rgb8, x: &Axis, y: &Axis, interpolation: Interpolation) -> Vec<u8> {
    let columns = Taps::new(image.width, x, interpolation);
    let rows = Taps::new(image.height, y, interpolation);
    // Only the rows that the second pass will read go through the first.
    let needed = rows.source_range();
    let row_len = image.width * 3;
    let narrow_len = x.window.len() * 3;
    let mut narrow = vec![0; needed.len() * narrow_len];
    let sources = image.pixels[needed.start * row_len..needed.end * row_len].chunks_exact(row_len);
    for (source, narrow) in sources.zip(narrow.chunks_exact_mut(narrow_len)) {
        resample_row(source, narrow, &columns);
    }
    let mut output = vec![0; y.window.len() * narrow_len];
    let mut sums = vec![0i32; narrow_len];
    for ((first, weights), output) in rows.iter().zip(output.chunks_exact_mut(narrow_len)) {
        sums.fill(ROUND);
        let first = (first - needed.start) * narrow_len;
        for (weight, narrow) in weights.iter().zip(narrow[first..].chunks_exact(narrow_len)) {
            for (sum, &value) in sums.iter_mut().zip(narrow) {
                *sum += weight * i32::from(value);
            }
        }
        for (output, &sum) in output.iter_mut().zip(&sums) {
            *output = quantise(sum);
        }
    }
    output
}

fn resample_row(source: &[u8], output: &mut [u8], columns: &Taps) {
    let (source, _) = source.as_chunks::<3>();
    let (output, _) = output.as_chunks_mut::<3>();
    for ((first, weights), output) in columns.iter().zip(output) {
        let mut sums = [ROUND; 3];
        for (weight, pixel) in weights.iter().zip(&source[first..]) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += weight * i32::from(value);
            }
        }
        *output = sums.map(quantise);
    }
}

fn quantise(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// For each position of a window: the first source position it reads and the weights from there on.
struct Taps {
    firsts: Vec<usize>,
    /// End of each position's weights within `weights`.
    ends: Vec<usize>,
    weights: Vec<i32>,
}

impl Taps {
    fn new(source_len: usize, axis: &Axis, interpolation: Interpolation) -> Self {
        let scale = source_len as f64 / axis.resized_len as f64;
        // Shrinking widens the filter over all the pixels that merge into one: the antialiasing.
        let filter_scale = scale.max(1.0);
        let (filter, radius): (fn(f64) -> f64, f64) = match interpolation {
            Interpolation::Bilinear => (triangle, 1.0),
            Interpolation::Bicubic => (cubic, 2.0),
        };
        let support = radius * filter_scale;
        let mut taps = Self {
            firsts: Vec::with_capacity(axis.window.len()),
            ends: Vec::with_capacity(axis.window.len()),
            weights: Vec::new(),
        };
        let mut exact = Vec::new();
        for position in axis.window.clone() {
            let center = (position as f64 + 0.5) * scale;
            // Casts saturate: below the first source position is the first.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(source_len);
            exact.clear();
            exact.extend(
                (first..end)
                    .map(|source| filter((source as f64 - center + 0.5) * (1.0 / filter_scale))),
            );
            let total: f64 = exact.iter().sum();
            taps.firsts.push(first);
            taps.weights.extend(exact.iter().map(|weight| fixed_point(weight / total)));
            taps.ends.push(taps.weights.len());
        }
        taps
    }

    /// First source position and weights of each position, in order.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut start = 0;
        self.firsts.iter().zip(&self.ends).map(move |(&first, &end)| {
            let weights = &self.weights[start..end];
            start = end;
            (first, weights)
        })
    }

    /// The source positions that are read at all.
    fn source_range(&self) -> Range<usize> {
        // Both ends of the taps move on with the position, so the outermost positions bound all.
        let (mut start, mut end) = (usize::MAX, 0);
        for (first, weights) in self.iter() {
            start = start.min(first);
            end = end.max(first + weights.len());
        }
        start..end
    }
}

/// Nearest multiple of 2^-22, halves away from zero.
fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << WEIGHT_BITS)).round() as i32
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic convolution with a = -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERPOLATIONS: [Interpolation; 2] = [Interpolation::Bilinear, Interpolation::Bicubic];

    fn axis(resized_len: usize, window: Range<usize>) -> Axis {
        Axis { resized_len, window }
    }

    /// A picture without symmetries: each value depends on all three coordinates.
    fn pattern(width: usize, height: usize) -> Rgb8 {
        let pixels =
            (0..width * height * 3).map(|i| (i * i * 31 / 7 + i * 13) as u8).collect::<Vec<_>>();
        Rgb8::new(width, height, pixels).unwrap()
    }

    #[test]
    fn same_size_is_the_identity() {
        let image = pattern(17, 9);
        for interpolation in INTERPOLATIONS {
            let same = resample(&image, &axis(17, 0..17), &axis(9, 0..9), interpolation);
            assert_eq!(same, image.pixels);
        }
    }

    #[test]
    fn a_constant_stays_constant() {
        let image = Rgb8::new(37, 23, vec![201; 37 * 23 * 3]).unwrap();
        for interpolation in INTERPOLATIONS {
            for (width, height) in [(5, 7), (90, 61), (1, 1), (37, 3)] {
                let x = axis(width, 0..width);
                let resized = resample(&image, &x, &axis(height, 0..height), interpolation);
                assert!(resized.iter().all(|&value| value == 201), "{width}x{height}");
            }
        }
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let image = pattern(41, 30);
        for interpolation in INTERPOLATIONS {
            for (width, height) in [(19, 11), (83, 71)] {
                let (left, top, right, bottom) = (3, 4, width - 2, height - 5);
                let x = axis(width, 0..width);
                let whole = resample(&image, &x, &axis(height, 0..height), interpolation);
                let x = axis(width, left..right);
                let part = resample(&image, &x, &axis(height, top..bottom), interpolation);
                let expected: Vec<u8> = (top..bottom)
                    .flat_map(|row| &whole[(row * width + left) * 3..(row * width + right) * 3])
                    .copied()
                    .collect();
                assert_eq!(part, expected, "{width}x{height}");
            }
        }
    }
}
