//! What only the emulated device can be made to do: be late, refuse work, be lost, be small or old.

use twinstream::backend::cuda::emulated::{Behaviour, configure};
use twinstream::backend::cuda::{CudaDevice, CudaOptions, DeviceId};
use twinstream::engine::{Engine, Failure, Refused, RequestOptions};
use twinstream::sched::PolicySpec;

use super::device::{Bench, CLASS_COUNT, IMAGE_BYTES, cifar, model, open};
use super::golden::check;
use super::live::{LONG, drop_in_the_middle, options, references, seed, serve, serve_side_by_side};

/// One launch in four is refused, and an attempt makes ten or more: so many without a refusal come
/// once in 10^20 times.
const ATTEMPT_LEN_MAX: u64 = 16;

#[test]
fn a_lost_device_ends_every_request() {
    let (pixels, _) = cifar();
    configure(4, &Behaviour::default());
    let options = options(PolicySpec::Stream);
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

/// Goal: two devices serve one queue from memory that is page-locked for both; when one is lost
/// under load, the other answers all that it had not, bit for bit.
#[test]
fn a_lost_devices_requests_are_answered_by_another() {
    let (seed, (pixels, _)) = (seed(), cifar());
    let devices = [8, 9];
    let expected = references(devices[0], &pixels);
    for lost in [0, 1] {
        let late = Behaviour { seed, delay_us_max: 1_000, ..Behaviour::default() };
        devices.iter().for_each(|&device| configure(device, &late));
        let backends = devices.map(|device| open(device).into());
        let engine = Engine::start_all(backends.into(), &options(PolicySpec::Stream)).unwrap();
        configure(devices[lost], &Behaviour { lose_after: 12, ..late });
        let (completed_len, failed_len) = serve(&engine, &pixels, &expected, (seed, 5));
        assert!(failed_len == 0 && engine.drain(LONG) && engine.fault().is_none());
        let stats = engine.stats();
        assert_eq!(stats.completed, completed_len as u64);
        assert!(stats.devices.iter().all(|device| device.batches > 0), "{:?}", stats.devices);
        let faults: Vec<_> = engine.device_faults().map(|(place, _)| place).collect();
        assert_eq!(faults, [lost]);
    }
    devices.iter().for_each(|&device| configure(device, &Behaviour::default()));
}

/// Goal: a device without room says how much is needed, for weights as for the engine's memory, and
/// leaves what it had allocated.
#[test]
fn a_full_device_says_what_it_lacks() {
    configure(5, &Behaviour { memory_bytes: 1 << 20, ..Behaviour::default() });
    let cuda = CudaOptions::for_model(model()).device(DeviceId::Index(5));
    let error = CudaDevice::new(model(), &cuda).unwrap_err();
    assert!(error.is_memory(), "{error}");
    assert!(error.to_string().contains("bytes of weights"), "{error}");

    configure(5, &Behaviour { memory_bytes: 52 << 20, ..Behaviour::default() });
    for _ in 0..2 {
        let large = options(PolicySpec::Stream).slot_len(8192);
        let error = Engine::start(open(5), &large).unwrap_err();
        assert!(error.is_memory(), "{error}");
        assert!(error.to_string().contains("no room"), "{error}");
    }
}

/// Goal: nothing is lost or mixed up, however late copies move and whichever stream runs first, and
/// refused launches fail their own batch alone.
#[test]
fn answers_are_exact_on_a_late_and_unreliable_device() {
    let seed = seed();
    let (pixels, _) = cifar();
    configure(1, &Behaviour::default());
    let expected = references(1, &pixels);
    for policy in [PolicySpec::Stream, PolicySpec::Jit] {
        let late = Behaviour { seed, delay_us_max: 3_000, ..Behaviour::default() };
        configure(1, &late);
        let engine = Engine::start(open(1), &options(policy)).unwrap();
        let (completed_len, failed_len) = serve(&engine, &pixels, &expected, (seed, 4));
        assert_eq!(failed_len, 0, "{policy}: nothing was to fail");
        configure(1, &Behaviour { refuse_launch_one_in: 4, ..late });
        // How many launches there are is up to the threads: until some were refused and some not.
        let (mut unreliable_len, mut refused_len) = (0, 0);
        for attempt in 0..ATTEMPT_LEN_MAX {
            let (completed_len, failed_len) =
                serve(&engine, &pixels, &expected, (seed ^ (7 + attempt), 6));
            unreliable_len += completed_len;
            refused_len += failed_len;
            if refused_len > 0 && unreliable_len > 0 {
                break;
            }
        }
        eprintln!(
            "{policy}: {completed_len} exact answers, then {unreliable_len} with {refused_len} \
             failed by refused launches"
        );
        assert!(refused_len > 0 && unreliable_len > 0);
        assert!(engine.drain(LONG));
        let stats = engine.stats();
        assert_eq!(stats.completed + stats.failed, stats.accepted);
        assert_eq!(stats.completed, completed_len as u64 + unreliable_len as u64);
        assert_eq!(stats.failed, refused_len as u64);
        assert!(engine.fault().is_none());
    }
}

/// Goal: engines on one device and on two don't disturb each other.
#[test]
fn engines_side_by_side_on_late_devices() {
    let seed = seed();
    for index in [2, 3] {
        configure(index, &Behaviour { seed, delay_us_max: 1_000, ..Behaviour::default() });
    }
    serve_side_by_side(&[2, 2, 3], seed);
}

#[test]
fn dropping_an_engine_waits_for_its_late_device() {
    configure(6, &Behaviour { delay_us_max: 20_000, ..Behaviour::default() });
    drop_in_the_middle(6);
}

/// Goal: kernels that do not wait for the one before, as older devices have them, are not begun
/// sooner. Method: the same images on a device whose kernels are as if compiled for 8.0.
#[test]
fn kernels_of_older_devices_run_one_after_another() {
    configure(7, &Behaviour { ptx_version: 80, ..Behaviour::default() });
    let (pixels, expected) = cifar();
    let found = Bench::new(open(7), 8).infer(&pixels[..8 * IMAGE_BYTES]);
    check("8 CIFAR images", &found, &expected[..8 * CLASS_COUNT]);
}
