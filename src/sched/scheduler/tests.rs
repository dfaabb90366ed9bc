//! The state machine driven by hand: life of a request, refusals, failures, cancelling, draining,
//! deadlines, priorities.

use super::*;
use crate::sched::{BatchLens, Decision, Line, PolicySpec};

/// Microseconds in nanoseconds.
const US: u64 = 1_000;

const LINES: Stages<Line> = Stages {
    upload: Line::new(10_000.0, 5_000.0),
    compute: Line::new(500_000.0, 25_000.0),
    download: Line::new(10_000.0, 0.0),
};

fn config(policy: PolicySpec) -> Config {
    Config { slot_len: 64, batch_len_max: 16, latency_bound_ns: None, policy, lines: vec![LINES] }
}

fn request(slot: u32) -> Request {
    Request { slot, ..Request::default() }
}

/// The stage asked for next and its slots, sorted.
fn start(scheduler: &mut Scheduler, now_ns: u64) -> Option<(Stage, Vec<u32>, Reason)> {
    match scheduler.poll_action(now_ns)? {
        Action::Start { stage, slots, reason, .. } => {
            let mut slots = slots.to_vec();
            slots.sort_unstable();
            Some((stage, slots, reason))
        }
        finish => panic!("{finish:?} instead of a stage"),
    }
}

fn finish(scheduler: &mut Scheduler, now_ns: u64) -> Option<(u32, Outcome)> {
    match scheduler.poll_action(now_ns)? {
        Action::Finish { slot, outcome } => Some((slot, outcome)),
        start => panic!("{start:?} instead of an outcome"),
    }
}

fn complete(scheduler: &mut Scheduler, now_ns: u64, stage: Stage, elapsed_ns: u64) {
    scheduler.stage_completed(now_ns, 0, stage, elapsed_ns).unwrap();
}

#[test]
fn one_request_passes_the_three_stages() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Stream));
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.poll_action(0), None);
    assert_eq!(scheduler.poll_timeout(), None);

    scheduler.submit(US, request(3)).unwrap();
    assert_eq!(start(&mut scheduler, US), Some((Stage::Upload, vec![3], Reason::Idle)));
    assert_eq!(scheduler.poll_action(US), None);
    complete(&mut scheduler, 16 * US, Stage::Upload, 15 * US);
    assert_eq!(start(&mut scheduler, 16 * US), Some((Stage::Compute, vec![3], Reason::Idle)));
    assert_eq!(scheduler.poll_action(16 * US), None);
    complete(&mut scheduler, 541 * US, Stage::Compute, 525 * US);
    let download = Some((Stage::Download, vec![3], Reason::Idle));
    assert_eq!(start(&mut scheduler, 541 * US), download);
    assert!(!scheduler.is_idle());
    complete(&mut scheduler, 551 * US, Stage::Download, 10 * US);
    assert_eq!(finish(&mut scheduler, 551 * US), Some((3, Outcome::Completed)));
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.decision_len(Stage::Compute, Reason::Idle), 1);
}

#[test]
fn slots_are_refused_while_in_use() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Serial));
    scheduler.submit(0, request(5)).unwrap();
    assert_eq!(scheduler.submit(0, request(5)), Err(Refusal::Slot));
    assert_eq!(scheduler.submit(0, request(64)), Err(Refusal::Slot));
    assert!(scheduler.cancel(5));
    // Its outcome has not been polled: the caller may still read the slot.
    assert_eq!(scheduler.submit(0, request(5)), Err(Refusal::Slot));
    assert_eq!(finish(&mut scheduler, 0), Some((5, Outcome::Cancelled)));
    scheduler.submit(0, request(5)).unwrap();
}

#[test]
fn completions_out_of_nowhere_are_errors() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Serial));
    for (lane, stage) in
        [(0, Stage::Upload), (0, Stage::Compute), (0, Stage::Download), (1, Stage::Upload)]
    {
        let nothing = Err(NotInFlight { lane, stage });
        assert_eq!(scheduler.stage_completed(0, lane, stage, 1), nothing);
        assert_eq!(scheduler.stage_failed(0, lane, stage), nothing);
    }
}

#[test]
fn just_in_time_upload_ends_when_the_batch_does() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Jit));
    scheduler.submit(0, request(0)).unwrap();
    start(&mut scheduler, 0);
    complete(&mut scheduler, 15 * US, Stage::Upload, 15 * US);
    start(&mut scheduler, 15 * US);
    // Computing until 540 µs; two images take 20 µs to upload.
    scheduler.submit(20 * US, request(1)).unwrap();
    scheduler.submit(20 * US, request(2)).unwrap();
    assert_eq!(scheduler.poll_action(20 * US), None);
    assert_eq!(scheduler.poll_timeout(), Some(520 * US));
    let upload = Some((Stage::Upload, vec![1, 2], Reason::JustInTime));
    assert_eq!(start(&mut scheduler, 520 * US), upload);
}

