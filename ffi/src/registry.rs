//! Engines by handle.
//!
//! Invariant: a handle fits exactly one generation of one entry and is never an address, so a stale
//! one is found. An engine goes when no call is inside it any more.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::boundary::check_may_block;
use crate::open::Live;
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::Refused;
use twinstream::ring;

/// Engines at a time, one for each bit of [`CLAIMED`].
const ENGINE_LEN_MAX: usize = u64::BITS as usize;

/// `twinstream_engine`: never looked into.
pub(crate) struct EngineHandle;

struct Entry {
    /// Counts the engines that the entry held; 0 before the first.
    generation: usize,
    live: Option<Live>,
}

/// Calls hold the lock to read while they are inside.
static ENTRIES: [RwLock<Entry>; ENGINE_LEN_MAX] =
    [const { RwLock::new(Entry { generation: 0, live: None }) }; ENGINE_LEN_MAX];
static CLAIMED: AtomicU64 = AtomicU64::new(0);
/// By entry: the process that last made an engine there, see [`ring::fork_count`]. Beside the
/// locks, which may be held for ever in a process that was forked off.
static FORK_COUNTS: [AtomicU32; ENGINE_LEN_MAX] = [const { AtomicU32::new(0) }; ENGINE_LEN_MAX];

/// An entry that belongs to an engine, or to whoever makes or ends one.
struct Claim(usize);

impl Claim {
    fn new() -> Outcome<Self> {
        let free = CLAIMED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |claimed| {
            (claimed != u64::MAX).then(|| claimed | 1 << claimed.trailing_ones())
        });
        match free {
            Ok(claimed) => Ok(Self(claimed.trailing_ones() as usize)),
            Err(_) => Err(Failed::new(Status::Full, "as many engines as there may be exist")),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.fetch_and(!(1 << self.0), Ordering::AcqRel);
    }
}

/// Opens an engine and gives it a handle. `open` is given a tag for its requests.
pub(crate) fn create(open: impl FnOnce(u16) -> Outcome<Live>) -> Outcome<*mut EngineHandle> {
    let claim = Claim::new()?;
    FORK_COUNTS[claim.0].store(ring::fork_count(), Ordering::Relaxed);
    let entry = &ENTRIES[claim.0];
    // Nobody else makes or ends an engine here, so the generation stays.
    let generation = entry.read().unwrap_or_else(PoisonError::into_inner).generation + 1;
    let tag = (generation * ENGINE_LEN_MAX + claim.0) as u16;
    let live = open(tag)?;
    *entry.write().unwrap_or_else(PoisonError::into_inner) = Entry { generation, live: Some(live) };
    let handle = generation * ENGINE_LEN_MAX + claim.0;
    // The engine's until it is destroyed.
    std::mem::forget(claim);
    Ok(ptr::without_provenance_mut(handle))
}

/// Calls with the engine of that handle; it stays meanwhile.
pub(crate) fn with<T>(
    engine: *const EngineHandle,
    call: impl FnOnce(&Live) -> Outcome<T>,
) -> Outcome<T> {
    if engine.is_null() {
        return Err(Failed::new(Status::Null, "engine is NULL"));
    }
    let (generation, index) = (engine.addr() / ENGINE_LEN_MAX, engine.addr() % ENGINE_LEN_MAX);
    if FORK_COUNTS[index].load(Ordering::Relaxed) != ring::fork_count() {
        return Err(Refused::Forked.into());
    }
    let entry = ENTRIES[index].read().unwrap_or_else(PoisonError::into_inner);
    match &entry.live {
        Some(live) if entry.generation == generation => call(live),
        _ => Err(stale()),
    }
}

/// Ends an engine.
pub(crate) fn destroy(engine: *const EngineHandle) -> Outcome<()> {
    check_may_block()?;
    // Ends every request, so that whoever waits for one leaves.
    with(engine, |live| {
        live.engine.drain(Duration::ZERO);
        Ok(())
    })?;
    let (generation, index) = (engine.addr() / ENGINE_LEN_MAX, engine.addr() % ENGINE_LEN_MAX);
    let mut entry = ENTRIES[index].write().unwrap_or_else(PoisonError::into_inner);
    if entry.generation != generation {
        return Err(stale());
    }
    // Another thread may have ended it since.
    let live = entry.live.take().ok_or_else(stale)?;
    drop(entry);
    // Given back last.
    let _claim = Claim(index);
    live.requests.clear();
    drop(live);
    Ok(())
}

fn stale() -> Failed {
    Failed::new(Status::Stale, "no such engine, or it was destroyed")
}
