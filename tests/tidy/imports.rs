//! Which module uses which, read from the code: circles between neighbours, and imports between the
//! library's folders.
//!
//! A module's folder counts as one with it in the eyes of its neighbours. What a module uses of the
//! one around it counts where that only passes it on from a neighbour. Unit tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::File;

/// A module's place in its crate: `["engine", "ticket"]`.
type Module = Vec<String>;

/// The modules of one crate and what each names.
pub struct Crate {
    modules: BTreeSet<Module>,
    /// Module, line, and the path that it names, from the crate's root.
    uses: Vec<(Module, String, Module)>,
    /// What a name stands for that a module has imported.
    names: BTreeMap<(Module, String), Module>,
}

/// The tokens that paths are made of; all else is one token a character.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let len = match first {
            c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            _ if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        if !first.is_whitespace() {
            found.push(&rest[..len]);
        }
        rest = &rest[len..];
    }
    found
}

/// The end of the block that opens at `at`.
fn end_of_block(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// Every path of the tree that begins at `at`, with the name that it is imported by, and its end.
fn paths(tokens: &[&str], at: usize, before: &[String]) -> (Vec<(Module, String)>, usize) {
    let mut path = before.to_vec();
    let mut at = at;
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                let mut found = Vec::new();
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    let (inner, end) = paths(tokens, at, &path);
                    found.extend(inner);
                    at = end + usize::from(tokens.get(end) == Some(&","));
                }
                return (found, at + 1);
            }
            Some(token) => path.push((*token).to_owned()),
            None => return (Vec::new(), at),
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    let mut name = path[path.len() - 1].clone();
    if name == "self" {
        path.pop();
        name = path.last().cloned().unwrap_or_default();
    }
    if tokens.get(at) == Some(&"as") {
        name = tokens.get(at + 1).unwrap_or(&"").to_string();
        at += 2;
    }
    (vec![(path, name)], at)
}

impl Crate {
    /// The crate whose root file lies in `folder`.
    pub fn new(files: &[File], folder: &str) -> Self {
        let mut found = Self { modules: BTreeSet::new(), uses: Vec::new(), names: BTreeMap::new() };
        let of = |file: &File| -> Option<Module> {
            let path = file.path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs")?;
            let path = path.strip_suffix("/mod").unwrap_or(path);
            let is_root = ["lib", "main"].contains(&path);
            Some(if is_root { Vec::new() } else { path.split('/').map(str::to_owned).collect() })
        };
        let files: Vec<(Module, &File)> = files
            .iter()
            .filter_map(|file| Some((of(file)?, file)))
            .filter(|(module, _)| module.last().is_none_or(|name| name != "tests"))
            .collect();
        found.modules.extend(files.iter().map(|(module, _)| module.clone()));
        for (module, file) in files {
            found.read(&module, &file.code(), &file.path);
        }
        found
    }

    fn read(&mut self, module: &Module, code: &str, path: &str) {
        let tokens = tokens(code);
        let mut at = 0;
        while at < tokens.len() {
            // `#[cfg(test)] mod tests { … }`
            if tokens[at] == "mod" && tokens.get(at + 1) == Some(&"tests") {
                at = if tokens.get(at + 2) == Some(&"{") {
                    end_of_block(&tokens, at + 2)
                } else {
                    at + 2
                };
                continue;
            }
            let is_import = tokens[at] == "use";
            let is_path = ["crate", "super", "self"].contains(&tokens[at])
                && tokens.get(at + 1) == Some(&"::");
            if !is_import && !is_path {
                at += 1;
                continue;
            }
            let (paths, end) = paths(&tokens, at + usize::from(is_import), &[]);
            for (used, name) in paths {
                let Some(used) = self.absolute(module, used) else { continue };
                if is_import {
                    self.names.insert((module.clone(), name), used.clone());
                }
                self.uses.push((module.clone(), path.to_owned(), used));
            }
            at = end.max(at + 1);
        }
    }

    /// `path` from the crate's root; none where it leads out of the crate.
    fn absolute(&self, module: &Module, path: Module) -> Option<Module> {
        let mut from = module.clone();
        let mut steps = path.into_iter().peekable();
        match steps.peek()?.as_str() {
            "crate" => {
                from.clear();
                steps.next();
            }
            "super" | "self" => {
                while let Some(step) = steps.next_if(|step| step == "super" || step == "self") {
                    if step == "super" {
                        from.pop();
                    }
                }
            }
            child => {
                let mut inner = from.clone();
                inner.push(child.to_owned());
                if !self.modules.contains(&inner) {
                    return None;
                }
            }
        }
        from.extend(steps);
        Some(from)
    }

    /// The module in which what `path` names is written.
    fn home(&self, path: &Module) -> Module {
        let mut path = path.clone();
        // No import leads in circles, but the text that is read may not compile.
        for _ in 0..8 {
            let len = (0..=path.len()).rev().find(|&len| self.modules.contains(&path[..len]));
            let len = len.unwrap_or(0);
            let Some(name) = path.get(len) else { break };
            let Some(other) = self.names.get(&(path[..len].to_vec(), name.clone())) else {
                path.truncate(len);
                break;
            };
            path = [&other[..], &path[len + 1..]].concat();
        }
        let len = (0..=path.len()).rev().find(|&len| self.modules.contains(&path[..len]));
        path.truncate(len.unwrap_or(0));
        path
    }

