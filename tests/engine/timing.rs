//! What answers say of their times, and traces of running engines: beside the simulator's.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use twinstream::backend::{Geometry, Null};
use twinstream::engine::{Answer, Engine, EngineOptions, Handler, RequestOptions};
use twinstream::sched::{Timing, TraceKind, chrome_json};

use super::trace_format;

const GEOMETRY: Geometry = Geometry { image_bytes: 100, result_len: 3, batch_len_max: 16 };

fn engine(trace_len: usize) -> Engine {
    let options = EngineOptions::default().slot_len(64).trace_len(trace_len);
    Engine::start(Null::new(GEOMETRY), &options).unwrap()
}

fn ask(engine: &Engine) -> Timing {
    let ticket = engine.submit(&[1; 100], RequestOptions::default()).unwrap();
    *ticket.wait().unwrap().timing()
}

/// The six parts of a latency, which must add up to it.
fn parts_ns(timing: &Timing) -> [u64; 6] {
    let parts_ns = [
        timing.queued_ns(),
        timing.uploading_ns(),
        timing.waiting_ns(),
        timing.computing_ns(),
        timing.downloading_ns(),
        timing.announcing_ns(),
    ];
    assert_eq!(parts_ns.iter().sum::<u64>(), timing.latency_ns(), "{timing:?}");
    parts_ns
}

#[test]
fn times_add_up_to_what_the_caller_measures_and_to_the_statistics() {
    let engine = engine(0);
    let mut sums_ns = [0; 4];
    for number in 0..500 {
        let start = Instant::now();
        let timing = ask(&engine);
        let [queued_ns, uploading_ns, waiting_ns, computing_ns, downloading_ns, announcing_ns] =
            parts_ns(&timing);
        assert!(u128::from(timing.latency_ns()) <= start.elapsed().as_nanos());
        assert_eq!((timing.batch, timing.batch_len), (number, 1));
        let until_compute_ns = queued_ns + uploading_ns + waiting_ns;
        let device_ns = computing_ns + downloading_ns;
        let parts_ns = [timing.latency_ns(), until_compute_ns, device_ns, announcing_ns];
        for (sum_ns, part_ns) in sums_ns.iter_mut().zip(parts_ns) {
            *sum_ns += part_ns;
        }
    }
    assert!(engine.drain(Duration::from_secs(10)));
    let stats = engine.stats();
    let histograms = [stats.latency, stats.waiting, stats.computing, stats.notifying];
    for (histogram, sum_ns) in histograms.iter().zip(sums_ns) {
        assert_eq!(histogram.len(), 500);
        assert!((histogram.mean_ns() * 500.0 - sum_ns as f64).abs() < 1.0, "{sum_ns}");
    }
}

#[test]
fn handlers_are_told_times_too() {
    let engine = engine(0);
    let (tell, told) = mpsc::channel();
    let handler: Arc<dyn Handler> = Arc::new(move |tag, answer: Answer| {
        let _ = tell.send((tag, *answer.unwrap().timing()));
    });
    for tag in 0..20 {
        let lease = engine.lease().unwrap();
        lease.commit_with(RequestOptions::default(), Arc::clone(&handler), tag).unwrap();
        let (found, timing) = told.recv().unwrap();
        assert_eq!((found, timing.batch), (tag, tag));
        parts_ns(&timing);
    }
}

#[test]
fn a_trace_is_taken_while_requests_come_and_loses_and_repeats_none() {
    const REQUESTS: usize = 20_000;
    let engine = engine(1 << 17);
    let mut traces = Vec::new();
    thread::scope(|scope| {
        let producer = scope.spawn(|| (0..REQUESTS).map(|_| ask(&engine)).collect::<Vec<_>>());
        while !producer.is_finished() {
            traces.push(engine.take_trace().unwrap());
            thread::sleep(Duration::from_micros(300));
        }
        traces.push(engine.take_trace().unwrap());
        let timings = producer.join().unwrap();
        let events: Vec<_> = traces.iter().flat_map(|trace| trace.events()).collect();
        assert!(events.is_sorted_by_key(|event| event.at_ns));
        let arrived =
            events.iter().filter(|event| matches!(event.kind, TraceKind::Arrived { .. })).count();
        assert_eq!(arrived, REQUESTS);
        let ends_ns = events.iter().filter_map(|event| match event.kind {
            TraceKind::Ended { stage: twinstream::sched::Stage::Compute, .. } => Some(event.at_ns),
            _ => None,
        });
        let computed_ns = timings.iter().map(|timing| timing.compute_ended_ns);
        assert!(ends_ns.eq(computed_ns), "each batch ended when its request says");
    });
    assert!(traces.len() > 3, "{} traces", traces.len());
    for trace in &traces {
        trace_format::read(&trace.chrome_json());
    }
}

#[test]
fn a_trace_keeps_the_latest_and_outlives_its_engine() {
    let engine = engine(64);
    for _ in 0..100 {
        ask(&engine);
    }
    assert!(engine.drain(Duration::from_secs(10)));
    let trace = engine.take_trace().unwrap();
    assert_eq!((trace.events().count(), trace.capacity()), (64, 64));
    assert!(trace.lost_len() > 100);
    let processes = trace_format::read(&chrome_json(&[("engine", &trace)]));
    assert!(processes[0].slices["compute"].len() > 5);
    assert_eq!(engine.take_trace().unwrap().events().count(), 0);
}

