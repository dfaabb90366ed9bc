//! What a calibration tells: a line a layer, and figures of all images in both precisions.
//!
//! Knows nothing of what may be lost.

use std::io::{self, Write};

use serde::Serialize;
use twinstream::calibrate::{LayerReport, Report};
use twinstream::model::top_k;

use super::Job;
use crate::table;

/// An image counts where its class is among so many, the most probable.
const TOP_LEN: usize = 5;

/// A layer's line.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    layer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<WeightsRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<OutputRow>,
}

#[derive(Serialize)]
struct WeightsRow {
    error: f64,
    cut_channels: usize,
}

#[derive(Serialize)]
struct OutputRow {
    max: f64,
    scale: f64,
    method: &'static str,
    error: f64,
    loss: f64,
}

impl<'a> Row<'a> {
    pub(super) fn new(layer: &'a LayerReport) -> Self {
        let weights = layer.weights.map(|weights| WeightsRow {
            error: table::round(weights.error),
            cut_channels: weights.cut_len,
        });
        let output = layer.output.map(|output| OutputRow {
            max: table::round(output.max.into()),
            scale: table::round(output.scale.into()),
            method: output.method.name(),
            error: table::round(output.error),
            loss: table::round(output.loss),
        });
        Self { layer: &layer.name, weights, output }
    }
}

/// Shares of 1 in one precision.
#[derive(Serialize)]
pub(super) struct Accuracy {
    pub(super) top1: f64,
    pub(super) top5: f64,
}

impl Accuracy {
    pub(super) fn new(logits: &[f32], labels: &[usize]) -> Self {
        let (mut top1_len, mut top5_len) = (0, 0);
        for (logits, label) in logits.chunks_exact(logits.len() / labels.len()).zip(labels) {
            let top = top_k(logits, TOP_LEN);
            top1_len += usize::from(top[0].index == *label);
            top5_len += usize::from(top.iter().any(|class| class.index == *label));
        }
        let share = |len: usize| len as f64 / labels.len() as f64;
        Self { top1: share(top1_len), top5: share(top5_len) }
    }
}

/// What all images tell.
#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) images: usize,
    /// Those that differ as the network sees them.
    pub(super) distinct: usize,
    pub(super) left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) f32: Option<Accuracy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) i8: Option<Accuracy>,
    /// Share of images with the same most probable class.
    pub(super) agreement: f64,
    /// The logits' mean squared error.
    pub(super) loss: f64,
    /// The logits' mean square about their mean.
    pub(super) variance: f64,
}

impl Summary {
    pub(super) fn new(job: &Job, class_count: usize, expected: &[f32], found: &[f32]) -> Self {
        let accuracy = |logits| job.labels.as_ref().map(|labels| Accuracy::new(logits, labels));
        let best = |logits: &[f32]| top_k(logits, 1)[0].index;
        let pairs = expected.chunks_exact(class_count).zip(found.chunks_exact(class_count));
        let same_len = pairs.filter(|(a, b)| best(a) == best(b)).count();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / found.len() as f64;
        let middle = mean(&mut expected.iter().copied().map(f64::from));
        let squares = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
        Self {
            images: job.paths.len(),
            distinct: job.distinct.len(),
            left_out: job.left_out.len,
            f32: accuracy(expected),
            i8: accuracy(found),
            agreement: same_len as f64 / job.paths.len() as f64,
            loss: table::round(mean(&mut expected.iter().zip(found).map(squares))),
            variance: table::round(mean(
                &mut expected.iter().map(|&logit| (f64::from(logit) - middle).powi(2)),
            )),
        }
    }
}

pub(super) fn write_tables(
    output: &mut impl Write,
    report: &Report,
    summary: &Summary,
) -> io::Result<()> {
    let columns: [table::Column<LayerReport>; 6] = [
        ("layer", |layer| layer.name.clone()),
        ("weights' error", |layer| layer.weights.map_or_else(String::new, |w| small(w.error))),
        ("largest", |layer| layer.output.map_or_else(String::new, |o| format!("{:.3}", o.max))),
        ("method", |layer| layer.output.map_or_else(String::new, |o| o.method.name().to_owned())),
        ("error", |layer| layer.output.map_or_else(String::new, |o| small(o.error))),
        ("loss alone", |layer| layer.output.map_or_else(String::new, |o| small(o.loss))),
    ];
    writeln!(output, "{}\n", table::text(&columns, 1, &report.layers))?;
    writeln!(output, "images     {:9}", summary.images)?;
    if let (Some(f32), Some(i8)) = (&summary.f32, &summary.i8) {
        writeln!(output, "                 f32         i8")?;
        for (name, f32, i8) in [("top-1", f32.top1, i8.top1), ("top-5", f32.top5, i8.top5)] {
            writeln!(output, "{name}      {:9.2} % {:9.2} %", 100.0 * f32, 100.0 * i8)?;
        }
    }
    writeln!(output, "agreement  {:9.2} %", 100.0 * summary.agreement)?;
    let Summary { loss, variance, .. } = summary;
    writeln!(output, "logits     {loss:9.5} mean squared error, of {variance:.3}")
}

/// An error beside what it is an error of.
fn small(share: f64) -> String {
    format!("{share:.1e}")
}
