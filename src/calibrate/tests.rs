//! Calibration of the repository's network, and of what is made of it: wild, dead, broken.

use std::borrow::Cow;
use std::sync::OnceLock;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

use super::trials::squared_error;
use super::*;
use crate::model::{ModelConfig, top_k};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10");
const CLASS_COUNT: usize = 10;
/// Images that tests calibrate with, one of each class in turn.
const CALIBRATION_LEN: usize = 20;

fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn model() -> Model {
    Model::load(format!("{MODEL}/model.safetensors").as_ref(), None).unwrap()
}

fn config() -> ModelConfig {
    model().config().clone()
}

/// Test images of CIFAR-10.
fn pixels() -> Vec<u8> {
    let file = read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cifar-reference.safetensors"));
    SafeTensors::deserialize(&file).unwrap().tensor("cifar_pixels").unwrap().data().to_vec()
}

/// The first images, and all others.
fn images() -> (Vec<u8>, Vec<u8>) {
    let mut pixels = pixels();
    let others = pixels.split_off(CALIBRATION_LEN * 32 * 32 * 3);
    (pixels, others)
}

fn calibrate(model: &Model, images: &[u8]) -> Result<Calibration> {
    let mut calibrator = Calibrator::new(model, &CpuOptions::for_model(model).threads(2))?;
    calibrator.observe(images)?;
    calibrator.finish(&mut |_, _| {})
}

/// The repository's network, calibrated once for all tests.
fn calibrated() -> &'static Calibration {
    static CALIBRATED: OnceLock<Calibration> = OnceLock::new();
    CALIBRATED.get_or_init(|| calibrate(&model(), &images().0).unwrap())
}

/// The logits of all images.
fn logits(model: &Model, images: &[u8]) -> Vec<f32> {
    let mut cpu = Cpu::new(model, &CpuOptions::for_model(model).threads(2)).unwrap();
    let mut logits = vec![0.0; images.len() / cpu.image_bytes() * CLASS_COUNT];
    cpu.infer(images, &mut logits).unwrap();
    logits
}

/// How many images keep their class, and the logits' error beside their variance.
fn compare(found: &[f32], expected: &[f32]) -> (usize, f64) {
    let best = |logits: &[f32]| top_k(logits, 1)[0].index;
    let pairs = found.chunks_exact(CLASS_COUNT).zip(expected.chunks_exact(CLASS_COUNT));
    let same_len = pairs.filter(|(found, expected)| best(found) == best(expected)).count();
    let mean = vec![expected.iter().sum::<f32>() / expected.len() as f32; expected.len()];
    (same_len, squared_error(found, expected) / squared_error(expected, &mean))
}

