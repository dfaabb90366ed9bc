//! The CPU backend against PyTorch's logits and against a plain reading of the layer list.

use crate::common::{self, cifar_model, f32_tensor, i32_tensor, shared_data, u8_tensor, worst};
use safetensors::SafeTensors;
use twinstream::backend::cpu::{Cpu, CpuOptions};
use twinstream::model::{Conv, Layer, Model, Op, Shape, TensorId, top_k};

/// Largest absolute difference from PyTorch's FP32 logits, which reach about 15.
const TOLERANCE: f32 = 1e-4;

fn logits(model: &Model, options: &CpuOptions, images: &[u8]) -> Vec<f32> {
    let mut cpu = Cpu::new(model, options).unwrap();
    let mut logits = vec![0.0; images.len() / cpu.image_bytes() * model.class_count()];
    cpu.infer(images, &mut logits).unwrap();
    logits
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let (index, difference) = worst(found, expected);
    eprintln!("{what}: largest difference {difference:.2e}");
    assert!(
        difference <= TOLERANCE,
        "{what}: logit {index} is {}, expected {}",
        found[index],
        expected[index]
    );
}

/// Images whose class is among the `count` best, by PyTorch's rule on its own logits too.
fn hits(logits: &[f32], labels: &[i32], count: usize) -> usize {
    let is_hit = |(logits, label): (&[f32], &i32)| {
        top_k(logits, count).iter().any(|class| class.index == *label as usize)
    };
    logits.chunks_exact(10).zip(labels).filter(|&pair| is_hit(pair)).count()
}

#[test]
fn cifar_images_of_the_repository() {
    let bytes =
        std::fs::read(common::repository("tests/data/cifar-reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let model = cifar_model();
    for threads in [1, 2, 3] {
        let options = CpuOptions::for_model(&model).threads(threads);
        let found = logits(&model, &options, &u8_tensor(&file, "cifar_pixels"));
        assert_close(&found, &f32_tensor(&file, "cifar_logits"), "200 CIFAR images");
    }
}

#[test]
fn all_thousand_cifar_images() {
    let Some(folder) = shared_data("1,000 CIFAR images against PyTorch") else { return };
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let model = cifar_model();
    let options = CpuOptions::for_model(&model);
    let found = logits(&model, &options, &u8_tensor(&file, "cifar_pixels"));
    let (expected, labels) = (f32_tensor(&file, "cifar_logits"), i32_tensor(&file, "cifar_labels"));
    assert_close(&found, &expected, "1,000 CIFAR images");
    for count in [1, 5] {
        assert_eq!(hits(&found, &labels, count), hits(&expected, &labels, count), "top-{count}");
    }
}

#[test]
fn photos_at_224() {
    let Some(folder) = shared_data("16 photos at 224x224 against PyTorch") else { return };
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let model = cifar_model();
    let options = CpuOptions::for_model(&model).height(224).width(224);
    let found = logits(&model, &options, &u8_tensor(&file, "photo_pixels_bilinear"));
    assert_close(&found, &f32_tensor(&file, "photo_logits"), "16 photos at 224x224");
}

/// Goal: any input size and batch is computed as the layer list says. Method: an oracle that reads
/// the list in f64 with padding tested at every tap.
#[test]
fn odd_sizes_against_a_plain_oracle() {
    let model = cifar_model();
    for (height, width, batch_len) in [(32, 32, 9), (33, 47, 3), (64, 40, 2), (97, 32, 1)] {
        let image_bytes = height * width * 3;
        let images: Vec<u8> =
            (0..batch_len * image_bytes).map(|i| ((i * 2_654_435_761) >> 13) as u8).collect();
        let options = CpuOptions::for_model(&model).threads(2).height(height).width(width);
        let found = logits(&model, &options, &images);
        let expected: Vec<f32> = images
            .chunks_exact(image_bytes)
            .flat_map(|image| oracle(&model, height, width, image))
            .collect();
        assert_close(&found, &expected, &format!("{batch_len} images of {height}x{width}"));
    }
}

fn oracle(model: &Model, height: usize, width: usize, image: &[u8]) -> Vec<f32> {
    let config = model.config();
    let input: Vec<f64> = image
        .iter()
        .enumerate()
        .map(|(i, &value)| {
            let (mean, std) = (f64::from(config.mean[i % 3]), f64::from(config.std[i % 3]));
            (f64::from(value) / 255.0 - mean) / std
        })
        .collect();
    let network = model.network(height, width).unwrap();
    let mut tensors: Vec<Vec<f64>> = Vec::new();
    for layer in network.layers() {
        let tensor = |id: TensorId| match id {
            TensorId::Input => &input,
            TensorId::Layer(index) => &tensors[index],
        };
        let output = match layer.op {
            Op::Conv(conv) => {
                let mut sums = product(model, layer, conv.filter, tensor(layer.input));
                finish(&mut sums, conv, conv.residual.map(tensor));
                sums
            }
            Op::FullyConnected(filter) => product(model, layer, filter, tensor(layer.input)),
            Op::MaxPool => windows(layer, |taps, channel| {
                let values = taps.map(|(at, _)| tensor(layer.input)[at + channel]);
                values.fold(f64::NEG_INFINITY, f64::max)
            }),
            Op::GlobalAveragePool => {
                let (pixels, channels) = (layer.input_shape.pixel_len(), 2048);
                let values = tensor(layer.input);
                let sum = |c: usize| (0..pixels).map(|p| values[p * channels + c]).sum::<f64>();
                (0..channels).map(|c| sum(c) / pixels as f64).collect()
            }
        };
        tensors.push(output);
    }
    tensors.last().unwrap().iter().map(|&value| value as f32).collect()
}

fn product(model: &Model, layer: &Layer, filter: usize, input: &[f64]) -> Vec<f64> {
    let filter = model.filter(filter).unwrap();
    let (side, inputs) = (layer.window().0, layer.input_shape.channels);
    windows(layer, |taps, channel| {
        taps.fold(f64::from(filter.bias[channel]), |sum, (at, tap)| {
            let weights = &filter.weights[(channel * side * side + tap) * inputs..][..inputs];
            let dot = |(&w, &x): (&f32, &f64)| f64::from(w) * x;
            sum + weights.iter().zip(&input[at..at + inputs]).map(dot).sum::<f64>()
        })
    })
}

fn finish(sums: &mut [f64], conv: Conv, residual: Option<&Vec<f64>>) {
    for (index, value) in sums.iter_mut().enumerate() {
        *value += residual.map_or(0.0, |residual| residual[index]);
        if conv.relu {
            *value = value.max(0.0);
        }
    }
}

/// Calls `value` for every output value with the offset of each input pixel in its window, and the
/// tap's number.
fn windows(
    layer: &Layer,
    value: impl Fn(&mut dyn Iterator<Item = (usize, usize)>, usize) -> f64,
) -> Vec<f64> {
    let (side, stride, padding) = layer.window();
    let Shape { height, width, channels } = layer.input_shape;
    let mut output = Vec::with_capacity(layer.output_shape.value_len());
    for row in 0..layer.output_shape.height {
        for column in 0..layer.output_shape.width {
            for channel in 0..layer.output_shape.channels {
                let mut taps = (0..side * side).filter_map(|tap| {
                    let y = (row * stride + tap / side).checked_sub(padding)?;
                    let x = (column * stride + tap % side).checked_sub(padding)?;
                    (y < height && x < width).then_some(((y * width + x) * channels, tap))
                });
                output.push(value(&mut taps, channel));
            }
        }
    }
    output
}
