//! A slot to write an image into, and the ways to hand it over.
//!
//! Invariant: a lease holds an image slot and a result slot; either both go to the scheduling
//! thread or both are free again. Knows nothing of what becomes of them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::Waker;

use super::answer::Handler;
use super::cell::Waiter;
use super::options::{Refused, RequestOptions};
use super::shared::{NEVER_NS, Request, Shared};
use super::ticket::Ticket;
use crate::backend::ResultSlot;
use crate::ring;
use crate::stripe::{StripedRef, Stripes};

/// A place for one image in the memory that the device copies from: dereferences to its bytes, u8
/// RGB, height x width x 3, which hold what was there last.
///
/// Dropping it gives it back unused.
#[must_use = "a lease that is dropped gives its slot back unused"]
pub struct Lease {
    image: ring::Lease<'static, Request>,
    result: ResultSlot,
    shared: StripedRef<Arc<Shared>>,
}

impl Lease {
    pub(super) fn new(references: &Stripes<Arc<Shared>>) -> Result<Self, Refused> {
        let shared = references.get();
        if let Some(refused) = shared.refusal() {
            return Err(shared.count(refused));
        }
        let full = |_| shared.count(Refused::Full);
        let image = shared.images.lease().map_err(full)?.into_owned();
        let result = shared.results.lease().map_err(full)?.into_owned();
        Ok(Self { image, result, shared })
    }

    /// The request's number: below twice [`slot_len`](super::EngineOptions::slot_len), and no
    /// other's until the lease is dropped or refused; once it is committed, until ticket and answer
    /// are dropped.
    pub fn number(&self) -> u32 {
        self.result.slot()
    }

    /// Hands the image over; never blocks. The ticket gets the answer.
    ///
    /// # Errors
    /// [`Refused::ShutDown`] or [`Refused::DeviceLost`], for good; [`Refused::Forked`] in a process
    /// that was forked off.
    pub fn commit(self, options: RequestOptions) -> Result<Ticket, Refused> {
        let cell = self.result.slot();
        let shared = self.send(options, None)?;
        Ok(Ticket::new(shared, cell))
    }

    /// Hands the image over; never blocks. `handler` gets the answer together with `tag`.
    ///
    /// # Errors
    /// As for [`Lease::commit`]; the handler is then not called.
    pub fn commit_with(
        self,
        options: RequestOptions,
        handler: Arc<dyn Handler>,
        tag: u64,
    ) -> Result<(), Refused> {
        self.send(options, Some((handler, tag)))?;
        Ok(())
    }

    /// As [`Lease::commit`], with `waker` in place before the request can end: it is woken, on the
    /// scheduling thread, as if the ticket had been polled with it.
    ///
    /// # Errors
    /// As for [`Lease::commit`]; the waker is then not woken.
    pub fn commit_waking(self, options: RequestOptions, waker: &Waker) -> Result<Ticket, Refused> {
        if self.shared.is_forked() {
            return Err(Refused::Forked);
        }
        let cell = self.result.slot();
        let is_at_rest = self.shared.cells[cell as usize].wait(Waiter::Task(waker.clone()));
        assert!(is_at_rest, "a cell without a request has no answer");
        let shared = self.send(options, None)?;
        Ok(Ticket::new(shared, cell))
    }

    fn send(
        self,
        options: RequestOptions,
        handler: Option<(Arc<dyn Handler>, u64)>,
    ) -> Result<StripedRef<Arc<Shared>>, Refused> {
        if self.shared.is_forked() {
            return Err(Refused::Forked);
        }
        let Self { image, result, shared } = self;
        let deadline_ns =
            options.deadline.map_or(NEVER_NS, |deadline| shared.since_start_ns(deadline));
        let committed_ns = shared.now_ns();
        let priority = options.priority;
        let request = Request { committed_ns, deadline_ns, priority, result, handler };
        match image.commit(request) {
            Ok(committed) => {
                if committed.consumer_sleeps {
                    shared.wake();
                }
                Ok(shared)
            }
            Err(closed) => {
                // A waker may be in the cell, which is to be at rest before its slot is let go.
                shared.cells[closed.request.result.slot() as usize].wait_no_more();
                Err(shared.count(shared.refusal().unwrap_or(Refused::ShutDown)))
            }
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.image
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.image
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("slot", &self.image.slot()).finish_non_exhaustive()
    }
}
