//! The words that the glossary bans, each with the one to take instead.

use std::collections::BTreeSet;
use std::path::Path;

use crate::source::{File, Problem};

/// A row of the glossary's table of banned words.
#[derive(Debug, PartialEq)]
pub struct Ban {
    /// Its words in a row, in small letters.
    words: Vec<String>,
    pub instead: String,
    /// Where it must not stand: files and folders; everywhere where there are none.
    pub folders: Vec<String>,
}

/// The table under the heading "Banned words": word, replacement, folders.
pub fn bans(glossary: &str) -> Vec<Ban> {
    let table = glossary.split("## Banned words").nth(1).unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [banned, instead, folders] = cells[..] else { panic!("three cells: {line}") };
        let folders = folders.split(", ").filter(|folder| *folder != "everywhere");
        Ban {
            words: words(banned).into_iter().map(|(_, word)| word).collect(),
            instead: instead.to_owned(),
            folders: folders.map(|folder| folder.trim_matches('`').to_owned()).collect(),
        }
    };
    rows.map(row).collect()
}

/// The words of a text with their lines: names are taken apart where a capital letter, an
/// underscore or a hyphen begins a new one. Other marks, which nothing bans, stand for themselves.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut was_small = false;
        for c in line.chars().chain([' ']) {
            let is_part = c.is_alphanumeric();
            if (!is_part || (c.is_uppercase() && was_small)) && !word.is_empty() {
                found.push((index + 1, std::mem::take(&mut word)));
            }
            was_small = c.is_lowercase() || c.is_numeric();
            if is_part {
                word.extend(c.to_lowercase());
            } else if !c.is_whitespace() && c != '_' && c != '-' {
                found.push((index + 1, c.to_string()));
            }
        }
    }
    found
}

pub fn banned_words(file: &File, bans: &[Ban]) -> Vec<Problem> {
    let words = words(&file.text);
    let mut problems = BTreeSet::new();
    for ban in bans {
        if !ban.folders.is_empty() && !ban.folders.iter().any(|folder| file.is_in(folder)) {
            continue;
        }
        for run in words.windows(ban.words.len()) {
            if run.iter().map(|(_, word)| word).eq(&ban.words) {
                let said = ban.words.join(" ");
                problems.insert((run[0].0, format!("\"{said}\": say {}", ban.instead)));
            }
        }
    }
    problems.into_iter().collect()
}

/// Fails where a folder that the glossary names does not exist: a ban would rest.
pub fn missing_folders(bans: &[Ban]) -> Vec<&str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = bans.iter().flat_map(|ban| &ban.folders);
    folders.map(String::as_str).filter(|folder| !root.join(folder).exists()).collect()
}

#[cfg(test)]
mod samples {
    use super::*;

    const GLOSSARY: &str = "# Glossary\n| a | b |\n## Banned words\n\n| not | but | in |\n\
                            |---|---|---|\n| device words | spec | everywhere |\n\
                            | rig | fixture | `src/a`, `b` |\n";

    #[test]
    fn bans_are_read_from_the_table() {
        let bans = bans(GLOSSARY);
        let words: Vec<_> = bans.iter().map(|ban| ban.words.join(" ")).collect();
        assert_eq!(words, ["device words", "rig"]);
        assert_eq!(bans[0].instead, "spec");
        assert_eq!(
            (bans[0].folders.len(), &bans[1].folders[..]),
            (0, &["src/a".into(), "b".into()][..])
        );
    }

    #[test]
    fn banned_words_are_found_in_names_and_prose() {
        let bans = bans(GLOSSARY);
        let find = |path: &str, text: &str| banned_words(&File::new(path, text), &bans);
        for text in
            ["// the device\u{20}words", "device_words()", "DeviceWords", "let a: DEVICE_WORDS"]
        {
            assert_eq!(
                find("x.rs", text),
                [(1, "\"device words\": say spec".to_owned())],
                "{text}"
            );
        }
        assert_eq!(find("src/a/c.rs", "\n\nmod rig;").len(), 1);
        assert_eq!(find("src/ab.rs", "mod rig;"), []);
        assert_eq!(find("src/a/c.rs", "devices words, right, trigger, Origin, {device} words"), []);
    }
}
