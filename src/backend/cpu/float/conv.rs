//! A convolution (or matrix product) with bias, residual and ReLU, on packed weights. The residual
//! is added in place: the output holds it beforehand.
//!
//! NHWC makes the taps of one kernel row contiguous, so a run of output pixels and one kernel row
//! form a matrix product right in the input tensor: nothing is gathered or padded. Pixels whose
//! window leaves the image go to regions of their own that skip the taps in the padding.

use std::ops::Range;

use multiversion::multiversion;

use super::kernel::{Kernels, Tile};
use crate::backend::cpu::team::Team;
use crate::model::{Filter, Layer, Op, Shape};

/// Tiles of one task: enough to amortise handing it out, few enough to balance the threads.
const TASK_TILE_LEN: usize = 32;
/// Tasks a thread, where there is work for as many.
const TASKS_A_THREAD: usize = 4;

/// A layer with its packed filter.
pub(super) struct Conv {
    input: Shape,
    output: Shape,
    kernel: usize,
    stride: usize,
    padding: usize,
    residual: bool,
    relu: bool,
    /// By panel of output channels: `[panel][kernel row][kernel column][input channel][row]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    rows: Vec<Span>,
    columns: Vec<Span>,
}

/// Where a convolution reads and writes; images lie one after another.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) input: *const f32,
    /// Holds the residual beforehand, where the layer has one.
    pub(super) output: *mut f32,
}

// SAFETY: the pointers are only followed inside `Conv::run`, whose tasks write disjoint values.
unsafe impl Sync for Operands {}

/// Consecutive output rows (or columns) whose windows overlap the image with the same taps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    outputs: Range<usize>,
    taps: Range<usize>,
}

/// Output pixels with the same taps, as runs along one of three axes: image, row, column.
struct Region<'a> {
    rows: &'a Span,
    columns: &'a Span,
    extents: [usize; 3],
    /// The axis that tiles run along.
    axis: usize,
    tiles_a_line: usize,
    tile_len: usize,
}

impl Conv {
    /// Packs `filter` for `layer`, a convolution or a fully connected layer.
    pub(super) fn new(layer: &Layer, filter: &Filter, kernels: &Kernels) -> Self {
        let (kernel, stride, padding) = layer.window();
        let (input, output) = (layer.input_shape, layer.output_shape);
        let spans = |outputs, inputs| spans(outputs, inputs, kernel, stride, padding);
        Self {
            input,
            output,
            kernel,
            stride,
            padding,
            residual: matches!(layer.op, Op::Conv(conv) if conv.residual.is_some()),
            relu: matches!(layer.op, Op::Conv(conv) if conv.relu),
            weights: pack(&filter.weights, output.channels, kernels.panel_len()),
            bias: filter.bias.clone(),
            rows: spans(output.height, input.height),
            columns: spans(output.width, input.width),
        }
    }

    /// Computes `batch_len` images.
    ///
    /// # Safety
    /// The operands hold `batch_len` images of the layer's shapes, do not overlap, and nothing else
    /// touches them.
    pub(super) unsafe fn run(
        &self,
        team: &mut Team,
        kernels: &Kernels,
        operands: Operands,
        batch_len: usize,
    ) {
        let panel_len = self.output.channels.div_ceil(kernels.panel_len());
        let regions = || {
            self.rows.iter().flat_map(|rows| {
                self.columns
                    .iter()
                    .map(move |columns| self.region(rows, columns, batch_len, kernels.column_max()))
            })
        };
        let tile_len: usize = regions().map(|region| region.tile_len * panel_len).sum();
        let even = tile_len.div_ceil(team.thread_len() * TASKS_A_THREAD);
        let task_tile_len = even.clamp(1, TASK_TILE_LEN);
        let parts = |region: &Region| region.tile_len.div_ceil(task_tile_len);
        let task_len = regions().map(|region| panel_len * parts(&region)).sum();
        team.run(task_len, &|_, mut task| {
            for region in regions() {
                let parts = parts(&region);
                if task < panel_len * parts {
                    let (panel, first) = (task / parts, task % parts * task_tile_len);
                    let tiles = first..region.tile_len.min(first + task_tile_len);
                    // SAFETY: the caller vouches for the operands; each task has its own panel of
                    // channels and tiles of pixels, so no two write the same value.
                    unsafe { compute_tiles(self, kernels, &operands, &region, panel, tiles) };
                    return;
                }
                task -= panel_len * parts;
            }
        });
    }

