//! A backend that does nothing, at once: what remains is the cost of everything around it.
//!
//! Invariant: work ends in the order it was asked for. Results keep what their memory held.

use std::collections::VecDeque;

use super::{Attachment, Backend, Completion, Geometry, ResultSlot};
use crate::error::Result;
use crate::ring::Slot;

/// What it reports as the time of any work: the least that counts as a measurement.
const ELAPSED_NS: u64 = 1;

/// See the module.
#[derive(Debug)]
pub struct Null {
    geometry: Geometry,
    uploaded: Vec<Slot>,
    is_uploading: bool,
    is_computing: bool,
    downloaded: VecDeque<ResultSlot>,
    /// Lengths of the downloads.
    downloads: VecDeque<usize>,
}

impl Null {
    /// A backend that takes and returns nothing of these sizes.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            uploaded: Vec::new(),
            is_uploading: false,
            is_computing: false,
            downloaded: VecDeque::new(),
            downloads: VecDeque::new(),
        }
    }
}

impl Backend for Null {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        self.uploaded.reserve(attachment.batch_len_max);
        self.downloaded.reserve(attachment.slot_len);
        self.downloads.reserve(attachment.depth);
        Ok(())
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.uploaded.append(slots);
        self.is_uploading = true;
    }

    fn compute(&mut self, _slots: &[u32]) {
        self.is_computing = true;
    }

    fn download(&mut self, _slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.downloads.push_back(results.len());
        self.downloaded.extend(results.drain(..));
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        slots.append(&mut self.uploaded);
        std::mem::take(&mut self.is_uploading).then_some(Ok(ELAPSED_NS))
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        std::mem::take(&mut self.is_computing).then_some(Ok(ELAPSED_NS))
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        let len = self.downloads.pop_front()?;
        results.extend(self.downloaded.drain(..len));
        Some(Ok(ELAPSED_NS))
    }
}
