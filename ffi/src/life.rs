//! Where a request stands, in one word: from its lease to its release.
//!
//! Invariant: the word tells a request of the past by its generation. Of those who would commit or
//! release a request, one wins. What it holds is let go once, by the last who has to do with it:
//! who releases it, who is about to cancel it, or who still commits it when its callback has
//! released it already. Knows neither engines nor callers.
//!
//! ```text
//! free --lease--> leased --begin_commit--> committing --end_commit--> committed
//!   `-------------- clear, by the last one, from any of them once released --'
//! ```

use super::sync::{AtomicU64, Ordering};

/// One of these, or the entry is free.
const LEASED: u64 = 1;
const COMMITTING: u64 = 1 << 1;
const COMMITTED: u64 = 1 << 2;
const PHASES: u64 = LEASED | COMMITTING | COMMITTED;
/// Handles are stale from here on, though what the request holds is not let go yet.
const RELEASED: u64 = 1 << 3;
/// The answer is to be announced; there is no release before.
const NOTICE: u64 = 1 << 4;
const ANNOUNCED: u64 = 1 << 5;
/// The answer is there, and whoever is told of answers has seen it.
const ENDED: u64 = 1 << 6;
/// Threads sleep until it has ended or is released.
const SLEEPING: u64 = 1 << 7;
/// Why the commit was refused, in a byte; 0 if it was not.
const REFUSAL_SHIFT: u32 = 8;
/// Threads that use what the request holds, in 16 bits.
const PIN: u64 = 1 << 16;
const PINS: u64 = 0xffff << 16;
const GENERATION_SHIFT: u32 = 32;

/// See the module.
pub(crate) struct Life(AtomicU64);

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Of the past, or it never was.
    Stale,
    /// Not committed, or in the middle of it.
    Leased,
    /// On its way or answered.
    Committed,
    /// Its commit was refused for this reason.
    Refused(u8),
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Stale,
    /// Its notice is due, or another thread is committing it.
    TooEarly,
    Released {
        /// The caller lets go what it holds; else someone else will.
        is_last: bool,
        /// Threads sleep until then.
        is_awaited: bool,
    },
}

/// A request whose answer was seen for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Threads sleep until then.
    pub(crate) is_awaited: bool,
}

