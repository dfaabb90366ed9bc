//! Where each layer's output lives while the network runs: offsets into one reused buffer.
//!
//! A tensor keeps its place from the layer that writes it to the last layer that reads it, and a
//! convolution with a residual writes over the residual when nothing reads that later.

use super::network::{Conv, Network, Op, TensorId};

/// Offsets and sizes are multiples of this many values, so that every tensor starts on a cache line
/// whatever its type.
const ALIGN_LEN: usize = 64;

/// The plan of one image's activations, in values; a batch of `b` scales every offset by `b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    offsets: Vec<usize>,
    input_offset: usize,
    value_len: usize,
}

/// When a tensor is needed, and how long it is.
pub(crate) struct Tensor {
    /// Values.
    pub(crate) len: usize,
    /// The step that writes it.
    pub(crate) first: usize,
    /// The last step that reads it.
    pub(crate) last: usize,
    /// Shares the place of this earlier tensor.
    pub(crate) over: Option<usize>,
}

impl Arena {
    /// Plans the activations of `network`, the normalised input image included.
    pub fn new(network: &Network) -> Self {
        let (mut offsets, value_len) = place(lifetimes(network));
        Self { input_offset: offsets[0], offsets: offsets.split_off(1), value_len }
    }

    /// Offset of a tensor, in values an image.
    pub fn offset(&self, tensor: TensorId) -> usize {
        match tensor {
            TensorId::Input => self.input_offset,
            TensorId::Layer(index) => self.offsets[index],
        }
    }

    /// Values that one image needs at the peak.
    pub fn value_len(&self) -> usize {
        self.value_len
    }
}

/// The offset of each tensor, in values, and the values needed at the peak. Tensors are in the order
/// in which they are written.
pub(crate) fn place(mut tensors: Vec<Tensor>) -> (Vec<usize>, usize) {
    // A place that is written over lives on with the tensor that took it.
    for tensor in (0..tensors.len()).rev() {
        tensors[tensor].len = tensors[tensor].len.next_multiple_of(ALIGN_LEN);
        if let Some(over) = tensors[tensor].over {
            tensors[over].last = tensors[tensor].last;
        }
    }
    let mut offsets = vec![0; tensors.len()];
    let mut value_len = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        offsets[index] = match tensor.over {
            Some(over) => offsets[over],
            None => first_fit(&tensors[..index], &offsets, tensor),
        };
        value_len = value_len.max(offsets[index] + tensor.len);
    }
    (offsets, value_len)
}

/// When each tensor (the input, then every layer's output) is written first and read last.
fn lifetimes(network: &Network) -> Vec<Tensor> {
    let index = |tensor: TensorId| match tensor {
        TensorId::Input => 0,
        TensorId::Layer(layer) => layer + 1,
    };
    let input_len = network.input_shape().value_len();
    let mut tensors = vec![Tensor { len: input_len, first: 0, last: 0, over: None }];
    for (step, layer) in network.layers().iter().enumerate() {
        tensors[index(layer.input)].last = step;
        let len = layer.output_shape.value_len();
        tensors.push(Tensor { len, first: step, last: step, over: None });
        if let Op::Conv(Conv { residual: Some(residual), .. }) = layer.op {
            tensors[index(residual)].last = step;
        }
    }
    for (step, layer) in network.layers().iter().enumerate() {
        if let Op::Conv(Conv { residual: Some(residual), .. }) = layer.op
            && tensors[index(residual)].last == step
        {
            tensors[step + 1].over = Some(index(residual));
        }
    }
    tensors
}

/// The lowest offset at which `tensor` overlaps no earlier tensor that is alive with it.
fn first_fit(earlier: &[Tensor], offsets: &[usize], tensor: &Tensor) -> usize {
    let mut taken: Vec<(usize, usize)> = earlier
        .iter()
        .zip(offsets)
        .filter(|(other, _)| other.last >= tensor.first && other.first <= tensor.last)
        .map(|(other, &offset)| (offset, offset + other.len))
        .collect();
    taken.sort_unstable();
    let mut offset = 0;
    for (start, end) in taken {
        if start >= offset + tensor.len {
            break;
        }
        offset = offset.max(end);
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no layer overwrites a tensor that is still read. Method: replay the layers on a map of
    /// which tensor owns each value, over several input sizes.
    #[test]
    fn no_live_tensor_is_overwritten() {
        for (height, width) in [(32, 32), (224, 224), (37, 250)] {
            let network = Network::resnet50(10, height, width).unwrap();
            let arena = Arena::new(&network);
            let mut owner = vec![usize::MAX; arena.value_len()];
            let place = |tensor, len: usize| arena.offset(tensor)..arena.offset(tensor) + len;
            let input_len = network.input_shape().value_len();
            owner[place(TensorId::Input, input_len)].fill(0);
            let owns = |owner: &[usize], tensor, len, layer: &str| {
                let id = if let TensorId::Layer(index) = tensor { index + 1 } else { 0 };
                assert!(owner[place(tensor, len)].iter().all(|&found| found == id), "{layer}");
            };
            for (index, layer) in network.layers().iter().enumerate() {
                owns(&owner, layer.input, layer.input_shape.value_len(), &layer.name);
                let output_len = layer.output_shape.value_len();
                let output = place(TensorId::Layer(index), output_len);
                let input = place(layer.input, layer.input_shape.value_len());
                assert!(output.end <= input.start || input.end <= output.start, "{}", layer.name);
                if let Op::Conv(Conv { residual: Some(residual), .. }) = layer.op {
                    owns(&owner, residual, output_len, &layer.name);
                }
                owner[output].fill(index + 1);
            }
        }
    }

    #[test]
    fn peak_is_three_of_the_largest_tensors_at_most() {
        let arena = Arena::new(&Network::resnet50(1000, 224, 224).unwrap());
        let largest = 112 * 112 * 64;
        assert!(arena.value_len() <= 3 * largest, "{}", arena.value_len());
    }
}
