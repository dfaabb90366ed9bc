//! The layer list of ResNet-50 v1.5 (torchvision's topology: the stride sits in the 3x3
//! convolution), with the shape and cost of every layer at a given input size.
//!
//! Batch norm, bias, residual addition and ReLU belong to the convolution before them; what
//! backends execute at once are the steps of `lower`. Layers are in execution order; each writes
//! one tensor, named by the layer's own index, and reads tensors written earlier.

use crate::error::{Error, Kind, Result};

/// Smallest height or width of an input image: below it layer 4 would have no pixels of its own.
pub const INPUT_SIDE_MIN: usize = 32;
/// Largest height or width of an input image; keeps all sizes far from overflow.
pub const INPUT_SIDE_MAX: usize = 4096;
/// Largest number of classes.
const CLASS_COUNT_MAX: usize = 1 << 20;
/// Colour channels of an input image (RGB).
const INPUT_CHANNELS: usize = 3;
/// Bottleneck blocks of the four stages.
const BLOCK_COUNTS: [usize; 4] = [3, 4, 6, 3];
/// A block's output has this many times the channels of its 3x3 convolution.
const EXPANSION: usize = 4;

/// Height, width and channels of one image's tensor, stored NHWC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values a pixel.
    pub channels: usize,
}

impl Shape {
    /// Pixels of one image.
    pub fn pixel_len(&self) -> usize {
        self.height * self.width
    }

    /// Values of one image.
    pub fn value_len(&self) -> usize {
        self.pixel_len() * self.channels
    }
}

/// A tensor of the network: the input image, or the output of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorId {
    /// The normalised input image.
    Input,
    /// The output of the layer with this index.
    Layer(usize),
}

/// Geometry of a convolution: square kernel, same stride and zero padding on both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Kernel side.
    pub kernel: usize,
    /// Step between output pixels, in input pixels.
    pub stride: usize,
    /// Zero pixels around the input.
    pub padding: usize,
    /// Index of the layer's folded weights and bias, see [`crate::model::Model::filter`].
    pub filter: usize,
    /// Tensor added before the ReLU, of the output's shape.
    pub residual: Option<TensorId>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Whether it brings a block's input to the shape of its output, to be the residual there.
    pub is_projection: bool,
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Convolution with folded batch norm, bias, optional residual and ReLU.
    Conv(Conv),
    /// Largest value of each 3x3 window at stride 2, padding 1.
    MaxPool,
    /// Mean over all pixels.
    GlobalAveragePool,
    /// Matrix product with bias: the class logits. Holds the filter's index.
    FullyConnected(usize),
}

/// One operation of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// torchvision's name of the module, such as `layer1.0.conv2`.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// The tensor that is read.
    pub input: TensorId,
    /// Shape of the tensor that is read.
    pub input_shape: Shape,
    /// Shape of the tensor that is written.
    pub output_shape: Shape,
}

/// What a layer costs for one image, in values and operations (multiply by the size of a type).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerCost {
    /// Multiply-accumulate operations; taps that only see padding are counted, as is usual.
    pub macs: u64,
    /// Weights and biases, read once a batch.
    pub weight_len: u64,
    /// Activations read, the residual included.
    pub read_len: u64,
    /// Activations written.
    pub write_len: u64,
}

impl Op {
    /// Kernel side, stride and padding; pooling over everything is 1, 1, 0.
    pub fn window(&self) -> (usize, usize, usize) {
        match self {
            Self::Conv(conv) => (conv.kernel, conv.stride, conv.padding),
            Self::MaxPool => (3, 2, 1),
            Self::GlobalAveragePool | Self::FullyConnected(_) => (1, 1, 0),
        }
    }
}

impl Layer {
    /// As [`Op::window`].
    pub fn window(&self) -> (usize, usize, usize) {
        self.op.window()
    }

