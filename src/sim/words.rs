//! The words in which devices and workloads are given: durations, rates, shares, with their units.
//!
//! A word without a unit where one is needed is refused, so that no figure is read in the wrong
//! one. Knows nothing of what the words describe.

use crate::error::{Error, Kind, Result};
pub use crate::words::did_you_mean;
use crate::words::{self, number};

/// An argument error: what was read, and what would have been right.
pub(super) fn refuse(culprit: &str, remedy: impl std::fmt::Display) -> Error {
    Error::new(Kind::Argument, format!("`{culprit}`: {remedy}"))
}

/// Reads a duration such as `12us`, `1.7ms`, `200s` or `2min`, in nanoseconds.
///
/// # Errors
/// An argument error when the number or its unit is missing, negative or unknown.
pub fn duration_ns(text: &str) -> Result<f64> {
    words::duration_ns(text)
        .ok_or_else(|| refuse(text, "not a duration; write a number and ns, us, ms, s or min"))
}

/// Reads a rate such as `530`, `530/s`, `40k` or `1.2M`, in hertz.
///
/// # Errors
/// An argument error when it is not a number above zero.
pub fn rate_hz(text: &str) -> Result<f64> {
    let word = text.trim();
    let word = word.strip_suffix("/s").unwrap_or(word);
    let (digits, scale) = match word.chars().last() {
        Some('k') => (&word[..word.len() - 1], 1e3),
        Some('M') => (&word[..word.len() - 1], 1e6),
        _ => (word, 1.0),
    };
    number(digits)
        .map(|value| value * scale)
        .filter(|rate| *rate > 0.0)
        .ok_or_else(|| refuse(text, "not a rate; write requests a second, such as 530 or 40k"))
}

/// Reads a share such as `3%` or `0.03`, as a fraction from 0 to 1.
///
/// # Errors
/// An argument error when it is not a number in that range.
pub fn fraction(text: &str) -> Result<f64> {
    let (digits, scale) = match text.trim().strip_suffix('%') {
        Some(digits) => (digits, 0.01),
        None => (text, 1.0),
    };
    number(digits)
        .map(|value| value * scale)
        .filter(|share| *share <= 1.0)
        .ok_or_else(|| refuse(text, "not a share; write a percentage up to 100%, such as 3%"))
}

/// Reads a factor such as `10` or `0.5`.
pub(super) fn factor(text: &str) -> Result<f64> {
    number(text)
        .filter(|value| *value > 0.0)
        .ok_or_else(|| refuse(text, "not a factor; write a number above zero, such as 1.5"))
}

/// Reads a count of at least one.
pub(super) fn count(text: &str) -> Result<usize> {
    words::count(text).ok_or_else(|| refuse(text, "not a count; write a whole number above zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_scale_their_numbers() {
        for (word, ns) in
            [("12us", 12e3), ("1.7ms", 1.7e6), ("3µs", 3e3), ("2min", 120e9), ("7ns", 7.0)]
        {
            assert!((duration_ns(word).unwrap() - ns).abs() < 1e-6 * ns, "{word}");
        }
        assert_eq!(rate_hz("40k").unwrap(), 40e3);
        assert_eq!(rate_hz("530/s").unwrap(), 530.0);
        assert_eq!(fraction("25%").unwrap(), 0.25);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for word in ["", "12", "us", "-1ms", "nanms", "3 hours"] {
            let error = duration_ns(word).unwrap_err();
            assert!(error.is_argument());
            assert!(error.to_string().contains(&format!("`{word}`")), "{error}");
        }
        assert!(rate_hz("0").is_err());
        assert!(rate_hz("fast").is_err());
        assert!(fraction("130%").is_err());
        assert!(count("0").is_err());
    }
}
