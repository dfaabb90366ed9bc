//! The stem by `wgmma`, for compute capability 9.0 alone: images up to 224 pixels wide, in strips
//! of rows that warpgroups take in turns.
//!
//! Invariant: it computes what [`stem`] does.

use half::f16;

use super::abi;
use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch};
use super::packed::Packed;
use super::stem;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step};
use crate::model::Model;

/// By type: of f16, of integers.
static KERNELS: [Kernel; 2] = [
    kernel(
        "stem_wgmma",
        abi::TWINSTREAM_STEM_WGMMA_THREADS,
        abi::TWINSTREAM_STEM_WGMMA_SHARED_BYTES,
    ),
    kernel(
        "stem_i8_wgmma",
        abi::TWINSTREAM_STEM_I8_WGMMA_THREADS,
        abi::TWINSTREAM_STEM_I8_WGMMA_SHARED_BYTES,
    ),
];

const fn kernel(name: &'static str, thread_len: u32, shared_bytes: u32) -> Kernel {
    Kernel { module: "stem_wgmma", name, arch: 90, thread_len, shared_bytes }
}

// What the model takes: of a row of the convolution, clocks of the tensor cores, which the
// warpgroups of a block share; clocks from a row to the next of a warpgroup by itself; and what a
// block waits for before its first product.
const PRODUCT_CLOCKS: f64 = 14.0 * 56.0 / 0.96;
const F16_ROW_CLOCKS: f64 = 1100.0;
const I8_ROW_CLOCKS: f64 = 1500.0;
const BLOCK_CLOCKS: f64 = 2500.0;

/// See the module.
#[derive(Debug)]
pub(super) struct StemWgmma;

/// How the images of a batch are divided.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Strips {
    /// Pooled rows of a strip.
    height: usize,
    /// Strips of the batch, and of an image.
    len: usize,
    len_of_image: usize,
    clocks: f64,
}

impl Strips {
    /// Those that take the least time: high ones compute few rows twice, low ones keep all
    /// multiprocessors at work.
    fn new(step: &Step, batch_len: usize, device: &DeviceInfo) -> Self {
        let rows = step.output_shape.height;
        let of_row = if step.dtype == DType::I8 { I8_ROW_CLOCKS } else { F16_ROW_CLOCKS };
        let strips = (1..=rows).map(|height| {
            let len_of_image = rows.div_ceil(height);
            let len = batch_len * len_of_image;
            let turns = |at_work_len: u32| len.div_ceil(at_work_len as usize) as f64;
            let of_processor = turns(device.multiprocessor_len);
            let of_group = turns(device.multiprocessor_len * abi::TWINSTREAM_STEM_WGMMA_GROUPS);
            let row_clocks = (of_processor * PRODUCT_CLOCKS).max(of_group * of_row);
            let clocks = BLOCK_CLOCKS + (2 * height + 1) as f64 * row_clocks;
            Self { height, len, len_of_image, clocks }
        });
        let best = strips.min_by(|one, other| one.clocks.total_cmp(&other.clocks));
        best.expect("an image has pooled rows")
    }
}

/// From `[64][7][8][4]` to the order in which lanes hold weights (`cuda/launch.h`).
fn fragments(filter: &[f16]) -> Vec<f16> {
    let place = |index: usize| {
        let (value, word, lane) = (index % 2, index / 2 % 4, index / 8 % 32);
        let (warp, half) = (index / 256 % 4, index / 1024);
        let output = warp * 16 + lane / 4 * 2 + word % 2;
        filter[(output * 7 * 2 + half) * 16 + word / 2 * 8 + lane % 4 * 2 + value]
    };
    (0..filter.len()).map(place).collect()
}

