//! Slots to write images into, and the ways to hand them over.
//!
//! Invariant: a lease holds as many image slots as result slots; either all go to the scheduling
//! thread or all are free again. Knows nothing of what becomes of them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::Waker;

use super::announced::NOWHERE;
use super::answer::Handler;
use super::cell::Waiter;
use super::group;
use super::options::{Refused, RequestOptions};
use super::shared::{ALONE, NEVER_NS, Places, Request, Shared};
use super::ticket::{ManyTicket, Ticket};
use crate::backend::ResultSlot;
use crate::ring;
use crate::stripe::StripedRef;

/// A place for one image in the memory that the device copies from: dereferences to its bytes, u8
/// RGB, height x width x 3, which hold what was there last.
///
/// Dropping it gives it back unused.
#[must_use = "a lease that is dropped gives its slot back unused"]
pub struct Lease {
    image: ring::Lease<'static, Request>,
    result: ResultSlot,
    announcement: Announcement,
}

impl Lease {
    /// Refused without being counted.
    pub(super) fn new(shared: StripedRef<Arc<Shared>>) -> Result<Self, Refused> {
        if let Some(refused) = shared.refusal() {
            return Err(refused);
        }
        let full = |_| Refused::Full;
        let image = shared.images.lease().map_err(full)?.into_owned();
        let result = shared.results.lease().map_err(full)?.into_owned();
        Ok(Self::of(image, result, shared))
    }

    fn of(
        image: ring::Lease<'static, Request>,
        result: ResultSlot,
        shared: StripedRef<Arc<Shared>>,
    ) -> Self {
        let announcement = Announcement::new(shared, result.slot());
        Self { image, result, announcement }
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
        let shared = self.announcement.shared();
        if shared.is_forked() {
            return Err(Refused::Forked);
        }
        let cell = self.result.slot();
        let is_at_rest = shared.cells[cell as usize].wait(Waiter::Task(waker.clone()));
        assert!(is_at_rest, "a cell without a request has no answer");
        let shared = self.send(options, None)?;
        Ok(Ticket::new(shared, cell))
    }

    fn send(
        self,
        options: RequestOptions,
        handler: Option<(Arc<dyn Handler>, u64)>,
    ) -> Result<StripedRef<Arc<Shared>>, Refused> {
        if self.announcement.shared().is_forked() {
            return Err(Refused::Forked);
        }
        let Self { image, result, announcement } = self;
        let (shared, place) = announcement.commit();
        let (committed_ns, deadline_ns) = moments(&shared, &options);
        let priority = options.priority;
        let group = ALONE;
        let is_hashed = hash(&shared, [(image.slot(), &*image)]);
        let request = Request {
            committed_ns,
            deadline_ns,
            priority,
            place,
            is_hashed,
            group,
            result,
            handler,
        };
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

/// Whether there are keys of the images of these slots.
fn hash<'a>(shared: &Shared, images: impl IntoIterator<Item = (u32, &'a [u8])>) -> bool {
    shared.hashing.as_ref().is_some_and(|hashing| hashing.store(images.into_iter()))
}

/// Now, and the deadline.
fn moments(shared: &Shared, options: &RequestOptions) -> (u64, u64) {
    let deadline_ns = options.deadline.map_or(NEVER_NS, |deadline| shared.since_start_ns(deadline));
    (shared.now_ns(), deadline_ns)
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

/// A lease's place, and what all leases share.
struct Announcement {
    shared: Option<StripedRef<Arc<Shared>>>,
    place: u8,
}

impl Announcement {
    fn new(shared: StripedRef<Arc<Shared>>, number: u32) -> Self {
        let place = shared.board.announce(number, || shared.now_ns());
        Self { shared: Some(shared), place }
    }

    fn shared(&self) -> &Shared {
        self.shared.as_ref().expect("kept until it is committed")
    }

    /// Leaves the place to the scheduling thread.
    fn commit(mut self) -> (StripedRef<Arc<Shared>>, u8) {
        (self.shared.take().expect("kept until it is committed"), self.place)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.board.free(self.place);
        }
    }
}

/// Places for several images, which are handed over as one: they reach the scheduler together, side
/// by side in memory where free slots are, and are answered together. Deadline and priority are
/// those of each of them.
///
/// Dropping it gives all of them back unused.
#[must_use = "a lease that is dropped gives its slots back unused"]
pub struct ManyLease {
    places: Places,
    shared: StripedRef<Arc<Shared>>,
}

