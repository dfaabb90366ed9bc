//! Waiting for slots: until some are free, until a timeout, or as a future.
//!
//! Invariant: who waits stands in the line once, and leaves it with what it was given or as it is
//! dropped. Knows nothing of images.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::cell::Waiter;
use super::lease::{Lease, ManyLease};
use super::options::Refused;
use super::shared::{Shared, wake};
use crate::stripe::StripedRef;

/// Waits for slots.
struct Waiting {
    shared: StripedRef<Arc<Shared>>,
    len: usize,
    /// Its place in the line; none before and after.
    key: Option<u32>,
}

impl Waiting {
    /// The lease if there is room, or why there will be none; else remembers whom to wake.
    fn poll(&mut self, waiter: impl Fn() -> Waiter) -> Poll<Result<ManyLease, Refused>> {
        if self.shared.is_forked() {
            return Poll::Ready(Err(self.shared.count(Refused::Forked)));
        }
        let key = match self.key {
            Some(key) => key,
            None => match ManyLease::new(&self.shared, self.len) {
                Err(Refused::Full) => match self.enter() {
                    Some(key) => key,
                    None => return Poll::Ready(Err(self.shared.count(Refused::Full))),
                },
                leased => return Poll::Ready(leased.map_err(|refused| self.shared.count(refused))),
            },
        };
        if let Some(places) = self.shared.room.poll(key, waiter()) {
            self.key = None;
            return Poll::Ready(Ok(ManyLease::of(places, self.shared.clone())));
        }
        // Looked at once the waiter is in place: who ends the engine wakes it.
        match self.shared.refusal() {
            Some(refused) => {
                drop(self.leave());
                Poll::Ready(Err(self.shared.count(refused)))
            }
            None => Poll::Pending,
        }
    }

    /// None where too many wait.
    fn enter(&mut self) -> Option<u32> {
        let places = self.shared.no_places(self.len as u32);
        self.key = self.shared.room.enter(places, wake).ok();
        self.key
    }

    /// Leaves the line; the lease, if it was there at the last moment.
    fn leave(&mut self) -> Option<ManyLease> {
        let places = self.shared.room.leave(self.key.take()?, wake)?;
        let is_whole = places.results.len() == places.len;
        is_whole.then(|| ManyLease::of(places, self.shared.clone()))
    }

    fn block(mut self, timeout: Duration) -> Result<ManyLease, Refused> {
        let until = Instant::now().checked_add(timeout);
        loop {
            if let Poll::Ready(leased) = self.poll(|| Waiter::Thread(thread::current())) {
                return leased;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match left {
                None => thread::park(),
                Some(Duration::ZERO) => {
                    return self.leave().ok_or_else(|| self.shared.count(Refused::Full));
                }
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // In a forked process a thread that is not in it may hold the line.
        if !self.shared.is_forked() {
            drop(self.leave());
        }
    }
}

/// A lease as soon as there is one: what awaiting
/// [`Engine::lease_async`](super::Engine::lease_async) gives. Dropping it leaves the line.
#[must_use = "a future does nothing unless it is polled"]
pub struct LeaseFuture(ManyLeaseFuture);

/// Leases for several images as soon as there are enough: what awaiting
/// [`Engine::lease_many_async`](super::Engine::lease_many_async) gives. Dropping it leaves the
/// line.
#[must_use = "a future does nothing unless it is polled"]
pub struct ManyLeaseFuture(Waiting);

impl ManyLeaseFuture {
    pub(super) fn new(shared: StripedRef<Arc<Shared>>, len: usize) -> Self {
        Self(Waiting { shared, len, key: None })
    }

    /// The same, blocking.
    pub(super) fn block(self, timeout: Duration) -> Result<ManyLease, Refused> {
        self.0.block(timeout)
    }
}

impl LeaseFuture {
    pub(super) fn new(shared: StripedRef<Arc<Shared>>) -> Self {
        Self(ManyLeaseFuture::new(shared, 1))
    }
}

impl Future for ManyLeaseFuture {
    type Output = Result<ManyLease, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(|| Waiter::Task(context.waker().clone()))
    }
}

impl Future for LeaseFuture {
    type Output = Result<Lease, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_ok(ManyLease::into_one)
    }
}

impl fmt::Debug for ManyLeaseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyLeaseFuture").field("len", &self.0.len).finish_non_exhaustive()
    }
}

impl fmt::Debug for LeaseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseFuture").finish_non_exhaustive()
    }
}
