//! Waiting for room: threads and futures that are served in order, and what ends the wait.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use twinstream::engine::{Answer, Engine, Failure, Handler, Refused, RequestOptions};

use super::device::{Device, Plan, Random};
use super::requests::{
    IMAGE_BYTES, LONG, SLOW, assert_right, block_on, image, small, start, submit, until,
};

const SHORT: Duration = Duration::from_millis(5);

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A future that is polled by hand.
struct Polled<F> {
    future: Pin<Box<F>>,
    woken: Arc<Woken>,
}

impl<F: Future> Polled<F> {
    fn new(future: F) -> Self {
        Self { future: Box::pin(future), woken: Arc::default() }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Acquire) > 0
    }
}

#[test]
fn a_wait_ends_with_a_slot_or_its_timeout() {
    let engine = start(Plan::default(), small());
    // There is room: it does not wait.
    drop(engine.lease_timeout(Duration::ZERO).unwrap());
    drop(block_on(engine.lease_async()).unwrap());
    let mut held: Vec<_> = (0..4).map(|_| engine.lease().unwrap()).collect();
    let begun = Instant::now();
    assert_eq!(engine.lease_timeout(SHORT).unwrap_err(), Refused::Full);
    assert_eq!(engine.lease_many_timeout(2, SHORT).unwrap_err(), Refused::Full);
    assert!(begun.elapsed() >= 2 * SHORT);
    for len in [0, 5] {
        assert_eq!(engine.lease_many_timeout(len, LONG).unwrap_err(), Refused::Len);
        assert_eq!(block_on(engine.lease_many_async(len)).unwrap_err(), Refused::Len);
    }
    assert_eq!(engine.stats().refused.full, 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| engine.lease_timeout(LONG).unwrap());
        let waits_long = scope.spawn(|| engine.lease_timeout(Duration::MAX).unwrap());
        let awaits = scope.spawn(|| block_on(engine.lease_async()).unwrap());
        thread::sleep(SHORT);
        held.truncate(1);
        let leases = [waits, waits_long, awaits].map(|lease| lease.join().unwrap());
        assert_eq!(engine.lease().unwrap_err(), Refused::Full);
        for (number, mut lease) in (1..).zip(leases) {
            lease.copy_from_slice(&image(number));
            assert_right(lease.commit(RequestOptions::default()).unwrap().wait(), number);
        }
    });
    drop(held);
    assert_eq!(engine.stats().slots_in_use, 0);
}

/// Goal: a slot that comes back in any way reaches who waits: a lease that is dropped, a request
/// that ends, a result that is let go.
#[test]
fn whatever_frees_a_slot_serves_the_line() {
    let engine = start(Plan { delay_us_max: 300, ..Plan::default() }, small());
    let leases: Vec<_> = (0..4).map(|_| engine.lease().unwrap()).collect();
    let mut waits = Polled::new(engine.lease_many_async(3));
    assert!(waits.poll().is_pending());
    drop(leases);
    assert!(waits.is_woken());
    let Poll::Ready(Ok(lease)) = waits.poll() else { panic!("it was served") };
    drop(lease);

    // Requests end while it waits, without anyone who lets a lease go.
    let tickets = [1, 2, 3, 4].map(|number| submit(&engine, number));
    let lease = engine.lease_many_timeout(4, LONG).unwrap();
    for (number, ticket) in (1..).zip(tickets) {
        assert_right(ticket.wait(), number);
    }
    drop(lease);

    // Image slots are free, but the results of eight requests are kept.
    let mut kept: Vec<Answer> = (1..=8).map(|number| submit(&engine, number).wait()).collect();
    let mut waits = Polled::new(engine.lease_many_async(2));
    assert!(waits.poll().is_pending());
    kept.pop();
    assert!(!waits.is_woken() && waits.poll().is_pending());
    kept.pop();
    assert!(waits.is_woken());
    let Poll::Ready(Ok(lease)) = waits.poll() else { panic!("it was served") };
    assert_eq!(lease.image_len(), 2);
}

