//! The layer list as launches: which kernel computes what, from where to where, for one longest
//! batch.
//!
//! Invariant: a plan holds sizes and offsets alone, no address, so it is the same on every device
//! but for the tiles, which are chosen for one. Fused are the stem with the max pool, and a block's
//! projection with its last convolution.

use super::choice::{Choice, Chooser};
use super::launch as abi;
use crate::model::{Conv, Layer, Network, Op, Shape, Tensor, TensorId, place};

/// Longest batches that there is a plan, and a graph, for.
pub(super) const BUCKETS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Bytes of an activation.
pub(super) const VALUE_BYTES: usize = 2;
/// Activations that a kernel copies at once.
const CHUNK_LEN: usize = 8;
/// Values of K that a kernel takes at a step.
pub(super) const STEP_LEN: usize = abi::TWINSTREAM_CHANNEL_STEP as usize;

/// A run of kernel rows or columns that ever see a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taps {
    pub(super) first: usize,
    pub(super) len: usize,
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
pub(super) struct Shortcut {
    /// The step whose output it reads.
    pub(super) input: usize,
    pub(super) input_shape: Shape,
    pub(super) stride: usize,
    pub(super) filter: usize,
}

/// A convolution, as one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConvStep {
    /// The step whose output it reads.
    pub(super) input: usize,
    pub(super) conv: Conv,
    pub(super) input_shape: Shape,
    pub(super) output_shape: Shape,
    pub(super) rows: Taps,
    pub(super) columns: Taps,
    /// The step whose output is added.
    pub(super) residual: Option<usize>,
    pub(super) shortcut: Option<Shortcut>,
}

impl ConvStep {
    /// Terms of one output value's sum.
    pub(super) fn sum_len(&self) -> usize {
        self.rows.len * self.columns.len * self.input_shape.channels
            + self.shortcut.map_or(0, |shortcut| shortcut.input_shape.channels)
    }
}

/// What one launch computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Pixels to pooled activations: input shape and the convolution's output shape.
    Stem { filter: usize, input_shape: Shape, conv_shape: Shape },
    /// A convolution.
    Conv(ConvStep),
    /// Mean over all pixels of a step's output.
    AveragePool { input: usize, input_shape: Shape },
    /// The class logits of a step's output.
    FullyConnected { input: usize, filter: usize, channels: usize, class_count: usize },
}

/// A launch and where its output lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// torchvision's name of the layer; the last of those that are fused.
    pub(super) name: String,
    pub(super) work: Work,
    pub(super) output_shape: Shape,
    /// Values from the start of the arena, for one image; a batch scales it.
    pub(super) offset: usize,
}

/// The network's launches, whatever the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) list: Vec<Step>,
    /// Values that one image's activations need at the peak.
    pub(super) arena_len: usize,
}

impl Steps {
    pub(super) fn new(network: &Network) -> Self {
        let layers = network.layers();
        // The step that writes a tensor; projections and the unpooled stem have none.
        let mut step_of = vec![usize::MAX; layers.len()];
        let mut list: Vec<Step> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let Some(work) = work(layers, layer, &step_of) else { continue };
            step_of[index] = list.len();
            let (name, output_shape) = (layer.name.clone(), layer.output_shape);
            list.push(Step { name, work, output_shape, offset: 0 });
        }
        let (offsets, arena_len) = place(lifetimes(&list));
        list.iter_mut().zip(offsets).for_each(|(step, offset)| step.offset = offset);
        Self { list, arena_len }
    }

    /// Of an image.
    pub(super) fn input_shape(&self) -> Shape {
        match self.list[0].work {
            Work::Stem { input_shape, .. } => input_shape,
            _ => unreachable!("the network begins with the stem"),
        }
    }

    /// Longest batch whose activations the kernels can address: with a signed 32-bit number of
    /// chunks, 16 bytes each. Only images of thousands of pixels a side come near.
    pub(super) fn batch_len_limit(&self) -> usize {
        let image_len = self.list.iter().map(|step| step.output_shape.value_len()).max();
        let chunk_len = image_len.unwrap_or(1).div_ceil(CHUNK_LEN);
        i32::MAX as usize / chunk_len
    }

    /// Logits of an image.
    pub(super) fn class_count(&self) -> usize {
        self.list[self.list.len() - 1].output_shape.channels
    }
}

/// The launch for a layer; none where another layer's does its work.
fn work(layers: &[Layer], layer: &Layer, step_of: &[usize]) -> Option<Work> {
    let step = |tensor: TensorId| match tensor {
        TensorId::Layer(index) => step_of[index],
        TensorId::Input => unreachable!("only the stem reads the image"),
    };
    Some(match layer.op {
        // The pool's launch computes it.
        Op::Conv(_) if layer.input == TensorId::Input => return None,
        // The block's last convolution adds it.
        Op::Conv(conv) if !conv.relu => return None,
        Op::Conv(conv) => {
            let added = conv.residual.map(|tensor| match tensor {
                TensorId::Layer(index) => (&layers[index], index),
                TensorId::Input => unreachable!("only the stem reads the image"),
            });
            let (mut residual, mut shortcut) = (None, None);
            match added {
                Some((Layer { op: Op::Conv(projection), input, input_shape, .. }, _))
                    if !projection.relu =>
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

/// The tiles of all convolutions for batches up to one length, and the memory that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Longest batch.
    pub(super) batch_len: usize,
    /// By step; none for other than convolutions.
    pub(super) choices: Vec<Option<Choice>>,
    /// Bytes of partial sums, at the peak.
    pub(super) partials_bytes: usize,
    /// Counters of arrived blocks, at the peak.
    pub(super) arrival_len: usize,
}

impl Plan {
    pub(super) fn new(steps: &Steps, batch_len: usize, chooser: &Chooser) -> Self {
        let mut plan = Self { batch_len, choices: Vec::new(), partials_bytes: 0, arrival_len: 0 };
        for step in &steps.list {
            let choice = match &step.work {
                Work::Conv(conv) => {
                    let choice = chooser.choose(&step.name, conv, batch_len);
                    plan.make_room(conv, choice);
                    Some(choice)
                }
                _ => None,
            };
            plan.choices.push(choice);
        }
        plan
    }

    /// Makes the shared memory large enough for a choice.
    pub(super) fn make_room(&mut self, conv: &ConvStep, choice: Choice) {
        if choice.split_len > 1 {
            let tile_len = choice.grid(conv, self.batch_len)[..2].iter().product::<u32>() as usize;
            let tile_bytes = choice.tile().m * choice.tile().n * size_of::<f32>();
            self.partials_bytes =
                self.partials_bytes.max(tile_len * choice.split_len as usize * tile_bytes);
            self.arrival_len = self.arrival_len.max(tile_len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the longest batch is cut where the kernels' numbers end, far from common sizes.
    #[test]
    fn batches_are_as_long_as_kernels_can_count() {
        let limit =
            |side| Steps::new(&Network::resnet50(10, side, side).unwrap()).batch_len_limit();
        assert!(limit(1024) > 256);
        // The first block writes 1024 x 1024 x 256 values an image.
        assert_eq!(limit(4096), 63);
    }

    /// Goal: no launch overwrites what is still read, and each reads what was written for it.
    /// Method: replay the steps on a map of which step owns each value.
    #[test]
    fn no_live_activation_is_overwritten() {
        for (height, width) in [(32, 32), (224, 224), (37, 250)] {
            let network = Network::resnet50(10, height, width).unwrap();
            let steps = Steps::new(&network);
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
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap());
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
        let steps = Steps::new(&network);
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