impl Family for StemWgmma {
    fn kernel(&self, index: usize) -> &'static Kernel {
        &KERNELS[index]
    }

    /// Operands without swizzle whose rows overlap are legal by the instruction's formula, but no
    /// device has shown them yet.
    fn needs_proof(&self) -> bool {
        true
    }

    fn choices(&'static self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let index = match step.dtype {
            DType::F16 => 0,
            DType::I8 => 1,
            _ => return Vec::new(),
        };
        let fits = || {
            let (_, conv_shape) = stem::shapes_of(step);
            conv_shape.width <= abi::TWINSTREAM_STEM_WGMMA_WIDTH as usize
        };
        let computes = stem::computes(&step.work) && fits();
        computes.then_some(Choice { family: self, index, split_k: 1 }).into_iter().collect()
    }

    /// No more blocks than strips, nor than multiprocessors.
    fn grid(&self, _: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> [u32; 3] {
        let strip_len = Strips::new(step, batch_len, device).len as u32;
        [strip_len.min(device.multiprocessor_len), 1, 1]
    }

    fn launch(
        &self,
        choice: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Result<Launch> {
        let strips = Strips::new(step, batch_len, arguments.device);
        let params = Box::new(abi::twinstream_stem_wgmma_params {
            stem: stem::params_of(step, arguments),
            strip_height: strips.height as u32,
            strips: strips.len_of_image as u32,
        });
        let grid = self.grid(choice, step, batch_len, arguments.device);
        Ok(Launch::new(choice.kernel(), grid, params))
    }

    fn clocks(&self, _: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
        Strips::new(step, batch_len, device).clocks
    }

    fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        (stem::FILTER_LEN * size_of::<f16>(), stem::bias_len(step.dtype) * size_of::<f32>())
    }

    /// Integers as f16, which holds them exactly.
    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        let (filter, bias) = if step.dtype == DType::I8 {
            let (filter, bias) = stem::filter_i8(model, step)?;
            (filter.into_iter().map(f16::from).collect(), bias)
        } else {
            stem::filter_f16(model, step)?
        };
        Ok(Packed::f16(&fragments(&filter), bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::Steps;
    use crate::model::Network;

    fn stem_step(side: usize, dtype: DType) -> Step {
        let network = Network::resnet50(10, side, side).unwrap();
        Steps::new(&network, dtype).list.swap_remove(0)
    }

    /// Goal: lanes find each weight where the header says. Method: by its words, with weights that
    /// are all different.
    #[test]
    fn weights_lie_where_lanes_read_them() {
        let filter: Vec<f16> = (0..stem::FILTER_LEN as u16).map(f16::from_bits).collect();
        let mut packed = fragments(&filter).into_iter();
        for (row, half) in (0..7).flat_map(|row| [(row, 0), (row, 1)]) {
            for (warp, lane) in (0..4).flat_map(|warp| (0..32).map(move |lane| (warp, lane))) {
                let (g, t) = (lane / 4, lane % 4);
                for first in [2 * t, 2 * t + 8] {
                    for output in [16 * warp + 2 * g, 16 * warp + 2 * g + 1] {
                        for value in [first, first + 1] {
                            let expected = filter[(output * 7 + row) * 32 + half * 16 + value];
                            assert_eq!(packed.next(), Some(expected), "{row} {half} {lane}");
                        }
                    }
                }
            }
        }
        assert_eq!(packed.next(), None);
    }

    /// Goal: few images are cut into low strips, so that all multiprocessors are at work; many into
    /// high ones, of which few rows are computed twice. Images that are too wide get no choice.
    #[test]
    fn strips_are_as_high_as_the_batch_allows() {
        static FAMILY: StemWgmma = StemWgmma;
        let (step, device) = (stem_step(224, DType::F16), DeviceInfo::h100());
        let [choice] = FAMILY.choices(&step, 1)[..] else { panic!("one choice") };
        let of = |batch_len| {
            let Strips { height, len, .. } = Strips::new(&step, batch_len, &device);
            (height, len, choice.block_len(&step, batch_len, &device))
        };
        assert_eq!([1, 8, 128].map(of), [(1, 56, 56), (2, 224, 132), (28, 256, 132)]);
        assert!(FAMILY.choices(&stem_step(256, DType::F16), 1).is_empty());
    }
}
