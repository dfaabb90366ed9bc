//! The default: every decision by what it adds to the latency of all.
//!
//! Images go up as they arrive and the batch closes when the compute engine is free. What is
//! decided is judged by one sum: the completion times of those who are here, and what those to come
//! pay for the device being taken so long (`forecast`). It says how many images to compute, whether
//! to wait for an upload in flight, how many images to upload first (`plan`), and whether a device
//! with nothing to do waits for arrivals that are due (`hold`).
//!
//! While a batch computes, what waits goes up once the first of it has waited as long as the batch
//! still has to run: a batch that ends early finds most of the next one on the device, and there
//! are only a few uploads, closer and closer to the end, whatever the rate. The last one ends just
//! in time.

mod fleet;
mod forecast;
mod groups;
mod hold;
mod plan;

use self::forecast::Forecast;
use self::groups::group_len;
use self::hold::{hold_ready_until_ns, hold_until_ns};
use self::plan::{Judge, Rest, Start};
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
/// Parts that the first chunk of an upload may be of all: equal ones, …
const EQUAL_PARTS: [usize; 7] = [2, 3, 4, 6, 8, 12, 16];
/// … or one behind which the rest follows at once.
const FIRST_PARTS: [(usize, usize); 3] = [(3, 4), (1, 2), (1, 4)];
/// Cutting an upload and waiting for arrivals must gain this share of the latency at stake:
/// predictions are no better.
const MARGIN: f64 = 0.02;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream;

impl Policy for Stream {
    fn closes_at(&self, lane_len: usize) -> Stage {
        if lane_len > 1 { Stage::Upload } else { Stage::Compute }
    }

    fn upload(&self, view: &View<'_>) -> Decision {
        if view.lanes.len() > 1 {
            return fleet::upload(view);
        }
        let room_len = (BATCHES_AHEAD * view.batch_len_max).saturating_sub(view.resident_len);
        if room_len == 0 {
            return Decision::HOLD;
        }
        let room_len = room_len.min(view.batch_len_max);
        let all_len = view.waiting_len.min(room_len);
        if view.computing_len == 0 {
            let forecast = Forecast::new(view);
            let all_len = group_len(view, all_len);
            if view.is_idle()
                && let Some(until_ns) = hold_until_ns(view, &forecast, all_len)
            {
                return Decision::until(until_ns);
            }
            return Decision::go(chunk_len(view, forecast, all_len), Reason::Idle);
        }
        let upload_ns = view.cost.predict_ns(Stage::Upload, all_len);
        if view.now_ns + upload_ns > view.compute_free_ns {
            let chunk_len = chunk_len(view, Forecast::new(view), all_len);
            if chunk_len < all_len {
                return Decision::go(chunk_len, Reason::JustInTime);
            }
        }
        if all_len == room_len {
            return Decision::go(all_len, Reason::Full);
        }
        let rest_len = (view.arrivals_per_ns * upload_ns as f64).ceil().max(1.0) as usize;
        let rest_ns = view.cost.predict_ns(Stage::Upload, rest_len.min(room_len));
        let both_ns = upload_ns + rest_ns;
        if view.now_ns + both_ns > view.compute_free_ns {
            return super::jit::latest_start(view, all_len);
        }
        let halfway_ns = view.oldest_arrival_ns.midpoint(view.compute_free_ns);
        let near_ns = view.compute_free_ns.saturating_sub(NEAR_UPLOADS * both_ns);
        let due_ns = halfway_ns.min(near_ns);
        if view.now_ns >= due_ns {
            return Decision::go(all_len, Reason::Ahead);
        }
        Decision::until(due_ns)
    }

