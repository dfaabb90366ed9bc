//! The network as the steps that a backend executes: what is fused with what, and where each step's
//! output lies.
//!
//! Invariant: one list for all backends; a step reads outputs of earlier ones alone, and none
//! overwrites what is still read. Fused are the stem with the max pool, and a block's projection
//! with its last convolution. Knows sizes, types and offsets, no address or device.

mod arena;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::model::{Conv, Layer, Network, Op, Shape, TensorId};
use crate::words::did_you_mean;
pub(crate) use arena::ALIGN_LEN;
use arena::{Tensor, place};

/// A type of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DType {
    /// The upper half of IEEE binary32.
    BF16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
    /// 8-bit integers: weights are signed, activations are not.
    I8,
}

impl DType {
    /// As they are written.
    const ALL: [(Self, &str); 4] =
        [(Self::BF16, "bf16"), (Self::F16, "f16"), (Self::F32, "f32"), (Self::I8, "i8")];

    /// Bytes of a value.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::BF16 | Self::F16 => 2,
            Self::F32 => 4,
            Self::I8 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_it = |(dtype, _): &&(Self, &str)| dtype == self;
        f.write_str(Self::ALL.iter().find(is_it).map_or("", |(_, name)| name))
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(dtype, _)| dtype).ok_or_else(|| {
            let guess = did_you_mean(text, Self::ALL.into_iter().map(|(_, name)| name));
            let message =
                format!("`{text}`: not a precision: expected f32, bf16, f16 or i8{guess}");
            Error::new(Kind::Argument, message)
        })
    }
}

/// A run of kernel rows or columns that ever see a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// The first of them.
    pub first: usize,
    /// How many there are.
    pub len: usize,
}

impl Taps {
    /// Those of `kernel` taps that for some output lie within the input.
    fn new(conv: Conv, input: usize, output: usize) -> Self {
        let sees = |tap: &usize| {
            (0..output).any(|pixel| {
                let at = pixel * conv.stride + tap;
                at >= conv.padding && at < input + conv.padding
            })
        };
        let used: Vec<usize> = (0..conv.kernel).filter(sees).collect();
        let (first, last) = (used[0], used[used.len() - 1]);
        Self { first, len: last - first + 1 }
    }
}

/// A projection that is added within the convolution that it goes around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortcut {
    /// The step whose output it reads.
    pub input: usize,
    /// Shape of what it reads.
    pub input_shape: Shape,
    /// Input pixels between output pixels, on both axes; its kernel is 1x1, without padding.
    pub stride: usize,
    /// Index of its weights and bias, see [`crate::model::Model::filter`].
    pub filter: usize,
}

/// A convolution, with the projection that is added to it, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvStep {
    /// The step whose output it reads.
    pub input: usize,
    /// Kernel, filter and ReLU.
    pub conv: Conv,
    /// Shape of what it reads.
    pub input_shape: Shape,
    /// Shape of what it writes.
    pub output_shape: Shape,
    /// Kernel rows in use.
    pub rows: Taps,
    /// Kernel columns in use.
    pub columns: Taps,
    /// The step whose output is added, and whose place in the arena this step's output takes.
    pub residual: Option<usize>,
    /// The projection that is added in place of a residual.
    pub shortcut: Option<Shortcut>,
}

impl ConvStep {
    /// Terms of one output value's sum, the projection's among them.
    pub fn sum_len(&self) -> usize {
        self.rows.len * self.columns.len * self.input_shape.channels
            + self.shortcut.map_or(0, |shortcut| shortcut.input_shape.channels)
    }
}

/// What one step computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Pixels to pooled activations.
    Stem {
        /// Index of the convolution's weights and bias.
        filter: usize,
        /// Shape of the image.
        input_shape: Shape,
        /// Shape of the convolution's output, before the pool.
        conv_shape: Shape,
    },
    /// A convolution.
    Conv(ConvStep),
    /// Mean over all pixels.
    AveragePool {
        /// The step whose output it reads.
        input: usize,
        /// Shape of what it reads.
        input_shape: Shape,
    },
    /// The class logits.
    FullyConnected {
        /// The step whose output it reads.
        input: usize,
        /// Index of its weights and bias.
        filter: usize,
        /// Values that it reads.
        channels: usize,
        /// Values that it writes.
        class_count: usize,
    },
}

