//! What several integration tests share: the repository's model, reference files, skipping, running
//! programs.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use twinstream::backend::cpu::CpuOptions;
use twinstream::calibrate::Calibrator;
use twinstream::model::Model;

/// A file or folder of the repository, whichever of its packages is tested.
pub fn repository(path: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("models").is_dir());
    root.expect("packages lie in the repository").join(path)
}

/// The CIFAR-10 model that the repository carries.
pub fn cifar_model() -> Model {
    let weights = repository("models/resnet50-cifar10/model.safetensors");
    Model::load(&weights, None).unwrap_or_else(|error| panic!("{error}"))
}

/// The bytes of the same model in 8-bit integers, calibrated on `images`: u8 RGB, 32x32 each.
pub fn calibrated(images: &[u8]) -> Vec<u8> {
    let model = cifar_model();
    let options = CpuOptions::for_model(&model).threads(2);
    let mut calibrator = Calibrator::new(&model, &options).unwrap();
    calibrator.observe(images).unwrap();
    calibrator.finish(&mut |_, _| {}).unwrap().to_bytes(Vec::new())
}

/// Says that a check is skipped for want of something, and fails where `TWINSTREAM_REQUIRE`, words
/// with commas between them, names what it wants. A skip is seen without `--nocapture`: it goes
/// past what the test runner captures.
pub fn skip(want: &str, check: &str, reason: &str) {
    let required = std::env::var("TWINSTREAM_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|word| word == want);
    assert!(!is_required, "TWINSTREAM_REQUIRE names {want}, without which {check}: {reason}");
    // A closed stderr loses the line, not the test.
    let _ = writeln!(std::io::stderr(), "SKIPPED {check}: {reason}");
}

/// The large reference data beside a developer's checkout; `check` is skipped where it is absent,
/// see [`skip`] and its word `reference-data`.
pub fn shared_data(check: &str) -> Option<PathBuf> {
    let folder = repository("../shared/data");
    if folder.is_dir() {
        return Some(folder);
    }
    skip("reference-data", check, "the reference data is not beside this checkout");
    None
}

/// Runs a program to its end, which must be a good one.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{command:?}: {}\n{}{}", output.status, texts[0], texts[1]);
    output
}

/// The u8 tensor `name`.
pub fn u8_tensor(file: &SafeTensors, name: &str) -> Vec<u8> {
    file.tensor(name).unwrap().data().to_vec()
}

/// The f32 tensor `name`.
pub fn f32_tensor(file: &SafeTensors, name: &str) -> Vec<f32> {
    let words = |word: &[u8]| f32::from_le_bytes(word.try_into().unwrap());
    file.tensor(name).unwrap().data().chunks_exact(4).map(words).collect()
}

/// The i32 tensor `name`.
pub fn i32_tensor(file: &SafeTensors, name: &str) -> Vec<i32> {
    let words = |word: &[u8]| i32::from_le_bytes(word.try_into().unwrap());
    file.tensor(name).unwrap().data().chunks_exact(4).map(words).collect()
}

/// Where two sets of values differ most: index and absolute difference.
pub fn worst(found: &[f32], expected: &[f32]) -> (usize, f32) {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs())
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("at least one value")
}
