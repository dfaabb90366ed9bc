//! Deferred batches: one goes as late as its earliest deadline lets it grow.
//!
//! Symphony's rule for one device. A batch waits while one request more would still be in time with
//! it; when the device is busy for longer than that, it takes what will be in time. Where requests
//! have no deadlines, each counts as due a bound after its arrival, and early drop ends those that
//! would be late even alone: they would make the batch of those behind them shorter. Where requests
//! have deadlines, the scheduler drops what is in the way, whatever the policy.
//!
//! Source: L. Chen et al., "Symphony: Optimized DNN Model Serving using Deferred Batch Scheduling",
//! arXiv 2308.07470.

use super::{Decision, Policy, Reason, View};
use crate::sched::line::Stage;

/// See the module.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) batch_len: usize,
    pub(super) bound_ns: u64,
    pub(super) is_dropping: bool,
}

impl Policy for Deferred {
    fn upload(&self, view: &View<'_>) -> Decision {
        if view.resident_len > 0 {
            return Decision::HOLD;
        }
        let due_ns = view
            .earliest_deadline_ns
            .unwrap_or_else(|| view.oldest_arrival_ns.saturating_add(self.bound_ns));
        let batch_len_max = self.batch_len.min(view.batch_len_max);
        let batch_len = view.waiting_len.min(batch_len_max);
        let in_time_len = longest_by(view, due_ns, batch_len);
        if in_time_len == 0 && self.is_dropping && view.earliest_deadline_ns.is_none() {
            return Decision::Drop;
        }
        if in_time_len < batch_len {
            // Where none is in time, all are late and a long batch delays the others least.
            let len = if in_time_len == 0 { batch_len } else { in_time_len };
            return Decision::go(len, Reason::Deadline);
        }
        if batch_len == batch_len_max {
            return Decision::go(batch_len, Reason::Full);
        }
        if view.is_draining {
            return Decision::go(batch_len, Reason::Flush);
        }
        let one_more_ns = finish_ns(view, batch_len + 1) - view.now_ns;
        let latest_ns = due_ns.saturating_sub(one_more_ns);
        if view.now_ns >= latest_ns {
            return Decision::go(batch_len, Reason::Deadline);
        }
        Decision::until(latest_ns)
    }
}

/// When a batch that goes now has been downloaded.
fn finish_ns(view: &View<'_>, batch_len: usize) -> u64 {
    let time_ns = |stage| view.cost.predict_ns(stage, batch_len);
    let uploaded_ns = view.now_ns.saturating_add(time_ns(Stage::Upload));
    let start_ns = uploaded_ns.max(view.compute_free_ns);
    start_ns.saturating_add(time_ns(Stage::Compute)).saturating_add(time_ns(Stage::Download))
}

/// Longest batch up to `batch_len` that goes now and is done by `due_ns`; 0 if none is.
fn longest_by(view: &View<'_>, due_ns: u64, batch_len: usize) -> usize {
    if finish_ns(view, batch_len) <= due_ns {
        return batch_len;
    }
    let (mut low, mut high) = (0, batch_len);
    while high - low > 1 {
        let middle = low.midpoint(high);
        let is_in_time = finish_ns(view, middle) <= due_ns;
        *(if is_in_time { &mut low } else { &mut high }) = middle;
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::policy::tests::upload_answer;

    /// What is answered while the device computes until `free_ns`.
    fn answer(words: &str, waiting_len: usize, deadline_ns: Option<u64>, free_ns: u64) -> Decision {
        upload_answer(words, waiting_len, |view| {
            view.earliest_deadline_ns = deadline_ns;
            view.compute_free_ns = free_ns;
            view.computing_len = usize::from(free_ns > view.now_ns);
            view.batches_in_flight_len = view.computing_len;
        })
    }

    #[test]
    fn a_batch_waits_while_one_more_would_be_in_time() {
        let late = |len| Decision::go(len, Reason::Deadline);
        // Five take 45 ns: they have to go at 1,155 to be done by 1,200.
        assert_eq!(answer("deferred:bound=200ns", 4, None, 1_100), Decision::until(1_155));
        assert_eq!(answer("deferred:bound=145ns", 4, None, 1_100), late(4));
        // Four take 42 ns and three 39: of deadlines, the bound is none.
        assert_eq!(answer("deferred:bound=1s", 4, Some(1_141), 1_100), late(3));
        // The device is busy: compute and download of four end at 1,208, of three at 1,206.
        assert_eq!(answer("deferred:bound=207ns", 4, None, 1_180), late(3));
        assert_eq!(
            answer("deferred:len=4,bound=1s", 9, None, 1_100),
            Decision::go(4, Reason::Full)
        );
    }

    #[test]
    fn what_would_be_late_even_alone_is_dropped_or_goes_with_all() {
        // One takes 33 ns.
        for (bound, is_late) in [("132ns", true), ("133ns", false)] {
            let all = Decision::go(if is_late { 9 } else { 1 }, Reason::Deadline);
            assert_eq!(answer(&format!("deferred:bound={bound}"), 9, None, 1_100), all);
            let dropped = if is_late { Decision::Drop } else { all };
            assert_eq!(answer(&format!("deferred-drop:bound={bound}"), 9, None, 1_100), dropped);
        }
        // Those with deadlines are the scheduler's to drop.
        let late = Decision::go(9, Reason::Deadline);
        assert_eq!(answer("deferred-drop", 9, Some(1_120), 1_100), late);
    }
}
