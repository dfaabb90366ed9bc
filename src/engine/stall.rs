//! How long a device has had work and ended none of it.
//!
//! Invariant: no more counts than was watched. A process that is stopped (a signal, a debugger, a
//! container that is paused) stops its device's threads as well, and time that passed meanwhile is
//! nobody's fault. Reads no clock.

use std::time::Duration;

use crate::backend::Fault;

/// Polls that a device is given at least before it is given up.
const POLL_LEN: u64 = 4;

/// See the module.
pub(super) struct StallWatchdog {
    limit_ns: u64,
    counted_ns: u64,
    polled_ns: u64,
}

impl StallWatchdog {
    /// Allows for `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        let limit_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { limit_ns, counted_ns: 0, polled_ns: 0 }
    }

    /// Work ended, or the first of it began.
    pub(super) fn end(&mut self, now_ns: u64) {
        self.counted_ns = 0;
        self.polled_ns = now_ns;
    }

    /// Polled with work in flight: whether the device has been silent for too long.
    pub(super) fn is_stalled(&mut self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.polled_ns).min(self.step_ns());
        self.counted_ns = self.counted_ns.saturating_add(since_ns);
        self.polled_ns = now_ns;
        self.counted_ns > self.limit_ns
    }

    /// By when to poll again: what is polled later does not count in full.
    pub(super) fn due_ns(&self) -> u64 {
        self.polled_ns.saturating_add(self.step_ns())
    }

    /// What a stalled device is reported as.
    pub(super) fn fault(&self) -> Fault {
        Fault::lost(format!("no work ended within {:?}", Duration::from_nanos(self.limit_ns)))
    }

    fn step_ns(&self) -> u64 {
        self.limit_ns / POLL_LEN + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog() -> StallWatchdog {
        let mut watchdog = StallWatchdog::new(Duration::from_nanos(400));
        watchdog.end(1_000);
        watchdog
    }

    #[test]
    fn it_lasts_as_long_as_it_may() {
        let mut watchdog = watchdog();
        for now_ns in [1_000, 1_050, 1_100, 1_199, 1_300, 1_400] {
            assert!(!watchdog.is_stalled(now_ns), "{now_ns}");
        }
        assert!(watchdog.is_stalled(1_401));
        // Whoever polls when it is due finds the end in time.
        watchdog.end(2_000);
        let mut polls = 0;
        while !watchdog.is_stalled(watchdog.due_ns()) {
            polls += 1;
        }
        assert_eq!((polls, watchdog.polled_ns), (3, 2_404));
    }

    #[test]
    fn what_nobody_watched_counts_for_little() {
        let mut watchdog = watchdog();
        assert!(!watchdog.is_stalled(1_100));
        // Stopped for hours, twice.
        for hours in 1..=2 {
            assert!(!watchdog.is_stalled(1_100 + hours * 3_600_000_000_000));
        }
        assert!(!watchdog.is_stalled(watchdog.polled_ns + 90));
        watchdog.end(watchdog.polled_ns + 1);
        assert!(!watchdog.is_stalled(u64::MAX));
    }

    #[test]
    fn any_timeout_is_taken() {
        for timeout in [Duration::from_nanos(1), Duration::MAX] {
            let mut watchdog = StallWatchdog::new(timeout);
            watchdog.end(5);
            assert!(!watchdog.is_stalled(6));
            assert!(watchdog.due_ns() > 6);
        }
    }
}
