//! One stream: when every engine is idle, a batch takes everything that waits.
//!
//! The strongest form of the paper's synchronous baseline. It needs no cost model.

use super::{Decision, Policy, Reason, View};

/// See the module.
#[derive(Debug)]
pub(super) struct Serial;

impl Policy for Serial {
    fn upload(&self, view: &View<'_>) -> Decision {
        if view.is_idle() { Decision::go(view.batch_len(), Reason::Idle) } else { Decision::HOLD }
    }
}
