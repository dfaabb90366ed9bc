//! House rules that no compiler checks: which module may import which, circles between modules,
//! lengths of files and functions, words, where `unsafe` may stand.
//!
//! The rules are in this folder's other files, each tested there on small samples; here is what the
//! repository's files must keep.

mod functions;
mod imports;
mod rules;
mod source;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use imports::Crate;
use rules::{in_code, mentions};
use source::{C, File, Problem, RUST, SCRIPTS, files, rust_files};

/// The library's modules from the bottom up, and which of those below them each may import: those
/// that docs/ARCHITECTURE.md names.
const IMPORTS: &[(&str, &[&str])] = &[
    ("build_info", &[]),
    ("clock", &[]),
    ("error", &[]),
    ("foreign", &[]),
    ("setters", &[]),
    ("stripe", &[]),
    ("words", &[]),
    ("model", &["error", "foreign"]),
    ("lower", &["error", "model", "words"]),
    ("image", &["error", "foreign", "model"]),
    ("sched", &["words"]),
    ("ring", &["error", "setters", "stripe"]),
    ("sim", &["error", "sched", "setters", "words"]),
    ("backend", &["clock", "error", "lower", "model", "ring", "sched", "setters", "sim", "words"]),
    ("calibrate", &["backend", "error", "lower", "model"]),
    ("engine", &["backend", "build_info", "error", "ring", "sched", "setters", "stripe"]),
];

/// Parts of modules that may import less than the whole.
const PARTS: &[(&str, &[&str])] = &[
    ("src/backend/cpu", &["error", "lower", "model", "ring", "setters"]),
    ("src/backend/cuda", &["error", "lower", "model", "ring", "setters"]),
    ("src/backend/mod.rs", &["error", "ring", "sched"]),
    ("src/backend/null.rs", &["error", "ring"]),
    ("src/backend/open.rs", &["error", "lower", "model", "setters", "sim", "words"]),
    ("src/backend/simulated.rs", &["clock", "error", "ring", "sched", "sim"]),
];

/// A file or folder and what its code must not mention.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "src/sched",
        &[
            "std::time",
            "Instant",
            "SystemTime",
            "std::thread",
            "std::sync",
            "std::fs",
            "std::io",
            "rand",
        ],
    ),
    ("src/ring", &["std::time", "std::thread", "Instant"]),
    ("src/engine", &["crate::backend::cpu", "crate::backend::cuda"]),
    ("src/sim", &["Instant", "SystemTime"]),
    ("cli", &["unsafe"]),
    ("ffi/src", &["twinstream::image", "twinstream::sim"]),
    ("ffi/tests", &["twinstream::image", "twinstream::sim"]),
    ("ffi/triton", &["twinstream::image", "twinstream::sim"]),
    ("server", &["unsafe"]),
    ("server/src", &["twinstream::backend"]),
];

