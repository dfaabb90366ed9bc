//! What callers see: each way to hand in, wait, give up, be refused and fail, one at a time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use twinstream::engine::{
    Answer, Engine, EngineOptions, Failure, Handler, Refused, RequestOptions, Ticket,
};

use super::device::{Device, Plan, calibration_len, checksum, result_of};

pub(super) const IMAGE_BYTES: usize = 100;
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn start(plan: Plan, options: EngineOptions) -> Engine {
    Engine::start(Device::new(IMAGE_BYTES, 8, plan, 1), &options).unwrap()
}

pub(super) fn small() -> EngineOptions {
    EngineOptions::default().slot_len(4)
}

pub(super) fn image(number: u8) -> Vec<u8> {
    (0..IMAGE_BYTES as u8).map(|i| i.wrapping_mul(number)).collect()
}

pub(super) fn submit(engine: &Engine, number: u8) -> Ticket {
    engine.submit(&image(number), RequestOptions::default()).unwrap()
}

pub(super) fn assert_right(answer: Answer, number: u8) {
    assert_eq!(*answer.unwrap(), result_of(checksum(&image(number))));
}

/// Runs a future on this thread.
pub(super) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(output) = std::pin::Pin::new(&mut future).poll(&mut context) {
            return output;
        }
        thread::park_timeout(LONG);
    }
}

/// A device slow enough to find a request unfinished.
pub(super) const SLOW: Plan = Plan {
    delay_us_max: 40_000,
    fail_one_in: 0,
    lose_one_in: 0,
    stall_one_in: 0,
    panic_one_in: 0,
    spared: 0,
};

/// Waits until the snapshot says what is expected of it.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_way_to_wait_gets_its_own_result() {
    let engine = start(Plan { delay_us_max: 300, ..Plan::default() }, small());
    for number in 1..20 {
        assert_right(submit(&engine, number).wait(), number);
        assert_right(submit(&engine, number).wait_timeout(LONG).unwrap(), number);
        assert_right(block_on(submit(&engine, number)), number);
        let mut lease = engine.lease().unwrap();
        lease.copy_from_slice(&image(number));
        let (sender, receiver) = mpsc::sync_channel(1);
        let handler = move |tag, answer| sender.send((tag, answer)).unwrap();
        lease.commit_with(RequestOptions::default(), Arc::new(handler), 7).unwrap();
        let (tag, answer) = receiver.recv_timeout(LONG).unwrap();
        assert_eq!(tag, 7);
        assert_right(answer, number);
    }
    assert!(engine.drain(LONG));
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.completed, stats.alive_len), (76, 76, 0));
}

#[test]
fn a_timeout_hands_the_ticket_back() {
    let engine = start(SLOW, small());
    let mut ticket = submit(&engine, 3);
    let mut timeouts = 0;
    let answer = loop {
        match ticket.wait_timeout(Duration::from_micros(100)) {
            Ok(answer) => break answer,
            Err(again) => (ticket, timeouts) = (again, timeouts + 1),
        }
    };
    assert!(timeouts > 0);
    assert_right(answer, 3);
}