    /// For each module with children: which of them use which others.
    fn neighbours(&self) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
        let mut found: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (user, _, used) in &self.uses {
            let used = self.home(used);
            let len = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (user.get(len), used.get(len)) {
                let of = found.entry(user[..len].to_vec()).or_default();
                of.entry(from.clone()).or_default().insert(to.clone());
            }
        }
        found
    }

    /// Neighbours that reach each other, as `engine: shared, ticket`.
    pub fn circles(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (parent, uses) in self.neighbours() {
            let reach = |from: &String| {
                let mut seen = BTreeSet::new();
                let mut open = vec![from];
                while let Some(module) = open.pop() {
                    for next in uses.get(module).into_iter().flatten() {
                        if seen.insert(next) {
                            open.push(next);
                        }
                    }
                }
                seen
            };
            let reached: BTreeMap<&String, BTreeSet<&String>> =
                uses.keys().map(|module| (module, reach(module))).collect();
            let mut told = BTreeSet::new();
            for (module, others) in &reached {
                if !others.contains(module) || told.contains(module) {
                    continue;
                }
                let is_in =
                    |other: &&&String| reached.get(**other).is_some_and(|of| of.contains(module));
                let circle: Vec<&String> = others.iter().filter(is_in).copied().collect();
                told.extend(circle.iter().copied());
                let names: Vec<&str> = circle.iter().map(|name| name.as_str()).collect();
                found.push(format!("{}: {}", parent.join("::"), names.join(", ")));
            }
        }
        found
    }

    /// Files and the top-level modules of the crate that they use, besides their own.
    pub fn imports(&self) -> BTreeSet<(&str, String)> {
        let imports = self.uses.iter().filter_map(|(user, file, used)| {
            let used = self.home(used);
            let top = used.first()?;
            (user.first() != Some(top)).then(|| (file.as_str(), top.clone()))
        });
        imports.collect()
    }
}

#[cfg(test)]
mod samples {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
        Crate::new(&files, "src").circles()
    }

    #[test]
    fn circles_are_found_however_they_are_written() {
        let a = ("src/lib.rs", "mod a;");
        for one in [
            "use super::two::Two;",
            "use crate::a::two;",
            "use super::{Error, two::{self as other, Two}};",
            "use {std::fmt, crate::{b::C, a::two::deep::D}};",
            "fn f() { super::two::g() }",
            "type T = crate::a::two::Two;",
            // Through the module around both.
            "use super::Two;",
            "use super::Renamed;",
        ] {
            let found = circles(&[
                a,
                ("src/a/mod.rs", "mod one; mod two; pub use two::Two; use two::Two as Renamed;"),
                ("src/a/one.rs", one),
                ("src/a/two/mod.rs", "mod deep; mod tests;"),
                ("src/a/two/deep.rs", "use super::super::one::One;"),
            ]);
            assert_eq!(found, ["a: one, two"], "{one}");
        }
    }

    #[test]
    fn a_circle_may_have_three_modules() {
        let found = circles(&[
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", "use crate::b::B;"),
            ("src/b.rs", "use crate::c::C;"),
            ("src/c.rs", "use crate::a::A; use crate::d::D;"),
            ("src/d.rs", ""),
        ]);
        assert_eq!(found, [": a, b, c"]);
    }

    #[test]
    fn what_is_no_circle_is_none() {
        let found = circles(&[
            ("src/lib.rs", "mod a; use a::two::Two;"),
            ("src/a/mod.rs", "mod one; mod two; use one::One; pub struct Shared;"),
            // Of the module around it, of others in comments and texts, of its own.
            ("src/a/one.rs", "use super::Shared; // super::two\nconst T: &str = \"super::two\";"),
            ("src/a/two.rs", "use super::{Shared, one::One}; use self::deep::D; mod deep;"),
            ("src/a/two/deep.rs", "use super::Two;"),
            // Tests may look anywhere.
            (
                "src/a/three.rs",
                "use super::two; #[cfg(test)] mod tests { use super::super::four; }",
            ),
            ("src/a/four.rs", "use super::three::T;"),
            ("src/a/two/tests.rs", "use crate::a::four;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn imports_are_told_by_folder() {
        let files = [
            File::new("src/lib.rs", "mod a; mod b; pub use b::B;"),
            File::new("src/a/mod.rs", "mod deep;"),
            File::new("src/a/deep.rs", "use crate::B; use super::X; use std::fmt;"),
            File::new("src/b.rs", ""),
        ];
        let library = Crate::new(&files, "src");
        let found: Vec<_> = library.imports().into_iter().collect();
        let expected = [("src/a/deep.rs", "b".to_owned()), ("src/lib.rs", "b".to_owned())];
        assert_eq!(found, expected);
    }
}
