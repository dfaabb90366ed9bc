//! Images seen before: which request needs no computing of its own, for the scheduling thread.
//!
//! Invariant: a request is given the answer of its key alone, and one that has a result. It is
//! all the scheduling thread's, so nothing here is locked; nothing is allocated after the start.
//! Knows neither threads, slots' contents nor callers.

mod account;
mod equals;
mod kept;

use account::Account;
pub(super) use equals::Claim;
use equals::Equals;
pub(super) use kept::Kept;

use super::hashing::Hashing;
use super::options::EngineOptions;
use super::stats::CacheStats;
use crate::backend::Geometry;
use crate::error::Result;

/// What there is for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// An answer, at this place.
    Answer(u32),
    /// An equal image in flight: its answer will be this one's too.
    Leader,
    /// Neither.
    Nothing,
}

/// See the module.
pub(super) struct Cache {
    pub(super) kept: Kept,
    pub(super) equals: Equals,
    pub(super) account: Account,
}

impl Cache {
    /// As large as the options say.
    pub(super) fn new(
        hashing: &Hashing,
        options: &EngineOptions,
        geometry: Geometry,
    ) -> Result<Self> {
        let hash_ns = hashing.cost_ns(geometry.image_bytes);
        Ok(Self {
            kept: Kept::new(options.cache_bytes, geometry.result_len * size_of::<f32>())?,
            equals: Equals::new(options.slot_len),
            account: Account::new(hash_ns),
        })
    }

    /// What there is for a request that came; `alone_ns` is what computing it would take
    /// at the least.
    pub(super) fn meet(
        &mut self,
        slot: u32,
        claim: Claim,
        (now_ns, alone_ns): (u64, f64),
        stats: &mut CacheStats,
    ) -> Met {
        let met = match self.kept.find(claim.key) {
            // What comes too late is refused as any other.
            Some(place) if claim.deadline_ns >= now_ns => Met::Answer(place),
            _ if self.equals.follow(slot, claim) => Met::Leader,
            _ => Met::Nothing,
        };
        *match met {
            Met::Answer(_) => &mut stats.hits,
            Met::Leader => &mut stats.joined,
            Met::Nothing => &mut stats.misses,
        } += 1;
        self.account.hashed(now_ns, if met == Met::Nothing { 0.0 } else { alone_ns });
        met
    }
}
