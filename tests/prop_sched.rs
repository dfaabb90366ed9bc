//! Properties of the scheduler under any sequence of calls, well-timed or not.

use std::collections::HashMap;

use proptest::prelude::*;
use twinstream::sched::{
    Action, BatchLens, Config, Line, Outcome, PolicySpec, Priority, Refusal, Request, Scheduler,
    Stage, Stages,
};

const SLOTS: u32 = 24;
const BATCH_LEN_MAX: usize = 6;

#[derive(Clone, Debug)]
enum Call {
    Submit { slot: u32, priority: Priority, deadline_us: Option<u64> },
    Complete { stage: Stage, elapsed_us: u64 },
    Fail { stage: Stage },
    Cancel { slot: u32 },
    Pass { time_us: u64 },
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![Just(Stage::Upload), Just(Stage::Compute), Just(Stage::Download)]
}

fn call() -> impl Strategy<Value = Call> {
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    prop_oneof![
        6 => (0..SLOTS + 2, priority, proptest::option::weighted(0.3, 0..5_000_u64))
            .prop_map(|(slot, priority, deadline_us)| Call::Submit { slot, priority, deadline_us }),
        8 => (stage(), 0..2_000_u64)
            .prop_map(|(stage, elapsed_us)| Call::Complete { stage, elapsed_us }),
        1 => stage().prop_map(|stage| Call::Fail { stage }),
        1 => (0..SLOTS + 2).prop_map(|slot| Call::Cancel { slot }),
        4 => (0..1_000_u64).prop_map(|time_us| Call::Pass { time_us }),
    ]
}

/// Preferred lengths, within the longest batch or not.
fn lens() -> impl Strategy<Value = BatchLens> {
    proptest::collection::vec(1..12_usize, 0..4).prop_map(|lens| BatchLens::new(&lens).unwrap())
}

fn policy() -> impl Strategy<Value = PolicySpec> {
    prop_oneof![
        Just(PolicySpec::Serial),
        (1..10_usize, 0..2_000_000_u64, lens(), 0..3_000_000_u64, any::<bool>()).prop_map(
            |(batch_len, delay_ns, preferred, timeout_ns, is_eager)| {
                let timeout_ns = timeout_ns.saturating_sub(1_000_000);
                PolicySpec::Fixed { batch_len, delay_ns, preferred, timeout_ns, is_eager }
            }
        ),
        (1..10_usize, 1..5_000_000_u64, any::<bool>()).prop_map(
            |(batch_len, bound_ns, is_dropping)| {
                PolicySpec::Deferred { batch_len, bound_ns, is_dropping }
            }
        ),
        (1..10_usize, 1..2_000_000_u64)
            .prop_map(|(batch_len, tick_ns)| PolicySpec::Adaptive { batch_len, tick_ns }),
        (1..4_usize, 1..5_000_000_u64)
            .prop_map(|(increase, bound_ns)| PolicySpec::Aimd { increase, bound_ns }),
        Just(PolicySpec::Paper),
        Just(PolicySpec::Jit),
        Just(PolicySpec::Stream),
    ]
}

/// What the caller knows: which slots are alive, what is in flight.
struct Caller {
    scheduler: Scheduler,
    now_ns: u64,
    alive: HashMap<u32, Where>,
    in_flight: [Vec<Vec<u32>>; 3],
    has_bound: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Host,
    InFlight(Stage),
    Device,
    Computed,
    Done,
}

impl Caller {
    fn poll(&mut self) {
        // More actions than this at one moment would be a loop.
        for _ in 0..8 * SLOTS {
            match self.scheduler.poll_action(self.now_ns) {
                None => return,
                Some(Action::Finish { slot, outcome }) => {
                    let place = self.alive.remove(&slot).expect("only the living end");
                    let is_done = place == Where::Done;
                    assert!(!matches!(place, Where::InFlight(_)), "{slot} ended in flight");
                    assert!(outcome != Outcome::Completed || is_done, "{slot} was not computed");
                }
                Some(Action::Start { stage, slots, .. }) => {
                    assert!((1..=BATCH_LEN_MAX).contains(&slots.len()), "{stage:?} {slots:?}");
                    let before = match stage {
                        Stage::Upload => Where::Host,
                        Stage::Compute => Where::Device,
                        Stage::Download => Where::Computed,
                    };
                    for slot in slots {
                        let place = self.alive.insert(*slot, Where::InFlight(stage));
                        assert_eq!(place, Some(before), "{stage:?} of {slot}");
                    }
                    let depth = if stage == Stage::Download { 4 } else { 1 };
                    self.in_flight[stage as usize].push(slots.to_vec());
                    assert!(self.in_flight[stage as usize].len() <= depth);
                }
            }
        }
        panic!("actions without end");
    }

