//! The mean over all pixels, of 8-bit integers.

use super::abi;
use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch};
use super::packed::{Packed, quantized};
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Model, Shape};

/// Channels that a block takes.
const BLOCK_CHANNEL_LEN: usize = 64;

static KERNEL: Kernel = Kernel::alone(
    "average_pool_i8",
    abi::TWINSTREAM_AVERAGE_POOL_I8_THREADS,
    abi::TWINSTREAM_AVERAGE_POOL_I8_SHARED_BYTES,
);

/// See the module.
#[derive(Debug)]
pub(super) struct AveragePoolI8;

/// The step whose output it reads, and its shape.
fn input_of(step: &Step) -> (usize, Shape) {
    match step.work {
        Work::AveragePool { input, input_shape } => (input, input_shape),
        _ => unreachable!("asked for the pool"),
    }
}

impl Family for AveragePoolI8 {
    fn kernel(&self, _: usize) -> &'static Kernel {
        &KERNEL
    }

    fn choices(&self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let computes = matches!(step.work, Work::AveragePool { .. }) && step.dtype == DType::I8;
        Choice::only(&AveragePoolI8, computes)
    }

    fn grid(&self, _: Choice, step: &Step, batch_len: usize) -> [u32; 3] {
        [(step.output_shape.channels / BLOCK_CHANNEL_LEN) as u32, batch_len as u32, 1]
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
        let (input, input_shape) = input_of(step);
        let params = abi::twinstream_average_pool_i8_params {
            input: arguments.outputs[input],
            multiplier: arguments.bias,
            output: arguments.output,
            batch: arguments.batch,
            pixels: input_shape.pixel_len() as u32,
            channels: input_shape.channels as u32,
        };
        Launch::new(&KERNEL, self.grid(choice, step, batch_len), params)
    }

    fn packed_bytes(&self, _: &Step) -> (usize, usize) {
        (0, size_of::<f32>())
    }

    /// What the sum is multiplied with.
    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        let (_, input_shape) = input_of(step);
        let multiplier = quantized(model).average_multiplier(input_shape.pixel_len());
        Ok(Packed::i8(&[], vec![multiplier]))
    }
}
