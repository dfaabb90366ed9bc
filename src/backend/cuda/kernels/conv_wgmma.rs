//! Convolutions by `wgmma` on f16 and on 8-bit integers, for compute capability 9.0 alone. The copy
//! engine brings pixels by tensor maps. Blocks stay for all their tiles, by themselves or in pairs
//! that share pixels; or, for small batches, a cluster has one small tile, whose sum its blocks
//! share. Each of the three has a module of its own, and all read the same weights.
//!
//! Invariant: any choice computes the same; only time differs.

use std::sync::LazyLock;

use super::abi;
use super::family::{Arguments, Choice, Family};
use super::filter::{Order, STEP_BYTES, conv_of};
use super::launch::{Kernel, Launch};
use super::packed::Packed;
use super::tile::Tile;
use crate::backend::cuda::sys::driver::Code;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::backend::cuda::sys::tensor_map::{Images, Window};
use crate::error::Result;
use crate::lower::{ConvStep, DType, Step, Work};
use crate::model::{Model, Shape};

static TILES: LazyLock<Vec<Tile>> = LazyLock::new(|| {
    let of_module = |(module, cluster_len)| Tile::of_module(module, cluster_len);
    [("conv_wgmma", 1), ("conv_pairs", 2), (SPLITS, 1)].into_iter().flat_map(of_module).collect()
});
/// The kernels whose clusters share the sum of one tile.
const SPLITS: &str = "conv_splits";
/// Blocks of such a cluster.
const SPLIT_LENS: [u32; 4] = [1, 2, 4, 8];

/// Weights lie in memory as a block wants them in shared memory: in a row, chunks permuted.
const F16_ORDER: Order =
    Order { block_len: STEP_BYTES / 2, place: |output, chunk| swizzled(output, chunk) };
/// Two neighbouring channels are rows eight apart, so that a thread has the results of both.
const I8_ORDER: Order =
    Order { block_len: STEP_BYTES, place: |output, chunk| swizzled(i8_row(output), chunk) };

/// What residual and output are copied by: channels of a box, and pixels; fewer where blocks share
/// what they store.
const BOX_CHANNELS: usize = 64;
const BOX_PIXELS: usize = 64;
const SPLIT_BOX_PIXELS: usize = 8;
/// How far from the borders of an image a tensor map lets the first and the last pixel lie.
const CORNERS: std::ops::RangeInclusive<i32> = -128..=127;

// What the model takes a multiprocessor to do at a clock, as of the other family (`conv.rs`).
/// Bytes of either operand that the tensor cores multiply and add up.
const MAC_BYTES_PER_CLOCK: f64 = 0.96 * 4096.0;
/// Bytes that reach shared memory from the level-2 cache.
const LOAD_BYTES_PER_CLOCK: f64 = 40.0;
/// What a block waits for before its first product; beside it there is no room for another's.
const BLOCK_CLOCKS: f64 = 2000.0;
/// The same where there is room, so that its barriers and weights are there already.
const SPLIT_BLOCK_CLOCKS: f64 = 1400.0;
/// What a cluster adds: sums on their way from block to block.
const JOIN_CLOCKS: f64 = 500.0;
/// What results cost behind a tile's last product: the rest, and a value, of which the other
/// warpgroup's products hide a part.
const TILE_CLOCKS: f64 = 300.0;
const F16_CLOCKS: f64 = 0.6 * 2.5 / 128.0;
const I8_CLOCKS: f64 = 0.6 * 5.0 / 128.0;

/// See the module.
#[derive(Debug)]
pub(super) struct ConvWgmma;

/// The row of 64 that holds an output of integers.
fn i8_row(output: usize) -> usize {
    output / 16 * 16 + output % 2 * 8 + output % 16 / 2
}

/// The row, and where in it the chunk lies.
fn swizzled(row: usize, chunk: usize) -> (usize, usize) {
    (row, chunk ^ (row % 8))
}

/// Pixels that a block copies: its share of a cluster's.
fn copied_pixels(tile: &Tile) -> usize {
    tile.m / tile.cluster_len as usize
}

fn is_split(tile: &Tile) -> bool {
    tile.kernel.module == SPLITS
}

