//! Every interleaving of what C callers may do with an engine's gate, with one request and with the
//! completion queue.
//!
//! Goal: no call is inside an engine that is let go; what a request holds is let go once, by nobody
//! while another uses it; no sleeper sleeps through an answer or a release; the descriptor is
//! readable while something is queued. Method: `gate.rs`, `life.rs` and `signal.rs` of `ffi/src`
//! themselves over loom's atomics.
//!
//! Runs under `--cfg loom` alone: `scripts/loom.sh`.
#![cfg(loom)]
#![allow(dead_code, reason = "they are compiled here without their package")]

#[path = "../ffi/src/gate.rs"]
mod gate;
#[path = "../ffi/src/life.rs"]
mod life;
#[path = "../ffi/src/signal.rs"]
mod signal;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    /// More would only take longer.
    pub(crate) const STRIPE_LEN: usize = 2;
}

use gate::Gate;
use life::{Life, Release, Standing};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use signal::Signal;

/// Every interleaving with so many preemptions at most, more would take hours.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// An engine behind its gate: a number that is its key.
struct Place {
    gate: Gate,
    engine: UnsafeCell<usize>,
}

impl Place {
    fn open(&self, key: usize) {
        self.engine.with_mut(|engine| unsafe { *engine = key });
        self.gate.open(key);
    }

    /// Whether this thread was the one to end it.
    fn destroy(&self, key: usize) -> bool {
        if !self.gate.shut(key) {
            return false;
        }
        self.gate.wait_empty(thread::yield_now);
        self.engine.with_mut(|engine| unsafe { *engine = 0 });
        true
    }

    /// Whether it was let in.
    fn call(&self, key: usize, stripe: usize) -> bool {
        let Some(_inside) = self.gate.enter(key, stripe) else { return false };
        self.engine.with(|engine| assert_eq!(unsafe { *engine }, key));
        true
    }
}

fn place() -> Arc<Place> {
    let place = Arc::new(Place { gate: Gate::new(), engine: UnsafeCell::new(0) });
    place.open(1);
    place
}

/// Two destroy while one calls, and the next engine moves in.
#[test]
fn nobody_is_inside_as_an_engine_ends() {
    check(3, || {
        let place = place();
        let caller = {
            let place = Arc::clone(&place);
            thread::spawn(move || (place.call(1, 0), place.call(2, 0)))
        };
        let other = {
            let place = Arc::clone(&place);
            thread::spawn(move || place.destroy(1))
        };
        let is_mine = place.destroy(1);
        if is_mine {
            place.open(2);
            assert!(place.call(2, 1) && !place.call(1, 1));
        }
        assert!(is_mine != other.join().unwrap());
        caller.join().unwrap();
    });
}

/// A request and what it holds.
struct Request {
    life: Life,
    held: UnsafeCell<u32>,
    notice: UnsafeCell<u32>,
    let_go_len: AtomicU32,
    asleep: Mutex<()>,
    woken: Condvar,
}

const LEASE: u32 = 1;
const TICKET: u32 = 2;

impl Request {
    /// Leased.
    fn new() -> Arc<Self> {
        let request = Arc::new(Self {
            life: Life::new(),
            held: UnsafeCell::new(LEASE),
            notice: UnsafeCell::new(0),
            let_go_len: AtomicU32::new(0),
            asleep: Mutex::new(()),
            woken: Condvar::new(),
        });
        assert!(request.life.is_free());
        assert_eq!(request.life.lease(), 1);
        request
    }

    /// As `Entry::let_go`.
    fn let_go(&self) {
        self.held.with_mut(|held| unsafe { *held = 0 });
        self.life.clear();
        self.let_go_len.fetch_add(1, Ordering::AcqRel);
    }

    /// As `Requests::commit`, up to the moment at which the engine has it.
    fn begin_commit(&self, has_notice: bool) -> bool {
        if !self.life.begin_commit(1, has_notice) {
            return false;
        }
        self.held.with_mut(|held| unsafe {
            assert_eq!(*held, LEASE);
            *held = 0;
        });
        if has_notice {
            self.notice.with_mut(|notice| unsafe { *notice = 7 });
        }
        true
    }

    fn end_commit(&self) {
        self.held.with_mut(|held| unsafe { *held = TICKET });
        if self.life.end_commit() {
            self.let_go();
        }
    }

    fn release(&self) -> Release {
        let released = self.life.release(1);
        if let Release::Released { is_last, is_awaited } = released {
            if is_awaited {
                drop(self.asleep.lock().unwrap());
                self.woken.notify_all();
            }
            if is_last {
                self.let_go();
            }
        }
        released
    }

