//! What the server carries and what it could carry, for balancers and autoscalers.
//!
//! Invariant: whoever asks reads a few numbers that were left by a task of their own, without a
//! lock; the largest rate is found anew only where the device's times have changed. Knows no
//! protocol.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use twinstream::sched::{Line, PolicySpec, Stages};
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::plan::rate_about_hz;

use crate::app::App;

/// Between two looks at the engine.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Rates of requests are counted over so many periods, those of the engine's arrivals.
const WINDOW_LEN: usize = 50;
/// Between two searches for the largest rate, at least.
const PLAN_PERIOD: Duration = Duration::from_secs(60);
/// A device's times have changed where they differ by this share.
const CHANGE: f64 = 0.1;
/// Where no bound is given: so many times as long as an image takes alone.
const BOUND_ALONE: f64 = 10.0;
/// The least time of a stage, as a device that takes none could carry everything.
const STAGE_NS_MIN: f64 = 1.0;

/// A number that one writes and others read.
#[derive(Default)]
struct Gauge(AtomicU64);

impl Gauge {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Default)]
pub struct Load {
    latency_bound: Option<Duration>,
    latency_bound_seconds: Gauge,
    rate_max_hz: Gauge,
    arrivals_hz: Gauge,
    requests_hz: Gauge,
    errors_hz: Gauge,
    wait_seconds: Gauge,
    decoders_busy: Gauge,
}

/// All of it at a moment; rates are those of the last five seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The latency that 99 in 100 images should keep.
    pub latency_bound_seconds: f64,
    /// Images a second that the devices that are left can answer within it, if they arrive at
    /// random; 0: not known yet, or none.
    pub rate_max_hz: f64,
    /// Images a second that the engine took.
    pub arrivals_hz: f64,
    /// Requests that ended, a second, and those of them for which the server is to blame.
    pub requests_hz: f64,
    pub errors_hz: f64,
    /// How long what was accepted will take.
    pub wait_seconds: f64,
    /// Share of the threads that decode image files which do.
    pub decoders_busy: f64,
}

impl Report {
    /// Arrivals as a share of the largest rate, above 1 where there are too many; or what is at
    /// work of the threads that decode, where this is more.
    pub fn utilization(&self) -> f64 {
        let of_device =
            if self.rate_max_hz > 0.0 { self.arrivals_hz / self.rate_max_hz } else { 0.0 };
        of_device.max(self.decoders_busy)
    }

    /// What could come in addition; below 0 where there are too many.
    pub fn headroom_hz(&self) -> f64 {
        self.rate_max_hz - self.arrivals_hz
    }
}

impl Load {
    /// With the bound that requests are to keep; none: one that follows from the device's times.
    pub fn new(latency_bound: Option<Duration>) -> Self {
        Self { latency_bound, ..Self::default() }
    }

    pub fn report(&self) -> Report {
        Report {
            latency_bound_seconds: self.latency_bound_seconds.get(),
            rate_max_hz: self.rate_max_hz.get(),
            arrivals_hz: self.arrivals_hz.get(),
            requests_hz: self.requests_hz.get(),
            errors_hz: self.errors_hz.get(),
            wait_seconds: self.wait_seconds.get(),
            decoders_busy: self.decoders_busy.get(),
        }
    }

    /// Keeps it up to date, for ever. `ended` counts the requests that ended, and those of them for
    /// which the server is to blame.
    pub async fn watch(self: &Arc<Self>, app: &App, ended: impl Fn() -> (u64, u64)) {
        let mut counts = VecDeque::with_capacity(WINDOW_LEN + 1);
        let mut planned: Option<(Instant, Vec<Stages<Line>>)> = None;
        loop {
            let (now, stats) = (Instant::now(), app.engine.stats());
            let lines: Vec<_> = stats.devices.left().map(|device| device.fits).collect();
            let is_old = planned.as_ref().is_none_or(|(at, planned)| {
                let changed = || planned.iter().zip(&lines).any(|(one, now)| has_changed(one, now));
                planned.len() != lines.len() || at.elapsed() > PLAN_PERIOD && changed()
            });
            if is_old {
                planned = Some((now, lines.clone()));
                self.plan(lines, app.limits.len_max);
            }
            self.arrivals_hz.set(stats.arrival_rate_hz);
            self.wait_seconds.set(app.predicted_wait().as_secs_f64());
            let ((requests_now, errors_now), busy_now) = (ended(), app.decoders_busy());
            counts.push_back((now, (requests_now, errors_now), busy_now));
            let (since, (requests, errors), busy) = counts[0];
            // Of a server that is younger than a second, over one.
            let seconds = (now - since).as_secs_f64().max(1.0);
            self.requests_hz.set((requests_now - requests) as f64 / seconds);
            self.errors_hz.set((errors_now - errors) as f64 / seconds);
            self.decoders_busy.set(((busy_now - busy).as_secs_f64() / seconds).min(1.0));
            if counts.len() > WINDOW_LEN {
                counts.pop_front();
            }
            sleep(PERIOD).await;
        }
    }

