//! Files that the command reads and writes by itself: the repository's own, figures as CSV, traces.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use twinstream::sched::{Trace, chrome_json};
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
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file that is whole at any moment: the old one until the new one takes its place. A
/// device or a pipe is written to, not replaced.
pub(crate) fn replace(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    if is_special(path) {
        return write(path, content);
    }
    let failed = || format!("cannot write {}", path.display());
    let (part, mut file) = create_part(path).with_context(failed)?;
    let outcome = file.write_all(content.as_ref()).and_then(|()| fs::rename(&part, path));
    if outcome.is_err() {
        // What remains would be no more than a part.
        let _ = fs::remove_file(&part);
    }
    outcome.with_context(failed)
}

/// Refuses what [`replace`] could not write, before work is done for it. Leaves nothing behind, not
/// even where the work is interrupted.
pub(crate) fn check_replaceable(path: &Path) -> anyhow::Result<()> {
    if is_special(path) {
        return Ok(());
    }
    let is_removed = create_part(path).and_then(|(part, _)| fs::remove_file(part));
    is_removed.with_context(|| format!("cannot write {}", path.display()))
}

/// Whether there is something that is no file, such as a device.
fn is_special(path: &Path) -> bool {
    path.exists() && !path.is_file()
}

/// A new file beside `path`, of a name that nobody else has: what lies there already is not written
/// to.
fn create_part(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let name = format!(".twinstream-{}-{number}.part", std::process::id());
        let part = path.with_file_name(name);
        match File::create_new(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            outcome => return Ok((part, outcome?)),
        }
    }
}

/// Events that a run's trace holds.
pub(crate) const TRACE_LEN: usize = 1 << 16;

/// Writes the traces of runs, each with its name, to one file.
pub(crate) fn write_trace(path: &Path, traces: &[(String, &Trace)]) -> anyhow::Result<()> {
    let traces: Vec<_> = traces.iter().map(|(name, trace)| (name.as_str(), *trace)).collect();
    replace(path, chrome_json(&traces))
}

/// Every point that is drawn, one a line.
pub(crate) fn points_csv(figure: &Figure) -> String {
    let mut records = vec![["panel", "x_axis", "y_axis", "series", "x", "y"].map(str::to_owned)];
    for panel in &figure.panels {
        for series in &panel.series {
            for (x, y) in &series.points {
                let words = [&panel.title, panel.x.label, panel.y.label, &series.name];
                let [panel, x_axis, y_axis, series] = words.map(str::to_owned);
                records.push([panel, x_axis, y_axis, series, x.to_string(), y.to_string()]);
            }
        }
    }
    encode(records)
}

/// The table of key figures, rounded as in JSON; what is not known is empty.
pub(crate) fn table_csv(table: &Table) -> String {
    let cell = |value: &Value| match (value, value.as_f64()) {
        (Value::Null, _) => String::new(),
        (Value::String(text), _) => text.clone(),
        (_, Some(figure)) if value.is_f64() => Value::from(table::round(figure)).to_string(),
        _ => value.to_string(),
    };
    let heading = table.columns.iter().map(|column| (*column).to_owned()).collect();
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect());
    encode(std::iter::once(heading).chain(rows).collect::<Vec<Vec<String>>>())
}

fn encode(records: impl IntoIterator<Item = impl AsRef<[String]>>) -> String {
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for record in records {
        writer.write_record(record.as_ref()).expect("memory takes all");
    }
    let bytes = writer.into_inner().expect("memory takes all");
    String::from_utf8(bytes).expect("fields are text")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for a test, empty.
    fn scratch(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("twinstream-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Goal: who writes to one path at once has each a whole file, and what an interrupted run left
    /// is in nobody's way. Method: threads, which share even the number of the process.
    #[test]
    fn files_replace_one_another_whole() {
        let folder = scratch("replace");
        let path = folder.join("out");
        let left = folder.join(format!(".twinstream-{}-0.part", std::process::id()));
        fs::write(&left, "left").unwrap();
        std::thread::scope(|scope| {
            for byte in [1, 2, 3] {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace(path, vec![byte; 1 << 20]).unwrap();
                        let found = fs::read(path).unwrap();
                        assert_eq!(found.len(), 1 << 20);
                        assert!(found.iter().all(|byte| *byte == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read(&left).unwrap(), b"left");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left beside them");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_told_before() {
        let folder = scratch("replaceable");
        check_replaceable(&folder.join("out")).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let error = check_replaceable(&folder.join("absent/out")).unwrap_err();
        assert!(error.to_string().contains("absent/out"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let columns = vec!["rate_hz", "policy"];
        let policy = Value::from("fixed:len=8,tick=\"1ms\"");
        let rows = vec![vec![Value::from(0.5), policy], vec![Value::Null, Value::from(12)]];
        let text = table_csv(&Table { columns, rows });
        assert_eq!(text, "rate_hz,policy\n0.5,\"fixed:len=8,tick=\"\"1ms\"\"\"\n,12\n");
    }
}
