//! Traces as JSON in Chrome's trace event format, which Perfetto and Chromium's viewer read.
//!
//! Invariant: events ascend in time; slices of a row do not overlap. Each trace is a process with a
//! row for arrivals, decisions and each stage of each lane, and a counter of the requests that
//! wait. Times are microseconds with three decimals, so that no nanosecond is lost.

use std::collections::VecDeque;
use std::fmt::{self, Display, Write};

use super::{Decision, Seen, Stage, Trace, TraceEvent, TraceKind};

/// From one process's number to the next, at least: rows have the numbers between, so that none is
/// that of its process, which viewers take for the main thread.
const PROCESS_STEP: usize = 10;
/// Rows from the top: numbers within their process, and names.
const ARRIVALS: (usize, &str) = (1, "arrivals");
const DECISIONS: (usize, &str) = (2, "decisions");
const STAGES: [Stage; 3] = [Stage::Upload, Stage::Compute, Stage::Download];

impl Trace {
    /// This trace alone, as [`chrome_json`] writes it. Allocates.
    pub fn chrome_json(&self) -> String {
        chrome_json(&[("twinstream", self)])
    }
}

/// Several traces as one JSON object in Chrome's trace event format, each a process with its name.
/// Allocates.
///
/// ```
/// use twinstream::sched::{Trace, chrome_json};
///
/// let (night, day) = (Trace::new(0), Trace::new(0));
/// let json = chrome_json(&[("night", &night), ("day", &day)]);
/// assert!(json.starts_with("{\"displayTimeUnit\":\"ns\",\"traceEvents\":["));
/// ```
pub fn chrome_json(traces: &[(&str, &Trace)]) -> String {
    let event_len: usize = traces.iter().map(|(_, trace)| trace.events().count()).sum();
    let mut json = Json { text: String::with_capacity(1024 + 256 * event_len), is_first: true };
    json.text.push_str("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    let mut process = 0;
    for (name, trace) in traces {
        process += PROCESS_STEP;
        let lane_len = lane_len(trace);
        json.trace(process, name, (trace, lane_len));
        process += STAGES.len() * (lane_len - 1);
    }
    json.text.push_str("\n]}\n");
    json.text
}

/// Lanes up to the last one that something happened on, at least one.
fn lane_len(trace: &Trace) -> usize {
    let lanes = trace.events().map(|event| match event.kind {
        TraceKind::Arrived { .. } => 0,
        TraceKind::Decided { lane, .. }
        | TraceKind::Started { lane, .. }
        | TraceKind::Ended { lane, .. } => usize::from(lane),
    });
    1 + lanes.max().unwrap_or(0)
}

/// A stage from its start to its end.
struct Slice {
    start: TraceEvent,
    end_ns: u64,
    end: End,
}

enum End {
    Completed {
        elapsed_ns: u64,
    },
    Failed,
    /// It had not ended when the trace did.
    Unfinished,
}

/// What is written at a moment.
enum Entry<'a> {
    Event(&'a TraceEvent),
    Slice(Slice),
}

impl Entry<'_> {
    fn at_ns(&self) -> u64 {
        match self {
            Self::Event(event) => event.at_ns,
            Self::Slice(slice) => slice.start.at_ns,
        }
    }
}

/// The slices of a lane's stage. Ends whose starts the trace no longer holds have none.
fn slices(trace: &Trace, (of_lane, of): (u16, Stage)) -> Vec<Slice> {
    let mut started: VecDeque<(u64, TraceEvent)> = VecDeque::new();
    let mut slices = Vec::new();
    let (mut free_ns, mut last_ns) = (0, 0);
    // A download that is asked for while another runs begins at its end.
    let mut push = |mut start: TraceEvent, free_ns: u64, end_ns, end| {
        start.at_ns = start.at_ns.max(free_ns);
        slices.push(Slice { start, end_ns, end });
    };
    for event in trace.events() {
        last_ns = event.at_ns;
        match event.kind {
            TraceKind::Started { lane, stage, number, .. } if (lane, stage) == (of_lane, of) => {
                started.push_back((number, *event));
            }
            TraceKind::Ended { lane, stage, number: ended, elapsed_ns }
                if (lane, stage) == (of_lane, of) =>
            {
                if let Some((_, start)) = started.pop_front_if(|(number, _)| *number == ended) {
                    let completed = |elapsed_ns| End::Completed { elapsed_ns };
                    push(start, free_ns, last_ns, elapsed_ns.map_or(End::Failed, completed));
                }
                free_ns = last_ns;
            }
            _ => {}
        }
    }
    for (_, start) in started {
        push(start, free_ns, last_ns, End::Unfinished);
        free_ns = last_ns;
    }
    slices
}

struct Json {
    text: String,
    is_first: bool,
}

