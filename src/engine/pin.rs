//! Pins the calling thread to a core, where the system can.

use crate::error::{Error, Kind, Result};

/// Keeps the calling thread, and threads that it starts from now on, to one core.
#[cfg(target_os = "linux")]
pub(super) fn pin(core: usize) -> Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};

    if core >= CpuSet::MAX_CPU {
        let message = format!("core {core}: cores are numbered from 0 to {}", CpuSet::MAX_CPU - 1);
        return Err(Error::new(Kind::Argument, message));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|source| {
        let message = format!("core {core}: the scheduling thread cannot be pinned to it");
        Error::new(Kind::Argument, message).with_source(source)
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pin(core: usize) -> Result<()> {
    let message = format!("core {core}: threads are pinned on Linux alone");
    Err(Error::new(Kind::Argument, message))
}
