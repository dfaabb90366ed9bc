//! Configurations as people have them, with this repository's network.
//!
//! Goal: each gives the right preprocessing and names, or one error that names the culprit. Method:
//! small files after public reports, in tests/data/config. The forms and values that no file has
//! are unit tests of the parser.

use std::path::PathBuf;

use crate::common::repository;
use twinstream::model::{Interpolation, Model, ModelConfig};

const CIFAR_MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const CIFAR_STD: [f32; 3] = [0.247, 0.2435, 0.2616];

const LONG_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const SHORT_NAMES: [&str; 10] =
    ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

fn file(name: &str) -> PathBuf {
    repository("tests/data/config").join(name)
}

/// What a file of ours says: bilinear, the whole image, 32x32, where a test does not differ.
fn expected(names: [&str; 10]) -> ModelConfig {
    ModelConfig {
        height: 32,
        width: 32,
        mean: CIFAR_MEAN,
        std: CIFAR_STD,
        interpolation: Interpolation::Bilinear,
        crop_pct: 1.0,
        class_count: Some(10),
        label_names: names.map(str::to_owned).to_vec(),
    }
}

#[test]
fn readable_files_give_their_values() {
    let dump = || ModelConfig {
        interpolation: Interpolation::Bicubic,
        crop_pct: 0.95,
        ..expected(SHORT_NAMES)
    };
    for (name, expected) in [
        ("pretrained_cfg_dump.json", dump()),
        ("pretrained_cfg_dump_nested.json", dump()),
        ("labels_flat.json", expected(SHORT_NAMES)),
        ("labels_nested.json", expected(SHORT_NAMES)),
        ("labels_key.json", expected(LONG_NAMES)),
        ("id2label_only.json", expected(LONG_NAMES)),
        ("label_names_dict.json", expected(LONG_NAMES)),
        (
            "bicubic_64x96.json",
            ModelConfig {
                height: 64,
                width: 96,
                interpolation: Interpolation::Bicubic,
                crop_pct: 0.95,
                ..expected(LONG_NAMES)
            },
        ),
    ] {
        assert_eq!(ModelConfig::load(&file(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn other_files_are_refused_by_name() {
    for (name, words) in [
        ("hf_preprocessor_config.json", "not a timm configuration"),
        ("model_args_output_stride.json", "model_args.output_stride is 8: expected 32"),
        ("mean_255.json", "divide those of 0 to 255 by 255"),
        ("mean_scalar.json", "pretrained_cfg.mean is 0.5: expected 3 numbers"),
        ("input_size_int.json", "pretrained_cfg.input_size is 32: expected [3, height, width]"),
        ("null.json", "holds null: expected a JSON object"),
        ("pretrained_null.json", "pretrained_cfg is null: expected an object"),
    ] {
        let weights = repository("models/resnet50-cifar10/model.safetensors");
        let Err(error) = Model::load(&weights, Some(&file(name))) else { panic!("{name}") };
        assert!(error.is_config(), "{name}: {error}");
        for words in [name, words] {
            assert!(error.to_string().contains(words), "{name}: {error}");
        }
    }
}
