//! Figures for people, as tables, and for programs, as JSON.
//!
//! Invariants: a table is no wider than a terminal, unless one cell alone is; a figure that was
//! measured or simulated has no more digits than mean something.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

pub(crate) use crate::output::print;

/// Columns of the narrowest usual terminal.
const WIDTH: usize = 80;
/// Between two columns.
const GAP: usize = 2;

/// A column's heading and its text for a row.
pub(crate) type Column<T> = (&'static str, fn(&T) -> String);

/// Rows under their headings: the first `key_len` columns to the left, figures to the right. What
/// is too wide goes on below, behind the same first columns.
pub(crate) fn text<T>(columns: &[Column<T>], key_len: usize, rows: &[T]) -> String {
    lay_out(&self::columns(columns, rows), key_len)
}

/// The columns of these rows as they are written, headings first.
pub(crate) fn columns<T>(columns: &[Column<T>], rows: &[T]) -> Vec<Vec<String>> {
    let column = |(heading, cell): &Column<T>| {
        let cells = rows.iter().map(cell);
        std::iter::once((*heading).to_owned()).chain(cells).collect()
    };
    columns.iter().map(column).collect()
}

/// The same, of columns as they are written, headings first.
pub(crate) fn lay_out(columns: &[Vec<String>], key_len: usize) -> String {
    let width = |column: &[String]| column.iter().map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = columns.iter().map(|column| width(column).unwrap_or(0)).collect();
    let keys_width = widths[..key_len].iter().sum::<usize>() + GAP * key_len.saturating_sub(1);
    let mut blocks = Vec::new();
    let mut first = key_len;
    while first < columns.len() {
        let (mut end, mut block_width) = (first, keys_width);
        while end < columns.len() && (end == first || block_width + GAP + widths[end] <= WIDTH) {
            block_width += GAP + widths[end];
            end += 1;
        }
        let shown: Vec<usize> = (0..key_len).chain(first..end).collect();
        let line = |row: usize| {
            let cells = shown.iter().map(|&index| {
                let (cell, width) = (&columns[index][row], widths[index]);
                if index < key_len { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        blocks.push((0..columns[0].len()).map(line).collect::<Vec<_>>().join("\n"));
        first = end;
    }
    blocks.join("\n\n")
}

/// A value as one line of JSON, its figures rounded.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let mut line = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut line, Rounded(CompactFormatter)))?;
    Ok(String::from_utf8(line)?)
}

/// Six significant digits: no figure here is known any better.
pub(crate) fn round(figure: f64) -> f64 {
    format!("{figure:.5e}").parse().unwrap_or(figure)
}

struct Rounded(CompactFormatter);

impl Formatter for Rounded {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        self.0.write_f64(writer, round(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_and_fields_keep_their_order() {
        #[derive(Serialize)]
        struct Row {
            policy: &'static str,
            mean_ms: f64,
            offered: u64,
            bound_ms: Option<f64>,
        }
        let row = Row { policy: "jit", mean_ms: 2.0 / 3.0, offered: 12345678, bound_ms: None };
        let expected = r#"{"policy":"jit","mean_ms":0.666667,"offered":12345678,"bound_ms":null}"#;
        assert_eq!(json(&row).unwrap(), expected);
        assert_eq!(round(1464.84375), 1464.84);
        assert_eq!(round(0.0), 0.0);
        assert!(round(f64::NAN).is_nan());
    }

    #[test]
    fn a_wide_table_goes_on_below() {
        let cells = |heading: &str, cell: &str| vec![heading.to_owned(), cell.to_owned()];
        let mut columns = vec![cells("policy", "jit")];
        columns.extend((0..9).map(|_| cells("some figure", "1.5")));
        let text = lay_out(&columns, 1);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("jit")).count(), 2, "{text}");
        assert_eq!(text.matches("1.5").count(), 9);
        let alone = lay_out(&[cells("policy", &"p".repeat(90)), cells("a", "1")], 1);
        assert_eq!(alone.lines().count(), 2);
    }
}
