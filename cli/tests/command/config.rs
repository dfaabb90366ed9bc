//! What the command says on stderr of the configuration beside the weights.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{self, repository};

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

    let whole = fs::read_to_string(repository("tests/data/config/labels_flat.json")).unwrap();
    assert_eq!(said_of("config_whole", Some(&format!("\u{feff}{whole}"))), "");
}