/// How many blocks may share the sum of a tile: each has a step of it. Of integers, a projection's
/// sum is scaled before others are added to it: it is not split.
fn split_lens(tile: &Tile, step: &Step, conv: &ConvStep) -> &'static [u32] {
    let step_len = match (step.dtype, conv.shortcut) {
        (DType::I8, Some(_)) => 1,
        _ => order(step).steps(step),
    };
    let most = if is_split(tile) { step_len } else { 1 };
    let len = SPLIT_LENS.iter().take_while(|&&split_k| split_k as usize <= most).count();
    &SPLIT_LENS[..len]
}

fn order(step: &Step) -> &'static Order {
    if step.dtype == DType::I8 { &I8_ORDER } else { &F16_ORDER }
}

/// The pixels of a tile that the first tap sees: of a convolution with such stride and padding,
/// from images of one shape to those of another.
fn window(
    (tile, dtype): (&Tile, DType),
    (input, output): (Shape, Shape),
    (stride, padding): (usize, usize),
) -> Window {
    let upper = |input: usize, output: usize| {
        ((output - 1) * stride) as i32 - padding as i32 - (input as i32 - 1)
    };
    Window {
        channels: STEP_BYTES / dtype.size_bytes(),
        pixels: copied_pixels(tile),
        stride,
        lower: [-(padding as i32); 2],
        upper: [upper(input.width, output.width), upper(input.height, output.height)],
    }
}

/// That of the convolution's own input, and of its projection's.
fn windows(tile: &Tile, dtype: DType, conv: &ConvStep) -> (Window, Option<Window>) {
    let (input, output) = (conv.input_shape, conv.output_shape);
    let own = (conv.conv.stride, conv.conv.padding);
    let shortcut = conv.shortcut.map(|shortcut| {
        window((tile, dtype), (shortcut.input_shape, output), (shortcut.stride, 0))
    });
    (window((tile, dtype), (input, output), own), shortcut)
}

impl ConvWgmma {
    /// Tiles of a launch.
    fn tile_len(&self, choice: Choice, step: &Step, batch_len: usize) -> usize {
        let tile = &TILES[choice.index];
        let pixel_len = batch_len * step.output_shape.pixel_len();
        pixel_len.div_ceil(tile.m) * (step.output_shape.channels / tile.n)
    }
}

