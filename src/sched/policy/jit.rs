//! Just in time: the next batch is uploaded so late that its upload ends when the running batch is
//! expected to, and takes everything that has arrived by then.
//!
//! From section III of the paper (doi 10.1109/IPDPSW.2019.00083), without its choice of a batch
//! length: waiting as long as the compute engine is busy collects the most images at no cost.

use super::{Decision, Policy, Reason, View};
use crate::sched::line::Stage;

/// See the module.
#[derive(Debug)]
pub(super) struct JustInTime;

impl Policy for JustInTime {
    fn upload(&self, view: &View<'_>) -> Decision {
        if view.resident_len > 0 {
            return Decision::HOLD;
        }
        let batch_len = view.batch_len();
        if view.computing_len == 0 {
            return Decision::go(batch_len, Reason::Idle);
        }
        if batch_len == view.batch_len_max {
            return Decision::go(batch_len, Reason::Full);
        }
        latest_start(view, batch_len)
    }
}

/// Holds the upload until it would end when computing does.
pub(super) fn latest_start(view: &View<'_>, batch_len: usize) -> Decision {
    let upload_ns = view.cost.predict_ns(Stage::Upload, batch_len);
    let start_ns = view.compute_free_ns.saturating_sub(upload_ns);
    if view.now_ns >= start_ns {
        Decision::go(batch_len, Reason::JustInTime)
    } else {
        Decision::until(start_ns)
    }
}
