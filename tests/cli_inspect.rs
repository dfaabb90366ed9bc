//! `twinstream inspect` as a user runs it.

use std::process::{Command, Output};

use serde_json::Value;

fn inspect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinstream")).arg("inspect").args(arguments).output().unwrap()
}

/// Goal: the JSON output sums up to the published cost of ResNet-50 and names every layer.
#[test]
fn json_has_every_layer_and_the_totals() {
    let output = inspect(&["--json", "--size", "224x224"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (total, layers) = objects.split_last().unwrap();
    assert_eq!(total["layers"], layers.len());
    for field in ["macs", "weight_bytes", "read_bytes", "write_bytes"] {
        let sum: u64 = layers.iter().map(|layer| layer[field].as_u64().unwrap()).sum();
        assert_eq!(total[field], sum, "{field}");
    }
    // 4.089 GMAC with 1,000 classes; this network has 10.
    assert_eq!(total["macs"], 4_089_184_256u64 - 990 * 2048);
    assert_eq!(layers[0]["layer"], "conv1");
    assert_eq!(layers[55]["output"], serde_json::json!([1, 1, 10]));
}

#[test]
fn table_lists_the_layers() {
    let output = inspect(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(text.lines().count(), 56 + 3, "{text}");
    assert!(text.contains("layer4.2.conv3"), "{text}");
}

#[test]
fn sizes_out_of_range_are_wrong_usage() {
    for size in ["31x32", "32x5000", "224", "axb"] {
        let output = inspect(&["--size", size]);
        assert_eq!(output.status.code(), Some(2), "{size}");
        assert!(output.stdout.is_empty());
        assert!(!output.stderr.is_empty(), "{size}");
    }
}
