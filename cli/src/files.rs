//! Files that the command reads and writes by itself: the repository's own, and figures as CSV.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use twinstream::sim::experiment::{Figure, Table};

use crate::table;

/// A file or folder of the repository: looked for from the current folder, then where this program
/// was built.
pub(crate) fn of_repository(path: &str) -> Option<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [Path::new(""), package.parent().unwrap_or(package)];
    folders.into_iter().map(|folder| folder.join(path)).find(|path| path.exists())
}

/// Writes a file; the error names it.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file that is whole at any moment: the old one until the new one takes its place.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    write(&part, text)?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Every point that is drawn, one a line.
pub(crate) fn points_csv(figure: &Figure) -> String {
    let mut csv = String::from("panel,x_axis,y_axis,series,x,y\n");
    for panel in &figure.panels {
        for series in &panel.series {
            for (x, y) in &series.points {
                let words = [&panel.title, panel.x.label, panel.y.label, &series.name];
                let words = words.map(quote).join(",");
                let _ = writeln!(csv, "{words},{x},{y}");
            }
        }
    }
    csv
}

/// The table of key figures, rounded as in JSON; what is not known is empty.
pub(crate) fn table_csv(table: &Table) -> String {
    let mut csv = table.columns.join(",") + "\n";
    for row in &table.rows {
        let cells = row.iter().map(|value| match (value, value.as_f64()) {
            (Value::Null, _) => String::new(),
            (Value::String(text), _) => quote(text),
            (_, Some(figure)) if value.is_f64() => Value::from(table::round(figure)).to_string(),
            _ => value.to_string(),
        });
        csv += &(cells.collect::<Vec<_>>().join(",") + "\n");
    }
    csv
}

fn quote(text: &str) -> String {
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
