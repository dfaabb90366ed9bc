//! Tables for people.

pub(crate) use crate::output::print;

/// A column's heading and its text for a row.
pub(crate) type Column<T> = (&'static str, fn(&T) -> String);

/// Rows under their headings: the first column to the left, figures to the right.
pub(crate) fn text<T>(columns: &[Column<T>], rows: &[T]) -> String {
    let mut lines = vec![String::new(); rows.len() + 1];
    for (index, (heading, cell)) in columns.iter().enumerate() {
        let mut cells = vec![(*heading).to_string()];
        cells.extend(rows.iter().map(cell));
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(&cells) {
            *line += &match index {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
    }
    lines.join("\n")
}
