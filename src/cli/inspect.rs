//! `twinstream inspect`: the layer table of a network, with shapes, costs and totals.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::Serialize;
use twinstream::lower::Steps;
use twinstream::model::{Conv, Layer, LayerCost, Model, Network, Op, Shape};

use crate::classify::write_line;
use crate::options::{ModelOptions, Size};
use crate::outcome::Outcome;
use crate::output::stdout;

/// The CPU backend computes in FP32.
const VALUE_BYTES: u64 = size_of::<f32>() as u64;

/// Print a network's layers with shapes, multiply-accumulates, bytes and totals
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// One JSON object a layer, then one with the totals; sizes in bytes of FP32, for one image
    #[arg(long)]
    json: bool,
    /// Print the GPU's plan instead: memory and tiles for each batch size
    #[cfg(feature = "cuda")]
    #[arg(long)]
    plan: bool,
    #[cfg(feature = "cuda")]
    #[command(flatten)]
    gpu: crate::computer::GpuOptions,
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
    layers: usize,
    parameters: u64,
    /// Activations alive at a time.
    arena_bytes: u64,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
struct Cost {
    macs: u64,
    weight_bytes: u64,
    read_bytes: u64,
    write_bytes: u64,
}

impl From<LayerCost> for Cost {
    fn from(cost: LayerCost) -> Self {
        Self {
            macs: cost.macs,
            weight_bytes: cost.weight_len * VALUE_BYTES,
            read_bytes: cost.read_len * VALUE_BYTES,
            write_bytes: cost.write_len * VALUE_BYTES,
        }
    }
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let model = options.model.load()?;
    let Size { height, width } = options.model.size(&model);
    let network = model.network(height, width)?;
    let mut output = BufWriter::new(stdout());
    #[cfg(feature = "cuda")]
    if options.plan {
        let size = Size { height, width };
        crate::gpu_plan::write(&mut output, options.json, &network, &options.gpu.options(size)?)?;
        output.flush()?;
        return Ok(Outcome::AllAnswered);
    }
    if options.json {
        for layer in network.layers() {
            write_line(&mut output, &row(layer))?;
        }
        write_line(&mut output, &total(&network))?;
    } else {
        write_table(&mut output, &model, &network)?;
    }
    output.flush()?;
    Ok(Outcome::AllAnswered)
}

fn row(layer: &Layer) -> Row<'_> {
    let sides = |shape: Shape| [shape.height, shape.width, shape.channels];
    Row {
        layer: &layer.name,
        kind: kind(layer),
        input: sides(layer.input_shape),
        output: sides(layer.output_shape),
        cost: layer.cost().into(),
    }
}

fn total(network: &Network) -> Total {
    let cost: LayerCost = network.layers().iter().map(Layer::cost).sum();
    Total {
        layers: network.layers().len(),
        parameters: cost.weight_len,
        arena_bytes: Steps::new(network).arena_len as u64 * VALUE_BYTES,
        cost: cost.into(),
    }
}

/// What a layer does, such as `conv 3x3/2 + relu`.
fn kind(layer: &Layer) -> String {
    let (kernel, stride, _) = layer.window();
    match layer.op {
        Op::Conv(Conv { residual, relu, .. }) => {
            let residual = if residual.is_some() { " + residual" } else { "" };
            let relu = if relu { " + relu" } else { "" };
            format!("conv {kernel}x{kernel}/{stride}{residual}{relu}")
        }
        Op::MaxPool => format!("max pool {kernel}x{kernel}/{stride}"),
        Op::GlobalAveragePool => "global average pool".into(),
        Op::FullyConnected(_) => "fully connected".into(),
    }
}

fn write_table(output: &mut impl Write, model: &Model, network: &Network) -> io::Result<()> {
    let shape = |[height, width, channels]: [usize; 3]| format!("{height}x{width}x{channels}");
    let kilobytes = |bytes: u64| bytes as f64 / 1e3;
    writeln!(output, "{}: ResNet-50 v1.5, one image, FP32", model.path().display())?;
    writeln!(
        output,
        "{:21} {:28} {:>12} {:>12} {:>9} {:>10} {:>9} {:>9}",
        "layer", "kind", "input", "output", "MMAC", "weights kB", "read kB", "write kB"
    )?;
    for layer in network.layers() {
        let Row { layer, kind, input, output: to, cost } = row(layer);
        writeln!(
            output,
            "{layer:21} {kind:28} {:>12} {:>12} {:9.3} {:10.1} {:9.1} {:9.1}",
            shape(input),
            shape(to),
            cost.macs as f64 / 1e6,
            kilobytes(cost.weight_bytes),
            kilobytes(cost.read_bytes),
            kilobytes(cost.write_bytes),
        )?;
    }
    let Total { layers, parameters, arena_bytes, cost } = total(network);
    writeln!(
        output,
        "{layers} layers, {:.3} GMAC, {parameters} parameters after folding, weights {:.1} MB, \
         activations read {:.1} MB and written {:.1} MB, {:.1} MB alive at a time",
        cost.macs as f64 / 1e9,
        kilobytes(cost.weight_bytes) / 1e3,
        kilobytes(cost.read_bytes) / 1e3,
        kilobytes(cost.write_bytes) / 1e3,
        kilobytes(arena_bytes) / 1e3,
    )
}
