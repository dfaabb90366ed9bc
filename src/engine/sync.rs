//! What the cell is made of; its model check puts other things in their place.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
pub(super) use std::thread::Thread;

/// A place that is reached inside closures, which a model check can watch.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, reach: impl FnOnce(*const T) -> R) -> R {
        reach(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, reach: impl FnOnce(*mut T) -> R) -> R {
        reach(self.0.get())
    }
}
