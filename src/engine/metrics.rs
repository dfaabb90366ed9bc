//! The statistics as Prometheus' text format, version 0.0.4.
//!
//! Invariant: each metric has its `# HELP` and `# TYPE` once, before its samples; histogram buckets
//! are cumulative and end with `+Inf`. Units are base units (seconds, bytes). Serving the text over
//! HTTP is the caller's.

use std::fmt::Display;
use std::fmt::Write;

use super::histogram::{LatencyHistogram, LengthHistogram};
use super::options::Refused;
use super::stats::{DeviceStats, Stats};
use crate::build_info::BUILD_INFO;
use crate::sched::{Line, Reason, Stage};

const STAGES: [(Stage, &str); 3] =
    [(Stage::Upload, "upload"), (Stage::Compute, "compute"), (Stage::Download, "download")];
/// Bounds of the latency's buckets are 1 and 1.5 times these powers of two nanoseconds: 2 µs to
/// 51 s.
const LATENCY_POWERS: std::ops::RangeInclusive<u32> = 11..=35;

impl Stats {
    /// These statistics in Prometheus' text format, to be served as `text/plain; version=0.0.4`;
    /// [`prometheus`] renders those of several engines.
    ///
    /// Counters end in `_total`; times are seconds. Allocates.
    pub fn prometheus(&self) -> String {
        render(&[(String::new(), self)])
    }
}

/// The statistics of several engines as one text in Prometheus' format: each sample has the label
/// `engine`, and each metric stands there once. Names must differ. Allocates.
///
/// ```
/// # let (resnet, spare) = <(twinstream::engine::Stats, twinstream::engine::Stats)>::default();
/// let text = twinstream::engine::prometheus(&[("resnet", &resnet), ("spare", &spare)]);
/// assert!(text.contains("twinstream_requests_alive{engine=\"spare\"} 0"));
/// ```
pub fn prometheus(engines: &[(&str, &Stats)]) -> String {
    let label = |name: &str| {
        let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("engine=\"{name}\"")
    };
    let engines: Vec<_> = engines.iter().map(|(name, stats)| (label(name), *stats)).collect();
    render(&engines)
}

/// Of engines, each with the label that its samples carry; an empty one is none.
fn render(engines: &[(String, &Stats)]) -> String {
    let mut text = Text { text: String::with_capacity(20_000 * engines.len()), engines };
    write_build(&mut text.text);
    write_requests(&mut text);
    write_latencies(&mut text);
    write_cache(&mut text);
    let help = "Images in a computed batch.";
    text.metric("batch_images", "histogram", help, |metric, stats| {
        metric.lengths(&stats.batch_lens);
    });
    write_devices(&mut text);
    let help = "Bytes of images and results copied.";
    text.metric("transferred_bytes_total", "counter", help, |metric, stats| {
        metric.sample("stage=\"upload\"", stats.uploaded_bytes);
        metric.sample("stage=\"download\"", stats.downloaded_bytes);
    });
    let help = "Stages started, by what made them start.";
    text.metric("stage_starts_total", "counter", help, |metric, stats| {
        for (stage, name) in STAGES {
            for (reason, count) in Reason::ALL.into_iter().zip(stats.started.of(stage)) {
                let labels = format!("stage=\"{name}\",reason=\"{}\"", reason.name());
                metric.sample(&labels, count);
            }
        }
    });
    type Part = fn(&Line) -> f64;
    let parts: [(&str, &str, Part); 2] = [
        ("stage_fixed_seconds", "Fitted time of a batch of any length.", |line| line.fixed_ns),
        ("stage_image_seconds", "Fitted time of one image more.", |line| line.per_image_ns),
    ];
    for (name, help, part) in parts {
        text.metric(name, "gauge", help, |metric, stats| {
            for (stage, name) in STAGES {
                let seconds = part(stats.fits.of(stage)) / 1e9;
                metric.sample(&format!("stage=\"{name}\""), seconds);
            }
        });
    }
    text.text
}

