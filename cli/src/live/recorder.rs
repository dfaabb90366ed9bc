//! What became of each request of a run: when it was due, when it ended and how.
//!
//! Invariant: each request has one place, written once, by the generator if it was refused and by
//! the scheduling thread otherwise. Noting allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use twinstream::engine::{Answer, Failure, Handler, LatencyHistogram, Stats};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Rejected,
    Expired,
    /// There was no slot for it.
    Full,
    /// The device failed, or the run was stopped.
    Failed,
}

const ENDS: [End; 5] = [End::Completed, End::Rejected, End::Expired, End::Full, End::Failed];
/// Bits of a note that say how; the others say when. A note of 0 is none.
const END_BITS: u32 = 3;

/// A request after the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    /// When it was due, in nanoseconds from the run's start.
    pub(crate) due_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) end: End,
}

impl Noted {
    pub(crate) fn latency_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.due_ns)
    }
}

/// See the module.
pub(super) struct Recorder {
    start: Instant,
    notes: Box<[AtomicU64]>,
    /// Who is told that a request has ended, and when: the clients of a closed loop.
    clients: Option<SyncSender<Answered>>,
}

/// Tells a closed loop's client that its request is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) end_ns: u64,
    pub(super) is_refused: bool,
}

impl Recorder {
    pub(super) fn new(
        start: Instant,
        request_len: usize,
        clients: Option<SyncSender<Answered>>,
    ) -> Self {
        let notes = (0..request_len).map(|_| AtomicU64::new(0)).collect();
        Self { start, notes, clients }
    }

    /// Notes that a request ended now.
    pub(super) fn note(&self, request: u64, end: End) {
        let end_ns = Instant::now().saturating_duration_since(self.start).as_nanos() as u64;
        let place = ENDS.iter().position(|known| *known == end).expect("every end has a place");
        // Release: whoever sees the note sees the run that led to it; the drain orders the rest.
        let note = (end_ns << END_BITS) | (1 + place as u64);
        self.notes[request as usize].store(note, Ordering::Release);
        if let Some(clients) = &self.clients {
            let is_refused = matches!(end, End::Rejected | End::Full);
            // There is room for every client; it only fails when the run is over.
            let _ = clients.try_send(Answered { end_ns, is_refused });
        }
    }

    /// Requests in order, given when they were due; one without a note has failed.
    pub(super) fn noted(&self, due_ns: &[u64]) -> Vec<Noted> {
        let noted = |(note, &due_ns): (&AtomicU64, &u64)| {
            let note = note.load(Ordering::Acquire);
            match (note & ((1 << END_BITS) - 1)).checked_sub(1) {
                Some(place) => {
                    Noted { due_ns, end_ns: note >> END_BITS, end: ENDS[place as usize] }
                }
                None => Noted { due_ns, end_ns: due_ns, end: End::Failed },
            }
        };
        self.notes.iter().zip(due_ns).map(noted).collect()
    }
}

impl Handler for Recorder {
    fn answered(&self, tag: u64, answer: Answer) {
        let end = match &answer {
            Ok(_) => End::Completed,
            Err(Failure::Rejected) => End::Rejected,
            Err(Failure::Expired) => End::Expired,
            Err(_) => End::Failed,
        };
        // The result's slot first: a client that is told sends its next request at once.
        drop(answer);
        self.note(tag, end);
    }
}

/// A run, over.
pub(crate) struct Played {
    /// The moment from which its nanoseconds count.
    pub(crate) start: Instant,
    /// Every request, in the order sent.
    pub(crate) requests: Vec<Noted>,
    /// How much later than due they were handed to the engine.
    pub(crate) lateness: LatencyHistogram,
    /// The engine's statistics at the end.
    pub(crate) stats: Stats,
    /// Whether it was cut short because there was no room for more notes.
    pub(crate) is_cut: bool,
}