    fn compute(&self, view: &View<'_>) -> Decision {
        let forecast = Forecast::new(view);
        let here_len = view.resident_len + view.uploading_len + view.waiting_len;
        let most_len = group_len(view, here_len.min(view.batch_len_max));
        let weight = here_len as f64 / forecast.spare;
        let batch_len = batch_len(view, weight, view.resident_len.min(most_len));
        let is_full = batch_len < view.resident_len
            || batch_len == view.batch_len_max
            || batch_len == most_len && most_len < here_len;
        let reason = if is_full { Reason::Full } else { Reason::Idle };
        if is_full {
            return Decision::go(batch_len, reason);
        }
        if view.uploading_len + view.waiting_len == 0 {
            return match hold_ready_until_ns(view, &forecast, batch_len) {
                Some(until_ns) => Decision::until(until_ns),
                None => Decision::go(batch_len, reason),
            };
        }
        // Waiting delays all of them by the rest of the upload, or by all of one that starts now;
        // going leaves those in the upload behind for the whole batch. An upload that is late is
        // given half the gain.
        let next_len = view.waiting_len.min(view.batch_len_max);
        let free_ns = view.upload_free_ns.saturating_sub(view.now_ns);
        let upload_ns = match view.uploading_len {
            0 => view.cost.predict_ns(Stage::Upload, next_len),
            _ => free_ns,
        };
        let judge = Judge::new(view, forecast);
        let latency_ns = |compute_ns: u64| {
            let start = Start {
                compute_ns: compute_ns as f64,
                upload_ns: free_ns as f64,
                resident_len: view.resident_len,
                uploading_len: view.uploading_len,
            };
            judge.latency_ns(start, next_len, Rest::AtOnce)
        };
        let gain_ns = latency_ns(0) - latency_ns(upload_ns);
        if gain_ns <= 0.0 {
            return Decision::go(batch_len, reason);
        }
        if view.uploading_len == 0 {
            return Decision::HOLD;
        }
        let each_ns = gain_ns / (view.resident_len + view.uploading_len) as f64;
        let late_ns = view.upload_free_ns + (each_ns / 2.0) as u64;
        if view.now_ns >= late_ns {
            return Decision::go(batch_len, reason);
        }
        Decision::until(late_ns)
    }
}

fn compute_ns(view: &View<'_>, batch_len: usize) -> f64 {
    view.cost.predict_ns(Stage::Compute, batch_len) as f64
}

/// How many of `available_len` images to compute in one batch: the b with the least
/// `T(b)·(w/b + ½)`, `weight` w = s / (1 − ρ) for s requests in the system and a load ρ.
///
/// `T(b)/b` is the device's time for an image, which delays all who wait and, at load ρ, those who
/// come meanwhile; `T(b)/2` is the time that the images of a batch wait for each other. It is what
/// the sum of latencies becomes where many wait. Where stages are lines and the load is steady
/// nothing beats taking everything; a backlog that a burst leaves behind is cut up, near
/// `b = sqrt(2·w·c/k)`, and a batch ends at the edge of a stair.
fn batch_len(view: &View<'_>, weight: f64, available_len: usize) -> usize {
    let available_len = available_len.min(view.batch_len_max);
    let line = view.cost.line(Stage::Compute);
    let price = |len: usize| compute_ns(view, len) * (weight / len as f64 + 0.5);
    let (mut best_len, mut best) = (available_len, price(available_len));
    let mut consider = |len: usize| {
        let price = price(len);
        if price < best {
            (best_len, best) = (len, price);
        }
    };
    let longest = (2.0 * weight * line.fixed_ns / line.per_image_ns.max(1.0)).sqrt() as usize;
    if longest < available_len {
        consider(longest.max(1));
        consider(longest + 1);
    }
    consider(1);
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

/// How many of `all_len` images to upload first: all, or as many as let computing begin while the
/// others go up, where that shortens the latency of all.
fn chunk_len(view: &View<'_>, forecast: Forecast, all_len: usize) -> usize {
    if all_len <= 1 {
        return all_len;
    }
    let judge = Judge::new(view, forecast);
    let start = Start {
        compute_ns: view.compute_free_ns.saturating_sub(view.now_ns) as f64,
        upload_ns: 0.0,
        resident_len: view.resident_len,
        uploading_len: 0,
    };
    let margin_ns = MARGIN * all_len as f64 * compute_ns(view, all_len);
    let mut best_len = all_len;
    let mut best_ns = judge.latency_ns(start, all_len, Rest::AtOnce) - margin_ns;
    let mut consider = |chunk_len: usize, rest: Rest| {
        if chunk_len == 0 {
            return;
        }
        let latency_ns = judge.latency_ns(start, chunk_len, rest);
        if latency_ns < best_ns {
            (best_len, best_ns) = (chunk_len, latency_ns);
        }
    };
    for parts in EQUAL_PARTS {
        consider(all_len / parts, Rest::InChunks);
    }
    for (part, whole) in FIRST_PARTS {
        consider(all_len * part / whole, Rest::AtOnce);
    }
    best_len
}
