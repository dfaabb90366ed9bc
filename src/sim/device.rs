//! Simulated devices: how long each stage of a batch takes, and how untidily.
//!
//! A stage time depends on the stage, the batch length, the moment and the seed, and on nothing
//! else. Knows nothing of engines, queues or policies: who runs what and when is the event loop's.

use std::path::Path;
use std::str::FromStr;

use super::random::{Random, Stream};
use super::words::{count, did_you_mean, duration_ns, factor, fraction, refuse};
use crate::error::{Error, Kind, Result};
use crate::sched::{Line, Stage, Stages};
use crate::setters::setters;

mod file;

/// Profiles by name, with the spec that each stands for.
///
/// - `gtx-1080ti`: a fit that reproduces the figures of Zhang et al., "A GPU Inference System
///   Scheduling Algorithm with Asynchronous Data Transfer", IPDPSW 2019 (ResNet-50, CIFAR-10);
///   the paper does not publish its constants.
/// - `h100`: derived, not measured on a GPU. Upload: 150,528 bytes an image (224x224, u8) over PCIe
///   Gen5 at 55 GB/s, and a copy's submission. Compute: the FP16 aims for the `mma.sync` kernels
///   (0.22, 0.42 and 1.0 ms at 1, 8 and 32 images, 33 to 38 thousand images a second at 128).
///   Download: 4,000 bytes an image.
const PROFILES: [(&str, &str); 2] = [
    ("gtx-1080ti", "up=100us+150us,compute=8ms+1700us,down=50us+2us"),
    ("h100", "up=8us+2740ns,compute=200us+25us,down=8us+73ns"),
];

/// Items of a device's spec, each `KEY=VALUE` with what it sets.
pub const ITEMS: [(&str, &str); 7] = [
    ("up=FIXED+PER_IMAGE", "upload time"),
    ("compute=FIXED+PER_IMAGE", "compute time"),
    ("down=FIXED+PER_IMAGE", "download time"),
    ("buckets=1/2/4/8", "lengths that compute is built for"),
    ("jitter=3%", "standard deviation of each stage time"),
    ("outliers=10%x10", "this share of stages takes so many times as long"),
    ("drift=0s:1/10s:2", "factors of the compute time, over time"),
];

fn items() -> String {
    ITEMS.map(|(form, _)| form).join(", ")
}

/// What is known of one stage of a simulated device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageSpec {
    /// Stage time where no table says otherwise.
    pub line: Line,
    /// Batch lengths that the stage is built for, ascending: a batch runs at the cost of the next
    /// one up, and beyond the last at the cost of the next multiple of it. Empty: of every length.
    pub buckets: Vec<usize>,
    /// Recorded times by batch length, ascending; empty: the line holds. Lengths between two
    /// entries are interpolated, those outside extrapolated by the line's slope.
    pub table: Vec<Recorded>,
}

/// Times that were recorded for batches of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Images in the batch.
    pub batch_len: usize,
    /// Recorded stage times in nanoseconds, ascending, at least one.
    pub times_ns: Vec<f64>,
}

/// A few runs of a stage that take several times as long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outliers {
    /// Share of the runs, 0 to 1.
    pub fraction: f64,
    /// What their time is multiplied by.
    pub factor: f64,
}

/// A simulated device, as described by a spec or a file; see `docs/SIMULATION.md` for both.
///
/// Read one with [`str::parse`]: a profile name, a file, lines for the three stages, or one of the
/// first two followed by items that override it (`h100,jitter=3%`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeviceSpec {
    /// The spec that it was read from.
    pub name: String,
    /// Cost of each stage.
    pub stages: Stages<StageSpec>,
    /// Standard deviation of a stage time relative to it (log-normal, mean kept); 0: none.
    pub jitter: f64,
    /// Runs that take several times as long, in any stage.
    pub outliers: Option<Outliers>,
    /// Slow change of the compute time: moments in nanoseconds, ascending, with the factor at each;
    /// straight between two, constant outside. Empty: none.
    pub drift: Vec<(f64, f64)>,
}

setters!(DeviceSpec {
    name: String,
    stages: Stages<StageSpec>,
    jitter: f64,
    outliers: Option<Outliers>,
    drift: Vec<(f64, f64)>,
});

impl DeviceSpec {
    /// A device of straight lines, without noise.
    pub fn from_lines(name: impl Into<String>, lines: Stages<Line>) -> Self {
        let stage = |line| StageSpec { line, ..StageSpec::default() };
        Self {
            name: name.into(),
            stages: Stages {
                upload: stage(lines.upload),
                compute: stage(lines.compute),
                download: stage(lines.download),
            },
            jitter: 0.0,
            outliers: None,
            drift: Vec::new(),
        }
    }

