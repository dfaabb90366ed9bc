//! Workloads: when requests arrive.
//!
//! Open-loop arrivals are an iterator of moments that never looks at the system, so a slow system
//! cannot hold them back (no coordinated omission). A closed loop is only described here: its
//! arrivals depend on completions, which the event loop knows.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::random::{Random, Stream};
use super::words::{count, did_you_mean, duration_ns, rate_hz, refuse};
use crate::error::{Error, Kind, Result};

/// The specs for workloads, with what each means.
pub const WORDS: [(&str, &str); 6] = [
    ("poisson:RATE", "independent arrivals"),
    ("uniform:RATE", "evenly spaced arrivals"),
    ("burst:RATE@MEAN_TIME,RATE@MEAN_TIME", "two rates that alternate at random"),
    ("steps:RATE@TIME,…[,uniform]", "one rate after the other; the last one holds"),
    ("closed:N[,think=TIME[,exponential]]", "N clients that wait for their answers"),
    ("trace:FILE", "recorded: nanoseconds, one arrival a line"),
];

/// An error that lists the specs.
fn unknown(spec: &str, what: &str) -> Error {
    let kinds = WORDS.iter().filter_map(|(form, _)| Some(form.split_once(':')?.0));
    let kind = spec.split(':').next().unwrap_or_default();
    let (guess, forms) = (did_you_mean(kind, kinds), WORDS.map(|(form, _)| form).join(", "));
    refuse(spec, format!("{what}; workloads are {forms}{guess}"))
}

/// A workload, as described by a spec; see `docs/SIMULATION.md` for them.
#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    /// Requests arrive whatever the system does.
    Open(OpenLoop),
    /// Each of a number of clients sends its next request once its last one has ended.
    Closed(ClosedLoop),
}

/// Clients that wait for their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedLoop {
    /// Clients, each with at most one request in the system; at least one.
    pub client_len: usize,
    /// Time between an answer and the same client's next request, in nanoseconds.
    pub think_ns: u64,
    /// Whether that is the mean of an exponential distribution; otherwise it is the same each time.
    pub is_exponential: bool,
}

impl ClosedLoop {
    /// Clients that send their next request with their answer.
    pub fn new(client_len: usize) -> Self {
        Self { client_len, think_ns: 0, is_exponential: false }
    }

    /// How long clients think, in nanoseconds, one time after the other; endless.
    pub fn think_times_ns(&self, seed: u64) -> impl FnMut() -> u64 + use<> {
        let Self { think_ns, is_exponential, .. } = *self;
        let mut random = Random::new(seed, Stream::Arrivals);
        move || match is_exponential {
            true => (think_ns as f64 * random.exponential()).round() as u64,
            false => think_ns,
        }
    }
}

/// Requests that arrive whatever the system does.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenLoop {
    /// Independent arrivals at one rate.
    Poisson {
        /// Arrivals a second.
        rate_hz: f64,
    },
    /// Evenly spaced arrivals at one rate.
    Uniform {
        /// Arrivals a second.
        rate_hz: f64,
    },
    /// Two-state Markov-modulated Poisson process: each state lasts an exponential time.
    Burst {
        /// The two states; the first holds at the start.
        states: [Step; 2],
    },
    /// Rates that follow one another; the last one holds for ever.
    Steps {
        /// At least one.
        steps: Vec<Step>,
        /// Evenly spaced instead of Poisson arrivals.
        is_uniform: bool,
    },
    /// Recorded arrivals, in nanoseconds from the start, never falling.
    Trace {
        /// Moments of the arrivals; shared, as every policy is given the same.
        times_ns: Arc<[u64]>,
    },
}

/// A rate that holds for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Arrivals a second.
    pub rate_hz: f64,
    /// For how long, in nanoseconds; of a burst's state, the mean.
    pub duration_ns: f64,
}

