//! `twinstream evaluate`: accuracy and speed over a folder of labelled images.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use twinstream::model::Answer;

use crate::classify::{write_failure, write_line};
use crate::computer::{BackendOptions, Classifier};
use crate::labelled::{Labelled, labelled_images, tell_left_out};
use crate::options::ModelOptions;
use crate::outcome::{Outcome, progress_bar};
use crate::output::stdout;
use crate::reader::for_each_batch;
use crate::table;

/// An image counts where its class is among so many, the most probable.
const TOP_LEN: usize = 5;

/// Measure accuracy and speed on a folder of labelled images
#[derive(Args)]
pub struct Options {
    /// Folder with a folder of images for every class, named by the class's label; where the
    /// configuration has no `label_names`, all classes in the order of their folders' names.
    /// Walked as torchvision's `ImageFolder`; hidden files, and those that are no images by the
    /// ending of their name, are left out and counted
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    backend: BackendOptions,
    /// One JSON object: `precision`, `images`, `left_out` (files), `top1` and `top5` (shares of 1),
    /// `images_per_second`; before it one object (`path`, `error`) for each image that failed
    #[arg(long)]
    json: bool,
}

/// Of the images that could be read.
#[derive(Serialize)]
struct Summary {
    precision: String,
    images: usize,
    left_out: usize,
    top1: f64,
    top5: f64,
    images_per_second: f64,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let answer = Answer::TopK(TOP_LEN);
    let mut classifier = Classifier::open(&options.model, &options.backend, answer)?;
    let class_count = classifier.model.class_count();
    let label_names = &classifier.model.config().label_names;
    let Labelled { paths, labels, left_out } =
        labelled_images(&options.folder, label_names, class_count)?;
    tell_left_out(&left_out);
    let answer_len = classifier.computer.answer_len();
    let (mut pixels, mut answers) = (Vec::new(), Vec::new());
    let mut labels = labels.into_iter();
    let (mut images_len, mut top1_len, mut top5_len) = (0, 0, 0);
    let mut output = stdout();
    let progress = progress_bar(paths.len(), false);
    let start = Instant::now();
    for_each_batch(
        &paths,
        options.backend.batch,
        classifier.threads,
        classifier.preprocess,
        |batch| {
            pixels.clear();
            let mut expected = Vec::with_capacity(batch.len());
            for (input, label) in batch.iter().zip(labels.by_ref()) {
                match &input.pixels {
                    Ok(image) => {
                        pixels.extend_from_slice(image);
                        expected.push(label);
                    }
                    Err(error) => progress
                        .suspend(|| write_failure(&mut output, options.json, input.path, error))?,
                }
            }
            answers.resize(expected.len() * answer_len, 0.0);
            classifier.computer.infer(&pixels, &mut answers)?;
            for (answer, label) in answers.chunks_exact(answer_len).zip(&expected) {
                let top = classifier.computer.classes(answer, TOP_LEN);
                top1_len += usize::from(top[0].index == *label);
                top5_len += usize::from(top.iter().any(|class| class.index == *label));
            }
            images_len += expected.len();
            progress.inc(batch.len() as u64);
            Ok(())
        },
    )?;
    let seconds = start.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let outcome = Outcome::of(paths.len() - images_len, paths.len())?;
    let share = |len: usize| len as f64 / images_len as f64;
    let summary = Summary {
        precision: classifier.computer.precision.to_string(),
        images: images_len,
        left_out: left_out.len,
        top1: share(top1_len),
        top5: share(top5_len),
        images_per_second: table::round(images_len as f64 / seconds),
    };
    if options.json {
        write_line(&mut output, &summary)?;
    } else {
        write_summary(&mut output, &summary)?;
    }
    Ok(outcome)
}

fn write_summary(output: &mut impl Write, summary: &Summary) -> io::Result<()> {
    writeln!(output, "images  {:9}", summary.images)?;
    writeln!(output, "top-1   {:9.2} %", 100.0 * summary.top1)?;
    writeln!(output, "top-5   {:9.2} %", 100.0 * summary.top5)?;
    writeln!(output, "speed   {:9.1} images/s, decoding included", summary.images_per_second)
}
