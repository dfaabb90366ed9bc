//! The requests of one engine, by name: from lease to release.
//!
//! Invariants: a name fits exactly one life of one place, so a stale one is found; each request
//! with a notice is announced once, by the scheduling thread, and cannot be released before. No
//! lock is held while a callback runs. Knows nothing of the caller's memory but callbacks.

use std::ffi::c_void;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::completions::Completions;
use crate::fence::{check_may_block, in_callback};
use crate::layout::Callback;
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::{
    Answer, Engine, Failure, Lease, Refused, RequestOptions, Ticket, spin_until,
};

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
struct Place {
    /// Whether `life` holds an answer: a hint to spin on without taking the lock.
    is_answered: AtomicBool,
    life: Mutex<Life>,
    answered: Condvar,
}

struct Life {
    /// Counts the lives of the place, from 1.
    number: u32,
    held: Held,
    notice: Notice,
    /// Whether the notice reached the caller.
    is_announced: bool,
    waiter_len: u32,
}

/// See the module.
pub(crate) struct Requests {
    places: Box<[Place]>,
    free: ArrayQueue<u32>,
    completions: Completions,
    /// Marks the names of this engine's requests.
    engine_mark: u16,
    spin: Duration,
}

/// Wakes a place: its ticket has ended.
struct Answered {
    requests: Arc<Requests>,
    place: u32,
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        self.requests.announce(self.place);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.requests.announce(self.place);
    }
}

impl Requests {
    /// Room for `place_len` requests at a time; also a waker for each, to be kept outside, as they
    /// keep this alive.
    pub(crate) fn new(
        place_len: usize,
        engine_mark: u16,
        spin: Duration,
    ) -> std::io::Result<(Arc<Self>, Box<[Waker]>)> {
        let free = ArrayQueue::new(place_len);
        for place in 0..place_len as u32 {
            free.push(place).expect("room for every place");
        }
        let places = (0..place_len).map(|_| Place::new()).collect();
        let completions = Completions::new(place_len)?;
        let requests = Arc::new(Self { places, free, completions, engine_mark, spin });
        let waker = |place| Waker::from(Arc::new(Answered { requests: requests.clone(), place }));
        let wakers = (0..place_len as u32).map(waker).collect();
        Ok((requests, wakers))
    }

    pub(crate) fn completions(&self) -> &Completions {
        &self.completions
    }

    /// A new request, and where its image goes.
    pub(crate) fn lease(&self, engine: &Engine) -> Outcome<(u64, *mut u8)> {
        let mut lease = engine.lease()?;
        let place = self.free.pop().ok_or_else(|| engine.refused(Refused::Full))?;
        let image = lease.as_mut_ptr();
        let mut life = self.places[place as usize].lock();
        life.held = Held::Lease(lease);
        Ok((self.name(place, life.number), image))
    }

