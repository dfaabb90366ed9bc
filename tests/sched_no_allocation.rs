//! The scheduler allocates nothing after its construction.

use twinstream::sched::{
    Action, Config, Line, PolicySpec, Priority, Request, Scheduler, Stage, Stages, Trace,
};

/// Drives an overloaded scheduler through `round_len` batches and returns how many it answered.
fn drive(scheduler: &mut Scheduler, free: &mut Vec<u32>, round_len: usize) -> usize {
    let mut answered_len = 0;
    let mut now_ns = 0;
    for round in 0..round_len {
        for turn in 0..40 {
            let Some(slot) = free.pop() else { break };
            let priority = Priority::ALL[(round + turn) % 3];
            let after_ns = 2_000_000 + 100_000 * (turn as u64 % 7);
            let deadline_ns = (turn % 2 == 0).then_some(now_ns + after_ns);
            let request = Request { slot, priority, deadline_ns };
            if scheduler.submit(now_ns, request).is_err() {
                free.push(slot);
            } else if turn == 17 {
                scheduler.cancel(slot);
            }
        }
        let mut in_flight = [false; 3];
        while let Some(action) = scheduler.poll_action(now_ns) {
            match action {
                Action::Start { stage, .. } => in_flight[stage as usize] = true,
                Action::Finish { slot, .. } => {
                    free.push(slot);
                    answered_len += 1;
                }
            }
        }
        now_ns += 300_000;
        for stage in [Stage::Upload, Stage::Compute, Stage::Download] {
            if in_flight[stage as usize] {
                scheduler.stage_completed(now_ns, 0, stage, 290_000).unwrap();
            }
        }
    }
    answered_len
}

#[test]
fn nothing_is_allocated_after_construction() {
    let preferred = "fixed:preferred=4/8,len=20,delay=100us";
    let policies = PolicySpec::ALL.into_iter().chain([(preferred, preferred.parse().unwrap())]);
    for (name, policy) in policies {
        let line = Line::new(100_000.0, 5_000.0);
        let config = Config {
            slot_len: 256,
            batch_len_max: 32,
            latency_bound_ns: Some(50_000_000),
            policy,
            lines: vec![Stages { upload: line, compute: line, download: line }],
        };
        let mut scheduler = Scheduler::new(&config);
        scheduler.replace_trace(Trace::new(1000));
        let mut free: Vec<u32> = (0..256).collect();
        let mut answered_len = 0;
        let counted = allocation_counter::measure(|| {
            answered_len = drive(&mut scheduler, &mut free, 500);
        });
        assert!(answered_len > 1_000, "{name} answered {answered_len}");
        assert_eq!(counted.count_total, 0, "{name} allocated");
    }
}
