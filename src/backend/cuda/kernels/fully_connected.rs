//! The last layer: the class logits, in f32.

use half::f16;

use super::abi;
use super::family::Arguments;
use super::launch::{Kernel, Params};
use super::packed::{Packed, quantized, rounded};
use super::single::{Single, any_clocks};
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::{Model, QuantizedFilter};

pub(super) static F16: Single = Single {
    kernel: &Kernel::alone(
        "fully_connected",
        abi::TWINSTREAM_FULLY_CONNECTED_THREADS,
        abi::TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES,
    ),
    dtype: DType::F16,
    computes,
    grid,
    params,
    clocks: any_clocks,
    packed_bytes: |step| {
        let (weight_len, class_count) = lens(step);
        (weight_len * size_of::<f16>(), class_count * size_of::<f32>())
    },
    pack: pack_f16,
};

pub(super) static I8: Single = Single {
    kernel: &Kernel::alone(
        "fully_connected_i8",
        abi::TWINSTREAM_FULLY_CONNECTED_I8_THREADS,
        abi::TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES,
    ),
    dtype: DType::I8,
    computes,
    grid,
    params,
    clocks: any_clocks,
    packed_bytes: |step| {
        let (weight_len, class_count) = lens(step);
        (weight_len, 2 * class_count * size_of::<f32>())
    },
    pack: pack_i8,
};

fn computes(work: &Work) -> bool {
    matches!(work, Work::FullyConnected { .. })
}

fn grid(step: &Step, batch_len: usize) -> [u32; 3] {
    let class_count = step.output_shape.channels as u32;
    let across = class_count.div_ceil(abi::TWINSTREAM_FULLY_CONNECTED_CLASSES);
    [across, (batch_len as u32).div_ceil(abi::TWINSTREAM_FULLY_CONNECTED_IMAGES), 1]
}

fn params(step: &Step, arguments: &Arguments) -> Box<dyn Params> {
    let Work::FullyConnected { input, channels, class_count, .. } = step.work else {
        unreachable!("asked for the last layer")
    };
    Box::new(abi::twinstream_fully_connected_params {
        input: arguments.outputs[input],
        weights: arguments.weights,
        bias: arguments.bias,
        logits: arguments.output,
        batch: arguments.batch,
        result_bytes: arguments.logits_stride_bytes,
        channels: channels as u32,
        classes: class_count as u32,
    })
}

/// Weights and classes.
fn lens(step: &Step) -> (usize, usize) {
    match step.work {
        Work::FullyConnected { channels, class_count, .. } => (channels * class_count, class_count),
        _ => unreachable!("asked for the last layer"),
    }
}

fn filter_of(step: &Step) -> usize {
    match step.work {
        Work::FullyConnected { filter, .. } => filter,
        _ => unreachable!("asked for the last layer"),
    }
}

/// As they are, rounded.
fn pack_f16(model: &Model, step: &Step) -> Result<Packed> {
    let (weights, bias) = rounded(model, "fc", filter_of(step))?;
    Ok(Packed::f16(&weights, bias))
}

/// As they are; the multipliers behind the bias.
fn pack_i8(model: &Model, step: &Step) -> Result<Packed> {
    let filter = quantized(model).filter(filter_of(step))?;
    let QuantizedFilter { weights, multiplier, mut bias } = filter;
    bias.extend(multiplier);
    Ok(Packed::i8(&weights, bias))
}
