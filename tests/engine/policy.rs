//! A policy of the caller's own in the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use twinstream::engine::{Engine, EngineOptions, Failure, Lease, Refused, RequestOptions};
use twinstream::sched::{Decision, FinishedBatch, Line, Policy, Reason, Stages, View};

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

/// Goes at once, and notes how many requests were announced when it was last asked.
#[derive(Debug)]
struct Announced(Arc<AtomicU64>);

impl Policy for Announced {
    fn upload(&self, view: &View<'_>) -> Decision {
        let due = view.announcements.due(view.now_ns);
        self.0.store(due.filter(|due| due.likely > 0.0).count() as u64, Ordering::Relaxed);
        Decision::Go { len: view.waiting_len, reason: Reason::Idle }
    }
}

/// Goal: a policy sees the leases that are outstanding, until they are committed or dropped.
/// Method: leases that last 50 ms teach what to expect; then some are held while one is committed.
#[test]
fn leases_announce_requests() {
    let announced_len = Arc::new(AtomicU64::new(0));
    let line = Line::new(1e6, 1e4);
    let costs = Stages { upload: line, compute: line, download: line };
    let device = Device::new(100, 8, Plan::default(), 1);
    let options = EngineOptions::default().slot_len(16).costs(Some(costs));
    let policy = Box::new(Announced(Arc::clone(&announced_len)));
    let engine = Engine::start_with_policy(device, &options, policy).unwrap();
    let commit = |lease: Lease| {
        lease.commit(RequestOptions::default()).unwrap().wait().unwrap();
        announced_len.load(Ordering::Relaxed)
    };
    for _ in 0..8 {
        let lease = engine.lease().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(commit(lease), 0);
    }
    let (held, other) = (engine.lease().unwrap(), engine.lease().unwrap());
    assert_eq!(commit(engine.lease().unwrap()), 2);
    assert_eq!(commit(other), 1);
    drop(held);
    assert_eq!(commit(engine.lease().unwrap()), 0);
}
