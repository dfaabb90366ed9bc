//! The C interface, from C and from C++, against the shared and the static library.
//!
//! Goal: the header is clean in every dialect that it promises, exports are those that are listed,
//! each mistake gets its status, the examples do what they say. Method: compiles the programs of
//! `ffi/tests/programs` and `ffi/examples` with the system's compilers and runs them; each C
//! program is C++ as well. `CC` and `CXX` choose the compilers. `scripts/c-api.sh` adds
//! installation and valgrind.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{calibrated, cifar_model, repository, run, u8_tensor};
use safetensors::SafeTensors;
use twinstream::backend::cpu::{Cpu, CpuOptions};
use twinstream::model::{Model, top_k};

/// What the static library needs from the system: `rustc --print native-static-libs`.
const NATIVE_LIBS: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];
/// What the emulated device needs beside these: the C++ library, and no calls of the driver but
/// those that are made.
const EMULATED_LIBS: &[&str] =
    if cfg!(twinstream_emulated) { &["-lstdc++", "-Wl,--gc-sections"] } else { &[] };
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// A dialect to compile in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    C99,
    C11,
    Cpp17,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Shared,
    Static,
}

const PROGRAM_DIALECTS: [Dialect; 2] = [Dialect::C11, Dialect::Cpp17];
const LINKS: [Link; 2] = [Link::Shared, Link::Static];

/// The library that this test was built with, shared (`so`) or static (`a`).
fn built(kind: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(format!("libtwinstream_capi.{kind}"))
}

/// The name that programs ask the system for.
fn soname() -> String {
    format!(
        "libtwinstream.so.{}.{}",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR")
    )
}

/// A fresh folder for a test, with the shared library under both of its names.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let library = built("so");
    symlink(&library, folder.join("libtwinstream.so")).unwrap();
    symlink(&library, folder.join(soname())).unwrap();
    folder
}

/// The compiler of a dialect, with the flags that every source is compiled with.
fn compiler(dialect: Dialect) -> Command {
    let (variable, default, standard, language) = match dialect {
        Dialect::C99 => ("CC", "gcc", "-std=c99", "c"),
        Dialect::C11 => ("CC", "gcc", "-std=c11", "c"),
        Dialect::Cpp17 => ("CXX", "g++", "-std=c++17", "c++"),
    };
    let program = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let mut command = Command::new(program);
    command.args([standard, "-O1", "-g", "-D_GNU_SOURCE", "-x", language]).args(WARNINGS);
    command.arg("-I").arg(repository("ffi"));
    if cfg!(feature = "cuda") {
        command.arg("-DTWINSTREAM_HAS_CUDA");
    }
    command
}

/// Compiles `sources` to a program in `folder`.
fn build(folder: &Path, dialect: Dialect, link: Link, sources: &[PathBuf]) -> PathBuf {
    let name = sources[0].file_stem().unwrap().to_str().unwrap();
    let program = folder.join(format!("{name}-{dialect:?}-{link:?}"));
    let mut command = compiler(dialect);
    command.args(sources).args(["-x", "none", "-o"]).arg(&program);
    match link {
        Link::Shared => command.arg("-L").arg(folder).arg("-ltwinstream"),
        Link::Static => command.arg(built("a")).args(NATIVE_LIBS).args(EMULATED_LIBS),
    };
    run(command.args(["-pthread", "-lm"]));
    program
}

/// Runs a program that was built in `folder`.
fn launch(folder: &Path, program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = run(command.args(arguments).env("LD_LIBRARY_PATH", folder));
    String::from_utf8(output.stdout).unwrap()
}

/// Builds and runs one of the programs of `ffi/tests/programs` in both languages with both
/// libraries.
fn check(name: &str, others: &[&str]) {
    let folder = folder(name);
    let files = std::iter::once(&name).chain(others);
    let sources: Vec<_> =
        files.map(|file| repository("ffi/tests/programs").join(format!("{file}.c"))).collect();
    for dialect in PROGRAM_DIALECTS {
        for link in LINKS {
            let program = build(&folder, dialect, link, &sources);
            assert_eq!(launch(&folder, &program, &[]), format!("{name}: ok\n"));
        }
    }
}

