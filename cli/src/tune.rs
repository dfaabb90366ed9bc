//! `twinstream tune`: measure the convolutions' tiles on a GPU, and the chunks of layers 1 and 2,
//! and store the best.

use std::io::Write;
use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;
use twinstream::backend::cuda::{
    Measured, MeasuredChoice, MeasuredChunks, MeasuredLength, TuneOptions, Tuning, tune,
    tune_chunks,
};

use crate::classify::write_line;
use crate::computer::GpuOptions;
use crate::options::{ModelOptions, parse_count};
use crate::outcome::Outcome;
use crate::output::{stdout, tell};
use crate::prove::ahead;

/// Measure tiles for each convolution and batch size on a GPU, and store the best for later runs
///
/// Choices that need a proof are proven first, as by `twinstream prove`. What is measured is stored
/// behind each batch size, the shortest first. Then batches of 32 images and more are measured with
/// layers 1 and 2 in chunks of images that the level-2 cache may hold; chunks are stored where they
/// gain 1 % of a batch's time and more than noise does.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    gpu: GpuOptions,
    /// Batch sizes, each rounded up to a power of two
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = parse_count)]
    batches: Vec<usize>,
    /// Measure one of the two alone [default: tiles, then chunks by what is stored]
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
    /// Choices to measure for each convolution, one of each kernel first, and lengths of chunks
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = 16)]
    choices: usize,
    /// Launches that are timed as one
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = 20)]
    repeats: usize,
    /// One JSON object a convolution and batch size, and one a batch size in chunks
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Tiles,
    Chunks,
}

#[derive(Serialize)]
struct Row<'a> {
    layer: &'a str,
    batch_len: usize,
    kernel: &'a str,
    split_len: u32,
    best_us: f64,
    model_us: f64,
    choices: Vec<ChoiceRow<'a>>,
}

#[derive(Serialize)]
struct ChoiceRow<'a> {
    kernel: &'a str,
    split_len: u32,
    elapsed_us: f64,
}

#[derive(Serialize)]
struct ChunksRow {
    batch_len: usize,
    chunk_len: Option<usize>,
    chunks_us: f64,
    whole_us: f64,
    lengths: Vec<LengthRow>,
}

#[derive(Serialize)]
struct LengthRow {
    /// None: without chunks.
    chunk_len: Option<usize>,
    elapsed_us: f64,
    spread_us: f64,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let model = options.model.load()?;
    let size = options.model.size(&model);
    let mut cuda = options.gpu.options(&model, (size, options.model.precision))?;
    let of_command = (&options.model, &options.gpu);
    cuda.verdicts = ahead(of_command, (&model, &cuda), (&options.batches, options.choices))?;
    let path = options.gpu.tuning_path()?;
    let mut tuning = cuda.tuning.clone();
    let mut tune_options =
        TuneOptions::default().choice_len(options.choices).repeat_len(options.repeats);
    if !options.batches.is_empty() {
        tune_options.batch_lens.clone_from(&options.batches);
    }
    let mut output = stdout();
    if !options.json && options.only != Some(Part::Chunks) {
        let (best, model) = ("best µs", "model's µs");
        let (batch, layer, kernel, split) = ("batch", "layer", "kernel", "split");
        writeln!(output, "{batch}  {layer:21} {kernel:14} {split} {best:>10} {model:>10}")?;
    }
    let mut done = Ok(());
    if options.only != Some(Part::Chunks) {
        tune(&model, &cuda, &tune_options, &mut tuning, &mut |bucket, tuning| {
            if done.is_ok() {
                let mut rows = bucket.iter();
                let is_written = rows.try_for_each(|it| write(&mut output, options.json, it));
                done = is_written.and_then(|()| store(tuning, &path));
            }
        })?;
    }
    if options.only != Some(Part::Tiles) {
        tune_chunks(&model, &cuda, &tune_options, &mut tuning, &mut |chunks, tuning| {
            if done.is_ok() {
                let is_written = write_chunks(&mut output, options.json, chunks);
                done = is_written.and_then(|()| store(tuning, &path));
            }
        })?;
    }
    done?;
    tell(format_args!("stored in {}", path.display()));
    Ok(Outcome::AllAnswered)
}

fn write(output: &mut impl Write, json: bool, measured: &Measured) -> anyhow::Result<()> {
    let choice = |choice: &MeasuredChoice| ChoiceRow {
        kernel: choice.kernel,
        split_len: choice.split_k,
        elapsed_us: choice.elapsed_ns / 1e3,
    };
    let row = Row {
        layer: &measured.conv.layer,
        batch_len: measured.batch_len,
        kernel: measured.conv.kernel,
        split_len: measured.conv.split_k,
        best_us: measured.best_ns / 1e3,
        model_us: measured.model_ns / 1e3,
        choices: measured.choices.iter().map(choice).collect(),
    };
    if json {
        return write_line(output, &row);
    }
    let Row { layer, batch_len, kernel, split_len, best_us, model_us, .. } = row;
    Ok(writeln!(
        output,
        "{batch_len:5}  {layer:21} {kernel:14} {split_len:5} {best_us:10.2} {model_us:10.2}"
    )?)
}

fn write_chunks(
    output: &mut impl Write,
    json: bool,
    measured: &MeasuredChunks,
) -> anyhow::Result<()> {
    let MeasuredChunks { batch_len, chunk_len, ref lengths } = *measured;
    let (chunks_us, whole_us) = (measured.noted().elapsed_ns / 1e3, measured.whole_ns() / 1e3);
    if json {
        let length = |length: &MeasuredLength| LengthRow {
            chunk_len: length.chunk_len,
            elapsed_us: length.elapsed_ns / 1e3,
            spread_us: length.spread_ns / 1e3,
        };
        let lengths = lengths.iter().map(length).collect();
        let row = ChunksRow { batch_len, chunk_len, chunks_us, whole_us, lengths };
        return write_line(output, &row);
    }
    match chunk_len {
        Some(chunk_len) => writeln!(
            output,
            "{batch_len:5}  layers 1 and 2 in chunks of {chunk_len}: a batch in {chunks_us:.2} µs, \
             without in {whole_us:.2}"
        )?,
        None => writeln!(output, "{batch_len:5}  without chunks: a batch in {whole_us:.2} µs")?,
    }
    Ok(())
}

fn store(tuning: &Tuning, path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(tuning.save(path)?)
}
