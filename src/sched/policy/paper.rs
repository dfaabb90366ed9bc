//! The paper's asynchronous policy: two streams, the batch length chosen from the arrival rate.
//!
//! Balance of filling time and compute time gives `b = (c_calc − c_up)·λ / (1 − (k_calc − k_up)·λ)`
//! (section III of doi 10.1109/IPDPSW.2019.00083), or `b = (L − 2·c_calc) / (2·k_calc)` as the most
//! that a latency bound L allows. The batch is uploaded at once when it is full, just in time when
//! it is not. The published bound on the rate, `1/(k_calc − k_up)`, exceeds what the compute engine
//! can do, `1/k_calc`, because the balance counts no arrivals during the upload: beyond `1/k_calc`
//! the longest batch allowed is used here.

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
    let upload = view.cost.line(Stage::Upload);
    let rate = view.arrivals_per_ns;
    let balance = 1.0 - (compute.per_image_ns - upload.per_image_ns) * rate;
    let spare = 1.0 - compute.per_image_ns * rate;
    let mut wanted = view.batch_len_max as f64;
    if balance > 0.0 && spare > 0.0 {
        let balanced = (compute.fixed_ns - upload.fixed_ns) * rate / balance;
        wanted = wanted.min(balanced.max(compute.fixed_ns * rate / spare));
    }
    if let Some(bound_ns) = view.latency_bound_ns {
        let most = (bound_ns as f64 - 2.0 * compute.fixed_ns) / (2.0 * compute.per_image_ns);
        wanted = wanted.min(most);
    }
    // Rounded up: a batch shorter than the balance would leave the compute engine idle.
    (wanted.ceil() as usize).clamp(1, view.batch_len_max)
}