impl Json {
    fn trace(&mut self, process: usize, name: &str, (trace, lane_len): (&Trace, usize)) {
        self.event(format_args!(
            "\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{process},\"tid\":0,\
             \"args\":{{\"name\":{}}}",
            Quoted(name)
        ));
        let lanes = 0..lane_len as u16;
        let stages: Vec<_> = lanes.flat_map(|lane| STAGES.map(|stage| (lane, stage))).collect();
        let rows = stages.iter().map(|&(lane, stage)| {
            let (row, name) = row_of(lane, stage);
            (row, if lane_len > 1 { format!("{name} {lane}") } else { name.to_string() })
        });
        let plain = [ARRIVALS, DECISIONS].map(|(row, name)| (row, name.to_string()));
        for (row, name) in plain.into_iter().chain(rows) {
            let tid = process + row;
            self.event(format_args!(
                "\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{process},\"tid\":{tid},\
                 \"args\":{{\"name\":\"{name}\"}}"
            ));
            self.event(format_args!(
                "\"ph\":\"M\",\"name\":\"thread_sort_index\",\"pid\":{process},\"tid\":{tid},\
                 \"args\":{{\"sort_index\":{row}}}"
            ));
        }
        let slices = stages.iter().flat_map(|&of| slices(trace, of));
        let events = trace.events().map(Entry::Event);
        let mut entries: Vec<Entry<'_>> = events.chain(slices.map(Entry::Slice)).collect();
        entries.sort_by_key(Entry::at_ns);
        for entry in &entries {
            match entry {
                Entry::Event(event) => self.moment(process, event),
                Entry::Slice(slice) => self.slice(process, slice),
            }
        }
    }

    /// What has no length: arrivals, decisions, and the number that waits where it changes.
    fn moment(&mut self, process: usize, event: &TraceEvent) {
        let ts = Micros(event.at_ns);
        let waiting_len = match event.kind {
            TraceKind::Arrived { slot, waiting_len } => {
                let tid = process + ARRIVALS.0;
                self.event(format_args!(
                    "\"ph\":\"i\",\"s\":\"t\",\"name\":\"arrival\",\"pid\":{process},\
                     \"tid\":{tid},\"ts\":{ts},\"args\":{{\"slot\":{slot}}}"
                ));
                waiting_len
            }
            TraceKind::Decided { lane, stage, seen, decision } => {
                self.decision(process, event.at_ns, (lane, stage), (seen, decision));
                return;
            }
            TraceKind::Started { stage: Stage::Upload, waiting_len, .. } => waiting_len,
            TraceKind::Started { .. } | TraceKind::Ended { .. } => return,
        };
        self.event(format_args!(
            "\"ph\":\"C\",\"name\":\"waiting\",\"pid\":{process},\"tid\":0,\"ts\":{ts},\
             \"args\":{{\"requests\":{waiting_len}}}"
        ));
    }

    fn decision(
        &mut self,
        process: usize,
        at_ns: u64,
        (lane, stage): (u16, Stage),
        (seen, decision): (Seen, Decision),
    ) {
        let Seen { waiting_len, uploading_len, resident_len, computing_len, arrivals_hz } = seen;
        let (tid, (_, stage)) = (process + DECISIONS.0, row_of(lane, stage));
        let (answer, len, reason, until_ns) = match decision {
            Decision::Go { len, reason } => ("go", Some(len), Some(Quoted(reason.name())), None),
            Decision::Hold { until_ns } => ("hold", None, None, until_ns),
            Decision::Drop => ("drop", None, None, None),
        };
        self.event(format_args!(
            "\"ph\":\"i\",\"s\":\"t\",\"name\":\"{stage}: {answer}\",\"pid\":{process},\
             \"tid\":{tid},\"ts\":{},\"args\":{{\"len\":{},\"reason\":{},\"until_us\":{},\
             \"waiting\":{waiting_len},\"uploading\":{uploading_len},\
             \"resident\":{resident_len},\"computing\":{computing_len},\
             \"arrivals_per_s\":{arrivals_hz:.3}}}",
            Micros(at_ns),
            OrNull(len),
            OrNull(reason),
            OrNull(until_ns.map(Micros)),
        ));
    }

    fn slice(&mut self, process: usize, slice: &Slice) {
        let TraceKind::Started { lane, stage, number, len, reason, predicted_ns, .. } =
            slice.start.kind
        else {
            unreachable!("slices are made of starts")
        };
        let (row, stage) = row_of(lane, stage);
        let tid = process + row;
        let (ts, dur) = (Micros(slice.start.at_ns), Micros(slice.end_ns - slice.start.at_ns));
        let (outcome, actual_ns) = match slice.end {
            End::Completed { elapsed_ns } => ("completed", Some(elapsed_ns)),
            End::Failed => ("failed", None),
            End::Unfinished => ("unfinished", None),
        };
        self.event(format_args!(
            "\"ph\":\"X\",\"cat\":\"{stage}\",\"name\":\"{len}\",\"pid\":{process},\"tid\":{tid},\
             \"ts\":{ts},\"dur\":{dur},\"args\":{{\"number\":{number},\"len\":{len},\
             \"reason\":\"{}\",\"predicted_us\":{},\"actual_us\":{},\"outcome\":\"{outcome}\"}}",
            reason.name(),
            Micros(predicted_ns),
            OrNull(actual_ns.map(Micros)),
        ));
    }

    fn event(&mut self, fields: fmt::Arguments<'_>) {
        let comma = if self.is_first { "" } else { "," };
        self.is_first = false;
        write!(self.text, "{comma}\n{{{fields}}}").expect("memory takes all");
    }
}

fn row_of(lane: u16, stage: Stage) -> (usize, &'static str) {
    let (row, name) = match stage {
        Stage::Upload => (3, "upload"),
        Stage::Compute => (4, "compute"),
        Stage::Download => (5, "download"),
    };
    (row + STAGES.len() * usize::from(lane), name)
}

/// Nanoseconds as microseconds.
struct Micros(u64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// What may be missing.
struct OrNull<T>(Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// A text as JSON holds it.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\0'..=' ' if c != ' ' => write!(f, "\\u{:04x}", c as u32)?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
