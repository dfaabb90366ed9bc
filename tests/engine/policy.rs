//! A policy of the caller's own in the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use twinstream::engine::{Engine, EngineOptions, Failure, Refused, RequestOptions};
use twinstream::sched::{Decision, FinishedBatch, Policy, Reason, View};

use super::device::{Device, Plan, checksum, result_of};

const LONG: Duration = Duration::from_secs(20);

/// Waits for two requests, and takes no more.
#[derive(Debug)]
struct Pairs {
    finished_len: Arc<AtomicU64>,
}

impl Policy for Pairs {
    fn upload(&self, view: &View<'_>) -> Decision {
        match view.waiting_len {
            0 | 1 => Decision::HOLD,
            _ => Decision::Go { len: 2, reason: Reason::Full },
        }
    }

    fn finished(&mut self, batch: &FinishedBatch) {
        assert_eq!(batch.batch_len, 2);
        self.finished_len.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Panics;

impl Policy for Panics {
    fn upload(&self, view: &View<'_>) -> Decision {
        panic!("no idea what to do with {} requests", view.waiting_len);
    }
}

fn start(policy: impl Policy + 'static) -> Engine {
    let device = Device::new(100, 8, Plan::default(), 1);
    let options = EngineOptions::default().slot_len(16);
    Engine::start_with_policy(device, &options, Box::new(policy)).unwrap()
}

/// Goal: it is asked, obeyed and told of each batch. Method: a rule that none of the library's has.
#[test]
fn a_policy_from_outside_decides() {
    let finished_len = Arc::new(AtomicU64::new(0));
    let engine = start(Pairs { finished_len: Arc::clone(&finished_len) });
    for _ in 0..8 {
        let images = [1, 2, 3, 4, 5, 6].map(|number| vec![number; 100]);
        let tickets =
            images.each_ref().map(|image| engine.submit(image, RequestOptions::default()).unwrap());
        for (image, ticket) in images.iter().zip(tickets) {
            assert_eq!(*ticket.wait().unwrap(), result_of(checksum(image)));
        }
    }
    assert!(engine.drain(LONG));
    assert_eq!(finished_len.load(Ordering::Relaxed), 24);
    let stats = engine.stats();
    assert_eq!((stats.completed, stats.batch_lens.len()), (48, 24));
    assert_eq!(stats.started.upload[Reason::Full as usize], 24);
}

#[test]
fn a_policy_that_panics_loses_the_device() {
    let engine = start(Panics);
    let ticket = engine.submit(&[0; 100], RequestOptions::default()).unwrap();
    assert_eq!(ticket.wait().unwrap_err(), Failure::DeviceLost);
    let fault = engine.fault().unwrap();
    assert!(fault.message.contains("no idea what to do with 1 requests"), "{fault}");
    assert_eq!(engine.refusal(), Some(Refused::DeviceLost));
}
