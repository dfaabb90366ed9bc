//! Clipper's rule: the batch limit grows by a constant until a batch misses the latency bound, then
//! shrinks by a tenth. Stages run one after the other; a batch goes when the device is idle.

use super::{Decision, FinishedBatch, Policy, Reason, View};

const DECREASE: f64 = 0.9;

/// See the module.
#[derive(Debug)]
pub(super) struct AdditiveIncrease {
    increase: usize,
    bound_ns: u64,
    limit: f64,
}

impl AdditiveIncrease {
    pub(super) fn new(increase: usize, bound_ns: u64) -> Self {
        Self { increase, bound_ns, limit: 1.0 }
    }
}

impl Policy for AdditiveIncrease {
    fn upload(&self, view: &View<'_>) -> Decision {
        if !view.is_idle() {
            return Decision::HOLD;
        }
        let limit_len = (self.limit as usize).min(view.batch_len_max);
        if view.waiting_len >= limit_len {
            return Decision::go(limit_len, Reason::Full);
        }
        Decision::go(view.waiting_len, Reason::Idle)
    }

    fn finished(&mut self, batch: &FinishedBatch) {
        let batch_ns = batch.finished_ns - batch.upload_started_ns;
        if batch_ns > self.bound_ns {
            self.limit = (self.limit * DECREASE).max(1.0);
        } else if batch.batch_len >= self.limit as usize {
            // Only a full batch shows that there is room for more.
            self.limit += self.increase as f64;
        }
    }
}
