//! The requests of one engine, by handle: from lease to release.
//!
//! Invariants: a handle fits exactly one generation of one entry, so a stale one is found; each
//! request with a notice is announced once, by the scheduling thread, and cannot be released
//! before. A request's entry is that of its number in the engine, which is nobody else's meanwhile,
//! and its answer stays in the engine until it is released: whoever looks for it takes no lock. Who
//! sleeps does, and who wakes it. Knows nothing of the caller's memory but callbacks.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::boundary::{check_may_block, in_callback};
use crate::completions::Completions;
use crate::held::{AnyLease, AnyTicket, Held};
use crate::layout::Callback;
use crate::life::{Ended, Life, Release, Standing};
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::{
    AnswerTable, Engine, Failure, Lease, LeaseFuture, Refused, RequestOptions, spin_until,
};
use twinstream::sched::Timing;

/// How an answer is announced; user data is opaque to us, so its address is all that is kept.
#[derive(Clone, Copy)]
pub(crate) enum Notice {
    None,
    Callback { callback: Callback, user_data: usize },
    Queue { user_data: usize },
}

/// In the completion queue in place of a request: a lease that was waited for.
const LEASE: u64 = 0;

/// A lease that is to come out of the completion queue.
enum QueuedLease {
    Awaited(LeaseFuture),
    There(Lease),
}

/// Apart from its neighbours, which other threads work with.
#[repr(align(128))]
struct Entry {
    life: Life,
    /// Of whoever may lease, commits or lets go; while it is committed, shared by those who pin it.
    held: UnsafeCell<Held>,
    /// Where the image of a lease goes, the first one of several.
    image: AtomicPtr<u8>,
    /// Written by whoever commits, before the request is handed in; read by who announces it.
    notice: UnsafeCell<Notice>,
    /// Held by those who are about to sleep and by who wakes them.
    asleep: Mutex<()>,
    woken: Condvar,
}

/// See the module.
pub(crate) struct Requests {
    entries: Box<[Entry]>,
    answers: AnswerTable,
    completions: Completions,
    /// A lease that is to come out of the completion queue, and its user data.
    queued_lease: Mutex<Option<(QueuedLease, usize)>>,
    /// In the handles of this engine's requests.
    engine_tag: u16,
    spin: Duration,
}

// SAFETY: leases, tickets and notices may be sent between threads; each is reached by the one that
// its life lets, as its field says.
unsafe impl Sync for Entry {}

/// Tells who waits for an entry's request that it has its answer. Runs on the scheduling thread.
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

/// Tells that a lease is there which is to come out of the completion queue, or none will be.
struct Leased(Arc<Requests>);

impl Wake for Leased {
    fn wake(self: Arc<Self>) {
        self.0.completions.push(LEASE);
    }
}

impl Requests {
    /// Those of an engine, up to `entry_len` at a time; also a waker for each and one for a queued
    /// lease, to be kept outside, as they keep this alive.
    pub(crate) fn new(
        engine: &Engine,
        entry_len: usize,
        engine_tag: u16,
        spin: Duration,
    ) -> std::io::Result<(Arc<Self>, Box<[Waker]>)> {
        let entries = (0..entry_len).map(|_| Entry::new()).collect();
        let (answers, completions) = (engine.answer_table(), Completions::new(entry_len + 1)?);
        let queued_lease = Mutex::new(None);
        let requests =
            Arc::new(Self { entries, answers, completions, queued_lease, engine_tag, spin });
        let waker = |entry| Waker::from(Arc::new(Answered { requests: requests.clone(), entry }));
        let leased = Waker::from(Arc::new(Leased(requests.clone())));
        let wakers = (0..entry_len as u32).map(waker).chain([leased]).collect();
        Ok((requests, wakers))
    }

    pub(crate) fn completions(&self) -> &Completions {
        &self.completions
    }

    /// A new request of what was leased, and where its first image goes.
    pub(crate) fn hold(&self, engine: &Engine, mut lease: AnyLease) -> Outcome<(u64, *mut u8)> {
        let number = lease.number();
        let entry = &self.entries[number as usize];
        if !entry.life.is_free() {
            // A request whose commit was refused has its entry, though no number any more. Where
            // one was refused, all are from then on.
            let refused = engine.refusal().unwrap_or(Refused::ShutDown);
            return Err(engine.refused(refused).into());
        }
        let mut first: *mut u8 = ptr::null_mut();
        lease.images(|image| {
            if first.is_null() {
                first = image;
            }
        });
        entry.image.store(first, Ordering::Relaxed);
        // SAFETY: a free entry is of whoever has its number.
        unsafe { *entry.held.get() = Held::Lease(lease) };
        Ok((self.handle(number, entry.life.lease()), first))
    }

