//! The last layer of 8-bit integers: the class logits, in f32.

use super::abi;
use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch};
use super::packed::{Packed, quantized};
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Model, QuantizedFilter};

static KERNEL: Kernel = Kernel::alone(
    "fully_connected_i8",
    abi::TWINSTREAM_FULLY_CONNECTED_I8_THREADS,
    abi::TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES,
);

/// See the module.
#[derive(Debug)]
pub(super) struct FullyConnectedI8;

impl Family for FullyConnectedI8 {
    fn kernel(&self, _: usize) -> &'static Kernel {
        &KERNEL
    }

    fn choices(&self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let computes = matches!(step.work, Work::FullyConnected { .. }) && step.dtype == DType::I8;
        Choice::only(&FullyConnectedI8, computes)
    }

    fn grid(&self, _: Choice, step: &Step, batch_len: usize) -> [u32; 3] {
        let class_count = step.output_shape.channels as u32;
        let across = class_count.div_ceil(abi::TWINSTREAM_FULLY_CONNECTED_CLASSES);
        [across, (batch_len as u32).div_ceil(abi::TWINSTREAM_FULLY_CONNECTED_IMAGES), 1]
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
        let Work::FullyConnected { input, channels, class_count, .. } = step.work else {
            unreachable!("asked for the last layer")
        };
        let params = abi::twinstream_fully_connected_params {
            input: arguments.outputs[input],
            weights: arguments.weights,
            bias: arguments.bias,
            logits: arguments.output,
            batch: arguments.batch,
            result_bytes: arguments.logits_stride_bytes,
            channels: channels as u32,
            classes: class_count as u32,
        };
        Launch::new(&KERNEL, self.grid(choice, step, batch_len), params)
    }

    fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        let Work::FullyConnected { channels, class_count, .. } = step.work else {
            unreachable!("asked for the last layer")
        };
        (channels * class_count, 2 * class_count * size_of::<f32>())
    }

    /// As they are; the multipliers behind the bias.
    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        let Work::FullyConnected { filter, .. } = step.work else {
            unreachable!("asked for the last layer")
        };
        let QuantizedFilter { weights, multiplier, mut bias } = quantized(model).filter(filter)?;
        bias.extend(multiplier);
        Ok(Packed::i8(&weights, bias))
    }
}