    fn end_stage(&mut self, stage: Stage, elapsed_ns: Option<u64>) {
        let told = match elapsed_ns {
            Some(elapsed_ns) => self.scheduler.stage_completed(self.now_ns, 0, stage, elapsed_ns),
            None => self.scheduler.stage_failed(self.now_ns, 0, stage),
        };
        let queue = &mut self.in_flight[stage as usize];
        assert_eq!(told.is_ok(), !queue.is_empty());
        if told.is_err() {
            return;
        }
        let after = match stage {
            _ if elapsed_ns.is_none() => Where::Done,
            Stage::Upload => Where::Device,
            Stage::Compute => Where::Computed,
            Stage::Download => Where::Done,
        };
        for slot in queue.remove(0) {
            self.alive.insert(slot, after);
        }
    }

    fn call(&mut self, call: &Call) {
        match *call {
            Call::Submit { slot, priority, deadline_us } => {
                let deadline_ns = deadline_us.map(|after_us| self.now_ns + after_us * 1_000);
                let request = Request { slot, priority, deadline_ns };
                let is_free = slot < SLOTS && !self.alive.contains_key(&slot);
                match self.scheduler.submit(self.now_ns, request) {
                    Ok(()) => {
                        assert!(is_free, "slot {slot} was taken");
                        self.alive.insert(slot, Where::Host);
                    }
                    Err(Refusal::Slot) => assert!(!is_free, "slot {slot} was free"),
                    Err(Refusal::Deadline) => {
                        assert!(deadline_us.is_some() || self.has_bound);
                    }
                    Err(Refusal::Draining) => panic!("nothing drains yet"),
                }
            }
            Call::Complete { stage, elapsed_us } => self.end_stage(stage, Some(elapsed_us * 1_000)),
            Call::Fail { stage } => self.end_stage(stage, None),
            Call::Cancel { slot } => {
                let cancelled = self.scheduler.cancel(slot);
                assert!(!cancelled || self.alive.contains_key(&slot));
            }
            Call::Pass { time_us } => self.now_ns += time_us * 1_000,
        }
        self.poll();
    }

    /// Ends whatever is in flight and lets time pass until nothing is alive.
    fn drain(&mut self) {
        self.scheduler.drain();
        self.poll();
        for _ in 0..10_000 {
            if self.alive.is_empty() {
                return;
            }
            let timeout_ns = self.scheduler.poll_timeout();
            self.now_ns = timeout_ns.unwrap_or(self.now_ns + 1_000).max(self.now_ns + 1);
            for stage in [Stage::Upload, Stage::Compute, Stage::Download] {
                if !self.in_flight[stage as usize].is_empty() {
                    self.end_stage(stage, Some(100_000));
                }
            }
            self.poll();
        }
        panic!("never ended: {:?}", self.alive);
    }
}

proptest! {
    // A failure prints the shortest calls that cause it; no file beside the sources is needed.
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever is called when: requests pass their stages in order, end once, and all of them do.
    #[test]
    fn any_sequence_of_calls_is_survived(
        policy in policy(),
        latency_bound_us in proptest::option::of(1..20_000_u64),
        calls in proptest::collection::vec(call(), 1..300),
    ) {
        let config = Config {
            slot_len: SLOTS as usize,
            batch_len_max: BATCH_LEN_MAX,
            latency_bound_ns: latency_bound_us.map(|bound_us| bound_us * 1_000),
            policy,
            lines: vec![Stages {
                upload: Line::new(10_000.0, 5_000.0),
                compute: Line::new(500_000.0, 25_000.0),
                download: Line::new(10_000.0, 0.0),
            }],
        };
        let mut caller = Caller {
            scheduler: Scheduler::new(&config),
            now_ns: 0,
            alive: HashMap::new(),
            in_flight: Default::default(),
            has_bound: latency_bound_us.is_some(),
        };
        for call in &calls {
            caller.call(call);
        }
        caller.drain();
        prop_assert!(caller.scheduler.is_idle());
        prop_assert_eq!(caller.scheduler.poll_timeout(), None);
    }
}
