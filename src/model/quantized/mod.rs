//! ResNet-50 in 8-bit integers: a file that calibration wrote, checked at load, and what it says of
//! each layer in the form that backends compute with.
//!
//! An activation is its u8 times its tensor's scale, a weight its s8 times its channel's. What
//! integers are multiplied with is made of scales here, in double precision and rounded once, so
//! that all backends have the same. Invariant of a file that was opened: no sum of products leaves
//! i32, and no result the range in which f32 is rounded to an integer.

mod parts;

use std::collections::BTreeSet;
use std::ops::Range;

pub(crate) use parts::{FilterParts, Parts};

use super::config::ModelConfig;
use super::network::{Conv, INPUT_SIDE_MAX, INPUT_SIDE_MIN, Layer, Network, Op, TensorId};
use super::tensor_file::TensorFile;
use crate::error::{Error, Kind, Result};

/// The file's entry for the checksum of its tensors.
const CHECKSUM_KEY: &str = "twinstream.sha256";
/// The largest u8.
const ACTIVATION_MAX: f64 = 255.0;
/// Sums and results stay below it: far enough from what i32 holds that no rounding matters.
const RESULT_MAX: f64 = (1u32 << 30) as f64;
/// What a pixel's value is divided by before mean and standard deviation.
const PIXEL_MAX: f64 = 255.0;

/// A layer's integers, and what turns a sum of products into its output.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedFilter {
    /// Weights `[output channel][kernel row][kernel column][input channel]`, from -127 to 127.
    pub weights: Vec<i8>,
    /// What a sum is multiplied with, a value an output channel; a projection's becomes a sum of
    /// the convolution that adds it, any other's an output.
    pub multiplier: Vec<f32>,
    /// What is added then, in units of the output. The first layer's holds where all taps see the
    /// image; a projection's is zero, since the convolution that adds it has it.
    pub bias: Vec<f32>,
}

/// Scales and biases of a layer with a filter.
struct FilterScales {
    /// A weight's unit, a value a channel. The first layer's is that of a weight over
    /// 255 · standard deviation: its input are pixels as they are.
    weight: Vec<f32>,
    /// In the units of the real network.
    bias: Vec<f32>,
}

/// The scales of a network in 8-bit integers, and its weights.
pub struct Quantized {
    file: TensorFile,
    /// All layers.
    layers: Vec<Layer>,
    /// By filter index: the layer's index.
    filter_layers: Vec<usize>,
    /// By filter index.
    scales: Vec<FilterScales>,
    /// By layer index; none where no u8 are written.
    outputs: Vec<Option<f32>>,
    /// The pixel values that mean and standard deviation turn into zero.
    zero_pixel: [f64; 3],
}

impl Quantized {
    /// Whether the file is one, be it whole or not: weights in floating point have no scales.
    pub(super) fn recognizes(file: &TensorFile) -> bool {
        file.names().any(|name| name.ends_with("_scale"))
            || file.header_entry(CHECKSUM_KEY).is_some()
    }

    /// Whether the file has all tensors and no other.
    pub(super) fn check_names(file: &TensorFile) -> Result<()> {
        // Names are the same at any size.
        let network = Network::resnet50(1, INPUT_SIDE_MIN, INPUT_SIDE_MIN)?;
        let mut expected = BTreeSet::from(["input.mean".to_owned(), "input.std".to_owned()]);
        for layer in network.layers() {
            if filter_of(layer).is_some() {
                let parts = ["weight", "weight_scale", "bias"];
                expected.extend(parts.map(|part| format!("{}.{part}", layer.name)));
            }
            if has_output_scale(layer) {
                expected.insert(output_scale_name(layer));
            }
        }
        let found: BTreeSet<&str> = file.names().collect();
        let missing: Vec<&String> =
            expected.iter().filter(|name| !found.contains(name.as_str())).collect();
        if let Some(first) = missing.first() {
            return Err(file.error(format!(
                "tensor {first} is missing, {} of {} are: the file is incomplete, or not one that \
                 `twinstream calibrate` wrote: write it anew with that",
                missing.len(),
                expected.len()
            )));
        }
        match found.into_iter().find(|&name| !expected.contains(name)) {
            None => Ok(()),
            Some(name) => Err(file.error(format!(
                "tensor {name} does not belong to a calibrated ResNet-50: write the file anew with \
                 `twinstream calibrate`"
            ))),
        }
    }