#[test]
fn stream_leaves_nothing_on_the_host_when_the_batch_ends_early() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Stream));
    scheduler.submit(0, request(0)).unwrap();
    start(&mut scheduler, 0);
    complete(&mut scheduler, 15 * US, Stage::Upload, 15 * US);
    start(&mut scheduler, 15 * US);
    scheduler.submit(40 * US, request(1)).unwrap();
    assert_eq!(scheduler.poll_action(40 * US), None);
    // Halfway between its arrival and the end of the batch at 540 µs.
    assert_eq!(scheduler.poll_timeout(), Some(290 * US));
    let upload = Some((Stage::Upload, vec![1], Reason::Ahead));
    assert_eq!(start(&mut scheduler, 290 * US), upload);
    complete(&mut scheduler, 305 * US, Stage::Upload, 15 * US);
    complete(&mut scheduler, 400 * US, Stage::Compute, 385 * US);
    start(&mut scheduler, 400 * US);
    assert_eq!(start(&mut scheduler, 400 * US), Some((Stage::Compute, vec![1], Reason::Idle)));
}

#[test]
fn a_failed_stage_fails_its_requests_and_no_others() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Serial));
    scheduler.submit(0, request(0)).unwrap();
    start(&mut scheduler, 0);
    scheduler.submit(US, request(1)).unwrap();
    scheduler.stage_failed(0, 0, Stage::Upload).unwrap();
    assert_eq!(finish(&mut scheduler, US), Some((0, Outcome::Failed)));
    assert_eq!(start(&mut scheduler, US), Some((Stage::Upload, vec![1], Reason::Idle)));
    complete(&mut scheduler, 2 * US, Stage::Upload, US);
    start(&mut scheduler, 2 * US);
    scheduler.stage_failed(0, 0, Stage::Compute).unwrap();
    assert_eq!(finish(&mut scheduler, 3 * US), Some((1, Outcome::Failed)));
    assert_eq!(scheduler.poll_action(3 * US), None);
    assert!(scheduler.is_idle());
    scheduler.submit(4 * US, request(0)).unwrap();
    assert_eq!(start(&mut scheduler, 4 * US), Some((Stage::Upload, vec![0], Reason::Idle)));
}

#[test]
fn cancelled_requests_end_once_the_device_is_done_with_them() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Serial));
    scheduler.submit(0, request(0)).unwrap();
    scheduler.submit(0, request(1)).unwrap();
    start(&mut scheduler, 0);
    assert!(scheduler.cancel(0) && !scheduler.cancel(0) && !scheduler.cancel(7));
    assert_eq!(scheduler.poll_action(US), None);
    complete(&mut scheduler, 20 * US, Stage::Upload, 20 * US);
    assert_eq!(finish(&mut scheduler, 20 * US), Some((0, Outcome::Cancelled)));
    assert_eq!(start(&mut scheduler, 20 * US), Some((Stage::Compute, vec![1], Reason::Idle)));
    assert!(scheduler.cancel(1));
    complete(&mut scheduler, 545 * US, Stage::Compute, 525 * US);
    start(&mut scheduler, 545 * US);
    complete(&mut scheduler, 555 * US, Stage::Download, 10 * US);
    assert_eq!(finish(&mut scheduler, 555 * US), Some((1, Outcome::Cancelled)));
}

#[test]
fn draining_refuses_newcomers_and_flushes_those_who_wait() {
    let policy = PolicySpec::Fixed {
        batch_len: 8,
        delay_ns: 1_000 * US,
        preferred: BatchLens::NONE,
        timeout_ns: 0,
        is_eager: false,
    };
    let mut scheduler = Scheduler::new(&config(policy));
    scheduler.submit(0, request(0)).unwrap();
    assert_eq!(scheduler.poll_action(0), None);
    assert_eq!(scheduler.poll_timeout(), Some(1_000 * US));
    scheduler.drain();
    assert_eq!(scheduler.submit(US, request(1)), Err(Refusal::Draining));
    assert_eq!(start(&mut scheduler, US), Some((Stage::Upload, vec![0], Reason::Flush)));
}

