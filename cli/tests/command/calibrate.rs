//! `twinstream calibrate`, as the shell sees it.
//!
//! Goal: a file that the other commands take, figures that scripts can rely on, and no file where
//! one must not be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::repository;
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, serialize};
use serde_json::Value;

const WEIGHTS: &str = "models/resnet50-cifar10/model.safetensors";
const CONFIG: &str = "models/resnet50-cifar10/config.json";

fn twinstream(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinstream"));
    command.current_dir(repository("")).args(arguments).output().unwrap()
}

fn calibrate(images: &str, out: &Path, more: &[&str]) -> Output {
    let arguments = ["calibrate", "--images", images, "--out", out.to_str().unwrap()];
    twinstream(&[&arguments, more].concat())
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder of its own for a test, empty.
fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Some example images in folders of their classes.
fn labelled(folder: &Path) -> String {
    for class in ["cat", "ship", "truck", "frog"] {
        fs::create_dir_all(folder.join("images").join(class)).unwrap();
        let from = repository("examples/images").join(format!("cifar-{class}.png"));
        fs::copy(from, folder.join("images").join(class).join("a.png")).unwrap();
    }
    folder.join("images").to_str().unwrap().to_owned()
}

#[test]
fn what_is_written_is_what_others_take() {
    let folder = scratch("calibrated");
    let (images, out) = (labelled(&folder), folder.join("small.safetensors"));
    fs::write(folder.join("images/cat/b.png"), "not a picture").unwrap();
    let output = calibrate(&images, &out, &["--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let lines = objects(&output);
    let [failure, layers @ .., summary] = &lines[..] else { panic!("{lines:?}") };
    assert!(failure["path"].as_str().unwrap().ends_with("b.png"));
    assert_eq!(layers.len(), 55);
    assert_eq!(layers[0]["layer"], "conv1");
    assert!(layers[0]["weights"]["error"].as_f64().unwrap() > 0.0);
    assert!(layers[0]["output"]["scale"].as_f64().unwrap() > 0.0);
    assert_eq!(summary["images"], 4);
    assert_eq!((&summary["f32"]["top1"], &summary["i8"]["top1"]), (&1.0.into(), &1.0.into()));
    assert_eq!(summary["agreement"], 1.0);

    let file = fs::read(&out).unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let header = header.metadata().clone().unwrap();
    assert_eq!((&*header["source"], &*header["images"]), ("model.safetensors", "4"));
    assert_eq!(header["source_sha256"].len(), 64);
    assert_eq!(header["twinstream"], env!("CARGO_PKG_VERSION"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left beside it");

    let out = out.to_str().unwrap();
    let model = ["--weights", out, "--config", CONFIG];
    let output = twinstream(&[&["evaluate", "--json"], &model[..], &[&images]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(objects(&output)[1]["top1"], 1.0);
    let again = folder.join("again.safetensors");
    let output = calibrate(&images, &again, &model);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("8-bit integers already"), "{}", stderr(&output));
    assert!(!again.exists());
}

#[test]
fn images_without_classes_do() {
    let folder = scratch("calibrate_flat");
    let out = folder.join("flat.safetensors");
    let output = calibrate("examples/images", &out, &["--threads", "1", "--loss-max", "10"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = str::from_utf8(&output.stdout).unwrap();
    assert!(text.contains("layer4.2.conv3") && text.contains("agreement"), "{text}");
    assert!(!text.contains("top-1"), "{text}");
    assert!(out.exists());
}

#[test]
fn what_must_not_be_written_is_not() {
    let folder = scratch("calibrate_refused");
    let images = labelled(&folder);
    let own = folder.join("model.safetensors");
    fs::copy(repository(WEIGHTS), &own).unwrap();
    let before = fs::read(&own).unwrap();
    let weights = ["--weights", own.to_str().unwrap(), "--config", CONFIG];
    let output = calibrate(&images, &own, &weights);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("would replace the weights"), "{}", stderr(&output));
    assert!(fs::read(&own).unwrap() == before);

    let out = folder.join("small.safetensors");
    let empty = scratch("calibrate_empty");
    for (images, out, more, code, reason) in [
        (&*images, &out, &["--precision", "bf16"][..], 2, "--precision changes nothing"),
        (&images, &out, &["--loss-max", "101"], 2, "from 0 to 100"),
        (&images, &folder, &[], 1, "a folder"),
        (&images, &folder.join("absent/a"), &[], 1, "absent: no such folder"),
        (empty.to_str().unwrap(), &out, &[], 1, "has no images"),
        ("absent", &out, &[], 1, "absent"),
    ] {
        let output = calibrate(images, out, more);
        assert_eq!(output.status.code(), Some(code), "{reason}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason}: {}", stderr(&output));
    }
    assert!(!out.exists());

    // A device is written to, not replaced.
    let device = folder.join("full");
    std::os::unix::fs::symlink("/dev/full", &device).unwrap();
    let output = calibrate(&images, &device, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert!(device.is_symlink());
}

/// The repository's weights with a channel that is as large as nobody needs it: what would read it
/// has weights of zero.
fn hopeless(folder: &Path) -> PathBuf {
    let file = fs::read(repository(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let readers = ["layer1.1.conv1", "layer1.2.conv1", "layer2.0.conv1", "layer2.0.downsample.0"];
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let (mut bytes, shape) = (view.data().to_vec(), view.shape().to_vec());
        if readers.iter().any(|reader| name == format!("{reader}.weight")) {
            bytes.iter_mut().step_by(shape[1]).for_each(|weight| *weight = 0);
        }
        if name == "layer1.0.bn3.bias" {
            bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
        }
        (name, view.dtype(), shape, bytes)
    };
    let tensors: Vec<_> = file.tensors().into_iter().map(tensor).collect();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let path = folder.join("hopeless.safetensors");
    fs::write(&path, serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn what_loses_too_much_is_written_by_force_alone() {
    let folder = scratch("calibrate_hopeless");
    let (images, out) = (labelled(&folder), folder.join("small.safetensors"));
    let weights = hopeless(&folder);
    let model = ["--weights", weights.to_str().unwrap(), "--config", CONFIG];
    let output = calibrate(&images, &out, &model);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let message = stderr(&output);
    for part in ["points of top-1 are lost, and 1 may be", "layer1.0.conv3", "--force"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!out.exists());
    let output = calibrate(&images, &out, &[&model[..], &["--force"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(out.exists());
}
