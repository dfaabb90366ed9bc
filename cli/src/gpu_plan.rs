//! `twinstream inspect --plan`: what the GPU is to do for each batch size, and the memory it takes.

use std::collections::BTreeSet;
use std::io::Write;
use std::iter;

use serde::Serialize;
use twinstream::backend::cuda::{
    Case, ConvSummary, CudaOptions, DeviceId, DeviceInfo, PlanSummary, Unproven, devices,
    plan_summaries,
};
use twinstream::model::Network;

use crate::classify::write_line;
use crate::table::lay_out;

#[derive(Serialize)]
struct Plan<'a> {
    device: &'a str,
    batch_len: usize,
    chunk_len: Option<usize>,
    weight_bytes: usize,
    activation_bytes: usize,
    workspace_bytes: usize,
    peak_bytes: usize,
    convs: Vec<Conv<'a>>,
    unproven: Vec<Without<'a>>,
}

#[derive(Serialize)]
struct Conv<'a> {
    layer: &'a str,
    kernel: &'a str,
    block_len: u32,
    split_len: u32,
    is_proven: bool,
}

/// A kernel that the plan goes without, as it is not proven.
#[derive(Serialize)]
struct Without<'a> {
    layer: &'a str,
    kernel: &'a str,
    split_len: u32,
    /// Why it was refused, where it was tried.
    refusal: Option<&'a str>,
}

/// Plans for the device that was asked for, or an H100 where there is none.
pub fn write(
    output: &mut impl Write,
    json: bool,
    network: &Network,
    options: &CudaOptions,
) -> anyhow::Result<()> {
    let is_asked = |info: &DeviceInfo| match options.device {
        DeviceId::Index(index) => info.index == index,
        DeviceId::Uuid(uuid) => info.uuid == uuid,
    };
    let found = devices().ok().and_then(|devices| devices.into_iter().find(is_asked));
    let is_there = found.is_some();
    let device = found.unwrap_or_else(DeviceInfo::h100);
    let known = (&options.tuning, &options.verdicts);
    let plans = plan_summaries(network, options.precision, &device, known)?;
    if json {
        return plans.iter().try_for_each(|plan| write_line(output, &row(&device, plan)));
    }
    let absent = if is_there { "" } else { ", which is not there" };
    writeln!(output, "plan for {}{absent}; megabytes without the input ring", device.name)?;
    for plan in &plans {
        let PlanSummary { batch_len, activation_bytes, workspace_bytes, peak_bytes, .. } = plan;
        let chunks = plan.chunk_len.map_or_else(String::new, |chunk_len| {
            format!(", layers 1 and 2 in chunks of {chunk_len}")
        });
        let megabytes = |bytes: usize| bytes as f64 / 1e6;
        writeln!(
            output,
            "batch {batch_len:3}  peak {:8.1} MB: activations {:8.1}, partial sums {:6.1}{chunks}",
            megabytes(*peak_bytes),
            megabytes(*activation_bytes),
            megabytes(*workspace_bytes)
        )?;
    }
    writeln!(output, "\ntile (pixels x channels) / split, by batch size")?;
    let layers = plans[0].convs.iter().map(|conv| conv.layer.clone());
    let mut columns: Vec<Vec<String>> =
        vec![iter::once("layer".to_owned()).chain(layers).collect()];
    columns.extend(plans.iter().map(|plan| {
        let tile = |ConvSummary { kernel, split_k, .. }: &ConvSummary| {
            format!("{}/{split_k}", kernel.trim_start_matches("conv_"))
        };
        iter::once(plan.batch_len.to_string()).chain(plan.convs.iter().map(tile)).collect()
    }));
    writeln!(output, "{}", lay_out(&columns, 1))?;
    write_proofs(output, &plans)
}

/// Which kernels are used because they were proven, and which are not, and why.
fn write_proofs(output: &mut impl Write, plans: &[PlanSummary]) -> anyhow::Result<()> {
    let convs = plans.iter().flat_map(|plan| &plan.convs);
    let proven: BTreeSet<_> = convs.filter(|conv| conv.is_proven).map(|conv| conv.kernel).collect();
    let unproven = || plans.iter().flat_map(|plan| &plan.unproven);
    let untried = || unproven().filter(|it| it.refusal.is_none());
    let kernels: BTreeSet<_> = untried().map(|it| it.case.kernel.as_str()).collect();
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    if !proven.is_empty() {
        writeln!(output, "\nused as proven: {}", list(proven))?;
    }
    if !kernels.is_empty() {
        writeln!(
            output,
            "\nnot proven in {} places (run `twinstream prove`): {}",
            untried().count(),
            list(kernels)
        )?;
    }
    for Unproven { case, refusal } in unproven() {
        if let Some(refusal) = refusal {
            let Case { layer, kernel, batch_len, .. } = case;
            writeln!(output, "{kernel} refused at {layer}, batch {batch_len}: {refusal}")?;
        }
    }
    Ok(())
}

fn row<'a>(device: &'a DeviceInfo, plan: &'a PlanSummary) -> Plan<'a> {
    let conv = |conv: &'a ConvSummary| Conv {
        layer: &conv.layer,
        kernel: conv.kernel,
        block_len: conv.block_len,
        split_len: conv.split_k,
        is_proven: conv.is_proven,
    };
    let without = |unproven: &'a Unproven| Without {
        layer: &unproven.case.layer,
        kernel: &unproven.case.kernel,
        split_len: unproven.case.split_k,
        refusal: unproven.refusal.as_deref(),
    };
    Plan {
        device: &device.name,
        batch_len: plan.batch_len,
        chunk_len: plan.chunk_len,
        weight_bytes: plan.weight_bytes,
        activation_bytes: plan.activation_bytes,
        workspace_bytes: plan.workspace_bytes,
        peak_bytes: plan.peak_bytes,
        convs: plan.convs.iter().map(conv).collect(),
        unproven: plan.unproven.iter().map(without).collect(),
    }
}
