//! What the program's own code may do to the scheduling thread: handlers and loggers that panic, in
//! the worst of ways. Each request is still answered, and nobody waits for ever.

use std::cell::Cell;
use std::panic::panic_any;
use std::sync::{Arc, Once, mpsc};
use std::thread;
use std::time::Duration;

use log::{Log, Metadata, Record};
use twinstream::engine::{
    Answer, Engine, EngineOptions, Failure, Handler, Refused, RequestOptions,
};

use super::device::{Device, Plan, calibration_len};

const IMAGE_BYTES: usize = 100;
const LONG: Duration = Duration::from_secs(20);

thread_local! {
    static IS_LOGGER_BROKEN: Cell<bool> = const { Cell::new(false) };
}

/// A logger such as one that prints to a pipe which nobody reads any more.
struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &Record<'_>) {
        assert!(!IS_LOGGER_BROKEN.get(), "a logger that panics, on purpose");
    }

    fn flush(&self) {}
}

/// An engine whose scheduling thread cannot log any more.
fn start_unheard(plan: Plan) -> Engine {
    static IS_SET: Once = Once::new();
    IS_SET.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    let engine = start(plan);
    let (done, is_done) = mpsc::sync_channel(1);
    let handler = move |_, answer: Answer| {
        answer.unwrap();
        IS_LOGGER_BROKEN.set(true);
        done.send(()).unwrap();
    };
    commit(&engine, Arc::new(handler));
    is_done.recv_timeout(LONG).unwrap();
    engine
}

fn start(plan: Plan) -> Engine {
    let options = EngineOptions::default().slot_len(4);
    Engine::start(Device::new(IMAGE_BYTES, 8, plan, 1), &options).unwrap()
}

fn commit(engine: &Engine, handler: Arc<dyn Handler>) {
    engine.lease().unwrap().commit_with(RequestOptions::default(), handler, 0).unwrap();
}

fn answer(engine: &Engine) -> Answer {
    let ticket = engine.submit(&[1; IMAGE_BYTES], RequestOptions::default()).unwrap();
    ticket.wait_timeout(LONG).expect("answered")
}

/// Drains on a thread of its own, lest a drain that never ends keep the test.
fn drain(engine: Engine) -> bool {
    let (done, is_done) = mpsc::sync_channel(1);
    thread::spawn(move || done.send(engine.drain(LONG)).unwrap());
    is_done.recv_timeout(2 * LONG).expect("the drain ends")
}

#[test]
fn a_logger_that_panics_costs_nobody_an_answer() {
    let spared = calibration_len(4) + 3;
    let engine = start_unheard(Plan { lose_one_in: 1, spared, ..Plan::default() });
    assert_eq!(answer(&engine).unwrap_err(), Failure::DeviceLost);
    assert!(engine.fault().unwrap().message.contains("injected loss"), "{:?}", engine.fault());
    assert!(drain(engine));
    // Nor the device, when it is well.
    let engine = start_unheard(Plan { fail_one_in: 1, spared, ..Plan::default() });
    assert_eq!(answer(&engine).unwrap_err(), Failure::Failed);
    assert_eq!(answer(&engine).unwrap_err(), Failure::Failed);
    assert!(drain(engine));
}

#[test]
fn what_a_handler_throws_may_throw_again() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("a payload that panics, on purpose");
            }
        }
    }
    let engine = start(Plan::default());
    for _ in 0..3 {
        commit(&engine, Arc::new(|_, _| panic_any(Bomb)));
        answer(&engine).unwrap();
    }
    assert!(engine.fault().is_none());
    // While everything is ended, too.
    let engine = start(Plan { lose_one_in: 1, spared: calibration_len(4), ..Plan::default() });
    let leases: Vec<_> = (0..2).map(|_| engine.lease().unwrap()).collect();
    for lease in leases {
        // The first may have lost the device already.
        let committed =
            lease.commit_with(RequestOptions::default(), Arc::new(|_, _| panic_any(Bomb)), 0);
        assert!(matches!(committed, Ok(()) | Err(Refused::DeviceLost)), "{committed:?}");
    }
    let ended = engine.submit(&[1; IMAGE_BYTES], RequestOptions::default());
    match ended {
        Ok(ticket) => {
            let answer = ticket.wait_timeout(LONG).expect("answered");
            assert_eq!(answer.unwrap_err(), Failure::DeviceLost);
        }
        Err(refused) => assert_eq!(refused, Refused::DeviceLost),
    }
    assert!(drain(engine));
}