/// The files that may hold `unsafe`: fences around foreign code and shared buffers.
const UNSAFE_FILES: &[&str] = &[
    "ffi/python/src/lease.rs",
    "ffi/src/calls.rs",
    "ffi/src/layout.rs",
    "ffi/src/logging.rs",
    "ffi/src/many.rs",
    "ffi/src/registry.rs",
    "ffi/src/requests.rs",
    "ffi/src/tests.rs",
    "ffi/src/timing.rs",
    "ffi/triton/src/lib.rs",
    "ffi/triton/src/logging.rs",
    "ffi/triton/src/raw.rs",
    "ffi/triton/src/request.rs",
    "ffi/triton/src/server.rs",
    "ffi/triton/src/stand_in.rs",
    "ffi/triton/src/status.rs",
    "ffi/triton/src/tests.rs",
    "src/backend/cpu/dot/avx.rs",
    "src/backend/cpu/dot/avx512.rs",
    "src/backend/cpu/dot/mod.rs",
    "src/backend/cpu/dot/plain.rs",
    "src/backend/cpu/dot/product.rs",
    "src/backend/cpu/dot/stem.rs",
    "src/backend/cpu/dot/tile.rs",
    "src/backend/cpu/float/conv.rs",
    "src/backend/cpu/float/kernel.rs",
    "src/backend/cpu/float/mod.rs",
    "src/backend/cpu/float/winograd.rs",
    "src/backend/cpu/team.rs",
    "src/backend/cuda/device.rs",
    "src/backend/cuda/executor.rs",
    "src/backend/cuda/measure/fixture.rs",
    "src/backend/cuda/measure/profile.rs",
    "src/backend/cuda/measure/timer.rs",
    "src/backend/cuda/measure/workbench.rs",
    "src/backend/cuda/sys/context.rs",
    "src/backend/cuda/sys/driver.rs",
    "src/backend/cuda/sys/emulated.rs",
    "src/backend/cuda/sys/info.rs",
    "src/backend/cuda/sys/memory.rs",
    "src/backend/cuda/sys/nvtx.rs",
    "src/backend/cuda/sys/stream.rs",
    "src/backend/cuda/sys/tensor_map.rs",
    "src/engine/cell.rs",
    "src/model/tensor_file.rs",
    "src/ring/chain.rs",
    "src/ring/ffi.rs",
    "src/ring/lease.rs",
    "src/ring/mod.rs",
    "src/ring/reader.rs",
    "src/ring/shared.rs",
    "tests/common/counting.rs",
    "tests/engine_fork.rs",
    "tests/loom_request.rs",
    "tests/loom_ring.rs",
];

/// The crates of which a few files alone know.
const FENCES: &[(&str, &[&str])] = &[
    ("gemm_f32", &["src/backend/cpu/float/kernel.rs"]),
    ("cust", &["src/backend/cuda"]),
    (
        "rustix",
        &[
            "cli/src/serve.rs",
            "ffi/python/src/inbox.rs",
            "ffi/src/completions.rs",
            "ffi/triton/src/clock.rs",
            "server/src/shared_memory.rs",
            "src/clock.rs",
            "src/engine/pin.rs",
        ],
    ),
];