impl ManyLease {
    /// Refused without being counted.
    pub(super) fn new(shared: &StripedRef<Arc<Shared>>, len: usize) -> Result<Self, Refused> {
        if let Some(refused) = shared.refusal() {
            return Err(refused);
        }
        let len = shared.check_len(len)?;
        let mut places = shared.no_places(len);
        // What was met of too few slots is free again as this returns.
        if !places.images.lease(len) || !places.results.lease(len) {
            return Err(Refused::Full);
        }
        Ok(Self::of(places, shared.clone()))
    }

    pub(super) fn of(places: Places, shared: StripedRef<Arc<Shared>>) -> Self {
        Self { places, shared }
    }

    /// That of its first image alone.
    pub(super) fn into_one(mut self) -> Lease {
        let image = self.places.images.pop().expect("a lease has an image slot");
        let result = self.places.results.pop().expect("a lease has a result slot");
        Lease::of(image, result, self.shared)
    }

    /// Number of images.
    pub fn image_len(&self) -> usize {
        self.places.images.len() as usize
    }

    /// The place of each image, in the order of the answers: u8 RGB, height x width x 3, which hold
    /// what was there last.
    pub fn images_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.places.images.images_mut()
    }

    /// The request's number, as [`Lease::number`].
    pub fn number(&self) -> u32 {
        self.places.results.first().expect("a lease has a result slot")
    }

    /// Hands all images over at once; never blocks. The ticket gets the answers.
    ///
    /// # Errors
    /// As for [`Lease::commit`]; then none is handed over.
    pub fn commit(self, options: RequestOptions) -> Result<ManyTicket, Refused> {
        let (cell, len) = (self.number(), self.image_len());
        let shared = self.send(options, None)?;
        Ok(ManyTicket::new(shared, cell, len))
    }

    /// Hands all images over at once; never blocks. `handler` gets the answers together with `tag`,
    /// once: see [`Handler::answered_many`].
    ///
    /// # Errors
    /// As for [`Lease::commit`]; then none is handed over, and the handler is not called.
    pub fn commit_with(
        self,
        options: RequestOptions,
        handler: Arc<dyn Handler>,
        tag: u64,
    ) -> Result<(), Refused> {
        self.send(options, Some((handler, tag)))?;
        Ok(())
    }

    /// As [`ManyLease::commit`], with `waker` in place before all can have ended: see
    /// [`Lease::commit_waking`].
    ///
    /// # Errors
    /// As for [`Lease::commit`]; then none is handed over, and the waker is not woken.
    pub fn commit_waking(
        self,
        options: RequestOptions,
        waker: &Waker,
    ) -> Result<ManyTicket, Refused> {
        if self.shared.is_forked() {
            return Err(Refused::Forked);
        }
        let (cell, len) = (self.number(), self.image_len());
        let is_at_rest = self.shared.cells[cell as usize].wait(Waiter::Task(waker.clone()));
        assert!(is_at_rest, "a cell without a request has no answer");
        let shared = self.send(options, None)?;
        Ok(ManyTicket::new(shared, cell, len))
    }

    fn send(
        self,
        options: RequestOptions,
        handler: Option<(Arc<dyn Handler>, u64)>,
    ) -> Result<StripedRef<Arc<Shared>>, Refused> {
        if self.shared.is_forked() {
            return Err(Refused::Forked);
        }
        let group = self.number();
        let Self { places: Places { images, mut results, .. }, shared } = self;
        group::link(&shared.cells, results.slots());
        let (committed_ns, deadline_ns) = moments(&shared, &options);
        let priority = options.priority;
        let is_hashed = hash(&shared, images.images());
        let committed = images.commit(|| {
            let result = results.pop().expect("as many result slots as image slots");
            let handler = handler.clone();
            let place = NOWHERE;
            Request {
                committed_ns,
                deadline_ns,
                priority,
                place,
                is_hashed,
                group,
                result,
                handler,
            }
        });
        match committed {
            Ok(committed) => {
                if committed.consumer_sleeps {
                    shared.wake();
                }
                Ok(shared)
            }
            Err(chain) => {
                // The cells are to be at rest before their slots are let go.
                shared.cells[group as usize].wait_no_more();
                group::unlink(&shared.cells, group);
                drop(chain);
                Err(shared.count(shared.refusal().unwrap_or(Refused::ShutDown)))
            }
        }
    }
}

impl fmt::Debug for ManyLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyLease").field("image_len", &self.image_len()).finish_non_exhaustive()
    }
}
