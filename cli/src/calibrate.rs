//! `twinstream calibrate`: from weights in floating point and images to a file of 8-bit integers,
//! and what that costs.
//!
//! Invariant: no file is written that loses more than was allowed, and what is written is whole.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use twinstream::backend::cpu::{Cpu, CpuOptions};
use twinstream::calibrate::{Calibration, Calibrator, LayerReport, Report};
use twinstream::image::{DecodeOptions, Preprocess};
use twinstream::model::{Model, top_k};

use crate::classify::{write_failure, write_line};
use crate::files::replace;
use crate::folders::{EXTENSIONS, LeftOut, folders, images};
use crate::labelled::{Labelled, labelled_images, tell_left_out};
use crate::options::{ModelOptions, Size, parse_count, parse_pixels, refuse_unused};
use crate::outcome::{Outcome, Usage, message, progress_bar};
use crate::output::{stdout, tell};
use crate::reader::{Preparation, for_each_batch};
use crate::table;

/// Images that are computed at once.
const BATCH_LEN: usize = 16;
/// An image counts where its class is among so many, the most probable.
const TOP_LEN: usize = 5;
/// Points of top-1 that may be lost.
const LOSS_MAX_LABELLED: f64 = 1.0;
/// Images in a hundred whose class may change, where it is not known which is right.
const LOSS_MAX_UNLABELLED: f64 = 2.0;
/// Layers that a refusal names.
const NAMED_LEN: usize = 3;

/// Choose scales for 8-bit integers by images, and write the network in them
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// Folder with images such as the network will meet, some hundred. In a folder for every class,
    /// as `evaluate` takes them, they tell accuracy too; else what is below it is walked
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// File to write; an older one is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Percentage points of top-1 that may be lost; without classes, images in a hundred whose most
    /// probable class may change [default: 1, without classes 2]
    #[arg(long, value_name = "POINTS", value_parser = parse_points)]
    loss_max: Option<f64>,
    /// Write the file whatever is lost
    #[arg(long)]
    force: bool,
    /// Threads that compute [default: one for every processor]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    threads: Option<usize>,
    /// Largest image that is read, in megapixels (millions of pixels) [default: 178.96]
    #[arg(long, value_name = "MEGAPIXELS", value_parser = parse_pixels)]
    pixels_max: Option<usize>,
    /// One JSON object a layer, then one of the whole; before them one object (`path`, `error`) for
    /// each image that failed
    #[arg(long)]
    json: bool,
}

fn parse_points(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(points) if (0.0..=100.0).contains(&points) => Ok(points),
        _ => Err("expected a number from 0 to 100"),
    }
}

/// What is computed, and of what.
struct Job {
    paths: Vec<PathBuf>,
    /// One a path, where classes are known.
    labels: Option<Vec<usize>>,
    left_out: LeftOut,
    preparation: Preparation,
    cpu: CpuOptions,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let precision = ("--precision", options.model.precision.is_some());
    refuse_unused("here: 8-bit integers follow from f32", [precision])?;
    let model = options.model.load()?;
    check_out(&options.out, model.path())?;
    let mut job = Job::new(options, &model)?;
    tell_left_out(&job.left_out);
    let inputs_len = job.paths.len();
    let mut calibrator = Calibrator::new(&model, &job.cpu)?;
    let expected = job.observe(&mut calibrator, options.json)?;
    let outcome = Outcome::of(inputs_len - job.paths.len(), inputs_len)?;
    let mut calibration = finish(calibrator)?;
    let found = job.compute(calibration.model())?;
    let summary = Summary::new(&job, &model, &expected, &found);
    let allowed = check_loss(options, &summary, calibration.report());
    // Before the tables: who reads them may stop.
    if allowed.is_ok() {
        replace(&options.out, calibration.to_bytes(origin(&model, &summary)?))?;
    }
    let mut output = stdout();
    if options.json {
        for layer in &calibration.report().layers {
            write_line(&mut output, &Row::new(layer))?;
        }
        write_line(&mut output, &summary)?;
    } else {
        write_tables(&mut output, calibration.report(), &summary)?;
    }
    allowed?;
    Ok(outcome)
}