/// Fails with all that `rule` finds in the files.
fn check(files: &[File], rule: impl Fn(&File) -> Vec<Problem>) {
    let told = |file: &File| {
        let told = |(line, problem)| format!("{}:{line}: {problem}", file.path);
        rule(file).into_iter().map(told).collect::<Vec<_>>()
    };
    let problems: Vec<String> = files.iter().flat_map(told).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// All that people write by the rules on form.
fn sources() -> Vec<File> {
    files(&[RUST, C, SCRIPTS].concat())
}

#[test]
fn modules_import_only_what_they_may() {
    for (index, (module, may)) in IMPORTS.iter().enumerate() {
        let below: Vec<&str> = IMPORTS[..index].iter().map(|(module, _)| *module).collect();
        let above = may.iter().find(|other| !below.contains(other));
        assert_eq!(above, None, "{module} may not import what is not below it");
    }
    let files = rust_files();
    let library = Crate::new(&files, "src");
    let mut unused: BTreeSet<(&str, &str)> = IMPORTS
        .iter()
        .flat_map(|(module, may)| may.iter().map(|other| (*module, *other)))
        .collect();
    let mut problems = Vec::new();
    for (path, other) in library.imports() {
        let file = File::new(path, "");
        if path == "src/lib.rs" {
            continue;
        }
        let is_of = |module: &str| {
            file.is_in(&format!("src/{module}")) || file.is_in(&format!("src/{module}.rs"))
        };
        let Some((module, may)) = IMPORTS.iter().find(|(module, _)| is_of(module)) else {
            problems.push(format!("{path}: no rule says what this may import"));
            continue;
        };
        let part = PARTS.iter().find(|(part, _)| file.is_in(part));
        if !part.map_or(*may, |(_, may)| *may).contains(&other.as_str()) {
            problems.push(format!("{path}: may not import {other}"));
        }
        unused.retain(|(user, used)| user != module || *used != other);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(unused.is_empty(), "may be imported, but is not: {unused:?}");
}

#[test]
fn modules_lie_in_no_circles() {
    let files = rust_files();
    for folder in ["src", "cli/src", "ffi/src", "ffi/python/src", "ffi/triton/src", "server/src"] {
        assert_eq!(Crate::new(&files, folder).circles(), [""; 0], "in {folder}");
    }
}

#[test]
fn modules_know_only_what_they_may() {
    check(&rust_files(), |file| {
        let words = FORBIDDEN.iter().filter(|(path, _)| file.is_in(path));
        words.flat_map(|(_, words)| rules::no_mention(file, words)).collect()
    });
}

#[test]
fn foreign_crates_stay_behind_their_fences() {
    for (name, homes) in FENCES {
        check(&rust_files(), |file| match homes.iter().any(|home| file.is_in(home)) {
            true => Vec::new(),
            false => in_code(file, |line| {
                let is_used =
                    mentions(line, &format!("{name}::")) || mentions(line, &format!("use {name}"));
                is_used.then(|| format!("{name} belongs in {homes:?}"))
            }),
        });
    }
}

/// The macros panic where a stream takes nothing.
#[test]
fn the_command_prints_through_one_place() {
    let ways = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "io::stdout", "io::stderr"];
    check(&rust_files(), |file| match file.is_in("cli/src") && !file.path.ends_with("output.rs") {
        true => rules::no_mention(file, &ways),
        false => Vec::new(),
    });
}

#[test]
fn unsafe_stands_where_it_may() {
    let files = rust_files();
    check(&files, |file| match UNSAFE_FILES.contains(&file.path.as_str()) {
        true => Vec::new(),
        false => rules::no_unsafe(file),
    });
    let is_needed = |path: &&&str| {
        files.iter().any(|file| file.path == **path && !rules::no_unsafe(file).is_empty())
    };
    let idle: Vec<_> = UNSAFE_FILES.iter().filter(|path| !is_needed(path)).collect();
    assert!(idle.is_empty(), "may hold `unsafe`, but hold none: {idle:?}");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    check(&sources(), |file| {
        let rules = [rules::files_are_short, rules::files_say_what_they_are];
        rules.iter().flat_map(|rule| rule(file)).collect()
    });
}

#[test]
fn lines_are_narrow() {
    check(&sources(), rules::lines_are_narrow);
}

#[test]
fn functions_are_short() {
    check(&files(&[RUST, C].concat()), rules::functions_are_short);
}

#[test]
fn nothing_is_left_unfinished() {
    check(&rust_files(), rules::nothing_is_left_unfinished);
}

#[test]
fn words_are_those_of_the_glossary() {
    let glossary = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/GLOSSARY.md");
    let bans = words::bans(&fs::read_to_string(glossary).unwrap());
    assert!(!bans.is_empty(), "the table of banned words is not found");
    assert_eq!(words::missing_folders(&bans), [""; 0]);
    let may_say = ["docs/GLOSSARY.md", "tests/tidy"];
    check(&files(&[RUST, C, SCRIPTS, &["md"]].concat()), |file| {
        match may_say.iter().any(|path| file.is_in(path)) {
            true => Vec::new(),
            false => words::banned_words(file, &bans),
        }
    });
}

/// The workflow of the forge runs every step of `.ci/run`, once.
#[test]
fn the_workflow_runs_every_step() {
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (script, workflow) = (read(".ci/run"), read(".github/workflows/ci.yml"));
    let functions = script.lines().filter_map(|line| line.strip_prefix("step_"));
    let mut steps: Vec<&str> = functions.filter_map(|name| name.split("() (").next()).collect();
    let rows = workflow.split("steps:\n").nth(2).unwrap_or_default().lines();
    let rows = rows.map_while(|row| row.trim_start().strip_prefix("- "));
    let mut named: Vec<&str> = rows.flat_map(str::split_whitespace).collect();
    steps.sort();
    named.sort();
    assert!(steps.len() > 10, "{steps:?}");
    assert_eq!(named, steps);
}