#[test]
fn the_first_in_line_is_served_first_and_before_those_who_do_not_wait() {
    let engine = start(Plan::default(), small());
    let mut held: Vec<_> = (0..4).map(|_| engine.lease().unwrap()).collect();
    let mut first = Polled::new(engine.lease_many_async(3));
    let mut second = Polled::new(engine.lease_async());
    assert!(first.poll().is_pending() && second.poll().is_pending());
    for _ in 0..2 {
        held.pop();
        // What is free is the first one's, though it is not enough yet.
        assert!(first.poll().is_pending() && second.poll().is_pending());
        assert_eq!(engine.lease().unwrap_err(), Refused::Full);
        assert_eq!(engine.lease_many(1).unwrap_err(), Refused::Full);
    }
    held.pop();
    assert!(first.is_woken() && !second.is_woken());
    // Served, it holds them until it is dropped, polled or not; then they are the next one's.
    assert!(second.poll().is_pending());
    drop(first);
    assert!(second.is_woken());
    let Poll::Ready(Ok(lease)) = second.poll() else { panic!("it was served") };
    // Nobody waits any more.
    drop(engine.lease_many(2).unwrap());
    drop((lease, held));

    // Who leaves the line with some of what it wants gives that to the next.
    let mut held: Vec<_> = (0..4).map(|_| engine.lease().unwrap()).collect();
    let mut first = Polled::new(engine.lease_many_async(4));
    let mut second = Polled::new(engine.lease_many_async(2));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    held.truncate(1);
    assert!(second.poll().is_pending());
    drop(first);
    assert!(second.is_woken() && second.poll().is_ready());
    assert_eq!(engine.stats().slots_in_use, 1);
}

#[test]
fn the_line_has_a_limit() {
    let engine = start(Plan::default(), small());
    let held = engine.lease_many(4).unwrap();
    let mut waiting: Vec<_> = (0..1024).map(|_| Polled::new(engine.lease_async())).collect();
    assert!(waiting.iter_mut().all(|waits| waits.poll().is_pending()));
    assert_eq!(engine.lease_timeout(LONG).unwrap_err(), Refused::Full);
    assert!(matches!(Polled::new(engine.lease_async()).poll(), Poll::Ready(Err(Refused::Full))));
    waiting.pop();
    assert!(Polled::new(engine.lease_async()).poll().is_pending());
    drop(held);
    assert_eq!(waiting.iter().filter(|waits| waits.is_woken()).count(), 4);
    assert_eq!(engine.stats().slots_in_use, 4);
    drop(waiting);
    drop(engine.lease_many(4).unwrap());
}

#[test]
fn the_end_of_the_engine_ends_the_wait() {
    let engine = start(SLOW, small());
    let held = engine.lease_many(4).unwrap();
    let mut awaits = Polled::new(engine.lease_many_async(2));
    assert!(awaits.poll().is_pending());
    thread::scope(|scope| {
        let waits = scope.spawn(|| engine.lease_timeout(Duration::MAX));
        let waits_many = scope.spawn(|| engine.lease_many_timeout(3, Duration::MAX));
        thread::sleep(SHORT);
        assert!(engine.drain(LONG));
        assert_eq!(waits.join().unwrap().unwrap_err(), Refused::ShutDown);
        assert_eq!(waits_many.join().unwrap().unwrap_err(), Refused::ShutDown);
    });
    assert!(awaits.is_woken());
    assert!(matches!(awaits.poll(), Poll::Ready(Err(Refused::ShutDown))));
    drop((held, awaits));
    assert_eq!(engine.stats().slots_in_use, 0);

    // A lost device tells why.
    let plan = Plan {
        lose_one_in: 1,
        spared: super::device::calibration_len(4),
        delay_us_max: 1,
        ..Plan::default()
    };
    let engine = start(plan, small());
    let held = engine.lease_many(3).unwrap();
    let ticket = submit(&engine, 1);
    let refused = engine.lease_many_timeout(2, LONG).unwrap_err();
    assert_eq!(refused, Refused::DeviceLost);
    assert!(engine.fault().is_some());
    assert_eq!(ticket.wait().unwrap_err(), Failure::DeviceLost);
    drop(held);
}

