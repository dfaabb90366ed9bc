//! An engine in a process that was forked off: nothing is answered there, and nothing waits for it.

#![cfg(unix)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use twinstream::backend::{Geometry, Null};
use twinstream::engine::{Answer, Engine, EngineOptions, Failure, Refused, RequestOptions};

const LONG: Duration = Duration::from_secs(20);

// SAFETY: as POSIX has them.
unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
    fn kill(process: i32, signal: i32) -> i32;
    fn _exit(status: i32) -> !;
}

const WNOHANG: i32 = 1;
const SIGKILL: i32 = 9;

fn engine() -> Engine {
    let null = Null::new(Geometry { image_bytes: 100, result_len: 2, batch_len_max: 4 });
    Engine::start(null, &EngineOptions::default().slot_len(5)).unwrap()
}

/// Runs `child` in a process of its own: whether it came to a good end, and did so in time.
fn in_child(child: impl FnOnce()) -> bool {
    // SAFETY: the child runs on a copy of this thread alone, and ends without a word to the test
    // harness.
    let process = unsafe { fork() };
    if process == 0 {
        let is_well = catch_unwind(AssertUnwindSafe(child)).is_ok();
        // SAFETY: it may be called at any time.
        unsafe { _exit(i32::from(!is_well)) }
    }
    assert!(process > 0, "the process cannot be forked");
    let start = Instant::now();
    let mut status = -1;
    // SAFETY: a child of this process, and a place to put its status.
    while unsafe { waitpid(process, &mut status, WNOHANG) } == 0 {
        if start.elapsed() > LONG {
            // SAFETY: a child of this process, and a place to put its status.
            unsafe {
                kill(process, SIGKILL);
                waitpid(process, &mut status, 0);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    status == 0
}

/// One test alone in its process: no other thread holds a lock as that is forked.
#[test]
fn a_forked_process_waits_for_nothing() {
    let engine = engine();
    let (began, has_begun) = mpsc::sync_channel(0);
    let (go_on, may_go_on) = mpsc::sync_channel(0);
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let handler = move |_, _: Answer| {
        began.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
    };
    engine.lease().unwrap().commit_with(RequestOptions::default(), Arc::new(handler), 0).unwrap();
    has_begun.recv_timeout(LONG).unwrap();
    let mut pending = [0; 3].map(|_| engine.submit(&[1; 100], RequestOptions::default()).ok());
    let [waits, waits_long, is_dropped] = &mut pending;

    let mut leased = Some(engine.lease().unwrap());
    // All five slots are in use but that of the handler's request.
    let mut last = Some(engine.lease_many(1).unwrap());
    let mut awaited = Some(pin!(engine.lease_many_async(2)));
    let context = &mut Context::from_waker(Waker::noop());
    assert!(awaited.as_mut().unwrap().as_mut().poll(context).is_pending());
    let mut engine = Some(engine);
    let is_well = in_child(|| {
        let engine = engine.take().unwrap();
        let timeout = Duration::MAX;
        assert_eq!(waits.take().unwrap().wait().unwrap_err(), Failure::ShutDown);
        let answer = waits_long.take().unwrap().wait_timeout(timeout).expect("no timeout");
        assert_eq!(answer.unwrap_err(), Failure::ShutDown);
        drop(is_dropped.take());
        assert_eq!(engine.lease().unwrap_err(), Refused::Forked);
        let submitted = engine.submit(&[1; 100], RequestOptions::default());
        assert_eq!(submitted.unwrap_err(), Refused::Forked);
        let committed = leased.take().unwrap().commit(RequestOptions::default());
        assert_eq!(committed.unwrap_err(), Refused::Forked);
        assert_eq!(engine.lease_many(1).unwrap_err(), Refused::Forked);
        assert_eq!(engine.lease_timeout(timeout).unwrap_err(), Refused::Forked);
        assert_eq!(engine.lease_many_timeout(1, timeout).unwrap_err(), Refused::Forked);
        // What frees a slot that is awaited looks for nobody here.
        let committed = last.take().unwrap().commit(RequestOptions::default());
        assert_eq!(committed.unwrap_err(), Refused::Forked);
        let Poll::Ready(Err(Refused::Forked)) = awaited.as_mut().unwrap().as_mut().poll(context)
        else {
            panic!("it waits for ever")
        };
        assert_eq!(engine.refusal(), Some(Refused::Forked));
        engine.stats();
        assert!(!engine.drain(timeout));
        drop(engine);
        // Its own serves it.
        let own = self::engine();
        own.submit(&[1; 100], RequestOptions::default()).unwrap().wait().unwrap();
        assert!(own.drain(LONG));
    });

    go_on.send(()).unwrap();
    for ticket in pending {
        ticket.unwrap().wait().unwrap();
    }
    leased.unwrap().commit(RequestOptions::default()).unwrap().wait().unwrap();
    assert!(matches!(awaited.unwrap().as_mut().poll(context), Poll::Ready(Ok(_))));
    last.unwrap().commit(RequestOptions::default()).unwrap().wait().next().unwrap().unwrap();
    assert!(engine.unwrap().drain(LONG));
    assert!(is_well, "the forked process waits for ever, or found something wrong");
}
