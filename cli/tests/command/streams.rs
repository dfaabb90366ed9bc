//! The built program on streams that take or give nothing: full disks, closed pipes, closed
//! descriptors.
//!
//! Goal: no panic, no lost answer, and an exit status that tells what happened. Method: the shell
//! sets the streams up; each command runs, since each prints in its own way.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::repository;

/// A panic's status, and that of a signal, are none of these.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const SOME_FAILED: i32 = 3;

/// Runs a line of the shell in which `$TWINSTREAM` is the program, `$CAT` and `$SHIP` are images
/// and `$EMPTY` is an empty file.
fn shell(line: &str) -> Output {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("streams-empty.jpg");
    std::fs::write(&empty, "").unwrap();
    let mut command = Command::new("sh");
    command.env("TWINSTREAM", env!("CARGO_BIN_EXE_twinstream")).env("EMPTY", empty);
    command.env("CAT", repository("examples/images/cifar-cat.png"));
    command.env("SHIP", repository("examples/images/cifar-ship.png"));
    command.current_dir(repository("")).args(["-c", line]).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_full_or_closed_stderr_loses_no_answer() {
    for stderr_is in ["/dev/full", "&-"] {
        let line = format!("$TWINSTREAM classify --batch 1 $EMPTY $CAT $SHIP 2>{stderr_is}");
        let output = shell(&line);
        assert_eq!(output.status.code(), Some(SOME_FAILED), "{line}");
        for class in ["cat", "ship"] {
            assert!(stdout(&output).contains(&format!(" %  {class}")), "{line}");
        }
        for (line, status) in [
            ("$TWINSTREAM classify", USAGE),
            ("$TWINSTREAM classify nofile", FAILED),
            ("$TWINSTREAM classify --weights nofile $CAT", FAILED),
            ("$TWINSTREAM evaluate nofolder", FAILED),
            ("RUST_LOG=a=b=c $TWINSTREAM inspect", 0),
            ("RUST_LOG=trace $TWINSTREAM inspect", 0),
        ] {
            let line = format!("{line} 2>{stderr_is}");
            assert_eq!(shell(&line).status.code(), Some(status), "{line}");
        }
    }
}

#[test]
fn a_full_stderr_loses_no_figures() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("streams-evaluate");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("ship")).unwrap();
    std::fs::write(folder.join("ship/bad.png"), "no picture").unwrap();
    std::fs::copy(repository("examples/images/cifar-ship.png"), folder.join("ship/a.png")).unwrap();
    let output = shell(&format!("$TWINSTREAM evaluate {} 2>/dev/full", folder.display()));
    assert_eq!(output.status.code(), Some(SOME_FAILED));
    assert!(stdout(&output).contains("100.00 %"), "{}", stdout(&output));
}

#[test]
fn results_that_stdout_does_not_take_are_an_error() {
    for line in [
        "classify $CAT",
        "classify --json $CAT",
        "inspect",
        "inspect --json",
        "simulate --device h100 --arrivals poisson:100 --duration 1s",
        "plan --device h100 --latency-bound 5ms --policies serial",
        "bench --backend null --arrivals poisson:100 --duration 100ms --policies jit",
        "--help",
        "classify --help",
        "--version",
    ] {
        let output = shell(&format!("$TWINSTREAM {line} >/dev/full"));
        assert_eq!(output.status.code(), Some(FAILED), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains("cannot write to stdout"), "{line}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{line}: {}", stderr(&output));
    }
    let both = shell("$TWINSTREAM classify $CAT >/dev/full 2>&1");
    assert_eq!(both.status.code(), Some(FAILED));
}

#[test]
fn who_has_read_enough_may_leave() {
    // The shell's `true` reads nothing and is gone before the first line comes.
    for line in ["inspect", "classify --json $CAT $SHIP", "--help"] {
        let line = format!("({{ sleep 0.2; $TWINSTREAM {line}; }}; echo $? >&2) | true");
        let output = shell(&line);
        assert_eq!(stderr(&output).trim(), "0", "{line}");
    }
}

#[test]
fn an_image_may_come_from_stdin() {
    let output = shell("$TWINSTREAM classify --json $SHIP - <$CAT");
    assert!(output.status.success(), "{}", stderr(&output));
    let [ship, cat] = stdout(&output).lines().collect::<Vec<_>>()[..] else { panic!() };
    assert!(ship.contains("cifar-ship.png"));
    let cat: serde_json::Value = serde_json::from_str(cat).unwrap();
    assert_eq!((&cat["path"], &cat["top"][0]["class"]), (&"-".into(), &"cat".into()));

    for (line, status, words) in [
        ("cat $SHIP | $TWINSTREAM classify --top 1 -", 0, ""),
        ("$TWINSTREAM classify - $CAT </dev/null", SOME_FAILED, "stdin: empty: send an image"),
        ("$TWINSTREAM classify - <&-", FAILED, "stdin: empty: send an image"),
        ("$TWINSTREAM classify --weights - $CAT", USAGE, "not read from stdin"),
        ("$TWINSTREAM classify --config - $CAT", USAGE, "not read from stdin"),
        ("$TWINSTREAM classify --pixels-max inf $CAT", USAGE, "up to 1000000"),
        ("$TWINSTREAM classify --pixels-max 1e9 $CAT", USAGE, "up to 1000000"),
        (
            "echo no picture | $TWINSTREAM classify -",
            FAILED,
            "stdin: this is a text file, not an image",
        ),
        ("$TWINSTREAM classify - - <$CAT", USAGE, "stdin holds one image"),
    ] {
        let output = shell(line);
        assert_eq!(output.status.code(), Some(status), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{line}: {}", stderr(&output));
    }
}
