//! A trained ResNet-50: weights checked at load, folded with their batch norm filter by filter.
//!
//! The file stays mapped and each [`Filter`] is made on demand, so a backend that packs filters one
//! after another never holds the weights twice.

use std::collections::BTreeSet;
use std::path::Path;

use super::architecture;
use super::config::{Found, ModelConfig, unnamed};
use super::network::{Layer, Network, Op};
use super::quantized::Quantized;
use super::tensor_file::TensorFile;
use crate::error::Result;

/// Batch norm's epsilon in torchvision and timm.
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Name of the configuration beside the weights.
const CONFIG_FILE: &str = "config.json";

/// One layer's weights with batch norm folded in, ready to be packed by a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Weights `[output channel][kernel row][kernel column][input channel]`.
    pub weights: Vec<f32>,
    /// One value an output channel.
    pub bias: Vec<f32>,
}

/// What a file holds.
enum Weights {
    /// Weights and batch norms, in floating point.
    Float(TensorFile),
    /// Integers and scales.
    Quantized(Box<Quantized>),
}

/// A trained ResNet-50: weights and configuration.
pub struct Model {
    weights: Weights,
    config: ModelConfig,
    class_count: usize,
    /// The layers that have a filter, by filter index; at the configured input size.
    filter_layers: Vec<Layer>,
}

impl Model {
    /// Opens the safetensors file `weights`, with torchvision's or timm's tensor names and values
    /// of type F32, F16, BF16, I8 or F8_E4M3 (taken as stored), or one that calibration wrote.
    /// `config` defaults to `config.json` beside the weights; where there is none, to
    /// [`ModelConfig::default`], which is logged as a warning, as is all that a configuration
    /// leaves open.
    ///
    /// The file is memory-mapped: it must not be truncated or rewritten while the model lives.
    ///
    /// # Errors
    /// `is_io` when a file cannot be read; `is_weights` when the weights are no safetensors file,
    /// or a tensor is missing, superfluous, misshapen, of another type or not finite; `is_config`
    /// when the configuration is malformed or contradicts the weights.
    pub fn load(weights: &Path, config: Option<&Path>) -> Result<Self> {
        let beside = weights.with_file_name(CONFIG_FILE);
        let config_path = config.or_else(|| beside.exists().then_some(beside.as_path()));
        let found = config_path.map_or_else(|| Ok(Found::none()), Found::load)?;
        let file = TensorFile::open(weights)?;
        let model = Self::new(file, found.config.clone()).map_err(|error| match config_path {
            Some(path) if error.is_config() => error.in_file(path),
            _ => error,
        })?;
        found.warn(config_path.unwrap_or(weights), Some(model.class_count));
        Ok(model)
    }

