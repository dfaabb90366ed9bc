//! Convolutions by `mma.sync` on f16 and on 8-bit integers, for every device from compute
//! capability 8.0 on.
//!
//! Invariant: any choice computes the same; only time differs.

use std::sync::LazyLock;

use super::abi;
use super::family::{Arguments, Choice, Family, Workspace};
use super::filter::{Order, STEP_BYTES, conv_of};
use super::launch::{Kernel, Launch};
use super::packed::Packed;
use super::tile::Tile;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::Model;

static TILES: LazyLock<Vec<Tile>> = LazyLock::new(|| Tile::of_module("conv", 1));

/// A kernel permutes what it copies itself.
const ORDER: Order = Order {
    block_len: abi::TWINSTREAM_CHANNEL_STEP as usize,
    place: |output, chunk| (output, chunk),
};
/// Splits of K that are tried.
const SPLITS: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// Partial sums of one launch at most: beyond the level-2 cache they cost more than they gain.
const PARTIALS_BYTES_MAX: usize = 32 << 20;

// What the model takes a multiprocessor to do at a clock; measurements (`twinstream tune`) replace
// its choices, so only their order matters.
/// Bytes of either operand that the tensor cores multiply and add up: so many products of f16, and
/// twice as many of integers.
const MAC_BYTES_PER_CLOCK: f64 = 2048.0;
/// Bytes that reach shared memory from the level-2 cache.
const LOAD_BYTES_PER_CLOCK: f64 = 40.0;
/// What a block waits for before its first product: the launch, and the first loads.
const BLOCK_CLOCKS: f64 = 1500.0;
/// A step of K beyond its products and loads: a barrier.
const STEP_CLOCKS: f64 = 60.0;
/// What the last block of a tile adds: it waits for the others' sums in the level-2 cache.
const SPLIT_CLOCKS: f64 = 1200.0;
/// Shared memory that the driver keeps of each block's.
const SHARED_BYTES_OF_BLOCK: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Conv;

impl Conv {
    fn blocks(&self, choice: Choice, step: &Step, batch_len: usize) -> [u32; 3] {
        let tile = &TILES[choice.index];
        let pixel_len = batch_len * step.output_shape.pixel_len();
        let across = step.output_shape.channels / tile.n;
        [pixel_len.div_ceil(tile.m) as u32, across as u32, choice.split_k]
    }

    /// Bytes of the partial sums of a launch.
    fn partials_bytes(&self, choice: Choice, step: &Step, batch_len: usize) -> usize {
        let tile = &TILES[choice.index];
        let block_len: u32 = self.blocks(choice, step, batch_len).iter().product();
        block_len as usize * tile.m * tile.n * size_of::<f32>()
    }
}

