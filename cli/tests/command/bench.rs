//! The command `bench` as a user runs it, and experiments in real time: every backend and kind of
//! arrivals, books that balance, seeds, files, bad words. Claims about time are loose enough for a
//! busy machine; docs/BENCH.md has the commands that measure.
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::trace_format;

fn twinstream(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinstream")).args(words.split_whitespace()).output().unwrap()
}

/// Standard output as one JSON object a line.
fn objects(words: &str) -> Vec<Value> {
    let output = twinstream(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {object}"))
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("twinstream-bench-{name}-{}", std::process::id()))
}

/// Runs a bench and checks what holds for every run, whatever the machine does meanwhile.
fn bench(words: &str) -> Vec<Value> {
    let runs = objects(&format!("bench {words} --json"));
    assert!(!runs.is_empty());
    for run in &runs {
        let sum = ["completed", "rejected", "expired", "failed"].map(|field| number(run, field));
        assert_eq!(sum.iter().sum::<f64>(), number(run, "offered"), "{run}");
        assert!(number(run, "offered") > 0.0 && number(run, "full") <= number(run, "rejected"));
        assert_eq!(number(run, "failed"), 0.0, "{run}");
        let computes = run["backend"].as_str().is_some_and(|backend| backend.starts_with("cpu"));
        assert_eq!(run["precision"], if computes { "f32".into() } else { Value::Null });
        let latencies = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"];
        assert!(latencies.map(|field| number(run, field)).is_sorted(), "{run}");
        assert!(number(run, "mean_ms") <= number(run, "max_ms"), "{run}");
        assert!(number(run, "goodput_hz") <= number(run, "throughput_hz"), "{run}");
        assert!(number(run, "late_p99_ms") <= 1.02 * number(run, "late_max_ms") + 1e-4, "{run}");
        assert!(number(run, "batch_len_mean") <= number(run, "batch_len_max"), "{run}");
        if number(run, "completed") > 0.0 {
            assert!(number(run, "p50_ms") > 0.0 && number(run, "throughput_hz") > 0.0, "{run}");
        }
    }
    runs
}

/// Quick enough for a test, slow enough to be measured.
const DEVICE: &str = "sim:up=200us+100us,compute=4ms+500us,down=100us+1us";

#[test]
fn every_kind_of_arrivals_is_served() {
    let trace = folder("trace");
    fs::write(&trace, "0\n1000000\n1500000 # close together\n90000000\n").unwrap();
    let trace = format!("trace:{}", trace.display());
    for arrivals in [
        "poisson:200",
        "uniform:200",
        "burst:100@50ms,400@20ms",
        "steps:100@100ms,300@100ms,uniform",
        "closed:8",
        "closed:8,think=5ms",
        &trace,
    ] {
        let words = format!("--arrivals {arrivals} --duration 300ms --seed 5");
        let runs = bench(&format!("--backend {DEVICE} {words}"));
        let policies: Vec<_> = runs.iter().map(|run| run["policy"].as_str().unwrap()).collect();
        assert_eq!(policies, ["serial", "jit", "stream"]);
        assert!(runs.iter().all(|run| number(run, "completed") == number(run, "offered")));
        assert!(runs.iter().all(|run| run["arrivals"] == arrivals));
        if arrivals.starts_with("closed") {
            assert!(runs.iter().all(|run| number(run, "offered") >= 8.0));
            continue;
        }
        // The very arrivals that the simulator is given.
        let device = DEVICE.strip_prefix("sim:").unwrap();
        let simulated = objects(&format!("simulate --device {device} {words} --json"));
        for (run, simulated) in runs.iter().zip(&simulated) {
            assert_eq!(number(run, "offered"), number(simulated, "offered"), "{arrivals}");
            assert_eq!(number(run, "rate_hz"), number(simulated, "rate_hz"), "{arrivals}");
            assert_eq!(number(run, "predicted_mean_ms"), number(simulated, "mean_ms"));
        }
    }
    fs::remove_file(folder("trace")).unwrap();
}

