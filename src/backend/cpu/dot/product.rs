//! A convolution or matrix product on packed weights, with bias, residual or projection and ReLU.
//!
//! NHWC makes the taps of a kernel row contiguous, so tiles multiply right out of the input:
//! nothing is gathered or padded. A residual is added in place: the output holds it beforehand.
//! Knows no layer but by its shapes, and computes whatever regions it is given.

use std::ops::Range;

use super::bytes::Bytes;
use super::filter::{Filter, Packed};
use super::isa::Isa;
use super::region::{Layout, Region, Window};
use super::tile::{
    Kernel, LINE_BYTES, PANEL_LEN, PIXEL_MAX, RUN_MAX, Run, STEP_BYTES, Scales, Tile,
};
use crate::backend::cpu::team::Team;
use crate::lower::DType;
use crate::model::Shape;

/// Clocks of a task at least: enough to amortise handing it out.
const TASK_CLOCKS_MIN: usize = 1 << 13;
/// Tasks a thread at most: few enough to keep what they share in the cache.
const TASKS_A_THREAD: usize = 4;
/// Weights beyond this many bytes are fetched ahead of their use, unless few tiles would hide it.
const PREFETCH_BYTES_MIN: usize = 256 << 10;
const PREFETCH_TILES_MIN: usize = 8;

/// What is read: its shape, and the distances in it.
#[derive(Clone, Copy)]
pub(super) struct Input {
    pub(super) shape: Shape,
    pub(super) window: Window,
    pixel_bytes: usize,
}

impl Input {
    pub(super) fn new(shape: Shape, window: Window, dtype: DType) -> Self {
        Self { shape, window, pixel_bytes: shape.channels * dtype.size_bytes() }
    }

    fn row_bytes(&self) -> usize {
        self.shape.width * self.pixel_bytes
    }

    fn image_bytes(&self) -> usize {
        self.shape.height * self.row_bytes()
    }

    /// Distances between the windows of neighbouring output pixels.
    fn strides(&self) -> [usize; 3] {
        let stride = self.window.stride;
        [self.image_bytes(), stride * self.row_bytes(), stride * self.pixel_bytes]
    }

    /// Whether output pixels of all rows and images lie at one distance.
    fn is_linear(&self) -> bool {
        let Window { kernel, stride, padding } = self.window;
        (kernel, stride, padding) == (1, 1, 0)
    }
}

/// A projection.
struct Shortcut {
    input: Input,
    weights: Packed,
    multiplier: Vec<f32>,
}

/// A layer with its packed filter.
pub(super) struct Product {
    kernels: [Kernel; PIXEL_MAX],
    input: Input,
    output: Shape,
    /// Bytes of an output value.
    value_bytes: usize,
    is_logits: bool,
    weights: Packed,
    multiplier: Vec<f32>,
    /// One for all regions, or one a region.
    biases: Vec<Vec<f32>>,
    residual: Option<f32>,
    shortcut: Option<Shortcut>,
    layouts: Vec<Layout>,
    /// The fastest layout, by images less one.
    choices: Vec<u8>,
    /// What taps in the padding read.
    zeros: Bytes,
}

/// Where a product reads and writes; images lie one after another.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) input: *const u8,
    /// What the projection reads; unused where there is none.
    pub(super) shortcut: *const u8,
    /// Holds the residual beforehand, where the layer has one.
    pub(super) output: *mut u8,
}

// SAFETY: the pointers are only followed inside `Product::run` and the pools, whose tasks write
// disjoint values.
unsafe impl Sync for Operands {}

/// A share of a product.
struct Task<'a> {
    operands: &'a Operands,
    layout: &'a Layout,
    batch_len: usize,
    panels: Range<usize>,
    tiles: Range<usize>,
}

impl Product {
    /// Packs `filter` for batches of up to `batch_len_max` images.
    pub(super) fn new(
        (isa, dtype): (Isa, DType),
        filter: &Filter,
        input: Input,
        output: Shape,
        batch_len_max: usize,
    ) -> Self {
        let layouts = Layout::all(input.window, input.shape, output);
        let choice = |batch_len: usize| {
            let cost = |&layout: &usize| layouts[layout].cost(batch_len);
            (0..layouts.len()).min_by_key(cost).unwrap_or(0) as u8
        };
        Self {
            kernels: isa.kernels(dtype),
            input,
            output,
            value_bytes: dtype.size_bytes(),
            is_logits: false,
            weights: filter.pack(input.window.kernel),
            multiplier: filter.in_order(filter.multiplier().unwrap_or(&[])),
            biases: vec![filter.in_order(filter.bias())],
            residual: None,
            shortcut: None,
            choices: (1..=batch_len_max).map(choice).collect(),
            layouts,
            zeros: Bytes::new(input.pixel_bytes),
        }
    }

