//! Waiting with the interpreter let go, in slices between which signals are looked at.
//!
//! Invariant: no lock of ours is held while the interpreter is let go, so a process that is forked
//! off meanwhile finds all of them free.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long a signal, such as Ctrl-C, may go unnoticed.
const SLICE: Duration = Duration::from_millis(50);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Calls `call` with a waker that ends this thread's sleep.
pub(crate) fn with_waker<R>(call: impl FnOnce(&Waker) -> R) -> R {
    WAKER.with(call)
}

/// Sleeps for a slice at most, and no longer than `until`.
pub(crate) fn sleep(until: Option<Instant>) {
    let left = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()));
    thread::park_timeout(left.min(SLICE));
}

/// What the future gives. Errors are those of signals' handlers; the future is dropped then.
pub(crate) fn wait<F: Future + Unpin + Send>(py: Python<'_>, mut future: F) -> PyResult<F::Output>
where
    F::Output: Send,
{
    let poll =
        |future: &mut F| with_waker(|waker| Pin::new(future).poll(&mut Context::from_waker(waker)));
    loop {
        let polled = py.detach(|| match poll(&mut future) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => {
                sleep(None);
                poll(&mut future)
            }
        });
        if let Poll::Ready(output) = polled {
            return Ok(output);
        }
        py.check_signals()?;
    }
}
