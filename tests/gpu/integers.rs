//! The network in 8-bit integers on the device: every logit as on the CPU, and as the definition has
//! it, bit for bit.

use std::sync::OnceLock;

use twinstream::backend::cpu::{Cpu, CpuOptions, reference};
use twinstream::backend::cuda::{CudaDevice, CudaOptions};
use twinstream::lower::DType;
use twinstream::model::Model;

use super::common::calibrated;
use super::device::{Bench, CLASS_COUNT, IMAGE_BYTES, cifar, is_there, model};

/// Images that scales are chosen by.
const CALIBRATION_LEN: usize = 16;

/// The repository's model, calibrated once.
fn quantized() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let (pixels, _) = cifar();
        let bytes = calibrated(&pixels[..CALIBRATION_LEN * IMAGE_BYTES]);
        let name = format!("twinstream-gpu-i8-{}.safetensors", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        let config = model().config_path();
        let model = Model::load(&path, config).unwrap();
        // It stays open.
        std::fs::remove_file(&path).unwrap();
        model
    })
}
