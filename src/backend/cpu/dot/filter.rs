//! A layer's weights as they are packed: of either type, from the model.

use std::ops::Range;

use half::bf16;

use super::bytes::Bytes;
use super::region::Region;
use super::tile::{Kernels, STEP_BYTES};
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
    /// Panels.
    pub(super) panels: usize,
    /// Channels of a panel.
    panel_len: usize,
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
    pub(super) fn pack(&self, kernels: &Kernels, kernel: usize) -> Packed {
        let channel_len = self.bias().len();
        let row_len = |weight_len: usize| weight_len / channel_len / kernel;
        match self {
            Self::Integers(QuantizedFilter { weights, .. }) => {
                let byte = |index: usize| weights[index] as u8;
                pack(kernels, (channel_len, kernel, row_len(weights.len())), byte)
            }
            Self::Halves { weights, .. } => {
                let byte = |index: usize| weights[index / 2].to_ne_bytes()[index % 2];
                pack(kernels, (channel_len, kernel, 2 * row_len(weights.len())), byte)
            }
        }
    }
}

/// A value a channel in the panels' order.
pub(super) fn in_order(kernels: &Kernels, values: &[f32]) -> Vec<f32> {
    let places = 0..values.len().next_multiple_of(kernels.panel_len);
    let value = |place| values.get(channel_at(kernels, place)).copied().unwrap_or(0.0);
    places.map(value).collect()
}

/// The channel at a place of all panels.
fn channel_at(kernels: &Kernels, place: usize) -> usize {
    let in_panel = place % kernels.panel_len;
    place - in_panel + (kernels.channel)(in_panel)
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
    kernels: &Kernels,
    (channel_len, kernel, from_row_bytes): (usize, usize, usize),
    byte: impl Fn(usize) -> u8,
) -> Packed {
    let panel_len = kernels.panel_len;
    let row_bytes = from_row_bytes.next_multiple_of(STEP_BYTES);
    let panel_bytes = kernel * row_bytes * panel_len;
    let panels = channel_len.div_ceil(panel_len);
    let mut bytes = Bytes::new(panels * panel_bytes);
    for place in 0..panels * panel_len {
        let channel = channel_at(kernels, place);
        if channel >= channel_len {
            continue;
        }
        let (panel, place) = (place / panel_len, place % panel_len);
        for row in 0..kernel {
            let from = (channel * kernel + row) * from_row_bytes;
            let row = panel * panel_bytes + row * row_bytes * panel_len + place * STEP_BYTES;
            for at in 0..from_row_bytes {
                let step = at / STEP_BYTES * STEP_BYTES * panel_len;
                *bytes.at(row + step + at % STEP_BYTES) = byte(from + at);
            }
        }
    }
    Packed { bytes, panels, panel_len, panel_bytes, row_bytes }
}

impl Packed {
    /// All bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.panels * self.panel_bytes
    }

    /// A panel, from so many bytes of each channel on.
    pub(super) fn panel(&self, panel: usize, from_bytes: usize) -> *const u8 {
        self.bytes.as_ptr().wrapping_add(panel * self.panel_bytes + from_bytes * self.panel_len)
    }
}