    /// What the layer costs for one image.
    pub fn cost(&self) -> LayerCost {
        let written = self.output_shape.value_len() as u64;
        let mut cost = LayerCost {
            macs: 0,
            weight_len: 0,
            read_len: self.input_shape.value_len() as u64,
            write_len: written,
        };
        if let Op::Conv(_) | Op::FullyConnected(_) = self.op {
            let reduction = (self.window().0.pow(2) * self.input_shape.channels) as u64;
            cost.macs = written * reduction;
            cost.weight_len = self.output_shape.channels as u64 * (reduction + 1);
        }
        if let Op::Conv(Conv { residual: Some(_), .. }) = self.op {
            cost.read_len += written;
        }
        cost
    }
}

impl std::iter::Sum for LayerCost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), |sum, cost| Self {
            macs: sum.macs + cost.macs,
            weight_len: sum.weight_len + cost.weight_len,
            read_len: sum.read_len + cost.read_len,
            write_len: sum.write_len + cost.write_len,
        })
    }
}

/// ResNet-50 at one input size: its layers in execution order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    layers: Vec<Layer>,
    input_shape: Shape,
    class_count: usize,
}

impl Network {
    /// The layer list for images of `height` x `width` pixels and `class_count` classes.
    ///
    /// # Errors
    /// `is_argument` when a side is outside [`INPUT_SIDE_MIN`]..=[`INPUT_SIDE_MAX`], or there is no
    /// class.
    pub fn resnet50(class_count: usize, height: usize, width: usize) -> Result<Self> {
        let sides = INPUT_SIDE_MIN..=INPUT_SIDE_MAX;
        if !sides.contains(&height) || !sides.contains(&width) {
            return Err(Error::new(
                Kind::Argument,
                format!(
                    "input size {height}x{width}: each side must be from {INPUT_SIDE_MIN} to \
                     {INPUT_SIDE_MAX} pixels"
                ),
            ));
        }
        if !(1..=CLASS_COUNT_MAX).contains(&class_count) {
            return Err(Error::new(
                Kind::Argument,
                format!("class count {class_count}: must be from 1 to {CLASS_COUNT_MAX}"),
            ));
        }
        let input_shape = Shape { height, width, channels: INPUT_CHANNELS };
        let mut list = ListBuilder { layers: Vec::new(), filter_len: 0, input_shape };
        list.resnet50(class_count);
        Ok(Self { layers: list.layers, input_shape, class_count })
    }

    /// The layers, in execution order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Shape of an input image: height, width, 3.
    pub fn input_shape(&self) -> Shape {
        self.input_shape
    }

    /// Number of logits an image.
    pub fn class_count(&self) -> usize {
        self.class_count
    }
}

/// Appends layers, each reading a tensor whose shape is already known.
struct ListBuilder {
    layers: Vec<Layer>,
    filter_len: usize,
    input_shape: Shape,
}

impl ListBuilder {
    fn resnet50(&mut self, class_count: usize) {
        let stem = self.conv("conv1".into(), TensorId::Input, 64, (7, 2), None);
        let pool = self.push("maxpool".into(), Op::MaxPool, stem, 64, (3, 2, 1));
        let mut last = pool;
        for (stage, block_count) in BLOCK_COUNTS.into_iter().enumerate() {
            for block in 0..block_count {
                let name = format!("layer{}.{block}", stage + 1);
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                last = self.bottleneck(&name, last, 64 << stage, stride, block == 0);
            }
        }
        let channels = self.shape(last).channels;
        let mean = self.layers.len();
        self.layers.push(Layer {
            name: "avgpool".into(),
            op: Op::GlobalAveragePool,
            input: last,
            input_shape: self.shape(last),
            output_shape: Shape { height: 1, width: 1, channels },
        });
        let filter = self.next_filter();
        self.push(
            "fc".into(),
            Op::FullyConnected(filter),
            TensorId::Layer(mean),
            class_count,
            (1, 1, 0),
        );
    }

    /// 1x1, 3x3 (with the block's stride), 1x1, plus the input or its projection.
    fn bottleneck(
        &mut self,
        name: &str,
        input: TensorId,
        channels: usize,
        stride: usize,
        project: bool,
    ) -> TensorId {
        let first = self.conv(format!("{name}.conv1"), input, channels, (1, 1), None);
        let middle = self.conv(format!("{name}.conv2"), first, channels, (3, stride), None);
        let wide = channels * EXPANSION;
        let shortcut = if project {
            self.projection(format!("{name}.downsample.0"), input, wide, stride)
        } else {
            input
        };
        self.conv(format!("{name}.conv3"), middle, wide, (1, 1), Some(shortcut))
    }