/// The library's, not an engine's.
fn write_build(text: &mut String) {
    let features: Vec<_> = BUILD_INFO.features().collect();
    let _ = writeln!(text, "# HELP twinstream_build_info What this build is.");
    let _ = writeln!(text, "# TYPE twinstream_build_info gauge");
    let _ = writeln!(
        text,
        "twinstream_build_info{{version=\"{}\",commit=\"{}\",features=\"{}\"}} 1",
        BUILD_INFO.version,
        BUILD_INFO.commit.unwrap_or("unknown"),
        features.join(" ")
    );
}

fn write_requests(text: &mut Text<'_>) {
    let help = "Requests that were handed over.";
    text.metric("requests_accepted_total", "counter", help, |metric, stats| {
        metric.sample("", stats.accepted);
    });
    let help = "Requests answered, by how they ended.";
    text.metric("requests_ended_total", "counter", help, |metric, stats| {
        for (outcome, count) in [
            ("completed", stats.completed),
            ("rejected", stats.rejected),
            ("expired", stats.expired),
            ("cancelled", stats.cancelled),
            ("failed", stats.failed),
            ("device_lost", stats.device_lost),
            ("shut_down", stats.shut_down),
        ] {
            metric.sample(&format!("outcome=\"{outcome}\""), count);
        }
    });
    let help = "Leases and commits that were refused, by reason.";
    text.metric("requests_refused_total", "counter", help, |metric, stats| {
        for (reason, count) in [
            ("full", stats.refused.full),
            ("size", stats.refused.size),
            ("shut_down", stats.refused.shut_down),
            ("device_lost", stats.refused.device_lost),
        ] {
            metric.sample(&format!("reason=\"{reason}\""), count);
        }
    });
    let help = "Completed requests whose answer came after their deadline.";
    text.metric("requests_late_total", "counter", help, |metric, stats| {
        metric.sample("", stats.late);
    });
    let help = "Whether this is what the engine is doing.";
    text.metric("state", "gauge", help, |metric, stats| {
        for (state, refusal) in [
            ("serving", None),
            ("shut_down", Some(Refused::ShutDown)),
            ("device_lost", Some(Refused::DeviceLost)),
        ] {
            metric.sample(&format!("state=\"{state}\""), u8::from(stats.refusal == refusal));
        }
    });
    type Gauge = fn(&Stats) -> f64;
    let gauges: [(&str, &str, Gauge); 5] = [
        ("requests_alive", "Requests accepted and not ended.", |stats| stats.alive_len as f64),
        ("requests_waiting", "Requests that wait for their upload.", |stats| {
            stats.waiting_len as f64
        }),
        ("slots_in_use", "Image slots that are leased or hold a request.", |stats| {
            f64::from(stats.slots_in_use)
        }),
        ("slots", "Image slots that there are.", |stats| f64::from(stats.slot_len)),
        ("arrivals_per_second", "Requests accepted a second, over five.", |stats| {
            stats.arrival_rate_hz
        }),
    ];
    for (name, help, gauge) in gauges {
        text.metric(name, "gauge", help, |metric, stats| metric.sample("", gauge(stats)));
    }
}

fn write_latencies(text: &mut Text<'_>) {
    type Part = fn(&Stats) -> &LatencyHistogram;
    let parts: [(&str, &str, Part); 4] = [
        (
            "latency_seconds",
            "From a completed request's commit to the moment its caller can see the answer.",
            |stats| &stats.latency,
        ),
        ("waiting_seconds", "Of the latency, until the batch begins to compute.", |stats| {
            &stats.waiting
        }),
        ("computing_seconds", "Of the latency, from then until the device is done.", |stats| {
            &stats.computing
        }),
        ("notifying_seconds", "Of the latency, from then until its end.", |stats| &stats.notifying),
    ];
    for (name, help, part) in parts {
        text.metric(name, "histogram", help, |metric, stats| metric.latencies(part(stats)));
    }
    let help = "Time spent in handlers and wakers of callers.";
    text.metric("callback_seconds_total", "counter", help, |metric, stats| {
        metric.sample("", stats.callback_ns as f64 / 1e9);
    });
}

