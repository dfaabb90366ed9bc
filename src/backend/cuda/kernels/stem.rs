//! The stem: pixels to pooled activations, in one kernel.

use half::f16;

use super::abi;
use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch};
use super::packed::{Packed, round};
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Filter, Model};

/// Output channels, kernel rows, padded columns and padded channels of the filter.
const FILTER_SHAPE: [usize; 4] = [64, 7, 8, 4];
/// Columns and channels that it has.
const FILTER_COLUMNS: usize = 7;
const FILTER_CHANNELS: usize = 3;

static KERNEL: Kernel =
    Kernel::alone("stem", abi::TWINSTREAM_STEM_THREADS, abi::TWINSTREAM_STEM_SHARED_BYTES);

/// See the module.
#[derive(Debug)]
pub(super) struct Stem;

impl Family for Stem {
    fn kernel(&self, _: usize) -> &'static Kernel {
        &KERNEL
    }

    fn choices(&self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let computes = matches!(step.work, Work::Stem { .. }) && step.dtype == DType::F16;
        Choice::only(&Stem, computes)
    }

    fn grid(&self, _: Choice, step: &Step, batch_len: usize) -> [u32; 3] {
        let pooled = step.output_shape;
        let down = (pooled.height as u32).div_ceil(abi::TWINSTREAM_STEM_POOLED_HEIGHT);
        let across = (pooled.width as u32).div_ceil(abi::TWINSTREAM_STEM_POOLED_WIDTH);
        [down * across, batch_len as u32, 1]
    }

    /// Nothing to compare it with: no other family computes the step.
    fn clocks(&self, _: Choice, _: &Step, _batch_len: usize, _: &DeviceInfo) -> f64 {
        0.0
    }

    fn launch(
        &self,
        choice: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Launch {
        let Work::Stem { input_shape, conv_shape, .. } = step.work else {
            unreachable!("asked for the stem")
        };
        let params = abi::twinstream_stem_params {
            images: arguments.images,
            batch: arguments.batch,
            weights: arguments.weights,
            bias: arguments.bias,
            output: arguments.output,
            image_bytes: arguments.image_stride_bytes,
            scale: arguments.scale,
            shift: arguments.shift,
            height: input_shape.height as u32,
            width: input_shape.width as u32,
            conv_height: conv_shape.height as u32,
            conv_width: conv_shape.width as u32,
            pooled_height: step.output_shape.height as u32,
            pooled_width: step.output_shape.width as u32,
        };
        Launch::new(&KERNEL, self.grid(choice, step, batch_len), params)
    }

    fn packed_bytes(&self, _: &Step) -> (usize, usize) {
        let value_len: usize = FILTER_SHAPE.iter().product();
        (value_len * size_of::<f16>(), FILTER_SHAPE[0] * size_of::<f32>())
    }

    /// `[output][7][7][3]` to `[output][7][8][4]`, zeros in what is added.
    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        let Work::Stem { filter, .. } = step.work else { unreachable!("asked for the stem") };
        let Filter { weights, bias } = model.filter(filter)?;
        let [_, _, columns, channels] = FILTER_SHAPE;
        let mut packed = vec![f16::ZERO; FILTER_SHAPE.iter().product()];
        // A kernel row of one output channel, before and after.
        let from = weights.chunks_exact(FILTER_COLUMNS * FILTER_CHANNELS);
        for (from, to) in from.zip(packed.chunks_exact_mut(columns * channels)) {
            let to = to.chunks_exact_mut(channels);
            for (from, to) in from.chunks_exact(FILTER_CHANNELS).zip(to) {
                for (from, to) in from.iter().zip(to) {
                    *to = round("conv1", *from)?;
                }
            }
        }
        Ok(Packed::f16(&packed, bias))
    }
}