#[test]
fn a_policy_drops_the_oldest() {
    let policy = "fixed:len=2,timeout=1ms".parse().unwrap();
    let mut scheduler = Scheduler::new(&config(policy));
    let of = |slot, priority| Request { priority, ..request(slot) };
    scheduler.submit(0, of(0, Priority::Normal)).unwrap();
    assert!(start(&mut scheduler, 1_000 * US).is_some(), "after the delay");
    scheduler.submit(1_100 * US, of(1, Priority::Low)).unwrap();
    scheduler.submit(1_200 * US, of(2, Priority::High)).unwrap();
    scheduler.submit(1_300 * US, of(3, Priority::Low)).unwrap();
    // Uploads are not asked for while one is on its way: by then the time of two is over.
    let now_ns = 2_250 * US;
    complete(&mut scheduler, now_ns, Stage::Upload, 15 * US);
    start(&mut scheduler, now_ns);
    assert_eq!(finish(&mut scheduler, now_ns), Some((1, Outcome::Expired)));
    assert_eq!(finish(&mut scheduler, now_ns), Some((2, Outcome::Expired)));
    assert_eq!(scheduler.poll_action(now_ns), None);
    assert_eq!(scheduler.waiting_len(), 1);
}

#[test]
fn deadlines_refuse_at_once_and_expire_on_time() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Serial));
    let until = |slot, deadline_ns| Request { deadline_ns: Some(deadline_ns), ..request(slot) };
    // One image alone takes 15 + 525 + 10 µs.
    assert_eq!(scheduler.submit(0, until(0, 540 * US)), Err(Refusal::Deadline));
    scheduler.submit(0, until(0, 560 * US)).unwrap();
    start(&mut scheduler, 0);
    complete(&mut scheduler, 15 * US, Stage::Upload, 15 * US);
    start(&mut scheduler, 15 * US);
    // The device is busy until 540 µs, the next batch of one until 1,075 µs.
    assert_eq!(scheduler.submit(20 * US, until(1, 1_000 * US)), Err(Refusal::Deadline));
    scheduler.submit(20 * US, until(1, 1_100 * US)).unwrap();
    assert_eq!(scheduler.poll_action(20 * US), None);
    // Computing takes longer than ever: at 565 µs the second one can't make it any more.
    assert_eq!(scheduler.poll_timeout(), Some(565 * US + 1));
    assert_eq!(finish(&mut scheduler, 565 * US + 1), Some((1, Outcome::Expired)));
}

#[test]
fn a_stage_that_takes_for_ever_overflows_nothing() {
    for (_, policy) in PolicySpec::ALL {
        let endless = Line::new(1e30, 1e30);
        let lines = Stages { upload: endless, compute: endless, download: endless };
        let mut scheduler = Scheduler::new(&Config { lines: vec![lines], ..config(policy) });
        let urgent = Request { deadline_ns: Some(1_000_000_000_000), ..request(63) };
        assert_eq!(scheduler.submit(0, urgent), Err(Refusal::Deadline));
        let late = Request { deadline_ns: Some(u64::MAX - 1), ..request(62) };
        scheduler.submit(0, late).unwrap();
        for slot in 0..48 {
            scheduler.submit(u64::from(slot), request(slot)).unwrap();
        }
        for moment in 0..400 {
            let now_ns = moment * 3_600_000_000_000;
            while scheduler.poll_action(now_ns).is_some() {}
            for stage in [Stage::Upload, Stage::Compute, Stage::Download] {
                let _ = scheduler.stage_completed(now_ns, 0, stage, u64::MAX);
            }
            scheduler.poll_timeout();
        }
        assert!(scheduler.is_idle(), "{policy:?}");
    }
}

#[test]
fn urgent_requests_go_first_and_earlier_deadlines_before_later_ones() {
    let mut config = config(PolicySpec::Serial);
    config.batch_len_max = 2;
    let mut scheduler = Scheduler::new(&config);
    let of = |slot, priority, deadline_us: Option<u64>| Request {
        slot,
        priority,
        deadline_ns: deadline_us.map(|deadline_us| deadline_us * US),
    };
    scheduler.submit(0, of(0, Priority::Low, None)).unwrap();
    scheduler.submit(0, of(1, Priority::Normal, Some(900_000))).unwrap();
    scheduler.submit(0, of(2, Priority::Normal, Some(90_000))).unwrap();
    scheduler.submit(0, of(3, Priority::High, None)).unwrap();
    assert_eq!(start(&mut scheduler, 0), Some((Stage::Upload, vec![2, 3], Reason::Idle)));
}

#[test]
#[should_panic(expected = "limits are at least one")]
fn empty_limits_are_refused() {
    Scheduler::new(&Config { slot_len: 0, ..config(PolicySpec::Serial) });
}

