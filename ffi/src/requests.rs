//! The requests of one engine, by handle: from lease to release.
//!
//! Invariants: a handle fits exactly one generation of one entry, so a stale one is found; each
//! request with a notice is announced once, by the scheduling thread, and cannot be released
//! before. A request's entry is that of its number in the engine, which is nobody else's meanwhile,
//! and its answer stays in the engine until it is released: whoever looks for it takes no lock. Who
//! sleeps does, and who wakes it. Knows nothing of the caller's memory but callbacks.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::boundary::{check_may_block, in_callback};
use crate::completions::Completions;
use crate::layout::Callback;
use crate::life::{Ended, Life, Release, Standing};
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::{
    AnswerTable, Engine, Failure, Lease, Refused, RequestOptions, Ticket, spin_until,
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
}

/// Apart from its neighbours, which other threads work with.
#[repr(align(128))]
struct Entry {
    life: Life,
    /// Of whoever may lease, commits or lets go; while it is committed, shared by those who pin it.
    held: UnsafeCell<Held>,
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

impl Requests {
    /// Those of an engine, up to `entry_len` at a time; also a waker for each, to be kept outside,
    /// as they keep this alive.
    pub(crate) fn new(
        engine: &Engine,
        entry_len: usize,
        engine_tag: u16,
        spin: Duration,
    ) -> std::io::Result<(Arc<Self>, Box<[Waker]>)> {
        let entries = (0..entry_len).map(|_| Entry::new()).collect();
        let (answers, completions) = (engine.answer_table(), Completions::new(entry_len)?);
        let requests = Arc::new(Self { entries, answers, completions, engine_tag, spin });
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
        let number = lease.number();
        let entry = &self.entries[number as usize];
        if !entry.life.is_free() {
            // A request whose commit was refused has its entry, though no number any more. Where
            // one was refused, all are from then on.
            let refused = engine.refusal().unwrap_or(Refused::ShutDown);
            return Err(engine.refused(refused).into());
        }
        let image = lease.as_mut_ptr();
        // SAFETY: a free entry is of whoever has its number.
        unsafe { *entry.held.get() = Held::Lease(lease) };
        Ok((self.handle(number, entry.life.lease()), image))
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
        let committed = if has_notice {
            // SAFETY: as above, and it is read once the request was handed in.
            unsafe { *entry.notice.get() = notice };
            lease.commit_waking(options, &wakers[index])
        } else {
            lease.commit(options)
        };
        match committed {
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
        let wakes = |ticket: &Ticket| ticket.wake_when_ended(waker);
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

    /// When a request with a result passed which stage.
    pub(crate) fn timing(&self, request: u64) -> Outcome<Timing> {
        self.poll(request)?;
        let (index, generation) = self.find(request)?;
        let entry = &self.entries[index];
        if let Some(timing) = entry.with_ticket(generation, Ticket::timing).flatten() {
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
        if entry.with_ticket(generation, Ticket::cancel).is_some() {
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

    /// The next answered request with [`Notice::Queue`], and its user data.
    pub(crate) fn next(&self) -> Option<(u64, usize)> {
        let request = self.completions.pop()?;
        let (index, _) = self.find(request).expect("queued by this engine");
        let entry = &self.entries[index];
        // SAFETY: written before it was handed in; it is not released before it is announced.
        let Notice::Queue { user_data } = (unsafe { *entry.notice.get() }) else {
            unreachable!("queued for its notice")
        };
        entry.life.announce();
        Some((request, user_data))
    }

    /// Lets everything go that the requests hold: the engine has ended, and nobody calls any more.
    pub(crate) fn clear(&self) {
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
            notice: UnsafeCell::new(Notice::None),
            asleep: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    /// Uses the ticket of a request that is committed and holds one.
    fn with_ticket<T>(&self, generation: u32, usage: impl FnOnce(&Ticket) -> T) -> Option<T> {
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
