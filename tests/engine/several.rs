//! Several devices in one engine: what one of them does wrong, the others make good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use twinstream::backend::{Backend, Geometry, Null};
use twinstream::engine::{Answer, Engine, EngineOptions, Failure, Refused, RequestOptions};

use super::device::{Device, Plan, Random, calibration_len, checksum, result_of};

const IMAGE_BYTES: usize = 100;
const BATCH_LEN_MAX: usize = 8;
const LONG: Duration = Duration::from_secs(60);
/// Work that a bad device does well before it may do wrong, beyond its calibration.
const GOOD_LEN: u64 = 20;

fn options() -> EngineOptions {
    EngineOptions::default().slot_len(64).stall_timeout(Duration::from_millis(200))
}

/// A device of which each piece of work may be late, and that goes wrong once in so many as `plan`
/// says, but does something well before.
fn device(plan: Plan, seed: u64) -> Device {
    let spared = calibration_len(BATCH_LEN_MAX) + GOOD_LEN;
    Device::new(IMAGE_BYTES, BATCH_LEN_MAX, Plan { delay_us_max: 200, spared, ..plan }, seed)
}

fn start(devices: Vec<Device>) -> Engine {
    let backends = devices.into_iter().map(Into::into).collect();
    Engine::start_all(backends, &options()).unwrap()
}

fn image(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..IMAGE_BYTES).map(|_| random.next() as u8).collect()
}

/// Hands images in from several threads, each in its own way, until `is_over`, and then as many
/// again: each is answered, and rightly, once.
fn load(engine: &Engine, is_over: impl Fn() -> bool + Sync) {
    let (called, asked) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (called, asked, is_over) = (&called, &asked, &is_over);
            scope.spawn(move || {
                let mut left = 200;
                for number in (0..).map(|round| 3 * round + thread) {
                    assert!(start.elapsed() < LONG, "{:?}", engine.stats());
                    left -= u64::from(is_over());
                    if left == 0 {
                        break;
                    }
                    hand_in(engine, number, called, asked);
                }
            });
        }
    });
    while called.load(Ordering::Relaxed) < asked.load(Ordering::Relaxed) {
        assert!(start.elapsed() < LONG, "a handler was not called");
    }
    assert_eq!(called.load(Ordering::Relaxed), asked.load(Ordering::Relaxed), "called twice");
}

fn hand_in(engine: &Engine, number: u64, called: &Arc<AtomicU64>, asked: &AtomicU64) {
    let options = RequestOptions::default();
    if number.is_multiple_of(4) {
        let images: Vec<_> = (0..5).map(|place| image(number + place)).collect();
        let mut lease = engine.lease_many_timeout(images.len(), LONG).unwrap();
        lease.images_mut().zip(&images).for_each(|(place, image)| place.copy_from_slice(image));
        let answers = lease.commit(options).unwrap().wait();
        for (answer, image) in answers.zip(&images) {
            assert_eq!(*answer.unwrap(), result_of(checksum(image)));
        }
        return;
    }
    let image = image(number);
    let expected = result_of(checksum(&image));
    let mut lease = engine.lease_timeout(LONG).unwrap();
    lease.copy_from_slice(&image);
    if number % 4 == 1 {
        asked.fetch_add(1, Ordering::Relaxed);
        let called = Arc::clone(called);
        let handler = move |_: u64, answer: Answer| {
            // A panic of a handler stops nothing: what is wrong is not counted, and missed.
            assert_eq!(*answer.unwrap(), expected);
            called.fetch_add(1, Ordering::Relaxed);
        };
        lease.commit_with(options, Arc::new(handler), number).unwrap();
        return;
    }
    assert_eq!(*lease.commit(options).unwrap().wait().unwrap(), expected);
}

/// Goal: whatever way a device is lost in, under load from several threads, every request is
/// answered by the others, rightly and once; who asks is told which one is lost and why.
fn check_loss(plan: Plan, reason: &str, is_dropped: bool) {
    for seed in 0..5 {
        // The bad one is the first or the last.
        let bad = seed as usize % 2;
        let mut devices = vec![device(Plan::default(), seed), device(Plan::default(), seed + 10)];
        devices[bad] = device(plan, seed + 20);
        let ends = [devices[0].is_dropped(), devices[1].is_dropped()];
        let engine = start(devices);
        load(&engine, || engine.device_faults().next().is_some());
        let faults: Vec<_> = engine.device_faults().collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].0 == bad && faults[0].1.message.contains(reason), "{faults:?}");
        assert!(engine.fault().is_none() && engine.refusal().is_none());
        assert!(engine.drain(LONG));
        let stats = engine.stats();
        assert_eq!(stats.accepted, stats.completed, "{stats:?}");
        assert!(stats.devices[bad].is_lost && !stats.devices[1 - bad].is_lost);
        assert!(stats.devices.iter().all(|device| device.batches > 0), "{:?}", stats.devices);
        let images: u64 = stats.devices.iter().map(|device| device.images).sum();
        assert!(images >= stats.completed, "what was lost is computed again");
        let text = stats.prometheus();
        for (device, is_lost) in [(bad, 1), (1 - bad, 0)] {
            let images = stats.devices[device].images;
            let lost = format!("twinstream_device_lost{{device=\"{device}\"}} {is_lost}\n");
            let computed =
                format!("twinstream_device_images_total{{device=\"{device}\"}} {images}\n");
            assert!(text.contains(&lost) && text.contains(&computed), "{text}");
        }
        drop(engine);
        let was_dropped = |device: usize| ends[device].load(Ordering::Relaxed);
        assert!(was_dropped(1 - bad));
        assert_eq!(was_dropped(bad), is_dropped, "a stalled device is not touched again");
    }
}

