//! The repository's files as text, and their code without comments and without what literals say.

use std::fs;
use std::path::Path;

/// Sources by the endings of their names.
pub const RUST: &[&str] = &["rs"];
pub const C: &[&str] = &["c", "h", "cpp", "hpp", "cu", "cuh", "inc"];
pub const SCRIPTS: &[&str] = &["sh", "py"];

/// Folders that hold sources, wherever they are there.
const FOLDERS: &[&str] = &[
    "src", "cli", "ffi", "server", "tests", "benches", "examples", "fuzz", "cuda", "scripts",
    "docs",
];

const ROOT_FILES: &[&str] =
    &["build.rs", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"];

#[derive(Clone, Debug)]
pub struct File {
    /// Relative to the repository, with `/` between folders.
    pub path: String,
    pub text: String,
}

/// What is wrong in a file, and in which line, from 1.
pub type Problem = (usize, String);

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub fn ends_in(&self, endings: &[&str]) -> bool {
        let ending = self.path.rsplit_once('.').map_or("", |(_, ending)| ending);
        endings.contains(&ending)
    }

    /// Whether this is `path` or lies in that folder.
    pub fn is_in(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The text with comments and literals blank, line for line.
    pub fn code(&self) -> String {
        blank(&self.text, self.ends_in(RUST))
    }
}

/// Every file of the repository with one of the endings.
pub fn files(endings: &[&str]) -> Vec<File> {
    fn collect(root: &Path, folder: &str, endings: &[&str], found: &mut Vec<File>) {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{folder}/{name}");
            // Cargo's output and what fuzzing leaves.
            let is_made = ["target", "corpus", "artifacts"].contains(&name.as_str());
            if entry.file_type().unwrap().is_dir() {
                if !is_made {
                    collect(root, &path, endings, found);
                }
            } else if File::new(&path, "").ends_in(endings) {
                found.push(File::new(&path, &fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for name in ROOT_FILES.iter().filter(|name| File::new(name, "").ends_in(endings)) {
        found.push(File::new(name, &fs::read_to_string(root.join(name)).unwrap()));
    }
    for folder in FOLDERS.iter().filter(|folder| root.join(folder).is_dir()) {
        collect(root, folder, endings, &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no files end in {endings:?}");
    found
}

/// The sources in Rust.
pub fn rust_files() -> Vec<File> {
    let files = files(RUST);
    assert!(files.len() > 100, "only {} files found", files.len());
    files
}

/// The end of the literal or comment that begins at `at`; none where code stands there.
fn end_of_text(chars: &[char], at: usize, is_rust: bool) -> Option<usize> {
    let starts = |from: usize, word: &str| {
        word.chars().enumerate().all(|(i, c)| chars.get(from + i) == Some(&c))
    };
    let before = at.checked_sub(1).map(|at| chars[at]);
    let is_in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let find = |from: usize, word: &str| {
        (from..chars.len()).find(|&from| starts(from, word)).map(|at| at + word.chars().count())
    };
    let quoted = |quote: char| {
        let mut end = at + 1;
        while end < chars.len() && chars[end] != quote {
            end += if chars[end] == '\\' { 2 } else { 1 };
        }
        (end + 1).min(chars.len())
    };
    match chars[at] {
        '/' if starts(at, "//") => {
            Some((at..chars.len()).find(|&at| chars[at] == '\n').unwrap_or(chars.len()))
        }
        '/' if starts(at, "/*") => Some(find(at + 2, "*/").unwrap_or(chars.len())),
        'r' if is_rust && (!is_in_name || before == Some('b')) => {
            let hash_len = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if chars.get(at + 1 + hash_len) != Some(&'"') {
                return None;
            }
            let close = format!("\"{}", "#".repeat(hash_len));
            Some(find(at + 2 + hash_len, &close).unwrap_or(chars.len()))
        }
        '"' => Some(quoted('"')),
        // A lifetime, unless it is a character; between digits, C++ sets them apart.
        '\'' if is_rust => {
            let is_char = chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'');
            is_char.then(|| quoted('\''))
        }
        '\'' if !is_in_name => Some(quoted('\'')),
        _ => None,
    }
}

fn blank(text: &str, is_rust: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_text(&chars, at, is_rust);
        match end {
            Some(end) => {
                let is_literal = chars[at] != '/';
                let hide = |c: &char| if *c == '\n' { '\n' } else { ' ' };
                let hidden: String = chars[at..end].iter().map(hide).collect();
                code += &hidden;
                // A literal is still something: an empty one in quotes.
                if is_literal && end - at >= 2 && !hidden.contains('\n') {
                    code.truncate(code.len() - (end - at));
                    code += &format!("\"{}\"", " ".repeat(end - at - 2));
                }
                at = end;
            }
            None => {
                code.push(chars[at]);
                at += 1;
            }
        }
    }
    code
}

#[test]
fn comments_and_literals_are_no_code() {
    let file =
        File::new("a.rs", "a // b\n/* c\n*/ d(\"e\\\"f\", r#\"g\"h\"#, 'i', '\\'', j::<'k>)");
    let expected = "a     \n    \n   d(\"    \", \"      \", \" \", \"  \", j::<'k>)";
    assert_eq!(file.code(), expected);
    assert_eq!(File::new("a.cu", "1'000 + 'b'").code(), "1'000 + \" \"");
}