    /// Writes f32 as they are.
    pub(super) fn logits(mut self) -> Self {
        self.is_logits = true;
        self.value_bytes = size_of::<f32>();
        self
    }

    /// Adds `multiplier` times what the output holds.
    pub(super) fn residual(mut self, multiplier: f32) -> Self {
        self.residual = Some(multiplier);
        self
    }

    /// Adds a projection of what lies at [`Operands::shortcut`]. 8-bit integers have both biases in
    /// one already.
    pub(super) fn shortcut(mut self, filter: &Filter, input: Input) -> Self {
        let bias = filter.in_order(filter.bias());
        self.biases[0].iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        self.shortcut = Some(Shortcut {
            input,
            weights: filter.pack(1),
            multiplier: filter.in_order(filter.multiplier().unwrap_or(&[])),
        });
        self
    }

    /// Computes all taps in the regions of `layout`, each with a bias of its own.
    pub(super) fn in_regions(mut self, layout: Layout, biases: Vec<Vec<f32>>) -> Self {
        self.layouts = vec![layout];
        self.choices.fill(0);
        self.biases = biases;
        self
    }

    /// Computes `batch_len` images.
    ///
    /// # Safety
    /// The operands hold `batch_len` images of the layer's shapes, do not overlap, and nothing else
    /// touches them; of a pixel's taps, whole steps may be read.
    pub(super) unsafe fn run(&self, team: &mut Team, operands: Operands, batch_len: usize) {
        let layout = &self.layouts[usize::from(self.choices[batch_len - 1])];
        let (panel_len, tile_len) = (self.weights.panel_len, layout.tile_len(batch_len));
        let (panel_parts, tile_parts) = self.parts(layout, batch_len, team.thread_len());
        let share =
            |len: usize, parts: usize, part: usize| len * part / parts..len * (part + 1) / parts;
        let operands = &operands;
        team.run(panel_parts * tile_parts, &|_, task| {
            let panels = share(panel_len, panel_parts, task / tile_parts);
            let tiles = share(tile_len, tile_parts, task % tile_parts);
            // SAFETY: the caller vouches for the operands; each task has its own panels of channels
            // or tiles of pixels, so no two write the same value.
            unsafe { self.compute(&Task { operands, layout, batch_len, panels, tiles }) };
        });
    }

    /// In how many parts panels and tiles are cut, so that tasks share as much of the larger of
    /// weights and input as they can.
    fn parts(&self, layout: &Layout, batch_len: usize, thread_len: usize) -> (usize, usize) {
        if thread_len == 1 {
            return (1, 1);
        }
        let (panel_len, tile_len) = (self.weights.panel_len, layout.tile_len(batch_len));
        let steps = panel_len * self.input.pixel_bytes / STEP_BYTES;
        let mut clocks = layout.cost(batch_len) * steps;
        let mut weight_bytes = self.weights.len_bytes();
        let mut input_bytes = self.input.image_bytes() * batch_len;
        if let Some(Shortcut { input, weights, .. }) = &self.shortcut {
            clocks += tile_len * PIXEL_MAX * 2 * panel_len * input.pixel_bytes / STEP_BYTES;
            weight_bytes += weights.len_bytes();
            input_bytes += input.image_bytes() * batch_len;
        }
        let tasks = (clocks / TASK_CLOCKS_MIN).min(thread_len * TASKS_A_THREAD);
        let tasks = tasks.next_multiple_of(thread_len);
        if tasks == 0 {
            return (1, 1);
        }
        match weight_bytes > input_bytes {
            true => {
                let panel_parts = tasks.min(panel_len);
                (panel_parts, tasks.div_ceil(panel_parts).min(tile_len))
            }
            false => {
                let tile_parts = tasks.min(tile_len);
                (tasks.div_ceil(tile_parts).min(panel_len), tile_parts)
            }
        }
    }

