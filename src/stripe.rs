//! References that threads count apart from one another.
//!
//! A count that all threads change at each request moves from core to core with each change. Here
//! are several counts of the same thing, and a thread uses one of them.

use std::array;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts of the same thing; more threads than these share some.
const STRIPE_LEN: usize = 16;

/// Two cache lines, as processors prefetch lines in pairs.
#[repr(align(128))]
struct Apart<T>(T);

/// A reference, with a count that belongs to its stripe.
pub(crate) struct StripedRef<T>(Arc<Apart<T>>);

impl<T> Deref for StripedRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T> Clone for StripedRef<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A reference in each stripe.
pub(crate) struct Stripes<T>([StripedRef<T>; STRIPE_LEN]);

impl<T: Clone> Stripes<T> {
    pub(crate) fn new(reference: &T) -> Self {
        Self(array::from_fn(|_| StripedRef(Arc::new(Apart(reference.clone())))))
    }
}

impl<T> Stripes<T> {
    /// One more reference, counted in this thread's stripe.
    pub(crate) fn get(&self) -> StripedRef<T> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static STRIPE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPE_LEN;
        }
        STRIPE.with(|stripe| self.0[*stripe].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thing_lives_as_long_as_a_reference_of_any_thread() {
        let thing = Arc::new(7);
        let stripes = Stripes::new(&thing);
        let one = stripes.get();
        let other = std::thread::scope(|scope| scope.spawn(|| stripes.get()).join().unwrap());
        assert_ne!(Arc::as_ptr(&one.0), Arc::as_ptr(&other.0));
        drop(stripes);
        assert_eq!((**one, **other, Arc::strong_count(&thing)), (7, 7, 3));
        drop((one, other));
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
