//! A thread that sleeps until an event of the device and then wakes the thread that polls.
//!
//! Invariant: once armed with an event, it wakes the poller after that event, or sooner; unarmed,
//! it costs nothing. It never touches work or results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::thread::{self, JoinHandle};

use super::context::Context;
use super::stream::Event;
use crate::error::{Error, Kind, Result};

/// Nothing to wait for.
const IDLE: usize = usize::MAX;
/// The thread is to end.
const STOP: usize = usize::MAX - 1;

/// See the module.
pub(crate) struct Waiter {
    /// Index of the event to wait for, IDLE or STOP.
    armed: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Waiter {
    /// Starts a thread that may be armed with any of `events`.
    pub(crate) fn start(
        name: &str,
        context: &Arc<Context>,
        events: Arc<[Event]>,
        waker: Waker,
    ) -> Result<Self> {
        let armed = Arc::new(AtomicUsize::new(IDLE));
        let (context, for_thread) = (Arc::clone(context), Arc::clone(&armed));
        let run = move || {
            let _pushed = context.push_current();
            loop {
                match for_thread.swap(IDLE, Ordering::Acquire) {
                    STOP => return,
                    IDLE => thread::park(),
                    event => {
                        // Whatever went wrong, the poller finds it too.
                        let _ = events[event].synchronize();
                        waker.wake_by_ref();
                    }
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
            Error::new(Kind::Io, format!("cannot start thread {name}: {error}")).with_source(error)
        })?;
        Ok(Self { armed, thread: Some(thread) })
    }

    /// Makes it wake the poller after the latest recording of an event.
    pub(crate) fn arm(&self, event: usize) {
        self.armed.store(event, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.arm(STOP);
        if let Some(thread) = self.thread.take() {
            // It panics at nothing.
            let _ = thread.join();
        }
    }
}
