//! ResNet-50 v1.5 as one typed list of fused layers, with its weights and configuration.
//!
//! [`Network`] is what every backend executes: layers, shapes, costs. [`Model`] is what a user
//! trained: weights and configuration. Nothing here knows how a layer is computed.

mod architecture;
mod classes;
mod config;
mod network;
mod tensor_file;
mod weights;

pub use classes::{Answer, Class, top_k, top_k_of};
#[cfg(feature = "image")]
pub(crate) use config::CROP_PCT_MIN;
pub use config::{Interpolation, ModelConfig};
pub use network::{
    Conv, INPUT_SIDE_MAX, INPUT_SIDE_MIN, Layer, LayerCost, Network, Op, Shape, TensorId,
};
pub use weights::{Filter, Model};
