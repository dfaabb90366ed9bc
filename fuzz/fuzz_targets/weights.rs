//! Any bytes as a safetensors file of weights, and as the configuration beside it.
//!
//! Whatever comes in, there is a model or an error that blames the right file; never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinstream::model::{Model, ModelConfig};

fuzz_target!(|bytes: &[u8]| {
    match Model::from_bytes("fuzz", bytes.to_vec(), ModelConfig::default()) {
        Ok(model) => assert!(model.class_count() > 0),
        // A network in 8-bit integers says for which means it was calibrated.
        Err(error) => assert!(error.is_weights() || error.is_config(), "{error}"),
    }
    if let Err(error) = ModelConfig::parse(bytes) {
        assert!(error.is_config(), "{error}");
    }
});
