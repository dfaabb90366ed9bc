//! What a file of a network in 8-bit integers is written of, and its bytes.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::{CHECKSUM_KEY, filter_of, has_output_scale, output_scale_name};
use crate::model::config::ModelConfig;
use crate::model::network::{Layer, Network, Op};
use crate::model::tensor_file::checksum;

/// A layer with a filter.
#[derive(Clone)]
pub(crate) struct FilterParts {
    /// As [`super::QuantizedFilter::weights`].
    pub(crate) weights: Vec<i8>,
    /// A weight's unit, a value a channel; the first layer's, of a weight over
    /// 255 · standard deviation.
    pub(crate) scale: Vec<f32>,
    /// A value a channel, in the units of the real network.
    pub(crate) bias: Vec<f32>,
}

/// All of a file.
#[derive(Clone)]
pub(crate) struct Parts {
    /// By filter index.
    pub(crate) filters: Vec<FilterParts>,
    /// By the name of the layer that writes: the unit of its output.
    pub(crate) output_scales: BTreeMap<String, f32>,
    /// Entries of the header, for people: what it was made of.
    pub(crate) origin: Vec<(String, String)>,
}

impl Parts {
    /// The bytes of a safetensors file.
    ///
    /// # Panics
    /// When a part is missing or of another shape than the network's.
    pub(crate) fn to_bytes(&self, network: &Network, config: &ModelConfig) -> Vec<u8> {
        let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
        let mut put = |name: String, shape: Vec<usize>, values: &[f32]| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(name, (Dtype::F32, shape, bytes));
        };
        put("input.mean".to_owned(), vec![3], &config.mean);
        put("input.std".to_owned(), vec![3], &config.std);
        for layer in network.layers().iter().filter(|layer| has_output_scale(layer)) {
            put(output_scale_name(layer), vec![1], &[self.output_scales[&layer.name]]);
        }
        for layer in network.layers() {
            let Some(filter) = filter_of(layer) else { continue };
            let FilterParts { scale, bias, .. } = &self.filters[filter];
            let channels = vec![layer.output_shape.channels];
            put(format!("{}.weight_scale", layer.name), channels.clone(), scale);
            put(format!("{}.bias", layer.name), channels, bias);
        }
        for layer in network.layers() {
            let Some(filter) = filter_of(layer) else { continue };
            let (shape, bytes) = stored(layer, &self.filters[filter].weights);
            tensors.insert(format!("{}.weight", layer.name), (Dtype::I8, shape, bytes));
        }
        let sum = checksum(
            tensors.iter().map(|(name, (_, shape, bytes))| (name.as_str(), &shape[..], &bytes[..])),
        );
        let mut header: HashMap<String, String> = self.origin.iter().cloned().collect();
        header.insert(CHECKSUM_KEY.to_owned(), sum);
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (name, view.expect("shapes are the network's"))
        });
        in_order(serialize(views, Some(header)).expect("names and shapes are the network's"))
    }
}

/// The same file with its header in the order of names, which otherwise is that of a hash.
fn in_order(mut file: Vec<u8>) -> Vec<u8> {
    type Header = BTreeMap<String, BTreeMap<String, serde_json::Value>>;
    let (len, rest) = file.split_first_chunk_mut().expect("a header's length stands first");
    let header = &mut rest[..u64::from_le_bytes(*len) as usize];
    let entries: Header = serde_json::from_slice(header).expect("a header is JSON");
    let text = serde_json::to_vec(&entries).expect("it was JSON");
    header.fill(b' ');
    header[..text.len()].copy_from_slice(&text);
    file
}

/// Shape and bytes of weights as files have them: `[O][taps][I]` to `[O][I][taps]`.
fn stored(layer: &Layer, weights: &[i8]) -> (Vec<usize>, Vec<u8>) {
    let (kernel, ..) = layer.window();
    let (inputs, outputs) = (layer.input_shape.channels, layer.output_shape.channels);
    let taps = kernel * kernel;
    let mut bytes = Vec::with_capacity(weights.len());
    for filter in weights.chunks_exact(inputs * taps) {
        for input in 0..inputs {
            bytes.extend((0..taps).map(|tap| filter[tap * inputs + input] as u8));
        }
    }
    let shape = match layer.op {
        Op::FullyConnected(_) => vec![outputs, inputs],
        _ => vec![outputs, inputs, kernel, kernel],
    };
    (shape, bytes)
}
