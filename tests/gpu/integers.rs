//! The network in 8-bit integers on the device: every logit as on the CPU, and as the definition
//! has it, bit for bit.

use std::sync::OnceLock;

use twinstream::backend::cpu::{Cpu, CpuOptions, reference};
use twinstream::backend::cuda::{
    CudaDevice, CudaOptions, DeviceInfo, ProfileOptions, TuneOptions, Tuning, Verdicts, devices,
    plan_summaries, profile, tune,
};
use twinstream::lower::DType;
use twinstream::model::{Answer, Model, top_k, top_k_of};

use super::common::calibrated;
use super::device::{Bench, CLASS_COUNT, IMAGE_BYTES, cifar, is_there, model};

/// Images that scales are chosen by.
const CALIBRATION_LEN: usize = 16;

/// The repository's model, calibrated once.
pub fn quantized() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let (pixels, _) = cifar();
        let bytes = calibrated(&pixels[..CALIBRATION_LEN * IMAGE_BYTES]);
        Model::from_bytes("calibrated", bytes, model().config().clone()).unwrap()
    })
}

fn options() -> CudaOptions {
    CudaOptions::for_model(quantized())
}

pub fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The CPU's logits of images of one size.
pub fn on_the_cpu(pixels: &[u8], (height, width): (usize, usize)) -> Vec<f32> {
    let options = CpuOptions::for_model(quantized()).threads(1).height(height).width(width);
    assert_eq!(options.precision, DType::I8);
    let mut logits = vec![0.0; pixels.len() / (height * width * 3) * CLASS_COUNT];
    Cpu::new(quantized(), &options).unwrap().infer(pixels, &mut logits).unwrap();
    logits
}

/// Goal: each bucket computes the network, full or not, with whatever tiles and splits it has.
/// Method: batches around the buckets' edges against the CPU; an image against the definition.
#[test]
fn logits_are_the_cpu_s_bit_for_bit() {
    if !is_there("CIFAR images in integers on the GPU") {
        return;
    }
    assert_eq!(options().precision, DType::I8);
    let (pixels, _) = cifar();
    let mut bench = Bench::new(CudaDevice::new(quantized(), &options()).unwrap(), 40);
    let mut rest = &pixels[..];
    for batch_len in [1, 2, 3, 5, 8, 9, 16, 17, 33] {
        let (batch, after) = rest.split_at(batch_len * IMAGE_BYTES);
        let found = bench.infer(batch);
        assert_eq!(bits(&found), bits(&on_the_cpu(batch, (32, 32))), "a batch of {batch_len}");
        rest = after;
    }
    let image = &pixels[..IMAGE_BYTES];
    let expected = reference(quantized(), 32, 32, image).unwrap().logits;
    assert_eq!(bits(&bench.infer(image)), bits(&expected));
}

/// Goal: borders of the first layer and taps in the padding are right at any input size. Method:
/// odd sides and long ones, against the CPU.
#[test]
fn other_sizes_are_the_cpu_s_bit_for_bit() {
    if !is_there("images of other sizes in integers on the GPU") {
        return;
    }
    let (cifar, _) = cifar();
    for (height, width, batch_len) in [(33, 47, 3), (65, 34, 1), (224, 224, 1)] {
        let pixels = &cifar.repeat(2)[..batch_len * height * width * 3];
        let device = CudaDevice::new(quantized(), &options().height(height).width(width)).unwrap();
        let found = Bench::new(device, batch_len as u32).infer(pixels);
        assert_eq!(bits(&found), bits(&on_the_cpu(pixels, (height, width))), "{height}x{width}");
    }
}

#[test]
fn best_classes_of_integers_are_those_of_the_logits() {
    if !is_there("best classes in integers on the GPU") {
        return;
    }
    let (pixels, _) = cifar();
    let pixels = &pixels[..3 * IMAGE_BYTES];
    let device = CudaDevice::new(quantized(), &options().answer(Answer::TopK(2))).unwrap();
    let ranked = Bench::new(device, 4).infer(pixels);
    let logits = on_the_cpu(pixels, (32, 32));
    for (logits, ranked) in logits.chunks_exact(CLASS_COUNT).zip(ranked.chunks_exact(4)) {
        let expected = top_k(logits, 2).into_iter().map(|class| class.index);
        assert!(top_k_of(ranked).map(|class| class.index).eq(expected));
    }
}

