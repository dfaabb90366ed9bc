//! What those cost who are still to come: the part of a decision's price that is not on the queue.
//!
//! If all who are here are done at E from now, those to come pay `λ·(E − c/2)²/(2·(1 − ρ))`: the
//! queue that E leaves behind, λE long, drains at the spare share of the device; c/2 is the longest
//! wait that costs nobody anything. Silence after a clump of arrivals is believed as far as the
//! gaps between the latest arrivals tell.

use super::{View, compute_ns};
use crate::sched::gaps::{GAPS_MIN, LONGER_MIN};
use crate::sched::line::Stage;

/// Share of the device taken to be spare at least: at full load nothing but throughput would count.
pub(super) const SPARE_MIN: f64 = 0.05;

/// Arrivals to come, as far as one moment can tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forecast {
    /// Arrivals a nanosecond in the long run.
    pub(super) per_ns: f64,
    /// Share of the device that they leave.
    pub(super) spare: f64,
    half_fixed_ns: f64,
    /// What a squared nanosecond of a device that is taken costs.
    weight: f64,
}

impl Forecast {
    pub(super) fn new(view: &View<'_>) -> Self {
        let line = view.cost.line(Stage::Compute);
        let per_ns = view.steady_arrivals_per_ns.unwrap_or(view.arrivals_per_ns);
        let image_ns = line.per_image_ns * view.cost.overrun(Stage::Compute);
        let spare = (1.0 - per_ns * image_ns).max(SPARE_MIN);
        // The queue that a device leaves behind drains in batches like the present one.
        let here_len = view.waiting_len + view.uploading_len + view.resident_len;
        let here_len = here_len.clamp(1, view.batch_len_max);
        let image_ns = compute_ns(view, here_len) / here_len as f64;
        let weight = 0.5 * per_ns * soon(view) / (1.0 - per_ns * image_ns).max(SPARE_MIN);
        Self { per_ns, spare, half_fixed_ns: 0.5 * line.fixed_ns, weight }
    }

    /// What those to come pay, in nanoseconds of latency, if the device is taken for `end_ns`.
    pub(super) fn cost_ns(&self, end_ns: f64) -> f64 {
        let late_ns = (end_ns - self.half_fixed_ns).max(0.0);
        self.weight * late_ns * late_ns
    }
}

/// Arrivals in the next two batches over those that the rate alone would foretell, at most 1: what
/// of them a batch that ends meanwhile would have to wait for.
fn soon(view: &View<'_>) -> f64 {
    let gaps = view.gaps;
    if gaps.len() < GAPS_MIN {
        return 1.0;
    }
    let here_len = view.waiting_len + view.uploading_len + view.resident_len;
    let end_ns = 2.0 * compute_ns(view, here_len.min(view.batch_len_max));
    let age_ns = gaps.age_ns(view.now_ns);
    let mean_ns = gaps.mean_ns();
    let (mut longer, mut first_ns, mut rest_ns, mut squares) = (0.0, 0.0, 0.0, 0.0);
    for some in gaps.iter() {
        squares += some.len * some.mean_ns * some.mean_ns;
        if some.mean_ns <= age_ns {
            continue;
        }
        longer += some.len;
        let left_ns = (end_ns - (some.mean_ns - age_ns)).max(0.0);
        first_ns += some.len * left_ns;
        rest_ns += some.len * left_ns * left_ns;
    }
    if longer < LONGER_MIN {
        return 1.0;
    }
    // A renewal process: the first arrival ends the present gap, others follow it at the long-run
    // rate, more of them at once the more the gaps differ.
    let clump = 0.5 * squares / (gaps.len() as f64 * mean_ns * mean_ns);
    let expected = (clump * first_ns + 0.5 * rest_ns / mean_ns) / longer;
    (expected / (0.5 * end_ns * end_ns / mean_ns)).min(1.0)
}
