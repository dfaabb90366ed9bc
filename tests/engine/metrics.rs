//! What the engine says of itself: statistics that add up, and their text as a scraper reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use twinstream::backend::{Geometry, Null};
use twinstream::engine::{
    Answer, Engine, EngineOptions, Refused, RequestOptions, Stats, prometheus,
};

use super::common::skip;

const GEOMETRY: Geometry = Geometry { image_bytes: 100, result_len: 3, batch_len_max: 16 };

/// Statistics after `request_len` requests, one of which is cancelled or completed.
fn served(request_len: usize) -> Stats {
    let options = EngineOptions::default().slot_len(64);
    let engine = Engine::start(Null::new(GEOMETRY), &options).unwrap();
    let image = vec![1; GEOMETRY.image_bytes];
    for _ in 0..request_len {
        engine.submit(&image, RequestOptions::default()).unwrap().wait().unwrap();
    }
    drop(engine.submit(&image, RequestOptions::default()).unwrap());
    assert!(engine.drain(Duration::from_secs(10)));
    engine.stats()
}

#[test]
fn histograms_and_bytes_add_up() {
    let stats = served(500);
    assert_eq!(stats.accepted, 501);
    assert_eq!(stats.latency.len(), stats.completed);
    assert!(stats.latency.quantile_ns(0.5) <= stats.latency.quantile_ns(0.99));
    assert!(stats.latency.quantile_ns(0.99) <= stats.latency.max_ns());
    assert!(stats.latency.mean_ns() > 0.0);
    let batched_len = stats.batch_lens.image_len();
    assert!(batched_len == stats.completed || batched_len == stats.completed + 1);
    assert_eq!(stats.batch_lens.len(), stats.started.compute.iter().sum::<u64>());
    // Calibration is not counted.
    assert_eq!(stats.downloaded_bytes, batched_len * 3 * 4);
    assert_eq!(stats.uploaded_bytes % 100, 0);
    assert!(stats.uploaded_bytes >= 100 * batched_len);
}

/// A sample's labels, without the bound of a bucket.
type Labels = Vec<(String, String)>;

/// Samples by name, each with its labels and value, after a check of the format.
fn parse(text: &str) -> BTreeMap<String, Vec<(Labels, f64)>> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = Vec::new();
    let mut samples: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("# HELP ") {
            let (name, help) = words.split_once(' ').unwrap();
            assert!(!helped.contains(&name) && help.ends_with('.'), "{line}");
            helped.push(name);
            continue;
        }
        if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap();
            assert_eq!(helped.last(), Some(&name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert_eq!(kinds.insert(name, kind), None, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| kinds.get(family) == Some(&"histogram"))
            .unwrap_or(name);
        assert_eq!(helped.last(), Some(&family), "{line} stands apart from its metric");
        let labels: Labels = labels
            .split_terminator(',')
            .map(|label| {
                let (key, value) = label.split_once('=').unwrap();
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                (key.to_owned(), value.unwrap().to_owned())
            })
            .collect();
        let series = samples.entry(name.to_owned()).or_default();
        assert!(series.iter().all(|(other, _)| *other != labels), "{line} stands twice");
        series.push((labels, value.parse().unwrap()));
    }
    samples
}

