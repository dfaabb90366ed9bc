//! Whether an idle device waits: a batch that has just started keeps the next arrivals waiting
//! until it ends, and where the gaps between the latest arrivals say that more are due, going later
//! with them is shorter for all.

use super::forecast::Forecast;
use super::{MARGIN, View, compute_ns};
use crate::sched::echo::Return;
use crate::sched::gaps::GAPS_MIN;
use crate::sched::line::Stage;

/// What is due may be so much late.
const LATE: f64 = 1.1;

/// Those who may come if the device waits.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// How likely they come.
    likely: f64,
    /// How many.
    len: f64,
    /// When the last of them is there, in nanoseconds from now.
    last_ns: f64,
    /// When to give up.
    late_ns: f64,
}

/// What an idle device that has `here_len` images weighs.
struct Scale<'a> {
    view: &'a View<'a>,
    here_len: usize,
    /// Time of a batch of them.
    batch_ns: f64,
    /// Others who come, a nanosecond, …
    others_per_ns: f64,
    /// … but none before then.
    quiet_ns: f64,
    /// Gain of the best wait so far, and how long it is.
    most_ns: f64,
    until_ns: Option<u64>,
}

impl<'a> Scale<'a> {
    /// None where nothing is worth waiting for.
    fn new(view: &'a View<'a>, forecast: &Forecast, here_len: usize) -> Option<Self> {
        if view.is_draining || here_len >= view.batch_len_max {
            return None;
        }
        let batch_ns = time_ns(view, here_len as f64);
        let most_ns = MARGIN * here_len as f64 * batch_ns;
        let others_per_ns = forecast.per_ns;
        let (quiet_ns, until_ns) = (0.0, None);
        Some(Self { view, here_len, batch_ns, others_per_ns, quiet_ns, most_ns, until_ns })
    }

    /// Puts a wait on the scale; false if it could make somebody late, as longer ones would.
    fn weigh(&mut self, wait: Wait) -> bool {
        let Self { view, batch_ns, .. } = *self;
        let here = self.here_len as f64;
        let Wait { likely, len: more, last_ns, late_ns } = wait;
        let others = self.others_per_ns * (batch_ns - last_ns - self.quiet_ns).max(0.0);
        // Going now, they are the next batch; waiting, all are one, and the others the next.
        let go_ns = batch_ns.max(last_ns) + time_ns(view, more + others);
        let hold_ns = last_ns + time_ns(view, here + more);
        let gain_ns = here * (batch_ns - hold_ns)
            + more * (go_ns - hold_ns)
            + others * (go_ns - hold_ns - time_ns(view, others));
        if is_too_late(view, late_ns as u64, self.here_len + more.ceil() as usize) {
            return false;
        }
        let loss_ns = late_ns * (here + self.others_per_ns * batch_ns);
        let net_ns = likely * gain_ns - (1.0 - likely) * loss_ns;
        if net_ns > self.most_ns {
            self.most_ns = net_ns;
            self.until_ns = Some(view.now_ns + late_ns as u64 + 1);
        }
        true
    }
}

/// Until when an idle device should wait rather than start with the `here_len` images that there
/// are.
pub(super) fn hold_until_ns(view: &View<'_>, forecast: &Forecast, here_len: usize) -> Option<u64> {
    let mut scale = Scale::new(view, forecast, here_len)?;
    weigh_gaps(&mut scale);
    scale.until_ns
}

/// Until when images that are ready should wait for others that are sure to come. What only seems
/// to be due is not waited for here: those who come too late for a batch would again and again be
/// left for the next.
pub(super) fn hold_ready_until_ns(
    view: &View<'_>,
    forecast: &Forecast,
    here_len: usize,
) -> Option<u64> {
    let mut scale = Scale::new(view, forecast, here_len)?;
    weigh_returns(&mut scale);
    weigh_announced(&mut scale);
    scale.until_ns
}

/// Clients that are about to send again: those who were answered, and those whose answers are on
/// their way.
fn weigh_returns(scale: &mut Scale<'_>) {
    let view = scale.view;
    let Some(think_ns) = view.echo.think_ns() else { return };
    let room_len = view.batch_len_max - scale.here_len;
    let download_ns = view.cost.predict_ns(Stage::Download, view.downloading_len);
    let last = Return { at_ns: view.now_ns + download_ns + think_ns, len: view.downloading_len };
    let mut len = 0;
    for due in view.echo.due().chain((view.downloading_len > 0).then_some(last)) {
        // Whoever is overdue may have left for good.
        if due.at_ns.saturating_add(view.echo.off_ns()) < view.now_ns {
            break;
        }
        len += due.len;
        let upload_ns = view.cost.predict_ns(Stage::Upload, due.len);
        let last_ns = (due.at_ns.saturating_sub(view.now_ns) + upload_ns) as f64;
        if last_ns > scale.batch_ns || len > room_len {
            break;
        }
        let late_ns = LATE * last_ns + view.echo.off_ns() as f64;
        let wait = Wait { likely: 1.0, len: len as f64, last_ns, late_ns };
        if !scale.weigh(wait) {
            break;
        }
    }
}

/// Requests that are announced.
fn weigh_announced(scale: &mut Scale<'_>) {
    let view = scale.view;
    let room_len = view.batch_len_max - scale.here_len;
    let (mut len, mut likely) = (0, 1.0_f64);
    for due in view.announcements.due(view.now_ns) {
        len += 1;
        likely = likely.min(due.likely);
        let last_ns = due.in_ns + view.cost.predict_ns(Stage::Upload, 1) as f64;
        if last_ns > scale.batch_ns || len > room_len {
            break;
        }
        let late_ns = LATE * last_ns + view.echo.off_ns() as f64;
        if !scale.weigh(Wait { likely, len: len as f64, last_ns, late_ns }) {
            break;
        }
    }
}

/// Arrivals that are due by the gaps between the latest ones.
fn weigh_gaps(scale: &mut Scale<'_>) {
    let view = scale.view;
    if view.gaps.len() < GAPS_MIN {
        return;
    }
    let Some(clusters) = view.gaps.clusters(view.now_ns) else { return };
    let age_ns = view.gaps.age_ns(view.now_ns);
    let room = (view.batch_len_max - scale.here_len) as f64;
    // Apart from those who are due, others come at the mean rate, but none before a pause is over.
    scale.quiet_ns =
        (clusters.pause_ns - 1.0 / scale.others_per_ns.max(f64::MIN_POSITIVE)).max(0.0);
    let (mut likely, mut wait_ns, mut len) = (0.0, 0.0, 0.0);
    for due in view.gaps.due(view.now_ns, clusters) {
        if due.gap_ns - age_ns > scale.batch_ns {
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
        let wait = Wait {
            likely,
            len: (len / likely).min(room),
            last_ns: wait_ns / likely,
            late_ns: LATE * due.gap_ns - age_ns,
        };
        if !scale.weigh(wait) {
            break;
        }
    }
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