#[test]
fn nothing_is_traced_unless_asked_for_nor_taken_where_it_would_wait_for_itself() {
    assert_eq!(engine(0).take_trace(), None);
    let options = EngineOptions::default().trace_len((1 << 24) + 1);
    assert!(Engine::start(Null::new(GEOMETRY), &options).unwrap_err().is_argument());
    let engine = Arc::new(engine(64));
    let (tell, told) = mpsc::channel();
    let own = Arc::clone(&engine);
    let handler: Arc<dyn Handler> = Arc::new(move |_, answer: Answer| {
        drop(answer);
        let _ = tell.send(own.take_trace());
    });
    engine.lease().unwrap().commit_with(RequestOptions::default(), handler, 0).unwrap();
    assert_eq!(told.recv().unwrap(), None);
    assert!(engine.take_trace().is_some());
}

/// The same requests on the same device, live and in virtual time.
#[cfg(feature = "sim")]
mod beside_the_simulator {
    use super::*;
    use twinstream::backend::SimulatedDevice;
    use twinstream::sched::{Outcome, PolicySpec, Reason};
    use twinstream::sim::device::DeviceSpec;
    use twinstream::sim::{Event, Observer, run, summary};

    /// Batches of four, as soon as there are four.
    const POLICY: &str = "fixed:len=4,delay=60s";
    const DEVICE: &str = "up=2ms+100us,compute=8ms+500us,down=1ms+50us";
    const REQUESTS: usize = 12;
    /// How late each part may be, on average, in one of so many runs: others may be busy.
    const LATE_NS: u64 = 3_000_000;
    const RUNS: usize = 10;

    struct Told(Vec<Timing>);

    impl Observer for Told {
        fn event(&mut self, _now_ns: u64, event: &Event<'_>) {
            if let Event::Finished { outcome: Outcome::Completed, timing, .. } = *event {
                self.0.extend(timing);
            }
        }
    }

    fn simulated(device: &DeviceSpec, policy: PolicySpec) -> Vec<Timing> {
        let workload = "uniform:100000000".parse().unwrap();
        let mut setup = summary::setup(device, &workload, policy, 16, 1);
        setup.arrival_len_max = REQUESTS as u64;
        let mut told = Told(Vec::new());
        run(&setup, &mut told);
        told.0
    }

    fn live(device: &DeviceSpec, policy: PolicySpec) -> Vec<Timing> {
        let backend = SimulatedDevice::new(device, 1, GEOMETRY).unwrap();
        let costs = Some(device.lines());
        let options = EngineOptions::default().policy(policy).costs(costs).slot_len(64);
        let engine = Engine::start(backend, &options).unwrap();
        let submit = |_| engine.submit(&[1; 100], RequestOptions::default()).unwrap();
        let tickets: Vec<_> = (0..REQUESTS).map(submit).collect();
        tickets.into_iter().map(|ticket| *ticket.wait().unwrap().timing()).collect()
    }

    #[test]
    fn answers_say_live_what_they_say_in_virtual_time() {
        let (device, policy) = (DEVICE.parse().unwrap(), POLICY.parse().unwrap());
        let mut simulated = simulated(&device, policy);
        simulated.sort_by_key(|timing| timing.batch);
        let runs = std::iter::repeat_with(|| late_ns(&simulated, live(&device, policy)));
        let is_late = |late_ns: &[u64; 6]| late_ns.iter().any(|&late_ns| late_ns > LATE_NS);
        let runs: Vec<_> = runs.take(RUNS).take_while(is_late).collect();
        assert!(runs.len() < RUNS, "{runs:?}");
    }

    /// How much longer each part took live, on average.
    fn late_ns(simulated: &[Timing], mut live: Vec<Timing>) -> [u64; 6] {
        assert_eq!((simulated.len(), live.len()), (REQUESTS, REQUESTS));
        live.sort_by_key(|timing| timing.batch);
        let mut late_ns = [0; 6];
        for (simulated, live) in simulated.iter().zip(&live) {
            let batch = |timing: &Timing| {
                let Timing { batch, batch_len, reason, predicted_ns, computed_ns, .. } = *timing;
                (batch, batch_len, reason, predicted_ns, computed_ns)
            };
            assert_eq!(batch(live), batch(simulated));
            assert_eq!((live.batch_len, live.reason), (4, Reason::Full));
            let parts_ns = parts_ns(simulated).into_iter().zip(parts_ns(live));
            for (stage, (expected_ns, found_ns)) in parts_ns.enumerate() {
                // The device itself is never early.
                let is_stage = [1, 3, 4].contains(&stage);
                assert!(!is_stage || found_ns >= expected_ns, "{live:?}, not {simulated:?}");
                late_ns[stage] += found_ns.saturating_sub(expected_ns) / REQUESTS as u64;
            }
        }
        late_ns
    }
}