#[test]
fn every_backend_serves() {
    let null = bench("--backend null --policies stream --arrivals poisson:5k --duration 200ms");
    assert!(null[0]["predicted_mean_ms"].is_null() && null[0]["bound_mean_ms"].is_null());
    let null = bench("--backend null --policies jit --arrivals closed:16 --duration 200ms");
    assert!(number(&null[0], "rate_hz") > 100.0, "{}", null[0]);
    let words = "--policies serial,stream --arrivals uniform:10 --duration 1s --batch-len-max 8";
    for run in bench(&format!("--backend cpu {words}")) {
        assert_eq!(number(&run, "completed"), 10.0, "{run}");
        assert_eq!(run["backend"], "cpu");
    }
    let words = "--policies stream --arrivals uniform:10 --duration 1s --batch-len-max 8";
    for backend in ["cpu:2x1", "null,null"] {
        let run = &bench(&format!("--backend {backend} {words}"))[0];
        assert_eq!(number(run, "completed"), 10.0, "{run}");
        assert_eq!(run["backend"], backend);
    }
    // With a GPU, or the emulated device, tests/gpu serves on it.
    if !cfg!(feature = "cuda") {
        for words in
            ["bench --backend cuda --arrivals poisson:5", "tune --help", "profile --batches 8"]
        {
            let output = twinstream(words);
            assert_eq!(output.status.code(), Some(1), "{words}");
            assert!(output.stdout.is_empty(), "{words}");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("build with --features cuda"), "{words}: {errors}");
        }
    }
}

#[test]
fn a_cache_answers_images_that_come_again() {
    let words = "--backend cpu --policies stream --arrivals closed:2 --duration 500ms";
    let rate_hz = |options| number(&bench(&format!("{words}{options}"))[0], "rate_hz");
    let (plain_hz, cached_hz) = (rate_hz(""), rate_hz(" --cache 1"));
    assert!(cached_hz > 4.0 * plain_hz, "{cached_hz} with a cache, {plain_hz} without");
}

#[test]
fn a_live_run_is_no_faster_than_its_prediction_and_not_far_off() {
    // The slowest of many is the machine's, so the mean is held to, and that loosely.
    let words = "--arrivals poisson:40 --duration 2s --seed 3";
    for run in bench(&format!("--backend sim:up=1ms+200us,compute=20ms+2ms,down=1ms+1us {words}")) {
        let ratio = number(&run, "mean_ms") / number(&run, "predicted_mean_ms");
        eprintln!("{}: measured over predicted mean {ratio:.3}", run["policy"]);
        assert!(ratio > 0.95 && ratio < 4.0, "{run}");
        assert!(number(&run, "bound_mean_ms") <= 1.05 * number(&run, "predicted_mean_ms"));
    }
}

/// A device that takes 300 ms a batch, and a request every 10 ms: a generator that waited for
/// answers would send few, and would not see how long they would have waited.
#[test]
fn latency_counts_from_the_moment_due() {
    let device = "sim:up=1us+0us,compute=300ms+0us,down=1us+0us";
    let words = "--policies serial --arrivals uniform:100 --duration 500ms";
    let run = &bench(&format!("--backend {device} {words}"))[0];
    assert_eq!(number(run, "offered"), 50.0);
    // The first is computed from 10 to 310 ms, those up to then to 610 ms, the rest to 910 ms.
    let least_ms = (300.0 + 30.0 * 445.0 + 19.0 * 500.0) / 50.0;
    assert!(number(run, "mean_ms") > 0.95 * least_ms, "{run}");
}

#[test]
fn limits_are_held_and_counted() {
    let full = &bench(&format!(
        "--backend {DEVICE} --policies serial --arrivals uniform:2k --duration 200ms --slots 4"
    ))[0];
    assert!(number(full, "full") > 100.0, "{full}");
    assert!(number(full, "batch_len_max") <= 4.0, "{full}");
    let bounded = bench(&format!(
        "--backend {DEVICE} --policies serial,stream --arrivals uniform:4k --duration 400ms \
         --latency-bound 40ms"
    ));
    for run in &bounded {
        assert!(number(run, "rejected") + number(run, "expired") > 0.0, "{run}");
        assert!(!run["bound_goodput_hz"].is_null());
    }
    let words = "--policies stream --arrivals uniform:100 --duration 400ms";
    let warm = &bench(&format!("--backend {DEVICE} {words} --warmup 195ms"))[0];
    assert_eq!(number(warm, "offered"), 21.0, "{warm}");
}

