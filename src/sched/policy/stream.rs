//! The default: images go up as they arrive, the batch closes when the compute engine is free.
//!
//! While a batch computes, what waits goes up once the first of it has waited as long as the batch
//! still has to run: a batch that ends early finds most of the next one on the device, and there
//! are only a few uploads, closer and closer to the end, whatever the rate. The last one ends just
//! in time. When the engine is free it takes everything in device memory, and waits for an upload
//! in flight only if that costs less than leaving it behind.

use super::{Decision, Policy, Reason, View};
use crate::sched::line::Stage;

/// From so many uploads before the end on, what arrives goes up at once: the less is left for the
/// last upload, the later it can start.
const NEAR_UPLOADS: u64 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream;

impl Policy for Stream {
    fn closes_at(&self) -> Stage {
        Stage::Compute
    }

    fn upload(&self, view: &View<'_>) -> Decision {
        let room_len = view.batch_len_max.saturating_sub(view.resident_len);
        if room_len == 0 {
            return Decision::HOLD;
        }
        let chunk_len = view.waiting_len.min(room_len);
        if view.computing_len == 0 {
            let chunk_len = chunk_len.min(longest_len(view));
            return Decision::go(first_chunk_len(view, chunk_len), Reason::Idle);
        }
        if chunk_len == room_len {
            return Decision::go(chunk_len, Reason::Full);
        }
        let upload_ns = view.cost.predict_ns(Stage::Upload, chunk_len);
        let rest_len = (view.arrivals_per_ns * upload_ns as f64).ceil().max(1.0) as usize;
        let rest_ns = view.cost.predict_ns(Stage::Upload, rest_len.min(room_len));
        let both_ns = upload_ns + rest_ns;
        if view.now_ns + both_ns > view.compute_free_ns {
            return super::jit::latest_start(view, chunk_len);
        }
        let halfway_ns = view.oldest_arrival_ns.midpoint(view.compute_free_ns);
        let near_ns = view.compute_free_ns.saturating_sub(NEAR_UPLOADS * both_ns);
        let due_ns = halfway_ns.min(near_ns);
        if view.now_ns >= due_ns {
            return Decision::go(chunk_len, Reason::Ahead);
        }
        Decision::until(due_ns)
    }

    fn compute(&self, view: &View<'_>) -> Decision {
        let longest_len = longest_len(view);
        let batch_len = view.resident_len.min(longest_len);
        let reason = if batch_len == longest_len { Reason::Full } else { Reason::Idle };
        if view.uploading_len == 0 || reason == Reason::Full {
            return Decision::go(batch_len, reason);
        }
        // Waiting delays all of them by the rest of the upload; going leaves those in the upload
        // behind for the whole batch. An upload that is late is given half as long again.
        let batch_ns = view.cost.predict_ns(Stage::Compute, batch_len);
        let all_len = view.resident_len + view.uploading_len;
        let worth_ns = batch_ns * view.uploading_len as u64 / all_len as u64;
        let late_ns = view.upload_free_ns + worth_ns / 2;
        if view.upload_free_ns > view.now_ns + worth_ns || view.now_ns >= late_ns {
            return Decision::go(batch_len, reason);
        }
        Decision::until(late_ns)
    }
}

/// Longest batch worth its while when s requests wait: `sqrt(2·c·s / (k·(1 − ρ)))`.
///
/// Per image served, a batch of b costs `c·s / ((1 − ρ)·b)`, the fixed cost that delays all who wait
/// and, at load ρ, those who come meanwhile, and `k·b/2`, the time that its images wait for each
/// other. At a steady load less waits than this allows and a batch takes everything; it cuts up the
/// backlog that a burst leaves behind.
fn longest_len(view: &View<'_>) -> usize {
    let compute = view.cost.line(Stage::Compute);
    let Some(rate) = view.steady_arrivals_per_ns else {
        return view.batch_len_max;
    };
    let spare_ns = compute.per_image_ns * (1.0 - rate * compute.per_image_ns);
    let all_len = view.resident_len + view.uploading_len + view.waiting_len;
    if spare_ns <= 0.0 {
        return view.batch_len_max;
    }
    let longest = (2.0 * compute.fixed_ns * all_len as f64 / spare_ns).sqrt();
    (longest.ceil() as usize).clamp(1, view.batch_len_max)
}

/// Images to upload first when nothing computes: all, or half of them if uploading the other half
/// behind the first one's computing saves more than a second batch costs.
fn first_chunk_len(view: &View<'_>, chunk_len: usize) -> usize {
    let [upload, compute, download] =
        [Stage::Upload, Stage::Compute, Stage::Download].map(|stage| view.cost.line(stage));
    let saved_ns = (upload.per_image_ns + download.per_image_ns) * chunk_len as f64;
    let second_ns = compute.fixed_ns - upload.fixed_ns - download.fixed_ns;
    if saved_ns > second_ns { chunk_len.div_ceil(2) } else { chunk_len }
}