#[test]
fn the_prometheus_text_parses_and_says_the_same() {
    let stats = served(200);
    let samples = parse(&stats.prometheus());
    let single = |name: &str| {
        let series = &samples[name];
        assert_eq!(series.len(), 1, "{name}");
        series[0].1
    };
    let total = |name: &str| samples[name].iter().map(|(_, value)| value).sum::<f64>();
    assert_eq!(single("twinstream_requests_accepted_total"), 201.0);
    assert_eq!(total("twinstream_requests_ended_total"), 201.0);
    assert_eq!(single("twinstream_requests_alive"), 0.0);
    assert_eq!(single("twinstream_latency_seconds_count"), stats.completed as f64);
    assert_eq!(single("twinstream_batch_images_sum"), stats.batch_lens.image_len() as f64);
    let sum_s = stats.latency.sum_ns() as f64 * 1e-9;
    assert!((single("twinstream_latency_seconds_sum") - sum_s).abs() <= 1e-9 * sum_s);
    for histogram in ["twinstream_latency_seconds", "twinstream_batch_images"] {
        let buckets = &samples[&format!("{histogram}_bucket")];
        let bounds: Vec<f64> = buckets
            .iter()
            .map(|(labels, _)| match &labels[..] {
                [(key, bound)] if key == "le" => bound.parse().unwrap(),
                _ => panic!("{labels:?}"),
            })
            .collect();
        assert!(bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{bounds:?}");
        assert!(buckets.is_sorted_by(|low, high| low.1 <= high.1), "not cumulative: {buckets:?}");
        assert_eq!(buckets.last().unwrap().1, single(&format!("{histogram}_count")));
    }
    let starts = &samples["twinstream_stage_starts_total"];
    assert_eq!(starts.len(), 18);
    let compute = |labels: &Labels| labels[0] == ("stage".into(), "compute".into());
    let batches: f64 =
        starts.iter().filter(|(labels, _)| compute(labels)).map(|(_, count)| count).sum();
    assert_eq!(batches, single("twinstream_batch_images_count"));
}

#[test]
fn the_parts_of_the_latency_add_up() {
    let stats = served(300);
    let parts = [stats.waiting, stats.computing, stats.notifying];
    assert!(parts.iter().all(|part| part.len() == stats.completed));
    assert_eq!(parts.iter().map(|part| part.sum_ns()).sum::<u64>(), stats.latency.sum_ns());
    assert!(stats.waiting.sum_ns() > 0 && stats.computing.sum_ns() > 0);
}

#[test]
fn images_seen_before_are_counted() {
    let options = EngineOptions::default().slot_len(8).cache_bytes(10_000);
    let engine = Engine::start(Null::new(GEOMETRY), &options).unwrap();
    for number in [1, 2, 1, 1, 2] {
        engine.submit(&[number; 100], RequestOptions::default()).unwrap().wait().unwrap();
    }
    assert!(engine.drain(Duration::from_secs(10)));
    let stats = engine.stats();
    let samples = parse(&stats.prometheus());
    let found = &samples["twinstream_cache_images_total"];
    let found: Vec<_> = found.iter().map(|(labels, count)| (&*labels[0].1, *count)).collect();
    assert_eq!(found, [("answer", 3.0), ("in_flight", 0.0), ("nothing", 2.0)]);
    assert!(stats.cache.bytes > 0);
    assert_eq!(samples["twinstream_cache_bytes"][0].1, stats.cache.bytes as f64);
    assert_eq!(samples["twinstream_cache_on"][0].1, 1.0);
    assert_eq!(parse(&served(1).prometheus())["twinstream_cache_on"][0].1, 0.0);
}

/// A handler that holds up the scheduling thread: it is counted, and so is the answer behind it.
#[test]
fn callbacks_and_late_answers_are_counted() {
    const HELD: Duration = Duration::from_millis(60);
    let options = EngineOptions::default().slot_len(8);
    let engine = Engine::start(Null::new(GEOMETRY), &options).unwrap();
    let holds = |_: u64, _: Answer| std::thread::sleep(HELD);
    let handler = std::sync::Arc::new(holds);
    let request = || RequestOptions::default().deadline(Some(Instant::now() + HELD / 2));
    for lease in [0; 4].map(|_| engine.lease().unwrap()) {
        lease.commit_with(request(), handler.clone(), 0).unwrap();
    }
    assert!(engine.drain(Duration::from_secs(10)));
    let stats = engine.stats();
    let held_len = stats.completed + stats.expired + stats.rejected;
    assert_eq!(held_len, 4, "{stats:?}");
    assert!(stats.callback_ns >= held_len * HELD.as_nanos() as u64, "{stats:?}");
    // The first may be answered in time; whoever was computed with it is not.
    assert!(stats.late + stats.expired + stats.rejected >= 1, "{stats:?}");
    assert!(stats.late <= stats.completed);
}

#[test]
fn refusals_are_counted_by_reason() {
    let options = EngineOptions::default().slot_len(3);
    let engine = Engine::start(Null::new(GEOMETRY), &options).unwrap();
    let leases = [0; 3].map(|_| engine.lease().unwrap());
    for _ in 0..5 {
        assert_eq!(engine.lease().unwrap_err(), Refused::Full);
    }
    let refused = engine.submit(&[0; 7], RequestOptions::default()).unwrap_err();
    assert_eq!(refused, Refused::Size);
    let stats = engine.stats();
    assert_eq!((stats.slots_in_use, stats.slot_len, stats.refusal), (3, 3, None));
    assert!(engine.drain(Duration::from_secs(10)));
    for lease in leases {
        assert_eq!(lease.commit(RequestOptions::default()).unwrap_err(), Refused::ShutDown);
    }
    assert_eq!(engine.lease().unwrap_err(), Refused::ShutDown);
    let stats = engine.stats();
    let refused = stats.refused;
    assert_eq!((refused.full, refused.size, refused.shut_down), (5, 1, 4));
    assert_eq!((stats.slots_in_use, stats.refusal), (0, Some(Refused::ShutDown)));
    assert_eq!(stats.accepted, 0);
    let samples = parse(&stats.prometheus());
    let values = samples["twinstream_requests_refused_total"].iter().map(|(_, value)| *value);
    assert_eq!(values.collect::<Vec<_>>(), [5.0, 1.0, 4.0, 0.0]);
}

/// Twenty a second, by this clock: a rate, and zero once they have passed.
#[test]
fn the_arrival_rate_is_what_came() {
    let options = EngineOptions::default().slot_len(8);
    let engine = Engine::start(Null::new(GEOMETRY), &options).unwrap();
    let start = Instant::now();
    let mut sent_len = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        engine.submit(&[1; 100], RequestOptions::default()).unwrap().wait().unwrap();
        sent_len += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    let until = Instant::now() + Duration::from_secs(10);
    while engine.stats().accepted < sent_len {
        assert!(Instant::now() < until);
    }
    // All of them came in the last five seconds, so the clock alone can be off.
    let (before, rate_hz) = (start.elapsed(), engine.stats().arrival_rate_hz);
    let expected_hz = sent_len as f64 / before.as_secs_f64();
    assert!((rate_hz / expected_hz - 1.0).abs() < 0.05, "{rate_hz}: expected {expected_hz}");
}

/// Two engines in one text: each metric once, each sample with its engine.
#[test]
fn engines_share_a_scrape() {
    let (one, other) = (served(20), served(30));
    let text = prometheus(&[("one", &one), ("a \"b\\", &other)]);
    assert!(text.contains(r#"{engine="a \"b\\"} 31"#), "{text}");
    let samples = parse(&text.replace(r#"a \"b\\"#, "other"));
    for (name, series) in &samples {
        if name == "twinstream_build_info" {
            continue;
        }
        let engine = |wanted: &str| {
            let of = |labels: &Labels| labels.contains(&("engine".into(), wanted.into()));
            series.iter().filter(|(labels, _)| of(labels)).count()
        };
        assert_eq!((engine("one"), engine("other")), (series.len() / 2, series.len() / 2));
    }
    let accepted = samples["twinstream_requests_accepted_total"].iter().map(|(_, value)| *value);
    assert_eq!(accepted.collect::<Vec<_>>(), [21.0, 31.0]);
}

/// Prometheus' own reader finds nothing to say, of one engine and of two.
#[test]
fn promtool_accepts_the_text() {
    if Command::new("promtool").arg("--version").output().is_err() {
        let reason = "no promtool (Debian's package prometheus has it)";
        return skip("promtool", "the statistics' text by Prometheus' own reader", reason);
    }
    let stats = served(20);
    for text in [stats.prometheus(), prometheus(&[("0", &stats), ("1", &stats)])] {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn statistics_settle_once_the_engine_rests() {
    let options = EngineOptions::default().slot_len(8);
    let engine = Engine::start(Null::new(GEOMETRY), &options).unwrap();
    let image = vec![1; GEOMETRY.image_bytes];
    for len in 1..=100 {
        engine.submit(&image, RequestOptions::default()).unwrap().wait().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        // Read as fast as can be: a reader must not keep the last state from being published.
        while engine.stats().completed < len {
            assert!(Instant::now() < until, "{:?}", engine.stats());
        }
    }
}

/// The thread is pinned where it may run, and a core that is not there is refused.
#[test]
#[cfg(target_os = "linux")]
fn the_scheduling_thread_can_be_pinned() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first: String = allowed.trim().chars().take_while(char::is_ascii_digit).collect();
    let start = |core| {
        let options = EngineOptions::default().slot_len(8).core(Some(core));
        Engine::start(Null::new(GEOMETRY), &options)
    };
    let engine = start(first.parse().unwrap()).unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let pinned = threads.filter(|task| {
        let read = |file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
        read("comm").trim() == "twinstream"
            && read("status").lines().any(|line| {
                line.strip_prefix("Cpus_allowed_list:").is_some_and(|list| list.trim() == first)
            })
    });
    assert!(pinned.count() >= 1);
    drop(engine);
    for core in [1023, 4096] {
        let error = start(core).unwrap_err();
        assert!(error.is_argument() && error.to_string().contains(&core.to_string()), "{error}");
    }
}
