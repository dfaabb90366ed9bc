//! The commands `simulate`, `plan` and `experiment` as a user runs them: output, seeds, bad words.
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::repository;
use crate::trace_format;
use serde_json::Value;

/// Fields that every object of `simulate --json` has as numbers, for a stable open loop.
const NUMBERS: [&str; 18] = [
    "rate_hz",
    "completed",
    "rejected",
    "expired",
    "mean_ms",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "throughput_hz",
    "goodput_hz",
    "batch_len_mean",
    "batch_len_max",
    "bound_mean_ms",
    "bound_p99_in_order_ms",
    "bound_p99_ms",
    "bound_arrivals",
    "mean_without_look_ahead_ms",
];

pub(crate) fn twinstream(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinstream")).args(words.split(' ')).output().unwrap()
}

/// Standard output as one JSON object a line.
pub(crate) fn objects(words: &str) -> Vec<Value> {
    let output = twinstream(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {object}"))
}

fn simulate(seed: u64) -> Vec<Value> {
    objects(&format!(
        "simulate --device gtx-1080ti --policies serial,jit,stream --arrivals poisson:400 \
         --duration 40s --seed {seed} --json"
    ))
}

#[test]
fn every_policy_is_one_object_with_the_promised_fields() {
    let found = simulate(1);
    let policies: Vec<_> = found.iter().map(|object| object["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, ["serial", "jit", "stream"]);
    for object in &found {
        for field in NUMBERS {
            number(object, field);
        }
        assert_eq!(object["event_hash"].as_str().unwrap().len(), 16);
        assert_eq!(number(object, "completed"), number(object, "offered"));
        assert!(number(object, "p50_ms") <= number(object, "p99_ms"));
        assert_eq!(number(object, "bound_arrivals"), number(object, "offered"));
        for (figure, bound) in [
            ("mean_ms", "bound_mean_ms"),
            ("p99_ms", "bound_p99_in_order_ms"),
            ("bound_p99_in_order_ms", "bound_p99_ms"),
        ] {
            assert!(number(object, figure) >= number(object, bound), "{object}");
        }
    }
    assert!(number(&found[1], "mean_ms") < 0.9 * number(&found[0], "mean_ms"));
}

#[test]
fn the_seed_decides_every_event() {
    let hashes = |seed| -> Vec<Value> {
        simulate(seed).iter().map(|object| object["event_hash"].clone()).collect()
    };
    let sevens = hashes(7);
    assert_eq!(sevens, hashes(7));
    assert!(sevens.iter().zip(&hashes(8)).all(|(seven, eight)| seven != eight));
}

#[test]
fn an_object_says_what_was_run_in_figures_of_six_digits() {
    let device = "up=12us+6us,compute=500us+25us,down=10us+100ns";
    let words = format!(
        "simulate --device {device} --policies stream,fixed:delay=0.2ms,len=64,preferred=8/4 \
         --arrivals poisson:9001 --duration 1s --latency-bound 50ms --slots 300 --seed 3 --json"
    );
    let output = twinstream(&words);
    let text = String::from_utf8(output.stdout).unwrap();
    let found = objects(&words);
    assert_eq!(found[1]["policy"], "fixed:len=64,delay=200us,preferred=4/8");
    for (field, expected) in [
        ("device", Value::from(device)),
        ("arrivals", "poisson:9001".into()),
        ("duration_s", 1.0.into()),
        ("latency_bound_ms", 50.0.into()),
        ("slots", 300.into()),
        ("seed", 3.into()),
        ("full", 0.into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
    ] {
        assert_eq!(found[0][field], expected, "{field}");
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    for figure in text.split(|c| !is_number(c)).filter(|word| word.contains('.')) {
        let digits = figure.trim_start_matches(['0', '.']).chars().filter(char::is_ascii_digit);
        assert!(digits.count() <= 6 || figure == env!("CARGO_PKG_VERSION"), "{figure} in {text}");
    }
    let plan = objects(
        "plan --device h100 --latency-bound 5ms --policies serial --batch-len-max 512 --json",
    );
    assert_eq!(plan[0]["device"], "h100");
    assert_eq!(plan[0]["arrivals"], "poisson");
    assert_eq!((number(&plan[0], "batch_len_max"), number(&plan[0], "seed")), (512.0, 1.0));
    assert_eq!(plan[0]["version"], env!("CARGO_PKG_VERSION"));
}

/// Parameters change what is run, and the same setting under another spelling does not.
#[test]
fn parameters_reach_the_policy() {
    let words =
        "simulate --device gtx-1080ti --arrivals poisson:300 --duration 5s --json --policies";
    let found = objects(&format!(
        "{words} fixed,fixed:len=32,delay=1ms,fixed:len=4,aimd:bound=20ms,increase=1,adaptive:len=4"
    ));
    let hash = |index: usize| found[index]["event_hash"].clone();
    assert_eq!(hash(0), hash(1));
    assert_ne!(hash(0), hash(2));
    assert_eq!(number(&found[2], "batch_len_max"), 4.0);
    assert_eq!(found[3]["policy"], "aimd:increase=1,bound=20ms");
    assert_eq!(number(&found[4], "batch_len_max"), 4.0);
}

#[test]
fn requests_without_a_slot_are_counted_and_told() {
    let words = "simulate --device gtx-1080ti --arrivals poisson:900 --duration 2s --slots 20";
    for object in objects(&format!("{words} --json")) {
        assert!(number(&object, "full") > 100.0, "{object}");
        assert_eq!(object["full"], object["rejected"]);
    }
    let text = String::from_utf8(twinstream(words).stdout).unwrap();
    assert_eq!(text.matches("found no slot: 20 were in use (--slots)").count(), 3, "{text}");
}

#[test]
fn tables_fit_a_terminal() {
    for words in [
        "simulate --device gtx-1080ti --arrivals poisson:3000 --duration 5s --policies \
         serial,fixed-eager:preferred=16/32/64,len=128,delay=2ms",
        "plan --device gtx-1080ti --latency-bound 200ms --policies serial",
        "simulate --device gtx-1080ti --arrivals poisson:300 --duration 5s --network \
         delay=20ms,bandwidth=1Gbit,announced,hosts=4,balancer=round-robin",
        "plan --device gtx-1080ti --latency-bound 200ms --policies serial --network delay=20ms",
    ] {
        let text = String::from_utf8(twinstream(words).stdout).unwrap();
        assert!(text.lines().count() > 2, "{text}");
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{text}");
    }
}

/// Each policy, parameter, device item and workload that can be read.
#[test]
fn help_lists_the_words() {
    for command in ["simulate", "bench", "plan"] {
        let text = String::from_utf8(twinstream(&format!("{command} --help")).stdout).unwrap();
        for words in twinstream::sched::PolicySpec::WORDS {
            assert!(text.contains(&format!("\n  {:12} ", words.name)), "{command}: {}", words.name);
            for parameter in words.parameters {
                let setting = format!("{}={}", parameter.key, parameter.form);
                assert!(text.contains(&setting), "{command} lacks {setting}");
            }
        }
        for word in ["gtx-1080ti, h100", "jitter=3%", "buckets=", "Exit status"] {
            assert!(text.contains(word), "{command} lacks {word}");
        }
        let lists_arrivals = text.contains("burst:RATE@MEAN_TIME,RATE@MEAN_TIME\n");
        assert_eq!(lists_arrivals, command != "plan");
        let (_, words) = text.split_once("Policies, ").unwrap();
        let wide = words.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{command}");
    }
}

#[test]
fn the_build_is_told() {
    for words in ["--version --verbose", "-V -v", "-vV"] {
        let text = String::from_utf8(twinstream(words).stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], concat!("twinstream ", env!("CARGO_PKG_VERSION")));
        let instructions = ["f32", "bf16", "i8"]
            .map(|precision| format!("vector instructions on this machine, {precision}: "));
        let starts = ["commit: ", "target: ", "features: image"].map(str::to_owned);
        let starts: Vec<_> = starts.into_iter().chain(instructions).collect();
        assert_eq!(lines.len(), 1 + starts.len(), "{text}");
        for (line, start) in lines[1..].iter().zip(&starts) {
            assert!(line.starts_with(start), "{text}");
        }
    }
    let short = twinstream("-V").stdout;
    assert_eq!(short, concat!("twinstream ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    assert_eq!(twinstream("--verbose").status.code(), Some(2));
    // Git may keep no log of HEAD, and these sources may be no checkout.
    let repository = repository("");
    let head =
        Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&repository).output().ok();
    if let (Some(head), Some(commit)) = (head, twinstream::BUILD_INFO.commit)
        && repository.join(".git").exists()
        && head.status.success()
    {
        assert_eq!(String::from_utf8(head.stdout).unwrap().trim(), commit);
    }
}

#[test]
fn shells_and_man_know_every_command() {
    let commands =
        ["bench", "calibrate", "classify", "evaluate", "experiment", "inspect", "plan", "simulate"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(twinstream(&format!("completions {shell}")).stdout).unwrap();
        let lacks = commands.iter().find(|command| !script.contains(**command));
        assert_eq!(lacks, None, "{shell}");
        assert!(script.contains("latency-bound"), "{shell}");
    }
    let folder = std::env::temp_dir().join(format!("twinstream-man-{}", std::process::id()));
    assert!(twinstream(&format!("man {}", folder.display())).status.success());
    for command in commands {
        let page = fs::read_to_string(folder.join(format!("twinstream-{command}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS"), "{page}");
    }
    let page = fs::read_to_string(folder.join("twinstream-simulate.1")).unwrap();
    assert!(page.contains("preferred=A/B"), "{page}");
    // Tables are not filled.
    let (_, notes) = page.split_once(".SH NOTES\n.nf\n").expect("no notes");
    assert!(notes.ends_with(".fi\n") && notes.contains("\nExit status:\n"), "{notes}");
    assert!(page.contains("\"Twinstream Manual\"") && page.contains("\"twinstream 0."), "{page}");
    assert!(fs::read_to_string(folder.join("twinstream.1")).unwrap().contains("simulate"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_trace_is_refused_by_file_line_and_reason() {
    let path = std::env::temp_dir().join(format!("twinstream-bad-trace-{}", std::process::id()));
    let words = format!("simulate --device h100 --arrivals trace:{}", path.display());
    let refused = || {
        let output = twinstream(&words);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = refused();
    assert!(error.contains(&path.display().to_string()) && error.contains("No such file"));
    for (text, line, reason) in [
        ("# head\n5\n\n1.5e3\n", ":4`", "`1.5e3` is no arrival"),
        ("5\n-1\n", ":2`", "`-1` is no arrival"),
        ("7\n6\n", ":2`", "earlier than the arrival before it"),
        ("# nothing\n", "", "at least one arrival"),
    ] {
        fs::write(&path, text).unwrap();
        let error = refused();
        assert!(error.contains(line) && error.contains(reason), "{text}: {error}");
    }
    // With a byte-order mark and line ends of another system.
    fs::write(&path, "\u{feff}1\r\n2 # close\r\n").unwrap();
    assert!(twinstream(&words).status.success());
    fs::remove_file(&path).unwrap();
}

#[test]
fn bounds_that_do_not_apply_are_null() {
    let closed = objects("simulate --device h100 --arrivals closed:4 --duration 10ms --json");
    assert!(closed.iter().all(|object| object["bound_mean_ms"].is_null()));
    assert!(closed.iter().all(|object| number(object, "rate_hz") > 0.0));
    let long = "simulate --device h100 --arrivals poisson:100 --duration 1s --batch-len-max 65535";
    let long = objects(&format!("{long} --policies stream --json"));
    assert!(long[0]["mean_without_look_ahead_ms"].is_null());
    assert!(number(&long[0], "bound_mean_ms") > 0.0 && number(&long[0], "bound_p99_ms") > 0.0);
    let bounded = objects(
        "simulate --device h100 --arrivals poisson:60k --duration 500ms --latency-bound 5ms --json",
    );
    for object in &bounded {
        assert!(object["bound_p99_ms"].is_null(), "there is no bound beyond capacity");
        assert!(object["bound_mean_ms"].is_null() && object["bound_arrivals"].is_null());
        let goodput_hz = number(object, "goodput_hz");
        assert!(goodput_hz > 0.0 && goodput_hz <= 1.02 * number(object, "bound_goodput_hz"));
    }
}

#[test]
fn a_mean_below_the_best_without_look_ahead_is_accounted_for() {
    let device = "up=12us+6us,compute=500us+25us,down=10us+100ns";
    let words = format!("simulate --device {device} --policies stream --arrivals poisson:100");
    let printed = String::from_utf8(twinstream(&words).stdout).unwrap();
    assert!(printed.contains("mean below the best without look-ahead: stream;"), "{printed}");
}

/// A delay alone is added to every latency; the host's own stay what they are.
#[test]
fn a_network_is_between_the_clients_and_the_device() {
    let words = "simulate --device gtx-1080ti --arrivals poisson:300 --duration 20s --policies jit";
    let near = &objects(&format!("{words} --json"))[0];
    let far = &objects(&format!("{words} --json --network delay=5ms"))[0];
    assert!((number(far, "mean_ms") - number(near, "mean_ms") - 10.0).abs() < 1e-3, "{far}");
    assert_eq!(far["host_mean_ms"], near["mean_ms"]);
    assert_eq!(far["network"], "delay=5ms");
    assert!(far["bound_mean_ms"].is_null() && near["network"].is_null(), "{far}");
    let words = "plan --device gtx-1080ti --latency-bound 100ms --policies jit --json --network";
    let plan = &objects(&format!("{words} delay=5ms,bandwidth=200Mbit"))[0];
    assert_eq!((&plan["binding"], &plan["method"]), (&"link".into(), &"simulated".into()));
    assert!(number(plan, "link_share") > 0.7 && number(plan, "p99_ms") <= 100.0, "{plan}");
}

#[test]
fn a_plan_gives_a_rate_for_each_policy() {
    let plans =
        objects("plan --device gtx-1080ti --latency-bound 200ms --policies serial,stream --json");
    assert_eq!(plans[0]["method"], "exact");
    assert_eq!(plans[1]["method"], "simulated");
    assert!(number(&plans[1], "rate_hz") > number(&plans[0], "rate_hz"));
    assert!(plans.iter().all(|plan| number(plan, "p99_ms") <= 200.0));
    let words = "plan --device h100 --latency-bound 300us --policies fixed:delay=1ms";
    assert!(objects(&format!("{words} --json"))[0]["rate_hz"].is_null());
    let printed = String::from_utf8(twinstream(words).stdout).unwrap();
    assert!(printed.contains("fixed: even of images that come alone, over 1 %"), "{printed}");
}

#[test]
fn bad_words_end_with_status_2_and_name_culprit_and_remedy() {
    for (words, culprit, remedy) in [
        ("simulate --device h1000 --arrivals poisson:5", "h1000", "gtx-1080ti"),
        ("simulate --device h100 --arrivals possion:5", "possion", "poisson:RATE"),
        ("simulate --device h100 --arrivals poisson:5 --policies serial,strem", "strem", "stream"),
        ("simulate --device h100 --arrivals poisson:5 --duration 20", "20", "ms"),
        ("simulate --device h100 --arrivals poisson:5 --first-fit 0", "0", "above zero"),
        ("plan --device h100 --latency-bound soon", "soon", "ms"),
        ("plan --device gtx-1080ti --latency-bound 9ms", "bound is 9 ms", "alone takes 10.002 ms"),
        (
            "plan --device gtx-1080ti --latency-bound 20ms --network delay=5ms",
            "bound is 20 ms",
            "alone takes 20.002 ms on gtx-1080ti over delay=5ms",
        ),
        (
            "simulate --device h100 --arrivals poisson:5 --network dealy=5ms",
            "dealy",
            "did you mean `delay`?",
        ),
        (
            "simulate --device h100 --arrivals poisson:5 --network delay=5ms --announced 1ms",
            "--network",
            "--announced",
        ),
        (
            "simulate --device gtx-1080ti --arrivals poisson:5 --latency-bound 10ms",
            "bound is 10 ms",
            "alone takes 10.002 ms",
        ),
        ("plan --device h100 --latency-bound 5ms --policies fixed:lem=4", "lem=4", "mean `len`?"),
        ("plan --device h100 --latency-bound 5ms --policies fixed,len=4", "len=4", "`fixed:len=4`"),
        ("simulate --device gtx1080ti --arrivals poisson:5", "gtx1080ti", "mean `gtx-1080ti`?"),
        ("simulate --device h100,jiter=3% --arrivals poisson:5", "jiter=3%", "mean `jitter`?"),
        ("simulate --device h100 --arrivals burts:5", "burts", "mean `burst`?"),
        ("simulate --device h100 --arrivals closed:5,thnk=1ms", "thnk", "mean `think`?"),
        ("experiment load-latncy --out unused", "load-latncy", "load-latency"),
        ("simulate --device h100 --arrivals poisson:5 --slots 0", "--slots", "1"),
        ("experiment overlaod --out unused", "overlaod", "load-latency"),
    ] {
        let output = twinstream(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {errors}");
        assert!(errors.contains(culprit) && errors.contains(remedy), "{words}: {errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_experiment_writes_points_charts_and_a_report() {
    let folder: PathBuf =
        std::env::temp_dir().join(format!("twinstream-experiment-{}", std::process::id()));
    let rows = objects(&format!("experiment peak-clipping --out {} --json", folder.display()));
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["experiment"] == "peak-clipping"));
    // The paper reports a peak 16 % lower.
    assert!(number(&rows[1], "peak_change_percent") <= -16.0, "{}", rows[1]);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let points = read("peak-clipping.csv");
    assert_eq!(points.lines().next(), Some("panel,x_axis,y_axis,series,x,y"));
    assert!(points.lines().count() > 200);
    assert!(points.lines().all(|line| line.split(',').count() >= 6));
    let figures = read("peak-clipping-figures.csv");
    assert_eq!(figures.lines().count(), 3);
    let digits = |cell: &str| cell.chars().filter(char::is_ascii_digit).count();
    assert!(figures.split([',', '\n']).all(|cell| digits(cell) <= 7), "{figures}");
    let svg = read("peak-clipping.svg");
    for words in ["<svg", "time (s)", "images/s", "synchronous", "asynchronous"] {
        assert!(svg.contains(words), "the chart lacks {words}");
    }
    let report = read("report.html");
    assert!(report.contains("<svg") && report.contains("Peak clipping"));
    assert!(!report.contains("src=") && !report.contains("<link"), "the report needs other files");
    for words in [
        "<html lang=\"en\">",
        "width=device-width",
        "prefers-color-scheme: dark",
        "<h2 id=\"peak-clipping\">Peak clipping: the rate doubles for 0.3 s</h2>",
        "simulated · gtx-1080ti · seed 1",
        "<th scope=\"col\">peak change (%)</th>",
        "<dt>Command</dt><dd>twinstream experiment peak-clipping --out ",
        "<dt>Started</dt><dd>20",
        twinstream::BUILD_INFO.commit.unwrap_or("unknown"),
    ] {
        assert!(report.contains(words), "the report lacks {words}");
    }
    assert!(!report.contains("Incomplete"));
    // The caption names the peaks that the table has and the rings stand at.
    let peak_ms = rows.iter().map(|row| format!("{:.0} ms", number(row, "peak_ms")));
    peak_ms.for_each(|peak| assert!(report.contains(&peak), "the caption lacks {peak}"));
    let rings: Vec<&str> = points.lines().filter(|line| line.contains("longest")).collect();
    assert_eq!(rings.len(), 2);
    for (ring, row) in rings.iter().zip(&rows) {
        let height: f64 = ring.rsplit(',').next().unwrap().parse().unwrap();
        assert!((height / number(row, "peak_ms") - 1.0).abs() < 1e-4, "{ring}: {row}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_finished_is_whole_on_disk_when_the_rest_is_killed() {
    let folder: PathBuf =
        std::env::temp_dir().join(format!("twinstream-killed-{}", std::process::id()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinstream"))
        .args(["experiment", "all", "--out"])
        .arg(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !folder.join("report.html").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let report = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.ends_with("</html>\n") && report.contains("<h2 id=\"changing\">"));
    let missing = report.split("Not finished yet: ").nth(1).expect("the report is complete");
    assert!(missing.split('.').next().unwrap().ends_with("network, fleet"), "{missing}");
    assert!(!missing.starts_with("changing"));
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let end = match path.extension().and_then(|end| end.to_str()).unwrap() {
            "svg" => "</svg>\n",
            "part" => "",
            _ => "\n",
        };
        assert!(text.ends_with(end), "{} is cut", path.display());
    }
    assert!(folder.join("changing.svg").exists() && folder.join("changing-figures.csv").exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn where_there_is_no_terminal_each_experiment_has_a_line() {
    let folder: PathBuf =
        std::env::temp_dir().join(format!("twinstream-lines-{}", std::process::id()));
    let output = twinstream(&format!("experiment increasing --out {}", folder.display()));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("increasing: done in ") && told.ends_with(" s, 1 of 1\n"), "{told}");
    assert_eq!(told.lines().count(), 1);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("increasing: Concurrency increasing (simulated · "), "{printed}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn traces_of_all_policies_are_written_to_one_file() {
    let path = std::env::temp_dir().join(format!("twinstream-trace-{}.json", std::process::id()));
    let words = "simulate --device gtx-1080ti --policies serial,fixed:len=4,stream \
                 --arrivals poisson:300 --duration 2s --json --trace";
    let summaries = objects(&format!("{words} {}", path.display()));
    let processes = trace_format::read(&fs::read_to_string(&path).unwrap());
    fs::remove_file(path).unwrap();
    assert_eq!((processes.len(), summaries.len()), (3, 3));
    for (process, summary) in processes.iter().zip(&summaries) {
        assert_eq!(process.name, summary["policy"]);
        let lens = process.slices["compute"].iter().map(|(.., args)| &args["len"]);
        let lens: Vec<u64> = lens.map(|len| len.as_u64().unwrap()).collect();
        assert_eq!(lens.iter().sum::<u64>() as f64, number(summary, "completed"), "{summary}");
        let mean = lens.iter().sum::<u64>() as f64 / lens.len() as f64;
        assert!((mean / number(summary, "batch_len_mean") - 1.0).abs() < 1e-5, "{summary}");
        assert!(process.instants["decisions"].len() >= lens.len());
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_an_error_with_its_name() {
    let words = "simulate --device h100 --arrivals poisson:300 --duration 1s --trace /no/t.json";
    let output = twinstream(words);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot write /no/t.json"), "{error}");
}
