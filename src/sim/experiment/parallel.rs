//! Independent runs over the processor's cores, in an order that does not show in the results.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Told how far long work has come, from any thread.
pub trait Progress: Sync {
    /// So many steps more are to be done.
    fn announce(&self, step_len: usize);
    /// One of them is done.
    fn step(&self);
}

/// Nobody wants to know.
impl Progress for () {
    fn announce(&self, _step_len: usize) {}
    fn step(&self) {}
}

/// Passes on the steps of work that was announced as a whole.
pub(super) struct Announced<'a>(pub(super) &'a dyn Progress);

impl Progress for Announced<'_> {
    fn announce(&self, _step_len: usize) {}
    fn step(&self) {
        self.0.step();
    }
}

/// The results of `work` for each of `jobs`, in their order.
pub(super) fn map<J: Sync, R: Send>(
    jobs: &[J],
    progress: &dyn Progress,
    work: impl Fn(&J) -> R + Sync,
) -> Vec<R> {
    progress.announce(jobs.len());
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let thread_len = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| {
        for _ in 0..thread_len {
            scope.spawn(|| {
                // Relaxed: the counter only hands out indices; the scope's end joins the results.
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(job) = jobs.get(index)
                {
                    *results[index].lock().expect("no run panics with its result") =
                        Some(work(job));
                    progress.step();
                }
            });
        }
    });
    results
        .into_iter()
        .map(|result| result.into_inner().expect("no run panics").expect("every job was done"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter {
        announced: AtomicUsize,
        done: AtomicUsize,
    }

    impl Progress for Counter {
        fn announce(&self, step_len: usize) {
            self.announced.fetch_add(step_len, Ordering::Relaxed);
        }

        fn step(&self) {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs_and_each_is_counted() {
        let jobs: Vec<u64> = (0..1_000).collect();
        let counter = Counter { announced: AtomicUsize::new(0), done: AtomicUsize::new(0) };
        let squares = map(&jobs, &counter, |job| job * job);
        assert!(
            squares.iter().enumerate().all(|(index, square)| *square == (index * index) as u64)
        );
        assert_eq!(counter.announced.into_inner(), 1_000);
        assert_eq!(counter.done.into_inner(), 1_000);
        assert!(map(&[] as &[u64], &(), |job| *job).is_empty());
    }
}
