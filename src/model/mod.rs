//! ResNet-50 v1.5 as one typed list of fused layers, with its weights and configuration.
//!
//! [`Network`] is what every backend executes: layers, shapes, costs. [`Model`] is what a user
//! trained: weights and configuration. Nothing here knows how a layer is computed.
//!
//! ```
//! use twinstream::model::{Network, top_k};
//!
//! let network = Network::resnet50(1000, 224, 224)?;
//! assert_eq!(network.layers().len(), 56);
//! let macs: u64 = network.layers().iter().map(|layer| layer.cost().macs).sum();
//! assert_eq!(macs, 4_089_184_256);
//!
//! // What a backend answers.
//! let best = top_k(&[0.0, 3.0, 1.0], 1)[0];
//! assert_eq!(best.index, 1);
//! # Ok::<(), twinstream::Error>(())
//! ```

mod architecture;
mod classes;
mod config;
mod network;
mod quantized;
mod tensor_file;
mod weights;

pub use classes::{Answer, Class, top_k, top_k_of};
#[cfg(feature = "image")]
pub(crate) use config::CROP_PCT_MIN;
pub use config::{Interpolation, ModelConfig};
pub use network::{
    Conv, INPUT_SIDE_MAX, INPUT_SIDE_MIN, Layer, LayerCost, Network, Op, Shape, TensorId,
};
pub(crate) use quantized::{FilterParts, Parts};
pub use quantized::{Quantized, QuantizedFilter};
pub use weights::{Filter, Model};
