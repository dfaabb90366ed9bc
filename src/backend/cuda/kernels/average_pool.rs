//! The mean over all pixels.

use super::abi;
use super::family::Arguments;
use super::launch::{Kernel, Params};
use super::packed::{Packed, quantized};
use super::single::{Single, any_clocks};
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Model, Shape};

/// Channels that a block takes.
const BLOCK_CHANNEL_LEN: usize = 64;

pub(super) static F16: Single = Single {
    kernel: &Kernel::alone(
        "average_pool",
        abi::TWINSTREAM_AVERAGE_POOL_THREADS,
        abi::TWINSTREAM_AVERAGE_POOL_SHARED_BYTES,
    ),
    dtype: DType::F16,
    computes,
    grid,
    params,
    clocks: any_clocks,
    packed_bytes: |_| (0, 0),
    pack: |_, _| Ok(Packed::default()),
};

pub(super) static I8: Single = Single {
    kernel: &Kernel::alone(
        "average_pool_i8",
        abi::TWINSTREAM_AVERAGE_POOL_I8_THREADS,
        abi::TWINSTREAM_AVERAGE_POOL_I8_SHARED_BYTES,
    ),
    dtype: DType::I8,
    computes,
    grid,
    params,
    clocks: any_clocks,
    packed_bytes: |_| (0, size_of::<f32>()),
    pack: pack_i8,
};

fn computes(work: &Work) -> bool {
    matches!(work, Work::AveragePool { .. })
}

/// The step whose output it reads, and its shape.
fn input_of(step: &Step) -> (usize, Shape) {
    match step.work {
        Work::AveragePool { input, input_shape } => (input, input_shape),
        _ => unreachable!("asked for the pool"),
    }
}

fn grid(step: &Step, batch_len: usize) -> [u32; 3] {
    [(step.output_shape.channels / BLOCK_CHANNEL_LEN) as u32, batch_len as u32, 1]
}

fn params(step: &Step, arguments: &Arguments) -> Box<dyn Params> {
    let (input, input_shape) = input_of(step);
    Box::new(abi::twinstream_average_pool_params {
        input: arguments.outputs[input],
        multiplier: arguments.bias,
        output: arguments.output,
        batch: arguments.batch,
        pixels: input_shape.pixel_len() as u32,
        channels: input_shape.channels as u32,
    })
}

/// What the sum is multiplied with.
fn pack_i8(model: &Model, step: &Step) -> Result<Packed> {
    let (_, input_shape) = input_of(step);
    let multiplier = quantized(model).average_multiplier(input_shape.pixel_len());
    Ok(Packed::i8(&[], vec![multiplier]))
}
