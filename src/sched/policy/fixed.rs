//! A batch of at most so many images, or whatever is there after a delay.
//!
//! The dynamic batcher of Triton, TensorFlow Serving, TorchServe, Ray Serve and KServe. Without
//! prefetch the stages of a batch run one after the other; with eager prefetch the next batch is
//! uploaded as soon as it is formed, while the last one computes.

use super::{Decision, Policy, Reason, View};

/// See the module.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) batch_len: usize,
    pub(super) delay_ns: u64,
    pub(super) is_eager: bool,
}

impl Policy for Fixed {
    fn upload(&self, view: &View<'_>) -> Decision {
        let is_free = if self.is_eager { view.resident_len == 0 } else { view.is_idle() };
        if !is_free {
            return Decision::HOLD;
        }
        let batch_len_max = self.batch_len.min(view.batch_len_max);
        if view.waiting_len >= batch_len_max {
            return Decision::go(batch_len_max, Reason::Full);
        }
        let due_ns = view.oldest_arrival_ns.saturating_add(self.delay_ns);
        if view.is_draining {
            Decision::go(view.waiting_len, Reason::Flush)
        } else if self.delay_ns == 0 {
            Decision::go(view.waiting_len, Reason::Idle)
        } else if view.now_ns >= due_ns {
            Decision::go(view.waiting_len, Reason::Deadline)
        } else {
            Decision::until(due_ns)
        }
    }
}
