//! An instance of a model, in whose name requests are answered.
//!
//! Invariant: while a request of it is not answered, it is not finalized: the server's statistics
//! are told its name.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::server;
use crate::service::Service;

/// See the module.
pub(crate) struct Instance {
    pub(crate) handle: server::Instance,
    pub(crate) service: Arc<Service>,
    request_len: Mutex<usize>,
    ended: Condvar,
}

impl Instance {
    pub(crate) fn new(handle: server::Instance, service: Arc<Service>) -> Self {
        Self { handle, service, request_len: Mutex::new(0), ended: Condvar::new() }
    }

    /// One more request of its is on its way.
    pub(crate) fn enter(&self) {
        *self.lock() += 1;
    }

    /// One is answered.
    pub(crate) fn leave(&self) {
        *self.lock() -= 1;
        self.ended.notify_all();
    }

    /// Waits until all are answered.
    pub(crate) fn drain(&self) {
        let mut request_len = self.lock();
        while *request_len > 0 {
            request_len = self.ended.wait(request_len).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.request_len.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