impl OpenLoop {
    /// Long-run mean rate in hertz: of steps, that of the last one; of a trace, its arrivals over
    /// the time from zero to the last of them.
    pub fn rate_hz(&self) -> f64 {
        match self {
            Self::Poisson { rate_hz } | Self::Uniform { rate_hz } => *rate_hz,
            Self::Burst { states: [a, b] } => {
                (a.rate_hz * a.duration_ns + b.rate_hz * b.duration_ns)
                    / (a.duration_ns + b.duration_ns)
            }
            Self::Steps { steps, .. } => steps.last().map_or(0.0, |step| step.rate_hz),
            Self::Trace { times_ns } => match times_ns.last() {
                Some(&last_ns) if last_ns > 0 => times_ns.len() as f64 * 1e9 / last_ns as f64,
                _ => 0.0,
            },
        }
    }

    /// The arrivals, in nanoseconds from the start, never falling; endless but for a trace.
    ///
    /// The same seed gives the same arrivals on every platform.
    pub fn arrivals(&self, seed: u64) -> Arrivals {
        Arrivals {
            random: Random::new(seed, Stream::Arrivals),
            segment_end_ns: 0.0,
            segment_index: 0,
            rate_hz: 0.0,
            elapsed_ns: 0.0,
            arrival_len: 0,
            workload: self.clone(),
        }
        .started()
    }
}

/// Iterator over the moments of arrival in nanoseconds.
#[derive(Clone, Debug)]
pub struct Arrivals {
    workload: OpenLoop,
    random: Random,
    /// End of the present stretch of constant rate.
    segment_end_ns: f64,
    segment_index: usize,
    rate_hz: f64,
    /// Moment of the latest arrival, as a real number: rounding must not add up.
    elapsed_ns: f64,
    arrival_len: usize,
}

impl Arrivals {
    fn started(mut self) -> Self {
        self.enter_segment(0.0);
        self
    }

    /// Begins the stretch of constant rate that follows `start_ns`.
    fn enter_segment(&mut self, start_ns: f64) {
        let index = self.segment_index;
        let (rate_hz, duration_ns) = match &self.workload {
            OpenLoop::Poisson { rate_hz } | OpenLoop::Uniform { rate_hz } => {
                (*rate_hz, f64::INFINITY)
            }
            OpenLoop::Burst { states } => {
                let state = states[index % 2];
                (state.rate_hz, state.duration_ns * self.random.exponential())
            }
            OpenLoop::Steps { steps, .. } => match steps.get(index + 1) {
                Some(_) => (steps[index].rate_hz, steps[index].duration_ns),
                None => (steps[index].rate_hz, f64::INFINITY),
            },
            OpenLoop::Trace { .. } => (0.0, f64::INFINITY),
        };
        self.rate_hz = rate_hz;
        self.segment_end_ns = start_ns + duration_ns;
        self.segment_index += 1;
    }

    /// Expected arrivals between one arrival and the next: 1 when they are evenly spaced.
    fn spacing(&mut self) -> f64 {
        match self.workload {
            OpenLoop::Uniform { .. } | OpenLoop::Steps { is_uniform: true, .. } => 1.0,
            _ => self.random.exponential(),
        }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let OpenLoop::Trace { times_ns } = &self.workload {
            let arrival = times_ns.get(self.arrival_len).copied();
            self.arrival_len += 1;
            return arrival;
        }
        if let OpenLoop::Uniform { rate_hz } = self.workload {
            // Counted, not added up: the millionth arrival is as exact as the first.
            self.arrival_len += 1;
            return Some((self.arrival_len as f64 * 1e9 / rate_hz).round() as u64);
        }
        // Arrivals of a changing rate are those of rate 1 on a clock that runs at that rate.
        let mut expected_len = self.spacing();
        loop {
            let next_ns = self.elapsed_ns + expected_len * 1e9 / self.rate_hz;
            if next_ns <= self.segment_end_ns {
                self.elapsed_ns = next_ns;
                return Some(next_ns.round() as u64);
            }
            expected_len -= (self.segment_end_ns - self.elapsed_ns) * self.rate_hz * 1e-9;
            expected_len = expected_len.max(0.0);
            self.elapsed_ns = self.segment_end_ns;
            self.enter_segment(self.segment_end_ns);
        }
    }
}

