//! Kernels with a fault each, and one without: what `twinstream prove` finds, and that images are
//! classified right whatever it found.
//!
//! The kernels are those of `cuda/emulator/driver/faulty.inc`, which builds for the emulated device
//! offer where the environment names them, for two layers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::common::repository;

const VARIABLE: &str = "TWINSTREAM_EMULATED_KERNELS";
/// Those that are offered, one of each kind: with an output of its own, and over its residual.
const LAYERS: [&str; 2] = ["layer1.1.conv2", "layer2.1.conv3"];
/// Seconds that a kernel may take, and where one takes all of them.
const LIMIT: &str = "60";
const LIMIT_OF_HANG: &str = "15";

/// A folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("twinstream-prove-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The verdicts lie beside it.
    fn tuning(&self) -> PathBuf {
        self.0.join("tuning.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn twinstream(kernels: &str, tuning: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinstream"))
        .env(VARIABLE, kernels)
        .args(arguments)
        .arg("--tuning")
        .arg(tuning)
        .output()
        .unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn prove(
    (kernels, limit): (&str, &str),
    tuning: &Path,
    more: &[&str],
) -> (Option<i32>, Vec<Value>) {
    let arguments = ["prove", "--family", "faulty", "--limit", limit, "--json"];
    let output = twinstream(kernels, tuning, &[&arguments[..], more].concat());
    (output.status.code(), rows(&output))
}