    fn conv(
        &mut self,
        name: String,
        input: TensorId,
        channels: usize,
        (kernel, stride): (usize, usize),
        residual: Option<TensorId>,
    ) -> TensorId {
        let filter = self.next_filter();
        let padding = kernel / 2;
        let (relu, is_projection) = (true, false);
        let op = Op::Conv(Conv { kernel, stride, padding, filter, residual, relu, is_projection });
        self.push(name, op, input, channels, (kernel, stride, padding))
    }

    fn projection(
        &mut self,
        name: String,
        input: TensorId,
        channels: usize,
        stride: usize,
    ) -> TensorId {
        let filter = self.next_filter();
        let (kernel, padding, residual) = (1, 0, None);
        let (relu, is_projection) = (false, true);
        let op = Op::Conv(Conv { kernel, stride, padding, filter, residual, relu, is_projection });
        self.push(name, op, input, channels, (kernel, stride, padding))
    }

    fn push(
        &mut self,
        name: String,
        op: Op,
        input: TensorId,
        channels: usize,
        (kernel, stride, padding): (usize, usize, usize),
    ) -> TensorId {
        let input_shape = self.shape(input);
        let side = |side: usize| (side + 2 * padding - kernel) / stride + 1;
        let output_shape =
            Shape { height: side(input_shape.height), width: side(input_shape.width), channels };
        self.layers.push(Layer { name, op, input, input_shape, output_shape });
        TensorId::Layer(self.layers.len() - 1)
    }

    fn next_filter(&mut self) -> usize {
        self.filter_len += 1;
        self.filter_len - 1
    }

    fn shape(&self, tensor: TensorId) -> Shape {
        match tensor {
            TensorId::Input => self.input_shape,
            TensorId::Layer(index) => self.layers[index].output_shape,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(network: &Network) -> LayerCost {
        network.layers().iter().map(Layer::cost).sum()
    }

    #[test]
    fn cost_at_224_is_the_published_one() {
        let network = Network::resnet50(1000, 224, 224).unwrap();
        let cost = total(&network);
        assert_eq!(cost.macs, 4_089_184_256);
        // torchvision counts 25,557,032 parameters; folding merges each batch norm's two into one.
        assert_eq!(cost.weight_len, 25_557_032 - 26_560);
        assert_eq!(network.layers().len(), 56);
    }

    #[test]
    fn shapes_follow_from_any_input_size() {
        for (height, width, last) in [(32, 32, (1, 1)), (224, 224, (7, 7)), (33, 97, (2, 4))] {
            let network = Network::resnet50(10, height, width).unwrap();
            let mean = &network.layers()[network.layers().len() - 2];
            assert_eq!((mean.input_shape.height, mean.input_shape.width), last);
            assert_eq!(mean.input_shape.channels, 2048);
        }
    }

    #[test]
    fn residuals_have_the_output_shape() {
        let network = Network::resnet50(10, 64, 96).unwrap();
        let layers = network.layers();
        let mut residual_len = 0;
        for layer in layers {
            if let Op::Conv(Conv { residual: Some(TensorId::Layer(from)), .. }) = layer.op {
                assert_eq!(layers[from].output_shape, layer.output_shape, "{}", layer.name);
                residual_len += 1;
            }
        }
        assert_eq!(residual_len, 16);
    }

    #[test]
    fn sizes_out_of_range_are_named() {
        for (height, width) in [(31, 32), (32, 31), (4097, 32), (0, 0)] {
            let error = Network::resnet50(10, height, width).unwrap_err();
            assert!(error.is_argument());
            assert!(error.to_string().contains(&format!("{height}x{width}")), "{error}");
        }
        assert!(Network::resnet50(0, 32, 32).unwrap_err().is_argument());
    }
}