/// A policy with parameters serves, is predicted under the same words, and its table is narrow.
#[test]
fn policies_take_parameters_and_tables_fit_a_terminal() {
    let policy = "fixed:len=6,delay=3ms,preferred=2/4";
    let words = format!("--policies serial,{policy} --arrivals uniform:300 --duration 200ms");
    let runs = bench(&format!("--backend {DEVICE} {words} --latency-bound 900ms --slots 99"));
    assert_eq!(runs[1]["policy"], policy);
    assert_eq!((number(&runs[1], "latency_bound_ms"), number(&runs[1], "slots")), (900.0, 99.0));
    assert_eq!(runs[1]["version"], env!("CARGO_PKG_VERSION"));
    assert!(number(&runs[1], "batch_len_max") <= 6.0, "{}", runs[1]);
    let burst = "--arrivals burst:100@50ms,400@20ms --slots 1";
    let output = twinstream(&format!("bench --backend {DEVICE} {words} {burst}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| !line.contains(" · ")).collect();
    assert!(rows.iter().any(|row| row.contains("found no slot")), "{text}");
    let wide = rows.iter().find(|row| row.chars().count() > 80 && !row.contains("found no slot"));
    assert_eq!(wide, None, "{text}");
}

#[test]
fn the_seed_decides_the_arrivals() {
    let offered = |seed: u64| -> Vec<f64> {
        let arrivals = "--arrivals poisson:3k --arrivals burst:1k@20ms,9k@20ms";
        let words = format!("--backend null --policies stream {arrivals} --duration 150ms");
        let runs = bench(&format!("{words} --seed {seed}"));
        runs.iter().map(|run| number(run, "offered")).collect()
    };
    assert_eq!(offered(7), offered(7));
    assert_ne!(offered(7), offered(8));
}

#[test]
fn a_sweep_ends_and_names_a_knee() {
    let folder = folder("sweep");
    let words = "--policies serial,stream --arrivals poisson:250.4 --duration 300ms --sweep";
    let runs = bench(&format!("--backend {DEVICE} {words} --out {}", folder.display()));
    let (mut knee_len, mut is_curve) = (0, false);
    for policy in ["serial", "stream"] {
        let runs: Vec<&Value> = runs.iter().filter(|run| run["policy"] == policy).collect();
        let rates_hz: Vec<f64> = runs.iter().map(|run| number(run, "rate_hz")).collect();
        assert_eq!(rates_hz[0], 250.4);
        assert!(rates_hz.windows(2).all(|pair| (pair[1] / pair[0] - 1.25).abs() < 1e-4));
        // The device computes 2,000 images a second at most, so that it was left behind.
        assert!(runs.len() <= 12, "{rates_hz:?}");
        // On a busy machine the first rate may be the best already, and then is no knee.
        let power = |run: &Value| number(run, "throughput_hz") / number(run, "mean_ms");
        let first = power(runs[0]);
        let is_first_best = runs.iter().all(|run| power(run) <= first * 1.001);
        let len = runs.iter().filter(|run| run["is_knee"] == true).count();
        assert!(len == 1 || (len == 0 && is_first_best), "{runs:?}");
        knee_len += len;
        is_curve |= runs.len() > 1;
        // The words and the seed give the same arrivals again.
        for run in runs {
            assert_eq!(run["arrivals"], format!("poisson:{}", number(run, "rate_hz")));
        }
    }
    let csv = fs::read_to_string(folder.join("bench.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + runs.len());
    assert!(csv.starts_with("backend,policy,arrivals,rate_hz,offered,completed,"));
    let width = |line: &str| {
        let quotes = line.split('"').enumerate();
        quotes
            .filter(|(index, _)| index % 2 == 0)
            .map(|(_, words)| words.matches(',').count())
            .sum()
    };
    let widths: Vec<usize> = csv.lines().map(width).collect();
    assert!(widths.iter().all(|&commas| commas == widths[0]), "{csv}");
    let holds = |chart: &str, words: &[&str]| {
        let svg = fs::read_to_string(folder.join(chart)).unwrap();
        for word in words {
            assert!(svg.contains(word), "{chart} lacks {word}");
        }
    };
    holds("latency.svg", &["latency (ms)", "share of answers", "stream"]);
    if is_curve {
        let chart = "load-latency.svg";
        holds(chart, &["arrival rate (images/s)", "p99 latency", "stream, simulated"]);
        holds(chart, &["live, in real time", "seed 1"]);
        // Knees are ringed where they were measured, in two panels.
        let points = fs::read_to_string(folder.join("load-latency.csv")).unwrap();
        let ringed = points.lines().filter(|line| line.contains("knee: ")).count();
        assert_eq!(ringed, 2 * knee_len);
        if knee_len > 0 {
            holds(chart, &["knee: the rate with"]);
        }
    }
    assert!(fs::read_to_string(folder.join("latency.csv")).unwrap().lines().count() > 50);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn where_a_sweep_starts_beyond_the_knee_none_is_named() {
    let words = "--policies serial --arrivals uniform:9000 --duration 200ms --sweep";
    let output = twinstream(&format!("bench --backend {DEVICE} {words} --json"));
    let run: Value = serde_json::from_slice(&output.stdout).expect("one run, left behind");
    assert_eq!(run["is_knee"], false);
    let told = String::from_utf8(output.stderr).unwrap();
    let expected = "serial: no knee from 9000/s on: start the sweep lower";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn an_experiment_in_real_time_is_drawn_beside_its_prediction() {
    let folder = folder("experiment");
    let words = "experiment peak-clipping --backend sim:gtx-1080ti";
    let rows = objects(&format!("{words} --out {} --json", folder.display()));
    assert_eq!(rows.len(), 2);
    for row in &rows {
        let ratio = number(row, "mean_ms") / number(row, "simulated_mean_ms");
        assert!(ratio > 0.8 && ratio < 4.0, "{row}");
        assert!(number(row, "late_p99_ms") >= 0.0, "{row}");
    }
    let report = fs::read_to_string(folder.join("report.html")).unwrap();
    for words in [
        "paper's experiments on sim:gtx-1080ti</h1>",
        "in real time",
        "serial, simulated",
        "Peak clipping",
    ] {
        assert!(report.contains(words), "the report lacks {words}");
    }
    let points = fs::read_to_string(folder.join("peak-clipping.csv")).unwrap();
    for series in ["\"jit, simulated\"", "jit", "arrival rate"] {
        assert!(points.lines().any(|line| line.contains(&format!(",{series},"))), "no {series}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn bad_words_end_with_status_2_and_name_culprit_and_remedy() {
    for (words, culprit, remedy) in [
        ("bench --backend gpu --arrivals poisson:5", "gpu", "sim:DEVICE"),
        ("bench --backend sim:h1000 --arrivals poisson:5", "h1000", "gtx-1080ti"),
        ("bench --backend null --arrivals possion:5", "possion", "poisson:RATE"),
        ("bench --backend null --arrivals poisson:5 --warmup 10s", "--warmup", "--duration"),
        ("bench --backend null --arrivals closed:5 --sweep", "--sweep", "poisson:RATE"),
        ("bench --backend null", "--arrivals", "--arrivals"),
        ("bench --backend cdua --arrivals poisson:5", "cdua", "did you mean `cuda`?"),
        (
            "bench --backend sim:h100 --arrivals poisson:5 --latency-bound 100us",
            "--latency-bound is 0.1 ms",
            "one image alone takes 0.243813 ms",
        ),
        (
            "bench --backend cpu --arrivals poisson:5 --latency-bound 1us",
            "--latency-bound is 0.001 ms",
            "one image alone takes",
        ),
        ("experiment overload --backend cpu --out unused", "overload", "peak-clipping"),
        ("experiment changing --backend null --out unused", "null", "sim:DEVICE"),
        ("bench --backend null --arrivals poisson:9 --core 5000", "5000", "cores"),
        ("bench --backend null --arrivals poisson:5 --weights no", "--weights", "backend null"),
        ("bench --backend null --arrivals poisson:5 --threads 3", "--threads", "backend null"),
        ("bench --backend sim:h100 --arrivals poisson:5 --images no", "--images", "backend sim:"),
        ("bench --backend cpu --arrivals poisson:5 --no-graphs", "--no-graphs", "backend cpu"),
        ("bench --backend cuda --arrivals poisson:5 --threads 3", "--threads", "backend cuda"),
        ("experiment changing --backend cpu --tuning no --out unused", "--tuning", "backend cpu"),
        ("experiment changing --core 1 --out unused", "--core", "without --backend"),
        ("experiment changing --backend cpu --requests 5000 --out unused", "--requests", "backend"),
    ] {
        let output = twinstream(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {errors}");
        assert!(errors.contains(culprit) && errors.contains(remedy), "{words}: {errors}");
        assert!(output.stdout.is_empty());
    }
    assert!(!std::path::Path::new("unused").exists());
}

#[test]
fn traces_of_all_runs_are_written_to_one_file() {
    let path = folder("traced");
    let words = format!(
        "--backend {DEVICE} --policies serial,stream --arrivals poisson:200 --arrivals closed:3 \
         --duration 400ms --trace {}",
        path.display()
    );
    let runs = bench(&words);
    let processes = trace_format::read(&fs::read_to_string(&path).unwrap());
    fs::remove_file(path).unwrap();
    assert_eq!((processes.len(), runs.len()), (4, 4));
    for (process, run) in processes.iter().zip(&runs) {
        let words = |field: &str| run[field].as_str().unwrap().to_owned();
        assert_eq!(process.name, format!("{}, {}", words("policy"), words("arrivals")));
        let lens = process.slices["compute"].iter().map(|(.., args)| args["len"].as_f64().unwrap());
        assert_eq!(lens.sum::<f64>(), number(run, "completed"), "{run}");
        assert_eq!(process.instants["arrivals"].len() as f64, number(run, "offered"), "{run}");
    }
}