impl Family for Conv {
    fn kernel(&self, index: usize) -> &'static Kernel {
        &TILES[index].kernel
    }

    fn choices(&'static self, step: &Step, batch_len: usize) -> Vec<Choice> {
        let Work::Conv(conv) = &step.work else { return Vec::new() };
        // Of integers, a projection's sum is scaled before others are added to it: it is not split.
        let splits = match (step.dtype, conv.shortcut) {
            (DType::I8, Some(_)) => &SPLITS[..1],
            _ => &SPLITS[..],
        };
        let step_len = ORDER.steps(step);
        let computes = |tile: &Tile| {
            tile.dtype == step.dtype && conv.output_shape.channels.is_multiple_of(tile.n)
        };
        let tiles = TILES.iter().enumerate().filter(|(_, tile)| computes(tile));
        let choices = tiles.flat_map(|(index, _)| {
            splits.iter().map(move |&split_k| Choice { family: self, index, split_k })
        });
        let fits = |choice: &Choice| {
            choice.split_k == 1
                || choice.split_k as usize <= step_len
                    && self.partials_bytes(*choice, step, batch_len) <= PARTIALS_BYTES_MAX
        };
        choices.filter(fits).collect()
    }

    fn grid(&self, choice: Choice, step: &Step, batch_len: usize, _: &DeviceInfo) -> [u32; 3] {
        self.blocks(choice, step, batch_len)
    }

    fn launch(
        &self,
        choice: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Result<Launch> {
        let conv = conv_of(step);
        let is_split = choice.split_k > 1;
        let output = |step: usize| arguments.outputs[step];
        let shortcut_shape = conv.shortcut.map(|shortcut| shortcut.input_shape);
        let params = Box::new(abi::twinstream_conv_params {
            input: output(conv.input),
            weights: arguments.weights,
            bias: arguments.bias,
            residual: conv.residual.map_or(0, output),
            shortcut: conv.shortcut.map_or(0, |shortcut| output(shortcut.input)),
            output: arguments.output,
            batch: arguments.batch,
            partials: if is_split { arguments.partials } else { 0 },
            semaphores: if is_split { arguments.semaphores } else { 0 },
            input_height: conv.input_shape.height as u32,
            input_width: conv.input_shape.width as u32,
            channels: conv.input_shape.channels as u32,
            output_height: conv.output_shape.height as u32,
            output_width: conv.output_shape.width as u32,
            output_channels: conv.output_shape.channels as u32,
            stride: conv.conv.stride as u32,
            padding: conv.conv.padding as u32,
            tap_row_first: conv.rows.first as u32,
            tap_rows: conv.rows.len as u32,
            tap_column_first: conv.columns.first as u32,
            tap_columns: conv.columns.len as u32,
            shortcut_height: shortcut_shape.map_or(0, |shape| shape.height as u32),
            shortcut_width: shortcut_shape.map_or(0, |shape| shape.width as u32),
            shortcut_channels: shortcut_shape.map_or(0, |shape| shape.channels as u32),
            shortcut_stride: conv.shortcut.map_or(0, |shortcut| shortcut.stride as u32),
            relu: conv.conv.relu.into(),
            split_k: choice.split_k,
        });
        Ok(Launch::new(choice.kernel(), self.blocks(choice, step, batch_len), params))
    }

    /// Its blocks in waves, each as long as its products or its loads take, whichever is more.
    fn clocks(&self, choice: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
        let tile = &TILES[choice.index];
        let block_len: u32 = self.blocks(choice, step, batch_len).iter().product();
        let block_bytes = tile.kernel.shared_bytes + SHARED_BYTES_OF_BLOCK;
        let per_processor = (device.shared_bytes / block_bytes).clamp(1, tile.blocks_max);
        let steps = ORDER.steps(step).div_ceil(choice.split_k as usize) as f64;
        let mac_bytes = (tile.m * tile.n * STEP_BYTES) as f64;
        let load_bytes = ((tile.m + tile.n) * STEP_BYTES) as f64;
        // Blocks that share a multiprocessor share its rates, and hide each other's waits.
        let processor_len = f64::from(device.multiprocessor_len);
        let rounds = (f64::from(block_len) / processor_len).ceil();
        let waves = (rounds / f64::from(per_processor)).ceil();
        let (multiplying, loading) =
            (mac_bytes / MAC_BYTES_PER_CLOCK, load_bytes / LOAD_BYTES_PER_CLOCK);
        let busy = rounds * steps * multiplying.max(loading);
        let waiting = waves * (BLOCK_CLOCKS + steps * STEP_CLOCKS);
        let joining = if choice.split_k > 1 {
            // Written, and read again.
            let partial_bytes = 2.0 * self.partials_bytes(choice, step, batch_len) as f64;
            SPLIT_CLOCKS + partial_bytes / (LOAD_BYTES_PER_CLOCK * processor_len)
        } else {
            0.0
        };
        busy + waiting + joining
    }

    fn workspace(&self, choice: Choice, step: &Step, batch_len: usize) -> Workspace {
        if choice.split_k == 1 {
            return Workspace::default();
        }
        let [down, across, _] = self.blocks(choice, step, batch_len);
        Workspace {
            partials_bytes: self.partials_bytes(choice, step, batch_len),
            semaphore_len: (down * across) as usize,
        }
    }

    fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        ORDER.packed_bytes(step)
    }

    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        ORDER.pack(model, step)
    }
}