    /// Names of the built-in profiles.
    pub fn profiles() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|(name, _)| *name)
    }

    /// Lines of the three stages.
    pub fn lines(&self) -> Stages<Line> {
        Stages {
            upload: self.stages.upload.line,
            compute: self.stages.compute.line,
            download: self.stages.download.line,
        }
    }

    /// Mean stage time of a batch of `batch_len` images in nanoseconds, without outliers and drift.
    pub fn mean_ns(&self, stage: Stage, batch_len: usize) -> f64 {
        self.stages.of(stage).mean_ns(batch_len)
    }

    /// Mean time of one image that passes the three stages alone, in nanoseconds; without outliers
    /// and drift.
    pub fn alone_ns(&self) -> f64 {
        let stages = [Stage::Upload, Stage::Compute, Stage::Download];
        stages.iter().map(|&stage| self.mean_ns(stage, 1)).sum()
    }

    fn apply(&mut self, item: &str) -> Result<()> {
        let (key, value) = item.split_once('=').ok_or_else(|| {
            let names: Vec<_> = Self::profiles().collect();
            let (guess, names) = (did_you_mean(item, names.iter().copied()), names.join(", "));
            let items = items();
            let what = "neither a profile";
            refuse(item, format!("{what} ({names}), a file, nor an item such as {items}{guess}"))
        })?;
        match key {
            "up" => self.stages.upload.line = line(value)?,
            "compute" => self.stages.compute.line = line(value)?,
            "down" => self.stages.download.line = line(value)?,
            "buckets" => self.stages.compute.buckets = buckets(value)?,
            "jitter" => self.jitter = fraction(value)?,
            "outliers" => self.outliers = Some(outliers(value)?),
            "drift" => self.drift = drift(value)?,
            _ => {
                let keys = ITEMS.iter().filter_map(|(form, _)| Some(form.split_once('=')?.0));
                let (guess, items) = (did_you_mean(key, keys), items());
                return Err(refuse(item, format!("unknown device item; items are {items}{guess}")));
            }
        }
        Ok(())
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut items = text.split(',').peekable();
        let first = items.peek().copied().unwrap_or_default();
        let mut spec = if let Some((_, lines)) = PROFILES.iter().find(|(name, _)| *name == first) {
            items.next();
            lines.parse()?
        } else if !first.contains('=') && Path::new(first).is_file() {
            items.next();
            file::read(Path::new(first))?
        } else {
            for stage in ["up=", "compute=", "down="] {
                if first.contains('=') && !text.split(',').any(|item| item.starts_with(stage)) {
                    return Err(refuse(
                        text,
                        format!("needs {stage}FIXED+PER_IMAGE; up, compute and down make a device"),
                    ));
                }
            }
            DeviceSpec::from_lines("", Stages::default())
        };
        for item in items {
            spec.apply(item)?;
        }
        if spec.stages.compute.mean_ns(1) <= 0.0 {
            return Err(refuse(text, "computing takes no time; give compute a fixed cost"));
        }
        spec.name = text.to_string();
        Ok(spec)
    }
}

/// Reads `FIXED+PER_IMAGE`, such as `500us+25us`.
fn line(text: &str) -> Result<Line> {
    let (fixed, per_image) = text
        .split_once('+')
        .ok_or_else(|| refuse(text, "not a line; write FIXED+PER_IMAGE, such as 500us+25us"))?;
    Ok(Line::new(duration_ns(fixed)?, duration_ns(per_image)?))
}

/// Reads ascending lengths such as `1/2/4/8`.
fn buckets(text: &str) -> Result<Vec<usize>> {
    let lens = text.split('/').map(count).collect::<Result<Vec<_>>>()?;
    if lens.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(refuse(text, "bucket lengths must rise, such as 1/2/4/8"));
    }
    Ok(lens)
}

/// Reads `SHARExFACTOR`, such as `10%x10`.
fn outliers(text: &str) -> Result<Outliers> {
    let (share, times) = text
        .split_once('x')
        .ok_or_else(|| refuse(text, "not outliers; write SHARExFACTOR, such as 10%x10"))?;
    Ok(Outliers { fraction: fraction(share)?, factor: factor(times)? })
}

/// Reads ascending points such as `0s:1/10s:2`.
fn drift(text: &str) -> Result<Vec<(f64, f64)>> {
    let point = |word: &str| {
        let (moment, times) = word
            .split_once(':')
            .ok_or_else(|| refuse(text, "not a drift; write TIME:FACTOR/…, such as 0s:1/10s:2"))?;
        Ok((duration_ns(moment)?, factor(times)?))
    };
    let points = text.split('/').map(point).collect::<Result<Vec<_>>>()?;
    if points.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(refuse(text, "the moments of a drift must rise"));
    }
    Ok(points)
}

