//! The mean over all pixels.

use super::abi;
use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch};
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::lower::{DType, Step, Work};

/// Channels that a block takes.
const BLOCK_CHANNEL_LEN: usize = 64;

static KERNEL: Kernel = Kernel::alone(
    "average_pool",
    abi::TWINSTREAM_AVERAGE_POOL_THREADS,
    abi::TWINSTREAM_AVERAGE_POOL_SHARED_BYTES,
);

/// See the module.
#[derive(Debug)]
pub(super) struct AveragePool;

impl Family for AveragePool {
    fn kernel(&self, _: usize) -> &'static Kernel {
        &KERNEL
    }

    fn choices(&self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let computes = matches!(step.work, Work::AveragePool { .. }) && step.dtype == DType::F16;
        Choice::only(&AveragePool, computes)
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
        let Work::AveragePool { input, input_shape } = step.work else {
            unreachable!("asked for the pool")
        };
        let params = abi::twinstream_average_pool_params {
            input: arguments.outputs[input],
            output: arguments.output,
            batch: arguments.batch,
            pixels: input_shape.pixel_len() as u32,
            channels: input_shape.channels as u32,
        };
        Launch::new(&KERNEL, self.grid(choice, step, batch_len), params)
    }
}
