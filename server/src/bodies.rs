//! How much memory the bodies of all requests may take together.
//!
//! Invariant: what a body brings is counted until its request has been answered, and what would be
//! too much ends it. Knows nothing of what bodies hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

use crate::frames::through;
use crate::problem::{Cause, Problem};

/// After which other bodies are likely to be gone.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// See the module.
pub struct Budget {
    free_bytes: AtomicUsize,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self { free_bytes: AtomicUsize::new(bytes) }
    }
}

/// What a request has taken of the budget.
struct Taken {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Taken {
    /// False if there is not so much.
    fn take(&self, bytes: usize) -> bool {
        let free = &self.budget.free_bytes;
        // Relaxed: a count, and no other memory goes with it.
        let update = |free: usize| free.checked_sub(bytes);
        let is_taken = free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok();
        if is_taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        is_taken
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.free_bytes.fetch_add(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Counts the bodies of requests.
pub async fn count(State(budget): State<Arc<Budget>>, request: Request, next: Next) -> Response {
    let taken = Arc::new(Taken { budget, bytes: AtomicUsize::new(0) });
    let body_taken = Arc::clone(&taken);
    let request = request.map(|body| {
        through(body, move |frame| match frame.data_ref() {
            // Both protocols look for it among the causes of what they meet.
            Some(data) if !body_taken.take(data.len()) => {
                Err(axum::Error::new(Status::from(too_much())))
            }
            _ => Ok(frame),
        })
    });
    let response = next.run(request).await;
    drop(taken);
    response
}

fn too_much() -> Problem {
    let cause = Cause::Overload { retry_after: RETRY_AFTER };
    Problem::new(cause, "the bodies of all requests together take too much memory")
}

/// Why a body did not arrive whole, if it was this.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Problem> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.is::<Status>()).then(too_much)
}
