//! The line of those who wait for slots.
//!
//! Invariant: who came first is served first, and holds what it has got meanwhile; nobody else
//! holds anything. Who frees a slot while somebody waits serves the line, so no waiter sleeps while
//! what it lacks is free. The line has a limit. Generic in what is wanted; knows neither rings nor
//! engines.

use std::collections::VecDeque;

use super::cell::Waiter;
use super::sync::{Mutex, MutexGuard, PoisonError};

/// What somebody waits for.
pub(super) trait Wanted {
    /// Takes what is free of what it lacks; whether it lacks nothing more. Gives nothing back.
    fn fill(&mut self) -> bool;
}

struct Entry<T> {
    /// None: nobody has this place.
    wanted: Option<T>,
    waiter: Waiter,
    is_served: bool,
}

struct Line<T> {
    /// By key.
    entries: Box<[Entry<T>]>,
    free: Vec<u32>,
    /// The keys of those who lack something, in the order in which they came.
    order: VecDeque<u32>,
}

/// See the module.
pub(super) struct Room<T> {
    line: Mutex<Line<T>>,
    /// Says that somebody waits: from then on who frees a slot serves the line. Or that nobody
    /// does.
    set_awaited: Box<dyn Fn(bool) + Send + Sync>,
}

impl<T: Wanted> Room<T> {
    /// For so many who wait.
    pub(super) fn new(len_max: u32, set_awaited: Box<dyn Fn(bool) + Send + Sync>) -> Self {
        let entry = |_| Entry { wanted: None, waiter: Waiter::None, is_served: false };
        let entries = (0..len_max).map(entry).collect();
        let (free, order) = ((0..len_max).collect(), VecDeque::with_capacity(len_max as usize));
        Self { line: Mutex::new(Line { entries, free, order }), set_awaited }
    }

    /// Has the caller wait in line, and serves it if it is its turn: its key, for [`Room::poll`].
    ///
    /// # Errors
    /// What was wanted, when the line is full.
    pub(super) fn enter(&self, wanted: T, wake: impl Fn(Waiter)) -> Result<u32, T> {
        let mut line = self.lock();
        let Some(key) = line.free.pop() else { return Err(wanted) };
        if line.order.is_empty() {
            (self.set_awaited)(true);
        }
        line.entries[key as usize].wanted = Some(wanted);
        line.order.push_back(key);
        drop(line);
        self.serve(wake);
        Ok(key)
    }

    /// What was wanted, if it lacks nothing; the key is then no longer valid. Else remembers whom
    /// to wake when that may have changed.
    pub(super) fn poll(&self, key: u32, waiter: Waiter) -> Option<T> {
        let mut line = self.lock();
        if line.entries[key as usize].is_served {
            return line.take(key);
        }
        let before = std::mem::replace(&mut line.entries[key as usize].waiter, waiter);
        // Wakers run code of others as they are dropped.
        drop(line);
        drop(before);
        None
    }

    /// Leaves the line: what was wanted, for the caller to drop, as far as it was got. Where that
    /// lacks nothing, it was served before.
    pub(super) fn leave(&self, key: u32, wake: impl Fn(Waiter)) -> Option<T> {
        let mut line = self.lock();
        let waiter = std::mem::replace(&mut line.entries[key as usize].waiter, Waiter::None);
        let is_served = line.entries[key as usize].is_served;
        let wanted = line.take(key);
        if !is_served {
            line.order.retain(|other| *other != key);
            if line.order.is_empty() {
                (self.set_awaited)(false);
            }
        }
        drop(line);
        drop(waiter);
        // Who comes next may lack less.
        self.serve(wake);
        wanted
    }

    /// Gives what is free to those who wait, in order, and wakes whom it has served.
    pub(super) fn serve(&self, wake: impl Fn(Waiter)) {
        loop {
            let mut line = self.lock();
            let Some(waiter) = line.serve_first() else { return };
            if line.order.is_empty() {
                (self.set_awaited)(false);
            }
            // Wakers are code of others.
            drop(line);
            wake(waiter);
        }
    }

    /// Wakes all who lack something: they look for a reason to leave.
    pub(super) fn wake_all(&self, wake: impl Fn(Waiter)) {
        loop {
            let mut line = self.lock();
            let Line { entries, order, .. } = &mut *line;
            let has_waiter = |key: &&u32| !matches!(entries[**key as usize].waiter, Waiter::None);
            let Some(&key) = order.iter().find(has_waiter) else { return };
            let waiter = std::mem::replace(&mut entries[key as usize].waiter, Waiter::None);
            drop(line);
            wake(waiter);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line<T>> {
        // Nothing panics while it holds the lock.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Wanted> Line<T> {
    /// Whom to wake, if the first in line lacks nothing more.
    fn serve_first(&mut self) -> Option<Waiter> {
        let key = *self.order.front()?;
        let entry = &mut self.entries[key as usize];
        let wanted = entry.wanted.as_mut().expect("who is in line wants something");
        if !wanted.fill() {
            return None;
        }
        self.order.pop_front();
        entry.is_served = true;
        Some(std::mem::replace(&mut entry.waiter, Waiter::None))
    }

    /// Frees a key.
    fn take(&mut self, key: u32) -> Option<T> {
        let entry = &mut self.entries[key as usize];
        entry.is_served = false;
        self.free.push(key);
        entry.wanted.take()
    }
}
