//! `twinstream calibrate`, as the shell sees it.
//!
//! Goal: a file that the other commands take, figures that scripts can rely on, and no file where
//! one must not be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{repository, u8_tensor};
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

const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Images that are enough: a few more than must be.
const ENOUGH_LEN: usize = 34;

/// The first images of the reference, one of each class in turn, below `folder`: each in the folder
/// that `class` names of its index.
fn write_images(folder: &Path, len: usize, class: impl Fn(usize) -> &'static str) -> String {
    let file = fs::read(repository("tests/data/cifar-reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let pixels = u8_tensor(&file, "cifar_pixels");
    let folder = folder.join("images");
    for (index, pixels) in pixels.chunks_exact(32 * 32 * 3).take(len).enumerate() {
        let class = folder.join(class(index));
        fs::create_dir_all(&class).unwrap();
        let path = class.join(format!("{index}.png"));
        image::save_buffer(path, pixels, 32, 32, image::ColorType::Rgb8).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

/// Images in folders of their classes.
fn labelled(folder: &Path, len: usize) -> String {
    write_images(folder, len, |index| CLASSES[index % CLASSES.len()])
}

#[test]
fn what_is_written_is_what_others_take() {
    let folder = scratch("calibrated");
    let (images, out) = (labelled(&folder, ENOUGH_LEN), folder.join("small.safetensors"));
    fs::write(folder.join("images/cat/b.png"), "not a picture").unwrap();
    let output = calibrate(&images, &out, &["--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
    let lines = objects(&output);
    let [failure, layers @ .., summary] = &lines[..] else { panic!("{lines:?}") };
    assert!(failure["path"].as_str().unwrap().ends_with("b.png"));
    assert_eq!(layers.len(), 55);
    assert_eq!(layers[0]["layer"], "conv1");
    assert!(layers[0]["weights"]["error"].as_f64().unwrap() > 0.0);
    assert!(layers[0]["output"]["scale"].as_f64().unwrap() > 0.0);
    assert_eq!((&summary["images"], &summary["distinct"]), (&34.into(), &34.into()));
    for precision in ["f32", "i8"] {
        assert!(summary[precision]["top1"].as_f64().unwrap() > 0.7, "{summary}");
    }
    assert!(summary["agreement"].as_f64().unwrap() > 0.95, "{summary}");

    let file = fs::read(&out).unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let header = header.metadata().clone().unwrap();
    assert_eq!((&*header["source"], &*header["images"]), ("model.safetensors", "34"));
    assert_eq!(header["source_sha256"].len(), 64);
    assert_eq!(header["twinstream"], env!("CARGO_PKG_VERSION"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left beside it");

    let model = ["--weights", out.to_str().unwrap(), "--config", CONFIG];
    let output = twinstream(&[&["evaluate", "--json"], &model[..], &[&images]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(objects(&output)[1]["top1"], summary["i8"]["top1"]);
    assert_eq!(objects(&output)[1]["precision"], "i8");
    let again = folder.join("again.safetensors");
    let output = calibrate(&images, &again, &model);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("8-bit integers already"), "{}", stderr(&output));
    assert!(!again.exists());
    it_is_inspected_as_it_is_computed(&model);
}

/// A calibrated file has the bytes of integers, and no other precision.
fn it_is_inspected_as_it_is_computed(model: &[&str]) {
    let inspect = |more: &[&str]| twinstream(&[&["inspect", "--json"], model, more].concat());
    let output = inspect(&[]);
    assert_eq!(objects(&output).last().unwrap()["precision"], "i8");
    assert_eq!(output.stdout, inspect(&["--precision", "i8"]).stdout);
    let image = "examples/images/cifar-cat.png";
    let computed = twinstream(&[&["classify", "--precision", "f32"], model, &[image]].concat());
    for precision in ["f32", "bf16", "f16"] {
        let output = inspect(&["--precision", precision]);
        assert_eq!(output.status.code(), Some(1), "{precision}");
        assert_eq!(stderr(&output), stderr(&computed), "{precision}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn images_without_classes_do() {
    let folder = scratch("calibrate_flat");
    let images = write_images(&folder, ENOUGH_LEN, |_| "");
    let out = folder.join("flat.safetensors");
    let output = calibrate(&images, &out, &["--threads", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = str::from_utf8(&output.stdout).unwrap();
    assert!(text.contains("layer4.2.conv3") && text.contains("agreement"), "{text}");
    assert!(!text.contains("top-1"), "{text}");
    assert!(out.exists());
}

#[test]
fn what_must_not_be_written_is_not() {
    let folder = scratch("calibrate_refused");
    let images = labelled(&folder, 4);
    let own = folder.join("model.safetensors");
    fs::copy(repository(WEIGHTS), &own).unwrap();
    let before = fs::read(&own).unwrap();
    let [link, other_name] = ["link", "other.safetensors"].map(|name| folder.join(name));
    std::os::unix::fs::symlink(&own, &link).unwrap();
    fs::hard_link(&own, &other_name).unwrap();
    let config = folder.join("config.json");
    fs::copy(repository(CONFIG), &config).unwrap();
    let image = folder.join("images/cat/3.png");
    let picture = folder.join("picture.png");
    fs::copy(&image, &picture).unwrap();
    let weights = ["--weights", own.to_str().unwrap()];
    for (out, reason) in [
        (&own, "would replace the weights"),
        (&link, "would replace the weights"),
        (&other_name, "would replace the weights"),
        (&config, "would replace a file that is no network"),
        (&picture, "would replace a file that is no network"),
        (&image, "lies among the images"),
        (&folder.join("images/cat/new.safetensors"), "lies among the images"),
    ] {
        let output = calibrate(&images, out, &weights);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason}: {}", stderr(&output));
    }
    assert!(fs::read(&own).unwrap() == before);
    assert_eq!(fs::read(&config).unwrap(), fs::read(repository(CONFIG)).unwrap());
    assert_eq!(fs::read(&image).unwrap(), fs::read(&picture).unwrap());
}

#[test]
fn what_cannot_be_done_is_told_at_once() {
    let folder = scratch("calibrate_impossible");
    let images = labelled(&folder, 1);
    let out = folder.join("small.safetensors");
    let empty = scratch("calibrate_empty");
    let sub = folder.join("sub/");
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (images, out, more, code, reason) in [
        (&*images, &*out, &["--precision", "bf16"][..], 2, "--precision changes nothing"),
        (&images, &pipe, &[], 1, "a pipe: name a file"),
        (&images, &out, &["--loss-max", "101"], 2, "from 0 to 100"),
        (&images, &folder, &[], 1, "a folder"),
        (&images, &sub, &[], 1, "sub/: a folder"),
        (&images, &folder.join("absent/a"), &[], 1, "absent: no such folder"),
        (&images, Path::new("/proc/a"), &[], 1, "cannot write /proc/a"),
        (empty.to_str().unwrap(), &out, &[], 1, "has no images"),
        ("absent", &out, &[], 1, "absent"),
        ("-", &out, &[], 2, "name a folder"),
        ("examples/images/cifar-cat.png", &out, &[], 1, "not a folder: name the folder"),
    ] {
        // By force, so that the single image is not what is refused.
        let output = calibrate(images, out, &[more, &["--force"]].concat());
        assert_eq!(output.status.code(), Some(code), "{reason}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    assert!(!out.exists() && !sub.exists());

    // A device is written to, not replaced.
    let device = folder.join("full");
    std::os::unix::fs::symlink("/dev/full", &device).unwrap();
    let output = calibrate(&images, &device, &["--force"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert!(device.is_symlink());
}

/// Goal: images that are too few, or too much alike, are told before much is computed, and taken by
/// force alone.
#[test]
fn few_images_calibrate_by_force_alone() {
    let folder = scratch("calibrate_few");
    let (images, out) = (labelled(&folder, 4), folder.join("small.safetensors"));
    let output = calibrate(&images, &out, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("different images: 4, of the 32") && message.contains("--force"));

    let alike = scratch("calibrate_alike");
    for copy in 0..ENOUGH_LEN {
        let copy = alike.join(format!("{copy}.png"));
        fs::copy(repository("examples/images/cifar-cat.png"), copy).unwrap();
    }
    let output = calibrate(alike.to_str().unwrap(), &out, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("different images: 1, of the 32"), "{}", stderr(&output));
    assert!(!out.exists());

    let output = calibrate(alike.to_str().unwrap(), &out, &["--force"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for warning in ["warning: ", "different images: 1, of the 32", "takes all images for one class"]
    {
        assert!(stderr(&output).contains(warning), "{}", stderr(&output));
    }
    assert!(out.exists());
}

#[test]
fn folders_that_are_not_the_classes_are_told() {
    let folder = scratch("calibrate_shifted");
    let images = write_images(&folder, ENOUGH_LEN, |index| CLASSES[(index + 1) % CLASSES.len()]);
    let output = calibrate(&images, &folder.join("small.safetensors"), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let warning = "as good as by chance among 10";
    assert!(stderr(&output).contains(warning), "{}", stderr(&output));
}

/// Goal: who reads the first lines of the table has the file all the same. Method: the shell's
/// `true` reads none.
#[test]
fn a_reader_that_leaves_costs_no_file() {
    let folder = scratch("calibrate_unread");
    let (images, out) = (labelled(&folder, 1), folder.join("small.safetensors"));
    let line = "({ sleep 0.2; $TWINSTREAM calibrate --force --images $IMAGES --out $OUT; }; \
                echo $? >&2) | true";
    let mut command = Command::new("sh");
    command.env("TWINSTREAM", env!("CARGO_BIN_EXE_twinstream"));
    command.env("IMAGES", images).env("OUT", &out);
    let output = command.current_dir(repository("")).args(["-c", line]).output().unwrap();
    assert_eq!(stderr(&output).lines().last(), Some("0"), "{}", stderr(&output));
    assert!(out.exists());
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
    let (images, out) = (labelled(&folder, ENOUGH_LEN), folder.join("small.safetensors"));
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
    assert!(stderr(&output).contains("warning: ") && stderr(&output).contains("top-1 are lost"));
    assert!(out.exists());
}
