//! Leases that are outstanding, for the scheduling thread to look at: requests that are announced.
//!
//! A lease takes one of a few places, if that is free, and says since when. It frees the place if
//! it is dropped; once it is committed the scheduling thread does, as it takes the request. Nobody
//! waits for a place: a lease that finds its place taken is not announced. The places are hints,
//! nothing is read because of them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sched::{Announcements, Scheduler};

/// Stands for no place.
pub(super) const NOWHERE: u8 = u8::MAX;
const PLACE_LEN: usize = Announcements::PLACE_LEN;
const _: () = assert!(PLACE_LEN < NOWHERE as usize);
/// Since when every place of a closed board is taken.
const CLOSED_NS: u64 = u64::MAX;
/// Where a batch of one image takes less, waiting for an image that is being written gains nothing
/// that a look at the clock would not cost.
const COMPUTE_NS_MIN: u64 = 50_000;

/// The places.
pub(super) struct Board {
    /// By place: since when it is taken; 0: free.
    since_ns: [AtomicU64; PLACE_LEN],
}

impl Board {
    /// Closed: nothing is announced.
    pub(super) fn new() -> Self {
        Self { since_ns: [const { AtomicU64::new(CLOSED_NS) }; PLACE_LEN] }
    }

    /// Opens it where announcements are worth something.
    pub(super) fn open(&self, compute_ns: u64) {
        if compute_ns >= COMPUTE_NS_MIN {
            self.since_ns.iter().for_each(|since_ns| since_ns.store(0, Ordering::Relaxed));
        }
    }

    /// Takes the place of a request with this number, if it is free.
    pub(super) fn announce(&self, number: u32, now_ns: impl FnOnce() -> u64) -> u8 {
        let place = number as usize % PLACE_LEN;
        let since_ns = &self.since_ns[place];
        if since_ns.load(Ordering::Relaxed) != 0 {
            return NOWHERE;
        }
        let now_ns = now_ns().max(1);
        match since_ns.compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => place as u8,
            Err(_) => NOWHERE,
        }
    }

    pub(super) fn free(&self, place: u8) {
        if let Some(since_ns) = self.since_ns.get(usize::from(place)) {
            since_ns.store(0, Ordering::Relaxed);
        }
    }
}

/// What the scheduler was told of the places.
pub(super) struct Told([u64; PLACE_LEN]);

impl Told {
    pub(super) fn new(board: &Board) -> Self {
        Self(std::array::from_fn(|place| board.since_ns[place].load(Ordering::Relaxed)))
    }

    /// Tells it of all of them.
    pub(super) fn tell(&mut self, board: &Board, scheduler: &mut Scheduler, now_ns: u64) {
        if self.0[0] == CLOSED_NS {
            return;
        }
        for place in 0..PLACE_LEN {
            let since_ns = board.since_ns[place].load(Ordering::Relaxed);
            if since_ns != self.0[place] {
                self.tell_of(place, since_ns, scheduler, now_ns);
            }
        }
    }

    /// Tells it that the request of a place was committed, and whether it is to be computed; frees
    /// the place.
    pub(super) fn came(
        &mut self,
        board: &Board,
        place: u8,
        scheduler: &mut Scheduler,
        (committed_ns, is_computed): (u64, bool),
    ) {
        if place == NOWHERE {
            return;
        }
        let index = usize::from(place);
        let since_ns = board.since_ns[index].load(Ordering::Relaxed);
        if since_ns != self.0[index] {
            self.tell_of(index, since_ns, scheduler, committed_ns);
        }
        scheduler.announcement_ended(committed_ns, index, is_computed);
        self.0[index] = 0;
        board.free(place);
    }

    /// The place has changed: whoever was there did not come.
    fn tell_of(&mut self, place: usize, since_ns: u64, scheduler: &mut Scheduler, now_ns: u64) {
        scheduler.announcement_ended(now_ns, place, false);
        if since_ns != 0 {
            scheduler.announced(since_ns, place);
        }
        self.0[place] = since_ns;
    }
}
