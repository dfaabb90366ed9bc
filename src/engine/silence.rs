//! How long a device has had work and ended none of it.
//!
//! Invariant: no more counts than was watched. A process that is stopped (a signal, a debugger, a
//! container that is paused) stops its device's threads as well, and time that passed meanwhile is
//! nobody's fault. Reads no clock.

use std::time::Duration;

use crate::backend::Fault;

/// Looks that a device is given at least before it is given up.
const LOOK_LEN: u64 = 4;

/// See the module.
pub(super) struct Silence {
    limit_ns: u64,
    counted_ns: u64,
    looked_ns: u64,
}

impl Silence {
    /// Allows for `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        let limit_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { limit_ns, counted_ns: 0, looked_ns: 0 }
    }

    /// Work ended, or the first of it began.
    pub(super) fn end(&mut self, now_ns: u64) {
        self.counted_ns = 0;
        self.looked_ns = now_ns;
    }

    /// Looks, with work in flight, and says whether it has been silent for too long.
    pub(super) fn is_over(&mut self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.looked_ns).min(self.step_ns());
        self.counted_ns = self.counted_ns.saturating_add(since_ns);
        self.looked_ns = now_ns;
        self.counted_ns > self.limit_ns
    }

    /// By when to look again: what is looked at later does not count in full.
    pub(super) fn due_ns(&self) -> u64 {
        self.looked_ns.saturating_add(self.step_ns())
    }

    /// What it makes of the device when it is over.
    pub(super) fn fault(&self) -> Fault {
        Fault::lost(format!("no work ended within {:?}", Duration::from_nanos(self.limit_ns)))
    }

    fn step_ns(&self) -> u64 {
        self.limit_ns / LOOK_LEN + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence() -> Silence {
        let mut silence = Silence::new(Duration::from_nanos(400));
        silence.end(1_000);
        silence
    }

    #[test]
    fn it_lasts_as_long_as_it_may() {
        let mut silence = silence();
        for now_ns in [1_000, 1_050, 1_100, 1_199, 1_300, 1_400] {
            assert!(!silence.is_over(now_ns), "{now_ns}");
        }
        assert!(silence.is_over(1_401));
        // Whoever looks when it is due finds the end in time.
        silence.end(2_000);
        let mut looks = 0;
        while !silence.is_over(silence.due_ns()) {
            looks += 1;
        }
        assert_eq!((looks, silence.looked_ns), (3, 2_404));
    }

    #[test]
    fn what_nobody_watched_counts_for_little() {
        let mut silence = silence();
        assert!(!silence.is_over(1_100));
        // Stopped for hours, twice.
        for hours in 1..=2 {
            assert!(!silence.is_over(1_100 + hours * 3_600_000_000_000));
        }
        assert!(!silence.is_over(silence.looked_ns + 90));
        silence.end(silence.looked_ns + 1);
        assert!(!silence.is_over(u64::MAX));
    }

    #[test]
    fn any_timeout_is_taken() {
        for timeout in [Duration::from_nanos(1), Duration::MAX] {
            let mut silence = Silence::new(timeout);
            silence.end(5);
            assert!(!silence.is_over(6));
            assert!(silence.due_ns() > 6);
        }
    }
}
