//! `twinstream inspect`: the layer table of a network, with shapes, costs and totals.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::Serialize;
use twinstream::backend::cpu::CpuOptions;
use twinstream::lower::{DType, Steps};
use twinstream::model::{Conv, Layer, LayerCost, Model, Network, Op, Shape, TensorId};

use crate::classify::write_line;
use crate::computer::GpuOptions;
use crate::options::{ModelOptions, Size, refuse_unused};
use crate::outcome::Outcome;
use crate::output::stdout;

/// Print a network's layers with shapes, multiply-accumulates, bytes and totals
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// One JSON object a layer, then one with the precision and the totals; sizes in bytes, for one
    /// image
    #[arg(long)]
    json: bool,
    /// Print the GPU's plan instead: memory and tiles for each batch size
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    gpu: GpuOptions,
}

#[derive(Serialize)]
struct Row<'a> {
    layer: &'a str,
    kind: String,
    /// Height, width, channels.
    input: [usize; 3],
    output: [usize; 3],
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
struct Total {
    precision: String,
    layers: usize,
    parameters: u64,
    /// Activations alive at a time.
    arena_bytes: u64,
    #[serde(flatten)]
    cost: Cost,
}

/// Bytes of biases, logits, and what integers are multiplied with: f32 in every precision.
const EXACT_BYTES: u64 = 4;

#[derive(Default, Serialize)]
struct Cost {
    macs: u64,
    weight_bytes: u64,
    read_bytes: u64,
    write_bytes: u64,
}

impl Cost {
    fn new(layer: &Layer, precision: DType) -> Self {
        let LayerCost { macs, weight_len, read_len, write_len } = layer.cost();
        let value_bytes = precision.size_bytes() as u64;
        let exact_len = match layer.op {
            Op::Conv(_) | Op::FullyConnected(_) => layer.output_shape.channels as u64,
            Op::MaxPool | Op::GlobalAveragePool => 0,
        };
        let scale_len = if precision == DType::I8 { exact_len } else { 0 };
        let read_bytes = match layer.input {
            // Only f32 normalises pixels before it computes.
            TensorId::Input if precision != DType::F32 => 1,
            _ => value_bytes,
        };
        let write_bytes = match layer.op {
            Op::FullyConnected(_) => EXACT_BYTES,
            _ => value_bytes,
        };
        Self {
            macs,
            weight_bytes: (weight_len - exact_len) * value_bytes
                + (exact_len + scale_len) * EXACT_BYTES,
            read_bytes: read_len * read_bytes,
            write_bytes: write_len * write_bytes,
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), |sum, cost| Self {
            macs: sum.macs + cost.macs,
            weight_bytes: sum.weight_bytes + cost.weight_bytes,
            read_bytes: sum.read_bytes + cost.read_bytes,
            write_bytes: sum.write_bytes + cost.write_bytes,
        })
    }
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    if !options.plan {
        refuse_unused("without --plan", options.gpu.given())?;
    }
    #[cfg(not(feature = "cuda"))]
    if options.plan {
        anyhow::bail!("inspect --plan: {}", crate::options::NO_GPU);
    }
    let model = options.model.load()?;
    let Size { height, width } = options.model.size(&model);
    let network = model.network(height, width)?;
    let own = CpuOptions::for_model(&model).precision;
    let precision = options.model.precision.unwrap_or(own);
    if precision != DType::I8 {
        // Integers have no weights in floating point: the error is that of computing.
        model.filter(0)?;
    }
    let mut output = BufWriter::new(stdout());
    #[cfg(feature = "cuda")]
    if options.plan {
        let size = Size { height, width };
        let cuda = options.gpu.options(&model, (size, options.model.precision))?;
        crate::gpu_plan::write(&mut output, options.json, &network, &cuda)?;
        output.flush()?;
        return Ok(Outcome::AllAnswered);
    }
    if options.json {
        for layer in network.layers() {
            write_line(&mut output, &row(layer, precision))?;
        }
        write_line(&mut output, &total(&network, precision))?;
    } else {
        write_table(&mut output, &model, &network, precision)?;
    }
    output.flush()?;
    Ok(Outcome::AllAnswered)
}

fn row(layer: &Layer, precision: DType) -> Row<'_> {
    let sides = |shape: Shape| [shape.height, shape.width, shape.channels];
    Row {
        layer: &layer.name,
        kind: kind(layer),
        input: sides(layer.input_shape),
        output: sides(layer.output_shape),
        cost: Cost::new(layer, precision),
    }
}

fn total(network: &Network, precision: DType) -> Total {
    let LayerCost { weight_len, .. } = network.layers().iter().map(Layer::cost).sum();
    Total {
        precision: precision.to_string(),
        layers: network.layers().len(),
        parameters: weight_len,
        arena_bytes: Steps::new(network, precision).arena_bytes() as u64,
        cost: network.layers().iter().map(|layer| Cost::new(layer, precision)).sum(),
    }
}

/// What a layer does, such as `conv 3x3/2 relu`.
fn kind(layer: &Layer) -> String {
    let (kernel, stride, _) = layer.window();
    match layer.op {
        Op::Conv(Conv { residual, relu, .. }) => {
            let stride = if stride > 1 { format!("/{stride}") } else { String::new() };
            let residual = if residual.is_some() { " add" } else { "" };
            let relu = if relu { " relu" } else { "" };
            format!("conv {kernel}x{kernel}{stride}{residual}{relu}")
        }
        Op::MaxPool => format!("max pool {kernel}x{kernel}/{stride}"),
        Op::GlobalAveragePool => "average pool".into(),
        Op::FullyConnected(_) => "fully connected".into(),
    }
}

/// One line a layer, of at most 80 columns.
fn write_table(
    output: &mut impl Write,
    model: &Model,
    network: &Network,
    precision: DType,
) -> io::Result<()> {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    writeln!(output, "{}: ResNet-50 v1.5, one image, {precision}; in MB:", model.path().display())?;
    writeln!(
        output,
        "{:21} {:17} {:>13} {:>5} {:>7} {:>5} {:>5}",
        "layer", "kind", "output", "MMAC", "weights", "read", "write"
    )?;
    for layer in network.layers() {
        let Row { layer, kind, output: [height, width, channels], cost, .. } =
            row(layer, precision);
        writeln!(
            output,
            "{layer:21} {kind:17} {:>13} {:>5} {:>7} {:>5} {:>5}",
            format!("{height}x{width}x{channels}"),
            short(cost.macs as f64 / 1e6),
            short(megabytes(cost.weight_bytes)),
            short(megabytes(cost.read_bytes)),
            short(megabytes(cost.write_bytes)),
        )?;
    }
    let Total { layers, parameters, arena_bytes, cost, .. } = total(network, precision);
    writeln!(
        output,
        "{layers} layers, {:.3} GMAC, {parameters} parameters after folding ({:.1} MB)\n\
         activations: read {:.1} MB, written {:.1} MB, alive at a time {:.1} MB",
        cost.macs as f64 / 1e9,
        megabytes(cost.weight_bytes),
        megabytes(cost.read_bytes),
        megabytes(cost.write_bytes),
        megabytes(arena_bytes),
    )
}

/// Three digits, or what stands before the point.
fn short(figure: f64) -> String {
    let places = if figure < 1.0 {
        3
    } else if figure < 10.0 {
        2
    } else {
        usize::from(figure < 100.0)
    };
    format!("{figure:.places$}")
}
