//! What holds in each file by itself. A rule takes a file and tells what is wrong in it; each is
//! shown below a file that it must find fault with and one that it must pass.

use crate::functions::functions;
use crate::source::{C, File, Problem, RUST};

const LINE_WIDTH_MAX: usize = 100;
/// Of scripts.
const SCRIPT_WIDTH_MAX: usize = 135;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Whether `word` stands in `line`, not as a part of a longer name.
pub fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part_of_name(before) && !part_of_name(after)
    })
}

/// The lines of code in which `find` finds something.
pub fn in_code(file: &File, find: impl Fn(&str) -> Option<String>) -> Vec<Problem> {
    let code = file.code();
    let lines = code.lines().enumerate();
    lines.filter_map(|(index, line)| Some((index + 1, find(line)?))).collect()
}

pub fn lines_are_narrow(file: &File) -> Vec<Problem> {
    let is_source = file.ends_in(RUST) || file.ends_in(C);
    let limit = if is_source { LINE_WIDTH_MAX } else { SCRIPT_WIDTH_MAX };
    let mut problems = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let width = line.chars().count();
        if width > limit && !line.starts_with('|') {
            problems.push((index + 1, format!("{width} wide")));
        }
        if line != line.trim_end() {
            problems.push((index + 1, "trailing space".to_owned()));
        }
    }
    problems
}

pub fn files_are_short(file: &File) -> Vec<Problem> {
    let len = file.text.lines().count();
    if len > FILE_LINES_MAX { vec![(len, format!("{len} lines"))] } else { Vec::new() }
}

pub fn files_say_what_they_are(file: &File) -> Vec<Problem> {
    let openings: &[&str] = if file.ends_in(RUST) {
        &["//! "]
    } else if file.ends_in(C) {
        &["// ", "/* "]
    } else {
        &["# ", "\"\"\""]
    };
    let text = match file.text.strip_prefix("#!") {
        Some(rest) => rest.split_once('\n').map_or("", |(_, rest)| rest),
        None => &file.text,
    };
    match openings.iter().any(|opening| text.starts_with(opening)) {
        true => Vec::new(),
        false => vec![(1, "opens without saying what it is".to_owned())],
    }
}

pub fn functions_are_short(file: &File) -> Vec<Problem> {
    let long = functions(file).into_iter().filter(|(_, _, len)| *len > FUNCTION_LINES_MAX);
    long.map(|(name, line, len)| (line, format!("{name} has {len} lines"))).collect()
}

/// Work that was put off, and checks that are passed over.
pub fn nothing_is_left_unfinished(file: &File) -> Vec<Problem> {
    let marks = ["todo!(", "unimplemented!(", "#[ignore"];
    in_code(file, |line| {
        let mark = marks.iter().find(|mark| line.contains(**mark))?;
        Some(format!("{mark} marks unfinished work"))
    })
}

pub fn no_unsafe(file: &File) -> Vec<Problem> {
    let forms = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    in_code(file, |line| {
        let is_there = forms.iter().any(|form| line.contains(form));
        is_there.then(|| "unsafe may not stand here".to_owned())
    })
}

/// `words` are not to be named in the code.
pub fn no_mention(file: &File, words: &[&str]) -> Vec<Problem> {
    in_code(file, |line| {
        let word = words.iter().find(|word| mentions(line, word))?;
        Some(format!("{word} may not be used here"))
    })
}

#[cfg(test)]
mod samples {
    use super::*;

    fn check(rule: impl Fn(&File) -> Vec<Problem>, path: &str, bad: &str, good: &str) {
        assert_eq!(rule(&File::new(path, bad)).len(), 1, "{bad}");
        assert_eq!(rule(&File::new(path, good)), [], "{good}");
    }

    fn lines(line: &str, len: usize) -> String {
        format!("{line}\n").repeat(len)
    }

    #[test]
    fn width() {
        check(lines_are_narrow, "a.rs", &"é".repeat(101), &"é".repeat(100));
        check(lines_are_narrow, "a.cu", "a \nb", "a\nb");
        let good = format!(
            "{}
|{}",
            "é".repeat(135),
            "é".repeat(200)
        );
        check(lines_are_narrow, "a.md", &"é".repeat(136), &good);
    }

    #[test]
    fn length() {
        check(files_are_short, "a.cuh", &lines("a", 601), &lines("a", 600));
        let function = |len| format!("fn a() {{\n{}}}\n", lines("b();", len));
        check(functions_are_short, "a.rs", &function(69), &function(68));
        let kernel = |len| format!("__global__ void a(int b) {{\n{}}}\n", lines("b++;", len));
        check(functions_are_short, "a.cu", &kernel(69), &kernel(68));
    }

    #[test]
    fn opening() {
        check(files_say_what_they_are, "a.rs", "use b;", "//! Says.\nuse b;");
        check(files_say_what_they_are, "a.cuh", "#pragma once", "// Says.\n#pragma once");
        check(files_say_what_they_are, "a.sh", "#!/bin/sh\nset -e", "#!/bin/sh\n# Says.\nset -e");
        check(files_say_what_they_are, "a.py", "import os", "\"\"\"Says.\"\"\"\nimport os");
    }

    #[test]
    fn content() {
        check(nothing_is_left_unfinished, "a.rs", "fn a() { todo!() }", "// todo!()");
        check(no_unsafe, "a.rs", "unsafe { a() }", "// unsafe { a() }\nlet b = \"unsafe {\";");
        let no_clock = |file: &File| no_mention(file, &["Instant"]);
        check(no_clock, "a.rs", "use std::time::Instant;", "struct Instantly; // Instant");
    }
}
