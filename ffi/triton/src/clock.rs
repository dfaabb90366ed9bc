//! The clock of the server's statistics.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the system's monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