/// A tensor of a file.
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The repository's network with its tensors changed.
fn stored(change: impl Fn(&mut Stored)) -> Model {
    let file = read(&format!("{MODEL}/model.safetensors"));
    let file = SafeTensors::deserialize(&file).unwrap();
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let mut tensor = Stored { name, dtype, shape, bytes };
        change(&mut tensor);
        tensor
    };
    let tensors: Vec<_> = file.tensors().into_iter().map(tensor).collect();
    let views = tensors.iter().map(|Stored { name, dtype, shape, bytes }| {
        (Cow::from(name), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    Model::from_bytes("changed", serialize(views, None).unwrap(), config()).unwrap()
}

/// The repository's network with some tensors of f32 changed: each value by `change`, which gets
/// the tensor's name and the value's index.
fn changed(change: impl Fn(&str, usize, f32) -> f32) -> Model {
    stored(|tensor| {
        if tensor.dtype == Dtype::F32 {
            for (index, word) in tensor.bytes.chunks_exact_mut(4).enumerate() {
                let value = f32::from_le_bytes((&*word).try_into().unwrap());
                word.copy_from_slice(&change(&tensor.name, index, value).to_le_bytes());
            }
        }
    })
}

/// Goal: images that it was not calibrated with are answered as in f32, and the test would see a
/// scale that is wrong. Method: all others of the reference; then one scale doubled, one halved.
#[test]
fn answers_stay_those_of_f32() {
    let others = images().1;
    let expected = logits(&model(), &others);
    let Calibration { model, parts, network, report } = calibrated();
    let (same_len, error) = compare(&logits(model, &others), &expected);
    println!("{same_len} of 180 images keep their class, error {error:.2e}");
    assert!(same_len >= 174 && error < 3e-3, "{same_len} {error}");
    assert!(report.agreement >= 0.8 && report.loss < 0.01, "{report:?}");
    assert_eq!((report.image_len, report.kept_len), (CALIBRATION_LEN, 5));
    for (name, factor) in [("layer1.1.conv3", 0.25), ("layer2.0.conv3", 64.0)] {
        let mut wrong = parts.clone();
        *wrong.output_scales.get_mut(name).unwrap() *= factor;
        let bytes = wrong.to_bytes(network, &config());
        let wrong = Model::from_bytes("wrong", bytes, config()).unwrap();
        let (_, error) = compare(&logits(&wrong, &others), &expected);
        assert!(error > 6e-3, "{name} {error}");
    }
}

/// The repository's network with its integers in a type that holds them exactly, under names with a
/// prefix.
fn stored_as(dtype: Dtype, prefix: &str) -> Model {
    stored(|tensor| {
        tensor.name.insert_str(0, prefix);
        if tensor.dtype == Dtype::I8 {
            let values = tensor.bytes.iter().map(|&byte| f32::from(byte as i8));
            tensor.bytes = values
                .flat_map(|value| match dtype {
                    Dtype::F16 => f16::from_f32(value).to_le_bytes(),
                    _ => bf16::from_f32(value).to_le_bytes(),
                })
                .collect();
            tensor.dtype = dtype;
        }
    })
}

/// The file follows from images and weights, not from threads, time, or how weights are stored.
#[test]
fn the_result_is_always_the_same() {
    let model = model();
    let images = &images().0[..9 * 3072];
    let bytes = |model: &Model, threads: usize| {
        let options = CpuOptions::for_model(model).threads(threads);
        let mut calibrator = Calibrator::new(model, &options).unwrap();
        calibrator.observe(images).unwrap();
        let mut calibration = calibrator.finish(&mut |_, _| {}).unwrap();
        calibration.to_bytes(vec![("source".to_owned(), "this".to_owned())])
    };
    let expected = bytes(&model, 1);
    assert!(expected == bytes(&model, 2));
    for (dtype, prefix) in [(Dtype::F16, "module."), (Dtype::BF16, "")] {
        assert!(expected == bytes(&stored_as(dtype, prefix), 1), "{dtype:?}");
    }
    let (_, header) = SafeTensors::read_metadata(&expected).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["source"], "this");
}

#[test]
fn every_layer_is_reported() {
    let report = calibrated().report();
    // All layers but the max pool; four projections and the last layer write no u8.
    assert_eq!(report.layers.len(), 55);
    assert_eq!(report.layers.iter().filter(|layer| layer.output.is_none()).count(), 5);
    assert_eq!(report.layers.iter().filter(|layer| layer.weights.is_none()).count(), 1);
    for output in report.layers.iter().filter_map(|layer| layer.output) {
        assert!(output.scale > 0.0 && output.max > 0.0 && output.error < 0.01, "{output:?}");
    }
    let losses = report.costliest_outputs();
    assert_eq!(losses.len(), 50);
    assert!(losses.is_sorted_by_key(|layer| -layer.output.unwrap().loss));
    assert!(report.costliest_weights().is_sorted_by_key(|layer| -layer.weights.unwrap().error));
}

#[test]
fn a_network_with_wild_channels_survives() {
    // Channels whose values are up to a million times as large as others'.
    let wild = changed(|name, channel, value| match name {
        "layer2.1.bn1.weight" | "layer2.1.bn1.bias" => value * 10f32.powi(channel as i32 % 7 - 3),
        "layer3.0.downsample.1.weight" if channel % 5 == 0 => value * 1e-7,
        _ => value,
    });
    let (images, others) = images();
    let calibration = calibrate(&wild, &images).unwrap();
    let (same_len, error) = compare(&logits(calibration.model(), &others), &logits(&wild, &others));
    println!("wild: {same_len} of 180 images keep their class, error {error:.2e}");
    assert!(same_len >= 170 && error < 4e-2, "{same_len} {error}");
}

#[test]
fn a_network_with_dead_tensors_survives() {
    let dead = changed(|name, channel, value| match name {
        "layer1.1.bn1.weight" | "layer1.1.bn1.bias" => 0.0,
        "layer3.3.bn2.weight" => 0.0,
        "layer3.3.bn2.bias" => -1e3,
        "layer4.0.bn3.weight" if channel % 2 == 0 => 0.0,
        _ => value,
    });
    let (images, others) = images();
    let calibration = calibrate(&dead, &images).unwrap();
    let row = |name: &str| {
        calibration.report().layers.iter().find(|layer| layer.name == name).unwrap().output.unwrap()
    };
    for name in ["layer1.1.conv1", "layer3.3.conv2"] {
        assert_eq!((row(name).method, row(name).max, row(name).loss), (Method::Zero, 0.0, 0.0));
    }
    let (same_len, error) = compare(&logits(calibration.model(), &others), &logits(&dead, &others));
    println!("dead: {same_len} of 180 images keep their class, error {error:.2e}");
    assert!(same_len >= 170 && error < 2e-2, "{same_len} {error}");
}

#[test]
fn what_cannot_be_calibrated_is_told() {
    let model = model();
    let error = calibrate(&model, &[]).map(|_| ()).unwrap_err();
    assert!(error.is_argument() && error.to_string().contains("no images"), "{error}");
    let error = calibrate(&model, &[0; 3071]).map(|_| ()).unwrap_err();
    assert!(error.is_argument() && error.to_string().contains("3072"), "{error}");
    let error = calibrate(calibrated().model(), &images().0).map(|_| ()).unwrap_err();
    assert!(error.is_weights() && error.to_string().contains("already"), "{error}");
    let huge = changed(|name, _, value| match name {
        "layer2.1.bn1.weight" => value * 1e20,
        _ => value,
    });
    let error = calibrate(&huge, &images().0).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert!(error.is_weights() && message.contains("layer2.1.conv1"), "{message}");
    let huge = changed(|name, _, value| match name {
        "fc.bias" => value + 1e20,
        _ => value,
    });
    let error = calibrate(&huge, &images().0).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert!(error.is_weights() && message.contains("layer fc: writes values beyond"), "{message}");
}

/// Goal: values beyond f32 are told in whichever image they are, and nothing waits for a histogram
/// that holds them. Method: a channel of the first layer that only noise fills, and noise in an
/// image for trials alone.
#[test]
fn values_out_of_range_are_found_in_any_image() {
    let huge = changed(|name, channel, value| match name {
        "bn1.weight" if channel == 0 => 1e35,
        "bn1.running_mean" if channel == 0 => 200.0,
        "bn1.running_var" if channel == 0 => 1.0,
        "bn1.bias" if channel == 0 => 0.0,
        _ => value,
    });
    let mean = config().mean.map(|mean| (mean * 255.0).round() as u8);
    let mut images: Vec<u8> = mean.into_iter().cycle().take(5 * 3072).collect();
    calibrate(&huge, &images[..4 * 3072]).unwrap();
    for (index, value) in images[4 * 3072..].iter_mut().enumerate() {
        *value = if index * index % 7 < 3 { 0 } else { 255 };
    }
    let error = calibrate(&huge, &images).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert!(
        error.is_weights() && message.contains("layer conv1: writes values beyond"),
        "{message}"
    );
}

/// Logits are not rounded: however large they are, integers can express them.
#[test]
fn large_logits_are_calibrated() {
    let large = stored(|tensor| {
        if tensor.name == "fc.weight" {
            let value = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]).to_f32() * 1e9;
            let values = tensor.bytes.chunks_exact(2).map(value);
            tensor.bytes = values.flat_map(f32::to_le_bytes).collect();
            tensor.dtype = Dtype::F32;
        }
    });
    let (images, others) = images();
    let calibration = calibrate(&large, &images).unwrap();
    let expected = logits(&large, &others);
    assert!(expected.iter().fold(0.0, |max: f32, logit| max.max(logit.abs())) > 2e9);
    let (same_len, error) = compare(&logits(calibration.model(), &others), &expected);
    assert!(same_len >= 170 && error < 1e-2, "{same_len} {error}");
}

