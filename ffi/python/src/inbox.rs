//! Answers for an event loop: one wake-up for as many as came meanwhile.
//!
//! Invariant: the scheduling thread pushes a number and, where the loop was not told yet, writes to
//! a descriptor; it never meets the interpreter. What it pushed the loop takes out in one call. A
//! request keeps its number until then, also if its caller has cancelled it.

use std::fs::File;
use std::io::{Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};

use crossbeam_queue::ArrayQueue;
use pyo3::intern;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use twinstream::engine::{Lease, RequestOptions, Ticket};

use crate::answer::Answer;
use crate::errors;
use crate::logging;
use crate::opening::{Info, Live};

/// Numbers of requests that have ended.
struct Ended {
    numbers: ArrayQueue<u32>,
    /// Whether the loop was told and has not looked since.
    is_told: AtomicBool,
    event: File,
}

/// Tells that one request has ended. Runs on the scheduling thread.
struct Tell {
    ended: Arc<Ended>,
    number: u32,
}

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        self.ended.push(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ended.push(self.number);
    }
}

impl Ended {
    fn push(&self, number: u32) {
        self.numbers.push(number).expect("room for every request");
        // The number comes before; whoever looks after this one was told sees it.
        if !self.is_told.swap(true, Ordering::AcqRel)
            && let Err(error) = (&self.event).write_all(&1u64.to_ne_bytes())
        {
            log::error!("the event loop's descriptor: {error}");
        }
    }

    /// Has the next push tell the loop again; what was pushed before is there.
    fn hear(&self) {
        // Nothing to be read is no failure: the loop may look without having been told.
        let _ = (&self.event).read(&mut [0; size_of::<u64>()]);
        self.is_told.swap(false, Ordering::AcqRel);
    }
}

struct Pending {
    ticket: Ticket,
    future: Py<PyAny>,
}

/// The requests of one event loop.
#[pyclass(frozen, module = "twinstream._twinstream")]
pub(crate) struct Inbox {
    ended: Arc<Ended>,
    /// By number of the request.
    wakers: Box<[Waker]>,
    pending: Mutex<Box<[Option<Pending>]>>,
    live: Weak<Live>,
    info: Arc<Info>,
}

impl Inbox {
    pub(crate) fn new(live: &Arc<Live>, info: &Arc<Info>) -> PyResult<Self> {
        // As many as there are numbers.
        let len = 2 * info.slot_len;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(std::io::Error::from)?;
        let ended = Arc::new(Ended {
            numbers: ArrayQueue::new(len),
            is_told: AtomicBool::new(false),
            event: File::from(event),
        });
        let waker = |number| Waker::from(Arc::new(Tell { ended: Arc::clone(&ended), number }));
        let wakers = (0..len as u32).map(waker).collect();
        let pending = Mutex::new((0..len).map(|_| None).collect());
        let (live, info) = (Arc::downgrade(live), Arc::clone(info));
        Ok(Self { ended, wakers, pending, live, info })
    }

    /// Hands a lease in whose answer the future is to get; its number.
    pub(crate) fn commit(
        &self,
        lease: Lease,
        options: RequestOptions,
        future: Py<PyAny>,
    ) -> PyResult<u32> {
        let number = lease.number();
        let waker = &self.wakers[number as usize];
        let ticket = lease.commit_waking(options, waker).map_err(errors::refused)?;
        self.lock()[number as usize] = Some(Pending { ticket, future });
        Ok(number)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Box<[Option<Pending>]>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, py: Python<'_>, Pending { ticket, future }: Pending) -> PyResult<()> {
        let answer = ticket.wait();
        let future = future.bind(py);
        // Cancelled, most likely.
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match answer {
            Ok(output) => {
                let answer = Answer::new(py, &output, &self.info)?;
                // Its place is free again before anyone is told.
                drop(output);
                future.call_method1(intern!(py, "set_result"), (answer,))?;
            }
            Err(failure) => {
                let error = errors::failed(failure).into_value(py);
                future.call_method1(intern!(py, "set_exception"), (error,))?;
            }
        }
        Ok(())
    }
}

#[pymethods]
impl Inbox {
    /// What the loop has to watch for reading.
    fn fileno(&self) -> RawFd {
        self.ended.event.as_raw_fd()
    }

    /// Gives every answer that came to its future.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.ended.hear();
        let mut outcome = logging::flush(py);
        while let Some(number) = self.ended.numbers.pop() {
            let pending = self.lock()[number as usize].take();
            // One that fails keeps no other from its answer.
            if let Some(Err(error)) = pending.map(|pending| self.answer(py, pending)) {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Cancels the request that this future is of, unless it has ended.
    fn cancel(&self, number: u32, future: &Bound<'_, PyAny>) {
        if let Some(pending) = &self.lock()[number as usize]
            && pending.future.is(future)
        {
            pending.ticket.cancel();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if self.live.upgrade().is_some_and(|live| live.is_forked()) {
            // They are the other process's to cancel.
            let pending = self.pending.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(mem::take(pending));
        }
    }
}