impl StageSpec {
    /// Mean stage time of a batch of `batch_len` images, in nanoseconds.
    pub fn mean_ns(&self, batch_len: usize) -> f64 {
        self.at(batch_len, |entry| entry.times_ns.iter().sum::<f64>() / entry.times_ns.len() as f64)
    }

    /// Stage time with the recorded times read at one rank, 0 to 1.
    fn ranked_ns(&self, batch_len: usize, rank: f64) -> f64 {
        self.at(batch_len, |entry| entry.times_ns[(rank * entry.times_ns.len() as f64) as usize])
    }

    /// Batch length whose cost a batch of `batch_len` images has.
    fn executed_len(&self, batch_len: usize) -> usize {
        match self.buckets.last() {
            None => batch_len,
            Some(&last) if batch_len > last => batch_len.next_multiple_of(last),
            Some(_) => self.buckets[self.buckets.partition_point(|&len| len < batch_len)],
        }
    }

    fn at(&self, batch_len: usize, recorded_ns: impl Fn(&Recorded) -> f64) -> f64 {
        let executed_len = self.executed_len(batch_len);
        let above = self.table.partition_point(|entry| entry.batch_len < executed_len);
        let steps_from = |entry: &Recorded| executed_len as f64 - entry.batch_len as f64;
        match (above.checked_sub(1).map(|below| &self.table[below]), self.table.get(above)) {
            (None, None) => self.line.at_ns(executed_len),
            (Some(low), Some(high)) => {
                let share = steps_from(low) / (high.batch_len - low.batch_len) as f64;
                recorded_ns(low) * (1.0 - share) + recorded_ns(high) * share
            }
            (Some(only), None) | (None, Some(only)) => {
                (recorded_ns(only) + self.line.per_image_ns * steps_from(only)).max(0.0)
            }
        }
    }
}

/// A device at work: draws actual stage times, the same for the same seed and calls.
#[derive(Clone, Debug)]
pub struct Device {
    spec: DeviceSpec,
    random: Random,
    /// Standard deviation of the logarithm that gives the wanted relative deviation.
    log_deviation: f64,
}

impl Device {
    /// A device as described by `spec`, its noise drawn from `seed`.
    pub fn new(spec: &DeviceSpec, seed: u64) -> Self {
        Self {
            spec: spec.clone(),
            random: Random::new(seed, Stream::Device),
            log_deviation: libm::sqrt(libm::log1p(spec.jitter * spec.jitter)),
        }
    }

    /// The description that this device follows.
    pub fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    /// Time in nanoseconds, never below 1, that `stage` takes for a batch of `batch_len` images
    /// when it starts at `now_ns`.
    pub fn stage_ns(&mut self, stage: Stage, batch_len: usize, now_ns: u64) -> u64 {
        let stage_spec = self.spec.stages.of(stage);
        let mut time_ns = if stage_spec.table.is_empty() {
            stage_spec.line.at_ns(stage_spec.executed_len(batch_len))
        } else {
            stage_spec.ranked_ns(batch_len, self.random.uniform())
        };
        if self.log_deviation > 0.0 {
            let exponent = self.log_deviation * (self.random.normal() - 0.5 * self.log_deviation);
            time_ns *= libm::exp(exponent);
        }
        if let Some(outliers) = self.spec.outliers
            && self.random.uniform() < outliers.fraction
        {
            time_ns *= outliers.factor;
        }
        if stage == Stage::Compute && !self.spec.drift.is_empty() {
            time_ns *= drift_at(&self.spec.drift, now_ns as f64);
        }
        (time_ns.round() as u64).max(1)
    }
}

/// Factor at one moment: straight between two points, constant before the first and after the last.
fn drift_at(points: &[(f64, f64)], now_ns: f64) -> f64 {
    let above = points.partition_point(|(moment_ns, _)| *moment_ns <= now_ns);
    match (above.checked_sub(1).map(|below| points[below]), points.get(above)) {
        (Some((low_ns, low)), Some(&(high_ns, high))) => {
            low + (high - low) * (now_ns - low_ns) / (high_ns - low_ns)
        }
        (Some((_, constant)), None) | (None, Some(&(_, constant))) => constant,
        (None, None) => 1.0,
    }
}

fn file_error(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Argument, format!("device file {}: {what}", path.display()))
}

#[cfg(test)]
mod tests;
