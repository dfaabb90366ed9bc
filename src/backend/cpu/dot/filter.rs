//! A layer's weights as they are packed: of either type, from the model.

use std::ops::Range;

use half::bf16;

use super::bytes::Bytes;
use super::order;
use super::region::Region;
use super::tile::{PANEL_LEN, PANEL_STEP_BYTES, STEP_BYTES};
use crate::error::Result;
use crate::lower::DType;
use crate::model::{Model, ModelConfig, Quantized, QuantizedFilter};

/// A filter in 8-bit integers or bf16.
pub(super) enum Filter {
    Integers(QuantizedFilter),
    Halves { weights: Vec<bf16>, bias: Vec<f32> },
}

/// Weights as kernels read them: by panel and kernel row, `[step][channel][value of the step]`;
/// channels beyond the last are zeros.
pub(super) struct Packed {
    bytes: Bytes,
    pub(super) panel_len: usize,
    /// Bytes of a panel.
    pub(super) panel_bytes: usize,
    /// Bytes of a channel's kernel row, whole steps.
    pub(super) row_bytes: usize,
}

impl Filter {
    /// Filter `index` of a layer that reads activations.
    pub(super) fn new(model: &Model, dtype: DType, index: usize) -> Result<Self> {
        if dtype == DType::I8 {
            return Ok(Self::Integers(quantized(model).filter(index)?));
        }
        let filter = model.filter(index)?;
        let weights = filter.weights.into_iter().map(bf16::from_f32).collect();
        Ok(Self::Halves { weights, bias: filter.bias })
    }

    /// Filter `index` of the layer that reads pixels, which takes them from 0 to 255.
    pub(super) fn of_pixels(model: &Model, dtype: DType, index: usize) -> Result<Self> {
        if dtype == DType::I8 {
            return Self::new(model, dtype, index);
        }
        let filter = model.filter(index)?;
        let std = model.config().std;
        let folded = filter.weights.into_iter().enumerate().map(|(index, weight)| {
            bf16::from_f64(f64::from(weight) / (PIXEL_MAX * f64::from(std[index % std.len()])))
        });
        Ok(Self::Halves { weights: folded.collect(), bias: filter.bias })
    }

    /// What the sums are multiplied with; none where both have one unit.
    pub(super) fn multiplier(&self) -> Option<&[f32]> {
        match self {
            Self::Integers(filter) => Some(&filter.multiplier),
            Self::Halves { .. } => None,
        }
    }

    /// What is added to the sums' multiples.
    pub(super) fn bias(&self) -> &[f32] {
        match self {
            Self::Integers(QuantizedFilter { bias, .. }) | Self::Halves { bias, .. } => bias,
        }
    }

    /// The bias of the layer that reads pixels, where just these kernel rows and columns see some.
    pub(super) fn border_bias(&self, model: &Model, region: &Region) -> Vec<f32> {
        let (rows, columns) = (region.rows.taps.clone(), region.columns.taps.clone());
        match self {
            Self::Integers(filter) => quantized(model).stem_bias(filter, rows, columns),
            Self::Halves { weights, bias } => {
                border_bias(weights, bias, model.config(), rows, columns)
            }
        }
    }

    /// The weights of a square kernel of side `kernel`.
    pub(super) fn pack(&self, kernel: usize) -> Packed {
        let channel_len = self.bias().len();
        let row_len = |weight_len: usize| weight_len / channel_len / kernel;
        match self {
            Self::Integers(QuantizedFilter { weights, .. }) => {
                let byte = |index: usize| weights[index] as u8;
                pack((channel_len, kernel, row_len(weights.len())), order::of_integers, byte)
            }
            Self::Halves { weights, .. } => {
                let byte = |index: usize| weights[index / 2].to_ne_bytes()[index % 2];
                pack((channel_len, kernel, 2 * row_len(weights.len())), |place| place, byte)
            }
        }
    }

    /// A value a channel in the panels' order.
    pub(super) fn in_order(&self, values: &[f32]) -> Vec<f32> {
        let channel = |place: usize| match self {
            Self::Integers(_) => order::of_integers(place),
            Self::Halves { .. } => place,
        };
        let places = 0..values.len().next_multiple_of(PANEL_LEN);
        let value = |place: usize| {
            let first = place / PANEL_LEN * PANEL_LEN;
            values.get(first + channel(place % PANEL_LEN)).copied().unwrap_or(0.0)
        };
        places.map(value).collect()
    }
}

/// What a pixel's value is divided by before mean and standard deviation.
const PIXEL_MAX: f64 = 255.0;

fn quantized(model: &Model) -> &Quantized {
    model.quantized().expect("8-bit integers are computed with such a model alone")
}

/// Elsewhere is the mean, which the taps that see an image take off their sums.
fn border_bias(
    weights: &[bf16],
    bias: &[f32],
    config: &ModelConfig,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Vec<f32> {
    let mean = config.mean.map(|mean| PIXEL_MAX * f64::from(mean));
    let taps = weights.len() / bias.len() / mean.len();
    let kernel = taps.isqrt();
    let of_channel = |(weights, &bias): (&[bf16], &f32)| {
        let mut offset = 0.0;
        for row in rows.clone() {
            for tap in columns.clone().map(|column| row * kernel + column) {
                let weights = &weights[tap * mean.len()..];
                offset += weights.iter().zip(mean).map(|(w, mean)| w.to_f64() * mean).sum::<f64>();
            }
        }
        (f64::from(bias) - offset) as f32
    };
    weights.chunks_exact(taps * mean.len()).zip(bias).map(of_channel).collect()
}

/// Packs `channel_len` channels of `kernel` rows of so many bytes.
fn pack(
    (channel_len, kernel, from_row_bytes): (usize, usize, usize),
    channel_at: impl Fn(usize) -> usize,
    byte: impl Fn(usize) -> u8,
) -> Packed {
    let row_bytes = from_row_bytes.next_multiple_of(STEP_BYTES);
    let panel_bytes = kernel * row_bytes * PANEL_LEN;
    let panel_len = channel_len.div_ceil(PANEL_LEN);
    let mut bytes = Bytes::new(panel_len * panel_bytes);
    for place in 0..panel_len * PANEL_LEN {
        let (panel, place) = (place / PANEL_LEN, place % PANEL_LEN);
        let channel = panel * PANEL_LEN + channel_at(place);
        if channel >= channel_len {
            continue;
        }
        for row in 0..kernel {
            let from = (channel * kernel + row) * from_row_bytes;
            let row = panel * panel_bytes + row * row_bytes * PANEL_LEN + place * STEP_BYTES;
            for at in 0..from_row_bytes {
                let to = row + at / STEP_BYTES * PANEL_STEP_BYTES + at % STEP_BYTES;
                *bytes.at(to) = byte(from + at);
            }
        }
    }
    Packed { bytes, panel_len, panel_bytes, row_bytes }
}

impl Packed {
    /// All bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.panel_len * self.panel_bytes
    }

    /// A panel, from so many bytes of each channel on.
    pub(super) fn panel(&self, panel: usize, from_bytes: usize) -> *const u8 {
        self.bytes.as_ptr().wrapping_add(panel * self.panel_bytes + from_bytes * PANEL_LEN)
    }
}
