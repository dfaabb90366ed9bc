//! `twinstream classify`: the most probable classes of each image.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use twinstream::model::{Answer, Class, Model};

use crate::computer::{BackendOptions, Classifier};
use crate::options::{ModelOptions, parse_count};
use crate::outcome::{Outcome, Usage, message, progress_bar};
use crate::output;
use crate::reader::{for_each_batch, is_stdin};

/// Name what is on images: their most probable classes
#[derive(Args)]
pub struct Options {
    /// JPEG, PNG, WebP or BMP files; `-` reads one from stdin
    #[arg(required = true, value_name = "IMAGES")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    backend: BackendOptions,
    /// Classes to name for each image
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = 5)]
    top: usize,
    /// One JSON object a line: `path`, and `top` (`class`, `index`, `probability`) or `error`
    #[arg(long)]
    json: bool,
    /// Add the raw `logits` to each object
    #[arg(long, requires = "json")]
    logits: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    top: Vec<Ranked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}

#[derive(Serialize)]
struct Ranked {
    class: String,
    index: usize,
    probability: f32,
}

/// What a failed input leaves in the JSON output, so that every input has its line.
#[derive(Serialize)]
struct Failure<'a> {
    path: &'a str,
    error: String,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    if options.images.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(Usage("- stands there twice: stdin holds one image".to_owned()).into());
    }
    let answer = match options.logits {
        true => Answer::Logits,
        false => Answer::TopK(options.top),
    };
    let mut classifier = Classifier::open(&options.model, &options.backend, answer)?;
    let answer_len = classifier.computer.answer_len();
    let (mut pixels, mut answers) = (Vec::new(), Vec::new());
    let mut failed_len = 0;
    let mut output = BufWriter::new(output::stdout());
    let progress = progress_bar(options.images.len(), true);
    for_each_batch(
        &options.images,
        options.backend.batch,
        classifier.threads,
        classifier.preprocess,
        |batch| {
            pixels.clear();
            batch.iter().filter_map(|input| input.pixels.as_ref().ok()).for_each(|image| {
                pixels.extend_from_slice(image);
            });
            answers.resize(pixels.len() / classifier.computer.image_bytes() * answer_len, 0.0);
            classifier.computer.infer(&pixels, &mut answers)?;
            let mut answers = answers.chunks_exact(answer_len);
            for input in &batch {
                match &input.pixels {
                    Ok(_) => {
                        let answer = answers.next().expect("an answer for every image");
                        let top = classifier.computer.classes(answer, options.top);
                        // Logits were asked for where they are to be shown.
                        let logits = options.logits.then_some(answer);
                        let answer = (input.path, top, logits);
                        write_answer(&mut output, options.json, &classifier.model, answer)?;
                    }
                    Err(error) => {
                        failed_len += 1;
                        write_failure(&mut output, options.json, input.path, error)?;
                    }
                }
            }
            output.flush()?;
            progress.inc(batch.len() as u64);
            Ok(())
        },
    )?;
    progress.finish_and_clear();
    Outcome::of(failed_len, options.images.len())
}

fn write_answer(
    output: &mut impl Write,
    json: bool,
    model: &Model,
    (path, top, logits): (&Path, Vec<Class>, Option<&[f32]>),
) -> anyhow::Result<()> {
    if json {
        let ranked = |class: Class| Ranked {
            class: model.label(class.index),
            index: class.index,
            probability: class.probability,
        };
        let line = Line {
            path: &path.to_string_lossy(),
            top: top.into_iter().map(ranked).collect(),
            logits,
        };
        return write_line(output, &line);
    }
    writeln!(output, "{}", path.display())?;
    for class in top {
        let label = without_controls(&model.label(class.index));
        writeln!(output, "{:8.2} %  {label}", 100.0 * class.probability)?;
    }
    Ok(())
}

/// A name from a file as it may be shown: a terminal obeys control characters, and a line break
/// would make two lines of one.
fn without_controls(name: &str) -> String {
    let shown = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    name.chars().map(shown).collect()
}

/// Reports an input that could not be read: as a line of the JSON output, else on stderr.
pub fn write_failure(
    output: &mut impl Write,
    json: bool,
    path: &Path,
    error: &anyhow::Error,
) -> anyhow::Result<()> {
    if json {
        return write_line(
            output,
            &Failure { path: &path.to_string_lossy(), error: message(error) },
        );
    }
    // What was answered before comes first where both streams are one terminal.
    output.flush()?;
    output::tell(format_args!("error: {}", message(error)));
    Ok(())
}

/// One JSON object and a line end.
pub fn write_line(output: &mut impl Write, object: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *output, object).map_err(io::Error::from)?;
    Ok(writeln!(output)?)
}