#[test]
fn a_timeout_ends_the_spinning_too() {
    let plan = Plan { stall_one_in: 1, spared: calibration_len(4), ..Plan::default() };
    let engine = start(plan, small().spin(LONG).stall_timeout(2 * LONG));
    let ticket = submit(&engine, 1);
    let begun = Instant::now();
    assert!(ticket.wait_timeout(Duration::from_millis(1)).is_err());
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_waker_set_at_the_commit_is_woken_on_the_scheduling_thread() {
    struct Woken {
        thread: Mutex<Option<Option<String>>>,
        len: AtomicUsize,
    }
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.thread.lock().unwrap() = Some(thread::current().name().map(str::to_owned));
            self.len.fetch_add(1, Ordering::AcqRel);
        }
    }
    let engine = start(Plan { delay_us_max: 300, ..Plan::default() }, small());
    for number in 1..50 {
        let woken = Arc::new(Woken { thread: Mutex::new(None), len: AtomicUsize::new(0) });
        let mut lease = engine.lease().unwrap();
        lease.copy_from_slice(&image(number));
        let waker = Waker::from(Arc::clone(&woken));
        let ticket = lease.commit_waking(RequestOptions::default(), &waker).unwrap();
        until("the waker is woken", || woken.len.load(Ordering::Acquire) == 1);
        assert_eq!(*woken.thread.lock().unwrap(), Some(Some("twinstream".to_owned())));
        assert!(ticket.is_ended());
        assert_right(ticket.wait(), number);
    }
    // Refused, its cell is at rest for the next, and the waker was let go unused.
    let woken = Arc::new(Woken { thread: Mutex::new(None), len: AtomicUsize::new(0) });
    let lease = engine.lease().unwrap();
    assert_eq!(engine.refusal(), None);
    assert!(engine.drain(LONG));
    assert_eq!(engine.refusal(), Some(Refused::ShutDown));
    let waker = Waker::from(Arc::clone(&woken));
    let refused = lease.commit_waking(RequestOptions::default(), &waker).unwrap_err();
    assert_eq!(refused, Refused::ShutDown);
    drop((waker, engine));
    assert_eq!((Arc::strong_count(&woken), woken.len.load(Ordering::Acquire)), (1, 0));
}

#[test]
fn full_and_wrong_sizes_are_refused_at_once() {
    let engine = start(Plan::default(), small());
    let leases: Vec<_> = (0..4).map(|_| engine.lease().unwrap()).collect();
    assert_eq!(engine.lease().unwrap_err(), Refused::Full);
    drop(leases);
    for bytes in [0, IMAGE_BYTES - 1, IMAGE_BYTES + 1] {
        let refused = engine.submit(&vec![0; bytes], RequestOptions::default()).unwrap_err();
        assert_eq!(refused, Refused::Size);
    }
    // Unread results take up result slots alone, of which there are twice as many.
    let answers: Vec<Answer> = (1..=8).map(|number| submit(&engine, number).wait()).collect();
    assert_eq!(engine.lease().unwrap_err(), Refused::Full);
    for (number, answer) in (1..=8).zip(answers) {
        assert_right(answer, number);
    }
    assert_right(submit(&engine, 9).wait(), 9);
}

#[test]
fn a_handler_may_submit_again_and_may_panic() {
    struct Chain {
        engine: std::sync::OnceLock<Arc<Engine>>,
        me: std::sync::OnceLock<std::sync::Weak<Chain>>,
        right: AtomicUsize,
        done: mpsc::SyncSender<()>,
    }
    impl Handler for Chain {
        fn answered(&self, tag: u64, answer: Answer) {
            assert_right(answer, tag as u8);
            self.right.fetch_add(1, Ordering::Relaxed);
            if tag == 0 {
                self.done.send(()).unwrap();
                panic!("a handler that panics, on purpose");
            }
            let mut lease = self.engine.get().unwrap().lease().unwrap();
            lease.copy_from_slice(&image(tag as u8 - 1));
            let me = self.me.get().unwrap().upgrade().unwrap();
            lease.commit_with(RequestOptions::default(), me, tag - 1).unwrap();
        }
    }
    let engine = Arc::new(start(Plan::default(), small().slot_len(1)));
    let (done, is_done) = mpsc::sync_channel(1);
    let chain = Arc::new(Chain {
        engine: Arc::clone(&engine).into(),
        me: Default::default(),
        right: AtomicUsize::new(0),
        done,
    });
    chain.me.set(Arc::downgrade(&chain)).unwrap();
    let mut lease = engine.lease().unwrap();
    lease.copy_from_slice(&image(100));
    lease.commit_with(RequestOptions::default(), chain.clone(), 100).unwrap();
    is_done.recv_timeout(LONG).unwrap();
    assert_eq!(chain.right.load(Ordering::Relaxed), 101);
    assert_right(submit(&engine, 5).wait(), 5);
}

