//! `twinstream profile`: times of layers, batches and copies on a GPU beside its bounds, and a
//! check that what was timed computed the network.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use twinstream::backend::cpu::{Cpu, CpuOptions, Outputs, reference};
use twinstream::backend::cuda::{BatchProfile, LaunchProfile, ProfileOptions, profile};
use twinstream::lower::DType;
use twinstream::model::Model;

use crate::classify::write_line;
use crate::computer::GpuOptions;
use crate::options::{ModelOptions, Size, parse_count};
use crate::outcome::Outcome;
use crate::output::stdout;

/// How far a logit may be from the CPU's, as a share of the largest of its image: weights and
/// activations are rounded to f16 some fifty times. Integers are the same everywhere.
fn tolerance(precision: DType) -> f64 {
    if precision == DType::I8 { 0.0 } else { 0.01 }
}

/// Measure layers, whole batches and the overlap of copies on a GPU
///
/// Images are noise. Fails where the logits of a batch are not those of the CPU, and of 8-bit
/// integers where a layer writes another byte for the first image than the definition has.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    gpu: GpuOptions,
    /// Batch sizes, each rounded up to a power of two
    #[arg(
        long,
        value_name = "COUNTS",
        value_delimiter = ',',
        value_parser = parse_count,
        default_value = "1,8,32,128,256"
    )]
    batches: Vec<usize>,
    /// Measurements of each, whose median counts
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = 50)]
    repeats: usize,
    /// One JSON object a batch size
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    batch_len: usize,
    graph_us: f64,
    back_to_back_us: f64,
    launches_us: f64,
    upload_us: f64,
    saturated_us: f64,
    upload_hidden: f64,
    images_per_s: f64,
    worst_relative: f64,
    layers: Vec<Layer<'a>>,
}

#[derive(Serialize)]
struct Layer<'a> {
    layer: &'a str,
    kernel: &'a str,
    elapsed_us: f64,
    bound_us: f64,
    /// Of integers alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let model = options.model.load()?;
    let size = options.model.size(&model);
    let cuda = options.gpu.options(&model, (size, options.model.precision))?;
    let Size { height, width } = size;
    let cpu = CpuOptions::for_model(&model).height(height).width(width);
    let mut oracle = Oracle {
        cpu: Cpu::new(&model, &cpu)?,
        logits: Vec::new(),
        integers: (cuda.precision == DType::I8).then_some((&model, size)),
        outputs: None,
    };
    let profile_options =
        ProfileOptions::default().batch_lens(options.batches.clone()).repeat_len(options.repeats);
    let (mut output, tolerance) = (stdout(), tolerance(cuda.precision));
    let (mut written, mut wrong, mut inexact) = (Ok(()), Vec::new(), Vec::new());
    profile(&model, &cuda, &profile_options, &mut |batch| {
        if written.is_ok() {
            written = oracle.compare(batch).and_then(|row| {
                // What is no number is not right.
                let is_right = row.worst_relative <= tolerance;
                if !is_right {
                    wrong.push(format!("{} ({:.4})", batch.batch_len, row.worst_relative));
                }
                // Those behind it read what it wrote.
                let first = row.layers.iter().find(|layer| layer.exact == Some(false));
                inexact.extend(first.map(|it| format!("{} ({})", batch.batch_len, it.layer)));
                write(&mut output, options.json, &row)
            });
        }
    })?;
    written?;
    if !inexact.is_empty() {
        bail!(
            "layers write other bytes for the first image than the reference has, in batches of \
             {}: the first such layer of each is named",
            inexact.join(", ")
        );
    }
    if !wrong.is_empty() {
        bail!(
            "logits are not the CPU's, off by this share of their image's largest, in batches of \
             {}; allowed is {tolerance}",
            wrong.join(", ")
        );
    }
    Ok(Outcome::AllAnswered)
}

/// What is right: longer batches begin with the shorter ones' images.
struct Oracle<'a> {
    cpu: Cpu,
    /// The CPU's logits of all images so far.
    logits: Vec<f32>,
    /// A model in 8-bit integers, with the size of its images.
    integers: Option<(&'a Model, Size)>,
    /// What its layers write for the first image, once that was seen.
    outputs: Option<Outputs>,
}

