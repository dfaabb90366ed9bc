//! The layers' weights and biases in the form that the file has, and how small scales may be.
//!
//! Invariant: with the scales that come of it, and any of the candidates for tensors, no sum or
//! result leaves the range that is checked when the file is opened. Knows how layers hang together,
//! not how a scale is found.

use super::balance::{scale_inputs, scale_outputs};
use super::histogram::Method;
use super::report::WeightsReport;
use super::weights::{Quantized, quantize};
use crate::error::Result;
use crate::lower::{ConvStep, Steps, Work};
use crate::model::{Filter, FilterParts, Model};

/// Largest u8.
const LEVEL_MAX: f64 = 255.0;
/// What a pixel's value is divided by before mean and standard deviation.
const PIXEL_MAX: f32 = 255.0;
/// Sums and results stay below it, an eighth of what is checked.
const RESULT_MAX: f64 = (1u32 << 27) as f64;

/// A layer with a filter.
pub(super) struct Layer {
    pub(super) quantized: Quantized,
    pub(super) bias: Vec<f32>,
}

impl Layer {
    pub(super) fn into_parts(self) -> FilterParts {
        let Quantized { weights, scales, .. } = self.quantized;
        FilterParts { weights, scale: scales, bias: self.bias }
    }

    pub(super) fn report(&self) -> WeightsReport {
        WeightsReport { error: self.quantized.error, cut_len: self.quantized.cut_len }
    }

    /// The largest that each channel's sum can be, in the units of the real network, where one u8
    /// of the input is `unit`.
    fn sums(&self, unit: f64) -> impl Iterator<Item = f64> {
        let Quantized { weights, scales, .. } = &self.quantized;
        let len = weights.len() / scales.len();
        let sum = |weights: &[i8]| weights.iter().map(|&w| f64::from(w).abs()).sum::<f64>();
        let sums = weights.chunks_exact(len).map(sum).zip(scales);
        sums.map(move |(sum, &scale)| sum * LEVEL_MAX * unit * f64::from(scale))
    }
}

/// What is known of a step's output.
pub(super) struct Output {
    /// By channel, see [`super::balance`].
    pub(super) factors: Vec<f32>,
    /// Mean square of each channel, divided by the factors.
    pub(super) squares: Vec<f64>,
    /// Scales to choose from.
    pub(super) candidates: Vec<(Method, f32)>,
}

impl Output {
    fn scale_max(&self) -> f64 {
        self.candidates.iter().fold(0.0, |max, &(_, scale)| max.max(scale.into()))
    }

    fn scale_min(&self) -> f64 {
        self.candidates.iter().fold(f64::INFINITY, |min, &(_, scale)| min.min(scale.into()))
    }

    /// No candidate stays below `floor`.
    fn raise(&mut self, floor: f64) {
        for (_, scale) in &mut self.candidates {
            *scale = scale.max(floor as f32);
        }
    }
}

/// All layers, by filter index. Raises candidates where results would be too large.
pub(super) fn layers(model: &Model, steps: &Steps, outputs: &mut [Output]) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    for (index, step) in steps.list.iter().enumerate() {
        match &step.work {
            Work::Stem { filter, .. } => {
                layers.push(stem(model, *filter, &outputs[index])?);
                let floor = floor(&layers[*filter], 1.0, None);
                outputs[index].raise(floor);
            }
            Work::Conv(conv) => {
                conv_layers(model, conv, outputs, index, &mut layers)?;
                let layer = &layers[conv.conv.filter];
                let added = conv.shortcut.map(|shortcut| {
                    (&layers[shortcut.filter], outputs[shortcut.input].scale_max())
                });
                let residual = conv.residual.map_or(0.0, |step| outputs[step].scale_max());
                let floor = floor(layer, outputs[conv.input].scale_max(), added)
                    .max(LEVEL_MAX * residual / RESULT_MAX);
                outputs[index].raise(floor);
            }
            Work::AveragePool { input, .. } => {
                // A mean stays within what it is made of.
                let floor = LEVEL_MAX * outputs[*input].scale_max() / RESULT_MAX;
                outputs[index].raise(floor);
            }
            Work::FullyConnected { input, filter, class_count, .. } => {
                let scales_min = vec![0.0; *class_count];
                layers.push(layer(model, *filter, &outputs[*input], None, &scales_min)?);
            }
        }
    }
    Ok(layers)
}

/// A layer between two tensors; the logits have no factors.
fn layer(
    model: &Model,
    filter: usize,
    input: &Output,
    output: Option<&Output>,
    scales_min: &[f32],
) -> Result<Layer> {
    let Filter { mut weights, mut bias } = model.filter(filter)?;
    scale_inputs(&mut weights, &input.factors);
    if let Some(Output { factors, .. }) = output {
        scale_outputs(&mut weights, factors);
        scale_outputs(&mut bias, factors);
    }
    Ok(Layer { quantized: quantize(&weights, &input.squares, scales_min), bias })
}

/// The first layer reads pixels as they are: what they are multiplied with before goes into the
/// weights.
fn stem(model: &Model, filter: usize, output: &Output) -> Result<Layer> {
    let std = model.config().std.map(|std| std * PIXEL_MAX);
    let pixels = Output {
        factors: std.map(|std| 1.0 / std).into(),
        // In floating point the channels are normalised: their mean squares are about one.
        squares: std.map(|std| f64::from(std) * f64::from(std)).into(),
        candidates: Vec::new(),
    };
    layer(model, filter, &pixels, Some(output), &vec![0.0; output.factors.len()])
}

/// The layers of step `index`: of the projection first, if it adds one.
fn conv_layers(
    model: &Model,
    step: &ConvStep,
    outputs: &[Output],
    index: usize,
    layers: &mut Vec<Layer>,
) -> Result<()> {
    let (input, output) = (&outputs[step.input], Some(&outputs[index]));
    let mut scales_min = vec![0.0; step.output_shape.channels];
    if let Some(shortcut) = step.shortcut {
        let added = &outputs[shortcut.input];
        let projection = layer(model, shortcut.filter, added, output, &scales_min)?;
        // Its sums become those of the convolution.
        let sums = projection.sums(added.scale_max());
        scales_min = sums.map(|sum| (sum / input.scale_min() / RESULT_MAX) as f32).collect();
        layers.push(projection);
    }
    layers.push(layer(model, step.conv.filter, input, output, &scales_min)?);
    Ok(())
}

/// The least scale of a layer's output, with a projection and the scale of what that reads.
fn floor(layer: &Layer, unit: f64, added: Option<(&Layer, f64)>) -> f64 {
    let bias = |layer: &Layer, channel: usize| f64::from(layer.bias[channel].abs());
    let mut results: Vec<f64> = layer.sums(unit).collect();
    if let Some((added, unit)) = added {
        let more = added.sums(unit).enumerate();
        results.iter_mut().zip(more).for_each(|(result, (channel, sum))| {
            *result += sum + bias(added, channel);
        });
    }
    let results = results.iter().enumerate();
    let largest =
        results.map(|(channel, result)| result + bias(layer, channel)).fold(0.0, f64::max);
    // Results at the border have another bias, which differs by less than the sum.
    2.0 * largest / RESULT_MAX
}
