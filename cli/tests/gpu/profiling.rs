//! What a profiler sees of the program: ranges of uploads, batches and downloads, and the streams'
//! names.
//!
//! Goal: each stage of each batch is one range, with the batch's length, for as long as the stage
//! takes. Method: the program classifies images with a profiler in small (`nvtx_injection.c`) that
//! NVTX loads into it. Skipped where the build found no NVTX; fails there if
//! `TWINSTREAM_REQUIRE` names `nvtx`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use twinstream::backend::cuda::devices;

use super::common::{repository, run, skip};

/// The headers that the build found; without them the program has no ranges.
const HEADERS: Option<&str> = option_env!("TWINSTREAM_NVTX_HEADERS");
const IMAGES: [&str; 5] = ["cat", "dog", "frog", "ship", "truck"];
const BATCH_LEN_MAX: u64 = 2;
/// The batches of an engine's calibration, which come first and one after another.
const CALIBRATION: [u64; 8] =
    [1, 1, 1, 1, BATCH_LEN_MAX, BATCH_LEN_MAX, BATCH_LEN_MAX, BATCH_LEN_MAX];

/// A moment of the trace: its line, and the time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    line: usize,
    ns: u64,
}

#[derive(Debug)]
struct Range {
    id: u64,
    name: String,
    payload: u64,
    start: Moment,
    end: Option<Moment>,
}

impl Range {
    fn end(&self) -> Moment {
        self.end.unwrap_or_else(|| panic!("never ends: {self:?}"))
    }
}

/// What the profiler was told: ranges by their starts, and streams as (handle, name).
#[derive(Default)]
struct Trace {
    ranges: Vec<Range>,
    streams: Vec<(String, String)>,
}

impl Trace {
    fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{word} in\n{text}"));
        for (line, words) in text.lines().enumerate() {
            match words.split_whitespace().collect::<Vec<_>>()[..] {
                ["stream", handle, name] => {
                    trace.streams.push((handle.to_owned(), name.to_owned()));
                }
                ["start", id, ns, payload, name] => trace.ranges.push(Range {
                    id: number(id),
                    name: name.to_owned(),
                    payload: number(payload),
                    start: Moment { line, ns: number(ns) },
                    end: None,
                }),
                ["end", id, ns] => {
                    let id = number(id);
                    let range = trace.ranges.iter_mut().find(|range| range.id == id);
                    let range = range.unwrap_or_else(|| panic!("{id} ends before it starts"));
                    let again = range.end.replace(Moment { line, ns: number(ns) });
                    assert!(again.is_none(), "ends twice: {range:?}");
                }
                _ => panic!("{words}"),
            }
        }
        trace
    }

    /// The ranges of a stage, checked to be those of the calibration, then those of the images.
    fn stage(&self, name: &str) -> Vec<&Range> {
        let stage: Vec<_> = self.ranges.iter().filter(|range| range.name == name).collect();
        let lens: Vec<_> = stage.iter().map(|range| range.payload).collect();
        assert!(lens.starts_with(&CALIBRATION), "{name}: {lens:?}");
        let served = &lens[CALIBRATION.len()..];
        assert!(served.iter().all(|len| (1..=BATCH_LEN_MAX).contains(len)), "{name}: {lens:?}");
        assert_eq!(served.iter().sum::<u64>(), IMAGES.len() as u64, "{name}: {lens:?}");
        stage
    }
}

/// Runs the program under the profiler.
fn profile(headers: &Path) -> Trace {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profiling");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let (injection, trace) = (folder.join("libinjection.so"), folder.join("trace"));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "gcc".to_owned());
    let mut compile = Command::new(compiler);
    compile.args(["-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC"]);
    compile.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-isystem"]).arg(headers);
    compile.arg(repository("cli/tests/gpu/nvtx_injection.c")).arg("-o").arg(&injection);
    run(&mut compile);

    let mut program = Command::new(env!("CARGO_BIN_EXE_twinstream"));
    program.args(["classify", "--backend", "cuda", "--json", "--batch"]);
    program.arg(BATCH_LEN_MAX.to_string());
    program.args(IMAGES.map(|name| repository(&format!("examples/images/cifar-{name}.png"))));
    program.env("NVTX_INJECTION64_PATH", &injection).env("TWINSTREAM_NVTX_TRACE", &trace);
    let output = run(&mut program);
    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers.lines().count(), IMAGES.len(), "{answers}");
    let trace = fs::read_to_string(&trace)
        .unwrap_or_else(|error| panic!("NVTX did not load the profiler: {error}"));
    Trace::parse(&trace)
}

