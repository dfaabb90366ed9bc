//! The default: images go up as they arrive, the batch closes when the compute engine is free.
//!
//! While a batch computes, what waits goes up once the first of it has waited as long as the batch
//! still has to run: a batch that ends early finds most of the next one on the device, and there
//! are only a few uploads, closer and closer to the end, whatever the rate. The last one ends just
//! in time. When the engine is free it takes everything in device memory, less if stairs in the
//! stage's cost or a burst's backlog make a shorter batch cheaper, and waits for an upload in
//! flight only if that costs less than leaving it behind.

use super::{Decision, Policy, Reason, View};
use crate::sched::line::Stage;

/// From so many uploads before the end on, what arrives goes up at once: the less is left for the
/// last upload, the later it can start.
const NEAR_UPLOADS: u64 = 3;

/// Longest batches that may lie ready on the device: with one alone, an urgent request would stay
/// behind those that wait there.
const BATCHES_AHEAD: usize = 2;
/// Stairs, from tiles and graph sizes, are multiples of this many images; shorter ones are of any
/// length.
const STAIR: usize = 8;
/// A batch is cut only if that looks this much better: predictions are no more certain than that.
const WORTH_CUTTING: f64 = 0.97;
/// Share of the device taken to be spare at least: at full load nothing but throughput would count.
const SPARE_MIN: f64 = 0.05;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream;

impl Policy for Stream {
    fn closes_at(&self) -> Stage {
        Stage::Compute
    }

    fn upload(&self, view: &View<'_>) -> Decision {
        let room_len = (BATCHES_AHEAD * view.batch_len_max).saturating_sub(view.resident_len);
        if room_len == 0 {
            return Decision::HOLD;
        }
        let room_len = room_len.min(view.batch_len_max);
        let chunk_len = view.waiting_len.min(room_len);
        if view.computing_len == 0 {
            let batch_len = batch_len(view, chunk_len);
            return Decision::go(first_chunk_len(view, batch_len), Reason::Idle);
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
        let batch_len = batch_len(view, view.resident_len);
        let is_full = batch_len < view.resident_len || batch_len == view.batch_len_max;
        let reason = if is_full { Reason::Full } else { Reason::Idle };
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

/// How many of `available_len` images to compute in one batch: the b with the least
/// `T(b)·(w/b + ½)`, w = s / (1 − ρ) for s requests in the system and a load ρ.
///
/// `T(b)/b` is the device's time for an image, which delays all who wait and, at load ρ, those who
/// come meanwhile; `T(b)/2` is the time that the images of a batch wait for each other. Where
/// stages are lines and the load is steady nothing beats taking everything; a backlog that a burst
/// leaves behind is cut up, near `b = sqrt(2·w·c/k)`, and a batch ends at the edge of a stair.
fn batch_len(view: &View<'_>, available_len: usize) -> usize {
    let available_len = available_len.min(view.batch_len_max);
    let compute = view.cost.line(Stage::Compute);
    let image_ns = compute.per_image_ns * view.cost.overrun(Stage::Compute);
    let load = view.steady_arrivals_per_ns.unwrap_or(f64::INFINITY) * image_ns;
    let all_len = view.resident_len + view.uploading_len + view.waiting_len;
    let weight = all_len as f64 / (1.0 - load).max(SPARE_MIN);
    let cost = |batch_len: usize| {
        let compute_ns = view.cost.predict_ns(Stage::Compute, batch_len) as f64;
        compute_ns * (weight / batch_len as f64 + 0.5)
    };
    let mut best_len = available_len;
    let mut best = cost(available_len) * WORTH_CUTTING;
    let mut consider = |batch_len: usize| {
        let cost = cost(batch_len);
        if cost < best {
            (best_len, best) = (batch_len, cost);
        }
    };
    let longest = (2.0 * weight * compute.fixed_ns / compute.per_image_ns.max(1.0)).sqrt() as usize;
    if longest < available_len {
        consider(longest.max(1));
    }
    // Stairs at most double from one to the next: the edge below lies in the upper half.
    let mut edge_len = stair_below(available_len);
    while edge_len > 0 && edge_len >= available_len / 2 {
        consider(edge_len);
        edge_len = stair_below(edge_len);
    }
    best_len
}

/// The longest batch below this length that may end a stair.
fn stair_below(batch_len: usize) -> usize {
    let below_len = batch_len.saturating_sub(1);
    if below_len <= STAIR { below_len } else { below_len / STAIR * STAIR }
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
