//! The requests of one engine, by handle: from lease to release.
//!
//! Invariants: a handle fits exactly one generation of one entry, so a stale one is found; each
//! request with a notice is announced once, by the scheduling thread, and cannot be released
//! before. No lock is held while a callback runs. Knows nothing of the caller's memory but
//! callbacks.

use std::ffi::c_void;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::boundary::{check_may_block, in_callback};
use crate::completions::Completions;
use crate::layout::Callback;
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::{
    Answer, Engine, Failure, Lease, Refused, RequestOptions, Ticket, spin_until,
};
use twinstream::sched::Timing;

/// How an answer is announced; user data is opaque to us, so its address is all that is kept.
#[derive(Clone, Copy)]
pub(crate) enum Notice {
    None,
    Callback { callback: Callback, user_data: usize },
    Queue { user_data: usize },
}

enum Held {
    Nothing,
    Lease(Lease),
    Ticket(Ticket),
    Answer(Answer),
}

/// Apart from its neighbours, which other threads work with.
#[repr(align(64))]
struct Entry {
    /// Whether `state` holds an answer: a hint to spin on without taking the lock.
    is_answered: AtomicBool,
    state: Mutex<State>,
    answered: Condvar,
}

struct State {
    /// Counts the requests that the entry held, from 1.
    generation: u32,
    held: Held,
    notice: Notice,
    /// Whether the notice reached the caller.
    is_announced: bool,
    waiter_len: u32,
}

/// See the module.
pub(crate) struct Requests {
    entries: Box<[Entry]>,
    free: ArrayQueue<u32>,
    completions: Completions,
    /// In the handles of this engine's requests.
    engine_tag: u16,
    spin: Duration,
}

/// Wakes those who wait at an entry: its ticket has ended.
struct Answered {
    requests: Arc<Requests>,
    entry: u32,
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        self.requests.announce(self.entry);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.requests.announce(self.entry);
    }
}

impl Requests {
    /// Room for `entry_len` requests at a time; also a waker for each, to be kept outside, as they
    /// keep this alive.
    pub(crate) fn new(
        entry_len: usize,
        engine_tag: u16,
        spin: Duration,
    ) -> std::io::Result<(Arc<Self>, Box<[Waker]>)> {
        let free = ArrayQueue::new(entry_len);
        for entry in 0..entry_len as u32 {
            free.push(entry).expect("room for every entry");
        }
        let entries = (0..entry_len).map(|_| Entry::new()).collect();
        let completions = Completions::new(entry_len)?;
        let requests = Arc::new(Self { entries, free, completions, engine_tag, spin });
        let waker = |entry| Waker::from(Arc::new(Answered { requests: requests.clone(), entry }));
        let wakers = (0..entry_len as u32).map(waker).collect();
        Ok((requests, wakers))
    }

    pub(crate) fn completions(&self) -> &Completions {
        &self.completions
    }

    /// A new request, and where its image goes.
    pub(crate) fn lease(&self, engine: &Engine) -> Outcome<(u64, *mut u8)> {
        let mut lease = engine.lease()?;
        let entry = self.free.pop().ok_or_else(|| engine.refused(Refused::Full))?;
        let image = lease.as_mut_ptr();
        let mut state = self.entries[entry as usize].lock();
        state.held = Held::Lease(lease);
        Ok((self.handle(entry, state.generation), image))
    }

    /// Hands the image over. Refused for good, that is its answer.
    pub(crate) fn commit(
        &self,
        request: u64,
        (options, notice): (RequestOptions, Notice),
        wakers: &[Waker],
    ) -> Outcome<()> {
        let (index, mut state) = self.find(request)?;
        if !matches!(state.held, Held::Lease(_)) {
            return Err(Failed::new(Status::State, "the request was committed before"));
        }
        let Held::Lease(lease) = std::mem::replace(&mut state.held, Held::Nothing) else {
            unreachable!("looked at above, under the same lock")
        };
        // The scheduling thread may have the answer at once, and then waits for this lock.
        match lease.commit_waking(options, &wakers[index]) {
            Ok(ticket) => {
                state.held = Held::Ticket(ticket);
                state.notice = notice;
                Ok(())
            }
            Err(refused) => {
                let failure = match refused {
                    Refused::DeviceLost => Failure::DeviceLost,
                    _ => Failure::ShutDown,
                };
                state.held = Held::Answer(Err(failure));
                self.entries[index].is_answered.store(true, Ordering::Relaxed);
                Err(failure.into())
            }
        }
    }