    fn region<'a>(
        &self,
        rows: &'a Span,
        columns: &'a Span,
        batch_len: usize,
        column_max: usize,
    ) -> Region<'a> {
        let mut extents = [batch_len, rows.outputs.len(), columns.outputs.len()];
        if self.kernel == 1 && self.stride == 1 {
            // Pixels of all rows and images lie at one distance: a single run.
            extents = [1, 1, extents.iter().product()];
        }
        let pixels: usize = extents.iter().product();
        let tile_len = |axis: usize| {
            let extent: usize = extents[axis];
            (extent.div_ceil(column_max), pixels / extent)
        };
        // The axis with the fewest tiles; of equals the one along a row, which lies closest.
        let axis = [2, 1, 0].into_iter().min_by_key(|&axis| tile_len(axis).0 * tile_len(axis).1);
        let axis = axis.unwrap_or(2);
        let (tiles_a_line, lines) = tile_len(axis);
        Region { rows, columns, extents, axis, tiles_a_line, tile_len: tiles_a_line * lines }
    }

    /// Distances between neighbours along the axes image, row, column: in the input (of the windows
    /// of neighbouring output pixels) and in the output.
    fn strides(&self) -> ([usize; 3], [usize; 3]) {
        let (input, output) = (self.input, self.output);
        (
            [
                input.value_len(),
                self.stride * input.width * input.channels,
                self.stride * input.channels,
            ],
            [output.value_len(), output.width * output.channels, output.channels],
        )
    }

    /// Offset of the first tap that the region's pixel `position` reads.
    fn input_offset(&self, region: &Region, position: [usize; 3]) -> usize {
        let row = (position[1] + region.rows.outputs.start) * self.stride + region.rows.taps.start
            - self.padding;
        let column = (position[2] + region.columns.outputs.start) * self.stride
            + region.columns.taps.start
            - self.padding;
        position[0] * self.input.value_len()
            + (row * self.input.width + column) * self.input.channels
    }
}

/// Computes one panel of output channels at some tiles of a region.
///
/// # Safety
/// As for [`Conv::run`]; no other thread computes these tiles of this panel.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
unsafe fn compute_tiles(
    conv: &Conv,
    kernels: &Kernels,
    operands: &Operands,
    region: &Region,
    panel: usize,
    tiles: Range<usize>,
) {
    let channel = panel * kernels.panel_len();
    let channel_len = kernels.panel_len().min(conv.output.channels - channel);
    let bias = &conv.bias[channel..channel + channel_len];
    let depth_row = conv.kernel * conv.input.channels;
    let panel_weights = panel * conv.kernel * depth_row * kernels.panel_len();
    let first_tap = region.columns.taps.start * conv.input.channels;
    let depth = region.columns.taps.len() * conv.input.channels;
    let (input_strides, output_strides) = conv.strides();
    let floor = if conv.relu { 0.0 } else { f32::NEG_INFINITY };
    for tile in tiles {
        let (position, len) = region.locate(tile, kernels.column_max());
        let input = conv.input_offset(region, position);
        let output = position
            .iter()
            .zip([0, region.rows.outputs.start, region.columns.outputs.start])
            .zip(output_strides)
            .map(|((at, start), stride)| (at + start) * stride)
            .sum::<usize>()
            + channel;
        let output_stride = output_strides[region.axis];
        for row in region.rows.taps.clone() {
            let weights = panel_weights + (row * depth_row + first_tap) * kernels.panel_len();
            let tap_row = (row - region.rows.taps.start) * conv.input.width;
            // SAFETY: `tile` lies in the region and `row` among its taps, so weights, input and
            // output are inside what the caller vouches for.
            unsafe {
                kernels.multiply(&Tile {
                    rows: channel_len,
                    columns: len,
                    depth,
                    weights: conv.weights.as_ptr().add(weights),
                    input: operands.input.add(input + tap_row * conv.input.channels),
                    input_stride: input_strides[region.axis],
                    output: operands.output.add(output),
                    output_stride,
                    accumulate: conv.residual || row != region.rows.taps.start,
                });
            }
        }
        for pixel in 0..len {
            // SAFETY: the tile's pixels lie inside the output, and this task alone writes them.
            let values = unsafe {
                let start = operands.output.add(output + pixel * output_stride);
                std::slice::from_raw_parts_mut(start, channel_len)
            };
            for (value, bias) in values.iter_mut().zip(bias) {
                *value = (*value + bias).max(floor);
            }
        }
    }
}

impl Region<'_> {
    /// First pixel (image, row, column within the region) and length of a tile.
    fn locate(&self, tile: usize, column_max: usize) -> ([usize; 3], usize) {
        let (line, part) = (tile / self.tiles_a_line, tile % self.tiles_a_line);
        let (outer, inner) = match self.axis {
            0 => (1, 2),
            1 => (0, 2),
            _ => (0, 1),
        };
        let mut position = [0; 3];
        position[outer] = line / self.extents[inner];
        position[inner] = line % self.extents[inner];
        position[self.axis] = part * column_max;
        (position, column_max.min(self.extents[self.axis] - position[self.axis]))
    }
}

/// Cuts `outputs` rows (or columns) where the taps inside an image of `inputs` change.
fn spans(outputs: usize, inputs: usize, kernel: usize, stride: usize, padding: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for output in 0..outputs {
        let start = padding.saturating_sub(output * stride);
        let end = kernel.min(inputs + padding - output * stride);
        match spans.last_mut() {
            Some(span) if span.taps == (start..end) => span.outputs.end = output + 1,
            _ => spans.push(Span { outputs: output..output + 1, taps: start..end }),
        }
    }
    spans
}

/// `[channel][depth]` to `[panel][depth][channel of the panel]`, the last panel filled with zeros.
pub(super) fn pack(weights: &[f32], channels: usize, panel_len: usize) -> Vec<f32> {
    let depth = weights.len() / channels;
    let mut packed = vec![0.0; channels.next_multiple_of(panel_len) * depth];
    for (channel, filter) in weights.chunks_exact(depth).enumerate() {
        let panel = &mut packed[channel / panel_len * panel_len * depth..];
        for (k, &value) in filter.iter().enumerate() {
            panel[k * panel_len + channel % panel_len] = value;
        }
    }
    packed
}
