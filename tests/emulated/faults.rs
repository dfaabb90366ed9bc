//! What becomes of an engine whose device is absent, full or lost.

use std::time::Duration;

use twinstream::backend::cuda::emulated::{Behaviour, configure};
use twinstream::backend::cuda::{CudaDevice, CudaOptions, DeviceId, devices};
use twinstream::engine::{Engine, EngineOptions, Failure, Refused, RequestOptions};
use twinstream::ring::Memory;

use super::device::{cifar, model, open};

const IMAGE_BYTES: usize = 32 * 32 * 3;

fn options() -> EngineOptions {
    EngineOptions::default().slot_len(4).batch_len_max(2)
}

fn open_with(device: DeviceId) -> twinstream::Result<CudaDevice> {
    CudaDevice::new(model(), &CudaOptions { device, ..CudaOptions::for_model(model()) })
}

#[test]
fn a_lost_device_ends_every_request() {
    let (pixels, _) = cifar();
    configure(4, &Behaviour::default());
    let options = options().memory_weakest(Memory::Cuda);
    let engine = Engine::start(open(4), &options).unwrap();
    let image = &pixels[..IMAGE_BYTES];
    let kept = engine.submit(image, RequestOptions::default()).unwrap().wait().unwrap();
    let before = kept.to_vec();
    configure(4, &Behaviour { lose_after: 20, ..Behaviour::default() });
    let tickets = (0..4).map_while(|_| engine.submit(image, RequestOptions::default()).ok());
    let answers: Vec<_> = tickets.collect::<Vec<_>>().into_iter().map(|t| t.wait()).collect();
    assert!(answers.iter().any(|answer| matches!(answer, Err(Failure::DeviceLost))));
    for answer in &answers {
        match answer {
            Ok(_) | Err(Failure::DeviceLost) => {}
            Err(failure) => panic!("{failure}"),
        }
    }
    let fault = engine.fault().expect("the device is lost");
    assert!(fault.is_lost && fault.message.contains("719"), "{fault}");
    assert_eq!(engine.lease().unwrap_err(), Refused::DeviceLost);
    drop(engine);
    // Page-locked memory of results outlives the engine and its context's other users.
    assert_eq!(*kept, before);
    drop(kept);
    // A driver that was reset serves again.
    configure(4, &Behaviour::default());
    let engine = Engine::start(open(4), &options).unwrap();
    let again = engine.submit(image, RequestOptions::default()).unwrap().wait().unwrap();
    assert_eq!(*again, before);
}

/// Goal: a device without room says how much is needed, for weights as for the engine's memory, and
/// leaves what it had allocated.
#[test]
fn a_full_device_says_what_it_lacks() {
    configure(5, &Behaviour { memory_bytes: 1 << 20, ..Behaviour::default() });
    let error = open_with(DeviceId::Index(5)).unwrap_err();
    assert!(error.is_memory(), "{error}");
    assert!(error.to_string().contains("bytes of weights"), "{error}");

    configure(5, &Behaviour { memory_bytes: 52 << 20, ..Behaviour::default() });
    for _ in 0..2 {
        let slot_len = 8192;
        let error = Engine::start(open(5), &options().slot_len(slot_len)).unwrap_err();
        assert!(error.is_memory(), "{error}");
        assert!(error.to_string().contains("no room"), "{error}");
    }
}

#[test]
fn devices_are_found_by_index_and_identity() {
    let list = devices().unwrap();
    let by_uuid = open_with(DeviceId::Uuid(list[1].uuid)).unwrap();
    assert_eq!(by_uuid.info().index, 1);
    for absent in [DeviceId::Index(99), DeviceId::Uuid([0xee; 16])] {
        let error = open_with(absent).unwrap_err();
        assert!(error.is_argument() && error.to_string().contains("there are"), "{error}");
    }
}

#[test]
fn dropping_an_engine_waits_for_its_device() {
    let (pixels, _) = cifar();
    let behaviour = Behaviour { delay_us_max: 20_000, ..Behaviour::default() };
    configure(6, &behaviour);
    for _ in 0..3 {
        let engine = Engine::start(open(6), &options()).unwrap();
        let tickets: Vec<_> = (0..4)
            .map(|_| engine.submit(&pixels[..IMAGE_BYTES], RequestOptions::default()).unwrap())
            .collect();
        std::thread::sleep(Duration::from_millis(5));
        drop(engine);
        for ticket in tickets {
            assert!(matches!(ticket.wait(), Ok(_) | Err(Failure::ShutDown)));
        }
    }
}