/// A step and where its output lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// torchvision's name of the layer; the last of those that are fused.
    pub name: String,
    /// What it computes.
    pub work: Work,
    /// Type of its weights, and of the activations that it reads and writes. Pixels are u8, sums,
    /// biases and logits are f32, whatever it is.
    pub dtype: DType,
    /// Shape of what it writes.
    pub output_shape: Shape,
    /// Values from the start of the arena, for one image; a batch scales it. The logits lie
    /// elsewhere: theirs means nothing.
    pub offset: usize,
}

/// The network's steps in execution order, whatever the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The steps; the first is the stem, the last the fully connected layer.
    pub list: Vec<Step>,
    /// Values that one image's activations need at the peak. They are all of one type.
    pub arena_len: usize,
}

impl Steps {
    /// Fuses the layers of `network`, to be computed in `dtype`, and places their outputs.
    pub fn new(network: &Network, dtype: DType) -> Self {
        let layers = network.layers();
        // The step that writes a tensor; projections and the unpooled stem have none.
        let mut step_of = vec![usize::MAX; layers.len()];
        let mut list: Vec<Step> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let Some(work) = work(layers, layer, &step_of) else { continue };
            step_of[index] = list.len();
            let (name, output_shape) = (layer.name.clone(), layer.output_shape);
            list.push(Step { name, work, dtype, output_shape, offset: 0 });
        }
        let (offsets, arena_len) = place(lifetimes(&list));
        list.iter_mut().zip(offsets).for_each(|(step, offset)| step.offset = offset);
        Self { list, arena_len }
    }

    /// Bytes that one image's activations need at the peak.
    pub fn arena_bytes(&self) -> usize {
        self.arena_len * self.list[0].dtype.size_bytes()
    }

    /// Shape of an image.
    pub fn input_shape(&self) -> Shape {
        match self.list[0].work {
            Work::Stem { input_shape, .. } => input_shape,
            _ => unreachable!("the network begins with the stem"),
        }
    }

    /// Logits of an image.
    pub fn class_count(&self) -> usize {
        self.list[self.list.len() - 1].output_shape.channels
    }
}

/// The step for a layer; none where another layer's does its work.
fn work(layers: &[Layer], layer: &Layer, step_of: &[usize]) -> Option<Work> {
    let step = |tensor: TensorId| match tensor {
        TensorId::Layer(index) => step_of[index],
        TensorId::Input => unreachable!("only the stem reads the image"),
    };
    Some(match layer.op {
        // The pool's step computes it.
        Op::Conv(_) if layer.input == TensorId::Input => return None,
        // The block's last convolution adds it.
        Op::Conv(conv) if conv.is_projection => return None,
        Op::Conv(conv) => {
            let added = conv.residual.map(|tensor| match tensor {
                TensorId::Layer(index) => (&layers[index], index),
                TensorId::Input => unreachable!("only the stem reads the image"),
            });
            let (mut residual, mut shortcut) = (None, None);
            match added {
                Some((Layer { op: Op::Conv(projection), input, input_shape, .. }, _))
                    if projection.is_projection =>
                {
                    shortcut = Some(Shortcut {
                        input: step(*input),
                        input_shape: *input_shape,
                        stride: projection.stride,
                        filter: projection.filter,
                    });
                }
                Some((_, index)) => residual = Some(step_of[index]),
                None => {}
            }
            let (input, output) = (layer.input_shape, layer.output_shape);
            Work::Conv(ConvStep {
                input: step(layer.input),
                conv,
                input_shape: input,
                output_shape: output,
                rows: Taps::new(conv, input.height, output.height),
                columns: Taps::new(conv, input.width, output.width),
                residual,
                shortcut,
            })
        }
        Op::MaxPool => {
            let stem = &layers[0];
            let Op::Conv(Conv { filter, .. }) = stem.op else {
                unreachable!("the network begins with a convolution")
            };
            let (input_shape, conv_shape) = (stem.input_shape, stem.output_shape);
            Work::Stem { filter, input_shape, conv_shape }
        }
        Op::GlobalAveragePool => {
            Work::AveragePool { input: step(layer.input), input_shape: layer.input_shape }
        }
        Op::FullyConnected(filter) => Work::FullyConnected {
            input: step(layer.input),
            filter,
            channels: layer.input_shape.channels,
            class_count: layer.output_shape.channels,
        },
    })
}

