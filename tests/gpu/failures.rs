//! What any device can be made to fail at: it isn't there, or what is asked of it is too large.

use twinstream::backend::cuda::{CudaDevice, CudaOptions, DeviceId, devices};
use twinstream::engine::{Engine, EngineOptions, RequestOptions};
use twinstream::model::Answer;
use twinstream::sched::PolicySpec;

use super::device::{IMAGE_BYTES, cifar, is_there, model, open};
use super::live::{options, references};

/// Side of images so large that few of them fill a device.
const LARGE_SIDE: usize = 4096;
/// Less than the activations of such an image, which take 832 MiB.
const LARGE_BYTES: u64 = 768 << 20;
/// The longest batch of them.
const LARGE_LEN_MAX: u64 = 63;

fn open_with(options: CudaOptions) -> twinstream::Result<CudaDevice> {
    CudaDevice::new(model(), &options)
}

#[test]
fn devices_are_found_by_index_and_identity() {
    if !is_there("devices by index and identity") {
        return;
    }
    let on = |device| open_with(CudaOptions::for_model(model()).device(device));
    for known in devices().unwrap().into_iter().take(2) {
        assert_eq!(*on(DeviceId::Uuid(known.uuid)).unwrap().info(), known);
        assert_eq!(*on(DeviceId::Index(known.index)).unwrap().info(), known);
    }
    for absent in [DeviceId::Index(99), DeviceId::Uuid([0xee; 16])] {
        let error = on(absent).unwrap_err();
        assert!(error.is_argument() && error.to_string().contains("there are"), "{error}");
    }
}

#[test]
fn what_the_network_cannot_do_is_an_argument() {
    if !is_there("options that the network cannot take") {
        return;
    }
    let good = CudaOptions::for_model(model());
    for wrong in [
        good.clone().height(0),
        good.clone().answer(Answer::TopK(0)),
        good.clone().answer(Answer::TopK(11)),
    ] {
        let error = open_with(wrong).unwrap_err();
        assert!(error.is_argument(), "{error}");
    }
}

/// Goal: an engine that does not fit says so, leaves what it had allocated, and harms none that
/// runs. Method: engines for batches of images so large that one or a few fill the device.
#[test]
fn what_does_not_fit_says_so() {
    if !is_there("batches that do not fit the GPU") {
        return;
    }
    let (pixels, _) = cifar();
    let expected = references(0, &pixels);
    let start = || Engine::start(open(0), &options(PolicySpec::Stream)).unwrap();
    let small = start();
    let memory_bytes = devices().unwrap()[0].memory_bytes;
    let image_len = (memory_bytes / LARGE_BYTES + 2).min(LARGE_LEN_MAX) as usize;
    let large = EngineOptions::default().slot_len(image_len).batch_len_max(image_len);
    let mut engines = Vec::new();
    let cuda = CudaOptions::for_model(model()).height(LARGE_SIDE).width(LARGE_SIDE);
    let error = loop {
        let device = open_with(cuda.clone());
        match device.and_then(|device| Engine::start(device, &large)) {
            Ok(engine) => engines.push(engine),
            Err(error) => break error,
        }
        let least_bytes = (engines.len() * image_len) as u64 * LARGE_BYTES;
        assert!(least_bytes < memory_bytes, "{} engines fit {memory_bytes} bytes", engines.len());
    };
    assert!(error.is_memory() && error.to_string().contains("no room"), "{error}");
    drop(engines);
    let image = &pixels[..IMAGE_BYTES];
    for engine in [small, start()] {
        let found = engine.submit(image, RequestOptions::default()).unwrap().wait().unwrap();
        assert!(expected[0].iter().any(|logits| **logits == *found));
    }
}
