//! What a calibration chose and what it costs.

use super::histogram::Method;

/// What became of a layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerReport {
    /// torchvision's name.
    pub name: String,
    /// Of a layer with weights.
    pub weights: Option<WeightsReport>,
    /// Of a layer whose output is rounded; a projection's and the last layer's are not.
    pub output: Option<OutputReport>,
}

/// What rounding does to a layer's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightsReport {
    /// Mean squared error of the sums of products, beside their mean square.
    pub error: f64,
    /// Channels, of all, whose largest weights are cut since that lessens the error.
    pub cut_len: usize,
}

/// What rounding does to a layer's output.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutputReport {
    /// The largest value seen.
    pub max: f32,
    /// What one u8 stands for.
    pub scale: f32,
    /// How the scale was found.
    pub method: Method,
    /// Mean squared error of the values, beside their mean square.
    pub error: f64,
    /// The logits' mean squared error when nothing else is rounded.
    pub loss: f64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// In execution order.
    pub layers: Vec<LayerReport>,
    /// Images that were observed.
    pub image_len: usize,
    /// Images, of these, on which scales were chosen and the network was compared.
    pub kept_len: usize,
    /// The logits' mean squared error, against f32.
    pub loss: f64,
    /// The logits' mean square in f32, about their mean: what the error is to be seen beside.
    pub variance: f64,
    /// The share of images with the same most probable class as in f32.
    pub agreement: f64,
}

impl Report {
    /// The layers with what the logits lose by their outputs, most first.
    pub fn costliest_outputs(&self) -> Vec<&LayerReport> {
        self.sorted_by(|layer| layer.output.map(|output| output.loss))
    }

    /// The layers with what rounding does to their weights, most first.
    pub fn costliest_weights(&self) -> Vec<&LayerReport> {
        self.sorted_by(|layer| layer.weights.map(|weights| weights.error))
    }

    fn sorted_by(&self, cost: impl Fn(&LayerReport) -> Option<f64>) -> Vec<&LayerReport> {
        let layers = self.layers.iter();
        let mut found: Vec<_> = layers.filter_map(|layer| Some((cost(layer)?, layer))).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(_, layer)| layer).collect()
    }
}
