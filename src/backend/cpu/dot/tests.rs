//! The network against its definition: 8-bit integers byte by byte, bf16 step by step.

use std::collections::{BTreeMap, BTreeSet};

use half::bf16;

use super::*;
use crate::backend::cpu::reference;
use crate::lower::Step;
use crate::model::{FilterParts, ModelConfig, Network, Op, Parts};

/// Numbers that look random.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next(256) as u8).collect()
    }
}

/// A network whose activations fill their range, more or less.
pub(super) fn quantized_model(class_count: usize) -> Model {
    let network = Network::resnet50(class_count, 32, 32).unwrap();
    let mut numbers = Numbers(7);
    let (mut filters, mut output_scales) = (Vec::new(), BTreeMap::new());
    for layer in network.layers() {
        output_scales.insert(layer.name.clone(), 0.02 + 0.001 * numbers.next(7) as f32);
        let (kernel, ..) = layer.window();
        if matches!(layer.op, Op::MaxPool | Op::GlobalAveragePool) {
            continue;
        }
        let sum_len = kernel * kernel * layer.input_shape.channels;
        let channels = layer.output_shape.channels;
        let spread = 1.0 / (60.0 * (sum_len as f32).sqrt());
        let scale = match layer.input_shape.channels {
            3 => spread / 60.0,
            _ => spread,
        };
        filters.push(FilterParts {
            weights: (0..channels * sum_len)
                .map(|_| numbers.next(255) as i8)
                .map(|w| w.max(-127))
                .collect(),
            scale: (0..channels).map(|_| scale * (1.0 + numbers.next(5) as f32 * 0.2)).collect(),
            bias: (0..channels).map(|_| numbers.next(9) as f32 * 0.2 - 0.3).collect(),
        });
    }
    let config = ModelConfig::default();
    let parts = Parts { filters, output_scales, origin: Vec::new() };
    Model::from_bytes("test", parts.to_bytes(&network, &config), config).unwrap()
}

/// Goal: every instruction set writes every byte as defined, at any size, batch and thread count.
/// Method: sizes whose maps are odd, small enough for merged regions, and larger; groups that are
/// not full; classes that fill some panels and a part of one.
#[test]
fn integers_are_those_of_the_definition() {
    let class_count = 70;
    let model = quantized_model(class_count);
    for (height, width, batch_len, threads) in
        [(32, 32, 1, 1), (33, 47, 3, 2), (70, 37, 2, 3), (41, 104, 7, 1)]
    {
        let network = model.network(height, width).unwrap();
        let image_bytes = network.input_shape().value_len();
        let images = Numbers(height as u64).bytes(image_bytes * batch_len);
        let expected: Vec<_> = images
            .chunks_exact(image_bytes)
            .map(|image| reference(&model, height, width, image).unwrap())
            .collect();
        for (step, values) in expected[0].activations.iter().enumerate() {
            let distinct = values.iter().collect::<BTreeSet<_>>();
            assert!(distinct.len() > 100, "step {step} tests little: {distinct:?}");
        }
        let mut team = Team::new(threads).unwrap();
        for isa in Isa::supported(DType::I8) {
            let steps = Steps::new(&network, DType::I8);
            let names: Vec<String> = steps.list.iter().map(|step| step.name.clone()).collect();
            let mut dot = Dot::new(&model, steps, isa, batch_len + 1).unwrap();
            let mut logits = vec![0.0; batch_len * class_count];
            dot.infer(&mut team, &images, &mut logits, &mut |step, found| {
                let len = found.len() / batch_len;
                for (found, expected) in found.chunks_exact(len).zip(&expected) {
                    assert!(found == expected.activations[step], "{isa:?}: {}", names[step]);
                }
            });
            for (found, expected) in logits.chunks_exact(class_count).zip(&expected) {
                assert_eq!(found, expected.logits, "{isa:?}");
            }
        }
    }
}

/// The sum at one output pixel in double precision, and the sum of its terms' magnitudes. `zero` is
/// what a channel has where the network has zero.
fn window_sum(
    weights: &[bf16],
    (shape, values): (Shape, &[f32]),
    (kernel, stride, padding): (usize, usize, usize),
    (y, x): (usize, usize),
    zero: &dyn Fn(usize) -> f64,
) -> (f64, f64) {
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (tap, weights) in weights.chunks_exact(shape.channels).enumerate() {
        let (row, column) = (y * stride + tap / kernel, x * stride + tap % kernel);
        let is_inside = |at: usize, side: usize| (padding..side + padding).contains(&at);
        if is_inside(row, shape.height) && is_inside(column, shape.width) {
            let from = ((row - padding) * shape.width + column - padding) * shape.channels;
            for (channel, weight) in weights.iter().enumerate() {
                let value = f64::from(values[from + channel]);
                sum += weight.to_f64() * (value - zero(channel));
                magnitude += (weight.to_f64() * value).abs();
            }
        }
    }
    (sum, magnitude)
}