#[test]
fn the_header_is_clean_in_every_dialect() {
    for dialect in [Dialect::C99, Dialect::C11, Dialect::Cpp17] {
        run(compiler(dialect).arg("-fsyntax-only").arg(repository("ffi/twinstream.h")));
    }
    check("header", &["other_unit"]);
}

#[test]
fn mistakes_give_statuses() {
    check("guards", &[]);
}

#[test]
fn requests_live_as_promised() {
    check("requests", &[]);
}

#[test]
fn several_images_are_one_request_and_room_is_waited_for() {
    check("many", &[]);
}

#[test]
fn requests_tell_their_times_and_engines_write_traces() {
    check("trace", &[]);
}

#[test]
fn requests_survive_many_threads() {
    check("stress", &[]);
}

#[cfg(twinstream_emulated)]
#[test]
fn the_gpu_answers_as_the_processor_does() {
    let folder = folder("cuda");
    let source = [repository("ffi/tests/programs/cuda.c")];
    let (model, calibrated) = (cifar_model(), calibrated_file(&folder));
    for (dialect, link) in [(Dialect::C11, Link::Shared), (Dialect::Cpp17, Link::Static)] {
        let program = build(&folder, dialect, link, &source);
        let models = [model.path(), &calibrated].map(|path| path.to_str().unwrap());
        assert_eq!(launch(&folder, &program, &models), "cuda: ok\n");
    }
}

#[test]
fn forked_processes_wait_for_nothing() {
    check("fork", &[]);
}

#[test]
fn engines_share_a_scrape_and_refusals_are_counted() {
    check("scrape", &[]);
}

#[test]
fn the_shared_library_stays_loaded() {
    let output = run(Command::new("readelf").arg("-d").arg(built("so")));
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains("NODELETE"), "{output}");
}

#[test]
fn requests_allocate_nothing() {
    check("no_allocation", &[]);
}

#[test]
fn exports_are_those_that_are_listed_and_declared() {
    let library = built("so");
    let output = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let output = String::from_utf8(output.stdout).unwrap();
    let mut exported: Vec<_> =
        output.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    exported.sort_unstable();
    let listed = fs::read_to_string(repository("ffi/twinstream.symbols")).unwrap();
    assert_eq!(exported, listed.lines().collect::<Vec<_>>());
    let header = fs::read_to_string(repository("ffi/twinstream.h")).unwrap();
    for symbol in listed.lines() {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is not declared");
    }
    let output = run(Command::new("objdump").arg("-p").arg(&library));
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains(&soname()), "the library should be called {}:\n{output}", soname());
}

/// CIFAR images, 32 x 32 pixels each.
fn cifar_pixels() -> Vec<u8> {
    let reference = fs::read(repository("tests/data/cifar-reference.safetensors")).unwrap();
    u8_tensor(&SafeTensors::deserialize(&reference).unwrap(), "cifar_pixels")
}

/// The repository's model in 8-bit integers, with its configuration beside it.
fn calibrated_file(folder: &Path) -> PathBuf {
    let weights = folder.join("i8.safetensors");
    fs::write(&weights, calibrated(&cifar_pixels()[..20 * 3072])).unwrap();
    let config = repository("models/resnet50-cifar10/config.json");
    fs::copy(config, folder.join("config.json")).unwrap();
    weights
}

/// A CIFAR image as a PPM file, and its pixels.
fn ppm(folder: &Path) -> (PathBuf, Vec<u8>) {
    let pixels = cifar_pixels()[..32 * 32 * 3].to_vec();
    let path = folder.join("image.ppm");
    fs::write(&path, [b"P6\n32 32\n255\n", &*pixels].concat()).unwrap();
    (path, pixels)
}

#[test]
fn the_classify_example_agrees_with_the_library() {
    let folder = folder("classify");
    let (image, pixels) = ppm(&folder);
    for model in [cifar_model(), Model::load(&calibrated_file(&folder), None).unwrap()] {
        classify(&folder, &model, (&image, &pixels));
    }
}