    /// As `Entry::with_ticket`; whether there was one.
    fn cancel(&self) -> bool {
        if !self.life.pin(1) {
            return false;
        }
        self.held.with(|held| assert_eq!(unsafe { *held }, TICKET));
        if self.life.unpin() {
            self.let_go();
        }
        true
    }

    /// As `Requests::announce`; whether there was a request to tell of.
    fn announce(&self, is_callback: bool) -> bool {
        let Some((generation, has_notice)) = self.life.on_its_way() else { return false };
        if has_notice {
            self.notice.with(|notice| assert_eq!(unsafe { *notice }, 7));
        }
        let Some(ended) = self.life.end(generation, is_callback) else { return false };
        if ended.is_awaited {
            drop(self.asleep.lock().unwrap());
            self.woken.notify_all();
        }
        true
    }

    /// As `Requests::sleep`, with a waker that is in place.
    fn sleep(&self) {
        let mut asleep = self.asleep.lock().unwrap();
        if !self.life.sleep(1) {
            return;
        }
        while self.life.sleeps(1) {
            asleep = self.woken.wait(asleep).unwrap();
        }
    }

    fn assert_over(&self) {
        assert_eq!(self.let_go_len.load(Ordering::Acquire), 1);
        assert_eq!(self.life.standing(1), Standing::Stale);
        assert!(self.life.is_free());
    }
}

/// Two release and one cancels: one release counts, and the ticket stays while it is used.
#[test]
fn a_request_is_let_go_once() {
    loom::model(|| {
        let request = Request::new();
        assert!(request.begin_commit(false));
        request.end_commit();
        let threads = [
            thread::spawn({
                let request = Arc::clone(&request);
                move || {
                    request.cancel();
                    Release::Stale
                }
            }),
            thread::spawn({
                let request = Arc::clone(&request);
                move || request.release()
            }),
        ];
        let mut released = vec![request.release()];
        released.extend(threads.map(|thread| thread.join().unwrap()));
        let len = released.iter().filter(|release| **release != Release::Stale).count();
        assert_eq!(len, 1);
        request.assert_over();
    });
}

/// Two commit, and one releases the lease: one of the three wins it, and a release that comes later
/// waits for nobody.
#[test]
fn a_lease_is_committed_or_released() {
    loom::model(|| {
        let request = Request::new();
        let commit = |request: Arc<Request>| {
            move || {
                let is_mine = request.begin_commit(false);
                if is_mine {
                    request.end_commit();
                }
                is_mine
            }
        };
        let other = thread::spawn(commit(Arc::clone(&request)));
        let third = thread::spawn({
            let request = Arc::clone(&request);
            move || request.release()
        });
        let is_mine = commit(Arc::clone(&request))();
        let is_others = other.join().unwrap();
        let released = third.join().unwrap();
        assert!(!(is_mine && is_others));
        assert_ne!(released, Release::Stale);
        if released == Release::TooEarly {
            assert!(is_mine || is_others);
            assert_ne!(request.release(), Release::Stale);
        }
        request.assert_over();
    });
}

/// A callback comes before the commit has returned, and releases its request.
#[test]
fn a_callback_may_release_what_is_being_committed() {
    loom::model(|| {
        let request = Request::new();
        assert!(request.begin_commit(true));
        let engine = thread::spawn({
            let request = Arc::clone(&request);
            move || {
                assert_eq!(request.life.release(1), Release::TooEarly);
                assert!(request.announce(true));
                assert!(matches!(request.release(), Release::Released { .. }));
                assert!(!request.announce(true));
            }
        });
        request.end_commit();
        engine.join().unwrap();
        request.assert_over();
    });
}

/// One sleeps; the answer or a release wakes it, whichever comes.
#[test]
fn nobody_sleeps_through_an_answer_or_a_release() {
    check(3, || {
        let request = Request::new();
        assert!(request.begin_commit(false));
        request.end_commit();
        let engine = thread::spawn({
            let request = Arc::clone(&request);
            move || request.announce(false)
        });
        let sleeper = thread::spawn({
            let request = Arc::clone(&request);
            move || request.sleep()
        });
        assert!(matches!(request.release(), Release::Released { .. }));
        sleeper.join().unwrap();
        engine.join().unwrap();
        request.assert_over();
    });
}

