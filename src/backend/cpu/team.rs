//! A fixed team of threads that works through numbered tasks, the calling thread among them.
//!
//! Invariant: [`Team::run`] returns only after every task has ended, so tasks may borrow from the
//! caller. It allocates nothing, which is why it is not a general thread pool: those allocate to
//! queue work. A thread that the system has not scheduled in time is not waited for.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Kind, Result};

/// Tasks of one run, as the threads see them. The `'static` is a promise of `Team::run`.
type Task = &'static (dyn Fn(usize, usize) + Sync);

/// Set in `state` while a run takes in threads; below it the count of threads inside, above it the
/// run's number.
const OPEN: u64 = 1 << 16;
const INSIDE_MASK: u64 = OPEN - 1;
const RUN_SHIFT: u32 = 17;
/// Most threads of a team; their count must stay below `OPEN`.
const THREADS_MAX: usize = 1024;
/// Polls before an idle thread sleeps: about 20 µs, longer than the gap between two layers.
const SPIN_LEN: usize = 1000;

struct Shared {
    state: AtomicU64,
    next: AtomicUsize,
    task_len: AtomicUsize,
    task: UnsafeCell<Option<Task>>,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `task` is written only between runs, when no thread is inside (`state` has no OPEN and a
// zero count), and read only by threads inside; `state`'s acquire/release pairs order the two.
unsafe impl Sync for Shared {}

/// Threads that execute tasks together.
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team of `threads`, the calling thread counted.
    pub(super) fn new(threads: usize) -> Result<Self> {
        if !(1..=THREADS_MAX).contains(&threads) {
            let message = format!("{threads} threads: must be from 1 to {THREADS_MAX}");
            return Err(Error::new(Kind::Argument, message));
        }
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            task_len: AtomicUsize::new(0),
            task: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut team = Self { shared, helpers: Vec::with_capacity(threads - 1) };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let helper = thread::Builder::new()
                .name(format!("twinstream-cpu{index}"))
                .spawn(move || shared.help(index))
                .map_err(|error| {
                    Error::new(Kind::Io, format!("cannot start thread {index}: {error}"))
                        .with_source(error)
                })?;
            team.helpers.push(helper);
        }
        Ok(team)
    }

    /// Threads of the team, the calling thread counted.
    pub(super) fn thread_len(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `task(thread, index)` once with each index of `0..task_len`, in any order and from any
    /// thread of the team; `thread` is 0 for the calling one, and below `thread_len`.
    ///
    /// # Panics
    /// When a task panicked, after all others ended.
    pub(super) fn run(&mut self, task_len: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; the reference is cleared below before this call ends,
        // and by then no thread is inside the run.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), Task>(task) };
        // SAFETY: no run is open, so no other thread touches the cell.
        unsafe { *shared.task.get() = Some(task) };
        shared.next.store(0, Ordering::Relaxed);
        shared.task_len.store(task_len, Ordering::Relaxed);
        let run = (shared.state.load(Ordering::Relaxed) >> RUN_SHIFT) + 1;
        // Release: a thread that enters sees the task and its length.
        shared.state.store(run << RUN_SHIFT | OPEN, Ordering::Release);
        for helper in self.helpers.iter().take(task_len.saturating_sub(1)) {
            helper.thread().unpark();
        }
        shared.work(0, task);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut polls = 0;
        // Acquire: what the tasks of threads inside wrote is visible when the last has left.
        while shared.state.load(Ordering::Acquire) & INSIDE_MASK != 0 {
            relax(&mut polls);
        }
        // SAFETY: the run is closed and empty, so no other thread touches the cell.
        unsafe { *shared.task.get() = None };
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a task of the CPU backend panicked");
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches its tasks' panics, so it ends without one.
            let _ = helper.join();
        }
    }
}

impl Shared {
    fn help(&self, thread: usize) {
        let mut last_run = 0;
        let mut polls = 0;
        while !self.stop.load(Ordering::Acquire) {
            let state = self.state.load(Ordering::Acquire);
            let run = state >> RUN_SHIFT;
            if state & OPEN == 0 || run == last_run {
                polls += 1;
                if polls < SPIN_LEN {
                    std::hint::spin_loop();
                } else {
                    thread::park();
                    polls = 0;
                }
                continue;
            }
            // Entering only while the very same run is open: the count belongs to that run.
            if self
                .state
                .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            last_run = run;
            polls = 0;
            // SAFETY: this thread is inside the run, so the cell is not written.
            if let Some(task) = unsafe { *self.task.get() } {
                self.work(thread, task);
            }
            // Release: the caller, on seeing the count fall, sees this thread's results.
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    fn work(&self, thread: usize, task: Task) {
        let task_len = self.task_len.load(Ordering::Relaxed);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= task_len {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| task(thread, index))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Waits a moment: on the processor at first, then leaving it to others.
fn relax(polls: &mut usize) {
    *polls += 1;
    if *polls < SPIN_LEN { std::hint::spin_loop() } else { thread::yield_now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each task runs exactly once, and its writes are seen afterwards. Method: more runs and
    /// threads than cores, plain counters behind relaxed atomics.
    #[test]
    fn every_task_runs_exactly_once() {
        for threads in [1, 2, 5] {
            let mut team = Team::new(threads).unwrap();
            for round in 0..2000 {
                let task_len = round % 7;
                let counts: Vec<AtomicUsize> = (0..task_len).map(|_| AtomicUsize::new(0)).collect();
                team.run(task_len, &|thread, index| {
                    assert!(thread < threads);
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let mut team = Team::new(3).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            team.run(10, &|_, index| assert_ne!(index, 4));
        }));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        team.run(10, &|_, index| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn zero_threads_are_refused() {
        assert!(Team::new(0).err().unwrap().is_argument());
    }
}
