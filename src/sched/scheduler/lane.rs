//! A device as the scheduler knows it: its cost, what lies in its memory and what it works on.
//!
//! Invariants: one upload, one batch to compute and a bounded number of downloads at a time, each
//! in the order asked for; a lane that is lost has nothing of any of them. It decides nothing.

use super::{Queue, Work};
use crate::sched::cost::CostModel;
use crate::sched::line::{Line, Stage, Stages};
use crate::sched::policy::{LaneView, Reason};
use crate::sched::timing::Timing;

/// The most batches between the start of their computing and the end of their download.
pub(super) const DEPTH: u64 = super::Scheduler::DEPTH as u64;

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) cost: CostModel,
    pub(super) resident: Queue,
    /// Start of the first upload of those that are resident.
    pub(super) resident_since_ns: u64,
    pub(super) chunk: Work,
    pub(super) is_uploading: bool,
    /// Batches by place: the lane's own n-th lies at n modulo the length.
    pub(super) batches: [Work; super::Scheduler::DEPTH],
    /// What is known of their times, likewise.
    pub(super) timings: [Timing; super::Scheduler::DEPTH],
    pub(super) started: u64,
    pub(super) computed: u64,
    pub(super) download_asked: u64,
    pub(super) downloaded: u64,
    /// End of the latest download.
    pub(super) download_free_ns: u64,
    pub(super) is_lost: bool,
    /// As a prediction goes: start of its next batch, and time of a full one.
    pub(super) turn_ns: u64,
    pub(super) full_ns: u64,
}

/// Place of a lane's n-th batch.
pub(super) fn place_of(number: u64) -> usize {
    (number % DEPTH) as usize
}

impl Lane {
    pub(super) fn new(lines: Stages<Line>, slot_len: usize, work_len: usize) -> Self {
        Self {
            cost: CostModel::new(lines),
            resident: Queue::with_capacity(slot_len),
            resident_since_ns: 0,
            chunk: Work::with_capacity(work_len),
            is_uploading: false,
            batches: std::array::from_fn(|_| Work::with_capacity(work_len)),
            timings: [Timing::of_batch(0, 0, Reason::Idle, 0); super::Scheduler::DEPTH],
            started: 0,
            computed: 0,
            download_asked: 0,
            downloaded: 0,
            download_free_ns: 0,
            is_lost: false,
            turn_ns: 0,
            full_ns: 0,
        }
    }

    /// Whether nothing is in its memory or in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.resident.len() == 0 && !self.is_uploading && self.started == self.downloaded
    }

    pub(super) fn may_compute(&self) -> bool {
        self.started == self.computed
            && self.started - self.downloaded < DEPTH
            && self.resident.len() > 0
    }

    pub(super) fn may_upload(&self) -> bool {
        !self.is_uploading && !self.is_lost
    }

    pub(super) fn uploading_len(&self) -> usize {
        if self.is_uploading { self.chunk.slots.len() } else { 0 }
    }

    pub(super) fn computing(&self) -> Option<&Work> {
        let is_computing = self.started > self.computed;
        is_computing.then(|| &self.batches[place_of(self.computed)])
    }

    pub(super) fn compute_free_ns(&self, now_ns: u64) -> u64 {
        self.computing().map_or(now_ns, |batch| batch.end_ns.max(now_ns))
    }

    /// When all that it has is computed.
    pub(super) fn free_ns(&self, now_ns: u64) -> u64 {
        let free_ns = self.compute_free_ns(now_ns);
        let next_len = self.resident.len() + self.uploading_len();
        if next_len == 0 {
            return free_ns;
        }
        let upload_ns = if self.is_uploading { self.chunk.end_ns } else { now_ns };
        free_ns.max(upload_ns).saturating_add(self.cost.predict_ns(Stage::Compute, next_len))
    }

    pub(super) fn view(&self, lane: usize, now_ns: u64) -> LaneView {
        LaneView {
            lane,
            free_ns: self.free_ns(now_ns),
            may_take: self.may_upload() && self.resident.len() == 0,
            upload: self.cost.line(Stage::Upload),
            compute: self.cost.line(Stage::Compute),
        }
    }

    /// Images whose results are on their way to the host.
    pub(super) fn downloading_len(&self) -> usize {
        let numbers = self.downloaded..self.computed;
        numbers.map(|number| self.batches[place_of(number)].slots.len()).sum()
    }

    pub(super) fn is_in_flight(&self, stage: Stage) -> bool {
        match stage {
            Stage::Upload => self.is_uploading,
            Stage::Compute => self.started > self.computed,
            Stage::Download => self.download_asked > self.downloaded,
        }
    }

    pub(super) fn oldest(&self, stage: Stage) -> &Work {
        match stage {
            Stage::Upload => &self.chunk,
            Stage::Compute => &self.batches[place_of(self.computed)],
            Stage::Download => &self.batches[place_of(self.downloaded)],
        }
    }

    /// Compute and download of one image.
    pub(super) fn alone_ns(&self) -> u64 {
        let compute_ns = self.cost.predict_ns(Stage::Compute, 1);
        compute_ns.saturating_add(self.cost.predict_ns(Stage::Download, 1))
    }

    /// In a prediction: computes some full batches first.
    pub(super) fn take_full(&mut self, len: u64) {
        self.turn_ns = self.turn_ns.saturating_add(len.saturating_mul(self.full_ns));
    }

    /// A download begins when it is asked for, or at the end of the one before.
    pub(super) fn download_ended(&mut self, now_ns: u64) {
        let timing = &mut self.timings[place_of(self.downloaded)];
        timing.download_started_ns = timing.download_started_ns.max(self.download_free_ns);
        timing.download_ended_ns = now_ns;
        self.download_free_ns = now_ns;
    }

    /// Passes over batches whose computing failed: nothing of them is left to download.
    pub(super) fn skip_failed(&mut self) {
        while self.downloaded < self.download_asked && self.oldest(Stage::Download).slots.is_empty()
        {
            self.downloaded += 1;
        }
    }

    /// Takes out one request that it has not answered, the one that it took last first; none: it
    /// has none.
    pub(super) fn give_up_last(&mut self) -> Option<u32> {
        if self.is_uploading {
            if let Some(slot) = self.chunk.slots.pop() {
                return Some(slot);
            }
            self.is_uploading = false;
        }
        if let Some(slot) = self.resident.pop_last() {
            return Some(slot);
        }
        while self.started > self.downloaded {
            if let Some(slot) = self.batches[place_of(self.started - 1)].slots.pop() {
                return Some(slot);
            }
            self.started -= 1;
        }
        self.computed = self.started;
        self.download_asked = self.started;
        None
    }
}
