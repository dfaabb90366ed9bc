//! Looks for requests that their clients have cancelled, which the server tells only those who ask.
//!
//! Invariant: it sleeps while no request waits, and is woken at most once in a period. Knows
//! neither requests nor engines.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::status::{Cause, Failed, Outcome};

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(10);

/// What it looks at.
pub(crate) trait Watched: Send + Sync {
    /// Has it cancelled if its client wishes so; whether it is to be asked again.
    fn cancel_if_asked(&self) -> bool;
}

/// See the module.
pub(crate) struct Watch {
    list: Mutex<List>,
    changed: Condvar,
}

#[derive(Default)]
struct List {
    /// Those that ended drop out at the next look.
    requests: Vec<Weak<dyn Watched>>,
    is_ended: bool,
}

impl Watch {
    /// With a thread of its own, until [`Watch::end`].
    pub(crate) fn start() -> Outcome<Arc<Self>> {
        let watch = Arc::new(Self { list: Mutex::default(), changed: Condvar::new() });
        let looking = Arc::clone(&watch);
        let builder = thread::Builder::new().name("twinstream-watch".to_owned());
        builder.spawn(move || while looking.look() {}).map_err(|error| {
            let text = format!("cannot start the thread that looks for cancellation: {error}");
            Failed::new(Cause::Unavailable, text)
        })?;
        Ok(watch)
    }

    /// Watches a request from now on.
    pub(crate) fn add(&self, request: Weak<dyn Watched>) {
        let mut list = self.lock();
        list.requests.push(request);
        if list.requests.len() == 1 {
            self.changed.notify_one();
        }
    }

    pub(crate) fn end(&self) {
        self.lock().is_ended = true;
        self.changed.notify_one();
    }

    /// Sleeps while there is nothing to look at, then looks once; false at the end.
    fn look(&self) -> bool {
        let mut list = self.lock();
        while list.requests.is_empty() && !list.is_ended {
            list = self.changed.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
        if list.is_ended {
            return false;
        }
        drop(list);
        thread::sleep(PERIOD);
        let mut requests = std::mem::take(&mut self.lock().requests);
        requests
            .retain(|request| request.upgrade().is_some_and(|request| request.cancel_if_asked()));
        self.lock().requests.append(&mut requests);
        true
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
