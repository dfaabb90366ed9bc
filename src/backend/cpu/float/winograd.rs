//! 3x3 convolutions at stride 1 by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications
//! where the direct form has 36, at the accuracy of the direct form.
//!
//! A 4x4 patch of the input becomes 16 values a channel, 16 matrix products run over the channels,
//! and 16 sums become 2x2 output pixels (A. Lavin, S. Gray, "Fast Algorithms for Convolutional
//! Neural Networks", 2016). Larger patches multiply less but round more than an oracle should.

use std::ops::Range;

use multiversion::multiversion;

use super::conv::{Operands, pack};
use super::kernel::{Kernels, Tile};
use crate::backend::cpu::team::Team;
use crate::model::{Filter, Layer, Op, Shape};

/// Side of an input patch, and of its transform.
const PATCH: usize = 4;
/// Values of a transformed patch, a channel.
const POINTS: usize = PATCH * PATCH;
/// Side of the output pixels that one patch yields.
const STEP: usize = 2;
/// Channels that are transformed at once; ResNet's convolutions have multiples of 64.
const LANES: usize = 8;
/// Patches of one task: their products stay in the second-level cache.
const TASK_PATCH_LEN: usize = 48;
/// Fewer multiplications pay for the transforms only from this ratio on.
const GAIN_MIN: f64 = 1.3;

/// A 3x3 convolution with its filter transformed and packed.
pub(super) struct Winograd {
    shape: Shape,
    channels: usize,
    relu: bool,
    /// `[panel][point][input channel][row]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// A pixel of the padding.
    zeros: Vec<f32>,
}

/// Buffers that all convolutions of a backend share.
pub(super) struct Scratch {
    /// Transformed input, `[point][patch][channel]`.
    patches: Vec<f32>,
    /// For each thread the products of one task, `[point][patch][row]`.
    products: Vec<f32>,
    products_a_thread: usize,
}

/// A scratch buffer that tasks write parts of.
#[derive(Clone, Copy)]
struct Part(*mut f32);

// SAFETY: only followed inside `Winograd::run`, whose tasks write disjoint values.
unsafe impl Sync for Part {}

/// A value for each of `LANES` channels.
type Vector = [f32; LANES];

impl Winograd {
    /// Whether this form computes `layer`, and with fewer multiplications by enough.
    pub(super) fn suits(layer: &Layer, kernels: &Kernels) -> bool {
        let Op::Conv(conv) = layer.op else { return false };
        let Shape { height, width, channels } = layer.input_shape;
        // The direct form skips the taps in the padding: two in each direction.
        let direct = (3 * height - 2) * (3 * width - 2);
        let ours = height.div_ceil(STEP) * width.div_ceil(STEP) * POINTS;
        (conv.kernel, conv.stride, conv.padding, conv.residual) == (3, 1, 1, None)
            && [channels, layer.output_shape.channels, kernels.panel_len()]
                .iter()
                .all(|len| len % LANES == 0)
            && direct as f64 >= GAIN_MIN * ours as f64
    }

    /// Transforms and packs `filter` for `layer`, which must suit.
    pub(super) fn new(layer: &Layer, filter: &Filter, kernels: &Kernels) -> Self {
        let (inputs, outputs) = (layer.input_shape.channels, layer.output_shape.channels);
        let panel_len = kernels.panel_len();
        let mut weights = vec![0.0; outputs.next_multiple_of(panel_len) * POINTS * inputs];
        let panels = weights.chunks_exact_mut(panel_len * POINTS * inputs);
        for (panel, filters) in panels.zip(filter.weights.chunks(panel_len * 9 * inputs)) {
            let transformed: Vec<f32> =
                filters.chunks_exact(9 * inputs).flat_map(transform_filter).collect();
            panel.copy_from_slice(&pack(&transformed, filters.len() / (9 * inputs), panel_len));
        }
        Self {
            shape: layer.input_shape,
            channels: outputs,
            relu: matches!(layer.op, Op::Conv(conv) if conv.relu),
            weights,
            bias: filter.bias.clone(),
            zeros: vec![0.0; inputs],
        }
    }

    /// Values of transformed input that a batch needs.
    pub(super) fn patches_len(&self, batch_len: usize) -> usize {
        batch_len * self.patches_an_image() * POINTS * self.shape.channels
    }