    /// Hands the image over. Refused for good, that is its answer.
    pub(crate) fn commit(
        &self,
        request: u64,
        (options, notice): (RequestOptions, Notice),
        wakers: &[Waker],
    ) -> Outcome<()> {
        let (index, mut life) = self.find(request)?;
        if !matches!(life.held, Held::Lease(_)) {
            return Err(Failed::new(Status::State, "the request was committed before"));
        }
        let Held::Lease(lease) = std::mem::replace(&mut life.held, Held::Nothing) else {
            unreachable!("looked at above, under the same lock")
        };
        // The scheduling thread may have the answer at once, and then waits for this lock.
        match lease.commit_waking(options, &wakers[index]) {
            Ok(ticket) => {
                life.held = Held::Ticket(ticket);
                life.notice = notice;
                Ok(())
            }
            Err(refused) => {
                let failure = match refused {
                    Refused::DeviceLost => Failure::DeviceLost,
                    _ => Failure::ShutDown,
                };
                life.held = Held::Answer(Err(failure));
                self.places[index].is_answered.store(true, Ordering::Relaxed);
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
        let (index, _) = place_of(request);
        let place = &self.places[index];
        let spin = timeout.map_or(self.spin, |timeout| timeout.min(self.spin));
        spin_until(|| place.is_answered.load(Ordering::Relaxed), spin);
        let (_, mut life) = self.find(request)?;
        life.waiter_len += 1;
        loop {
            if !matches!(life.held, Held::Ticket(_)) || life.number != number_of(request) {
                break;
            }
            let Some(until) = until else {
                life = place.answered.wait(life).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                life.waiter_len -= 1;
                return Err(Failed::new(Status::Timeout, "the request has no answer yet"));
            }
            let woken = place.answered.wait_timeout(life, left);
            life = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        life.waiter_len -= 1;
        drop(life);
        self.poll(request)
    }

    /// The answer, if it is there.
    pub(crate) fn poll(&self, request: u64) -> Outcome<*const f32> {
        let (_, life) = self.find(request)?;
        match &life.held {
            Held::Answer(Ok(output)) => Ok(output.as_ptr()),
            Held::Answer(Err(failure)) => Err((*failure).into()),
            Held::Ticket(_) => Err(Failed::new(Status::Pending, "the request has no answer yet")),
            Held::Lease(_) | Held::Nothing => {
                Err(Failed::new(Status::State, "the request was not committed"))
            }
        }
    }

    pub(crate) fn cancel(&self, request: u64) -> Outcome<()> {
        let (_, life) = self.find(request)?;
        match &life.held {
            Held::Ticket(ticket) => ticket.cancel(),
            Held::Answer(_) => {}
            Held::Lease(_) | Held::Nothing => {
                return Err(Failed::new(Status::State, "the request was not committed"));
            }
        }
        Ok(())
    }

    /// Ends a request's life; its place is free again.
    pub(crate) fn release(&self, request: u64) -> Outcome<()> {
        let (index, mut life) = self.find(request)?;
        if !matches!(life.notice, Notice::None) && !life.is_announced {
            let text = "the request's answer was not announced yet: cancel it and wait for that";
            return Err(Failed::new(Status::State, text));
        }
        let place = &self.places[index];
        let held = std::mem::replace(&mut life.held, Held::Nothing);
        life.number = life.number.checked_add(1).unwrap_or(1);
        life.notice = Notice::None;
        life.is_announced = false;
        place.is_answered.store(false, Ordering::Relaxed);
        if life.waiter_len > 0 {
            place.answered.notify_all();
        }
        drop(life);
        drop(held);
        self.free.push(index as u32).expect("room for every place");
        Ok(())
    }

    /// The next answered request with [`Notice::Queue`], and its user data.
    pub(crate) fn next(&self) -> Option<(u64, usize)> {
        let request = self.completions.pop()?;
        let (_, mut life) = self.find(request).expect("what is queued cannot be released");
        life.is_announced = true;
        let Notice::Queue { user_data } = life.notice else {
            unreachable!("queued for its notice")
        };
        Some((request, user_data))
    }

    /// Lets everything go that the requests hold: the engine has ended.
    pub(crate) fn clear(&self) {
        for place in &self.places {
            let held = std::mem::replace(&mut place.lock().held, Held::Nothing);
            drop(held);
        }
    }

    /// Takes the answer that a ticket got, and tells whoever is to know. Runs on the scheduling
    /// thread.
    fn announce(&self, index: u32) {
        let place = &self.places[index as usize];
        let mut life = place.lock();
        // What woke us may be an earlier request of this place, forgotten before its end.
        let Held::Ticket(ticket) = &mut life.held else { return };
        if !ticket.is_ended() {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = Pin::new(ticket).poll(&mut context) else { return };
        let (status, result) = match &answer {
            Ok(output) => (Status::Ok, output.as_ptr()),
            Err(failure) => (Failed::from(*failure).status, ptr::null()),
        };
        life.held = Held::Answer(answer);
        place.is_answered.store(true, Ordering::Relaxed);
        if life.waiter_len > 0 {
            place.answered.notify_all();
        }
        let request = self.name(index, life.number);
        match life.notice {
            Notice::None => {}
            Notice::Queue { .. } => {
                drop(life);
                self.completions.push(request);
            }
            Notice::Callback { callback, user_data } => {
                life.is_announced = true;
                drop(life);
                let user_data = ptr::with_exposed_provenance_mut::<c_void>(user_data);
                in_callback(|| {
                    // SAFETY: a function that the caller gave for this, with what it gave along.
                    unsafe { callback(user_data, request, status as i32, result) }
                });
            }
        }
    }

    fn name(&self, place: u32, number: u32) -> u64 {
        u64::from(number) << 32 | u64::from(self.engine_mark) << 16 | u64::from(place)
    }

    /// The place of a request, locked.
    fn find(&self, request: u64) -> Outcome<(usize, MutexGuard<'_, Life>)> {
        let stale = || Failed::new(Status::Stale, "no such request, or it was released");
        let (index, mark) = place_of(request);
        let place =
            self.places.get(index).filter(|_| mark == self.engine_mark).ok_or_else(stale)?;
        let life = place.lock();
        if life.number != number_of(request) || matches!(life.held, Held::Nothing) {
            return Err(stale());
        }
        Ok((index, life))
    }
}

/// Index of a request's place, and the mark of its engine.
fn place_of(request: u64) -> (usize, u16) {
    ((request & 0xffff) as usize, (request >> 16) as u16)
}

fn number_of(request: u64) -> u32 {
    (request >> 32) as u32
}

impl Place {
    fn new() -> Self {
        Self {
            is_answered: AtomicBool::new(false),
            life: Mutex::new(Life {
                number: 1,
                held: Held::Nothing,
                notice: Notice::None,
                is_announced: false,
                waiter_len: 0,
            }),
            answered: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
