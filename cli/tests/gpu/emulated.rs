//! The command on the emulated device: what a machine without a driver is told, and that options
//! for the GPU reach it.

use std::process::Command;

use super::common::repository;

/// Goal: without a driver the program runs, says so, and computes on the processor.
#[test]
fn without_a_driver_the_processor_remains() {
    let classify = |backend: &str| {
        let image = repository("examples/images/cifar-cat.png");
        Command::new(env!("CARGO_BIN_EXE_twinstream"))
            .env("TWINSTREAM_EMULATED_DEVICES", "0")
            .args(["classify", "--backend", backend, "--json"])
            .arg(image)
            .output()
            .unwrap()
    };
    let output = classify("cuda");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no CUDA driver") && text.contains("use the CPU"), "{text}");
    let output = classify("cpu");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("cat"));
}

/// Goal: the command line's answers are the engine's.
#[test]
fn images_are_classified_on_the_device() {
    let image = repository("examples/images/cifar-cat.png");
    for more in [&["--device", "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f"][..], &["--no-graphs"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_twinstream"))
            .args(["classify", "--backend", "cuda", "--top", "1", "--batch", "2"])
            .args(more)
            .arg(&image)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(text.contains("cat"), "{text}");
    }
}