    /// Where the first image of a lease goes.
    pub(crate) fn image(&self, request: u64) -> Outcome<*mut u8> {
        let (index, generation) = self.find(request)?;
        let entry = &self.entries[index];
        match entry.life.standing(generation) {
            Standing::Leased => Ok(entry.image.load(Ordering::Relaxed)),
            Standing::Stale => Err(stale()),
            _ => Err(Failed::new(Status::State, "the request was committed before")),
        }
    }

    /// Has a lease come out of the completion queue as soon as there is one.
    pub(crate) fn queue_lease(
        &self,
        engine: &Engine,
        user_data: usize,
        wakers: &[Waker],
    ) -> Outcome<()> {
        let mut queued = self.queued_lease.lock().unwrap_or_else(PoisonError::into_inner);
        if queued.is_some() {
            let text = "a lease is awaited already: take it out of the queue first";
            return Err(Failed::new(Status::State, text));
        }
        let mut lease = engine.lease_async();
        let leased = &wakers[self.entries.len()];
        let lease = match Pin::new(&mut lease).poll(&mut Context::from_waker(leased)) {
            Poll::Pending => QueuedLease::Awaited(lease),
            Poll::Ready(lease) => QueuedLease::There(lease?),
        };
        let is_there = matches!(lease, QueuedLease::There(_));
        *queued = Some((lease, user_data));
        drop(queued);
        if is_there {
            leased.wake_by_ref();
        }
        Ok(())
    }

    /// Hands the image over. Refused for good, that is its answer.
    pub(crate) fn commit(
        &self,
        request: u64,
        (options, notice): (RequestOptions, Notice),
        wakers: &[Waker],
    ) -> Outcome<()> {
        let (index, generation) = self.find(request)?;
        let entry = &self.entries[index];
        let has_notice = !matches!(notice, Notice::None);
        if !entry.life.begin_commit(generation, has_notice) {
            return Err(match entry.life.standing(generation) {
                Standing::Stale => stale(),
                _ => Failed::new(Status::State, "the request was committed before"),
            });
        }
        // SAFETY: it is this call's to commit.
        let held = unsafe { ptr::replace(entry.held.get(), Held::Nothing) };
        let Held::Lease(lease) = held else { unreachable!("what is leased holds a lease") };
        if has_notice {
            // SAFETY: as above, and it is read once the request was handed in.
            unsafe { *entry.notice.get() = notice };
        }
        match lease.commit(options, has_notice.then(|| &wakers[index])) {
            Ok(ticket) => {
                // SAFETY: as above.
                unsafe { *entry.held.get() = Held::Ticket(ticket) };
                if entry.life.end_commit() {
                    entry.let_go();
                }
                Ok(())
            }
            Err(refused) => {
                let failure = match refused {
                    Refused::DeviceLost => Failure::DeviceLost,
                    _ => Failure::ShutDown,
                };
                entry.life.refuse(failure as u8);
                Err(failure.into())
            }
        }
    }

    /// The same of a request that nobody else knows yet; refused, it is no more.
    pub(crate) fn commit_or_release(
        &self,
        request: u64,
        handling: (RequestOptions, Notice),
        wakers: &[Waker],
    ) -> Outcome<u64> {
        match self.commit(request, handling, wakers) {
            Ok(()) => Ok(request),
            Err(failed) => {
                self.release(request)?;
                Err(failed)
            }
        }
    }

    /// The answer; `timeout` of none: for ever.
    pub(crate) fn wait(
        &self,
        request: u64,
        timeout: Option<Duration>,
        wakers: &[Waker],
    ) -> Outcome<*const f32> {
        match self.poll(request) {
            Err(Failed { status: Status::Pending, .. }) => {}
            answered => return answered,
        }
        check_may_block()?;
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (index, generation) = self.find(request)?;
        let spin = timeout.map_or(self.spin, |timeout| timeout.min(self.spin));
        spin_until(|| self.answers.get(index as u32).is_some(), spin);
        self.sleep((index, generation), until, &wakers[index]);
        match self.poll(request) {
            Err(Failed { status: Status::Pending, .. }) => {
                Err(Failed::new(Status::Timeout, "the request has no answer yet"))
            }
            answered => answered,
        }
    }