#[test]
fn cancelled_requests_end_as_such_and_free_their_slots() {
    let engine = start(SLOW, small());
    for number in 1..5 {
        let ticket = submit(&engine, number);
        ticket.cancel();
        ticket.cancel();
        match ticket.wait() {
            Err(Failure::Cancelled) => {}
            answer => assert_right(answer, number),
        }
        drop(submit(&engine, number));
    }
    until("dropped requests end", || {
        let stats = engine.stats();
        stats.accepted == 8 && stats.alive_len == 0
    });
    let stats = engine.stats();
    assert_eq!(stats.accepted, 8);
    assert!(stats.cancelled >= 6, "{stats:?}");
    let leases: Vec<_> = (0..4).map(|_| engine.lease().unwrap()).collect();
    drop(leases);
}

#[test]
fn deadlines_that_cannot_be_met_are_told_so() {
    let bound = Some(Duration::from_nanos(1));
    let engine = start(Plan::default(), small().latency_bound(bound));
    assert_eq!(submit(&engine, 1).wait().unwrap_err(), Failure::Rejected);
    let engine = start(Plan::default(), small());
    let past = RequestOptions::default().deadline(Some(Instant::now()));
    assert_eq!(engine.submit(&image(1), past).unwrap().wait().unwrap_err(), Failure::Rejected);
    let later = past.deadline(Some(Instant::now() + LONG));
    assert_right(engine.submit(&image(2), later).unwrap().wait(), 2);
    until("rejected", || engine.stats().rejected == 1);
}

#[test]
fn a_transient_failure_recovers() {
    let engine =
        start(Plan { fail_one_in: 3, spared: calibration_len(4), ..Plan::default() }, small());
    let (mut right, mut failed) = (0, 0);
    for _ in 0..200 {
        match submit(&engine, 5).wait() {
            Err(failure) => {
                assert_eq!(failure, Failure::Failed);
                failed += 1;
            }
            answer => {
                assert_right(answer, 5);
                right += 1;
            }
        }
    }
    assert!(right > 20 && failed > 20, "{right} {failed}");
    assert!(engine.fault().is_none());
}

/// Goal: a device that is lost in any way ends every accepted request once and says so afterwards.
#[test]
fn a_lost_device_ends_everything_and_says_so() {
    let plans = [
        ("loss", Plan { lose_one_in: 1, spared: calibration_len(4) + 6, ..Plan::default() }),
        ("panic", Plan { panic_one_in: 1, spared: calibration_len(4) + 6, ..Plan::default() }),
        ("within", Plan { stall_one_in: 1, spared: calibration_len(4) + 6, ..Plan::default() }),
    ];
    for (word, plan) in plans {
        let options = small().stall_timeout(Duration::from_millis(50));
        let engine = start(plan, options);
        let mut lost = 0;
        let refused = loop {
            let tickets: Vec<_> =
                (0..4).map(|_| engine.submit(&image(1), RequestOptions::default())).collect();
            let refused = tickets.iter().find_map(|ticket| ticket.as_ref().err().copied());
            for ticket in tickets.into_iter().flatten() {
                match ticket.wait_timeout(LONG).expect("answered") {
                    Err(failure) => {
                        assert_eq!(failure, Failure::DeviceLost);
                        lost += 1;
                    }
                    answer => assert_right(answer, 1),
                }
            }
            if let Some(refused) = refused {
                break refused;
            }
        };
        assert!(lost > 0);
        assert_eq!(refused, Refused::DeviceLost);
        assert_eq!(engine.lease().unwrap_err(), Refused::DeviceLost);
        let fault = engine.fault().unwrap();
        assert!(fault.is_lost && fault.message.contains(word), "{fault}");
        assert!(engine.drain(LONG));
        assert_eq!(engine.stats().device_lost, lost);
    }
}

