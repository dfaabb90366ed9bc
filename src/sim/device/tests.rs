//! Device specs and files, and stage times held against what they describe.

use super::*;

fn spec(words: &str) -> DeviceSpec {
    words.parse().unwrap_or_else(|error| panic!("{words}: {error}"))
}

fn mean_of(device: &mut Device, stage: Stage, batch_len: usize, draws: usize) -> f64 {
    (0..draws).map(|_| device.stage_ns(stage, batch_len, 0) as f64).sum::<f64>() / draws as f64
}

#[test]
fn profiles_are_their_published_lines() {
    let lines = spec("gtx-1080ti").lines();
    assert_eq!(lines.upload, Line::new(0.1e6, 0.15e6));
    assert_eq!(lines.compute, Line::new(8e6, 1.7e6));
    assert_eq!(lines.download, Line::new(0.05e6, 0.002e6));
    for name in DeviceSpec::profiles() {
        assert_eq!(spec(name).name, name);
    }
}

#[test]
fn lines_give_exact_integer_times() {
    let mut device = Device::new(&spec("up=12us+6us,compute=500us+25us,down=10us+100ns"), 1);
    assert_eq!(device.stage_ns(Stage::Upload, 8, 0), 60_000);
    assert_eq!(device.stage_ns(Stage::Compute, 8, 5), 700_000);
    assert_eq!(device.stage_ns(Stage::Download, 8, 9), 10_800);
}

#[test]
fn buckets_round_up_and_repeat_beyond_the_last() {
    let mut device = Device::new(&spec("h100,compute=100us+10us,buckets=1/4/16"), 1);
    for (batch_len, executed_len) in [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 32)] {
        assert_eq!(
            device.stage_ns(Stage::Compute, batch_len, 0),
            100_000 + 10_000 * executed_len,
            "batch_len {batch_len}"
        );
    }
    assert_eq!(device.stage_ns(Stage::Upload, 2, 0), 8_000 + 2 * 2_740);
}

#[test]
fn jitter_keeps_the_mean_and_has_its_deviation() {
    let mut device = Device::new(&spec("h100,jitter=20%"), 3);
    let draws: Vec<f64> =
        (0..200_000).map(|_| device.stage_ns(Stage::Compute, 32, 0) as f64).collect();
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    let variance = draws.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / draws.len() as f64;
    assert!((mean / 1e6 - 1.0).abs() < 3e-3, "mean {mean}");
    assert!((variance.sqrt() / mean - 0.2).abs() < 3e-3, "deviation {}", variance.sqrt() / mean);
}

#[test]
fn outliers_come_in_their_share() {
    let mut device = Device::new(&spec("h100,outliers=10%x10"), 3);
    let slow = (0..100_000).filter(|_| device.stage_ns(Stage::Compute, 32, 0) == 10_000_000);
    let slow = slow.count();
    assert!((9_600..10_400).contains(&slow), "{slow} of 100,000");
}

#[test]
fn drift_is_straight_between_its_points() {
    let mut device = Device::new(&spec("h100,drift=1s:1/2s:3"), 3);
    let mut at = |now_ns| device.stage_ns(Stage::Compute, 32, now_ns);
    assert_eq!(at(0), 1_000_000);
    assert_eq!(at(1_500_000_000), 2_000_000);
    assert_eq!(at(9_000_000_000), 3_000_000);
    assert_eq!(device.stage_ns(Stage::Upload, 1, 9_000_000_000), 10_740);
}

#[test]
fn files_carry_recorded_times() {
    let folder = tempfile();
    let path = folder.join("device.json");
    let text = r#"{
        "upload": {"line": "10us+1us"},
        "compute": {"table": {"1": ["100us", "300us"], "9": ["1ms"]}},
        "download": {"line": "5us+0ns"},
        "jitter": "0%"
    }"#;
    std::fs::write(&path, text).unwrap();
    let spec = spec(path.to_str().unwrap());
    assert_eq!(spec.mean_ns(Stage::Compute, 1), 200_000.0);
    assert_eq!(spec.mean_ns(Stage::Compute, 5), 600_000.0);
    assert_eq!(spec.mean_ns(Stage::Compute, 11), 1_200_000.0);
    let mut device = Device::new(&spec, 5);
    let mean = mean_of(&mut device, Stage::Compute, 1, 10_000);
    assert!((mean - 200_000.0).abs() < 5_000.0, "mean {mean}");
    let first = device.stage_ns(Stage::Compute, 1, 0);
    assert!(first == 100_000 || first == 300_000);

    std::fs::write(&path, text.replace("jitter", "jiter")).unwrap();
    let error = path.to_str().unwrap().parse::<DeviceSpec>().unwrap_err();
    assert!(error.is_argument() && error.to_string().contains("jiter"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("twinstream-device-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn bad_words_name_culprit_and_remedy() {
    for (words, culprit, remedy) in [
        ("h1000", "`h1000`", "gtx-1080ti"),
        ("h100,fan=3", "`fan=3`", "jitter"),
        ("up=1us+1us,compute=1us+1us", "up=1us+1us,compute=1us+1us", "down="),
        ("h100,compute=5us", "`5us`", "FIXED+PER_IMAGE"),
        ("h100,buckets=4/2", "`4/2`", "rise"),
        ("h100,compute=0us+0us", "compute=0us+0us", "fixed cost"),
        ("", "``", "profile"),
    ] {
        let error = words.parse::<DeviceSpec>().unwrap_err().to_string();
        assert!(error.contains(culprit) && error.contains(remedy), "{words}: {error}");
    }
}

#[test]
fn same_seed_same_times() {
    let spec = spec("gtx-1080ti,jitter=5%,outliers=1%x5");
    let run = |seed| {
        let mut device = Device::new(&spec, seed);
        (1..100).map(|len| device.stage_ns(Stage::Compute, len, 0)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
