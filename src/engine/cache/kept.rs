//! The answers that are kept, by the keys of their images.
//!
//! Invariant: what is kept, with all that is needed to find it, takes no more bytes than it may,
//! all of which are there from the start. Which answer gives way is quick_cache's to choose: one
//! that was asked for again stays longer than those that were not, however many these are. Knows
//! neither requests nor images.

use std::cell::RefCell;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, UnitWeighter};

use crate::engine::hashing::{Key, KeyHasher};
use crate::error::{Error, Kind, Result};
use crate::sched::{Reason, Timing};

/// What finding an answer takes: quick_cache's keys of those that are kept and of half as many that
/// gave way, and as much again, with which its table tidies itself up in its place. The test below
/// holds it against what quick_cache says.
const FINDING_BYTES: usize = 192;

/// Places of answers that are free, at least one.
struct Free(Rc<RefCell<Vec<u32>>>);

impl Lifecycle<Key, u32> for Free {
    type RequestState = ();

    fn begin_request(&self) {}

    fn on_evict(&self, (): &mut (), _: Key, place: u32) {
        self.0.borrow_mut().push(place);
    }
}

/// See the module.
pub(in crate::engine) struct Kept {
    places: Cache<Key, u32, UnitWeighter, BuildHasherDefault<KeyHasher>, Free>,
    free: Rc<RefCell<Vec<u32>>>,
    result_bytes: usize,
    /// By place, as the next.
    results: Vec<u8>,
    timings: Vec<Timing>,
}

impl Kept {
    /// What an answer takes in all.
    pub(in crate::engine) fn answer_bytes(result_bytes: usize) -> usize {
        result_bytes + size_of::<Timing>() + size_of::<u32>() + FINDING_BYTES
    }

    /// As many as `bytes` hold, at least one.
    pub(in crate::engine) fn new(bytes: usize, result_bytes: usize) -> Result<Self> {
        // One more has a place while it is not decided which gives way.
        let place_len = (bytes / Self::answer_bytes(result_bytes)).clamp(2, u32::MAX as usize);
        let unknown = Timing::of_batch(0, 0, Reason::Idle, 0);
        let no_room = |error| {
            let message = format!("cache_bytes is {bytes}: there is no memory for it: {error}");
            Error::new(Kind::Memory, message)
        };
        let (mut results, mut timings, mut free) = (Vec::new(), Vec::new(), Vec::new());
        results.try_reserve_exact(place_len * result_bytes).map_err(no_room)?;
        timings.try_reserve_exact(place_len).map_err(no_room)?;
        free.try_reserve_exact(place_len).map_err(no_room)?;
        results.resize(place_len * result_bytes, 0);
        timings.resize(place_len, unknown);
        free.extend((0..place_len as u32).rev());
        let free = Rc::new(RefCell::new(free));
        let answer_len = place_len - 1;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(answer_len)
            .weight_capacity(answer_len as u64)
            .build()
            .expect("both capacities are set");
        let (hasher, evicted) = (BuildHasherDefault::default(), Free(Rc::clone(&free)));
        let mut places = Cache::with_options(options, UnitWeighter, hasher, evicted);
        places.reserve(5 * place_len / 2);
        Ok(Self { places, free, result_bytes, results, timings })
    }

    /// Where the answer of an image is, if it is kept.
    pub(in crate::engine) fn find(&self, key: Key) -> Option<u32> {
        self.places.get(&key).copied()
    }

    /// Keeps an answer; where it is, which holds at least until the next one is kept.
    pub(in crate::engine) fn keep(&mut self, key: Key, result: &[u8], timing: Timing) -> u32 {
        if let Some(place) = self.find(key) {
            return place;
        }
        let place = self.free.borrow_mut().pop().expect("there is a place more than answers");
        let from = place as usize * self.result_bytes;
        self.results[from..][..self.result_bytes].copy_from_slice(result);
        self.timings[place as usize] = timing;
        self.places.insert(key, place);
        place
    }

    /// The answer at a place.
    pub(in crate::engine) fn result(&self, place: u32) -> &[u8] {
        &self.results[place as usize * self.result_bytes..][..self.result_bytes]
    }

    /// When the image of the answer at a place passed which stage.
    pub(in crate::engine) fn timing(&self, place: u32) -> Timing {
        self.timings[place as usize]
    }

    /// Bytes of the answers that are kept.
    pub(in crate::engine) fn bytes(&self) -> usize {
        self.places.len() * Self::answer_bytes(self.result_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number])
    }

    fn timing(batch: u64) -> Timing {
        Timing::of_batch(batch, 1, Reason::Idle, 0)
    }

    #[test]
    fn each_key_has_its_answer_and_all_of_them_a_limit() {
        for (bytes, result_bytes) in [(1, 16), (10_000, 40), (1 << 20, 4000), (1 << 20, 40)] {
            let mut kept = Kept::new(bytes, result_bytes).unwrap();
            let mut found_len = 0;
            for number in 0..20_000_u64 {
                let result = vec![number as u8; result_bytes];
                let place = kept.keep(key(number), &result, timing(number));
                assert_eq!((kept.result(place), kept.timing(place)), (&result[..], timing(number)));
                // Some answers are asked for again and again.
                for asked in (0..number.min(20)).chain([number / 2]) {
                    if let Some(place) = kept.find(key(asked)) {
                        found_len += 1;
                        let result = vec![asked as u8; result_bytes];
                        assert_eq!(
                            (kept.result(place), kept.timing(place)),
                            (&result[..], timing(asked))
                        );
                    }
                }
            }
            let most_len = (bytes / Kept::answer_bytes(result_bytes)).max(2) - 1;
            assert_eq!(kept.bytes(), most_len * Kept::answer_bytes(result_bytes));
            assert!(found_len > 0 && kept.find(key(1 << 40)).is_none());
            let finding = kept.places.memory_used();
            let finding_bytes = finding.entries + finding.map;
            let vectors_bytes = kept.results.capacity() + kept.free.borrow().capacity() * 4;
            let all_bytes = finding_bytes + vectors_bytes + size_of_val(&*kept.timings);
            assert!(most_len < 20 || all_bytes <= bytes, "{all_bytes} of {bytes}");
        }
    }

    #[test]
    fn many_that_come_once_do_not_drive_out_those_that_are_asked_for() {
        let mut kept = Kept::new(100 * Kept::answer_bytes(16), 16).unwrap();
        for round in 0..200 {
            for number in 0..10 {
                if kept.find(key(number)).is_none() {
                    kept.keep(key(number), &[1; 16], timing(0));
                    assert!(round < 3, "{number} gave way in round {round}");
                }
            }
            for number in 0..50 {
                kept.keep(key(1000 + 50 * round + number), &[2; 16], timing(0));
            }
        }
    }
}
