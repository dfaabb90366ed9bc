//! Whether an idle device waits: a batch that has just started keeps the next arrivals waiting
//! until it ends, and where the gaps between the latest arrivals say that more are due, going later
//! with them is shorter for all.

use super::forecast::Forecast;
use super::{MARGIN, View, compute_ns};
use crate::sched::line::Stage;

/// So few gaps tell nothing of how arrivals follow each other.
const GAPS_MIN: usize = 32;
/// What is due may be so much late.
const LATE: f64 = 1.1;

/// Until when the device should wait rather than start with the `here_len` images that there are.
pub(super) fn hold_until_ns(view: &View<'_>, forecast: &Forecast, here_len: usize) -> Option<u64> {
    if view.gaps.len() < GAPS_MIN || view.is_draining || here_len >= view.batch_len_max {
        return None;
    }
    let clusters = view.gaps.clusters(view.now_ns)?;
    let age_ns = view.gaps.age_ns(view.now_ns);
    let here = here_len as f64;
    let room = (view.batch_len_max - here_len) as f64;
    let batch_ns = time_ns(view, here);
    // Apart from those who are due, others come at the mean rate, but none before a pause is over.
    let quiet_ns = clusters.pause_ns - 1.0 / forecast.per_ns.max(f64::MIN_POSITIVE);
    let (mut likely, mut wait_ns, mut len) = (0.0, 0.0, 0.0);
    let (mut most_ns, mut until_ns) = (MARGIN * here * batch_ns, None);
    for due in view.gaps.due(view.now_ns, clusters) {
        if due.gap_ns - age_ns > batch_ns {
            break;
        }
        if due.likely == 0.0 {
            continue;
        }
        // Whatever of this and the sooner comes, on average.
        let last_ns = due.gap_ns - age_ns + (due.len.min(room) - 1.0) * clusters.gap_ns;
        likely += due.likely;
        wait_ns += due.likely * last_ns;
        len += due.likely * due.len;
        let (more, last_ns) = ((len / likely).min(room), wait_ns / likely);
        let others = forecast.per_ns * (batch_ns - last_ns - quiet_ns.max(0.0)).max(0.0);
        // Going now, they are the next batch; waiting, all are one, and the others the next.
        let go_ns = batch_ns.max(last_ns) + time_ns(view, more + others);
        let hold_ns = last_ns + time_ns(view, here + more);
        let gain_ns = here * (batch_ns - hold_ns)
            + more * (go_ns - hold_ns)
            + others * (go_ns - hold_ns - time_ns(view, others));
        let late_ns = LATE * due.gap_ns - age_ns;
        if is_too_late(view, late_ns as u64, here_len + more.ceil() as usize) {
            break;
        }
        let loss_ns = late_ns * (here + forecast.per_ns * batch_ns);
        let net_ns = likely * gain_ns - (1.0 - likely) * loss_ns;
        if net_ns > most_ns {
            most_ns = net_ns;
            until_ns = Some(view.now_ns + late_ns as u64 + 1);
        }
    }
    until_ns
}

/// Whether a request that waits could miss its deadline if so many images went so much later.
fn is_too_late(view: &View<'_>, late_ns: u64, batch_len: usize) -> bool {
    let Some(deadline_ns) = view.earliest_deadline_ns else { return false };
    let upload_ns = view.cost.predict_high_ns(Stage::Upload, batch_len);
    let left_ns = deadline_ns.saturating_sub(view.now_ns + late_ns);
    upload_ns.saturating_add(view.cost.finish_high_ns(batch_len)) > left_ns
}

/// Time of a batch of so many images, also between two whole numbers.
fn time_ns(view: &View<'_>, len: f64) -> f64 {
    let whole = len as usize;
    if whole == 0 {
        let line = view.cost.line(Stage::Compute);
        return line.fixed_ns * len + line.per_image_ns * len;
    }
    let low_ns = compute_ns(view, whole.min(view.batch_len_max));
    let high_ns = compute_ns(view, (whole + 1).min(view.batch_len_max));
    low_ns + (len - whole as f64) * (high_ns - low_ns)
}