    /// As [`Model::load`], from the bytes of a safetensors file. `name` names them in messages.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(name: &str, weights: Vec<u8>, config: ModelConfig) -> Result<Self> {
        Self::new(TensorFile::from_bytes(Path::new(name), weights)?, config)
    }

    fn new(file: TensorFile, config: ModelConfig) -> Result<Self> {
        let is_quantized = Quantized::recognizes(&file);
        let problem = || architecture::problem(|| file.names(), |name| file.shape(name).ok());
        if is_quantized {
            Quantized::check_names(&file)?;
        } else if let Some(problem) = problem() {
            return Err(file.error(problem));
        }
        let class_count = match file.shape("fc.weight")? {
            [class_count, _] if *class_count > 0 => *class_count,
            shape => {
                return Err(file.error(format!(
                    "tensor fc.weight: expected shape [classes, 2048], found {shape:?}"
                )));
            }
        };
        config.check_class_count(class_count)?;
        let network = Network::resnet50(class_count, config.height, config.width)
            .map_err(|error| file.error(error.to_string()))?;
        let filter_layers: Vec<Layer> = network
            .layers()
            .iter()
            .filter(|layer| matches!(layer.op, Op::Conv(_) | Op::FullyConnected(_)))
            .cloned()
            .collect();
        if is_quantized {
            let quantized = Quantized::new(file, &config, &network)?;
            let weights = Weights::Quantized(Box::new(quantized));
            return Ok(Self { weights, config, class_count, filter_layers });
        }
        let model = Self { weights: Weights::Float(file), config, class_count, filter_layers };
        model.check_no_extra_tensor()?;
        for filter in 0..model.filter_layers.len() {
            model.filter(filter)?;
        }
        Ok(model)
    }

    /// How images become the network's input, and what its outputs are called.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights file's path.
    pub fn path(&self) -> &Path {
        match &self.weights {
            Weights::Float(file) => file.path(),
            Weights::Quantized(quantized) => quantized.file().path(),
        }
    }

    /// The network in 8-bit integers, where the file holds such.
    pub fn quantized(&self) -> Option<&Quantized> {
        match &self.weights {
            Weights::Float(_) => None,
            Weights::Quantized(quantized) => Some(quantized),
        }
    }

    /// The file of weights in floating point.
    fn file(&self) -> Result<&TensorFile> {
        match &self.weights {
            Weights::Float(file) => Ok(file),
            Weights::Quantized(quantized) => Err(quantized.file().error(
                "holds a network in 8-bit integers (i8): for other precisions name the weights \
                 that it was calibrated from"
                    .to_owned(),
            )),
        }
    }

    /// Number of logits an image.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// The name of class `index`: its label, or `class INDEX` where the configuration has no
    /// labels.
    pub fn label(&self, index: usize) -> String {
        self.config.label_names.get(index).cloned().unwrap_or_else(|| unnamed(index))
    }

    /// The layers at an input size of `height` x `width` pixels.
    ///
    /// # Errors
    /// As [`Network::resnet50`].
    pub fn network(&self, height: usize, width: usize) -> Result<Network> {
        Network::resnet50(self.class_count, height, width)
    }

    /// The folded weights and bias of filter `index` (see [`super::Conv::filter`]), made anew from
    /// the file at every call.
    ///
    /// # Errors
    /// `is_weights` for a network in 8-bit integers, and as for [`Model::load`] when the file was
    /// changed since.
    ///
    /// # Panics
    /// When there is no filter `index`.
    pub fn filter(&self, index: usize) -> Result<Filter> {
        let file = self.file()?;
        let layer = &self.filter_layers[index];
        let (inputs, outputs) = (layer.input_shape.channels, layer.output_shape.channels);
        let weight_name = format!("{}.weight", layer.name);
        match layer.op {
            Op::Conv(conv) => {
                let side = conv.kernel;
                let weights = file.read(&weight_name, &[outputs, inputs, side, side])?;
                let (scale, bias) = batch_norm(file, &batch_norm_name(&layer.name), outputs)?;
                let weights = fold(&weights, &scale, inputs, side * side);
                match weights.iter().chain(&bias).all(|value| value.is_finite()) {
                    true => Ok(Filter { weights, bias }),
                    false => Err(file.error(format!(
                        "tensor {weight_name}: batch norm {} scales it beyond the range of f32",
                        batch_norm_name(&layer.name)
                    ))),
                }
            }
            _ => Ok(Filter {
                weights: file.read(&weight_name, &[outputs, inputs])?,
                bias: file.read(&format!("{}.bias", layer.name), &[outputs])?,
            }),
        }
    }

    fn check_no_extra_tensor(&self) -> Result<()> {
        let file = self.file()?;
        let mut expected = BTreeSet::new();
        for layer in &self.filter_layers {
            expected.insert(format!("{}.weight", layer.name));
            if let Op::FullyConnected(_) = layer.op {
                expected.insert(format!("{}.bias", layer.name));
                continue;
            }
            // PyTorch counts training batches beside each batch norm; inference has no use for it.
            for part in ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"] {
                expected.insert(format!("{}.{part}", batch_norm_name(&layer.name)));
            }
        }
        let extra = || file.names().filter(|&name| !expected.contains(name));
        let Some(first) = extra().next() else { return Ok(()) };
        let others = match extra().count() - 1 {
            0 => String::new(),
            others_len => format!(", nor do {others_len} others"),
        };
        Err(file.error(format!(
            "tensor {first} does not belong to ResNet-50{others}: expected torchvision's names \
             only; leave out before save_file what is no part of the network:\n    \
             state.pop(\"{first}\")"
        )))
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path())
            .field("class_count", &self.class_count)
            .finish_non_exhaustive()
    }
}

/// Batch norm as `scale · x + bias`, a value a channel.
fn batch_norm(file: &TensorFile, name: &str, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let read = |part: &str| file.read(&format!("{name}.{part}"), &[channels]);
    let (gamma, beta) = (read("weight")?, read("bias")?);
    let (mean, variance) = (read("running_mean")?, read("running_var")?);
    if let Some(index) = variance.iter().position(|&variance| variance < 0.0) {
        return Err(file.error(format!(
            "tensor {name}.running_var: expected no negative value, found {} at index {index}",
            variance[index]
        )));
    }
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(&gamma, &variance)| {
            f64::from(gamma) / (f64::from(variance) + BATCH_NORM_EPSILON).sqrt()
        })
        .collect();
    let bias = (0..channels)
        .map(|c| (f64::from(beta[c]) - f64::from(mean[c]) * scale[c]) as f32)
        .collect();
    Ok((scale.into_iter().map(|scale| scale as f32).collect(), bias))
}

/// The batch norm that follows convolution `conv`: `bn1` after `conv1`, `downsample.1` after
/// `downsample.0`.
fn batch_norm_name(conv: &str) -> String {
    match conv.strip_suffix("downsample.0") {
        Some(block) => format!("{block}downsample.1"),
        None => conv.replace("conv", "bn"),
    }
}

/// Scales each output channel and moves the input channels innermost: `[O][I][taps]` to
/// `[O][taps][I]`.
fn fold(weights: &[f32], scale: &[f32], inputs: usize, taps: usize) -> Vec<f32> {
    let mut folded = Vec::with_capacity(weights.len());
    for (filter, &scale) in weights.chunks_exact(inputs * taps).zip(scale) {
        for tap in 0..taps {
            folded.extend((0..inputs).map(|input| filter[input * taps + tap] * scale));
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_norms_are_named_after_their_convolution() {
        assert_eq!(batch_norm_name("conv1"), "bn1");
        assert_eq!(batch_norm_name("layer3.5.conv2"), "layer3.5.bn2");
        assert_eq!(batch_norm_name("layer2.0.downsample.0"), "layer2.0.downsample.1");
    }

    #[test]
    fn folding_scales_and_transposes() {
        // Two outputs, two inputs, three taps.
        let weights: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(
            fold(&weights, &[1.0, 10.0], 2, 3),
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 60.0, 90.0, 70.0, 100.0, 80.0, 110.0]
        );
    }
}