/// A future may outlive its engine.
#[test]
fn a_future_of_an_engine_that_is_gone_says_so() {
    let engine = start(Plan::default(), small());
    let held = engine.lease_many(4).unwrap();
    let (mut first, mut second) =
        (Polled::new(engine.lease_async()), Polled::new(engine.lease_async()));
    assert!(first.poll().is_pending());
    drop(engine);
    assert!(first.is_woken());
    assert!(matches!(first.poll(), Poll::Ready(Err(Refused::ShutDown))));
    assert!(matches!(second.poll(), Poll::Ready(Err(Refused::ShutDown))));
    drop(held);
}

/// Goal: code of others in wakers harms nobody; waiting on the scheduling thread would never end,
/// so it is refused there.
#[test]
fn wakers_may_panic_and_handlers_do_not_wait() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics, on purpose");
        }
    }
    let engine = Arc::new(start(Plan { delay_us_max: 300, ..Plan::default() }, small()));
    let tickets = [1, 2, 3].map(|number| submit(&engine, number));
    let held = engine.lease().unwrap();
    let mut panics = pin!(engine.lease_many_async(2));
    let waker = Waker::from(Arc::new(Panics));
    assert!(panics.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    for (number, ticket) in (1..).zip(tickets) {
        assert_right(ticket.wait(), number);
    }
    until("it is served", || engine.stats().slots_in_use == 3);
    let Poll::Ready(Ok(lease)) = panics.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("it was served");
    };
    drop(lease);

    struct Waits(Mutex<Option<Arc<Engine>>>, mpsc::SyncSender<[Refused; 2]>);
    impl Handler for Waits {
        fn answered(&self, _: u64, _: Answer) {
            let engine = self.0.lock().unwrap().take().unwrap();
            // The slot of its own request is free.
            let _last = engine.lease().unwrap();
            let one = engine.lease_timeout(Duration::MAX).unwrap_err();
            let many = engine.lease_many_timeout(4, Duration::MAX).unwrap_err();
            self.1.send([one, many]).unwrap();
        }
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let handler = Arc::new(Waits(Mutex::new(Some(Arc::clone(&engine))), sender));
    let leases = engine.lease_many(2).unwrap();
    let request = engine.lease().unwrap();
    request.commit_with(RequestOptions::default(), handler, 0).unwrap();
    assert_eq!(receiver.recv_timeout(LONG), Ok([Refused::Full; 2]));
    drop((leases, held));
}

/// Goal: whoever waits gets its turn, whatever is wanted, for how long, and in whichever way, and
/// nothing is lost. Method: threads and futures that want drawn numbers of slots of few, with
/// timeouts that are drawn too; those without one must all be served.
#[test]
fn threads_that_wait_are_all_served() {
    const SLOT_LEN: usize = 6;
    let device = Device::new(IMAGE_BYTES, 8, Plan { delay_us_max: 50, ..Plan::default() }, 1);
    let engine = Engine::start(device, &small().slot_len(SLOT_LEN)).unwrap();
    let counts = [const { AtomicUsize::new(0) }; 3];
    thread::scope(|scope| {
        for seed in 0..5 {
            let (engine, counts) = (&engine, &counts);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..300 {
                    let len = 1 + random.below(SLOT_LEN as u64) as usize;
                    let leased = match random.below(4) {
                        0 => block_on(engine.lease_many_async(len)),
                        1 => engine.lease_many(len),
                        2 => {
                            engine.lease_many_timeout(len, Duration::from_micros(random.below(200)))
                        }
                        _ => engine.lease_many_timeout(len, Duration::MAX),
                    };
                    let Ok(mut lease) = leased else {
                        counts[0].fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    counts[1].fetch_add(1, Ordering::Relaxed);
                    if random.chance(4) {
                        continue;
                    }
                    for (place, number) in lease.images_mut().zip(1..) {
                        place.copy_from_slice(&image(number));
                    }
                    let ticket = lease.commit(RequestOptions::default()).unwrap();
                    if random.chance(4) {
                        continue;
                    }
                    for (number, answer) in (1..).zip(ticket.wait()) {
                        assert_right(answer, number);
                    }
                    counts[2].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("refused, leased, answered: {counts:?}");
    until("dropped images end", || engine.stats().slots_in_use == 0);
    drop(engine.lease_many(SLOT_LEN).unwrap());
}
