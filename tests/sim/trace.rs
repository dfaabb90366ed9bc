//! Traces of random worlds, in Chrome's trace event format, against what the worlds' events say.

use twinstream::sched::{Action, Request, Scheduler, Stage, Trace, chrome_json};
use twinstream::sim::{Event, Observer, Setup, run};

use super::trace_format::{self, Process};
use super::worlds::{seed, sound_world, world};

const ROWS: [&str; 3] = ["upload", "compute", "download"];

/// What a world's events say.
#[derive(Default)]
struct Noted {
    /// By stage: start, end, images and reason.
    slices: [Vec<(u64, u64, usize, &'static str)>; 3],
    failed_len: usize,
    arrivals_ns: Vec<u64>,
    /// Requests that wait for their upload, where that changes.
    waiting: Vec<(u64, f64)>,
    waiting_len: usize,
}

impl Observer for Noted {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        match *event {
            Event::Submitted { .. } => {
                self.arrivals_ns.push(now_ns);
                self.waiting_len += 1;
            }
            Event::Asked { stage, slots, reason, span_ns: (start_ns, end_ns), .. } => {
                let slice = (start_ns, end_ns, slots.len(), reason.name());
                self.slices[stage as usize].push(slice);
                if stage != Stage::Upload {
                    return;
                }
                self.waiting_len = self.waiting_len.saturating_sub(slots.len());
            }
            Event::Ended { is_failed, .. } => {
                self.failed_len += usize::from(is_failed);
                return;
            }
            _ => return,
        }
        self.waiting.push((now_ns, self.waiting_len as f64));
    }
}

/// What a world's events say, its trace, and that as it is read from its text.
fn traced(setup: Setup, trace_len: usize) -> (Noted, Trace, Process) {
    let mut noted = Noted::default();
    let trace = run(&Setup { trace_len, ..setup }, &mut noted).trace;
    let mut processes = trace_format::read(&chrome_json(&[("world", &trace)]));
    assert_eq!(processes.len(), 1);
    (noted, trace, processes.remove(0))
}

/// The slices of a row as they are noted.
fn slices(process: &Process, row: &str) -> Vec<(u64, u64, usize, String)> {
    let slices = process.slices.get(row).into_iter().flatten();
    let slice = |(start_ns, end_ns, args): &trace_format::Slice| {
        let len = args["len"].as_u64().unwrap() as usize;
        (*start_ns, *end_ns, len, args["reason"].as_str().unwrap().to_owned())
    };
    slices.map(slice).collect()
}

#[test]
fn a_trace_shows_what_happened() {
    let first = seed();
    for seed in (0..60).map(|offset| first.wrapping_add(offset)) {
        let (noted, trace, process) = traced(world(seed), 1 << 16);
        assert_eq!(trace.lost_len(), 0, "TWINSTREAM_SEED={seed}");
        for (row, noted) in ROWS.into_iter().zip(&noted.slices) {
            let expected: Vec<_> = noted
                .iter()
                .map(|&(start_ns, end_ns, len, reason)| (start_ns, end_ns, len, reason.to_owned()))
                .collect();
            assert_eq!(slices(&process, row), expected, "{row}, TWINSTREAM_SEED={seed}");
        }
        let outcomes = process.slices.values().flatten().map(|(.., args)| &args["outcome"]);
        let failed_len = outcomes.clone().filter(|outcome| **outcome == "failed").count();
        assert_eq!(failed_len, noted.failed_len, "TWINSTREAM_SEED={seed}");
        let completed_len = outcomes.filter(|outcome| **outcome == "completed").count();
        let asked_len: usize = noted.slices.iter().map(Vec::len).sum();
        assert_eq!(completed_len, asked_len - failed_len, "TWINSTREAM_SEED={seed}");
        let arrivals = process.instants.get("arrivals").into_iter().flatten();
        let arrivals_ns: Vec<u64> = arrivals.map(|(at_ns, ..)| *at_ns).collect();
        assert_eq!(arrivals_ns, noted.arrivals_ns, "TWINSTREAM_SEED={seed}");
    }
}

#[test]
fn a_trace_counts_those_that_wait_and_says_why_each_upload_went() {
    let first = seed();
    // In some of these worlds nobody is ever held.
    let held = (0..8).map(|offset| check_decisions(first.wrapping_add(offset)));
    let held_len: usize = held.sum();
    assert!(held_len > 100, "{held_len} holds, TWINSTREAM_SEED={first}");
}

/// Compares the decisions in a world's trace with what the world did; how many of them held.
fn check_decisions(seed: u64) -> usize {
    let (noted, _, process) = traced(sound_world(seed), 1 << 16);
    assert!(noted.waiting.len() > 3_000);
    assert_eq!(process.counters["waiting"], noted.waiting, "TWINSTREAM_SEED={seed}");
    let (mut gone_len, mut held_len) = (0, 0);
    for (at_ns, name, args) in &process.instants["decisions"] {
        match name.as_str() {
            "upload: go" => {
                // Nothing limits these worlds but the longest batch.
                let (start_ns, _, len, reason) = noted.slices[0][gone_len];
                let answer = (*at_ns, args["len"].as_u64().unwrap() as usize);
                assert_eq!(answer, (start_ns, len), "TWINSTREAM_SEED={seed}");
                assert_eq!(args["reason"], reason);
                assert!(args["waiting"].as_u64().unwrap() >= len as u64);
                assert!(args["arrivals_per_s"].as_f64().unwrap() > 0.0);
                gone_len += 1;
            }
            "upload: hold" => held_len += 1,
            _ => {}
        }
    }
    assert_eq!(gone_len, noted.slices[0].len(), "TWINSTREAM_SEED={seed}");
    held_len
}

#[test]
fn a_short_trace_holds_the_end_of_a_long_one() {
    let first = seed();
    for seed in (0..60).map(|offset| first.wrapping_add(offset)) {
        let (_, all, whole) = traced(world(seed), 1 << 16);
        let (_, trace, process) = traced(world(seed), 100);
        let all: Vec<_> = all.events().collect();
        let kept: Vec<_> = trace.events().collect();
        assert_eq!(kept.len(), all.len().min(100));
        assert!(all.ends_with(&kept), "TWINSTREAM_SEED={seed}");
        assert_eq!(trace.lost_len(), (all.len() - kept.len()) as u64);
        for row in ROWS {
            let (part, whole) = (slices(&process, row), slices(&whole, row));
            assert!(whole.ends_with(&part), "{row}, TWINSTREAM_SEED={seed}");
        }
    }
}

#[test]
fn work_under_way_is_shown_up_to_the_end() {
    let setup = sound_world(1);
    let mut scheduler = Scheduler::new(&setup.config);
    scheduler.replace_trace(Trace::new(100));
    scheduler.submit(1_000, Request::default()).unwrap();
    let action = scheduler.poll_action(1_000);
    assert!(matches!(action, Some(Action::Start { stage: Stage::Upload, .. })), "{action:?}");
    scheduler.submit(5_001, Request { slot: 1, ..Request::default() }).unwrap();
    let process = trace_format::read(&scheduler.replace_trace(Trace::default()).chrome_json());
    let (start_ns, end_ns, args) = &process[0].slices["upload"][0];
    assert_eq!((*start_ns, *end_ns), (1_000, 5_001));
    assert!(args["outcome"] == "unfinished" && args["actual_us"].is_null(), "{args}");
}

#[test]
fn several_traces_stand_beside_each_other_and_names_are_quoted() {
    let (_, trace, _) = traced(sound_world(1), 1000);
    let name = "fixed:len=8, \"tick\\\n";
    let processes = trace_format::read(&chrome_json(&[("stream", &trace), (name, &trace)]));
    let names: Vec<&str> = processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["stream", name]);
    assert_eq!(processes[0].slices, processes[1].slices);
}