    /// Computes `batch_len` images.
    ///
    /// # Safety
    /// As for [`super::conv::Conv::run`].
    pub(super) unsafe fn run(
        &self,
        team: &mut Team,
        kernels: &Kernels,
        scratch: &mut Scratch,
        operands: Operands,
        batch_len: usize,
    ) {
        assert!(self.patches_len(batch_len) <= scratch.patches.len());
        let patch_rows = self.shape.height.div_ceil(STEP);
        let patches = Part(scratch.patches.as_mut_ptr());
        let operands = &operands;
        let patches = &patches;
        team.run(batch_len * patch_rows, &|_, row| {
            // SAFETY: the caller vouches for the input; each task writes a row of patches.
            unsafe { transform_row(self, operands, patches, row, batch_len) };
        });

        let products = &Part(scratch.products.as_mut_ptr());
        let products_a_thread = scratch.products_a_thread;
        let patch_len = batch_len * self.patches_an_image();
        let panel_len = self.channels.div_ceil(kernels.panel_len());
        let parts = patch_len.div_ceil(TASK_PATCH_LEN);
        team.run(panel_len * parts, &|thread, task| {
            let (panel, first) = (task / parts, task % parts * TASK_PATCH_LEN);
            let range = first..patch_len.min(first + TASK_PATCH_LEN);
            // SAFETY: each thread has products of its own; each task writes a panel of channels and
            // the pixels of its patches, which no other task does.
            unsafe {
                let products = products.0.add(thread * products_a_thread);
                self.multiply(kernels, patches.0, products, panel, range.clone(), patch_len);
                finish(self, kernels, operands, products, panel, range);
            }
        });
    }

    fn patches_an_image(&self) -> usize {
        self.shape.height.div_ceil(STEP) * self.shape.width.div_ceil(STEP)
    }

    /// The 16 matrix products of one panel of output channels at some patches.
    unsafe fn multiply(
        &self,
        kernels: &Kernels,
        patches: *const f32,
        products: *mut f32,
        panel: usize,
        range: Range<usize>,
        patch_len: usize,
    ) {
        let (inputs, rows) = (self.shape.channels, kernels.panel_len());
        for point in 0..POINTS {
            for first in (0..range.len()).step_by(kernels.column_max()) {
                // SAFETY: weights, patches and products hold every point; the columns lie in the
                // range, of which the products have room for `TASK_PATCH_LEN`.
                unsafe {
                    kernels.multiply(&Tile {
                        rows,
                        columns: kernels.column_max().min(range.len() - first),
                        depth: inputs,
                        weights: self
                            .weights
                            .as_ptr()
                            .add((panel * POINTS + point) * inputs * rows),
                        input: patches.add((point * patch_len + range.start + first) * inputs),
                        input_stride: inputs,
                        output: products.add((point * TASK_PATCH_LEN + first) * rows),
                        output_stride: rows,
                        accumulate: false,
                    });
                }
            }
        }
    }
}

impl Scratch {
    /// Room for transformed inputs of `patches_len` values and for the products of `threads`.
    pub(super) fn new(patches_len: usize, threads: usize, kernels: &Kernels) -> Self {
        let products_a_thread = POINTS * TASK_PATCH_LEN * kernels.panel_len();
        Self {
            patches: vec![0.0; patches_len],
            products: vec![0.0; products_a_thread * threads],
            products_a_thread,
        }
    }
}

/// Transforms one row of patches, `row` counted over all images.
///
/// # Safety
/// As for [`Winograd::run`]; no other thread transforms this row.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
unsafe fn transform_row(
    conv: &Winograd,
    operands: &Operands,
    to: &Part,
    row: usize,
    batch_len: usize,
) {
    let Shape { height, width, channels } = conv.shape;
    let (patch_rows, patch_columns) = (height.div_ceil(STEP), width.div_ceil(STEP));
    let image = operands.input.wrapping_add(row / patch_rows * conv.shape.value_len());
    let top = row % patch_rows * STEP;
    let point_stride = batch_len * conv.patches_an_image() * channels;
    for column in 0..patch_columns {
        let left = column * STEP;
        // The patch starts one pixel up and left, in the padding of zeros.
        let pixels: [*const f32; POINTS] = std::array::from_fn(|point| {
            let y = (top + point / PATCH).wrapping_sub(1);
            let x = (left + point % PATCH).wrapping_sub(1);
            if y < height && x < width {
                image.wrapping_add((y * width + x) * channels)
            } else {
                conv.zeros.as_ptr()
            }
        });
        let patch = to.0.wrapping_add((row * patch_columns + column) * channels);
        for channel in (0..channels).step_by(LANES) {
            // SAFETY: each pointer is to a pixel of the image that the caller vouches for, or to
            // as many zeros; the patches hold every point, patch and channel of the batch.
            unsafe {
                let mut values = [[0.0; LANES]; POINTS];
                for (value, pixel) in values.iter_mut().zip(pixels) {
                    *value = *pixel.add(channel).cast::<Vector>();
                }
                let mut transformed = [[0.0; LANES]; POINTS];
                transform_input(&values, &mut transformed);
                for (point, value) in transformed.iter().enumerate() {
                    *patch.add(point * point_stride + channel).cast::<Vector>() = *value;
                }
            }
        }
    }
}

