//! The completion queue: answered requests for an event loop, with a descriptor to wait for.
//!
//! Invariant: once the descriptor was asked for, it is readable while the queue holds something and
//! otherwise not. There is room for every request, so a push never fails, and waits for nobody.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use crossbeam_queue::ArrayQueue;

use crate::signal::Signal;

/// See the module.
pub(crate) struct Completions {
    queued: ArrayQueue<u64>,
    signal: Signal,
    /// None where the system has none.
    event: Option<File>,
}

impl Completions {
    /// A queue for up to `capacity` requests.
    ///
    /// # Errors
    /// When the process may not open another descriptor.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { queued: ArrayQueue::new(capacity), signal: Signal::new(), event: event()? })
    }

    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        let event = self.event.as_ref()?;
        if self.signal.watch() {
            self.write();
        }
        Some(event.as_raw_fd())
    }

    pub(crate) fn push(&self, request: u64) {
        self.queued.push(request).expect("room for every request");
        if self.signal.pushed() {
            self.write();
        }
    }

    pub(crate) fn pop(&self) -> Option<u64> {
        let request = self.queued.pop()?;
        if self.signal.popped() {
            // Takes what one write added, and waits for a write that is under way.
            self.change(|mut event| event.read_exact(&mut [0; size_of::<u64>()]));
        }
        Some(request)
    }

    fn write(&self) {
        self.change(|mut event| event.write_all(&1u64.to_ne_bytes()));
    }

    /// Never fails unless the caller did to the descriptor what the header forbids.
    fn change(&self, change: impl FnOnce(&File) -> io::Result<()>) {
        if let Some(event) = &self.event
            && let Err(error) = change(event)
        {
            log::error!("the completion queue's descriptor: {error}");
        }
    }
}

#[cfg(target_os = "linux")]
fn event() -> io::Result<Option<File>> {
    use rustix::event::{EventfdFlags, eventfd};
    let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?;
    Ok(Some(File::from(descriptor)))
}

#[cfg(not(target_os = "linux"))]
fn event() -> io::Result<Option<File>> {
    Ok(None)
}