/// What is said when the cat is classified, who is found to be one.
fn classify(kernels: &str, tuning: &Path) -> String {
    let image = repository("examples/images/cifar-cat.png");
    let image = image.to_str().unwrap();
    let arguments = ["classify", "--backend", "cuda", "--top", "1", "--batch", "2", image];
    let output = twinstream(kernels, tuning, &arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("cat"), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The kernels of the plan for one image that are faulty ones, and what is said of those that it
/// goes without.
fn planned(kernels: &str, tuning: &Path) -> (Vec<String>, Value) {
    let output = twinstream(kernels, tuning, &["inspect", "--plan", "--json"]);
    let rows = rows(&output);
    let plan = rows.iter().find(|row| row["batch_len"] == 1).unwrap();
    let convs = plan["convs"].as_array().unwrap().iter();
    let names = convs.map(|conv| {
        let name = conv["kernel"].as_str().unwrap();
        assert_eq!(conv["is_proven"], name.starts_with("faulty_"), "{conv}");
        name.to_owned()
    });
    let faulty = names.filter(|name| name.starts_with("faulty_")).collect();
    (faulty, plan["unproven"].clone())
}

/// Goal: each fault is found for what it is, in each layer and at each batch size, and its kernel
/// is not used, while the right one, tried beside them, is.
#[test]
fn wrong_kernels_are_refused_and_a_right_one_is_used() {
    let faults = [
        ("faulty_value", "1 of 8192 values differ, first at 17", "small integers"),
        ("faulty_beyond", "it writes beyond its output: ", "small integers"),
        ("faulty_unsteady", "values differ", "repetition "),
        ("faulty_alone", "1 of 4096 values differ, first at 0, by up to inf", "1 image,"),
        ("faulty_early", "values differ", "between its neighbours in a graph"),
    ];
    let names: Vec<&str> = faults.iter().map(|fault| fault.0).chain(["faulty_right"]).collect();
    let (kernels, folder) = (names.join(","), Folder::new("wrong"));
    let tuning = folder.tuning();
    let said = classify(&kernels, &tuning);
    assert!(said.contains("not proven on Emulated device 0") && said.contains("faulty_right"));

    let (code, rows) = prove((&kernels, LIMIT), &tuning, &["--batches", "1,2"]);
    assert_eq!((code, rows.len()), (Some(3), 2 * LAYERS.len() * names.len()));
    let of = |kernel: &'static str| rows.iter().filter(move |row| row["kernel"] == kernel);
    for (kernel, start, end) in faults {
        let reasons: Vec<_> = of(kernel).map(|row| row["reason"].as_str()).collect();
        assert_eq!(reasons.len(), 2 * LAYERS.len());
        let is_found = |reason: &Option<&str>| {
            reason.is_some_and(|reason| reason.contains(start) && reason.contains(end))
        };
        // Sizes differ by layer and batch.
        assert!(reasons.iter().any(is_found), "{kernel}: {reasons:?}");
        assert!(reasons.iter().all(Option::is_some), "{kernel}: {reasons:?}");
    }
    assert!(of("faulty_right").all(|row| row["is_equal"] == true));

    let said = classify(&kernels, &tuning);
    assert!(said.contains("kernel faulty_value refused at layer1.1.conv2, up to 1 images: 1 of"));
    let (used, unproven) = planned(&kernels, &tuning);
    assert_eq!(used, ["faulty_right"; LAYERS.len()]);
    let is_told = |row: &Value| row["kernel"] == "faulty_early" && row["refusal"].is_string();
    assert!(unproven.as_array().unwrap().iter().any(is_told), "{unproven}");
    // All has a verdict, and is tried again if that is asked for.
    assert!(prove((&kernels, LIMIT), &tuning, &["--batches", "1,2"]).1.is_empty());
    let again = prove(("faulty_right", LIMIT), &tuning, &["--batches", "1", "--again"]);
    assert_eq!((again.0, again.1.len()), (Some(0), LAYERS.len()));
}

/// Goal: whatever becomes of the process that tries a kernel, the kernel is refused for it, and
/// those behind it are tried; then images are classified without it.
#[test]
fn kernels_that_end_their_process_are_refused() {
    let faults = [
        ("faulty_trap", "the driver says: ", LIMIT),
        ("faulty_crash", "the process that tried it was ended by signal 9", LIMIT),
        ("faulty_hang", "no end within 15 s", LIMIT_OF_HANG),
    ];
    for (fault, reason, limit) in faults {
        let (kernels, folder) = (format!("{fault},faulty_right"), Folder::new(fault));
        let tuning = folder.tuning();
        let (code, rows) = prove((&kernels, limit), &tuning, &["--batches", "1"]);
        assert_eq!((code, rows.len()), (Some(3), 2 * LAYERS.len()), "{fault}");
        for row in &rows {
            let found = row["reason"].as_str().unwrap_or_default();
            assert_eq!(row["is_equal"] == true, row["kernel"] == "faulty_right", "{row}");
            assert_eq!(found.contains(reason), row["kernel"] == fault, "{row}");
        }
        let said = classify(&kernels, &tuning);
        assert!(said.contains(&format!("kernel {fault} refused at layer1.1.conv2")), "{said}");
        assert_eq!(planned(&kernels, &tuning).0, ["faulty_right"; LAYERS.len()]);
    }
}

/// Goal: what is not certain proves nothing, and is said. Method: a damaged file, and verdicts of
/// another program.
#[test]
fn a_file_that_is_not_certain_proves_nothing() {
    let folder = Folder::new("damaged");
    let (tuning, verdicts) = (folder.tuning(), folder.0.join("tuning.verdicts.json"));
    assert_eq!(prove(("faulty_right", LIMIT), &tuning, &["--batches", "1"]).0, Some(0));
    assert_eq!(planned("faulty_right", &tuning).0.len(), LAYERS.len());
    let text = std::fs::read_to_string(&verdicts).unwrap();
    let (_, hash) = text.split_once("\"faulty ").unwrap();
    std::fs::write(&verdicts, text.replace(&hash[..64], &"0".repeat(64))).unwrap();
    assert!(planned("faulty_right", &tuning).0.is_empty());
    std::fs::write(&verdicts, &text[..text.len() / 2]).unwrap();
    assert!(planned("faulty_right", &tuning).0.is_empty());
    let said = classify("faulty_right", &tuning);
    assert!(said.contains("no kernel counts as proven; run `twinstream prove`"), "{said}");
}