impl Family for ConvWgmma {
    fn kernel(&self, index: usize) -> &'static Kernel {
        &TILES[index].kernel
    }

    /// They order copies, threads and tensor cores by rules that an emulated device knows in part.
    fn needs_proof(&self) -> bool {
        true
    }

    fn choices(&'static self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let Work::Conv(conv) = &step.work else { return Vec::new() };
        let computes = |tile: &Tile| {
            let (own, shortcut) = windows(tile, step.dtype, conv);
            let corners = |it: Window| it.lower.into_iter().chain(it.upper);
            let mut corners = corners(own).chain(shortcut.into_iter().flat_map(corners));
            tile.dtype == step.dtype
                && conv.output_shape.channels.is_multiple_of(tile.n * tile.cluster_len as usize)
                && corners.all(|corner| CORNERS.contains(&corner))
        };
        let tiles = TILES.iter().enumerate().filter(|(_, tile)| computes(tile));
        let choices = tiles.flat_map(|(index, tile)| {
            let split_lens = split_lens(tile, step, conv).iter();
            split_lens.map(move |&split_k| Choice { family: self, index, split_k })
        });
        choices.collect()
    }

    /// As many blocks as are at work at a time. A pair fits two neighbouring multiprocessors, and
    /// those of a device are made two by two. Where they share a sum, a cluster a tile.
    fn grid(&self, choice: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> [u32; 3] {
        let tile = &TILES[choice.index];
        let tile_len = self.tile_len(choice, step, batch_len) as u32;
        if is_split(tile) {
            return [tile_len * choice.split_k, 1, 1];
        }
        let cluster_len = tile.cluster_len;
        let at_work_len = (device.multiprocessor_len * tile.blocks_max).max(cluster_len);
        let block_len = at_work_len.min(tile_len);
        [block_len / cluster_len * cluster_len, 1, 1]
    }

    fn launch(
        &self,
        choice: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Result<Launch> {
        let (conv, tile) = (conv_of(step), &TILES[choice.index]);
        let (window, shortcut_window) = windows(tile, step.dtype, conv);
        let output = |step: usize| arguments.outputs[step];
        let images = |address, shape: Shape| {
            let Shape { height, width, channels } = shape;
            let value_bytes = step.dtype.size_bytes();
            Images { address, value_bytes, channels, width, height, image_len: batch_len }
        };
        let map = |of: &str, map: std::result::Result<[u64; 16], Code>| {
            let words = map.map_err(|code| {
                let Step { name, .. } = step;
                code.error(format_args!("{name}: describing its {of} to the device"))
            })?;
            Ok::<_, crate::error::Error>(abi::twinstream_tensor_map { words })
        };
        let none = abi::twinstream_tensor_map { words: [0; 16] };
        let pixels = if is_split(tile) { SPLIT_BOX_PIXELS } else { BOX_PIXELS };
        let boxes = |address| images(address, conv.output_shape).boxes(BOX_CHANNELS, pixels);
        let shortcut = conv.shortcut.zip(shortcut_window).map(|(shortcut, window)| {
            images(output(shortcut.input), shortcut.input_shape).im2col(&window)
        });
        let residual = conv.residual.map(|residual| boxes(output(residual)));
        let params = Box::new(abi::twinstream_conv_wgmma_params {
            input: map("input", images(output(conv.input), conv.input_shape).im2col(&window))?,
            shortcut: shortcut.map_or(Ok(none), |it| map("shortcut", it))?,
            residual: residual.map_or(Ok(none), |it| map("residual", it))?,
            output: map("output", boxes(arguments.output))?,
            weights: arguments.weights,
            bias: arguments.bias,
            batch: arguments.batch,
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
            shortcut_channels: conv.shortcut.map_or(0, |it| it.input_shape.channels as u32),
            shortcut_stride: conv.shortcut.map_or(0, |it| it.stride as u32),
            relu: conv.conv.relu.into(),
            has_residual: conv.residual.is_some().into(),
        });
        let grid = self.grid(choice, step, batch_len, arguments.device);
        let cluster_len = tile.cluster_len * choice.split_k;
        Ok(Launch { cluster_len, ..Launch::new(choice.kernel(), grid, params) })
    }

    /// The tiles of the multiprocessor that has most, each as long as its products or its loads
    /// take, whichever is more, and what its results take. Blocks that share a sum share a tile's
    /// steps and results, and a multiprocessor's rates.
    fn clocks(&self, choice: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
        let tile = &TILES[choice.index];
        let split_k = f64::from(choice.split_k);
        let [block_len, ..] = self.grid(choice, step, batch_len, device);
        let multiplying = (tile.m * tile.n * STEP_BYTES) as f64 / MAC_BYTES_PER_CLOCK;
        let load_bytes = ((copied_pixels(tile) + tile.n) * STEP_BYTES) as f64;
        let loading = load_bytes / LOAD_BYTES_PER_CLOCK;
        let value_clocks = if tile.dtype == DType::I8 { I8_CLOCKS } else { F16_CLOCKS };
        let results = TILE_CLOCKS + (tile.m * tile.n) as f64 * value_clocks / split_k;
        let steps = (order(step).steps(step) as f64 / split_k).ceil();
        let stepping = steps * multiplying.max(loading);
        if !is_split(tile) {
            let turns = self.tile_len(choice, step, batch_len).div_ceil(block_len as usize) as f64;
            return BLOCK_CLOCKS + turns * (stepping + results);
        }
        let turns = (f64::from(block_len) / f64::from(device.multiprocessor_len)).ceil();
        let waves = (turns / f64::from(tile.blocks_max)).ceil();
        let joining = if choice.split_k > 1 { JOIN_CLOCKS } else { 0.0 };
        turns * stepping + waves * (SPLIT_BLOCK_CLOCKS + results + joining)
    }

    fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        order(step).packed_bytes(step)
    }

    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        order(step).pack(model, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::Steps;
    use crate::model::Network;

    static FAMILY: ConvWgmma = ConvWgmma;

    fn step(size: (usize, usize), dtype: DType, name: &str) -> Step {
        let network = Network::resnet50(10, size.0, size.1).unwrap();
        let steps = Steps::new(&network, dtype);
        steps.list.into_iter().find(|step| step.name == name).unwrap()
    }

    /// By row of 64, the output that `cuda/launch.h` says is there.
    fn outputs(dtype: DType) -> [usize; 64] {
        let mut outputs = std::array::from_fn(|row| row);
        if dtype == DType::I8 {
            for (w, g) in (0..4).flat_map(|w| (0..8).map(move |g| (w, g))) {
                outputs[16 * w + g] = 16 * w + 2 * g;
                outputs[16 * w + 8 + g] = 16 * w + 2 * g + 1;
            }
        }
        outputs
    }

    /// Compares what is packed of weights that are all different, or nearly, with what a kernel
    /// reads: step by step, row by row, chunk by chunk, as `cuda/launch.h` says.
    fn check_packed<T: Copy + PartialEq + std::fmt::Debug>(
        step: &Step,
        (zero, weight): (T, impl Fn(usize) -> T),
    ) {
        let conv = conv_of(step);
        let (inputs, side) = (conv.input_shape.channels, conv.conv.kernel);
        let weights: Vec<T> =
            (0..step.output_shape.channels * side * side * inputs).map(weight).collect();
        let order = order(step);
        let packed = order.put_all(step, zero, |output, terms| {
            order.own_terms(conv, &weights, output, zero, terms);
        });
        let (step_len, chunk_len) = (128 / size_of::<T>(), 16 / size_of::<T>());
        let taps = (conv.rows.first..conv.rows.first + conv.rows.len).flat_map(|row| {
            let columns = conv.columns.first..conv.columns.first + conv.columns.len;
            columns.map(move |column| (row, column))
        });
        let taps: Vec<_> = taps.collect();
        let mut read = packed.iter();
        for outputs_first in (0..step.output_shape.channels).step_by(64) {
            for inputs_first in (0..inputs).step_by(step_len) {
                for (tap_row, tap_column) in &taps {
                    for (row, output) in outputs(step.dtype).into_iter().enumerate() {
                        for at in 0..step_len {
                            let (place, within) = (at / chunk_len, at % chunk_len);
                            let input = inputs_first + (place ^ (row % 8)) * chunk_len + within;
                            let output = outputs_first + output;
                            let tap = (output * side + tap_row) * side + tap_column;
                            let is_filling = input >= inputs;
                            let expected =
                                if is_filling { zero } else { weights[tap * inputs + input] };
                            let what = (outputs_first, inputs_first, tap_row, tap_column, row, at);
                            assert_eq!(*read.next().unwrap(), expected, "{what:?}");
                        }
                    }
                }
            }
        }
        assert_eq!(read.next(), None);
    }

    /// Goal: kernels find each weight where the header says. Method: what is packed is read in the
    /// header's order; layers with channels that fill a step and that don't, with all taps and, at
    /// 32x32, with some.
    #[test]
    fn weights_lie_where_kernels_read_them() {
        for name in ["layer1.0.conv2", "layer2.0.conv1", "layer4.0.conv2"] {
            check_packed(&step((32, 32), DType::F16, name), (0, |index| index as u32 as u16));
            let byte = |index: usize| (index % 251) as i8;
            check_packed(&step((32, 32), DType::I8, name), (0, byte));
        }
    }

    /// Goal: corners are told by width first, and let each output pixel see its own. Method: of an
    /// image with an odd and an even side, along each axis the pixels between the corners, by the
    /// stride, are as many as the outputs.
    #[test]
    fn windows_hold_an_image_s_pixels() {
        for name in ["layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv3", "layer4.2.conv1"] {
            let step = step((65, 64), DType::F16, name);
            let conv = conv_of(&step);
            let (own, shortcut) = windows(&TILES[0], DType::F16, conv);
            let shapes = [Some(conv.input_shape), conv.shortcut.map(|it| it.input_shape)];
            let output = conv.output_shape;
            for (window, shape) in [Some(own), shortcut].into_iter().zip(shapes) {
                let (Some(window), Some(shape)) = (window, shape) else { continue };
                let axes = [(shape.width, output.width), (shape.height, output.height)];
                for (axis, (len, output_len)) in axes.into_iter().enumerate() {
                    let span = len as i32 + window.upper[axis] - window.lower[axis];
                    assert_eq!((span - 1) / window.stride as i32 + 1, output_len as i32, "{name}");
                    assert_eq!((span - 1) % window.stride as i32, 0, "{name}");
                }
            }
            assert_eq!(own.lower, [-(conv.conv.padding as i32); 2]);
            assert!(shortcut.is_none_or(|window| window.lower == [0, 0]));
        }
    }

    /// Goal: no more blocks than tiles, nor than multiprocessors.
    #[test]
    fn blocks_stay_for_all_their_tiles() {
        let step = step((224, 224), DType::F16, "layer4.0.conv2");
        let device = DeviceInfo::h100();
        let choice = FAMILY.choices(&step, 1)[0];
        assert_eq!(choice.kernel().name, "conv_wgmma_128x256");
        for (batch_len, expected) in [(1, 4), (32, 28), (256, 132)] {
            assert_eq!(choice.block_len(&step, batch_len, &device), expected, "{batch_len}");
        }
    }

    /// Goal: a cluster has a tile, and each of its blocks a step of its sum at least; a sum that
    /// is scaled on its way has one block.
    #[test]
    fn clusters_share_what_can_be_shared() {
        let device = DeviceInfo::h100();
        let splits = |dtype, name: &str| {
            let step = step((224, 224), dtype, name);
            let choices = FAMILY
                .choices(&step, 1)
                .into_iter()
                .filter(|choice| choice.kernel().name.ends_with("64x64_split"));
            let splits = choices.map(|choice| {
                let block_len = choice.block_len(&step, 1, &device);
                (choice.split_k, block_len / choice.split_k)
            });
            splits.collect::<Vec<_>>()
        };
        // 56 x 56 pixels of 64 channels; 7 x 7 of 2048.
        assert_eq!(splits(DType::F16, "layer1.0.conv1"), [(1, 49)]);
        assert_eq!(splits(DType::F16, "layer1.1.conv1"), [(1, 49), (2, 49), (4, 49)]);
        assert_eq!(splits(DType::I8, "layer1.1.conv1"), [(1, 49), (2, 49)]);
        assert_eq!(splits(DType::I8, "layer4.0.conv3"), [(1, 32)]);
        assert_eq!(splits(DType::I8, "layer4.1.conv3"), [(1, 32), (2, 32), (4, 32)]);
    }

    /// Goal: who reads the error knows the layer and which of its tensors the driver refused.
    #[cfg(twinstream_emulated)]
    #[test]
    fn a_refused_map_is_named() {
        cust::init(cust::CudaFlags::empty()).unwrap();
        let network = Network::resnet50(10, 32, 32).unwrap();
        let steps = Steps::new(&network, DType::F16);
        let step = steps.list.iter().find(|step| step.name == "layer1.0.conv3").unwrap();
        let device = DeviceInfo::h100();
        // No multiple of 16.
        let refusal = |outputs: &[u64], output| {
            let arguments = Arguments {
                device: &device,
                images: 0,
                image_stride_bytes: 0,
                scale: [0.0; 3],
                shift: [0.0; 3],
                batch: 0,
                weights: 0,
                bias: 0,
                outputs,
                output,
                logits_stride_bytes: 0,
                partials: 0,
                semaphores: 0,
            };
            let launch = FAMILY.launch(FAMILY.choices(step, 1)[0], step, 1, &arguments);
            launch.map(drop).unwrap_err().to_string()
        };
        let mut outputs = vec![256; steps.list.len()];
        assert!(refusal(&outputs, 8).contains("layer1.0.conv3: describing its output"));
        outputs[conv_of(step).shortcut.unwrap().input] = 8;
        assert!(refusal(&outputs, 256).contains("layer1.0.conv3: describing its shortcut"));
    }
}