fn write_devices(text: &mut Text<'_>) {
    type Part = fn(&DeviceStats) -> u64;
    let parts: [(&str, &str, &str, Part); 3] = [
        ("device_batches_total", "counter", "Batches that a device began to compute.", |device| {
            device.batches
        }),
        ("device_images_total", "counter", "Images in these batches.", |device| device.images),
        ("device_lost", "gauge", "Whether a device is lost, by its place.", |device| {
            u64::from(device.is_lost)
        }),
    ];
    for (name, kind, help, part) in parts {
        text.metric(name, kind, help, |metric, stats| {
            for (place, device) in stats.devices.iter().enumerate() {
                metric.sample(&format!("device=\"{place}\""), part(device));
            }
        });
    }
}

fn write_cache(text: &mut Text<'_>) {
    let help = "Images looked for among those seen before, by what was found.";
    text.metric("cache_images_total", "counter", help, |metric, stats| {
        let cache = &stats.cache;
        for (found, count) in
            [("answer", cache.hits), ("in_flight", cache.joined), ("nothing", cache.misses)]
        {
            metric.sample(&format!("found=\"{found}\""), count);
        }
    });
    let help = "Bytes of the answers that are kept.";
    text.metric("cache_bytes", "gauge", help, |metric, stats| {
        metric.sample("", stats.cache.bytes);
    });
    let help = "Whether images are looked for among those seen before.";
    text.metric("cache_on", "gauge", help, |metric, stats| {
        metric.sample("", u8::from(stats.cache.is_on));
    });
}

struct Text<'a> {
    text: String,
    engines: &'a [(String, &'a Stats)],
}

/// One engine's samples of a metric.
struct Metric<'a> {
    text: &'a mut String,
    name: &'a str,
    engine: &'a str,
}

impl Text<'_> {
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl Fn(&mut Metric<'_>, &Stats),
    ) {
        let _ = writeln!(self.text, "# HELP twinstream_{name} {help}");
        let _ = writeln!(self.text, "# TYPE twinstream_{name} {kind}");
        for (engine, stats) in self.engines {
            samples(&mut Metric { text: &mut self.text, name, engine }, stats);
        }
    }
}

impl Metric<'_> {
    fn sample(&mut self, labels: &str, value: impl Display) {
        self.suffixed("", labels, value);
    }

    fn suffixed(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let Self { text, name, engine } = self;
        let _ = match (*engine, labels) {
            ("", "") => writeln!(text, "twinstream_{name}{suffix} {value}"),
            ("", labels) | (labels, "") => {
                writeln!(text, "twinstream_{name}{suffix}{{{labels}}} {value}")
            }
            (engine, _) => {
                writeln!(text, "twinstream_{name}{suffix}{{{engine},{labels}}} {value}")
            }
        };
    }

    fn lengths(&mut self, histogram: &LengthHistogram) {
        let mut up_to_len = 0;
        for (length, count) in histogram.buckets() {
            up_to_len += count;
            self.suffixed("_bucket", &format!("le=\"{length}\""), up_to_len);
        }
        self.suffixed("_bucket", "le=\"+Inf\"", histogram.len());
        self.suffixed("_sum", "", histogram.image_len());
        self.suffixed("_count", "", histogram.len());
    }

    fn latencies(&mut self, histogram: &LatencyHistogram) {
        for power in LATENCY_POWERS {
            for bound_ns in [1 << power, 3 << (power - 1)] {
                // Whole nanoseconds: what is below the bound and what is at most the bound differ
                // by a nanosecond.
                let labels = format!("le=\"{}\"", bound_ns as f64 / 1e9);
                self.suffixed("_bucket", &labels, histogram.below_len(bound_ns));
            }
        }
        self.suffixed("_bucket", "le=\"+Inf\"", histogram.len());
        self.suffixed("_sum", "", histogram.sum_ns() as f64 / 1e9);
        self.suffixed("_count", "", histogram.len());
    }
}