#[test]
fn a_device_that_fails_at_the_start_is_reported() {
    let stall = Duration::from_millis(20);
    let options = small().stall_timeout(stall);
    for plan in [
        Plan { fail_one_in: 1, ..Plan::default() },
        Plan { lose_one_in: 1, ..Plan::default() },
        Plan { stall_one_in: 1, ..Plan::default() },
        Plan { panic_one_in: 1, ..Plan::default() },
    ] {
        let device = Device::new(IMAGE_BYTES, 8, plan, 1);
        let error = Engine::start(device, &options).unwrap_err();
        assert!(error.is_device());
        if plan.stall_one_in > 0 {
            assert!(
                error.to_string().contains("calibration: no work ended within 20ms"),
                "{error}"
            );
        }
    }
    let device = Device::new(IMAGE_BYTES, 8, Plan::default(), 1);
    let options = small().stall_timeout(Duration::ZERO);
    let error = Engine::start(device, &options).unwrap_err();
    assert!(error.is_argument() && error.to_string().contains("stall_timeout"), "{error}");
    for wrong in [0, 40_000] {
        let device = Device::new(IMAGE_BYTES, 8, Plan::default(), 1);
        let options = small().slot_len(wrong);
        assert!(Engine::start(device, &options).unwrap_err().is_argument());
    }
}

#[test]
fn drain_ends_what_was_accepted_and_no_more() {
    let engine = start(SLOW, small());
    let tickets: Vec<_> = (1..4).map(|number| submit(&engine, number)).collect();
    let held = engine.lease().unwrap();
    assert!(engine.drain(LONG));
    assert_eq!(held.commit(RequestOptions::default()).unwrap_err(), Refused::ShutDown);
    assert_eq!(engine.lease().unwrap_err(), Refused::ShutDown);
    for (number, ticket) in (1..4).zip(tickets) {
        assert_right(ticket.wait(), number);
    }
    let engine = start(SLOW, small());
    let ticket = submit(&engine, 1);
    assert!(!engine.drain(Duration::ZERO));
    assert_eq!(ticket.wait().unwrap_err(), Failure::ShutDown);
}

#[test]
fn dropping_the_engine_answers_and_ends_its_thread_and_device() {
    let device = Device::new(IMAGE_BYTES, 8, SLOW, 1);
    let is_dropped = device.is_dropped();
    let engine = Engine::start(device, &small()).unwrap();
    let ticket = submit(&engine, 1);
    drop(engine);
    assert!(is_dropped.load(Ordering::Relaxed));
    assert_eq!(ticket.wait().unwrap_err(), Failure::ShutDown);
}

/// Goal: a handler that owns the engine may be the last to let go of it, on the engine's own
/// thread.
#[test]
fn a_handler_may_drop_the_engine() {
    let device = Device::new(IMAGE_BYTES, 8, Plan::default(), 1);
    let is_dropped = device.is_dropped();
    let engine = Engine::start(device, &small()).unwrap();
    let mut lease = engine.lease().unwrap();
    lease.copy_from_slice(&image(1));
    let slot = std::sync::Mutex::new(Some(engine));
    let was_called = Arc::new(AtomicBool::new(false));
    let called = Arc::clone(&was_called);
    let handler = move |_, answer: Answer| {
        assert_right(answer, 1);
        let engine = slot.lock().unwrap().take();
        assert!(!engine.as_ref().unwrap().drain(LONG));
        drop(engine);
        called.store(true, Ordering::Relaxed);
    };
    lease.commit_with(RequestOptions::default(), Arc::new(handler), 0).unwrap();
    until("the device is dropped", || is_dropped.load(Ordering::Relaxed));
    assert!(was_called.load(Ordering::Relaxed));
}

#[test]
fn a_polled_ticket_is_polled_once() {
    let engine = start(Plan::default(), small());
    let mut ticket = submit(&engine, 1);
    assert_right(block_on(&mut ticket), 1);
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(&mut ticket))).is_err());
    drop(ticket);
    assert_right(submit(&engine, 2).wait(), 2);
}
