//! House rules that no compiler checks: which module may import which, file and line lengths, where
//! `unsafe` may stand.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_WIDTH_MAX: usize = 100;
const FILE_LINES_MAX: usize = 600;

/// The library's modules and which others of them their files may mention: those that
/// docs/ARCHITECTURE.md names. The first that holds a file counts.
const IMPORTS: &[(&str, &[&str])] = &[
    ("src/lib.rs", &[]),
    ("src/build_info.rs", &[]),
    ("src/error.rs", &[]),
    ("src/foreign.rs", &[]),
    ("src/words.rs", &[]),
    ("src/model", &["error", "foreign", "model"]),
    ("src/lower", &["lower", "model"]),
    ("src/image", &["error", "foreign", "image", "model"]),
    ("src/sched", &["sched", "words"]),
    ("src/ring", &["error", "ring"]),
    ("src/backend/cpu", &["backend", "error", "lower", "model", "ring"]),
    ("src/backend/cuda", &["backend", "error", "lower", "model", "ring"]),
    ("src/backend", &["backend", "error", "ring"]),
    ("src/engine", &["backend", "build_info", "engine", "error", "ring", "sched"]),
    ("src/sim", &["error", "sched", "sim", "words"]),
];

/// A module under `src` and what else its files must not mention.
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
    ("ffi", &["twinstream::image", "twinstream::sim"]),
];

/// The files that may hold `unsafe`: fences around foreign code and shared buffers.
const UNSAFE_FILES: &[&str] = &[
    "ffi/src/calls.rs",
    "ffi/src/layout.rs",
    "ffi/src/logging.rs",
    "ffi/src/requests.rs",
    "ffi/src/tests.rs",
    "src/backend/cpu/conv.rs",
    "src/backend/cpu/kernel.rs",
    "src/backend/cpu/mod.rs",
    "src/backend/cpu/team.rs",
    "src/backend/cpu/winograd.rs",
    "src/backend/cuda/context.rs",
    "src/backend/cuda/device.rs",
    "src/backend/cuda/driver.rs",
    "src/backend/cuda/emulated.rs",
    "src/backend/cuda/executor.rs",
    "src/backend/cuda/memory.rs",
    "src/backend/cuda/nvtx.rs",
    "src/backend/cuda/profile.rs",
    "src/backend/cuda/rig.rs",
    "src/backend/cuda/stream.rs",
    "src/backend/cuda/timer.rs",
    "src/model/tensor_file.rs",
    "src/ring/ffi.rs",
    "src/ring/lease.rs",
    "src/ring/mod.rs",
    "src/ring/shared.rs",
    "tests/common/counting.rs",
    "tests/engine_fork.rs",
    "tests/loom_ring.rs",
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the package, relative to the repository.
fn rust_files() -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(repository()).unwrap().to_path_buf());
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "cli", "ffi"] {
        if repository().join(folder).is_dir() {
            collect(&repository().join(folder), &mut found);
        }
    }
    found.sort();
    assert!(found.len() > 20, "too few files found: {found:?}");
    found
}

/// Runs `check` on every line of code (comments cut off) and fails with all that it reports.
fn check_lines(check: impl Fn(&Path, &str) -> Option<String>) {
    let mut problems = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(repository().join(&path)).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(problem) = check(&path, code) {
                problems.push(format!("{}:{}: {problem}", path.display(), number + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whether `word` stands in `line` with no letter, digit or underscore before it.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part_of_name(before) && !part_of_name(after)
    })
}

/// What follows `crate::` in `line`: a module's name, or what else stands there.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 { rest } else { &rest[..end] }
    })
}

#[test]
fn modules_import_only_what_they_may() {
    check_lines(|path, line| {
        if !path.starts_with("src") {
            return None;
        }
        let Some((_, modules)) = IMPORTS.iter().find(|(module, _)| path.starts_with(module)) else {
            return Some("no rule says what this may import".into());
        };
        let module = imports(line).find(|module| !modules.contains(module))?;
        Some(format!("crate::{module} may not be used here"))
    });
    check_lines(|path, line| {
        let words = FORBIDDEN.iter().filter(|(module, _)| path.starts_with(module));
        let word = words.flat_map(|(_, words)| *words).find(|word| mentions(line, word))?;
        Some(format!("{word} may not be used here"))
    });
}

#[test]
fn foreign_crates_stay_behind_their_fences() {
    let fences: [(&str, &[&str]); 3] = [
        ("gemm_f32", &["src/backend/cpu/kernel.rs"]),
        ("cust", &["src/backend/cuda"]),
        ("rustix", &["cli/src/live/clock.rs", "ffi/src/completions.rs", "src/engine/pin.rs"]),
    ];
    for (name, homes) in fences {
        check_lines(|path, line| {
            let used =
                mentions(line, &format!("{name}::")) || mentions(line, &format!("use {name}"));
            let is_home = homes.iter().any(|home| path.starts_with(home));
            (used && !is_home).then(|| format!("{name} belongs in {homes:?}"))
        });
    }
}

/// The macros panic where a stream takes nothing.
#[test]
fn the_command_prints_through_one_place() {
    let ways = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "io::stdout", "io::stderr"];
    check_lines(|path, line| {
        let may_print = !path.starts_with("cli/src") || path.ends_with("output.rs");
        let way = ways.iter().find(|way| !may_print && mentions(line, way))?;
        Some(format!("{way} stands in cli/src/output.rs alone"))
    });
}

#[test]
fn unsafe_stands_where_it_may() {
    check_lines(|path, line| {
        let allowed = UNSAFE_FILES.iter().any(|file| path == Path::new(file));
        let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
            .iter()
            .any(|form| line.contains(form));
        (found && !allowed && !path.ends_with("tidy.rs"))
            .then(|| "unsafe may not stand here".into())
    });
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for path in rust_files() {
        let text = fs::read_to_string(repository().join(&path)).unwrap();
        assert!(text.starts_with("//!"), "{}: opens without saying what it is", path.display());
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines", path.display());
        for (number, line) in text.lines().enumerate() {
            let width = line.chars().count();
            assert!(width <= LINE_WIDTH_MAX, "{}:{}: {width} wide", path.display(), number + 1);
            assert_eq!(line, line.trim_end(), "{}:{}: trailing space", path.display(), number + 1);
        }
    }
}

#[test]
fn c_files_are_short_and_say_what_they_are() {
    for folder in ["cli/tests/gpu", "ffi", "ffi/examples", "ffi/tests/programs"] {
        let mut len = 0;
        for entry in fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_source = ["h", "c", "cpp"].map(|name| path.extension() == Some(name.as_ref()));
            if !is_source.contains(&true) {
                continue;
            }
            len += 1;
            let text = fs::read_to_string(&path).unwrap();
            let says = text.starts_with("// ") || text.starts_with("/* ");
            assert!(says, "{}: opens without saying what it is", path.display());
            assert!(text.lines().count() <= FILE_LINES_MAX, "{}: too long", path.display());
            let wide = text.lines().find(|line| line.chars().count() > LINE_WIDTH_MAX);
            assert_eq!(wide, None, "{}", path.display());
        }
        assert!(len > 0, "{folder}: nothing to look at");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[igno", "re")];
    check_lines(|_, line| {
        let mark = marks.iter().find(|mark| line.contains(**mark))?;
        Some(format!("{mark} marks unfinished work"))
    });
}