/// What a step writes for one image, and how far from it rounding may lead.
fn expected(model: &Model, step: &Step, image: &[f32], done: &[Vec<f32>]) -> Vec<(f64, f64)> {
    let halves = |filter: Filter| match filter {
        Filter::Halves { weights, bias } => (weights, bias),
        Filter::Integers(_) => unreachable!("the model is in floating point"),
    };
    let filter = |index| halves(Filter::new(model, DType::BF16, index).unwrap());
    let (mut window, mut added, mut residual) = ((1, 1, 0), None, None);
    let mut zero: Box<dyn Fn(usize) -> f64> = Box::new(|_| 0.0);
    let (input, output, (weights, bias)) = match &step.work {
        Work::Stem { filter, input_shape, conv_shape } => {
            window = (7, 2, 3);
            let mean = model.config().mean;
            zero = Box::new(move |channel| 255.0 * f64::from(mean[channel]));
            let filter = halves(Filter::of_pixels(model, DType::BF16, *filter).unwrap());
            ((*input_shape, image), *conv_shape, filter)
        }
        Work::Conv(conv) => {
            window = (conv.conv.kernel, conv.conv.stride, conv.conv.padding);
            residual = conv.residual.map(|residual| &done[residual]);
            added = conv.shortcut.map(|shortcut| (shortcut, filter(shortcut.filter)));
            ((conv.input_shape, &done[conv.input][..]), conv.output_shape, filter(conv.conv.filter))
        }
        Work::FullyConnected { input, filter: index, channels, .. } => {
            let shape = Shape { height: 1, width: 1, channels: *channels };
            ((shape, &done[*input][..]), step.output_shape, filter(*index))
        }
        Work::AveragePool { input, input_shape } => {
            let pixels = || done[*input].chunks_exact(input_shape.channels);
            let sum = |channel: usize| pixels().map(|pixel| f64::from(pixel[channel])).sum::<f64>();
            let average = |channel| sum(channel) / input_shape.pixel_len() as f64;
            let averages = (0..input_shape.channels).map(average);
            return averages.map(|average| (average, average / 200.0)).collect();
        }
    };
    let (mut values, is_logits) = (Vec::new(), matches!(step.work, Work::FullyConnected { .. }));
    for at in 0..output.value_len() {
        let (pixel, channel) = (at / output.channels, at % output.channels);
        let pixel = (pixel / output.width, pixel % output.width);
        let of_channel = |weights: &[bf16]| {
            let len = weights.len() / output.channels;
            channel * len..(channel + 1) * len
        };
        let weights = &weights[of_channel(&weights)];
        let (mut sum, mut magnitude) = window_sum(weights, input, window, pixel, &zero);
        sum += f64::from(bias[channel]);
        if let Some((shortcut, (weights, bias))) = &added {
            let input = (shortcut.input_shape, &done[shortcut.input][..]);
            let weights = &weights[of_channel(weights)];
            let window = (1, shortcut.stride, 0);
            let (more, more_magnitude) = window_sum(weights, input, window, pixel, &zero);
            sum += more + f64::from(bias[channel]);
            magnitude += more_magnitude;
        }
        sum += residual.map_or(0.0, |residual| f64::from(residual[at]));
        let value = if is_logits { sum } else { sum.max(0.0) };
        values.push((value, value.abs() / 200.0 + magnitude * 1e-5));
    }
    match step.work {
        Work::Stem { .. } => max_pool(output, step.output_shape, &values),
        _ => values,
    }
}

fn max_pool(input: Shape, output: Shape, values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let taps = |at: usize, side: usize| (2 * at).saturating_sub(1)..side.min(2 * at + 2);
    let pixels = |at: usize| {
        let (y, x) = (at / output.width, at % output.width);
        let columns = move || taps(x, input.width);
        taps(y, input.height).flat_map(move |y| columns().map(move |x| y * input.width + x))
    };
    let largest = |at: usize| {
        let channel = at % output.channels;
        let of_channel = |pixel: usize| values[pixel * input.channels + channel];
        let larger = |a: (f64, f64), b: (f64, f64)| (a.0.max(b.0), a.1.max(b.1));
        pixels(at / output.channels).map(of_channel).reduce(larger).unwrap()
    };
    (0..output.value_len()).map(largest).collect()
}

/// Goal: each step computes what it should of what the step before it wrote, but for rounding: to
/// bf16, 2^-9 of the value, and in f32 sums, here 10^-5 of the terms' magnitudes.
#[test]
fn halves_are_near_exact_sums() {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
    let model = Model::load(weights.as_ref(), None).unwrap();
    for (height, width, batch_len, threads) in [(32, 32, 1, 1), (45, 34, 3, 2)] {
        let network = model.network(height, width).unwrap();
        let images = Numbers(5).bytes(network.input_shape().value_len() * batch_len);
        for isa in Isa::supported(DType::BF16) {
            let steps = Steps::new(&network, DType::BF16);
            let list = steps.list.clone();
            let mut dot = Dot::new(&model, steps, isa, batch_len).unwrap();
            let mut logits = vec![0.0; batch_len * network.class_count()];
            let mut done: Vec<Vec<f32>> = Vec::new();
            dot.infer(
                &mut Team::new(threads).unwrap(),
                &images,
                &mut logits,
                &mut |step, bytes| {
                    assert_eq!(step, done.len());
                    let value = |bytes: &[u8; 2]| bf16::from_ne_bytes(*bytes).to_f32();
                    done.push(bytes.as_chunks::<2>().0.iter().map(value).collect());
                },
            );
            done.push(logits);
            // The last image: it lies behind the others.
            let image = &images[images.len() / batch_len * (batch_len - 1)..];
            let image: Vec<f32> = image.iter().map(|&pixel| f32::from(pixel)).collect();
            for values in &mut done {
                values.drain(..values.len() / batch_len * (batch_len - 1));
            }
            for (step, found) in list.iter().zip(&done) {
                for (found, (value, tolerance)) in
                    found.iter().zip(expected(&model, step, &image, &done))
                {
                    let difference = (f64::from(*found) - value).abs();
                    assert!(difference <= tolerance, "{}: {found}, not {value}", step.name);
                }
            }
        }
    }
}
