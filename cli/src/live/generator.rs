//! The load generator: hands requests to an engine when they are due, whatever it does.
//!
//! Invariants: an open loop never waits for an answer, and a request counts from the moment it was
//! due, so that neither a slow system nor a late generator can hide time (no coordinated omission).
//! How late the generator itself was is measured. Knows no policy and no backend.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use twinstream::clock::{EARLY, sharpen_timers, wait_until};
use twinstream::engine::{Engine, Handler, LatencyHistogram, Lease, Refused, RequestOptions};
use twinstream::sim::arrivals::{ClosedLoop, OpenLoop, Workload};

use super::recorder::{Answered, End, Played, Recorder};

/// Requests of a run at most, 16 bytes each.
const REQUEST_LEN_MAX: usize = 10_000_000;
/// Time to get ready before the first request may be due.
const LEAD: Duration = Duration::from_millis(20);
/// How long to wait for the answers after the last request.
const DRAIN: Duration = Duration::from_secs(120);
/// Shortest time after which a client sends again what was refused, as in the simulator.
const RETRY_NS: u64 = 1_000_000;

/// What is sent to an engine.
pub(crate) struct Load<'a> {
    pub(crate) workload: &'a Workload,
    /// How long requests arrive, in nanoseconds.
    pub(crate) duration_ns: u64,
    /// Each request's deadline, in nanoseconds after it was due.
    pub(crate) latency_bound_ns: Option<u64>,
    /// How long before it is due each request of an open loop has its place, in nanoseconds.
    pub(crate) announced_ns: u64,
    pub(crate) seed: u64,
    /// Sent in turn; at least one.
    pub(crate) images: &'a [Vec<u8>],
}

/// Sends the load and waits until each request has ended; the engine serves no more afterwards.
pub(crate) fn play(engine: &Engine, load: &Load<'_>) -> anyhow::Result<Played> {
    // Timers are a thread's own, and the caller's are not to be changed for good.
    thread::scope(|scope| {
        let generator =
            thread::Builder::new().name("generator".to_owned()).spawn_scoped(scope, || {
                sharpen_timers();
                match load.workload {
                    Workload::Open(open) => play_open(engine, load, open),
                    Workload::Closed(clients) => play_closed(engine, load, *clients),
                }
            })?;
        generator.join().expect("the generator does not panic")
    })
}

/// Hands requests over and keeps the books.
struct Sender<'a> {
    engine: &'a Engine,
    load: &'a Load<'a>,
    start: Instant,
    recorder: Arc<Recorder>,
    handler: Arc<dyn Handler>,
    due_ns: Vec<u64>,
    lateness: LatencyHistogram,
}

impl<'a> Sender<'a> {
    fn new(
        engine: &'a Engine,
        load: &'a Load<'a>,
        (start, request_len): (Instant, usize),
        clients: Option<std::sync::mpsc::SyncSender<Answered>>,
    ) -> Self {
        let recorder = Arc::new(Recorder::new(start, request_len, clients));
        let handler = Arc::clone(&recorder) as Arc<dyn Handler>;
        let due_ns = Vec::with_capacity(request_len);
        Self { engine, load, start, recorder, handler, due_ns, lateness: Default::default() }
    }

    fn at(&self, moment_ns: u64) -> Instant {
        self.start + Duration::from_nanos(moment_ns)
    }

    /// Sends the request that was due then.
    fn send(&mut self, due_ns: u64, leased: Result<Lease, Refused>) -> anyhow::Result<()> {
        let request = self.due_ns.len();
        self.due_ns.push(due_ns);
        let image = &self.load.images[request % self.load.images.len()];
        let late = Instant::now().saturating_duration_since(self.at(due_ns));
        self.lateness.record(late.as_nanos() as u64);
        let deadline = self.load.latency_bound_ns.map(|bound_ns| self.at(due_ns + bound_ns));
        let options = RequestOptions::default().deadline(deadline);
        let sent = leased.and_then(|mut lease| {
            lease.copy_from_slice(image);
            lease.commit_with(options, Arc::clone(&self.handler), request as u64)
        });
        match sent {
            Ok(()) => Ok(()),
            Err(Refused::Full) => {
                self.recorder.note(request as u64, End::Full);
                Ok(())
            }
            Err(refused) => match self.engine.fault() {
                Some(fault) => bail!("{refused}: {fault}"),
                None => bail!("{refused}"),
            },
        }
    }

