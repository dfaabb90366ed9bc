//! BentoML's batching rule.
//!
//! Batch times of the last 50 batches give a least-squares line `t(b) = a·b + c`; a batch waits for
//! one more tick while `n·(w + dt + a) ≤ 0.95·avg_wait`: n requests wait, the last of them since w,
//! dt is the tick and avg_wait the mean wait of the batches before. Stages run one after the other.

use super::{Decision, FinishedBatch, Policy, Reason, View};

const BATCHES: usize = 50;
const DECAY: f64 = 0.95;

/// See the module.
#[derive(Debug)]
pub(super) struct Adaptive {
    batch_len_max: usize,
    tick_ns: u64,
    batches: [FinishedSample; BATCHES],
    len: usize,
    next: usize,
    per_image_ns: f64,
    wait_mean_ns: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct FinishedSample {
    batch_len: f64,
    time_ns: f64,
    wait_ns: f64,
}

impl Adaptive {
    pub(super) fn new(batch_len_max: usize, tick_ns: u64) -> Self {
        Self {
            batch_len_max,
            tick_ns,
            batches: [FinishedSample::default(); BATCHES],
            len: 0,
            next: 0,
            per_image_ns: 0.0,
            wait_mean_ns: 0.0,
        }
    }
}

impl Policy for Adaptive {
    fn upload(&self, view: &View<'_>) -> Decision {
        if !view.is_idle() {
            return Decision::HOLD;
        }
        let batch_len_max = view.batch_len_max.min(self.batch_len_max);
        let batch_len = view.waiting_len.min(batch_len_max);
        if batch_len == batch_len_max {
            return Decision::go(batch_len, Reason::Full);
        }
        if view.is_draining {
            return Decision::go(batch_len, Reason::Flush);
        }
        let wait_ns = (view.now_ns - view.latest_arrival_ns) as f64;
        let cost_ns = batch_len as f64 * (wait_ns + self.tick_ns as f64 + self.per_image_ns);
        if cost_ns <= DECAY * self.wait_mean_ns {
            return Decision::until(view.now_ns + self.tick_ns);
        }
        Decision::go(batch_len, Reason::Idle)
    }

    fn finished(&mut self, batch: &FinishedBatch) {
        self.batches[self.next] = FinishedSample {
            batch_len: batch.batch_len as f64,
            time_ns: (batch.finished_ns - batch.upload_started_ns) as f64,
            wait_ns: batch.wait_mean_ns as f64,
        };
        self.next = (self.next + 1) % BATCHES;
        self.len = (self.len + 1).min(BATCHES);
        let kept = &self.batches[..self.len];
        let mean =
            |of: fn(&FinishedSample) -> f64| kept.iter().map(of).sum::<f64>() / self.len as f64;
        let (batch_len, time_ns) = (mean(|kept| kept.batch_len), mean(|kept| kept.time_ns));
        let spread: f64 = kept.iter().map(|kept| (kept.batch_len - batch_len).powi(2)).sum();
        if spread > 0.0 {
            let covariance: f64 = kept
                .iter()
                .map(|kept| (kept.batch_len - batch_len) * (kept.time_ns - time_ns))
                .sum();
            self.per_image_ns = (covariance / spread).max(0.0);
        }
        self.wait_mean_ns = mean(|kept| kept.wait_ns);
    }
}
