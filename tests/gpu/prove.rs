//! The convolutions on `wgmma` proven for real, in this process: on the emulated device alone.

use std::collections::BTreeMap;

use twinstream::backend::cuda::{
    CudaDevice, CudaOptions, DeviceId, ProveOptions, Verdict, Verdicts, cases, prove,
};
use twinstream::model::Model;

use super::device::{Bench, CLASS_COUNT, IMAGE_BYTES, cifar, model};
use super::golden::check;
use super::integers::{bits, on_the_cpu, quantized};

/// A device that these tests have for themselves.
const DEVICE: u32 = 7;
/// Of a kernel's layers, one behind the first.
const OTHER: usize = 4;

/// The options, with what a proof of one bucket found: all are equal. Each kernel is tried at two
/// of its layers, the first and another; of the others that is taken for granted.
fn proven(of_model: &Model) -> CudaOptions {
    let options = CudaOptions::for_model(of_model).device(DeviceId::Index(DEVICE));
    let prove_options = ProveOptions::default()
        .batch_lens(vec![2])
        .family(Some("conv_wgmma".to_owned()))
        .repeat_len(4)
        .flush_bytes(1 << 16);
    let mut verdicts = Verdicts::default();
    let mut lens = BTreeMap::new();
    for case in cases(of_model, &options, &prove_options).unwrap() {
        let len: &mut usize = lens.entry((case.kernel.clone(), case.split_k)).or_default();
        *len += 1;
        if ![1, OTHER].contains(len) {
            verdicts.set(&case, Verdict::Equal);
        }
    }
    let options = options.verdicts(verdicts.clone());
    let mut begun = Vec::new();
    prove(of_model, &options, &prove_options, &mut |case, verdict| match verdict {
        None => begun.push(case.clone()),
        Some(verdict) => {
            assert_eq!(*verdict, Verdict::Equal, "{case:?}");
            verdicts.set(case, verdict.clone());
        }
    })
    .unwrap();
    assert_eq!(begun, cases(of_model, &options, &prove_options).unwrap());
    assert!(begun.len() > lens.len(), "{lens:?}");
    let options = options.verdicts(verdicts);
    assert!(cases(of_model, &options, &prove_options).unwrap().is_empty());
    options
}

/// Goal: kernels that compute what they should are proven, and an engine that uses them answers as
/// ever.
#[test]
fn right_kernels_are_proven() {
    let (pixels, expected) = cifar();
    let options = proven(model());
    let mut bench = Bench::new(CudaDevice::new(model(), &options).unwrap(), 2);
    let found = bench.infer(&pixels[..2 * IMAGE_BYTES]);
    check("two CIFAR images", &found, &expected[..2 * CLASS_COUNT]);
}

/// The same of 8-bit integers.
#[test]
fn right_kernels_of_integers_are_proven() {
    let (pixels, _) = cifar();
    let batch = &pixels[..2 * IMAGE_BYTES];
    let options = proven(quantized());
    let found = Bench::new(CudaDevice::new(quantized(), &options).unwrap(), 2).infer(batch);
    assert_eq!(bits(&found), bits(&on_the_cpu(batch, (32, 32))));
}
