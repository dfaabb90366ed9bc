//! A request that the engine has: whoever comes last of its ticket and its answer answers it.
//!
//! Invariant: the request leaves its state once, with its answer. No lock is held while the server
//! or the engine is called, but to ask for cancellation.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use twinstream::engine::{ManyLease, ManyTicket, RequestOptions};

use crate::request::Request;
use crate::watch::Watched;

/// See the module.
pub(crate) struct Pending {
    state: Mutex<State>,
}

enum State {
    /// Its ticket is not here yet.
    Committing(Request),
    /// Nor is it, and its answer is there.
    Ended(Request),
    Waiting(Request, ManyTicket),
    Answered,
}

impl Pending {
    /// Hands a request's images to the engine, or answers it with why not; never blocks.
    pub(crate) fn execute(mut request: Request) {
        match request.prepare() {
            Ok((lease, options)) => Self::commit(request, lease, options),
            Err(failed) => request.fail(failed),
        }
    }

    fn commit(request: Request, lease: ManyLease, options: RequestOptions) {
        let watch = Arc::clone(request.watch());
        let pending = Arc::new(Self { state: Mutex::new(State::Committing(request)) });
        match lease.commit_waking(options, &Waker::from(Arc::clone(&pending))) {
            Ok(ticket) => {
                pending.settle(ticket);
                let pending: Arc<dyn Watched> = pending;
                watch.add(Arc::downgrade(&pending));
            }
            Err(refused) => {
                if let State::Committing(request) = pending.leave() {
                    request.fail(refused.into());
                }
            }
        }
    }

    /// The ticket is here.
    fn settle(&self, ticket: ManyTicket) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Answered) {
            State::Ended(request) => {
                drop(state);
                request.finish(ticket.wait());
            }
            State::Committing(request) => *state = State::Waiting(request, ticket),
            State::Waiting(..) | State::Answered => unreachable!("it has one ticket"),
        }
    }

    fn leave(&self) -> State {
        mem::replace(&mut *self.lock(), State::Answered)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched for Pending {
    fn cancel_if_asked(&self) -> bool {
        let state = self.lock();
        let State::Waiting(request, ticket) = &*state else { return false };
        let is_cancelled = request.is_cancelled();
        if is_cancelled {
            ticket.cancel();
        }
        !is_cancelled
    }
}

impl Wake for Pending {
    /// The answer is there: on the engine's thread.
    fn wake(self: Arc<Self>) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Answered) {
            State::Committing(request) => *state = State::Ended(request),
            State::Waiting(request, ticket) => {
                drop(state);
                request.finish(ticket.wait());
            }
            State::Ended(_) | State::Answered => unreachable!("it ends once"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::stand_in::request_of;
    use crate::tests::{IMAGE_BYTES, instance, own};

    #[test]
    fn the_answer_may_be_there_before_its_ticket() {
        let fake = request_of(1, IMAGE_BYTES);
        let mut request = own(&fake, &instance());
        let (lease, options) = request.prepare().unwrap();
        let pending = Arc::new(Pending { state: Mutex::new(State::Committing(request)) });
        let ticket = lease.commit(options).unwrap();
        while !ticket.is_ended() {
            thread::sleep(Duration::from_millis(1));
        }
        Arc::clone(&pending).wake();
        assert_eq!(fake.seen().releases, 0);
        pending.settle(ticket);
        let seen = fake.seen().clone();
        assert!(seen.answers.len() == 1 && seen.answers[0].is_ok(), "{seen:?}");
        assert_eq!(seen.releases, 1);
    }
}
