//! The completion queue: answered requests for an event loop, with a descriptor to wait for.
//!
//! Invariant: the descriptor is readable exactly while the queue holds something, as both change
//! under one lock. There is room for every request, so a push never waits or fails.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// See the module.
pub(crate) struct Completions {
    queued: Mutex<VecDeque<u64>>,
    /// None where the system has none.
    event: Option<File>,
}

impl Completions {
    /// A queue for up to `capacity` requests.
    ///
    /// # Errors
    /// When the process may not open another descriptor.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { queued: Mutex::new(VecDeque::with_capacity(capacity)), event: event()? })
    }

    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.event.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub(crate) fn push(&self, request: u64) {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        debug_assert!(queued.len() < queued.capacity());
        queued.push_back(request);
        if queued.len() == 1 {
            self.signal(|mut event| event.write_all(&1u64.to_ne_bytes()));
        }
    }

    pub(crate) fn pop(&self) -> Option<u64> {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let request = queued.pop_front()?;
        if queued.is_empty() {
            self.signal(|mut event| event.read_exact(&mut [0; size_of::<u64>()]));
        }
        Some(request)
    }

    /// Neither fails unless the caller did to the descriptor what the header forbids.
    fn signal(&self, change: impl FnOnce(&File) -> io::Result<()>) {
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
    let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    Ok(Some(File::from(descriptor)))
}

#[cfg(not(target_os = "linux"))]
fn event() -> io::Result<Option<File>> {
    Ok(None)
}