impl FromStr for Workload {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let (kind, rest) = spec.split_once(':').ok_or_else(|| unknown(spec, "not a workload"))?;
        let open = match kind {
            "poisson" => OpenLoop::Poisson { rate_hz: rate_hz(rest)? },
            "uniform" => OpenLoop::Uniform { rate_hz: rate_hz(rest)? },
            "burst" => {
                let states = steps(rest)?;
                let states = states.try_into().map_err(|_| {
                    refuse(rest, "a burst has two states: RATE@MEAN_TIME,RATE@MEAN_TIME")
                })?;
                OpenLoop::Burst { states }
            }
            "steps" => {
                let (rates, is_uniform) = match rest.strip_suffix(",uniform") {
                    Some(rates) => (rates, true),
                    None => (rest, false),
                };
                OpenLoop::Steps { steps: steps(rates)?, is_uniform }
            }
            "trace" => OpenLoop::Trace { times_ns: trace(Path::new(rest))? },
            "closed" => return closed(rest).map(Self::Closed),
            _ => return Err(unknown(kind, "unknown workload")),
        };
        Ok(Self::Open(open))
    }
}

fn steps(spec: &str) -> Result<Vec<Step>> {
    let step = |word: &str| {
        let (rate, duration) = word
            .split_once('@')
            .ok_or_else(|| refuse(word, "not a step; write RATE@TIME, such as 400@1s"))?;
        let duration_ns = duration_ns(duration)?;
        if duration_ns <= 0.0 {
            return Err(refuse(word, "a step needs a time above zero"));
        }
        Ok(Step { rate_hz: rate_hz(rate)?, duration_ns })
    };
    spec.split(',').map(step).collect()
}

fn closed(spec: &str) -> Result<ClosedLoop> {
    let (clients, items) = match spec.split_once(',') {
        None => (spec, None),
        Some((clients, items)) => (clients, Some(items)),
    };
    let mut clients = ClosedLoop::new(count(clients)?);
    let Some(items) = items else { return Ok(clients) };
    let unknown = |item: &str, known: &str| {
        let guess = did_you_mean(item.split('=').next().unwrap_or_default(), [known]);
        refuse(item, format!("unknown item; write closed:N,think=TIME[,exponential]{guess}"))
    };
    let (think, rest) = items.split_once(',').map_or((items, None), |(a, b)| (a, Some(b)));
    let time = think.strip_prefix("think=").ok_or_else(|| unknown(think, "think"))?;
    clients.think_ns = duration_ns(time)?.round() as u64;
    match rest {
        None => {}
        Some("exponential") => clients.is_exponential = true,
        Some(rest) => return Err(unknown(rest, "exponential")),
    }
    Ok(clients)
}

const NO_ARRIVAL: &str = "no arrival; write whole nanoseconds from the start, such as 1500000";

/// Reads a trace: one arrival a line in whole nanoseconds from the start; `#` opens a comment.
fn trace(path: &Path) -> Result<Arc<[u64]>> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        Error::new(Kind::Io, format!("cannot read trace {}: {source}", path.display()))
            .with_source(source)
    })?;
    let fault = |line: usize, what: &str| refuse(&format!("{}:{}", path.display(), line + 1), what);
    // Editors put a byte-order mark at the start.
    let text = text.trim_start_matches('\u{feff}');
    let mut times_ns: Vec<u64> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let word = content.split('#').next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        let time_ns =
            word.parse().map_err(|_| fault(line, &format!("`{word}` is {NO_ARRIVAL}")))?;
        if times_ns.last().is_some_and(|&last| last > time_ns) {
            return Err(fault(line, "earlier than the arrival before it; sort the trace"));
        }
        times_ns.push(time_ns);
    }
    if times_ns.is_empty() {
        return Err(refuse(&path.display().to_string(), "a trace needs at least one arrival"));
    }
    Ok(times_ns.into())
}

#[cfg(test)]
mod tests;