/// One polls a request while another releases it and the next one with its number is answered.
#[test]
fn a_poll_never_tells_of_the_next_request() {
    const PENDING: u32 = 0;
    loom::model(|| {
        let request = Request::new();
        // As the engine's table of answers.
        let answer = Arc::new(AtomicU32::new(PENDING));
        assert!(request.begin_commit(false));
        request.end_commit();
        let other = thread::spawn({
            let (request, answer) = (Arc::clone(&request), Arc::clone(&answer));
            move || {
                answer.store(1, Ordering::Release);
                assert!(matches!(request.release(), Release::Released { .. }));
                // With its ticket, once the entry is free.
                answer.store(PENDING, Ordering::Relaxed);
                request.life.lease();
                assert!(request.life.begin_commit(2, false));
                request.life.end_commit();
                answer.store(2, Ordering::Release);
            }
        });
        // As `Requests::poll`.
        if request.life.standing(1) == Standing::Committed {
            let found = answer.load(Ordering::Acquire);
            if found != PENDING && request.life.standing(1) != Standing::Stale {
                assert_eq!(found, 1);
            }
        }
        other.join().unwrap();
    });
}

/// A wake of one request comes late, while it is released and the next one with its number, which
/// has a notice, goes its way: the next one is told of once it is answered, and only then.
#[test]
fn a_late_wake_ends_no_other_request() {
    loom::model(|| {
        let request = Request::new();
        assert!(request.begin_commit(false));
        request.end_commit();
        // As the engine's table of answers: of which generation there is one.
        let answered = Arc::new(AtomicU32::new(1));
        let caller = thread::spawn({
            let (request, answered) = (Arc::clone(&request), Arc::clone(&answered));
            move || {
                assert!(matches!(request.release(), Release::Released { .. }));
                answered.store(0, Ordering::Relaxed);
                request.life.lease();
                assert!(request.life.begin_commit(2, true));
                request.life.end_commit();
            }
        });
        // As `Requests::announce`, woken for the first.
        if let Some((generation, _)) = request.life.on_its_way()
            && answered.load(Ordering::Acquire) != 0
        {
            request.life.end(generation, false);
        }
        caller.join().unwrap();
        assert_eq!(request.life.on_its_way(), Some((2, true)));
        assert!(request.life.end(2, true).is_some());
        assert!(matches!(request.life.release(2), Release::Released { .. }));
    });
}

/// Without a release it is the answer that wakes.
#[test]
fn nobody_sleeps_through_an_answer() {
    loom::model(|| {
        let request = Request::new();
        assert!(request.begin_commit(false));
        request.end_commit();
        let sleeper = thread::spawn({
            let request = Arc::clone(&request);
            move || request.sleep()
        });
        assert!(request.announce(false));
        sleeper.join().unwrap();
        assert!(matches!(request.release(), Release::Released { .. }));
        request.assert_over();
    });
}

/// As `Completions`, with a semaphore for the system's event.
struct Queue {
    queued: Mutex<Vec<u32>>,
    signal: Signal,
    event: Mutex<u32>,
    written: Condvar,
}

impl Queue {
    fn new() -> Arc<Self> {
        let (queued, event) = (Mutex::new(Vec::new()), Mutex::new(0));
        Arc::new(Self { queued, signal: Signal::new(), event, written: Condvar::new() })
    }

    fn write(&self) {
        *self.event.lock().unwrap() += 1;
        self.written.notify_one();
    }

    fn watch(&self) {
        if self.signal.watch() {
            self.write();
        }
    }

    fn push(&self, value: u32) {
        self.queued.lock().unwrap().push(value);
        if self.signal.pushed() {
            self.write();
        }
    }

    fn pop(&self) -> Option<u32> {
        let value = self.queued.lock().unwrap().pop()?;
        if self.signal.popped() {
            let mut event = self.event.lock().unwrap();
            while *event == 0 {
                event = self.written.wait(event).unwrap();
            }
            *event -= 1;
        }
        Some(value)
    }
}

/// One pushes, one pops, one begins to watch: in the end the descriptor tells what is queued.
#[test]
fn the_descriptor_is_readable_while_something_is_queued() {
    loom::model(|| {
        let queue = Queue::new();
        let engine = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                queue.push(1);
                queue.push(2);
            }
        });
        let consumer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.pop()
        });
        queue.watch();
        engine.join().unwrap();
        consumer.join().unwrap();
        let left = queue.queued.lock().unwrap().len();
        assert_eq!(*queue.event.lock().unwrap(), u32::from(left > 0));
        while queue.pop().is_some() {}
        assert_eq!(*queue.event.lock().unwrap(), 0);
    });
}