    /// Reads all scales and checks all tensors of a file whose names were checked.
    pub(super) fn new(file: TensorFile, config: &ModelConfig, network: &Network) -> Result<Self> {
        let layers = network.layers().to_vec();
        let filter_layers: Vec<usize> =
            (0..layers.len()).filter(|&layer| filter_of(&layers[layer]).is_some()).collect();
        let mut scales = Vec::with_capacity(filter_layers.len());
        for &layer in &filter_layers {
            let Layer { name, output_shape, .. } = &layers[layer];
            let channels = [output_shape.channels];
            scales.push(FilterScales {
                weight: positive(&file, &format!("{name}.weight_scale"), &channels)?,
                bias: file.read(&format!("{name}.bias"), &channels)?,
            });
        }
        let mut outputs: Vec<Option<f32>> = Vec::with_capacity(layers.len());
        for layer in &layers {
            outputs.push(match (has_output_scale(layer), layer.input) {
                (true, _) => Some(positive(&file, &output_scale_name(layer), &[1])?[0]),
                (false, TensorId::Layer(input)) if layer.op == Op::MaxPool => outputs[input],
                _ => None,
            });
        }
        check_input(&file, config)?;
        let zero_pixel = config.mean.map(|mean| PIXEL_MAX * f64::from(mean));
        let quantized = Self { file, layers, filter_layers, scales, outputs, zero_pixel };
        for filter in 0..quantized.filter_layers.len() {
            quantized.check_range(filter)?;
        }
        quantized.check_average()?;
        quantized.file.check_sum(CHECKSUM_KEY)?;
        Ok(quantized)
    }

    pub(super) fn file(&self) -> &TensorFile {
        &self.file
    }

    /// The integers of filter `index` (see [`super::Conv::filter`]), made anew from the file at
    /// every call.
    ///
    /// # Errors
    /// `is_weights` when the file was changed since it was opened.
    ///
    /// # Panics
    /// When there is no filter `index`.
    pub fn filter(&self, index: usize) -> Result<QuantizedFilter> {
        let weights = self.weights(index)?;
        let layer = self.layer(index);
        let unit = self.sum_unit(index);
        let FilterScales { bias, .. } = &self.scales[index];
        let (multiplier, bias) = match self.adder(index) {
            // Into the unit of the sums that it is added to.
            Some(adder) => {
                let sums = self.sum_unit(adder);
                let ratio = unit.iter().zip(&sums).map(|(unit, sums)| (unit / sums) as f32);
                (ratio.collect(), vec![0.0; bias.len()])
            }
            None => {
                let output = self.output_unit(index);
                let multiplier = unit.iter().map(|unit| (unit / output) as f32).collect();
                let bias: Vec<f64> = match projection_of(&self.layers, layer) {
                    Some(projection) => {
                        let added = &self.scales[projection].bias;
                        let sum = |(&a, &b): (&f32, &f32)| f64::from(a) + f64::from(b);
                        bias.iter().zip(added).map(sum).collect()
                    }
                    None => bias.iter().copied().map(f64::from).collect(),
                };
                (multiplier, bias.iter().map(|bias| (bias / output) as f32).collect())
            }
        };
        let filter = QuantizedFilter { weights, multiplier, bias };
        if layer.input != TensorId::Input {
            return Ok(filter);
        }
        let (kernel, ..) = layer.window();
        Ok(QuantizedFilter { bias: self.stem_bias(&filter, 0..kernel, 0..kernel), ..filter })
    }