/// Where NVTX's headers are; says so where the build found none.
fn headers(check: &str) -> Option<PathBuf> {
    if HEADERS.is_none() {
        skip("nvtx", check, "built without NVTX's headers, which scripts/cuda-toolkit.sh installs");
    }
    HEADERS.map(repository)
}

#[test]
fn stages_are_ranges_and_streams_have_names() {
    const CHECK: &str = "ranges and names that profilers see";
    let Some(headers) = headers(CHECK) else { return };
    if devices().map_or(true, |list| list.is_empty()) {
        skip("gpu", CHECK, "there is no device");
        return;
    }
    let trace = profile(&headers);

    let (mut handles, mut names): (Vec<_>, Vec<_>) = trace.streams.iter().cloned().unzip();
    names.sort_unstable();
    assert_eq!(names, ["twinstream-calc", "twinstream-down", "twinstream-up"]);
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), 3, "{:?}", trace.streams);

    let stages = ["upload", "compute", "download"];
    let [uploads, computes, downloads] = stages.map(|name| trace.stage(name));
    assert_eq!(trace.ranges.len(), uploads.len() + computes.len() + downloads.len());
    check_order(&uploads, &computes, &downloads);
    check_calibration(&uploads, &computes, &downloads);
}

/// A batch is computed once its images were seen to be uploaded, and its download, submitted behind
/// it, ends after it.
fn check_order(uploads: &[&Range], computes: &[&Range], downloads: &[&Range]) {
    assert_eq!(computes.len(), downloads.len());
    let mut image_len = 0;
    for (compute, download) in computes.iter().zip(downloads) {
        image_len += compute.payload;
        let before = uploads.iter().filter(|upload| upload.end().line < compute.start.line);
        let uploaded_len: u64 = before.map(|upload| upload.payload).sum();
        assert!(uploaded_len >= image_len, "{uploaded_len} of {image_len} before {compute:?}");
        assert_eq!(compute.payload, download.payload);
        let moments = [compute.start, download.start, compute.end(), download.end()];
        assert!(moments.is_sorted_by_key(|moment| moment.line), "{compute:?} {download:?}");
    }
}

/// In the calibration each stage begins when the end of the one before was seen, and nothing else
/// is under way: its range lasts longer than the host takes to go on. Medians, for the machine may
/// be busy.
fn check_calibration(uploads: &[&Range], computes: &[&Range], downloads: &[&Range]) {
    let step = |step: usize| {
        let (upload, compute, download) = (uploads[step], computes[step], downloads[step]);
        let [start, end] = [upload.start, upload.end()];
        [start, end, compute.start, download.start, compute.end(), download.end()]
    };
    let steps: Vec<_> = (0..CALIBRATION.len()).map(step).collect();
    for pair in steps.as_flattened().windows(2) {
        let [before, after] = [pair[0].line + 1, pair[1].line + 1];
        assert!(before < after, "line {after} of the trace should come behind line {before}");
    }
    let median_ns = |from: usize, to: usize| {
        let mut times_ns: Vec<_> = steps.iter().map(|step| step[to].ns - step[from].ns).collect();
        times_ns.sort_unstable();
        times_ns[times_ns.len() / 2]
    };
    for (stage, [start, end, next]) in [("upload", [0, 1, 2]), ("compute", [2, 4, 5])] {
        let (during_ns, behind_ns) = (median_ns(start, end), median_ns(end, next));
        assert!(during_ns > behind_ns, "{stage} lasts {during_ns} ns, then {behind_ns} ns pass");
    }
}
