//! Where tensors live in one reused buffer: offsets.
//!
//! A tensor keeps its place from the step that writes it to the last step that reads it, or hands
//! it on to a tensor that is written over it.

/// Offsets and sizes are multiples of this many values, so that every tensor starts on a cache line
/// whatever its type.
pub(crate) const ALIGN_LEN: usize = 64;

/// When a tensor is needed, and how long it is.
pub(super) struct Tensor {
    /// Values.
    pub(super) len: usize,
    /// The step that writes it.
    pub(super) first: usize,
    /// The last step that reads it.
    pub(super) last: usize,
    /// Shares the place of this earlier tensor.
    pub(super) over: Option<usize>,
}

/// The offset of each tensor, in values, and the values needed at the peak. Tensors are in order of
/// their writing.
pub(super) fn place(mut tensors: Vec<Tensor>) -> (Vec<usize>, usize) {
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
