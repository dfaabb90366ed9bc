//! A batch of at most so many images, or whatever is there after a delay.
//!
//! The dynamic batcher of Triton, TensorFlow Serving, TorchServe, Ray Serve and KServe. A length
//! that is preferred (Triton's `preferred_batch_size`) goes as soon as it can be made, the longest
//! first; once the delay is over everything goes. Requests that have waited for longer than a
//! timeout are dropped (Triton's `default_timeout_microseconds` with the action `REJECT`). Without
//! prefetch the stages of a batch run one after the other; with eager prefetch the next batch is
//! uploaded as soon as it is formed, while the last one computes.

use super::{BatchLens, Decision, Policy, Reason, View};

/// See the module.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) batch_len: usize,
    pub(super) delay_ns: u64,
    pub(super) preferred: BatchLens,
    pub(super) timeout_ns: u64,
    pub(super) is_eager: bool,
}

impl Policy for Fixed {
    fn upload(&self, view: &View<'_>) -> Decision {
        let timeout_ns = match self.timeout_ns {
            0 => u64::MAX,
            timeout_ns => view.oldest_arrival_ns.saturating_add(timeout_ns),
        };
        if view.now_ns > timeout_ns {
            return Decision::Drop;
        }
        let is_free = if self.is_eager { view.resident_len == 0 } else { view.is_idle() };
        if !is_free {
            return Decision::HOLD;
        }
        let batch_len_max = self.batch_len.min(view.batch_len_max);
        let batch_len = view.waiting_len.min(batch_len_max);
        let due_ns = view.oldest_arrival_ns.saturating_add(self.delay_ns);
        let is_late = self.delay_ns > 0 && view.now_ns >= due_ns;
        if !is_late && let Some(preferred_len) = self.preferred.longest_within(batch_len) {
            Decision::go(preferred_len, Reason::Full)
        } else if batch_len == batch_len_max {
            Decision::go(batch_len, Reason::Full)
        } else if view.is_draining {
            Decision::go(batch_len, Reason::Flush)
        } else if self.delay_ns == 0 {
            Decision::go(batch_len, Reason::Idle)
        } else if is_late {
            Decision::go(batch_len, Reason::Deadline)
        } else {
            Decision::until(due_ns.min(timeout_ns.saturating_add(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::policy::tests::upload_answer;

    fn answer(words: &str, waiting_len: usize, is_draining: bool) -> Decision {
        upload_answer(words, waiting_len, |view| view.is_draining = is_draining)
    }

    #[test]
    fn what_waits_for_longer_than_the_timeout_is_dropped() {
        // 100 ns after its arrival it is not late yet.
        assert_eq!(answer("fixed:len=4,timeout=100ns", 4, false), Decision::go(4, Reason::Full));
        assert_eq!(answer("fixed:len=4,timeout=99ns", 4, false), Decision::Drop);
        assert_eq!(answer("fixed:len=4,timeout=150ns", 1, false), Decision::until(1_151));
        assert_eq!(answer("fixed:len=4,delay=120ns,timeout=1us", 1, false), Decision::until(1_120));
    }

    #[test]
    fn a_preferred_length_goes_at_once_and_everything_after_the_delay() {
        let full = |len| Decision::go(len, Reason::Full);
        let early = "fixed:len=12,delay=200ns,preferred=4/8";
        for (waiting_len, expected) in [
            (3, Decision::until(1_200)),
            (4, full(4)),
            (7, full(4)),
            (8, full(8)),
            // Longer than any preferred length, but these can be made.
            (30, full(8)),
        ] {
            assert_eq!(answer(early, waiting_len, false), expected, "{waiting_len} wait");
        }
        let late = "fixed:len=12,delay=100ns,preferred=4/8";
        assert_eq!(answer(late, 3, false), Decision::go(3, Reason::Deadline));
        assert_eq!(answer(late, 7, false), Decision::go(7, Reason::Deadline));
        assert_eq!(answer(late, 30, false), full(12));
        let undelayed = "fixed:len=12,delay=0s,preferred=4/8";
        assert_eq!(answer(undelayed, 3, false), Decision::go(3, Reason::Idle));
        assert_eq!(answer(undelayed, 7, false), full(4));
        assert_eq!(answer(early, 3, true), Decision::go(3, Reason::Flush));
        // What the device cannot take is not waited for.
        assert_eq!(answer("fixed:len=max,delay=1s,preferred=128", 70, false), full(64));
    }
}