/// Turns products into output pixels, with bias and ReLU.
///
/// # Safety
/// As for [`Winograd::run`]; no other thread finishes these patches of this panel.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
unsafe fn finish(
    conv: &Winograd,
    kernels: &Kernels,
    operands: &Operands,
    products: *const f32,
    panel: usize,
    range: Range<usize>,
) {
    let Shape { height, width, .. } = conv.shape;
    let (rows, patch_columns) = (kernels.panel_len(), width.div_ceil(STEP));
    let first_channel = panel * rows;
    let floor = if conv.relu { 0.0 } else { f32::NEG_INFINITY };
    for (index, patch) in range.enumerate() {
        let image = patch / conv.patches_an_image();
        let patch = patch % conv.patches_an_image();
        let (top, left) = (patch / patch_columns * STEP, patch % patch_columns * STEP);
        for row in (0..rows.min(conv.channels - first_channel)).step_by(LANES) {
            let mut sums = [[0.0; LANES]; POINTS];
            for (point, sum) in sums.iter_mut().enumerate() {
                let at = (point * TASK_PATCH_LEN + index) * rows + row;
                // SAFETY: the products hold every point and patch of the task.
                *sum = unsafe { *products.add(at).cast::<Vector>() };
            }
            let channel = first_channel + row;
            // SAFETY: channels come in multiples of `LANES`, and each has a bias.
            let bias = unsafe { &*conv.bias.as_ptr().add(channel).cast::<Vector>() };
            let pixels = transform_output(&sums, bias, floor);
            for (pixel, value) in pixels.iter().enumerate() {
                let (y, x) = (top + pixel / STEP, left + pixel % STEP);
                if y < height && x < width {
                    let at = ((image * height + y) * width + x) * conv.channels + channel;
                    // SAFETY: the pixel lies in the output, and only this task writes it.
                    unsafe { *operands.output.add(at).cast::<Vector>() = *value };
                }
            }
        }
    }
}

/// `Bᵀ d B` for each channel. Plain indices, a channel at a time: the compiler turns that into
/// vector registers, which it does not with arrays of vectors passed around.
#[inline(always)]
fn transform_input(d: &[Vector; POINTS], output: &mut [Vector; POINTS]) {
    for i in 0..LANES {
        let mut rows = [0.0; POINTS];
        for y in (0..POINTS).step_by(PATCH) {
            rows[y] = d[y][i] - d[y + 2][i];
            rows[y + 1] = d[y + 1][i] + d[y + 2][i];
            rows[y + 2] = d[y + 2][i] - d[y + 1][i];
            rows[y + 3] = d[y + 1][i] - d[y + 3][i];
        }
        for x in 0..PATCH {
            let column = [rows[x], rows[PATCH + x], rows[2 * PATCH + x], rows[3 * PATCH + x]];
            output[x][i] = column[0] - column[2];
            output[PATCH + x][i] = column[1] + column[2];
            output[2 * PATCH + x][i] = column[2] - column[1];
            output[3 * PATCH + x][i] = column[1] - column[3];
        }
    }
}

/// `max(Aᵀ m A + bias, floor)` for each channel: 2x2 pixels.
#[inline(always)]
fn transform_output(m: &[Vector; POINTS], bias: &Vector, floor: f32) -> [Vector; STEP * STEP] {
    let mut pixels = [[0.0; LANES]; STEP * STEP];
    for i in 0..LANES {
        let mut rows = [0.0; PATCH * STEP];
        for y in 0..PATCH {
            let line = [m[4 * y][i], m[4 * y + 1][i], m[4 * y + 2][i], m[4 * y + 3][i]];
            rows[2 * y] = line[0] + line[1] + line[2];
            rows[2 * y + 1] = line[1] - line[2] - line[3];
        }
        for x in 0..STEP {
            pixels[x][i] = (rows[x] + rows[2 + x] + rows[4 + x] + bias[i]).max(floor);
            pixels[2 + x][i] = (rows[2 + x] - rows[4 + x] - rows[6 + x] + bias[i]).max(floor);
        }
    }
    pixels
}

/// `G g Gᵀ` of one output channel: `[tap][input]` to `[point][input]`.
fn transform_filter(filter: &[f32]) -> Vec<f32> {
    let inputs = filter.len() / 9;
    let line = |g: [f64; 3]| {
        let (even, odd) = (0.5 * (g[0] + g[2]), 0.5 * g[1]);
        [g[0], even + odd, even - odd, g[2]]
    };
    let mut transformed = vec![0.0; POINTS * inputs];
    for input in 0..inputs {
        let tap =
            |row: usize, column: usize| f64::from(filter[(row * 3 + column) * inputs + input]);
        let rows: [[f64; 3]; 3] = std::array::from_fn(|y| std::array::from_fn(|x| tap(y, x)));
        let columns = transpose(rows.map(line)).map(line);
        for (point, value) in transpose(columns).into_iter().flatten().enumerate() {
            transformed[point * inputs + input] = value as f32;
        }
    }
    transformed
}

#[inline(always)]
fn transpose<T: Copy, const R: usize, const C: usize>(matrix: [[T; C]; R]) -> [[T; R]; C] {
    std::array::from_fn(|column| std::array::from_fn(|row| matrix[row][column]))
}
