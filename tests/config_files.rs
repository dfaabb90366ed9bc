//! Configurations as people have them, with this repository's network.
//!
//! Goal: each gives the right preprocessing and names, or one error that names the culprit. Method:
//! small files after public reports, in tests/data/config; the program itself for what it says on
//! stderr. The forms and values that no file has are unit tests of the parser.

mod common;

use std::path::PathBuf;

use common::repository;
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

#[cfg(feature = "cli")]
mod program {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// What the program says on stderr of weights with this configuration beside them.
    fn said_of(test: &str, config: Option<&str>) -> String {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let weights = folder.join("model.safetensors");
        let ours = repository("models/resnet50-cifar10/model.safetensors");
        fs::hard_link(&ours, &weights).or_else(|_| fs::copy(&ours, &weights).map(|_| ())).unwrap();
        if let Some(text) = config {
            fs::write(folder.join("config.json"), text).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinstream"));
        let output = common::run(command.args(["inspect", "--weights"]).arg(&weights));
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    fn weights_without_a_configuration_are_told_of_loudly() {
        let said = said_of("config_none", None);
        for words in [
            "warning: ",
            "model.safetensors: not stated, so taken as ImageNet's: input_size [3, 224, 224], mean",
            "interpolation bilinear, crop_pct 0.875",
            "THIS IS LIKELY WRONG: with 10 classes the network is not ImageNet's",
            "config.json",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let names_alone = said_of("config_names", Some(r#"{"id2label": {"9": "truck"}}"#));
        assert!(names_alone.contains("THIS IS LIKELY WRONG"), "{names_alone}");
    }

    #[test]
    fn what_a_configuration_leaves_open_is_told() {
        let said = said_of("config_part", Some(r#"{"input_size": [3, 32, 32], "seed": 1}"#));
        let [unread, assumed] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
        assert!(unread.ends_with("config.json: unknown, so not read: seed"), "{unread}");
        assert!(assumed.contains("taken as ImageNet's: mean [0.485, 0.456, 0.406], std"), "{said}");
        assert!(!assumed.contains("input_size"), "{assumed}");

        let whole = fs::read_to_string(file("labels_flat.json")).unwrap();
        assert_eq!(said_of("config_whole", Some(&format!("\u{feff}{whole}"))), "");
    }
}