/// Refuses a file that cannot be written before anything is computed, and above all the weights'.
fn check_out(out: &Path, weights: &Path) -> anyhow::Result<()> {
    let is_same = |path: &Path| fs::canonicalize(path).ok() == fs::canonicalize(weights).ok();
    if out.exists() && is_same(out) {
        let message = "would replace the weights that it is made from: name another file";
        return Err(Usage(format!("--out {}: {message}", out.display())).into());
    }
    ensure!(!out.is_dir(), "{}: a folder: name a file in it", out.display());
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "{}: no such folder", folder.display());
    Ok(())
}

impl Job {
    fn new(options: &Options, model: &Model) -> anyhow::Result<Self> {
        let Size { height, width } = options.model.size(model);
        let crop = Preprocess { height, width, ..Preprocess::for_model(model.config()) };
        let decode = options.pixels_max.map_or_else(DecodeOptions::default, |pixels_max| {
            DecodeOptions::default().pixels_max(pixels_max)
        });
        let cpu = CpuOptions::for_model(model).height(height).width(width);
        let threads = options.threads.unwrap_or(cpu.threads);
        let (paths, labels, left_out) = inputs(&options.images, model)?;
        let preparation = Preparation { decode, crop };
        Ok(Self { paths, labels, left_out, preparation, cpu: cpu.threads(threads) })
    }

    /// Lets the calibrator see all images, and leaves out those that cannot be read. Returns the
    /// logits in f32.
    fn observe(&mut self, calibrator: &mut Calibrator, json: bool) -> anyhow::Result<Vec<f32>> {
        let mut output = stdout();
        let progress = progress_bar(self.paths.len(), false);
        let (mut pixels, mut logits, mut is_read) = (Vec::new(), Vec::new(), Vec::new());
        let (threads, preparation) = (self.cpu.threads, self.preparation);
        for_each_batch(&self.paths, BATCH_LEN, threads, preparation, |batch| {
            pixels.clear();
            for input in &batch {
                is_read.push(input.pixels.is_ok());
                match &input.pixels {
                    Ok(image) => pixels.extend_from_slice(image),
                    Err(error) => {
                        progress.suspend(|| write_failure(&mut output, json, input.path, error))?
                    }
                }
            }
            logits.extend(calibrator.observe(&pixels)?);
            progress.inc(batch.len() as u64);
            Ok(())
        })?;
        progress.finish_and_clear();
        let mut read = is_read.iter();
        self.paths.retain(|_| *read.next().expect("one a path"));
        let mut read = is_read.iter();
        if let Some(labels) = &mut self.labels {
            labels.retain(|_| *read.next().expect("one a path"));
        }
        Ok(logits)
    }

    /// The logits by another model.
    fn compute(&self, model: &Model) -> anyhow::Result<Vec<f32>> {
        let precision = CpuOptions::for_model(model).precision;
        let mut cpu = Cpu::new(model, &self.cpu.precision(precision))?;
        let progress = progress_bar(self.paths.len(), false);
        let (mut pixels, mut logits) = (Vec::new(), Vec::new());
        let (threads, preparation) = (self.cpu.threads, self.preparation);
        for_each_batch(&self.paths, BATCH_LEN, threads, preparation, |batch| {
            pixels.clear();
            let batch_len = batch.len();
            for input in batch {
                pixels.extend_from_slice(&input.pixels?);
            }
            let done_len = logits.len();
            logits.resize(done_len + batch_len * model.class_count(), 0.0);
            cpu.infer(&pixels, &mut logits[done_len..])?;
            progress.inc(batch_len as u64);
            Ok(())
        })?;
        progress.finish_and_clear();
        Ok(logits)
    }
}

/// The images of a folder, and their classes where its folders are those of the model.
fn inputs(
    folder: &Path,
    model: &Model,
) -> anyhow::Result<(Vec<PathBuf>, Option<Vec<usize>>, LeftOut)> {
    let has_folders = !folders(folder, &mut LeftOut::default())?.is_empty();
    if has_folders {
        match labelled_images(folder, &model.config().label_names, model.class_count()) {
            Ok(Labelled { paths, labels, left_out }) => return Ok((paths, Some(labels), left_out)),
            Err(error) => tell(format_args!(
                "{}; so it is not known which answers are right",
                message(&error)
            )),
        }
    }
    let mut left_out = LeftOut::default();
    let paths = images(folder, &mut left_out)?;
    ensure!(
        !paths.is_empty(),
        "{}: has no images, which are files whose names end in one of {}",
        folder.display(),
        EXTENSIONS.join(", ")
    );
    Ok((paths, None, left_out))
}