#[test]
fn a_device_that_says_it_is_lost_is_left_out() {
    check_loss(Plan { lose_one_in: 20, ..Plan::default() }, "injected loss", true);
}

#[test]
fn a_device_that_panics_is_left_out() {
    check_loss(Plan { panic_one_in: 20, ..Plan::default() }, "injected panic", true);
}

#[test]
fn a_device_that_stalls_is_left_out() {
    check_loss(Plan { stall_one_in: 20, ..Plan::default() }, "no work ended within", false);
}

/// Goal: failures that are none for good end the requests that they hit, and no others; the device
/// goes on.
#[test]
fn a_device_that_fails_now_and_then_goes_on() {
    let plan = Plan { fail_one_in: 5, ..Plan::default() };
    let engine = start(vec![device(plan, 1), device(Plan::default(), 2)]);
    let (mut failed, start) = (0, Instant::now());
    while failed < 10 || engine.stats().devices[1].batches == 0 {
        assert!(start.elapsed() < LONG);
        let tickets: Vec<_> = (0..32)
            .map(|number| engine.submit(&image(number), RequestOptions::default()).unwrap())
            .collect();
        for (number, ticket) in (0..).zip(tickets) {
            match ticket.wait() {
                Ok(output) => assert_eq!(*output, result_of(checksum(&image(number)))),
                Err(failure) => {
                    assert_eq!(failure, Failure::Failed);
                    failed += 1;
                }
            }
        }
    }
    assert_eq!(engine.device_faults().count(), 0);
}

/// Goal: with the last device all is over, as with the only one.
#[test]
fn with_the_last_device_all_requests_end() {
    for plan in [
        Plan { lose_one_in: 10, ..Plan::default() },
        Plan { stall_one_in: 10, ..Plan::default() },
        Plan { panic_one_in: 10, ..Plan::default() },
    ] {
        let engine = start((0..3).map(|seed| device(plan, seed)).collect());
        let start = Instant::now();
        let mut lost = 0;
        while engine.refusal().is_none() {
            assert!(start.elapsed() < LONG);
            let tickets: Vec<_> = (0..32)
                .filter_map(|number| engine.submit(&image(number), RequestOptions::default()).ok())
                .collect();
            for ticket in tickets {
                lost += u64::from(ticket.wait().is_err_and(|why| why == Failure::DeviceLost));
            }
        }
        assert_eq!(engine.lease().err(), Some(Refused::DeviceLost));
        assert_eq!(engine.device_faults().count(), 3);
        let last = engine.fault().unwrap();
        assert!(engine.device_faults().any(|(_, fault)| fault == last));
        assert!(lost > 0 && engine.drain(LONG));
        assert!(engine.stats().devices.iter().all(|device| device.is_lost));
    }
}

/// Goal: slots that a stalled device was uploading are not written to again, and no others are
/// lost; those of one that was dropped come back.
#[test]
fn only_a_stalled_device_keeps_slots() {
    for (plan, is_stalled) in [
        (Plan { stall_one_in: 1, ..Plan::default() }, true),
        (Plan { lose_one_in: 1, ..Plan::default() }, false),
    ] {
        let engine = start(vec![device(plan, 1), device(Plan::default(), 2)]);
        load(&engine, || engine.device_faults().next().is_some());
        let start = Instant::now();
        let kept = || engine.stats().slots_in_use as usize;
        while engine.stats().alive_len > 0 || !is_stalled && kept() > 0 {
            assert!(start.elapsed() < LONG, "{} slots are kept", kept());
        }
        assert!(kept() <= BATCH_LEN_MAX, "{} slots", kept());
        let leases: Vec<_> = (0..64 - kept()).map(|_| engine.lease().unwrap()).collect();
        assert_eq!(engine.lease().err(), Some(Refused::Full));
        drop(leases);
    }
}

fn error(backends: Vec<Box<dyn Backend>>) -> twinstream::Error {
    Engine::start_all(backends, &options()).unwrap_err()
}

#[test]
fn what_cannot_be_one_engine_is_refused() {
    let null = |image_bytes, result_len| -> Box<dyn Backend> {
        Null::new(Geometry { image_bytes, result_len, batch_len_max: 8 }).into()
    };
    let none = error(Vec::new());
    assert!(none.is_argument() && none.to_string().contains("0 backends"), "{none}");
    let many = error((0..33).map(|_| null(12, 10)).collect());
    assert!(many.is_argument() && many.to_string().contains("from 1 to 32"), "{many}");
    for other in [null(13, 10), null(12, 11)] {
        let error = error(vec![null(12, 10), null(12, 10), other]);
        assert!(error.is_argument() && error.to_string().contains("device 2"), "{error}");
    }
    let lengths = [8, 3, 5].map(|batch_len_max| {
        Null::new(Geometry { image_bytes: 12, result_len: 10, batch_len_max }).into()
    });
    let engine = Engine::start_all(lengths.into(), &options()).unwrap();
    assert_eq!(engine.geometry().batch_len_max, 3, "the shortest is for all");
}

#[test]
fn a_device_that_fails_its_calibration_is_named() {
    for plan in [
        Plan { fail_one_in: 1, ..Plan::default() },
        Plan { lose_one_in: 1, ..Plan::default() },
        Plan { stall_one_in: 1, ..Plan::default() },
        Plan { panic_one_in: 1, ..Plan::default() },
    ] {
        let good = device(Plan::default(), 1);
        let is_dropped = good.is_dropped();
        let bad = Device::new(IMAGE_BYTES, BATCH_LEN_MAX, plan, 2);
        let error = error(vec![good.into(), bad.into()]);
        let text = error.to_string();
        assert!(error.is_device() && text.starts_with("device 1: calibration: "), "{text}");
        assert!(is_dropped.load(Ordering::Relaxed), "the others are let go");
    }
}