#[test]
fn a_hold_is_recorded_once_for_as_long_as_nothing_changes() {
    let mut scheduler = Scheduler::new(&config("fixed:len=3,delay=1ms".parse().unwrap()));
    scheduler.replace_trace(Trace::new(100));
    for slot in 0..3 {
        let now_ns = 100 * US * u64::from(slot);
        scheduler.submit(now_ns, request(slot)).unwrap();
        for again_ns in (0..50).step_by(10) {
            scheduler.poll_action(now_ns + again_ns * US);
        }
    }
    let trace = scheduler.replace_trace(Trace::default());
    let decisions: Vec<_> = trace
        .events()
        .filter_map(|event| match event.kind {
            TraceKind::Decided { stage, seen, decision, .. } => {
                Some((event.at_ns, stage, seen.waiting_len, decision))
            }
            _ => None,
        })
        .collect();
    let hold = Decision::Hold { until_ns: Some(1000 * US) };
    let go = Decision::Go { len: 3, reason: Reason::Full };
    let expected = [(0, 1, hold), (100 * US, 2, hold), (200 * US, 3, go)];
    assert_eq!(decisions, expected.map(|(at_ns, len, told)| (at_ns, Stage::Upload, len, told)));
}

/// 400 pairs, each request about 250 µs behind the other, every 5 ms, on a device whose batches
/// take a millisecond more than their images; asked all the time or only when something happens or
/// is due. Batches, and requests by outcome.
fn pairs(latency_bound_ns: Option<u64>, is_always_asked: bool) -> (u64, [u64; 4]) {
    const STEP: u64 = 2 * US;
    let lines = Stages { compute: Line::new(1e6, 25e3), ..LINES };
    let config = Config { lines: vec![lines], latency_bound_ns, ..config(PolicySpec::Stream) };
    let mut scheduler = Scheduler::new(&config);
    let arrivals_ns = (0..400).flat_map(|pair| {
        let first_ns = 5_000 * US * (pair + 1);
        [first_ns, first_ns + (200 + pair * 37 % 101) * US]
    });
    let mut arrivals_ns = arrivals_ns.map(|at_ns| at_ns / STEP * STEP).peekable();
    let mut ends: Vec<(u64, Stage, u64)> = Vec::new();
    let (mut slot, mut batch_count, mut outcomes) = (0, 0, [0; 4]);
    for now_ns in (0..2_010_000 * US).step_by(STEP as usize) {
        let mut is_due = scheduler.poll_timeout().is_some_and(|due_ns| now_ns >= due_ns);
        while let Some(index) = ends.iter().position(|(end_ns, ..)| *end_ns <= now_ns) {
            let (_, stage, elapsed_ns) = ends.swap_remove(index);
            complete(&mut scheduler, now_ns, stage, elapsed_ns);
            is_due = true;
        }
        while arrivals_ns.next_if(|at_ns| *at_ns <= now_ns).is_some() {
            slot = (slot + 1) % 64;
            let _ = scheduler.submit(now_ns, request(slot));
            is_due = true;
        }
        while (is_due || is_always_asked)
            && let Some(action) = scheduler.poll_action(now_ns)
        {
            match action {
                Action::Finish { outcome, .. } => outcomes[outcome as usize] += 1,
                Action::Start { stage, slots, .. } => {
                    let elapsed_ns = lines.of(stage).at_ns(slots.len()) as u64;
                    batch_count += u64::from(stage == Stage::Compute);
                    ends.push((now_ns + elapsed_ns, stage, elapsed_ns));
                }
            }
        }
    }
    (batch_count, outcomes)
}

/// Who asks again before anything has happened gets the same answer: a hold lasts as long in an
/// engine that spins as in the simulator.
#[test]
fn a_hold_is_not_given_up_by_asking_again() {
    let [asked, left_alone] = [true, false].map(|is_always_asked| pairs(None, is_always_asked));
    assert_eq!(asked, left_alone);
    let (batch_count, outcomes) = asked;
    assert_eq!(outcomes, [800, 0, 0, 0]);
    assert!(batch_count < 450, "{batch_count} batches of 400 pairs");
}

/// An idle device waits for nobody at the price of a deadline.
#[test]
fn a_hold_makes_nobody_late() {
    for bound_us in [1_150, 1_300, 1_600, 2_500] {
        let (batch_count, outcomes) = pairs(Some(bound_us * US), true);
        let [completed_len, expired_len, ..] = outcomes;
        println!("{bound_us} µs: {batch_count} batches, {completed_len} in time, {outcomes:?}");
        assert_eq!(expired_len, 0, "{bound_us} µs: {outcomes:?}");
        // Where there is no time to wait for the second, it is refused or comes behind the first.
        assert!(completed_len >= 400, "{bound_us} µs: {outcomes:?}");
    }
}

