//! `twinstream calibrate`: from weights in floating point and images to a file of 8-bit integers,
//! and what that costs.
//!
//! Invariant: no file is written that loses more than was allowed, and what is written is whole.

mod judge;
mod summary;
mod target;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use sha2::{Digest, Sha256};
use twinstream::backend::cpu::{Cpu, CpuOptions};
use twinstream::calibrate::{Calibration, Calibrator};
use twinstream::image::{DecodeOptions, Preprocess};
use twinstream::model::Model;

use crate::classify::{write_failure, write_line};
use crate::files::replace;
use crate::folders::{EXTENSIONS, LeftOut, folders, images};
use crate::labelled::{Labelled, labelled_images, tell_left_out};
use crate::options::{ModelOptions, Size, parse_count, parse_pixels, refuse_unused};
use crate::outcome::{Outcome, message, progress_bar};
use crate::output::{stdout, tell};
use crate::reader::{Preparation, for_each_batch};
use judge::{check_images, check_loss, tell_doubts};
use summary::{Row, Summary, write_tables};
use target::check_out;

/// Images that are computed at once.
const BATCH_LEN: usize = 16;

/// Choose scales for 8-bit integers by images, and write the network in them
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// Folder with images such as the network will meet, some hundred, and 32 different ones at
    /// least. In a folder for every class, as `evaluate` takes them, they tell accuracy too; else
    /// what is below it is walked
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// File to write; an older network is replaced, any other file is not
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Percentage points of top-1 that may be lost; without classes, images in a hundred whose most
    /// probable class may change [default: 1, without classes 2, and a single image in any case].
    /// With classes as many images may change theirs, or 5 in a hundred where that is more
    #[arg(long, value_name = "POINTS", value_parser = parse_points)]
    loss_max: Option<f64>,
    /// Write the file whatever is lost and however few the images are, with a warning
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
    /// The checksums of images as the network sees them.
    distinct: HashSet<[u8; 32]>,
    preparation: Preparation,
    cpu: CpuOptions,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let precision = ("--precision", options.model.precision.is_some());
    refuse_unused("here: 8-bit integers follow from f32", [precision])?;
    let model = options.model.load()?;
    check_out(&options.out, model.path(), &options.images)?;
    let mut job = Job::new(options, &model)?;
    tell_left_out(&job.left_out);
    let inputs_len = job.paths.len();
    // Those that can be read, and differ, are no more.
    if !options.force {
        check_images(inputs_len, &options.images, false)?;
    }
    let mut calibrator = Calibrator::new(&model, &job.cpu)?;
    let expected = job.observe(&mut calibrator, options.json)?;
    let outcome = Outcome::of(inputs_len - job.paths.len(), inputs_len)?;
    check_images(job.distinct.len(), &options.images, options.force)?;
    tell_doubts(&job, model.class_count(), &expected);
    let mut calibration = finish(calibrator)?;
    let found = job.compute(calibration.model())?;
    let summary = Summary::new(&job, model.class_count(), &expected, &found);
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
        let cpu = cpu.threads(threads);
        Ok(Self { paths, labels, left_out, distinct: HashSet::new(), preparation, cpu })
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
                    Ok(image) => {
                        pixels.extend_from_slice(image);
                        self.distinct.insert(Sha256::digest(image).into());
                    }
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
