//! Device files: a JSON object with the three stages, their buckets and recorded times, and noise.
//!
//! Times are the same duration words as on the command line. Unknown fields are refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{DeviceSpec, Recorded, StageSpec, drift, file_error, line, outliers};
use crate::error::{Error, Kind, Result};
use crate::sched::Stages;
use crate::sim::words::{duration_ns, fraction};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    upload: Stage,
    compute: Stage,
    download: Stage,
    jitter: Option<String>,
    outliers: Option<String>,
    drift: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    line: Option<String>,
    #[serde(default)]
    buckets: Vec<usize>,
    #[serde(default)]
    table: BTreeMap<usize, Vec<String>>,
}

/// Reads a device file.
pub(super) fn read(path: &Path) -> Result<DeviceSpec> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        Error::new(Kind::Io, format!("cannot read device file {}: {source}", path.display()))
            .with_source(source)
    })?;
    let file: File = serde_json::from_str(&text).map_err(|source| file_error(path, source))?;
    parse(file).map_err(|error| file_error(path, error))
}

fn parse(file: File) -> Result<DeviceSpec> {
    Ok(DeviceSpec {
        name: String::new(),
        stages: Stages {
            upload: stage("upload", file.upload)?,
            compute: stage("compute", file.compute)?,
            download: stage("download", file.download)?,
        },
        jitter: file.jitter.as_deref().map_or(Ok(0.0), fraction)?,
        outliers: file.outliers.as_deref().map(outliers).transpose()?,
        drift: file.drift.as_deref().map_or(Ok(Vec::new()), drift)?,
    })
}

fn stage(name: &str, stage: Stage) -> Result<StageSpec> {
    let refuse = |what: &str| Error::new(Kind::Argument, format!("stage `{name}` {what}"));
    if stage.buckets.windows(2).any(|pair| pair[0] >= pair[1]) || stage.buckets.contains(&0) {
        return Err(refuse("has buckets that do not rise from 1 or more"));
    }
    let mut table = Vec::with_capacity(stage.table.len());
    for (batch_len, words) in stage.table {
        let mut times_ns =
            words.iter().map(|word| duration_ns(word)).collect::<Result<Vec<_>>>()?;
        if batch_len == 0 || times_ns.is_empty() {
            return Err(refuse("has a table entry without images or without times"));
        }
        times_ns.sort_by(f64::total_cmp);
        table.push(Recorded { batch_len, times_ns });
    }
    let line = match &stage.line {
        Some(words) => line(words)?,
        None => fitted(&table).ok_or_else(|| {
            refuse("needs a `line`, or a `table` with two batch lengths of rising times")
        })?,
    };
    Ok(StageSpec { line, buckets: stage.buckets, table })
}

/// The line through the shortest and the longest recorded batch: the slope beyond the table.
fn fitted(table: &[Recorded]) -> Option<crate::sched::Line> {
    let mean_ns =
        |entry: &Recorded| entry.times_ns.iter().sum::<f64>() / entry.times_ns.len() as f64;
    let (first, last) = (table.first()?, table.last()?);
    let steps = (last.batch_len - first.batch_len) as f64;
    let per_image_ns = (mean_ns(last) - mean_ns(first)) / steps;
    let fixed_ns = mean_ns(first) - per_image_ns * first.batch_len as f64;
    // One batch length alone gives no slope: 0/0 is not a number, and fails this comparison.
    (per_image_ns >= 0.0).then(|| crate::sched::Line::new(fixed_ns, per_image_ns))
}
