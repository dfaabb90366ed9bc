//! Waiting for a moment as exactly as the system allows, for devices and loads that are played in
//! real time.
//!
//! Knows nothing of either.

use std::thread;
use std::time::{Duration, Instant};

/// How long before a moment the thread stops sleeping and looks at the clock instead: what a
/// sleeping thread is late on a common system, with sharp timers.
pub const EARLY: Duration = Duration::from_micros(150);

/// Asks the system to wake this thread as soon as its timers are over, where it can be asked: Linux
/// otherwise gathers wake-ups over 50 µs.
pub fn sharpen_timers() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        log::warn!("timers stay blunt: {error}");
    }
}

/// Returns at `moment`, or at once when it is over: sleeps, then offers the processor to others
/// between two looks.
pub fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if left > EARLY {
        thread::sleep(left - EARLY);
    }
    while Instant::now() < moment {
        thread::yield_now();
    }
}