/// Runs the example on an image, of which pixels are these, with the weights of `model`.
fn classify(folder: &Path, model: &Model, (image, pixels): (&Path, &[u8])) {
    let mut logits = vec![0.0; model.class_count()];
    let mut cpu = Cpu::new(model, &CpuOptions::for_model(model)).unwrap();
    cpu.infer(pixels, &mut logits).unwrap();
    let expected = top_k(&logits, 5);

    for (dialect, link) in [(Dialect::C99, Link::Shared), (Dialect::Cpp17, Link::Static)] {
        let program = build(folder, dialect, link, &[repository("ffi/examples/classify.c")]);
        let arguments = [model.path().to_str().unwrap(), image.to_str().unwrap()];
        let output = launch(folder, &program, &arguments);
        let lines: Vec<_> = output.lines().skip(1).collect();
        assert_eq!(lines.len(), expected.len(), "{output}");
        for (line, class) in lines.iter().zip(&expected) {
            let (percent, label) = line.trim().split_once(" %  ").unwrap();
            assert_eq!(label, model.label(class.index));
            let difference = percent.parse::<f32>().unwrap() - 100.0 * class.probability;
            assert!(difference.abs() < 0.02, "{line}: expected {class:?}");
        }
        // As the README has it.
        let cat = repository("ffi/examples/cat.ppm");
        let output = launch(folder, &program, &[arguments[0], cat.to_str().unwrap()]);
        assert!(output.lines().nth(1).unwrap().ends_with("%  cat"), "{output}");
        // Without an image it makes one up.
        let output = launch(folder, &program, &arguments[..1]);
        assert_eq!(output.lines().count(), 6, "{output}");
    }
}

#[test]
fn the_epoll_example_gets_every_answer() {
    let folder = folder("epoll");
    let model = cifar_model();
    for (dialect, link) in [(Dialect::C99, Link::Shared), (Dialect::Cpp17, Link::Static)] {
        let program = build(&folder, dialect, link, &[repository("ffi/examples/epoll.c")]);
        for backend in ["null", model.path().to_str().unwrap()] {
            let output = launch(&folder, &program, &[backend, "30"]);
            assert!(output.starts_with("30 requests answered"), "{output}");
        }
    }
}

#[test]
fn the_bench_example_measures_both_sides() {
    let folder = folder("bench");
    for (dialect, link) in [(Dialect::C99, Link::Shared), (Dialect::Cpp17, Link::Static)] {
        let program = build(&folder, dialect, link, &[repository("ffi/examples/bench.c")]);
        let output = launch(&folder, &program, &["0.05"]);
        let lines: Vec<serde_json::Value> =
            output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 9, "{output}");
        for line in lines {
            let count = line["requests"].as_f64().or(line["factor"].as_f64());
            assert!(count.unwrap() > 0.0, "{line}");
        }
    }
}

/// How late an answer may be is for a quiet machine to show: `scripts/c-api.sh`. Here: that the
/// service turns away what is too much, and answers the rest. It measures what is too much, which
/// other work on the machine can spoil: then it is asked again.
#[test]
fn the_service_example_turns_away_what_is_too_much() {
    let folder = folder("service");
    let model = cifar_model();
    let source = [repository("ffi/examples/service.cpp")];
    for link in LINKS {
        let program = build(&folder, Dialect::Cpp17, link, &source);
        let arguments = [model.path().to_str().unwrap(), "100", "60000", "1", "20"];
        let turns_away = |_| {
            let output = launch(&folder, &program, &arguments);
            let count = |name: &str| -> u64 {
                let words: Vec<_> = output.split([' ', ',', '\n']).collect();
                let at = words.iter().position(|word| *word == name).unwrap();
                words[at + 1].parse().unwrap()
            };
            assert!(count("answered") > 0, "{output}");
            assert_eq!(count("failed"), 0, "{output}");
            println!("{output}");
            count("rejected") + count("expired") + count("full") > 0
        };
        assert!((0..3).any(turns_away), "{link:?}: all was answered");
    }
}
