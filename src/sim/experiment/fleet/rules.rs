//! Simple rules for several devices, to hold the default against: the arrivals of a run under each,
//! with every stage time and the arrival rate known exactly.
//!
//! Late rules have one queue, of which a device takes all that it can when it is its turn; early
//! ones give each request to a device as it comes. All upload just in time for the device to be
//! free. It is no scheduler: nothing fails, expires or goes before others.

use std::collections::VecDeque;

use crate::sched::{Line, Stages};
use crate::sim::random::{Random, Stream};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Whoever is free first takes all.
    Greedy,
    /// The same, no sooner after the batch before than evenly spaced batches would be at this load.
    Spaced,
    /// The same, by the time of the batch before.
    SpacedByLast,
    /// Each request to the device that would be done with it first.
    ShortestFinish,
    /// Each to the one of two drawn at random that has less to do.
    TwoChoices,
}

impl Rule {
    pub(super) const ALL: [Self; 5] =
        [Self::Greedy, Self::Spaced, Self::SpacedByLast, Self::ShortestFinish, Self::TwoChoices];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Spaced => "spaced",
            Self::SpacedByLast => "spaced by the last",
            Self::ShortestFinish => "shortest finish",
            Self::TwoChoices => "two choices",
        }
    }
}

/// Devices and limits.
#[derive(Clone, Debug)]
pub(super) struct Devices {
    pub(super) lines: Vec<Stages<Line>>,
    pub(super) is_link_shared: bool,
    pub(super) batch_len_max: usize,
}

/// Where a device stands, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// When all that it was given is computed.
    free_ns: f64,
    /// When the batch that it was given last begins to compute: it takes no other before.
    taken_ns: f64,
    link_free_ns: f64,
    /// Images of that batch.
    len: usize,
}

struct Run<'a> {
    devices: &'a Devices,
    places: Vec<Place>,
    /// When a link that all share is free.
    link_free_ns: f64,
    now_ns: f64,
}

impl<'a> Run<'a> {
    fn new(devices: &'a Devices) -> Self {
        let places = vec![Place::default(); devices.lines.len()];
        Self { devices, places, link_free_ns: 0.0, now_ns: 0.0 }
    }

    fn link_free_ns(&self, at: usize) -> f64 {
        if self.devices.is_link_shared { self.link_free_ns } else { self.places[at].link_free_ns }
    }

    /// When a batch of so many would go up just in time.
    fn start_ns(&self, at: usize, len: usize) -> f64 {
        let upload_ns = self.devices.lines[at].upload.at_ns(len);
        (self.places[at].free_ns - upload_ns).max(self.link_free_ns(at))
    }

    /// A batch goes now; when it is answered.
    fn go(&mut self, at: usize, len: usize) -> f64 {
        let lines = &self.devices.lines[at];
        let uploaded_ns = self.now_ns + lines.upload.at_ns(len);
        self.link_free_ns = uploaded_ns;
        let place = &mut self.places[at];
        place.link_free_ns = uploaded_ns;
        place.taken_ns = uploaded_ns.max(place.free_ns);
        place.free_ns = place.taken_ns + lines.compute.at_ns(len);
        place.len = len;
        place.free_ns + lines.download.at_ns(len)
    }

    /// The next moment at which a device or a link is free.
    fn next_ns(&self) -> f64 {
        let all = self.places.iter().flat_map(|at| [at.free_ns, at.taken_ns, at.link_free_ns]);
        all.filter(|at_ns| *at_ns > self.now_ns).fold(f64::INFINITY, f64::min)
    }
}

/// Latency of each request in nanoseconds, in the order in which they were answered; the rate is
/// that of the arrivals, a nanosecond.
pub(super) fn latencies_ns(
    rule: Rule,
    devices: &Devices,
    arrivals_ns: &[u64],
    per_ns: f64,
    seed: u64,
) -> Vec<u64> {
    match rule {
        Rule::ShortestFinish | Rule::TwoChoices => early_ns(rule, devices, arrivals_ns, seed),
        _ => late_ns(rule, devices, arrivals_ns, per_ns),
    }
}