/// Goal: whichever tiles were measured to be best, logits stay; and what was measured in f16 takes
/// the place of none of these; a profile has each layer's bytes. Method: tunes two buckets,
/// profiles one.
#[test]
fn tuning_and_profiles_compute_the_same() {
    if !is_there("tuning in integers on the GPU") {
        return;
    }
    let mut tuning = Tuning::default();
    let tune_options = TuneOptions::default().batch_lens(vec![1, 4]).choice_len(3).repeat_len(1);
    tune(quantized(), &options(), &tune_options, &mut tuning, &mut |measured, _| {
        assert!(measured.iter().all(|it| it.conv.kernel.starts_with("conv_i8_")));
    })
    .unwrap();
    let device = &devices().unwrap()[0];
    let network = model().network(32, 32).unwrap();
    let none = Verdicts::default();
    let plans =
        |tuning: &Tuning| plan_summaries(&network, DType::I8, device, (tuning, &none)).unwrap();
    let (tuned, of_integers) = (tuning.clone(), plans(&tuning));
    let f16 = CudaOptions::for_model(model());
    tune(model(), &f16, &tune_options, &mut tuning, &mut |_, _| {}).unwrap();
    assert_ne!(tuning, tuned);
    assert_eq!(plans(&tuning), of_integers);

    let options = options().tuning(tuned);
    let mut profiled = Vec::new();
    let profile_options = ProfileOptions::default().batch_lens(vec![4]).repeat_len(1);
    profile(quantized(), &options, &profile_options, &mut |batch| profiled.push(batch.clone()))
        .unwrap();
    let [batch] = &profiled[..] else { panic!("{}", profiled.len()) };
    assert_eq!(bits(&batch.logits), bits(&on_the_cpu(&batch.images, (32, 32))));
    assert_eq!(batch.launches[0].kernel, "stem_i8");
    let expected = reference(quantized(), 32, 32, &batch.images[..IMAGE_BYTES]).unwrap();
    let logits = bytemuck::cast_slice(&expected.logits).to_vec();
    let expected = expected.activations.into_iter().chain([logits]);
    assert!(batch.launches.iter().map(|launch| &launch.output).eq(&expected.collect::<Vec<_>>()));
}

/// Goal: what a model or the GPU is not made for is refused with what to do.
#[test]
fn precisions_that_do_not_fit_are_refused() {
    if !is_there("precisions on the GPU") {
        return;
    }
    let refusal = |model: &Model, precision| {
        let options = CudaOptions::for_model(model).precision(precision);
        CudaDevice::new(model, &options).map(drop).unwrap_err()
    };
    let error = refusal(model(), DType::I8);
    assert!(error.is_argument() && error.to_string().contains("twinstream calibrate"), "{error}");
    for of_model in [model(), quantized()] {
        let error = refusal(of_model, DType::BF16);
        assert!(error.is_argument() && error.to_string().contains("f16 or i8"), "{error}");
    }
    assert!(refusal(quantized(), DType::F16).is_weights());
    let network = model().network(32, 32).unwrap();
    let device = DeviceInfo::h100();
    let summaries = |precision| {
        plan_summaries(&network, precision, &device, (&Tuning::default(), &Verdicts::default()))
    };
    let (plans, halved) = (summaries(DType::I8).unwrap(), summaries(DType::F16).unwrap());
    let error = summaries(DType::F32).unwrap_err();
    assert!(error.is_device() && error.to_string().contains("in f32"), "{error}");
    for (integers, halves) in plans.iter().zip(&halved) {
        assert_eq!(2 * integers.activation_bytes, halves.activation_bytes);
        assert!(integers.convs.iter().all(|conv| conv.kernel.starts_with("conv_i8_")));
    }
}
