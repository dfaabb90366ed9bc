//! Plans for what is here: how images go up and are computed, and what latency that adds up to.
//!
//! One number judges every plan: the completion times of those who are here, from now, and what
//! those to come pay for the device being taken so long.

use super::forecast::Forecast;
use super::{View, compute_ns};
use crate::sched::line::{Line, Stage};

/// Where the two engines stand, in nanoseconds from now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// When computing may start.
    pub(super) compute_ns: f64,
    /// When the upload engine is free.
    pub(super) upload_ns: f64,
    /// Images that are in device memory.
    pub(super) resident_len: usize,
    /// Images that are by the time that the upload engine is free.
    pub(super) uploading_len: usize,
}

/// How the images that wait go up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    /// Behind the first chunk all others at once.
    AtOnce,
    /// In chunks like the first, computed as they come.
    InChunks,
}

/// What plans are judged by.
pub(super) struct Judge<'a> {
    view: &'a View<'a>,
    forecast: Forecast,
    upload: Line,
    download: Line,
}

impl<'a> Judge<'a> {
    pub(super) fn new(view: &'a View<'a>, forecast: Forecast) -> Self {
        let upload = view.cost.line(Stage::Upload);
        Self { view, forecast, upload, download: view.cost.line(Stage::Download) }
    }

    /// Latency of all who are here and of those who come meanwhile, in nanoseconds, if `chunk_len`
    /// of `waiting_len` images go up first. Of more than two longest batches the others are those
    /// who wait for the end.
    pub(super) fn latency_ns(&self, start: Start, chunk_len: usize, rest: Rest) -> f64 {
        let batch_len_max = self.view.batch_len_max;
        let taken_len = self.view.waiting_len.min(2 * batch_len_max);
        let behind_len = self.view.waiting_len - taken_len;
        let batch_len = match rest {
            Rest::AtOnce => batch_len_max,
            Rest::InChunks => chunk_len,
        };
        let full_ns = compute_ns(self.view, batch_len);
        let (end_ns, sum_ns) = (start.compute_ns, 0.0);
        let mut line = Computing { judge: self, batch_len, full_ns, end_ns, sum_ns };
        let (mut ready_len, mut free_ns) = (start.resident_len, start.upload_ns);
        if start.uploading_len > 0 {
            ready_len = line.until(free_ns, ready_len) + start.uploading_len;
        }
        let (mut left_len, mut next_len) = (taken_len, chunk_len);
        while left_len > 0 {
            let len = next_len.min(left_len);
            free_ns += self.upload.at_ns(len);
            ready_len = line.until(free_ns, ready_len) + len;
            left_len -= len;
            if let Rest::AtOnce = rest {
                next_len = left_len.min(batch_len_max);
            }
        }
        line.until(f64::INFINITY, ready_len);
        let Computing { end_ns, sum_ns, .. } = line;
        sum_ns + behind_len as f64 * end_ns + self.forecast.cost_ns(end_ns)
    }
}

/// The compute engine of a plan: takes all that has come whenever it is free.
struct Computing<'a> {
    judge: &'a Judge<'a>,
    /// Longest batch.
    batch_len: usize,
    /// What it takes.
    full_ns: f64,
    end_ns: f64,
    /// Completion times added up.
    sum_ns: f64,
}

impl Computing<'_> {
    /// Works off `ready_len` images as far as batches start before `until_ns`; who is left.
    fn until(&mut self, until_ns: f64, mut ready_len: usize) -> usize {
        while ready_len > 0 && self.end_ns < until_ns {
            let len = ready_len.min(self.batch_len);
            let is_full = len == self.batch_len;
            self.end_ns += if is_full { self.full_ns } else { compute_ns(self.judge.view, len) };
            self.sum_ns += len as f64 * (self.end_ns + self.judge.download.at_ns(len));
            ready_len -= len;
        }
        if until_ns < f64::INFINITY {
            self.end_ns = self.end_ns.max(until_ns);
        }
        ready_len
    }
}