/// When each step's output is written and last read; the logits lie elsewhere.
fn lifetimes(list: &[Step]) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::with_capacity(list.len());
    for (index, step) in list.iter().enumerate() {
        let (mut inputs, mut residual, mut len) = (Vec::new(), None, step.output_shape.value_len());
        match &step.work {
            Work::Stem { .. } => {}
            Work::Conv(conv) => {
                inputs.push(conv.input);
                inputs.extend(conv.shortcut.map(|shortcut| shortcut.input));
                inputs.extend(conv.residual);
                residual = conv.residual;
            }
            Work::AveragePool { input, .. } => inputs.push(*input),
            Work::FullyConnected { input, .. } => {
                inputs.push(*input);
                len = 0;
            }
        }
        inputs.into_iter().for_each(|input| tensors[input].last = index);
        // A residual is read here last, in every block.
        tensors.push(Tensor { len, first: index, last: index, over: residual });
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no step overwrites what is still read, and each reads what was written for it.
    /// Method: replay the steps on a map of which step owns each value.
    #[test]
    fn no_live_activation_is_overwritten() {
        for (height, width) in [(32, 32), (224, 224), (37, 250)] {
            let network = Network::resnet50(10, height, width).unwrap();
            let steps = Steps::new(&network, DType::F32);
            let mut owner = vec![usize::MAX; steps.arena_len];
            let place = |step: &Step| step.offset..step.offset + step.output_shape.value_len();
            for (index, step) in steps.list.iter().enumerate() {
                let reads = match &step.work {
                    Work::Stem { .. } => vec![],
                    Work::Conv(conv) => {
                        let shortcut = conv.shortcut.map(|shortcut| shortcut.input);
                        [Some(conv.input), conv.residual, shortcut].into_iter().flatten().collect()
                    }
                    Work::AveragePool { input, .. } | Work::FullyConnected { input, .. } => {
                        vec![*input]
                    }
                };
                for read in reads {
                    let values = &owner[place(&steps.list[read])];
                    assert!(values.iter().all(|&owner| owner == read), "{}", step.name);
                }
                if !matches!(step.work, Work::FullyConnected { .. }) {
                    owner[place(step)].fill(index);
                }
            }
        }
    }

    #[test]
    fn projections_and_the_stem_are_fused() {
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap(), DType::F32);
        // 56 layers, less the unpooled stem and four projections.
        assert_eq!(steps.list.len(), 51);
        let convs = steps.list.iter().filter_map(|step| match &step.work {
            Work::Conv(conv) => Some(conv),
            _ => None,
        });
        let convs: Vec<_> = convs.collect();
        assert_eq!(convs.iter().filter(|conv| conv.shortcut.is_some()).count(), 4);
        assert_eq!(convs.iter().filter(|conv| conv.residual.is_some()).count(), 12);
        // Three of the largest tensors fit the peak: 56 x 56 x 256, and less for the others.
        assert!(steps.arena_len <= 3 * 56 * 56 * 256, "{}", steps.arena_len);
    }

    #[test]
    fn taps_that_see_padding_alone_are_left_out() {
        let network = Network::resnet50(10, 32, 32).unwrap();
        let steps = Steps::new(&network, DType::F32);
        let taps =
            |name: &str| match &steps.list.iter().find(|step| step.name == name).unwrap().work {
                Work::Conv(conv) => (conv.rows, conv.columns),
                _ => unreachable!(),
            };
        let run = |first, len| Taps { first, len };
        // 8 pixels, 2 to 1 pixels, 1 pixel.
        assert_eq!(taps("layer1.0.conv2"), (run(0, 3), run(0, 3)));
        assert_eq!(taps("layer4.0.conv2"), (run(1, 2), run(1, 2)));
        assert_eq!(taps("layer4.1.conv2"), (run(1, 1), run(1, 1)));
    }
}
