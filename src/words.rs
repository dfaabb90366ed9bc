//! Words that people write for policies, devices and workloads: numbers with their units, and what
//! a mistyped one may have meant.
//!
//! A number without a unit where one is needed is no number. Knows nothing of what the words
//! describe.

/// Words this much alike may be one and the same, mistyped: as clap judges the command's options.
const ALIKE: f64 = 0.7;

/// Duration words and their length in nanoseconds; the longest suffix that fits wins.
const DURATION_UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("min", 60e9), ("s", 1e9)];

/// Reads a number that is finite and not below zero.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)
}

/// Reads a duration such as `1.7ms`, in nanoseconds.
pub(crate) fn duration_ns(text: &str) -> Option<f64> {
    let read = |(unit, scale): &(&str, f64)| {
        Some(number(text.trim().strip_suffix(unit)?)? * scale).filter(|ns| ns.is_finite())
    };
    DURATION_UNITS.iter().find_map(read)
}

/// Reads a count of at least one.
pub(crate) fn count(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|value| *value > 0)
}

/// The word for a duration, in the longest unit that it is a whole number of.
pub(crate) fn duration_word(ns: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let fits = units.into_iter().find(|(_, scale)| ns.is_multiple_of(*scale));
    let (unit, scale) = fits.unwrap_or(("ns", 1));
    format!("{}{unit}", ns / scale)
}

/// `; did you mean …?` with the known word that is most like this one; empty if none is.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let alike = known.into_iter().map(|known| (strsim::jaro(word, known), known));
    match alike.max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((likeness, known)) if likeness > ALIKE => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_they_are_read() {
        for (ns, word) in [
            (0, "0s"),
            (999, "999ns"),
            (200_000, "200us"),
            (1_500_000, "1500us"),
            (3_000_000, "3ms"),
            (60_000_000_000, "60s"),
        ] {
            assert_eq!(duration_word(ns), word);
            assert_eq!(duration_ns(word), Some(ns as f64));
        }
    }

    #[test]
    fn near_misses_are_named_and_far_ones_are_not() {
        let known = ["serial", "stream", "jit"];
        assert_eq!(did_you_mean("strem", known), "; did you mean `stream`?");
        assert_eq!(did_you_mean("seriall", known), "; did you mean `serial`?");
        assert_eq!(did_you_mean("xyz", known), "");
        assert_eq!(did_you_mean("", known), "");
    }
}
