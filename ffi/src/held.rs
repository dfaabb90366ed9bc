//! What a request holds: a lease, then a ticket, of one image or of several as one.
//!
//! Invariant: a handle stands for either in the same way. Knows nothing of entries and handles.

use std::task::Waker;

use twinstream::engine::{Lease, ManyLease, ManyTicket, Refused, RequestOptions, Ticket};
use twinstream::sched::Timing;

/// See the module.
pub(crate) enum Held {
    Nothing,
    Lease(AnyLease),
    Ticket(AnyTicket),
}

/// Places for images.
pub(crate) enum AnyLease {
    One(Lease),
    Many(ManyLease),
}

/// Images that were handed over.
pub(crate) enum AnyTicket {
    One(Ticket),
    Many(ManyTicket),
}

impl AnyLease {
    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::One(lease) => lease.number(),
            Self::Many(lease) => lease.number(),
        }
    }

    /// Where each image goes.
    pub(crate) fn images(&mut self, mut put: impl FnMut(*mut u8)) {
        match self {
            Self::One(lease) => put(lease.as_mut_ptr()),
            Self::Many(lease) => lease.images_mut().for_each(|image| put(image.as_mut_ptr())),
        }
    }

    pub(crate) fn commit(
        self,
        options: RequestOptions,
        waker: Option<&Waker>,
    ) -> Result<AnyTicket, Refused> {
        match (self, waker) {
            (Self::One(lease), None) => lease.commit(options).map(AnyTicket::One),
            (Self::One(lease), Some(waker)) => {
                lease.commit_waking(options, waker).map(AnyTicket::One)
            }
            (Self::Many(lease), None) => lease.commit(options).map(AnyTicket::Many),
            (Self::Many(lease), Some(waker)) => {
                lease.commit_waking(options, waker).map(AnyTicket::Many)
            }
        }
    }
}

impl AnyTicket {
    pub(crate) fn wake_when_ended(&self, waker: &Waker) -> bool {
        match self {
            Self::One(ticket) => ticket.wake_when_ended(waker),
            Self::Many(ticket) => ticket.wake_when_ended(waker),
        }
    }

    pub(crate) fn timing(&self) -> Option<Timing> {
        match self {
            Self::One(ticket) => ticket.timing(),
            Self::Many(ticket) => ticket.timing(),
        }
    }

    pub(crate) fn cancel(&self) {
        match self {
            Self::One(ticket) => ticket.cancel(),
            Self::Many(ticket) => ticket.cancel(),
        }
    }
}