/// When requests that arrive now, in slots from 0 on, are all answered, by a device that takes as
/// long as foretold.
///
/// # Panics
/// When that takes longer than 10 ms.
fn answered_ns(scheduler: &mut Scheduler, arrival_ns: u64, request_len: u32) -> u64 {
    (0..request_len).for_each(|slot| scheduler.submit(arrival_ns, request(slot)).unwrap());
    let (mut now_ns, mut left_len) = (arrival_ns, request_len);
    let mut work = Vec::new();
    while left_len > 0 {
        while let Some(action) = scheduler.poll_action(now_ns) {
            match action {
                Action::Start { stage, slots, .. } => {
                    let elapsed_ns = LINES.of(stage).at_ns(slots.len()) as u64;
                    work.push((now_ns + elapsed_ns, stage, elapsed_ns));
                }
                Action::Finish { .. } => left_len -= 1,
            }
        }
        work.sort_unstable_by_key(|&(end_ns, ..)| std::cmp::Reverse(end_ns));
        let due_ns = scheduler.poll_timeout().unwrap_or(u64::MAX);
        match work.pop_if(|&mut (end_ns, ..)| end_ns <= due_ns) {
            Some((end_ns, stage, elapsed_ns)) => {
                now_ns = end_ns;
                complete(scheduler, now_ns, stage, elapsed_ns);
            }
            None if left_len > 0 => now_ns = due_ns,
            None => {}
        }
        assert!(now_ns < arrival_ns + 10_000 * US, "{left_len} of {request_len} are kept waiting");
    }
    now_ns
}

/// Clients come back together until they are believed to; then all but one leave.
#[test]
fn nobody_waits_for_those_who_left() {
    let mut scheduler = Scheduler::new(&config(PolicySpec::Stream));
    let think_ns = 100 * US;
    let mut now_ns = 0;
    for _ in 0..100 {
        now_ns = answered_ns(&mut scheduler, now_ns, 4) + think_ns;
    }
    assert_eq!(scheduler.echo.think_ns(), Some(think_ns));
    let alone_ns = [15, 525, 10].iter().sum::<u64>() * US;
    for round in 0..100 {
        let end_ns = answered_ns(&mut scheduler, now_ns, 1);
        // It may wait once for as long as they may be late.
        assert!(end_ns - now_ns < alone_ns * 5 / 4, "round {round}: {} ns", end_ns - now_ns);
        now_ns = end_ns + think_ns;
    }
}

/// Goal: whatever of its way a request has gone on a lane that is lost, another lane answers it,
/// before those that came later; one that was cancelled ends with the lane.
#[test]
fn what_a_lost_lane_had_is_computed_by_another_first() {
    // Stages that end on the first lane before it is lost: it uploads, computes or downloads then.
    for ended_len in 0..3 {
        let mut scheduler =
            Scheduler::new(&Config { lines: vec![LINES; 2], ..config(PolicySpec::Serial) });
        scheduler.submit(0, request(0)).unwrap();
        scheduler.submit(0, request(1)).unwrap();
        let started = scheduler.poll_action(0);
        assert!(matches!(started, Some(Action::Start { lane: 0, slots: [0, 1], .. })));
        for stage in [Stage::Upload, Stage::Compute].into_iter().take(ended_len) {
            complete(&mut scheduler, US, stage, US);
            assert!(matches!(scheduler.poll_action(US), Some(Action::Start { lane: 0, .. })));
        }
        scheduler.submit(US, request(2)).unwrap();
        assert!(scheduler.cancel(0));
        scheduler.lane_lost(US, 0);
        assert!(scheduler.is_lane_lost(0));
        let nothing = Err(NotInFlight { lane: 0, stage: Stage::Upload });
        assert_eq!(scheduler.stage_completed(US, 0, Stage::Upload, 1), nothing);
        assert_eq!(finish(&mut scheduler, US), Some((0, Outcome::Cancelled)), "{ended_len}");
        let started = scheduler.poll_action(US);
        let expected = [1, 2];
        assert!(
            matches!(started, Some(Action::Start { lane: 1, slots, .. }) if slots == expected),
            "{ended_len}: {started:?}"
        );
        assert_eq!(scheduler.poll_action(US), None);

        scheduler.lane_returned(0);
        scheduler.submit(US, request(3)).unwrap();
        let started = scheduler.poll_action(US);
        assert!(matches!(started, Some(Action::Start { lane: 0, slots: [3], .. })), "{started:?}");
    }
}