    /// The first layer's bias where just these kernel rows and columns see the image, for its
    /// `filter`: elsewhere is the mean, which no pixel value has.
    pub fn stem_bias(
        &self,
        filter: &QuantizedFilter,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Vec<f32> {
        let (kernel, ..) = self.layers[0].window();
        let output = self.output_unit(0);
        let taps = || {
            rows.clone().flat_map(|row| columns.clone().map(move |column| row * kernel + column))
        };
        let filters = filter.weights.chunks_exact(kernel * kernel * self.zero_pixel.len());
        let units = self.sum_unit(0);
        filters
            .zip(&units)
            .zip(&self.scales[0].bias)
            .map(|((weights, unit), &bias)| {
                let offset = |channel: usize| {
                    let at = |tap: usize| i64::from(weights[tap * self.zero_pixel.len() + channel]);
                    taps().map(at).sum::<i64>() as f64 * self.zero_pixel[channel]
                };
                let offset: f64 = (0..self.zero_pixel.len()).map(offset).sum();
                ((f64::from(bias) - unit * offset) / output) as f32
            })
            .collect()
    }

    /// What the residual's u8 are multiplied with, before the convolution with filter `index` adds
    /// them.
    ///
    /// # Panics
    /// When it has no residual, or a projection.
    pub fn residual_multiplier(&self, index: usize) -> f32 {
        let Op::Conv(Conv { residual: Some(TensorId::Layer(residual)), .. }) = self.layer(index).op
        else {
            panic!("{} has no residual", self.layer(index).name)
        };
        let residual = self.outputs[residual].expect("the residual is no projection");
        (f64::from(residual) / self.output_unit(index)) as f32
    }

    /// What the sum over `pixel_len` pixels is multiplied with, to be the average's u8.
    pub fn average_multiplier(&self, pixel_len: usize) -> f32 {
        let average = |layer: &Layer| layer.op == Op::GlobalAveragePool;
        let index = self.layers.iter().position(average).expect("the network has an average pool");
        let input = self.unit(self.layers[index].input);
        (input / (pixel_len as f64 * self.unit(TensorId::Layer(index)))) as f32
    }

    /// The scale of what the layer `name` writes; none where it writes no u8, or where its u8 are
    /// another layer's, as a pool's are.
    pub fn output_scale(&self, name: &str) -> Option<f32> {
        let index = self.layers.iter().position(|layer| layer.name == name)?;
        self.outputs[index].filter(|_| has_output_scale(&self.layers[index]))
    }

    fn layer(&self, filter: usize) -> &Layer {
        &self.layers[self.filter_layers[filter]]
    }

    fn weights(&self, filter: usize) -> Result<Vec<i8>> {
        let layer = self.layer(filter);
        let (kernel, ..) = layer.window();
        let (inputs, outputs) = (layer.input_shape.channels, layer.output_shape.channels);
        let name = format!("{}.weight", layer.name);
        let shape: &[usize] = match layer.op {
            Op::FullyConnected(_) => &[outputs, inputs],
            _ => &[outputs, inputs, kernel, kernel],
        };
        let stored = self.file.read_i8(&name, shape)?;
        if let Some(index) = stored.iter().position(|&weight| weight == i8::MIN) {
            return Err(self.file.error(format!(
                "tensor {name}: expected values from -127 to 127, found -128 at flat index {index}"
            )));
        }
        // [O][I][taps] to [O][taps][I].
        let taps = kernel * kernel;
        let mut weights = Vec::with_capacity(stored.len());
        for filter in stored.chunks_exact(inputs * taps) {
            for tap in 0..taps {
                weights.extend((0..inputs).map(|input| filter[input * taps + tap]));
            }
        }
        Ok(weights)
    }

    /// The scale of a tensor; pixels are their own.
    fn unit(&self, tensor: TensorId) -> f64 {
        match tensor {
            TensorId::Input => 1.0,
            TensorId::Layer(index) => {
                f64::from(self.outputs[index].expect("what is read are u8 with a scale"))
            }
        }
    }

    /// The scale of what a filter's layer writes; logits are written in their own unit.
    fn output_unit(&self, filter: usize) -> f64 {
        match self.layer(filter).op {
            Op::FullyConnected(_) => 1.0,
            _ => self.unit(TensorId::Layer(self.filter_layers[filter])),
        }
    }

    /// The unit of a filter's sums, a value a channel.
    fn sum_unit(&self, filter: usize) -> Vec<f64> {
        let input = self.unit(self.layer(filter).input);
        self.scales[filter].weight.iter().map(|&weight| input * f64::from(weight)).collect()
    }

    /// The filter of the convolution that adds this projection; none for what is no projection.
    fn adder(&self, filter: usize) -> Option<usize> {
        let Op::Conv(Conv { is_projection: true, .. }) = self.layer(filter).op else { return None };
        let added = Some(TensorId::Layer(self.filter_layers[filter]));
        let adds = |layer: &&Layer| matches!(layer.op, Op::Conv(conv) if conv.residual == added);
        self.layers.iter().find(adds).and_then(filter_of)
    }

    /// Whether no value of activations takes the layer's sums or results out of their range.
    fn check_range(&self, filter: usize) -> Result<()> {
        let layer = self.layer(filter);
        let QuantizedFilter { weights, multiplier, bias } = self.filter(filter)?;
        let sums = |weights: &[i8]| -> f64 {
            weights.iter().map(|&weight| f64::from(weight).abs()).sum::<f64>() * ACTIVATION_MAX
        };
        let len = weights.len() / multiplier.len();
        let mut largest: Vec<f64> = weights.chunks_exact(len).map(sums).collect();
        if let Some(projection) = projection_of(&self.layers, layer) {
            let added = self.filter(projection)?;
            let len = added.weights.len() / added.multiplier.len();
            let added = added.weights.chunks_exact(len).map(sums).zip(&added.multiplier);
            for (sum, (added, &multiplier)) in largest.iter_mut().zip(added) {
                *sum += added * f64::from(multiplier);
            }
        }
        let added = match layer.op {
            Op::Conv(Conv { residual: Some(_), .. })
                if projection_of(&self.layers, layer).is_none() =>
            {
                ACTIVATION_MAX * f64::from(self.residual_multiplier(filter))
            }
            _ => 0.0,
        };
        // Logits are not rounded to integers: they need to be finite, no more.
        let result_max = match layer.op {
            Op::FullyConnected(_) => f32::MAX.into(),
            _ => RESULT_MAX,
        };
        for (channel, &sum) in largest.iter().enumerate() {
            let multiplier = f64::from(multiplier[channel]);
            // The first layer's bias differs at the border by less than its largest sum.
            let result = 2.0 * sum * multiplier + f64::from(bias[channel].abs()) + added;
            if !(sum < RESULT_MAX && result < result_max && multiplier >= f32::MIN_POSITIVE.into())
            {
                return Err(self.file.error(format!(
                    "tensor {}.weight_scale: at index {channel}, sums reach {sum:.3e} and results \
                     {result:.3e}: expected less than {RESULT_MAX:.3e} and {result_max:.3e}: the \
                     scales are of another network, or the file was changed",
                    layer.name
                )));
            }
        }
        Ok(())
    }

    /// Whether averages stay in their range, however many pixels an image has.
    fn check_average(&self) -> Result<()> {
        let pixel_len_max = (INPUT_SIDE_MAX / INPUT_SIDE_MIN).pow(2);
        let multiplier = |pixel_len: usize| f64::from(self.average_multiplier(pixel_len));
        let result = ACTIVATION_MAX * multiplier(1);
        if result < RESULT_MAX && multiplier(pixel_len_max) >= f32::MIN_POSITIVE.into() {
            return Ok(());
        }
        Err(self.file.error(format!(
            "tensor avgpool.output_scale: averages reach {result:.3e}: expected some that f32 can \
             hold, and less than {RESULT_MAX:.3e}: the scale is of another network, or the file \
             was changed"
        )))
    }
}

/// The filter of a layer that has one.
fn filter_of(layer: &Layer) -> Option<usize> {
    match layer.op {
        Op::Conv(conv) => Some(conv.filter),
        Op::FullyConnected(filter) => Some(filter),
        Op::MaxPool | Op::GlobalAveragePool => None,
    }
}

/// The filter of the projection that `layer` adds.
fn projection_of(layers: &[Layer], layer: &Layer) -> Option<usize> {
    let Op::Conv(Conv { residual: Some(TensorId::Layer(added)), .. }) = layer.op else {
        return None;
    };
    match layers[added].op {
        Op::Conv(projection) if projection.is_projection => Some(projection.filter),
        _ => None,
    }
}

/// Whether the layer writes u8 with a scale of their own.
fn has_output_scale(layer: &Layer) -> bool {
    match layer.op {
        Op::Conv(conv) => !conv.is_projection,
        Op::GlobalAveragePool => true,
        Op::MaxPool | Op::FullyConnected(_) => false,
    }
}

fn output_scale_name(layer: &Layer) -> String {
    format!("{}.output_scale", layer.name)
}

/// A tensor of scales: each above zero.
fn positive(file: &TensorFile, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let values = file.read(name, shape)?;
    match values.iter().position(|&value| value < f32::MIN_POSITIVE) {
        None => Ok(values),
        Some(index) => Err(file.error(format!(
            "tensor {name}: expected scales above zero, found {:e} at index {index}",
            values[index]
        ))),
    }
}

/// Whether images become the network's input as they did when it was calibrated.
fn check_input(file: &TensorFile, config: &ModelConfig) -> Result<()> {
    for (part, expected) in [("mean", config.mean), ("std", config.std)] {
        let found = file.read(&format!("input.{part}"), &[3])?;
        if found != expected {
            let message = format!(
                "{part} is {expected:?}, but {} was calibrated for {found:?}: use the \
                 configuration that it was calibrated with, or calibrate anew",
                file.path().display()
            );
            return Err(Error::new(Kind::Config, message));
        }
    }
    Ok(())
}