    fn finish(self, is_cut: bool) -> anyhow::Result<Played> {
        let is_drained = self.engine.drain(DRAIN);
        if let Some(fault) = self.engine.fault() {
            bail!("the device is lost: {fault}");
        }
        ensure!(is_drained, "not every request was answered within {DRAIN:?} after the last one");
        Ok(Played {
            start: self.start,
            requests: self.recorder.noted(&self.due_ns),
            lateness: self.lateness,
            stats: self.engine.stats(),
            is_cut,
        })
    }
}

fn play_open(engine: &Engine, load: &Load<'_>, open: &OpenLoop) -> anyhow::Result<Played> {
    let due_ns: Vec<u64> = open
        .arrivals(load.seed)
        .take_while(|&due_ns| due_ns <= load.duration_ns)
        .take(REQUEST_LEN_MAX + 1)
        .collect();
    ensure!(!due_ns.is_empty(), "nothing arrives within the duration: make it longer");
    let is_cut = due_ns.len() > REQUEST_LEN_MAX;
    let due_ns = &due_ns[..due_ns.len().min(REQUEST_LEN_MAX)];
    let request_len = due_ns.len();
    let start = Instant::now() + LEAD;
    let mut sender = Sender::new(engine, load, (start, request_len), None);
    let announced_at_ns = |index: usize| due_ns[index].saturating_sub(load.announced_ns);
    let mut leases = VecDeque::new();
    let mut leased_len = 0;
    for (index, &due_ns) in due_ns.iter().enumerate() {
        while leased_len == index
            || leased_len < request_len && announced_at_ns(leased_len) < due_ns
        {
            wait_until(sender.at(announced_at_ns(leased_len)));
            leases.push_back(engine.lease());
            leased_len += 1;
        }
        wait_until(sender.at(due_ns));
        let leased = leases.pop_front().expect("its place was leased");
        sender.send(due_ns, leased)?;
    }
    sender.finish(is_cut)
}

fn play_closed(engine: &Engine, load: &Load<'_>, clients: ClosedLoop) -> anyhow::Result<Played> {
    let (told, answered) = sync_channel(clients.client_len);
    // Clients that nothing holds back send a few million requests a second at most.
    let request_len = REQUEST_LEN_MAX.min((load.duration_ns / 100) as usize + clients.client_len);
    let start = Instant::now() + LEAD;
    let mut sender = Sender::new(engine, load, (start, request_len), Some(told));
    let mut due_ns: VecDeque<u64> = std::iter::repeat_n(0, clients.client_len).collect();
    let mut think_ns = clients.think_times_ns(load.seed);
    wait_until(start);
    loop {
        while let Ok(answer) = answered.try_recv() {
            enqueue(&mut due_ns, think_ns(), answer);
        }
        let now_ns = start.elapsed().as_nanos() as u64;
        let next_ns = due_ns.front().copied().unwrap_or(u64::MAX).min(load.duration_ns);
        if next_ns > now_ns {
            if let Some(answer) = wait(&answered, sender.at(next_ns)) {
                enqueue(&mut due_ns, think_ns(), answer);
            }
        } else if next_ns >= load.duration_ns || sender.due_ns.len() == request_len {
            return sender.finish(next_ns < load.duration_ns);
        } else if let Some(due_ns) = due_ns.pop_front() {
            sender.send(due_ns, engine.lease())?;
        }
    }
}

/// A client whose request ended thinks, then sends the next; one that was refused thinks for some
/// time at least, or it would be refused again for ever.
fn enqueue(due_ns: &mut VecDeque<u64>, think_ns: u64, answer: Answered) {
    let least_ns = if answer.is_refused { RETRY_NS } else { 0 };
    let next_ns = answer.end_ns + think_ns.max(least_ns);
    due_ns.insert(due_ns.partition_point(|&other_ns| other_ns <= next_ns), next_ns);
}

/// The next answer, if one comes before that moment.
fn wait(answered: &Receiver<Answered>, moment: Instant) -> Option<Answered> {
    let left = moment.saturating_duration_since(Instant::now());
    if left > EARLY {
        return match answered.recv_timeout(left - EARLY) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the sender holds the recorder"),
        };
    }
    match answered.try_recv() {
        Ok(answer) => Some(answer),
        Err(TryRecvError::Empty) => {
            thread::yield_now();
            None
        }
        Err(TryRecvError::Disconnected) => unreachable!("the sender holds the recorder"),
    }
}