impl Oracle<'_> {
    fn compare<'a>(&mut self, batch: &'a BatchProfile) -> anyhow::Result<Row<'a>> {
        let worst_relative = self.worst_relative(batch)?;
        let mut row = row(batch, worst_relative);
        if let Some((model, Size { height, width })) = self.integers {
            let outputs = match self.outputs.take() {
                Some(outputs) => outputs,
                None => reference(model, height, width, &batch.images[..height * width * 3])?,
            };
            let logits = outputs.logits.iter().flat_map(|logit| logit.to_ne_bytes()).collect();
            let expected = outputs.activations.iter().chain(std::iter::once(&logits));
            for ((layer, launch), expected) in
                row.layers.iter_mut().zip(&batch.launches).zip(expected)
            {
                layer.exact = Some(launch.output == *expected);
            }
            self.outputs = Some(outputs);
        }
        Ok(row)
    }

    /// How far a logit of the batch is off at most, as a share of the largest of its image.
    fn worst_relative(&mut self, batch: &BatchProfile) -> anyhow::Result<f64> {
        let class_count = self.cpu.network().class_count();
        let known_len = self.logits.len();
        if known_len < batch.logits.len() {
            self.logits.resize(batch.logits.len(), 0.0);
            let known_bytes = known_len / class_count * self.cpu.image_bytes();
            self.cpu.infer(&batch.images[known_bytes..], &mut self.logits[known_len..])?;
        }
        let images = batch.logits.chunks_exact(class_count);
        Ok(images.zip(self.logits.chunks_exact(class_count)).map(of_image).fold(0.0, larger))
    }
}

fn of_image((found, expected): (&[f32], &[f32])) -> f64 {
    let scale = expected.iter().map(|logit| f64::from(logit.abs())).fold(0.0, larger);
    let off = |(found, expected): (&f32, &f32)| f64::from((found - expected).abs()) / scale;
    found.iter().zip(expected).map(off).fold(0.0, larger)
}

/// The larger one, or what is no number.
fn larger(one: f64, other: f64) -> f64 {
    if one >= other || one.is_nan() { one } else { other }
}

fn row(batch: &BatchProfile, worst_relative: f64) -> Row<'_> {
    Row {
        batch_len: batch.batch_len,
        graph_us: batch.graph_ns / 1e3,
        back_to_back_us: batch.back_to_back_ns / 1e3,
        launches_us: batch.launches_ns / 1e3,
        upload_us: batch.upload_ns / 1e3,
        saturated_us: batch.saturated_ns / 1e3,
        upload_hidden: batch.upload_hidden(),
        images_per_s: batch.batch_len as f64 / batch.back_to_back_ns * 1e9,
        worst_relative,
        layers: batch.launches.iter().map(layer).collect(),
    }
}

fn layer(launch: &LaunchProfile) -> Layer<'_> {
    Layer {
        layer: &launch.layer,
        kernel: &launch.kernel,
        elapsed_us: launch.elapsed_ns / 1e3,
        bound_us: launch.bound_ns / 1e3,
        exact: None,
    }
}

fn write(output: &mut impl Write, json: bool, row: &Row) -> anyhow::Result<()> {
    if json {
        return write_line(output, row);
    }
    writeln!(
        output,
        "batch {}: graph {:.1} µs, back to back {:.1} µs ({:.0} images/s)\n  \
         launch by launch {:.1} µs; logits off by {:.1e}\n  \
         upload {:.1} µs, batches with it beside {:.1} µs: {:.1} % hidden",
        row.batch_len,
        row.graph_us,
        row.back_to_back_us,
        row.images_per_s,
        row.launches_us,
        row.worst_relative,
        row.upload_us,
        row.saturated_us,
        100.0 * row.upload_hidden,
    )?;
    for Layer { layer, kernel, elapsed_us, bound_us, exact } in &row.layers {
        let share = 100.0 * bound_us / elapsed_us;
        let exact = exact.map_or("", |exact| if exact { ", exact" } else { ", WRONG" });
        writeln!(
            output,
            "  {layer:21} {kernel:16} {elapsed_us:9.2} µs  {share:5.1} % of the bound{exact}"
        )?;
    }
    Ok(())
}
