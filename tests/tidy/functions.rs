//! Functions and their lengths, in Rust and in C++, read from the code.

use crate::source::{File, RUST};

/// What a statement in C++ begins with whose block is no function's body.
const CONTAINERS: &[&str] = &["namespace", "class", "struct", "union", "enum"];

/// Every function's name, first line and number of lines. What lies in a function's body is its
/// own.
pub fn functions(file: &File) -> Vec<(String, usize, usize)> {
    let code = file.code();
    let code = if file.ends_in(RUST) { code } else { without_directives(&code) };
    if file.ends_in(RUST) { in_rust(&code) } else { in_cpp(&code) }
}

/// Directives, and the lines that continue them, hold no functions of their own.
fn without_directives(code: &str) -> String {
    let mut is_directive = false;
    let lines = code.lines().map(|line| {
        is_directive |= line.trim_start().starts_with('#');
        let kept = if is_directive { "" } else { line };
        is_directive &= line.ends_with('\\');
        kept
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The line, from 1, of a byte of the code.
fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The end of the block that opens at byte `at`.
fn end_of_block(code: &str, at: usize) -> usize {
    let mut depth = 0;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + offset;
        }
    }
    code.len()
}

/// Where the body of the function begins that is declared at `at`, if it has one.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            '{' if depth == 0 => return Some(at + offset),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn in_rust(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String =
            code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(body) = body(code, at).filter(|_| is_word) {
            let first = line_of(code, at);
            found.push((name, first, line_of(code, end_of_block(code, body)) - first + 1));
        }
    }
    found
}

fn in_cpp(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    // Where the statement began that is read.
    let mut start = 0;
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        if rest.starts_with(['}', ';']) {
            start = at + 1;
        }
        if rest.starts_with('{') {
            let head = &code[start..at];
            // A template's parameters may say `class`.
            let head = head.rsplit_once("template <").map_or(head, |(_, rest)| {
                rest.split_once('>').map_or(rest, |(_, declared)| declared)
            });
            let first = head.split_whitespace().next().unwrap_or_default();
            let name = head.split('(').next().unwrap_or_default();
            let is_function = name.len() < head.len() && !name.contains('=');
            if is_function && !CONTAINERS.contains(&first) {
                let mut words = name.split(|c: char| c.is_whitespace() || c == '*' || c == '&');
                let name = words.rfind(|word| !word.is_empty()).unwrap_or_default();
                let end = end_of_block(code, at);
                let begins = start + code[start..at].len() - code[start..at].trim_start().len();
                let first = line_of(code, begins);
                found.push((name.to_owned(), first, line_of(code, end) - first + 1));
                at = end;
                start = (end + 1).min(code.len());
            } else if head.trim_end().ends_with('=') {
                at = end_of_block(code, at);
            } else {
                start = at + 1;
            }
        }
        at += 1;
        while at < code.len() && !code.is_char_boundary(at) {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn functions_of_rust_are_found() {
        let text = "\
fn a() {}
impl B {
    pub fn c(&self) -> [u8; 2]
    where
        Self: Sized,
    {
        // fn d() {}
        let e = || {};
    }
}
trait F {
    fn g();
}
";
        let found = functions(&File::new("a.rs", text));
        assert_eq!(found, [("a".to_owned(), 1, 1), ("c".to_owned(), 3, 7)]);
    }

    #[test]
    fn functions_of_cpp_are_found() {
        let text = "\
#define M(x) {\\
    x }
namespace n {
const int t[] = {f(1), 2};
struct alignas(64) S : T {
    int a = 0;
    S(int b) : a(b) {}
    void g() const {
        if (a) {
        }
    }
};
template <class T, int n>
__global__ void h(
    S s) {
}
}
extern \"C\" int k(void) {
}
";
        let found = functions(&File::new("a.cu", text));
        let found: Vec<_> = found.iter().map(|(name, _, len)| (name.as_str(), *len)).collect();
        assert_eq!(found, [("S", 1), ("g", 4), ("h", 4), ("k", 2)]);
    }
}
