//! Engines by handle.
//!
//! Invariant: a handle fits exactly one generation of one entry and is never an address, so a stale
//! one is found. An engine goes when no call is inside it any more.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::boundary::check_may_block;
use crate::gate::Gate;
use crate::open::Live;
use crate::status::{Failed, Outcome, Status};
use crate::sync::STRIPE_LEN;
use twinstream::engine::Refused;
use twinstream::ring;

/// Engines at a time, one for each bit of [`CLAIMED`].
const ENGINE_LEN_MAX: usize = u64::BITS as usize;
/// Between two looks whether the last call has left an engine that is destroyed.
const LEAVING: Duration = Duration::from_micros(50);

/// `twinstream_engine`: never looked into.
pub(crate) struct EngineHandle;

/// A place for an engine. Its claim's owner alone changes it, while the gate is shut and empty.
struct Entry {
    /// Open for the engine's handle.
    gate: Gate,
    /// Counts the engines that the entry held.
    generation: AtomicUsize,
    live: UnsafeCell<Option<Live>>,
}

// SAFETY: what lives may be used by several threads; they reach it through the gate, and whoever
// claimed the entry changes it while nobody is let in.
unsafe impl Sync for Entry {}

static ENTRIES: LazyLock<Box<[Entry]>> = LazyLock::new(|| {
    let entry = |_| Entry {
        gate: Gate::new(),
        generation: AtomicUsize::new(0),
        live: UnsafeCell::new(None),
    };
    (0..ENGINE_LEN_MAX).map(entry).collect()
});
static CLAIMED: AtomicU64 = AtomicU64::new(0);
/// By entry: the process that last made an engine there, see [`ring::fork_count`].
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
    let entry = &ENTRIES[claim.0];
    if FORK_COUNTS[claim.0].load(Ordering::Relaxed) != ring::fork_count() {
        entry.gate.reset();
        // Release: whoever gets past this check finds the gate shut.
        FORK_COUNTS[claim.0].store(ring::fork_count(), Ordering::Release);
    }
    let generation = entry.generation.fetch_add(1, Ordering::Relaxed) + 1;
    let handle = generation * ENGINE_LEN_MAX + claim.0;
    let live = open(handle as u16)?;
    // SAFETY: claimed, and shut.
    unsafe { *entry.live.get() = Some(live) };
    entry.gate.open(handle);
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
    let index = engine.addr() % ENGINE_LEN_MAX;
    if FORK_COUNTS[index].load(Ordering::Acquire) != ring::fork_count() {
        return Err(Refused::Forked.into());
    }
    let entry = &ENTRIES[index];
    let _inside = entry.gate.enter(engine.addr(), stripe()).ok_or_else(stale)?;
    // SAFETY: nobody changes it while this is inside.
    let live = unsafe { &*entry.live.get() };
    call(live.as_ref().expect("the gate is open for an engine"))
}

/// This thread's stripe of every gate.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPE_LEN;
    }
    STRIPE.with(|stripe| *stripe)
}

/// Ends an engine.
pub(crate) fn destroy(engine: *const EngineHandle) -> Outcome<()> {
    check_may_block()?;
    // Ends every request, so that whoever waits for one leaves.
    with(engine, |live| {
        live.engine.drain(Duration::ZERO);
        Ok(())
    })?;
    let index = engine.addr() % ENGINE_LEN_MAX;
    let entry = &ENTRIES[index];
    // Another thread may have ended it since.
    if !entry.gate.shut(engine.addr()) {
        return Err(stale());
    }
    // Given back last.
    let _claim = Claim(index);
    entry.gate.wait_empty(|| thread::sleep(LEAVING));
    // SAFETY: the engine had the claim, and its gate is shut and empty.
    let live = unsafe { (*entry.live.get()).take() };
    let live = live.expect("the gate was open for an engine");
    live.requests.clear();
    drop(live);
    Ok(())
}

fn stale() -> Failed {
    Failed::new(Status::Stale, "no such engine, or it was destroyed")
}