    /// Computes a task.
    ///
    /// # Safety
    /// As for [`Product::run`]; no other thread computes these tiles of these panels.
    unsafe fn compute(&self, task: &Task) {
        let mut tile = self.tile();
        for panel in task.panels.clone() {
            let scale = panel * PANEL_LEN;
            tile.scales.multiplier = self.multiplier.as_ptr().wrapping_add(scale);
            if let Some(shortcut) = &self.shortcut {
                tile.shortcut.weights = shortcut.weights.panel(panel, 0);
                tile.shortcut_multiplier = shortcut.multiplier.as_ptr().wrapping_add(scale);
            }
            tile.logit_len = self.is_logits.then(|| self.output.channels - scale);
            let is_fetched = self.weights.len_bytes() > PREFETCH_BYTES_MIN
                && task.tiles.len() >= PREFETCH_TILES_MIN
                && panel + 1 < task.panels.end;
            let next = panel + usize::from(is_fetched);
            tile.prefetch = self.weights.panel(next, 0);
            tile.prefetch_bytes = if is_fetched { LINE_BYTES } else { 0 };
            let prefetch_end = self.weights.panel(next + 1, 0);
            let mut first = 0;
            for (index, region) in task.layout.regions.iter().enumerate() {
                let tiles = region.tiles(task.batch_len);
                let start = task.tiles.start.clamp(first, first + tiles.len) - first;
                let end = task.tiles.end.clamp(first, first + tiles.len) - first;
                first += tiles.len;
                if start == end {
                    continue;
                }
                tile.scales.bias =
                    self.biases[index % self.biases.len()].as_ptr().wrapping_add(scale);
                self.point_at_weights(&mut tile, region, panel);
                let fetched_bytes = self.fetched_bytes(&tile);
                let mut walk = Walk::new(self, region, task, tiles.first_pixel(start), panel);
                for index in start..end {
                    let pixel_len = tiles.pixel_len(index);
                    walk.place(&mut tile, pixel_len);
                    // SAFETY: the processor has the instructions (`Isa::supported`); the walk stays
                    // inside the operands, for which the caller vouches.
                    unsafe { self.kernels[pixel_len - 1](&tile) };
                    if tile.prefetch_bytes > 0 {
                        tile.prefetch = tile.prefetch.wrapping_add(fetched_bytes);
                        if tile.prefetch >= prefetch_end {
                            tile.prefetch_bytes = 0;
                        }
                    }
                }
            }
        }
    }

    /// A tile with what does not change from tile to tile.
    fn tile(&self) -> Tile {
        Tile {
            runs: [Run::NONE; RUN_MAX],
            run_len: 0,
            run_bytes: 0,
            shortcut: Run::NONE,
            shortcut_bytes: self.shortcut.as_ref().map_or(0, |it| it.input.pixel_bytes),
            shortcut_multiplier: std::ptr::null(),
            scales: Scales {
                multiplier: std::ptr::null(),
                bias: std::ptr::null(),
                residual: self.residual,
            },
            outputs: [std::ptr::null_mut(); PIXEL_MAX],
            logit_len: None,
            prefetch: std::ptr::null(),
            prefetch_bytes: 0,
        }
    }

    /// Bytes that are fetched during a tile.
    fn fetched_bytes(&self, tile: &Tile) -> usize {
        let depth_bytes = tile.run_len * tile.run_bytes + tile.shortcut_bytes;
        depth_bytes / STEP_BYTES * LINE_BYTES
    }

    /// The taps of a region as runs: a kernel row is one; a tap is one where some read zeros.
    fn point_at_weights(&self, tile: &mut Tile, region: &Region, panel: usize) {
        let (rows, columns) = (region.rows.taps.clone(), region.columns.taps.clone());
        let (row_bytes, pixel_bytes) = (self.weights.row_bytes, self.input.pixel_bytes);
        tile.run_len = 0;
        for row in rows {
            let columns = columns.clone().take(if region.is_padded { usize::MAX } else { 1 });
            for column in columns {
                let from_bytes = row * row_bytes + column * pixel_bytes;
                tile.runs[tile.run_len].weights = self.weights.panel(panel, from_bytes);
                tile.run_len += 1;
            }
        }
        let columns = if region.is_padded { 1 } else { columns.len() };
        tile.run_bytes = (columns * pixel_bytes).next_multiple_of(STEP_BYTES);
    }
}

/// A way through a region's pixels: image by image, row by row.
struct Walk<'a> {
    product: &'a Product,
    region: &'a Region,
    extents: [usize; 3],
    position: [usize; 3],
    /// Of input, projection's input and output.
    strides: [[usize; 3]; 3],
    /// Where the region begins in them: the first tap, or the window's first row and column.
    starts: [*const u8; 3],
    /// Where they are at `position`.
    places: [*const u8; 3],
}