    /// Searches for the largest rate of these devices, on a thread of its own: it takes some tenths
    /// of a second for each. Where there are several it is the sum of what each could carry by
    /// itself: one queue for all of them carries no less.
    fn plan(self: &Arc<Self>, devices: Vec<Stages<Line>>, batch_len_max: usize) {
        let alone_ns = devices.iter().map(alone_ns).fold(f64::INFINITY, f64::min);
        let bound = self.latency_bound.map(|bound| bound.as_nanos() as f64);
        let bound_ns = bound.unwrap_or(BOUND_ALONE * alone_ns);
        if bound_ns.is_finite() {
            self.latency_bound_seconds.set(bound_ns / 1e9);
        }
        let load = Arc::clone(self);
        let search = move || {
            let rates = devices.into_iter().filter_map(|lines| {
                let device = DeviceSpec::from_lines("fitted", at_least(lines));
                rate_about_hz(&device, PolicySpec::default(), bound_ns, batch_len_max)
            });
            load.rate_max_hz.set(rates.sum());
        };
        let begun = thread::Builder::new().name("twinstream-plan".to_owned()).spawn(search);
        if let Err(error) = begun {
            log::warn!("the largest rate is not known: no thread to search for it: {error}");
        }
    }
}

/// What one image takes that comes alone.
fn alone_ns(lines: &Stages<Line>) -> f64 {
    let Stages { upload, compute, download } = at_least(*lines);
    [upload, compute, download].map(|line| line.at_ns(1)).iter().sum()
}

fn at_least(lines: Stages<Line>) -> Stages<Line> {
    let least = |line: Line| Line::new(line.fixed_ns.max(STAGE_NS_MIN), line.per_image_ns);
    Stages {
        upload: least(lines.upload),
        compute: least(lines.compute),
        download: least(lines.download),
    }
}

/// Whether a device with the second times carries another load: what one image takes alone, and
/// what one takes among many.
fn has_changed(planned: &Stages<Line>, now: &Stages<Line>) -> bool {
    let differ = |one: f64, other: f64| (one - other).abs() > CHANGE * one;
    differ(alone_ns(planned), alone_ns(now))
        || differ(planned.compute.per_image_ns, now.compute.per_image_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(fixed_ns: f64, per_image_ns: f64) -> Stages<Line> {
        let transfer = Line::new(10_000.0, 0.0);
        let compute = Line::new(fixed_ns, per_image_ns);
        Stages { upload: transfer, compute, download: transfer }
    }

    #[test]
    fn small_changes_of_the_times_are_no_other_device() {
        let planned = lines(500e3, 25e3);
        assert!(!has_changed(&planned, &lines(520e3, 26e3)));
        assert!(has_changed(&planned, &lines(800e3, 25e3)));
        assert!(has_changed(&planned, &lines(500e3, 29e3)));
    }

    /// Also of a device that takes no time at all.
    #[test]
    fn the_largest_rate_follows_from_the_times() {
        for (lines, least_hz, most_hz) in
            [(lines(500e3, 25e3), 15e3, 40e3), (Stages::default(), 1e6, f64::INFINITY)]
        {
            let load = Arc::new(Load::new(None));
            load.plan(vec![lines], 64);
            let until = Instant::now() + Duration::from_secs(20);
            while load.report().rate_max_hz == 0.0 {
                assert!(Instant::now() < until, "no rate for {lines:?}");
                thread::sleep(Duration::from_millis(1));
            }
            let report = load.report();
            assert!((least_hz..most_hz).contains(&report.rate_max_hz), "{report:?}");
            assert_eq!(report.latency_bound_seconds, 10.0 * alone_ns(&lines) / 1e9);
        }
    }

    /// Goal: what is told follows the devices that are left.
    #[test]
    fn the_largest_rate_is_that_of_all_devices() {
        let device = lines(500e3, 25e3);
        let mut rates = [1, 2, 0].map(|device_len| {
            let load = Arc::new(Load::new(Some(Duration::from_millis(5))));
            load.rate_max_hz.set(f64::NAN);
            load.plan(vec![device; device_len], 64);
            let until = Instant::now() + Duration::from_secs(20);
            while load.report().rate_max_hz.is_nan() {
                assert!(Instant::now() < until, "no rate of {device_len}");
                thread::sleep(Duration::from_millis(1));
            }
            load.report().rate_max_hz
        });
        rates[1] /= 2.0;
        assert!(rates[0] > 15e3 && rates[0] == rates[1] && rates[2] == 0.0, "{rates:?}");
    }
}
