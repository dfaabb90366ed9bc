//! Clients that wait for their answers and think for the same time: whom to answer together.
//!
//! Those who are answered together come back together, and stay so: n clients in one batch pay
//! T(n) each round, where batches of b that follow one another pay T(b), as long as the device is
//! done with all n/b of them by the time that the first come back. Beyond, each round takes as long
//! as they do.

use super::{View, compute_ns};

/// A shorter batch must gain so much: those who come back are a little late, too.
const GAIN: f64 = 0.98;

/// The longest batch to make of `available_len` images, where arrivals follow answers.
pub(super) fn group_len(view: &View<'_>, available_len: usize) -> usize {
    let Some(think_ns) = view.echo.think_ns() else { return available_len };
    let due_len: usize = view.echo.due().map(|due| due.len).sum();
    let client_len = (due_len + view.unanswered_len).max(available_len) as f64;
    let round_ns = |len: usize| {
        let batch_ns = compute_ns(view, len);
        let all_ns = client_len / len as f64 * batch_ns;
        batch_ns.max(all_ns - think_ns as f64)
    };
    let mut best_len = available_len;
    let mut best_ns = GAIN * round_ns(available_len);
    // Two an octave: 1, 2, 3, 4, 6, 8, 12, …
    let mut len = 1;
    while len < available_len {
        let ns = round_ns(len);
        if ns < best_ns {
            (best_len, best_ns) = (len, ns);
        }
        len += if len.is_power_of_two() { (len / 2).max(1) } else { len / 3 };
    }
    best_len
}
