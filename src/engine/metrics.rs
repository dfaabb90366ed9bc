//! The statistics as Prometheus' text format, version 0.0.4.
//!
//! Invariant: each metric has its `# HELP` and `# TYPE` once, before its samples; histogram buckets
//! are cumulative and end with `+Inf`. Units are base units (seconds, bytes). Serving the text over
//! HTTP is the caller's.

use std::fmt::Display;
use std::fmt::Write;

use super::histogram::{LatencyHistogram, LengthHistogram};
use super::stats::Stats;
use crate::sched::{Line, Reason, Stage};

const STAGES: [(Stage, &str); 3] =
    [(Stage::Upload, "upload"), (Stage::Compute, "compute"), (Stage::Download, "download")];
/// Bounds of the latency's buckets are 1 and 1.5 times these powers of two nanoseconds: 2 µs to
/// 51 s.
const LATENCY_POWERS: std::ops::RangeInclusive<u32> = 11..=35;

impl Stats {
    /// These statistics in Prometheus' text format, to be served as `text/plain; version=0.0.4`.
    ///
    /// Counters end in `_total`; times are seconds. Allocates.
    pub fn prometheus(&self) -> String {
        let mut text = Text(String::with_capacity(8192));
        self.write_requests(&mut text);
        text.metric("batch_images", "histogram", "Images in a computed batch.");
        text.lengths(&self.batch_lens);
        text.metric(
            "latency_seconds",
            "histogram",
            "From a request's admission to its result, of completed requests.",
        );
        text.latencies(&self.latency);
        text.metric("transferred_bytes_total", "counter", "Bytes of images and results copied.");
        text.sample("transferred_bytes_total", "stage=\"upload\"", self.uploaded_bytes);
        text.sample("transferred_bytes_total", "stage=\"download\"", self.downloaded_bytes);
        text.metric("stage_starts_total", "counter", "Stages started, by what made them start.");
        for (stage, name) in STAGES {
            for (reason, count) in Reason::ALL.into_iter().zip(self.started.of(stage)) {
                let labels = format!("stage=\"{name}\",reason=\"{}\"", reason.name());
                text.sample("stage_starts_total", &labels, count);
            }
        }
        type Part = fn(&Line) -> f64;
        let parts: [(&str, &str, Part); 2] = [
            ("stage_fixed_seconds", "Fitted time of a batch of any length.", |line| line.fixed_ns),
            ("stage_image_seconds", "Fitted time of one image more.", |line| line.per_image_ns),
        ];
        for (metric, help, part) in parts {
            text.metric(metric, "gauge", help);
            for (stage, name) in STAGES {
                let seconds = part(self.fits.of(stage)) / 1e9;
                text.sample(metric, &format!("stage=\"{name}\""), seconds);
            }
        }
        text.0
    }

    fn write_requests(&self, text: &mut Text) {
        text.metric("requests_accepted_total", "counter", "Requests that were handed over.");
        text.sample("requests_accepted_total", "", self.accepted);
        text.metric("requests_ended_total", "counter", "Requests answered, by how they ended.");
        for (outcome, count) in [
            ("completed", self.completed),
            ("rejected", self.rejected),
            ("expired", self.expired),
            ("cancelled", self.cancelled),
            ("failed", self.failed),
            ("device_lost", self.device_lost),
            ("shut_down", self.shut_down),
        ] {
            text.sample("requests_ended_total", &format!("outcome=\"{outcome}\""), count);
        }
        text.metric("requests_alive", "gauge", "Requests accepted and not ended.");
        text.sample("requests_alive", "", self.alive_len);
        text.metric("requests_waiting", "gauge", "Requests that wait for their upload.");
        text.sample("requests_waiting", "", self.waiting_len);
        text.metric("arrivals_per_second", "gauge", "Estimated arrival rate.");
        text.sample("arrivals_per_second", "", self.arrival_rate_hz);
    }
}

struct Text(String);

impl Text {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP twinstream_{name} {help}");
        let _ = writeln!(self.0, "# TYPE twinstream_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "twinstream_{name} {value}"),
            _ => writeln!(self.0, "twinstream_{name}{{{labels}}} {value}"),
        };
    }

    fn lengths(&mut self, histogram: &LengthHistogram) {
        let mut up_to_len = 0;
        for (length, count) in histogram.buckets() {
            up_to_len += count;
            self.sample("batch_images_bucket", &format!("le=\"{length}\""), up_to_len);
        }
        self.sample("batch_images_bucket", "le=\"+Inf\"", histogram.len());
        self.sample("batch_images_sum", "", histogram.image_len());
        self.sample("batch_images_count", "", histogram.len());
    }

    fn latencies(&mut self, histogram: &LatencyHistogram) {
        for power in LATENCY_POWERS {
            for bound_ns in [1 << power, 3 << (power - 1)] {
                // Whole nanoseconds: what is below the bound and what is at most the bound differ
                // by a nanosecond.
                let labels = format!("le=\"{}\"", bound_ns as f64 / 1e9);
                self.sample("latency_seconds_bucket", &labels, histogram.below_len(bound_ns));
            }
        }
        self.sample("latency_seconds_bucket", "le=\"+Inf\"", histogram.len());
        self.sample("latency_seconds_sum", "", histogram.sum_ns() as f64 / 1e9);
        self.sample("latency_seconds_count", "", histogram.len());
    }
}
