//! The CPU device behind the engine: each request gets its own image's logits.

use safetensors::SafeTensors;
use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions, reference};
use twinstream::backend::{BackendSpec, BackendSpecs, OpenOptions};
use twinstream::engine::{Engine, EngineOptions, RequestOptions};
use twinstream::lower::DType;
use twinstream::model::{Answer, Model, top_k, top_k_of};
use twinstream::sched::PolicySpec;

use super::common::{self, cifar_model, f32_tensor, u8_tensor, worst};

/// Largest absolute difference from PyTorch's FP32 logits, as for the CPU backend alone.
const TOLERANCE: f32 = 1e-4;

/// Goal: batching and concurrency mix nothing up. Method: three producers, each image several
/// times, every logit against PyTorch's; and the same image always gets nearly the same logits.
#[test]
fn concurrent_producers_get_their_own_logits() {
    let path = common::repository("tests/data/cifar-reference.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (pixels, expected) = (u8_tensor(&file, "cifar_pixels"), f32_tensor(&file, "cifar_logits"));
    let model = cifar_model();
    for policy in [PolicySpec::Stream, PolicySpec::Jit, PolicySpec::Serial] {
        let options = CpuOptions::for_model(&model).threads(2);
        let device = CpuDevice::new(Cpu::new(&model, &options).unwrap());
        let options = EngineOptions::default().policy(policy).slot_len(16);
        let engine = Engine::start(device, &options).unwrap();
        let image_bytes = engine.geometry().image_bytes;
        let image_len = pixels.len() / image_bytes;
        std::thread::scope(|scope| {
            for producer in 0..3 {
                let (engine, pixels, expected) = (&engine, &pixels, &expected);
                scope.spawn(move || {
                    let order = (0..image_len).map(|i| (i * 7 + producer * 13) % image_len);
                    let order: Vec<usize> = order.collect();
                    for few in order.chunks(5) {
                        let tickets = few.iter().map(|&index| {
                            let image = &pixels[index * image_bytes..][..image_bytes];
                            engine.submit(image, RequestOptions::default()).unwrap()
                        });
                        let tickets: Vec<_> = tickets.collect();
                        for (&index, ticket) in few.iter().zip(tickets) {
                            let logits = ticket.wait().unwrap();
                            let (at, off) = worst(&logits, &expected[index * 10..][..10]);
                            assert!(off <= TOLERANCE, "image {index}, logit {at}: off by {off}");
                        }
                    }
                });
            }
        });
        assert!(engine.drain(std::time::Duration::from_secs(20)));
        let stats = engine.stats();
        assert_eq!(stats.completed, 3 * image_len as u64);
        let batches: u64 = stats.started.compute.iter().sum();
        eprintln!("{policy}: {} images in {batches} batches, {:?}", stats.completed, stats.fits);
        assert!(batches < stats.completed, "nothing was ever batched");
    }
}

/// Goal: in 8-bit integers an answer depends on neither batch nor threads, and is the defined one.
/// Method: images from several producers, each answer bit for bit that of the scalar definition.
#[test]
fn answers_in_8_bit_integers_are_the_defined_ones() {
    let path = common::repository("tests/data/cifar-reference.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let pixels = u8_tensor(&SafeTensors::deserialize(&bytes).unwrap(), "cifar_pixels");
    let config = cifar_model().config().clone();
    let model = Model::from_bytes("calibrated", common::calibrated(&pixels[..8 * 3072]), config);
    let model = model.unwrap();
    let images: Vec<&[u8]> = pixels.chunks_exact(3072).skip(8).take(6).collect();
    let expected = images.iter().map(|image| reference(&model, 32, 32, image).unwrap().logits);
    let expected: Vec<_> = expected.collect();
    // One team, and two that share their weights.
    for specs in ["cpu", "cpu:2x1"] {
        let specs: BackendSpecs = specs.parse().unwrap();
        let backends = specs.open(Some(&model), &OpenOptions::default()).unwrap();
        let options = EngineOptions::default().slot_len(16);
        let engine = Engine::start_all(backends, &options).unwrap();
        std::thread::scope(|scope| {
            for producer in 0..3 {
                let (engine, images, expected) = (&engine, &images, &expected);
                scope.spawn(move || {
                    for index in (0..60).map(|turn| (turn * 5 + producer) % images.len()) {
                        let image = images[index];
                        let ticket = engine.submit(image, RequestOptions::default()).unwrap();
                        assert_eq!(*ticket.wait().unwrap(), *expected[index]);
                    }
                });
            }
        });
        assert!(engine.stats().devices.iter().all(|device| device.images > 0));
    }
}

/// Goal: a precision that cannot be had says what can. Method: each of them.
#[test]
fn precisions_that_do_not_fit_are_refused() {
    let model = cifar_model();
    for (precision, remedy) in
        [(DType::I8, "twinstream calibrate"), (DType::F16, "f32, bf16 or i8")]
    {
        let options = OpenOptions::default().precision(Some(precision));
        let error =
            BackendSpec::Cpu { threads: None }.open(Some(&model), &options).map(drop).unwrap_err();
        assert!(error.is_argument() && error.to_string().contains(remedy), "{error}");
    }
    let image = vec![90; 3 * 32 * 32];
    let bytes = common::calibrated(&image);
    let model = Model::from_bytes("calibrated", bytes, model.config().clone()).unwrap();
    for precision in [DType::F32, DType::BF16] {
        let options = OpenOptions::default().precision(Some(precision));
        // Where the processor lacks bf16, that is what is said.
        let opened = BackendSpec::Cpu { threads: None }.open(Some(&model), &options);
        if let Err(error) = opened.map(drop) {
            let text = error.to_string();
            assert!(text.contains("it was calibrated from") || text.contains("AVX512"), "{text}");
        } else {
            panic!("{precision} of a network in 8-bit integers");
        }
    }
}

/// Goal: the classes of an answer are those of the logits. Method: each image by both devices.
#[test]
fn best_classes_are_those_of_the_logits() {
    let path = common::repository("tests/data/cifar-reference.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let pixels = u8_tensor(&SafeTensors::deserialize(&bytes).unwrap(), "cifar_pixels");
    let model = cifar_model();
    let start = |answer| {
        let cpu = Cpu::new(&model, &CpuOptions::for_model(&model)).unwrap();
        let device = CpuDevice::answering(cpu, answer)?;
        Engine::start(device, &EngineOptions::default())
    };
    assert!(start(Answer::TopK(11)).unwrap_err().is_argument());
    let (logits, ranked) = (start(Answer::Logits).unwrap(), start(Answer::TopK(3)).unwrap());
    assert_eq!(ranked.geometry().result_len, 6);
    for image in pixels.chunks_exact(logits.geometry().image_bytes).take(10) {
        let answer = |engine: &Engine| {
            engine.submit(image, RequestOptions::default()).unwrap().wait().unwrap()
        };
        let found: Vec<_> = top_k_of(&answer(&ranked)).collect();
        assert_eq!(found, top_k(&answer(&logits), 3));
    }
}
