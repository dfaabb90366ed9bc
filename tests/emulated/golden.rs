//! The whole network on the device against PyTorch's FP32 logits.

use safetensors::SafeTensors;
use twinstream::model::{Answer, top_k, top_k_of};

use super::common::{f32_tensor, shared_data, u8_tensor, worst};
use super::device::{Bench, cifar, is_there, open, open_answering};

const CLASS_COUNT: usize = 10;
const IMAGE_BYTES: usize = 32 * 32 * 3;
/// Largest absolute difference from PyTorch's FP32 logits, which reach about 15: weights and
/// activations are rounded to f16, eleven bits, some fifty times one after another. Seen: 0.005.
const TOLERANCE: f32 = 0.02;
/// Of so many images at most one in two hundred may change its class.
const CHANGED_ONE_IN: usize = 200;

fn best(logits: &[f32]) -> Vec<usize> {
    logits.chunks_exact(CLASS_COUNT).map(|logits| top_k(logits, 1)[0].index).collect()
}

fn check(what: &str, found: &[f32], expected: &[f32]) {
    let (index, difference) = worst(found, expected);
    let image_len = expected.len() / CLASS_COUNT;
    let pairs = best(found).into_iter().zip(best(expected));
    let changed = pairs.filter(|(found, expected)| found != expected).count();
    eprintln!("{what}: largest difference {difference:.2e}, {changed} of {image_len} changed");
    assert!(
        difference <= TOLERANCE,
        "{what}: logit {index} is {}, expected {}",
        found[index],
        expected[index]
    );
    assert!(
        changed * CHANGED_ONE_IN <= image_len,
        "{what}: {changed} of {image_len} changed class"
    );
}

/// Goal: each bucket computes the network, full or not. Method: batches around the buckets' edges,
/// every logit against PyTorch's.
#[test]
fn cifar_images_of_the_repository() {
    if !is_there("50 CIFAR images on the GPU") {
        return;
    }
    let (pixels, expected) = cifar();
    let mut bench = Bench::new(open(0), 16);
    let mut found = Vec::new();
    let mut rest = &pixels[..];
    for batch_len in [1, 2, 3, 4, 5, 8, 9, 16, 2] {
        let (batch, after) = rest.split_at(batch_len * IMAGE_BYTES);
        found.extend(bench.infer(batch));
        rest = after;
    }
    assert!(rest.is_empty());
    check("50 CIFAR images", &found, &expected);
}

/// Goal: the device ranks classes as the host does. Method: the same batches by a device that
/// answers with logits and by one that answers with classes; in one bucket the logits are the same
/// bits.
#[test]
fn best_classes_are_those_of_the_logits() {
    if !is_there("best classes on the GPU") {
        return;
    }
    let (pixels, _) = cifar();
    let (mut logits, mut ranked) =
        (Bench::new(open(0), 8), Bench::new(open_answering(0, Answer::TopK(4)), 8));
    for batch in [&pixels[..IMAGE_BYTES], &pixels[IMAGE_BYTES..7 * IMAGE_BYTES]] {
        let (logits, ranked) = (logits.infer(batch), ranked.infer(batch));
        assert_eq!(ranked.len(), batch.len() / IMAGE_BYTES * 8);
        for (logits, ranked) in logits.chunks_exact(CLASS_COUNT).zip(ranked.chunks_exact(8)) {
            for (expected, found) in top_k(logits, 4).into_iter().zip(top_k_of(ranked)) {
                assert_eq!(found.index, expected.index);
                let difference = (found.probability - expected.probability).abs();
                assert!(difference <= 1e-6, "{found:?}, expected {expected:?}");
            }
        }
    }
}

#[test]
fn two_hundred_cifar_images() {
    let Some(folder) = shared_data("200 CIFAR images on the GPU against PyTorch") else { return };
    if !is_there("200 CIFAR images on the GPU") {
        return;
    }
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = u8_tensor(&file, "cifar_pixels");
    let expected = f32_tensor(&file, "cifar_logits");
    let mut bench = Bench::new(open(0), 25);
    let batches = pixels[..200 * IMAGE_BYTES].chunks(25 * IMAGE_BYTES);
    let found: Vec<f32> = batches.flat_map(|batch| bench.infer(batch)).collect();
    check("200 CIFAR images", &found, &expected[..200 * CLASS_COUNT]);
}
