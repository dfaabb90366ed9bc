//! The paper's asynchronous policy: two streams, the batch length chosen from the arrival rate.
//!
//! Section III of doi 10.1109/IPDPSW.2019.00083 balances filling time and compute time:
//! `b = (c_calc − c_up)·λ / (1 − (k_calc − k_up)·λ)`. That counts no arrivals during the upload, so
//! its batches are computed faster than they fill, and its bound on the rate, `1/(k_calc − k_up)`,
//! exceeds what the compute engine can do, `1/k_calc`. Computed here is
//! `b = c_calc·λ / (1 − k_calc·λ)`, which is never shorter: the batch whose computing takes as long
//! as the next one's arrival. It is rounded up; beyond `1/k_calc` it is the longest batch allowed;
//! a latency bound L allows `b = (L − 2·c_calc) / (2·k_calc)` at most, as in the paper. A full
//! batch is uploaded at once, another one just in time; when nothing computes, what waits goes.

use super::jit::latest_start;
use super::{Decision, Policy, Reason, View};
use crate::sched::line::Stage;

/// See the module.
#[derive(Debug)]
pub(super) struct Paper;

impl Policy for Paper {
    fn upload(&self, view: &View<'_>) -> Decision {
        if view.resident_len > 0 {
            return Decision::HOLD;
        }
        let wanted_len = wanted_len(view);
        let batch_len = view.waiting_len.min(wanted_len);
        if view.computing_len == 0 {
            return Decision::go(batch_len, Reason::Idle);
        }
        if batch_len == wanted_len {
            return Decision::go(batch_len, Reason::Full);
        }
        latest_start(view, batch_len)
    }
}

fn wanted_len(view: &View<'_>) -> usize {
    let compute = view.cost.line(Stage::Compute);
    let rate = view.arrivals_per_ns;
    let spare = 1.0 - compute.per_image_ns * rate;
    let mut wanted = view.batch_len_max as f64;
    if spare > 0.0 {
        wanted = wanted.min(compute.fixed_ns * rate / spare);
    }
    if let Some(bound_ns) = view.latency_bound_ns {
        let most = (bound_ns as f64 - 2.0 * compute.fixed_ns) / (2.0 * compute.per_image_ns);
        wanted = wanted.min(most);
    }
    // Rounded up: a batch shorter than the balance would leave the compute engine idle.
    (wanted.ceil() as usize).clamp(1, view.batch_len_max)
}