    /// The answer; `timeout` of none: for ever.
    pub(crate) fn wait(&self, request: u64, timeout: Option<Duration>) -> Outcome<*const f32> {
        match self.poll(request) {
            Err(Failed { status: Status::Pending, .. }) => {}
            answered => return answered,
        }
        check_may_block()?;
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (index, _) = entry_of(request);
        let entry = &self.entries[index];
        let spin = timeout.map_or(self.spin, |timeout| timeout.min(self.spin));
        spin_until(|| entry.is_answered.load(Ordering::Relaxed), spin);
        let (_, mut state) = self.find(request)?;
        state.waiter_len += 1;
        loop {
            if !matches!(state.held, Held::Ticket(_)) || state.generation != generation_of(request)
            {
                break;
            }
            let Some(until) = until else {
                state = entry.answered.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waiter_len -= 1;
                return Err(Failed::new(Status::Timeout, "the request has no answer yet"));
            }
            let woken = entry.answered.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiter_len -= 1;
        drop(state);
        self.poll(request)
    }

    /// The answer, if it is there.
    pub(crate) fn poll(&self, request: u64) -> Outcome<*const f32> {
        let (_, state) = self.find(request)?;
        match &state.held {
            Held::Answer(Ok(output)) => Ok(output.as_ptr()),
            Held::Answer(Err(failure)) => Err((*failure).into()),
            Held::Ticket(_) => Err(Failed::new(Status::Pending, "the request has no answer yet")),
            Held::Lease(_) | Held::Nothing => {
                Err(Failed::new(Status::State, "the request was not committed"))
            }
        }
    }

    /// When a request with a result passed which stage.
    pub(crate) fn timing(&self, request: u64) -> Outcome<Timing> {
        self.poll(request)?;
        match &self.find(request)?.1.held {
            Held::Answer(Ok(output)) => Ok(*output.timing()),
            _ => Err(Failed::new(Status::Stale, "the request was released meanwhile")),
        }
    }

    pub(crate) fn cancel(&self, request: u64) -> Outcome<()> {
        let (_, state) = self.find(request)?;
        match &state.held {
            Held::Ticket(ticket) => ticket.cancel(),
            Held::Answer(_) => {}
            Held::Lease(_) | Held::Nothing => {
                return Err(Failed::new(Status::State, "the request was not committed"));
            }
        }
        Ok(())
    }

    /// Ends a request; its entry is free again.
    pub(crate) fn release(&self, request: u64) -> Outcome<()> {
        let (index, mut state) = self.find(request)?;
        if !matches!(state.notice, Notice::None) && !state.is_announced {
            let text = "the request's answer was not announced yet: cancel it and wait for that";
            return Err(Failed::new(Status::State, text));
        }
        let entry = &self.entries[index];
        let held = std::mem::replace(&mut state.held, Held::Nothing);
        state.generation = state.generation.checked_add(1).unwrap_or(1);
        state.notice = Notice::None;
        state.is_announced = false;
        entry.is_answered.store(false, Ordering::Relaxed);
        if state.waiter_len > 0 {
            entry.answered.notify_all();
        }
        drop(state);
        drop(held);
        self.free.push(index as u32).expect("room for every entry");
        Ok(())
    }

    /// The next answered request with [`Notice::Queue`], and its user data.
    pub(crate) fn next(&self) -> Option<(u64, usize)> {
        let request = self.completions.pop()?;
        let (_, mut state) = self.find(request).expect("what is queued cannot be released");
        state.is_announced = true;
        let Notice::Queue { user_data } = state.notice else {
            unreachable!("queued for its notice")
        };
        Some((request, user_data))
    }

    /// Lets everything go that the requests hold: the engine has ended.
    pub(crate) fn clear(&self) {
        for entry in &self.entries {
            let held = std::mem::replace(&mut entry.lock().held, Held::Nothing);
            drop(held);
        }
    }

    /// Takes the answer that a ticket got, and tells whoever is to know. Runs on the scheduling
    /// thread.
    fn announce(&self, index: u32) {
        let entry = &self.entries[index as usize];
        let mut state = entry.lock();
        // What woke us may be an earlier request of this entry, forgotten before its end.
        let Held::Ticket(ticket) = &mut state.held else { return };
        if !ticket.is_ended() {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = Pin::new(ticket).poll(&mut context) else { return };
        let (status, result) = match &answer {
            Ok(output) => (Status::Ok, output.as_ptr()),
            Err(failure) => (Failed::from(*failure).status, ptr::null()),
        };
        state.held = Held::Answer(answer);
        entry.is_answered.store(true, Ordering::Relaxed);
        if state.waiter_len > 0 {
            entry.answered.notify_all();
        }
        let request = self.handle(index, state.generation);
        match state.notice {
            Notice::None => {}
            Notice::Queue { .. } => {
                drop(state);
                self.completions.push(request);
            }
            Notice::Callback { callback, user_data } => {
                state.is_announced = true;
                drop(state);
                let user_data = ptr::with_exposed_provenance_mut::<c_void>(user_data);
                in_callback(|| {
                    // SAFETY: a function that the caller gave for this, with what it gave along.
                    unsafe { callback(user_data, request, status as i32, result) }
                });
            }
        }
    }

    fn handle(&self, entry: u32, generation: u32) -> u64 {
        u64::from(generation) << 32 | u64::from(self.engine_tag) << 16 | u64::from(entry)
    }

    /// The entry of a request, locked.
    fn find(&self, request: u64) -> Outcome<(usize, MutexGuard<'_, State>)> {
        let stale = || Failed::new(Status::Stale, "no such request, or it was released");
        let (index, tag) = entry_of(request);
        let entry = self.entries.get(index).filter(|_| tag == self.engine_tag).ok_or_else(stale)?;
        let state = entry.lock();
        if state.generation != generation_of(request) || matches!(state.held, Held::Nothing) {
            return Err(stale());
        }
        Ok((index, state))
    }
}

/// Index of a request's entry, and the tag of its engine.
fn entry_of(request: u64) -> (usize, u16) {
    ((request & 0xffff) as usize, (request >> 16) as u16)
}

fn generation_of(request: u64) -> u32 {
    (request >> 32) as u32
}

impl Entry {
    fn new() -> Self {
        Self {
            is_answered: AtomicBool::new(false),
            state: Mutex::new(State {
                generation: 1,
                held: Held::Nothing,
                notice: Notice::None,
                is_announced: false,
                waiter_len: 0,
            }),
            answered: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
