//! What this build is: version, commit, target and features.
//!
//! Everything is known when it is compiled; nothing here looks at the machine it runs on.

/// What this build is.
pub const BUILD_INFO: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    commit: last_commit(include_bytes!(env!("TWINSTREAM_HEAD_LOG"))),
    target: env!("TWINSTREAM_TARGET"),
};

/// See [`BUILD_INFO`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the package, such as `0.1.0`.
    pub version: &'static str,
    /// Commit that the sources were taken from, in 40 or 64 hexadecimal digits; changes that were
    /// not committed do not show. None where the sources were neither a git checkout nor packaged.
    pub commit: Option<&'static str>,
    /// Target that it was compiled for, such as `x86_64-unknown-linux-gnu`.
    pub target: &'static str,
}

impl BuildInfo {
    /// The package's features that were compiled in, by name.
    pub fn features(&self) -> impl Iterator<Item = &'static str> {
        let features = [
            ("cuda", cfg!(feature = "cuda")),
            ("image", cfg!(feature = "image")),
            ("sim", cfg!(feature = "sim")),
        ];
        features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name)
    }
}

/// The second word of the last line of git's log of HEAD, `OLD NEW WHO…`, if it is a commit.
const fn last_commit(log: &'static [u8]) -> Option<&'static str> {
    let (mut line, mut index) = (0, 0);
    while index + 1 < log.len() {
        if log[index] == b'\n' {
            line = index + 1;
        }
        index += 1;
    }
    let (_, line) = log.split_at(line);
    let (_, rest) = line.split_at(word_len(line));
    if rest.is_empty() {
        return None;
    }
    let (_, rest) = rest.split_at(1);
    let (commit, _) = rest.split_at(word_len(rest));
    if commit.len() != 40 && commit.len() != 64 {
        return None;
    }
    match std::str::from_utf8(commit) {
        Ok(commit) => Some(commit),
        Err(_) => None,
    }
}

/// Bytes before the first white space.
const fn word_len(text: &[u8]) -> usize {
    let mut len = 0;
    while len < text.len() && !text[len].is_ascii_whitespace() {
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_commit() {
        const NEW: &str = "3c0aa2ee8b2b1b6a0c2f3d4e5f60718293a4b5c6";
        let log = |lines: &[&str]| last_commit(lines.concat().leak().as_bytes());
        let line = format!("{} {NEW} A <a> 1 +0000\tcommit: x\n", "0".repeat(40));
        assert_eq!(log(&["0 1 B <b> 0 +0000\tclone\n", &line]), Some(NEW));
        assert_eq!(log(&[&format!("- {NEW}\n")]), Some(NEW), "of a packaged crate");
        for none in ["", "\n", "-", "- ", "- abc\n", &NEW.repeat(2)] {
            assert_eq!(log(&[none]), None, "{none:?}");
        }
    }
}
