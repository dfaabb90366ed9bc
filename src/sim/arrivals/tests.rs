//! Workloads held against the counts and moments that their specs promise.

use super::*;

fn open(words: &str) -> OpenLoop {
    match words.parse().unwrap_or_else(|error| panic!("{words}: {error}")) {
        Workload::Open(open) => open,
        Workload::Closed(closed) => panic!("{words} is the closed loop {closed:?}"),
    }
}

/// Arrivals between two moments in seconds.
fn count_between(words: &str, seed: u64, from_s: f64, to_s: f64) -> usize {
    open(words)
        .arrivals(seed)
        .take_while(|&at_ns| (at_ns as f64) < to_s * 1e9)
        .filter(|&at_ns| at_ns as f64 >= from_s * 1e9)
        .count()
}

#[test]
fn uniform_arrivals_are_exact_after_a_million() {
    let last_ns = open("uniform:300").arrivals(1).nth(2_999_999).unwrap();
    assert_eq!(last_ns, 10_000_000_000_000);
}

#[test]
fn poisson_gaps_are_exponential() {
    let arrivals: Vec<u64> = open("poisson:40k").arrivals(11).take(1_000_000).collect();
    let gaps_ns: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    let mean = gaps_ns.iter().sum::<f64>() / gaps_ns.len() as f64;
    assert!((mean / 25_000.0 - 1.0).abs() < 5e-3, "mean gap {mean}");
    for share in [0.1_f64, 0.5, 0.9, 0.99] {
        let quantile = -25_000.0 * (1.0 - share).ln();
        let below = gaps_ns.iter().filter(|gap| **gap < quantile).count() as f64;
        assert!((below / gaps_ns.len() as f64 - share).abs() < 2e-3, "share {share}");
    }
}

#[test]
fn steps_change_at_their_moments_and_the_last_holds() {
    let words = "steps:400@1s,800@300ms,400@1s,uniform";
    for (from_s, to_s, expected_len) in
        [(0.0, 1.0, 400), (1.0, 1.3, 240), (1.3, 2.3, 400), (50.0, 51.0, 400)]
    {
        let len = count_between(words, 1, from_s, to_s);
        assert!(len.abs_diff(expected_len) <= 1, "{from_s} to {to_s} s: {len}");
    }
    let len = count_between("steps:1k@10s,3k@10s", 5, 10.0, 20.0);
    assert!(len.abs_diff(30_000) < 4 * 173, "{len}");
}

#[test]
fn bursts_keep_their_mean_rate_and_bunch() {
    let burst = open("burst:100@2s,900@500ms");
    assert!((burst.rate_hz() - 260.0).abs() < 1e-9);
    let (run_s, window_s) = (20_000.0, 1.0);
    let mut windows = vec![0.0_f64; (run_s / window_s) as usize];
    for at_ns in burst.arrivals(3).take_while(|&at_ns| (at_ns as f64) < run_s * 1e9) {
        windows[(at_ns as f64 / (window_s * 1e9)) as usize] += 1.0;
    }
    let mean = windows.iter().sum::<f64>() / windows.len() as f64;
    assert!((mean / 260.0 - 1.0).abs() < 0.05, "mean rate {mean}");
    let variance =
        windows.iter().map(|len| (len - mean).powi(2)).sum::<f64>() / windows.len() as f64;
    assert!(variance > 20.0 * mean, "no more bunched than Poisson: {variance} against {mean}");
}

#[test]
fn same_seed_same_arrivals() {
    for words in ["poisson:500", "burst:100@1s,900@1s", "steps:10@1s,90@1s"] {
        let run = |seed| open(words).arrivals(seed).take(1_000).collect::<Vec<_>>();
        assert_eq!(run(4), run(4), "{words}");
        assert_ne!(run(4), run(5), "{words}");
    }
}

/// The first arrivals of one seed, written down: another platform that differs fails here.
#[test]
fn arrivals_are_the_same_on_every_platform() {
    let arrivals: Vec<u64> = open("poisson:1k").arrivals(1).take(4).collect();
    assert_eq!(arrivals, [1_669_252, 3_044_032, 3_149_560, 4_520_836]);
}

#[test]
fn closed_loops_are_described() {
    let expected = ClosedLoop { think_ns: 5_000_000, ..ClosedLoop::new(32) };
    assert_eq!("closed:32,think=5ms".parse::<Workload>().unwrap(), Workload::Closed(expected));
    let expected = ClosedLoop { is_exponential: true, ..expected };
    let words = "closed:32,think=5ms,exponential";
    assert_eq!(words.parse::<Workload>().unwrap(), Workload::Closed(expected));
    let mut think_ns = expected.think_times_ns(1);
    let times_ns: Vec<u64> = (0..20_000).map(|_| think_ns()).collect();
    let mean_ns = times_ns.iter().sum::<u64>() / times_ns.len() as u64;
    assert!((4_900_000..5_100_000).contains(&mean_ns), "{mean_ns}");
    let longer_len = times_ns.iter().filter(|time_ns| **time_ns > 10_000_000).count();
    assert!((2_500..2_900).contains(&longer_len), "e^-2 of all: {longer_len}");
}

#[test]
fn traces_are_read_in_order() {
    let path = std::env::temp_dir().join(format!("twinstream-trace-{}", std::process::id()));
    std::fs::write(&path, "# ns\n5\n5\n1000000000 # one second\n").unwrap();
    let words = format!("trace:{}", path.display());
    let trace = open(&words);
    assert_eq!(trace.arrivals(9).collect::<Vec<_>>(), [5, 5, 1_000_000_000]);
    assert_eq!(trace.rate_hz(), 3.0);
    std::fs::write(&path, "5\n4\n").unwrap();
    let error = words.parse::<Workload>().unwrap_err().to_string();
    assert!(error.contains(":2") && error.contains("sort"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(words.parse::<Workload>().unwrap_err().is_io());
}

#[test]
fn bad_words_name_culprit_and_remedy() {
    for (words, culprit, remedy) in [
        ("530", "`530`", "poisson:RATE"),
        ("possion:530", "`possion`", "poisson:RATE"),
        ("poisson:fast", "`fast`", "530"),
        ("burst:1@1s", "`1@1s`", "two states"),
        ("steps:400", "`400`", "RATE@TIME"),
        ("steps:400@0s", "`400@0s`", "above zero"),
        ("closed:0", "`0`", "above zero"),
        ("closed:4,pause=1s", "`pause=1s`", "think="),
        ("closed:4,think=1s,exponentail", "`exponentail`", "exponential"),
    ] {
        let error = words.parse::<Workload>().unwrap_err().to_string();
        assert!(error.contains(culprit) && error.contains(remedy), "{words}: {error}");
    }
}