    /// Sleeps until the request is answered or released, or for so long.
    fn sleep(&self, (index, generation): (usize, u32), until: Option<Instant>, waker: &Waker) {
        let entry = &self.entries[index];
        let mut asleep = entry.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        if !entry.life.sleep(generation) {
            return;
        }
        // From here on whoever ends or releases it wants the lock. Where the waker comes too late,
        // the answer is there.
        let wakes = |ticket: &AnyTicket| ticket.wake_when_ended(waker);
        if !entry.with_ticket(generation, wakes).unwrap_or(false) {
            return;
        }
        while entry.life.sleeps(generation) {
            let Some(until) = until else {
                asleep = entry.woken.wait(asleep).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = entry.woken.wait_timeout(asleep, left);
            asleep = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The answer, if it is there.
    pub(crate) fn poll(&self, request: u64) -> Outcome<*const f32> {
        let (index, generation) = self.find(request)?;
        let life = &self.entries[index].life;
        match life.standing(generation) {
            Standing::Stale => Err(stale()),
            Standing::Leased => Err(uncommitted()),
            Standing::Refused(reason) if reason == Failure::DeviceLost as u8 => {
                Err(Failure::DeviceLost.into())
            }
            Standing::Refused(_) => Err(Failure::ShutDown.into()),
            Standing::Committed => match self.answers.get(index as u32) {
                None => Err(Failed::new(Status::Pending, "the request has no answer yet")),
                // Another's, if this one was released since.
                Some(_) if life.standing(generation) == Standing::Stale => Err(stale()),
                Some(answer) => Ok(answer?),
            },
        }
    }

    /// Each image's answer, in order.
    pub(crate) fn results(
        &self,
        request: u64,
        image_len: usize,
        put: impl FnMut(Result<*const f32, Failure>),
    ) -> Outcome<()> {
        let (index, generation) = self.find(request)?;
        let life = &self.entries[index].life;
        if life.standing(generation) != Standing::Committed
            || self.answers.get(index as u32).is_none()
        {
            // Why there are none.
            return self.poll(request).map(|_| ());
        }
        let found = self.answers.images(index as u32).count();
        if found == image_len {
            self.answers.images(index as u32).take(image_len).for_each(put);
        }
        // Another's, if this one was released since.
        if life.standing(generation) == Standing::Stale {
            return Err(stale());
        }
        match found == image_len {
            true => Ok(()),
            false => {
                let text = format!("image_len is {image_len}: the request has {found}");
                Err(Failed::new(Status::Argument, text))
            }
        }
    }

    /// When a request with a result passed which stage.
    pub(crate) fn timing(&self, request: u64) -> Outcome<Timing> {
        self.poll(request)?;
        let (index, generation) = self.find(request)?;
        let entry = &self.entries[index];
        if let Some(timing) = entry.with_ticket(generation, AnyTicket::timing).flatten() {
            return Ok(timing);
        }
        match entry.life.standing(generation) {
            Standing::Stale => Err(stale()),
            _ => Err(Failed::new(Status::Pending, "the request's commit has not returned yet")),
        }
    }

    pub(crate) fn cancel(&self, request: u64) -> Outcome<()> {
        let (index, generation) = self.find(request)?;
        let entry = &self.entries[index];
        if entry.with_ticket(generation, AnyTicket::cancel).is_some() {
            return Ok(());
        }
        match entry.life.standing(generation) {
            Standing::Stale => Err(stale()),
            Standing::Leased => Err(uncommitted()),
            // It has its answer.
            Standing::Committed | Standing::Refused(_) => Ok(()),
        }
    }

    /// Ends a request; its entry is free again.
    pub(crate) fn release(&self, request: u64) -> Outcome<()> {
        let (index, generation) = self.find(request)?;
        let entry = &self.entries[index];
        match entry.life.release(generation) {
            Release::Stale => Err(stale()),
            Release::TooEarly => {
                let text =
                    "the request's answer was not announced yet: cancel it and wait for that";
                Err(Failed::new(Status::State, text))
            }
            Release::Released { is_last, is_awaited } => {
                if is_awaited {
                    entry.wake();
                }
                if is_last {
                    entry.let_go();
                }
                Ok(())
            }
        }
    }

    /// The next answered request with [`Notice::Queue`], or a lease that was waited for, and its
    /// user data.
    pub(crate) fn next(&self, engine: &Engine) -> Option<(u64, usize)> {
        let request = loop {
            let request = self.completions.pop()?;
            if request != LEASE {
                break request;
            }
            if let Some(lease) = self.next_lease(engine) {
                return Some(lease);
            }
        };
        let (index, _) = self.find(request).expect("queued by this engine");
        let entry = &self.entries[index];
        // SAFETY: written before it was handed in; it is not released before it is announced.
        let Notice::Queue { user_data } = (unsafe { *entry.notice.get() }) else {
            unreachable!("queued for its notice")
        };
        entry.life.announce();
        Some((request, user_data))
    }

    /// The lease that was waited for; [`LEASE`] itself where there will be none. None where nobody
    /// waits: as the engine ended, who was told so at once was woken too.
    fn next_lease(&self, engine: &Engine) -> Option<(u64, usize)> {
        let mut queued = self.queued_lease.lock().unwrap_or_else(PoisonError::into_inner);
        let (lease, user_data) = queued.take()?;
        drop(queued);
        let lease = match lease {
            QueuedLease::There(lease) => Some(lease),
            QueuedLease::Awaited(mut lease) => {
                let context = &mut Context::from_waker(Waker::noop());
                match Pin::new(&mut lease).poll(context) {
                    Poll::Ready(Ok(lease)) => Some(lease),
                    _ => None,
                }
            }
        };
        let Some(lease) = lease else { return Some((LEASE, user_data)) };
        let held = self.hold(engine, AnyLease::One(lease));
        Some((held.map_or(LEASE, |(request, _)| request), user_data))
    }

    /// Lets everything go that the requests hold: the engine has ended, and nobody calls any more.
    pub(crate) fn clear(&self) {
        // It holds the engine's memory, which holds its waker, which holds this.
        let queued = self.queued_lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(queued);
        for entry in &self.entries {
            // SAFETY: nobody else is there.
            drop(unsafe { ptr::replace(entry.held.get(), Held::Nothing) });
        }
    }

    /// Tells whoever is to know of a request's answer. Runs on the scheduling thread.
    fn announce(&self, index: u32) {
        let entry = &self.entries[index as usize];
        // What woke us may be an earlier request of this entry, forgotten before its end.
        let Some((generation, has_notice)) = entry.life.on_its_way() else { return };
        let Some(answer) = self.answers.get(index) else { return };
        let notice = match has_notice {
            // SAFETY: written before it was handed in, and so before it was answered; it is not
            // released before it is announced.
            true => unsafe { *entry.notice.get() },
            false => Notice::None,
        };
        let is_announced = matches!(notice, Notice::Callback { .. });
        let Some(Ended { is_awaited }) = entry.life.end(generation, is_announced) else { return };
        if is_awaited {
            entry.wake();
        }
        let request = self.handle(index, generation);
        match notice {
            Notice::None => {}
            Notice::Queue { .. } => self.completions.push(request),
            Notice::Callback { callback, user_data } => {
                let (status, result) = match answer {
                    Ok(result) => (Status::Ok, result),
                    Err(failure) => (Failed::from(failure).status, ptr::null()),
                };
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

    /// Index and generation of a request's entry; stale if it can't be this engine's.
    fn find(&self, request: u64) -> Outcome<(usize, u32)> {
        let (index, tag) = ((request & 0xffff) as usize, (request >> 16) as u16);
        match tag == self.engine_tag && index < self.entries.len() {
            true => Ok((index, (request >> 32) as u32)),
            false => Err(stale()),
        }
    }
}

fn stale() -> Failed {
    Failed::new(Status::Stale, "no such request, or it was released")
}

fn uncommitted() -> Failed {
    Failed::new(Status::State, "the request was not committed")
}

impl Entry {
    fn new() -> Self {
        Self {
            life: Life::new(),
            held: UnsafeCell::new(Held::Nothing),
            image: AtomicPtr::new(ptr::null_mut()),
            notice: UnsafeCell::new(Notice::None),
            asleep: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    /// Uses the ticket of a request that is committed and holds one.
    fn with_ticket<T>(&self, generation: u32, usage: impl FnOnce(&AnyTicket) -> T) -> Option<T> {
        if !self.life.pin(generation) {
            return None;
        }
        // SAFETY: what a committed request holds stays while it is pinned, and is only read.
        let used = match unsafe { &*self.held.get() } {
            Held::Ticket(ticket) => Some(usage(ticket)),
            Held::Nothing | Held::Lease(_) => None,
        };
        if self.life.unpin() {
            self.let_go();
        }
        used
    }

    /// Wakes those who sleep. They look under the lock before they do.
    fn wake(&self) {
        drop(self.asleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_all();
    }

    /// Frees the entry, for the last who has to do with its request. Only then is its number free.
    fn let_go(&self) {
        // SAFETY: the last.
        let held = unsafe { ptr::replace(self.held.get(), Held::Nothing) };
        self.life.clear();
        drop(held);
    }
}
