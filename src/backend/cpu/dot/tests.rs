//! The network against its definition: 8-bit integers byte by byte, bf16 step by step.

use std::collections::BTreeMap;

use super::*;
use crate::backend::cpu::reference;
use crate::model::{FilterParts, ModelConfig, Network, Op, Parts};

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next(256) as u8).collect()
    }
}

/// A network whose activations fill their range, more or less.
fn quantized_model(class_count: usize) -> Model {
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
/// not full; classes that fill no panel, and several.
#[test]
fn integers_are_those_of_the_definition() {
    for (class_count, height, width, batch_len, threads) in
        [(10, 32, 32, 1, 1), (10, 33, 47, 3, 2), (130, 70, 37, 2, 3), (64, 41, 104, 7, 1)]
    {
        let model = quantized_model(class_count);
        let network = model.network(height, width).unwrap();
        let image_bytes = network.input_shape().value_len();
        let images = Numbers(height as u64).bytes(image_bytes * batch_len);
        let expected: Vec<_> = images
            .chunks_exact(image_bytes)
            .map(|image| reference(&model, height, width, image).unwrap())
            .collect();
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