impl Life {
    /// Free, in its first generation.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1 << GENERATION_SHIFT))
    }

    pub(crate) fn standing(&self, generation: u32) -> Standing {
        // Acquire: what was done to get there is seen.
        let word = self.0.load(Ordering::Acquire);
        if !is_of(word, generation) {
            return Standing::Stale;
        }
        match (word >> REFUSAL_SHIFT) as u8 {
            0 if word & (COMMITTED | ENDED) == 0 => Standing::Leased,
            0 => Standing::Committed,
            refusal => Standing::Refused(refusal),
        }
    }

    /// Whether the entry is free, for the one who may lease it.
    pub(crate) fn is_free(&self) -> bool {
        // Acquire: whoever had it has let it go.
        self.0.load(Ordering::Acquire) & PHASES == 0
    }

    /// Leases a free entry that holds its lease already; its generation.
    pub(crate) fn lease(&self) -> u32 {
        // A free entry is changed by nobody else.
        let word = self.0.load(Ordering::Relaxed);
        // Release: what it holds comes before.
        self.0.store(word | LEASED, Ordering::Release);
        generation_of(word)
    }

    /// Whether the caller is the one to commit it; then what it holds is the caller's, until
    /// [`Life::end_commit`] or [`Life::refuse`].
    pub(crate) fn begin_commit(&self, generation: u32, has_notice: bool) -> bool {
        let free = u64::from(generation) << GENERATION_SHIFT;
        let committing = free | COMMITTING | if has_notice { NOTICE } else { 0 };
        // Acquire: what it holds is seen. Release: whoever sees this sees the lease's place taken.
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        self.0.compare_exchange(free | LEASED, committing, success, failure).is_ok()
    }

    /// What it holds is in place. True if it was released meanwhile: the caller lets that go.
    pub(crate) fn end_commit(&self) -> bool {
        // Release: what it holds comes before. Acquire: so does whoever released it.
        let before = self.0.fetch_xor(COMMITTING | COMMITTED, Ordering::AcqRel);
        before & RELEASED != 0
    }

    /// It was refused for a reason that is not 0; no notice will come.
    pub(crate) fn refuse(&self, reason: u8) {
        // One that is being committed and has no answer is changed by nobody else.
        let word = self.0.load(Ordering::Relaxed) & !(COMMITTING | NOTICE);
        let refused = word | COMMITTED | u64::from(reason) << REFUSAL_SHIFT;
        self.0.store(refused, Ordering::Release);
    }

    /// The request that is on its way as far as is known here: its generation, and whether it has
    /// a notice.
    pub(crate) fn on_its_way(&self) -> Option<(u32, bool)> {
        let word = self.0.load(Ordering::Acquire);
        is_on_its_way(word).then_some((generation_of(word), word & NOTICE != 0))
    }

    /// The request of this generation has its answer; none if it is not on its way any more. It
    /// counts as announced if `is_announced`. One thread is told of answers.
    pub(crate) fn end(&self, generation: u32, is_announced: bool) -> Option<Ended> {
        let announced = if is_announced { ANNOUNCED } else { 0 };
        let ended = self.change(|word| {
            let may = generation_of(word) == generation && is_on_its_way(word);
            may.then_some(word | ENDED | announced)
        });
        Some(Ended { is_awaited: ended.ok()? & SLEEPING != 0 })
    }

    /// The notice of one that has ended reached its caller.
    pub(crate) fn announce(&self) {
        self.0.fetch_or(ANNOUNCED, Ordering::AcqRel);
    }

    /// Keeps what a committed request holds in place until [`Life::unpin`]; false if it is not
    /// committed.
    pub(crate) fn pin(&self, generation: u32) -> bool {
        let pinned = self.change(|word| {
            let may = is_of(word, generation) && word & COMMITTED != 0 && word & PINS != PINS;
            may.then_some(word + PIN)
        });
        pinned.is_ok()
    }

    /// True if the caller was the last and lets go what it holds.
    pub(crate) fn unpin(&self) -> bool {
        let before = self.0.fetch_sub(PIN, Ordering::AcqRel);
        before & RELEASED != 0 && before & PINS == PIN
    }

    /// Says that the caller sleeps until it has ended or is released; false if it has or is.
    pub(crate) fn sleep(&self, generation: u32) -> bool {
        self.change(|word| sleeps(word, generation).then_some(word | SLEEPING)).is_ok()
    }

    /// Whether who said so has to go on sleeping.
    pub(crate) fn sleeps(&self, generation: u32) -> bool {
        sleeps(self.0.load(Ordering::Acquire), generation)
    }

    /// Releases a request: its handle is stale from here on.
    pub(crate) fn release(&self, generation: u32) -> Release {
        let released = self.change(|word| {
            let may = is_of(word, generation) && !is_too_early(word);
            may.then_some(word | RELEASED)
        });
        match released {
            Ok(before) => Release::Released {
                is_last: before & (COMMITTING | PINS) == 0,
                is_awaited: before & SLEEPING != 0,
            },
            Err(word) if is_of(word, generation) => Release::TooEarly,
            Err(_) => Release::Stale,
        }
    }

    /// Frees the entry, for the next generation. It holds nothing any more; the caller is the last
    /// who had to do with the request.
    pub(crate) fn clear(&self) {
        let word = self.0.load(Ordering::Relaxed);
        let next = generation_of(word).checked_add(1).unwrap_or(1);
        // Release: what it held was taken out before.
        self.0.store(u64::from(next) << GENERATION_SHIFT, Ordering::Release);
    }

    /// Changes the word as `change` says: what it was before, or what it is where that says none.
    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        // Each change publishes what its thread did, and sees what those before it did.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
    }
}

fn generation_of(word: u64) -> u32 {
    (word >> GENERATION_SHIFT) as u32
}

fn is_of(word: u64, generation: u32) -> bool {
    generation_of(word) == generation && word & PHASES != 0 && word & RELEASED == 0
}

fn is_on_its_way(word: u64) -> bool {
    word & (COMMITTING | COMMITTED) != 0 && word & (ENDED | RELEASED) == 0
}

fn sleeps(word: u64, generation: u32) -> bool {
    is_of(word, generation) && word & COMMITTED != 0 && word & ENDED == 0
}

fn is_too_early(word: u64) -> bool {
    let is_due = word & NOTICE != 0 && word & ANNOUNCED == 0;
    is_due || word & COMMITTING != 0 && word & ENDED == 0
}