fn late_ns(rule: Rule, devices: &Devices, arrivals_ns: &[u64], per_ns: f64) -> Vec<u64> {
    let device_len = devices.lines.len() as f64;
    let capacity_per_ns: f64 =
        devices.lines.iter().map(|lines| 1.0 / lines.compute.per_image_ns).sum();
    let fixed_ns = devices.lines.iter().map(|lines| lines.compute.fixed_ns).sum::<f64>();
    let spare = (1.0 - per_ns / capacity_per_ns).max(0.01);
    let mut gap_ns = match rule {
        Rule::Spaced => fixed_ns / device_len / device_len / spare,
        _ => 0.0,
    };
    let mut run = Run::new(devices);
    let mut latencies_ns = Vec::with_capacity(arrivals_ns.len());
    let (mut first, mut end, mut last_ns) = (0, 0, f64::NEG_INFINITY);
    while first < arrivals_ns.len() {
        let mut wake_ns = f64::INFINITY;
        while first < end {
            let may_take = |at: &usize| {
                let place = &run.places[*at];
                let is_link_free = devices.is_link_shared || place.link_free_ns <= run.now_ns;
                place.taken_ns <= run.now_ns && is_link_free
            };
            let key = |at: usize| {
                let alone_ns = devices.lines[at].compute.at_ns(1);
                (run.places[at].free_ns - run.now_ns).max(0.0) + 1e-9 * alone_ns
            };
            let free = (0..devices.lines.len()).filter(may_take);
            let Some(at) = free.min_by(|&one, &other| key(one).total_cmp(&key(other))) else {
                break;
            };
            let len = (end - first).min(devices.batch_len_max);
            let mut start_ns = run.start_ns(at, len);
            if run.places.iter().any(|place| place.free_ns > run.now_ns) {
                start_ns = start_ns.max(last_ns + gap_ns);
            }
            if start_ns > run.now_ns {
                wake_ns = start_ns;
                break;
            }
            let answered_ns = run.go(at, len);
            let some = &arrivals_ns[first..first + len];
            latencies_ns.extend(some.iter().map(|&at_ns| (answered_ns - at_ns as f64) as u64));
            first += len;
            last_ns = run.now_ns;
            if rule == Rule::SpacedByLast {
                gap_ns = devices.lines[at].compute.at_ns(len) / device_len;
            }
        }
        let arrival_ns = arrivals_ns.get(end).map_or(f64::INFINITY, |&at_ns| at_ns as f64);
        let free_ns = if first < end { run.next_ns() } else { f64::INFINITY };
        run.now_ns = arrival_ns.min(wake_ns).min(free_ns);
        if arrival_ns <= run.now_ns {
            end += 1;
        }
    }
    latencies_ns
}

fn early_ns(rule: Rule, devices: &Devices, arrivals_ns: &[u64], seed: u64) -> Vec<u64> {
    let device_len = devices.lines.len();
    let mut random = Random::new(seed, Stream::Requests);
    let mut run = Run::new(devices);
    let mut queues: Vec<VecDeque<u64>> = vec![VecDeque::new(); device_len];
    let mut latencies_ns = Vec::with_capacity(arrivals_ns.len());
    let mut end = 0;
    while latencies_ns.len() < arrivals_ns.len() {
        let mut wake_ns = f64::INFINITY;
        for (at, queue) in queues.iter_mut().enumerate() {
            while !queue.is_empty() {
                let len = queue.len().min(devices.batch_len_max);
                let start_ns = run.start_ns(at, len).max(run.places[at].taken_ns);
                if start_ns > run.now_ns {
                    wake_ns = wake_ns.min(start_ns);
                    break;
                }
                let answered_ns = run.go(at, len);
                let some = queue.drain(..len);
                latencies_ns.extend(some.map(|at_ns| (answered_ns - at_ns as f64) as u64));
            }
        }
        let arrival_ns = arrivals_ns.get(end).map_or(f64::INFINITY, |&at_ns| at_ns as f64);
        run.now_ns = arrival_ns.min(wake_ns);
        if arrival_ns > run.now_ns || end == arrivals_ns.len() {
            continue;
        }
        let at = if rule == Rule::TwoChoices {
            let mut one = || (random.uniform() * device_len as f64) as usize;
            let ahead_len = |at: usize| {
                let place = &run.places[at];
                queues[at].len() + if place.free_ns > run.now_ns { place.len } else { 0 }
            };
            let (one, other) = (one(), one());
            if ahead_len(one) <= ahead_len(other) { one } else { other }
        } else {
            let finish_ns = |at: usize| {
                let (lines, len) = (&devices.lines[at], queues[at].len() + 1);
                let start_ns = lines.upload.at_ns(len).max(run.places[at].free_ns - run.now_ns);
                start_ns + lines.compute.at_ns(len)
            };
            let by_finish =
                |one: &usize, other: &usize| finish_ns(*one).total_cmp(&finish_ns(*other));
            (0..device_len).min_by(by_finish).unwrap_or(0)
        };
        queues[at].push_back(arrivals_ns[end]);
        end += 1;
    }
    latencies_ns
}