impl<'a> Walk<'a> {
    /// Begins at the region's n-th pixel.
    fn new(
        product: &'a Product,
        region: &'a Region,
        task: &Task,
        pixel: usize,
        panel: usize,
    ) -> Self {
        let Product { input, output, value_bytes, shortcut, .. } = product;
        let (row, column) = (region.rows.outputs.start, region.columns.outputs.start);
        let pixel_bytes = output.channels * value_bytes;
        let row_bytes = output.width * pixel_bytes;
        let added = shortcut.as_ref().map(|shortcut| shortcut.input);
        let strides = [
            input.strides(),
            added.map_or([0; 3], |added| added.strides()),
            [output.height * row_bytes, row_bytes, pixel_bytes],
        ];
        let of_first = |operand: usize| row * strides[operand][1] + column * strides[operand][2];
        let (tap_row, tap_column) = match region.is_padded {
            true => (0, 0),
            false => (region.rows.taps.start, region.columns.taps.start),
        };
        let padding = input.window.padding;
        let start = task.operands.input.wrapping_add(
            of_first(0) + tap_row * input.row_bytes() + tap_column * input.pixel_bytes,
        );
        let starts = [
            start.wrapping_sub(padding * (input.row_bytes() + input.pixel_bytes)),
            task.operands.shortcut.wrapping_add(of_first(1)),
            task.operands.output.wrapping_add(of_first(2) + panel * PANEL_LEN * value_bytes),
        ];
        let mut extents = region.extents(task.batch_len);
        if input.is_linear() && added.is_none_or(|added| added.is_linear()) {
            extents = [1, 1, extents.iter().product()];
        }
        let [_, height, width] = extents;
        let position = [pixel / width / height, pixel / width % height, pixel % width];
        let mut walk = Self { product, region, extents, position, strides, starts, places: starts };
        walk.find();
        walk
    }

    fn find(&mut self) {
        for operand in 0..self.places.len() {
            let steps = self.position.iter().zip(&self.strides[operand]);
            let offset: usize = steps.map(|(at, stride)| at * stride).sum();
            self.places[operand] = self.starts[operand].wrapping_add(offset);
        }
    }

    /// Puts what the next pixels read and write into a tile.
    #[inline(always)]
    fn place(&mut self, tile: &mut Tile, pixel_len: usize) {
        let is_line = self.position[2] + pixel_len <= self.extents[2];
        if self.region.is_padded || !is_line {
            for pixel in 0..pixel_len {
                self.place_pixel(tile, pixel);
                self.advance(1);
            }
            return;
        }
        let [input, shortcut, output] = self.places;
        let [of_input, of_shortcut, of_output] = self.strides.map(|strides| strides[2]);
        // All of a tile, used or not: a fixed number of steps is faster.
        for pixel in 0..PIXEL_MAX {
            tile.outputs[pixel] = output.wrapping_add(pixel * of_output).cast_mut();
        }
        if tile.shortcut_bytes > 0 {
            for pixel in 0..PIXEL_MAX {
                tile.shortcut.inputs[pixel] = shortcut.wrapping_add(pixel * of_shortcut);
            }
        }
        let mut input = input;
        for run in tile.runs.iter_mut().take(tile.run_len) {
            for pixel in 0..PIXEL_MAX {
                run.inputs[pixel] = input.wrapping_add(pixel * of_input);
            }
            input = input.wrapping_add(self.product.input.row_bytes());
        }
        self.advance(pixel_len);
    }

    /// Goes on by pixels of the same row.
    #[inline(always)]
    fn advance(&mut self, pixel_len: usize) {
        self.position[2] += pixel_len;
        for (place, strides) in self.places.iter_mut().zip(&self.strides) {
            *place = place.wrapping_add(pixel_len * strides[2]);
        }
        if self.position[2] == self.extents[2] {
            self.position[2] = 0;
            self.position[1] += 1;
            if self.position[1] == self.extents[1] {
                self.position[1] = 0;
                self.position[0] += 1;
            }
            self.find();
        }
    }

    /// Puts what the pixel reads and writes into the tile's n-th.
    fn place_pixel(&self, tile: &mut Tile, pixel: usize) {
        let [mut input, shortcut, output] = self.places;
        tile.shortcut.inputs[pixel] = shortcut;
        tile.outputs[pixel] = output.cast_mut();
        if self.region.is_padded {
            self.place_padded(tile, pixel);
            return;
        }
        for run in tile.runs.iter_mut().take(tile.run_len) {
            run.inputs[pixel] = input;
            input = input.wrapping_add(self.product.input.row_bytes());
        }
    }

    /// As [`Walk::place_pixel`], of the input: taps in the padding read zeros.
    fn place_padded(&self, tile: &mut Tile, pixel: usize) {
        let input = &self.product.input;
        let Window { stride, padding, .. } = input.window;
        let Region { rows, columns, .. } = self.region;
        let top = (rows.outputs.start + self.position[1]) * stride;
        let left = (columns.outputs.start + self.position[2]) * stride;
        let inside = |at: usize, side: usize| at >= padding && at < side + padding;
        let mut runs = tile.runs.iter_mut();
        for row in rows.taps.clone() {
            for column in columns.taps.clone() {
                let is_inside = inside(top + row, input.shape.height)
                    && inside(left + column, input.shape.width);
                let offset = row * input.row_bytes() + column * input.pixel_bytes;
                let run = runs.next().expect("a kernel has no more taps than a tile runs");
                run.inputs[pixel] = match is_inside {
                    true => self.places[0].wrapping_add(offset),
                    false => self.product.zeros.as_ptr(),
                };
            }
        }
    }
}
