//! `twinstream profile`: times of layers, batches and copies on a GPU, beside its bounds.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use twinstream::backend::cuda::{BatchProfile, LaunchProfile, profile};

use crate::classify::write_line;
use crate::computer::GpuOptions;
use crate::options::{ModelOptions, parse_count};
use crate::outcome::Outcome;

/// Measure layers, whole batches and the overlap of copies on a GPU
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
    batch: usize,
    graph_us: f64,
    launches_us: f64,
    upload_us: f64,
    both_us: f64,
    upload_hidden: f64,
    images_per_s: f64,
    layers: Vec<Layer<'a>>,
}

#[derive(Serialize)]
struct Layer<'a> {
    layer: &'a str,
    kernel: &'a str,
    us: f64,
    bound_us: f64,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let model = options.model.load()?;
    let cuda = options.gpu.options(options.model.size(&model))?;
    let mut output = io::stdout().lock();
    for &batch in &options.batches {
        for batch in profile(&model, &cuda, (&[batch], options.repeats))? {
            if options.json {
                write_line(&mut output, &row(&batch))?;
            } else {
                write_table(&mut output, &row(&batch))?;
            }
        }
    }
    Ok(Outcome::AllAnswered)
}

fn row(batch: &BatchProfile) -> Row<'_> {
    Row {
        batch: batch.batch_len,
        graph_us: batch.graph_ns / 1e3,
        launches_us: batch.launches_ns / 1e3,
        upload_us: batch.upload_ns / 1e3,
        both_us: batch.both_ns / 1e3,
        upload_hidden: batch.overlap(),
        images_per_s: batch.batch_len as f64 / batch.graph_ns * 1e9,
        layers: batch.launches.iter().map(layer).collect(),
    }
}

fn layer(launch: &LaunchProfile) -> Layer<'_> {
    Layer {
        layer: &launch.layer,
        kernel: &launch.kernel,
        us: launch.elapsed_ns / 1e3,
        bound_us: launch.bound_ns / 1e3,
    }
}

fn write_table(output: &mut impl Write, row: &Row) -> io::Result<()> {
    writeln!(
        output,
        "batch {}: graph {:.1} µs ({:.0} images/s), launch by launch {:.1} µs, upload {:.1} µs, \
         both {:.1} µs: {:.1} % of the shorter hidden",
        row.batch,
        row.graph_us,
        row.images_per_s,
        row.launches_us,
        row.upload_us,
        row.both_us,
        100.0 * row.upload_hidden
    )?;
    for Layer { layer, kernel, us, bound_us } in &row.layers {
        let share = 100.0 * bound_us / us;
        writeln!(output, "  {layer:16} {kernel:16} {us:9.2} µs  {share:5.1} % of the bound")?;
    }
    Ok(())
}
