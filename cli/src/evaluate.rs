//! `twinstream evaluate`: accuracy and speed over a folder of labelled images.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;
use twinstream::model::Answer;

use crate::classify::{write_failure, write_line};
use crate::computer::{BackendOptions, Classifier};
use crate::folders::{EXTENSIONS, LeftOut, folders, images};
use crate::options::ModelOptions;
use crate::outcome::{Outcome, progress_bar};
use crate::output::{stdout, tell};
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
    /// One JSON object: `images`, `left_out` (files), `top1` and `top5` (shares of 1),
    /// `images_per_second`; before it one object (`path`, `error`) for each image that failed
    #[arg(long)]
    json: bool,
}

/// Of the images that could be read.
#[derive(Serialize)]
struct Summary {
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

/// A folder's images, and the class of each.
struct Labelled {
    paths: Vec<PathBuf>,
    /// Index among the logits, one a path.
    labels: Vec<usize>,
    left_out: LeftOut,
}

/// The image files of `folder` and the class index of each, by class and name.
fn labelled_images(
    folder: &Path,
    label_names: &[String],
    class_count: usize,
) -> anyhow::Result<Labelled> {
    let mut left_out = LeftOut::default();
    let folders = folders(folder, &mut left_out)?;
    let classes = if label_names.is_empty() {
        tell(format_args!(
            "{}: the classes have no names: the folders in there, by name, are taken for them",
            folder.display()
        ));
        classes_in_order(folder, folders, class_count)?
    } else {
        classes_by_name(folder, folders, label_names)?
    };
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    let mut empty = Vec::new();
    for (label, class) in classes {
        let images = images(&class, &mut left_out)?;
        if images.is_empty() {
            empty.push(class.display().to_string());
        }
        labels.resize(labels.len() + images.len(), label);
        paths.extend(images);
    }
    ensure!(
        empty.is_empty(),
        "{}: has no images, which are files whose names end in one of {}; add some, or remove the \
         folder",
        names(&empty),
        EXTENSIONS.join(", ")
    );
    Ok(Labelled { paths, labels, left_out })
}

/// Says on stderr what was not looked at.
fn tell_left_out(left_out: &LeftOut) {
    if let Some(example) = &left_out.example {
        tell(format_args!(
            "left out, as hidden or no images by their names: {}, such as {}",
            left_out.len,
            example.display()
        ));
    }
}

/// Class folders that are named by the model's labels, some or all.
fn classes_by_name(
    folder: &Path,
    folders: Vec<PathBuf>,
    label_names: &[String],
) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    let mut classes = Vec::new();
    for path in folders {
        let name = path.file_name().unwrap_or_default();
        let mut labels =
            (0..label_names.len()).filter(|&index| name == label_names[index].as_str());
        let Some(label) = labels.next() else {
            bail!("{}: no class of the model; they are {}", path.display(), names(label_names));
        };
        if let Some(other) = labels.next() {
            bail!(
                "{}: two classes have this name, {label} and {other}; give each class a name of \
                 its own in the configuration",
                path.display()
            );
        }
        classes.push((label, path));
    }
    ensure!(
        !classes.is_empty(),
        "{}: has no class folders; expected some of {}",
        folder.display(),
        names(label_names)
    );
    classes.sort();
    Ok(classes)
}

/// Class folders of a model without labels: sorted by name they are its classes, as torchvision's
/// `ImageFolder` has it, which is right only where none is missing.
fn classes_in_order(
    folder: &Path,
    folders: Vec<PathBuf>,
    class_count: usize,
) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    ensure!(
        folders.len() == class_count,
        "{}: has {} class folders, but the network has {class_count} classes; without label_names \
         in the model's configuration each needs a folder, in the order of their names: add what \
         is missing, or name the classes in config.json (see --config)",
        folder.display(),
        folders.len()
    );
    Ok(folders.into_iter().enumerate().collect())
}

/// The first few of `all`.
fn names(all: &[String]) -> String {
    const SHOWN_LEN: usize = 10;
    let ellipsis = if all.len() > SHOWN_LEN { ", …" } else { "" };
    all[..all.len().min(SHOWN_LEN)].join(", ") + ellipsis
}
