//! Lanes that are lost, and those that come back.
//!
//! Invariant: what a lost lane had not answered is answered by others, once. It goes back to where
//! it was in the queue: before all that came later. What ends with the lane is cancelled requests.

use super::{Outcome, Scheduler, Stage, State};

impl Scheduler {
    /// The lane's device is gone: its unanswered requests wait again, before all others, and it is
    /// given nothing until it returns. Nothing that it was asked for may be reported any more. With
    /// the last lane gone requests are accepted and wait, but for their deadlines.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn lane_lost(&mut self, now_ns: u64, lane: usize) {
        self.is_settled = false;
        for stage in [Stage::Upload, Stage::Compute, Stage::Download] {
            if self.lanes[lane].is_in_flight(stage) {
                self.trace_end(now_ns, lane, stage, None);
            }
        }
        while let Some(slot) = self.lanes[lane].give_up_last() {
            let request = &mut self.slots[slot as usize];
            if request.is_cancelled {
                self.end(slot, Outcome::Cancelled);
                continue;
            }
            request.state = State::Waiting;
            self.waiting.put_back(request.priority, request.key_ns, slot);
        }
        self.lanes[lane].is_lost = true;
    }

    /// A lane that was lost serves again, and costs what it did. Nothing is in its memory.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn lane_returned(&mut self, lane: usize) {
        self.is_settled = false;
        self.lanes[lane].is_lost = false;
    }

    /// Whether a lane is lost.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn is_lane_lost(&self, lane: usize) -> bool {
        self.lanes[lane].is_lost
    }
}