/// What is no whole number of images is refused, and leaves no trace.
#[test]
fn a_part_of_an_image_counts_for_nothing() {
    let model = model();
    let mut calibrator =
        Calibrator::new(&model, &CpuOptions::for_model(&model).threads(2)).unwrap();
    let error = calibrator.observe(&images().0[..3 * 3072 + 1]).unwrap_err();
    assert!(error.is_argument() && error.to_string().contains("9217 bytes"), "{error}");
    assert!(calibrator.seen.iter().all(|seen| seen.pixel_len == 0));
    assert!(calibrator.finish(&mut |_, _| {}).map(|_| ()).unwrap_err().is_argument());
}

/// Goal: no file that was spoilt is opened. Method: what a faulty writer would make, with its right
/// checksum, and what happens to bytes on their way.
#[test]
fn spoilt_files_are_refused() {
    let Calibration { parts, network, .. } = calibrated();
    let refusal = |bytes: Vec<u8>, config: ModelConfig| {
        Model::from_bytes("spoilt", bytes, config).map(|_| ()).unwrap_err().to_string()
    };
    let spoilt = |spoil: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        spoil(&mut parts);
        refusal(parts.to_bytes(network, &config()), config())
    };
    for (bad, reason) in [(f32::NAN, "finite"), (f32::INFINITY, "finite"), (0.0, "above zero")] {
        let found = spoilt(&|parts| parts.filters[3].scale[5] = bad);
        assert!(found.contains(reason) && found.contains(".weight_scale"), "{found}");
        let found = spoilt(&|parts| *parts.output_scales.get_mut("avgpool").unwrap() = bad);
        assert!(found.contains(reason) && found.contains("avgpool.output_scale"), "{found}");
    }
    let found = spoilt(&|parts| parts.filters[7].weights[100] = -128);
    assert!(found.contains("-128"), "{found}");
    let found = spoilt(&|parts| *parts.output_scales.get_mut("conv1").unwrap() = 1e-12);
    assert!(found.contains("conv1.weight_scale: at index"), "{found}");
    let found = spoilt(&|parts| *parts.output_scales.get_mut("avgpool").unwrap() = 1e-12);
    assert!(found.contains("avgpool.output_scale: averages reach"), "{found}");

    let whole = parts.to_bytes(network, &config());
    let found = refusal(whole[..whole.len() - 1].to_vec(), config());
    assert!(found.contains("1 of its"), "{found}");
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(refusal(flipped, config()).contains("copy it again"));
    let mut other = config();
    other.std[1] = 0.25;
    assert!(refusal(whole.clone(), other).contains("calibrated for"));

    let file = SafeTensors::deserialize(&whole).unwrap();
    let (_, header) = SafeTensors::read_metadata(&whole).unwrap();
    let rewritten = |name_of: &dyn Fn(&str) -> Option<String>, more: Option<&str>| {
        let tensors = file.tensors();
        let twice = tensors.iter().find(|(name, _)| name == "avgpool.output_scale").unwrap();
        let views = tensors.iter().filter_map(|(name, view)| Some((name_of(name)?, view.clone())));
        let more = more.map(|name| (name.to_owned(), twice.1.clone()));
        refusal(serialize(views.chain(more), header.metadata().clone()).unwrap(), config())
    };
    let swapped = |name: &str| match name {
        "layer1.1.conv1.weight" => Some("layer1.2.conv1.weight".to_owned()),
        "layer1.2.conv1.weight" => Some("layer1.1.conv1.weight".to_owned()),
        _ => Some(name.to_owned()),
    };
    let found = rewritten(&swapped, None);
    assert!(found.contains("not those that were written"), "{found}");
    let found = rewritten(&|name| Some(name.to_owned()), Some("maxpool.output_scale"));
    assert!(found.contains("maxpool.output_scale does not belong"), "{found}");
    let lacking =
        |part: &str| rewritten(&|name| (!name.ends_with(part)).then(|| name.into()), None);
    for (part, first) in [
        ("conv1.weight_scale", "conv1.weight_scale"),
        ("fc.weight", "fc.weight"),
        ("layer2.0.conv2.bias", "layer2.0.conv2.bias"),
        ("_scale", "avgpool.output_scale"),
    ] {
        let found = lacking(part);
        assert!(found.contains(&format!("tensor {first} is missing")), "{found}");
        assert!(found.contains("incomplete") && found.contains("twinstream calibrate"), "{found}");
    }
}
