//! The whole network on the device against PyTorch's FP32 logits.

use twinstream::backend::cpu::{Cpu, CpuOptions};
use twinstream::backend::cuda::{CudaDevice, CudaOptions};
use twinstream::model::{Answer, top_k, top_k_of};

use super::common::worst;
use super::device::{
    Bench, CLASS_COUNT, IMAGE_BYTES, cifar, is_there, model, open, open_answering,
};

/// Largest absolute difference from PyTorch's FP32 logits, which reach about 15: weights and
/// activations are rounded to f16, eleven bits, some fifty times one after another. Seen: 0.005.
const TOLERANCE: f32 = 0.02;
/// Of so many images at most one in two hundred may change its class.
const CHANGED_ONE_IN: usize = 200;

fn best(logits: &[f32]) -> Vec<usize> {
    logits.chunks_exact(CLASS_COUNT).map(|logits| top_k(logits, 1)[0].index).collect()
}

pub fn check(what: &str, found: &[f32], expected: &[f32]) {
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
fn cifar_images_as_in_pytorch() {
    if !is_there("200 CIFAR images on the GPU") {
        return;
    }
    let (pixels, expected) = cifar();
    let mut bench = Bench::new(open(0), 40);
    let mut found = Vec::new();
    let mut rest = &pixels[..];
    for batch_len in [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 24] {
        let (batch, after) = rest.split_at(batch_len * IMAGE_BYTES);
        found.extend(bench.infer(batch));
        rest = after;
    }
    assert!(rest.is_empty());
    check("200 CIFAR images", &found, &expected);
}

/// Goal: any input size is computed. Method: pictures of two sizes against the CPU backend, which
/// PyTorch and a plain oracle vouch for.
#[test]
fn other_sizes_as_on_the_cpu() {
    if !is_there("images of other sizes on the GPU") {
        return;
    }
    for (height, width, batch_len) in [(33, 47, 3), (224, 224, 1)] {
        let image_bytes = height * width * 3;
        // Smooth, as pictures are: enlarged CIFAR images.
        let (cifar, _) = cifar();
        let pixel = |i: usize| {
            let (image, at) = (i / image_bytes, i % image_bytes);
            let (y, x, c) = (at / 3 / width * 32 / height, at / 3 % width * 32 / width, at % 3);
            cifar[image * IMAGE_BYTES + (y * 32 + x) * 3 + c]
        };
        let pixels: Vec<u8> = (0..batch_len * image_bytes).map(pixel).collect();
        let cpu_options = CpuOptions::for_model(model()).threads(1).height(height).width(width);
        let mut expected = vec![0.0; batch_len * CLASS_COUNT];
        Cpu::new(model(), &cpu_options).unwrap().infer(&pixels, &mut expected).unwrap();
        let options = CudaOptions::for_model(model()).height(height).width(width);
        let device = CudaDevice::new(model(), &options).unwrap();
        let found = Bench::new(device, batch_len as u32).infer(&pixels);
        check(&format!("{batch_len} images of {height}x{width}"), &found, &expected);
    }
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
