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

/// Goal: bytes are those of the precision. Method: totals of each by hand from those of f32: what
/// is f32 in every precision, and pixels, are no part of what shrinks.
#[test]
fn bytes_follow_the_precision() {
    let total = |precision: &str| -> Value {
        let output = inspect(&["--json", "--precision", precision]);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    };
    let exact = total("f32");
    assert_eq!(exact["precision"], "f32");
    assert_eq!(exact["weight_bytes"], 4 * exact["parameters"].as_u64().unwrap());
    // Convolutions have 26,560 output channels, each with a bias.
    let (biases, pixels, logits) = (4 * (26_560 + 10), 32 * 32 * 3, 4 * 10);
    for (precision, share, biases_len) in [("bf16", 2, 1), ("f16", 2, 1), ("i8", 4, 2)] {
        let total = total(precision);
        assert_eq!(total["precision"], precision);
        let shrunk = |field: &str, rest: u64| (exact[field].as_u64().unwrap() - rest) / share;
        for (field, expected) in [
            ("weight_bytes", shrunk("weight_bytes", biases) + biases * biases_len),
            ("read_bytes", shrunk("read_bytes", 4 * pixels) + pixels),
            ("write_bytes", shrunk("write_bytes", logits) + logits),
            ("arena_bytes", shrunk("arena_bytes", 0)),
        ] {
            assert_eq!(total[field].as_u64().unwrap(), expected, "{precision}: {field}");
        }
    }
    let output = inspect(&["--precision", "int8"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("expected f32, bf16, f16 or i8"), "{errors}");
}

#[test]
fn table_lists_the_layers() {
    let output = inspect(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(text.lines().count(), 56 + 4, "{text}");
    assert!(text.contains("layer4.2.conv3"), "{text}");
}

#[test]
fn the_table_fits_a_terminal_at_any_size() {
    for size in ["32x32", "224x224", "4096x4096", "1024x4096"] {
        let output = inspect(&["--size", size]);
        let text = String::from_utf8(output.stdout).unwrap();
        // The first line has the path of the weights.
        let wide = text.lines().skip(1).find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{size}");
    }
}

#[test]
fn options_for_a_gpu_need_its_plan_and_a_build_that_has_one() {
    let output = inspect(&["--device", "0"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("--device") && errors.contains("--plan"), "{errors}");
    if !cfg!(feature = "cuda") {
        let output = inspect(&["--plan", "--device", "0"]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(errors.contains("build with --features cuda"), "{errors}");
        assert!(output.stdout.is_empty());
    }
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