/// Chooses scales, with a bar over the trials.
fn finish(calibrator: Calibrator) -> anyhow::Result<Calibration> {
    let progress = progress_bar(0, false);
    let calibration = calibrator.finish(&mut |done_len, trial_len| {
        progress.set_length(trial_len as u64);
        progress.set_position(done_len as u64);
    })?;
    progress.finish_and_clear();
    Ok(calibration)
}

/// Who made the file of what.
fn origin(model: &Model, summary: &Summary) -> anyhow::Result<Vec<(String, String)>> {
    let path = model.path();
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = [
        ("source", name),
        ("source_sha256", sum),
        ("images", summary.images.to_string()),
        ("twinstream", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    Ok(entries.map(|(key, value)| (key.to_owned(), value)).into())
}

/// A layer's line.
#[derive(Serialize)]
struct Row<'a> {
    layer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<WeightsRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<OutputRow>,
}

#[derive(Serialize)]
struct WeightsRow {
    error: f64,
    cut_channels: usize,
}

#[derive(Serialize)]
struct OutputRow {
    max: f64,
    scale: f64,
    method: &'static str,
    error: f64,
    loss: f64,
}

impl<'a> Row<'a> {
    fn new(layer: &'a LayerReport) -> Self {
        let weights = layer.weights.map(|weights| WeightsRow {
            error: table::round(weights.error),
            cut_channels: weights.cut_len,
        });
        let output = layer.output.map(|output| OutputRow {
            max: table::round(output.max.into()),
            scale: table::round(output.scale.into()),
            method: output.method.name(),
            error: table::round(output.error),
            loss: table::round(output.loss),
        });
        Self { layer: &layer.name, weights, output }
    }
}

/// Shares of 1 in one precision.
#[derive(Serialize)]
struct Accuracy {
    top1: f64,
    top5: f64,
}

impl Accuracy {
    fn new(logits: &[f32], labels: &[usize]) -> Self {
        let (mut top1_len, mut top5_len) = (0, 0);
        for (logits, label) in logits.chunks_exact(logits.len() / labels.len()).zip(labels) {
            let top = top_k(logits, TOP_LEN);
            top1_len += usize::from(top[0].index == *label);
            top5_len += usize::from(top.iter().any(|class| class.index == *label));
        }
        let share = |len: usize| len as f64 / labels.len() as f64;
        Self { top1: share(top1_len), top5: share(top5_len) }
    }
}

/// What all images tell.
#[derive(Serialize)]
struct Summary {
    images: usize,
    left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    f32: Option<Accuracy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i8: Option<Accuracy>,
    /// Share of images with the same most probable class.
    agreement: f64,
    /// The logits' mean squared error.
    loss: f64,
    /// The logits' mean square about their mean.
    variance: f64,
}

impl Summary {
    fn new(job: &Job, model: &Model, expected: &[f32], found: &[f32]) -> Self {
        let accuracy = |logits| job.labels.as_ref().map(|labels| Accuracy::new(logits, labels));
        let class_count = model.class_count();
        let best = |logits: &[f32]| top_k(logits, 1)[0].index;
        let pairs = expected.chunks_exact(class_count).zip(found.chunks_exact(class_count));
        let same_len = pairs.filter(|(a, b)| best(a) == best(b)).count();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / found.len() as f64;
        let middle = mean(&mut expected.iter().copied().map(f64::from));
        let squares = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
        Self {
            images: job.paths.len(),
            left_out: job.left_out.len,
            f32: accuracy(expected),
            i8: accuracy(found),
            agreement: same_len as f64 / job.paths.len() as f64,
            loss: table::round(mean(&mut expected.iter().zip(found).map(squares))),
            variance: table::round(mean(
                &mut expected.iter().map(|&logit| (f64::from(logit) - middle).powi(2)),
            )),
        }
    }

    /// What is lost beyond what may be: `loss_max`, or else the default.
    fn excess(&self, loss_max: Option<f64>) -> Option<String> {
        let (lost, what, default) = match (&self.f32, &self.i8) {
            (Some(f32), Some(i8)) => {
                (f32.top1 - i8.top1, "points of top-1 are lost", LOSS_MAX_LABELLED)
            }
            _ => (1.0 - self.agreement, "% of the classes change", LOSS_MAX_UNLABELLED),
        };
        let (lost, loss_max) = (100.0 * lost, loss_max.unwrap_or(default));
        // Shares are no round numbers.
        (lost > loss_max + 1e-6).then(|| format!("{lost:.2} {what}, and {loss_max} may be"))
    }
}

/// Refuses to write what loses more than `options` allow.
fn check_loss(options: &Options, summary: &Summary, report: &Report) -> anyhow::Result<()> {
    match summary.excess(options.loss_max) {
        Some(excess) if !options.force => bail!(
            "{excess}: {} is not written; most is lost by the outputs of {}, and by the weights of \
             {}; calibrate with more images, allow more with --loss-max, or write it in spite of \
             that with --force",
            options.out.display(),
            names(&report.costliest_outputs()),
            names(&report.costliest_weights()),
        ),
        _ => Ok(()),
    }
}

fn names(layers: &[&LayerReport]) -> String {
    let names: Vec<&str> = layers.iter().take(NAMED_LEN).map(|layer| &*layer.name).collect();
    names.join(", ")
}

fn write_tables(output: &mut impl Write, report: &Report, summary: &Summary) -> io::Result<()> {
    let columns: [table::Column<LayerReport>; 6] = [
        ("layer", |layer| layer.name.clone()),
        ("weights' error", |layer| layer.weights.map_or_else(String::new, |w| small(w.error))),
        ("largest", |layer| layer.output.map_or_else(String::new, |o| format!("{:.3}", o.max))),
        ("method", |layer| layer.output.map_or_else(String::new, |o| o.method.name().to_owned())),
        ("error", |layer| layer.output.map_or_else(String::new, |o| small(o.error))),
        ("loss alone", |layer| layer.output.map_or_else(String::new, |o| small(o.loss))),
    ];
    writeln!(output, "{}\n", table::text(&columns, 1, &report.layers))?;
    writeln!(output, "images     {:9}", summary.images)?;
    if let (Some(f32), Some(i8)) = (&summary.f32, &summary.i8) {
        writeln!(output, "                 f32         i8")?;
        for (name, f32, i8) in [("top-1", f32.top1, i8.top1), ("top-5", f32.top5, i8.top5)] {
            writeln!(output, "{name}      {:9.2} % {:9.2} %", 100.0 * f32, 100.0 * i8)?;
        }
    }
    writeln!(output, "agreement  {:9.2} %", 100.0 * summary.agreement)?;
    let Summary { loss, variance, .. } = summary;
    writeln!(output, "logits     {loss:9.5} mean squared error, of {variance:.3}")
}

/// An error beside what it is an error of.
fn small(share: f64) -> String {
    format!("{share:.1e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_judged_by_what_is_known() {
        let top = |top1| Some(Accuracy { top1, top5: 1.0 });
        let summary = |f32, i8, agreement| Summary {
            images: 200,
            left_out: 0,
            f32,
            i8,
            agreement,
            loss: 0.1,
            variance: 1.0,
        };
        let labelled = summary(top(0.80), top(0.79), 0.5);
        assert_eq!(labelled.excess(None), None);
        let excess = labelled.excess(Some(0.5)).unwrap();
        assert_eq!(excess, "1.00 points of top-1 are lost, and 0.5 may be");
        assert!(summary(top(0.80), top(0.785), 1.0).excess(None).is_some());
        assert_eq!(summary(top(0.80), top(0.85), 0.5).excess(Some(0.0)), None);
        let unlabelled = summary(None, None, 0.97);
        assert_eq!(unlabelled.excess(None).unwrap(), "3.00 % of the classes change, and 2 may be");
        assert_eq!(unlabelled.excess(Some(3.0)), None);
    }
}
