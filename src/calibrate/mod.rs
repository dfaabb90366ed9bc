//! From a network in floating point and images to one in 8-bit integers: scales, and the file that
//! holds them.
//!
//! [`Calibrator::observe`] computes images in f32 and sees how large each tensor's values are;
//! [`Calibrator::finish`] chooses scales. Invariant: the result follows from weights, and from
//! images as they were handed over, not from threads or time; it was opened as any file, and
//! computed with, before anyone gets it. Knows no file of images and no label.

mod balance;
mod filters;
mod histogram;
mod report;
mod trials;
mod weights;

use filters::Output;
use histogram::Histogram;
pub use histogram::Method;
pub use report::{LayerReport, OutputReport, Report, WeightsReport};
use trials::{Kept, Trials};

use crate::backend::cpu::{Cpu, CpuOptions};
use crate::error::{Error, Kind, Result};
use crate::lower::{DType, Step, Steps, Work};
use crate::model::{Model, Network, Op, Parts};

/// Larger values are refused: squares and sums of them would not be finite.
const VALUE_MAX: f32 = 1e18;

fn are_in_range(values: &[f32]) -> bool {
    values.iter().all(|value| value.abs() < VALUE_MAX)
}

/// What was seen of a step's output, by channel.
struct Seen {
    maxima: Vec<f32>,
    /// Sums of squares.
    squares: Vec<f64>,
    /// Pixels, of all images.
    pixel_len: u64,
    is_finite: bool,
}

impl Seen {
    fn new(step: &Step) -> Self {
        let channels = step.output_shape.channels;
        let (maxima, squares) = (vec![0.0; channels], vec![0.0; channels]);
        Self { maxima, squares, pixel_len: 0, is_finite: true }
    }

    /// Looks at values of any image, whether or not ranges follow from it.
    fn check(&mut self, values: &[f32]) {
        self.is_finite &= are_in_range(values);
    }

    fn add(&mut self, values: &[f32]) {
        for pixel in values.chunks_exact(self.maxima.len()) {
            let channels = self.maxima.iter_mut().zip(&mut self.squares);
            for ((max, sum), &value) in channels.zip(pixel) {
                *max = max.max(value);
                *sum += f64::from(value) * f64::from(value);
            }
        }
        self.pixel_len += (values.len() / self.maxima.len()) as u64;
    }

    /// The largest value when channels are divided by `factors`.
    fn max(&self, factors: &[f32]) -> f32 {
        self.maxima.iter().zip(factors).map(|(max, factor)| max / factor).fold(0.0, f32::max)
    }

    /// As its channels are when they are divided by `factors`.
    fn output(&self, factors: &[f32], histogram: &Histogram) -> Output {
        let square = |(sum, &factor): (&f64, &f32)| {
            sum / self.pixel_len as f64 / (f64::from(factor) * f64::from(factor))
        };
        let squares = self.squares.iter().zip(factors).map(square).collect();
        Output {
            factors: factors.to_vec(),
            squares,
            candidates: histogram.scales(self.max(factors)),
        }
    }
}

/// Looks at what a network's tensors hold, image after image.
pub struct Calibrator<'a> {
    model: &'a Model,
    options: CpuOptions,
    cpu: Cpu,
    network: Network,
    steps: Steps,
    /// By step, but for the last.
    seen: Vec<Seen>,
    /// Whether all logits were in range.
    is_finite: bool,
    kept: Kept,
}

impl<'a> Calibrator<'a> {
    /// Gets ready to compute images of the size in `options`, in f32 whatever precision they name.
    ///
    /// # Errors
    /// `is_weights` for a model that is in 8-bit integers already; otherwise as [`Cpu::new`].
    pub fn new(model: &'a Model, options: &CpuOptions) -> Result<Self> {
        if model.quantized().is_some() {
            let message = "in 8-bit integers already: name the weights that it was calibrated from";
            return Err(Error::new(Kind::Weights, message).in_file(model.path()));
        }
        let options = options.precision(DType::F32);
        let cpu = Cpu::new(model, &options)?;
        let network = model.network(options.height, options.width)?;
        let steps = Steps::new(&network, DType::F32);
        let seen = steps.list[..steps.list.len() - 1].iter().map(Seen::new).collect();
        let kept = Kept::new();
        Ok(Self { model, options, cpu, network, steps, seen, is_finite: true, kept })
    }

    /// Looks at any number of images, as [`Cpu::infer`] takes them, and returns their logits. Of
    /// many images an evenly spread part is kept for [`Calibrator::finish`].
    ///
    /// # Errors
    /// As [`Cpu::infer`]; then none of the images counts.
    pub fn observe(&mut self, images: &[u8]) -> Result<Vec<f32>> {
        let (image_bytes, class_count) = (self.cpu.image_bytes(), self.network.class_count());
        let image_len = images.len() / image_bytes;
        let mut logits = vec![0.0; image_len * class_count];
        if !images.len().is_multiple_of(image_bytes) {
            // Tells what is wrong, and computes nothing.
            self.cpu.infer(images, &mut logits)?;
        }
        let is_for_ranges: Vec<bool> =
            (0..image_len).map(|image| self.kept.is_for_ranges(image)).collect();
        let seen = &mut self.seen;
        // Runs of images of one kind at a time.
        let mut start = 0;
        for run in is_for_ranges.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            let pixels = &images[start * image_bytes..end * image_bytes];
            let logits = &mut logits[start * class_count..end * class_count];
            self.cpu.infer_observed(pixels, logits, &mut |step, values| {
                seen[step].check(values);
                if run[0] {
                    seen[step].add(values);
                }
            })?;
            start = end;
        }
        self.is_finite &= are_in_range(&logits);
        let images = images.chunks_exact(image_bytes).zip(logits.chunks_exact(class_count));
        images.for_each(|(image, logits)| self.kept.add(image, logits));
        Ok(logits)
    }

    /// Chooses all scales and measures what they cost. Calls `progress` with trials made and trials
    /// in all. The same images judge the result: of fewer than some dozen different ones it says
    /// nothing of others, whose values leave the ranges that were seen.
    ///
    /// # Errors
    /// `is_argument` when no image was observed; `is_weights` when a tensor had values beyond 1e18,
    /// when 8-bit integers cannot express the network, or when the weights' file was
    /// changed.
    pub fn finish(self, progress: &mut dyn FnMut(usize, usize)) -> Result<Calibration> {
        self.choose(progress)?.opened()
    }

    fn choose(self, progress: &mut dyn FnMut(usize, usize)) -> Result<Chosen<'a>> {
        self.check()?;
        let Self { model, options, cpu, network, steps, seen, kept, .. } = self;
        let maxima: Vec<&[f32]> = seen.iter().map(|seen| &seen.maxima[..]).collect();
        let factors = balance::factors(&steps, &maxima);
        let mut trials = Trials::new(cpu, kept, factors.clone());
        let histograms = histograms(&mut trials, seen.len())?;
        let mut outputs: Vec<Output> = seen
            .iter()
            .zip(&factors)
            .zip(&histograms)
            .map(|((seen, factors), histogram)| seen.output(factors, histogram))
            .collect();
        let layers = filters::layers(model, &steps, &mut outputs)?;
        let mut chosen = choose(&mut trials, &outputs, progress)?;
        for (index, output) in chosen.iter_mut().enumerate() {
            output.max = seen[index].max(&factors[index]);
            output.error = histograms[index].relative_error(output.scale);
        }
        let written = steps.list.iter().map(|step| written_by(step).to_owned());
        let scales = chosen.iter().map(|output| output.scale);
        let row = |layer: &crate::model::Layer| {
            let filter = match layer.op {
                Op::Conv(conv) => Some(conv.filter),
                Op::FullyConnected(filter) => Some(filter),
                Op::MaxPool | Op::GlobalAveragePool => None,
            };
            let weights = filter.map(|filter| layers[filter].report());
            let step = steps.list.iter().position(|step| written_by(step) == layer.name);
            let output = step.and_then(|step| chosen.get(step).copied());
            LayerReport { name: layer.name.clone(), weights, output }
        };
        let is_row = |layer: &&crate::model::Layer| layer.op != Op::MaxPool;
        let rows = network.layers().iter().filter(is_row).map(row).collect();
        let parts = Parts {
            output_scales: written.zip(scales).collect(),
            filters: layers.into_iter().map(|layer| layer.into_parts()).collect(),
            origin: Vec::new(),
        };
        Ok(Chosen {
            source: model,
            options,
            network,
            parts,
            layers: rows,
            kept: trials.into_kept(),
        })
    }

    /// Whether anything was seen from which scales can follow.
    fn check(&self) -> Result<()> {
        if self.kept.seen_len() == 0 {
            return Err(Error::new(Kind::Argument, "no images: scales follow from what they hold"));
        }
        let are_finite = self.seen.iter().map(|seen| seen.is_finite).chain([self.is_finite]);
        match are_finite.into_iter().position(|is_finite| !is_finite) {
            None => Ok(()),
            Some(step) => {
                let name = written_by(&self.steps.list[step]);
                let message = format!("layer {name}: writes values beyond {VALUE_MAX:e}");
                Err(Error::new(Kind::Weights, message).in_file(self.model.path()))
            }
        }
    }
}

/// The layer that a step's values are of: a pool writes the first layer's.
fn written_by(step: &Step) -> &str {
    match step.work {
        Work::Stem { .. } => "conv1",
        _ => &step.name,
    }
}

/// Which values the kept images have.
fn histograms(trials: &mut Trials, step_len: usize) -> Result<Vec<Histogram>> {
    let mut histograms = vec![Histogram::new(); step_len];
    trials.observe(&mut |step, values| histograms[step].add(values))?;
    Ok(histograms)
}

/// A candidate must take so much of the loss away to replace the first: among some hundred trials
/// on few images some gain a few hundredths by chance, and lose more on rare values that were not
/// seen.
const GAIN_MIN: f64 = 0.1;

/// For each step but the last the candidate with which the logits lose clearly less than with the
/// first, in execution order, while all other tensors are rounded as chosen so far.
fn choose(
    trials: &mut Trials,
    outputs: &[Output],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<OutputReport>> {
    let trial_len: usize = outputs.iter().map(|output| output.candidates.len()).sum();
    let scale_of = |step: usize, choice: usize| Some(outputs[step].candidates[choice].1);
    let mut choices = vec![0; outputs.len()];
    let mut scales: Vec<_> = (0..outputs.len()).map(|step| scale_of(step, 0)).collect();
    let (mut least, mut rough_least) = (trials.loss(&scales)?, trials.rough_loss(&scales)?);
    let mut done_len = 0;
    for step in 0..outputs.len() {
        for choice in 1..outputs[step].candidates.len() {
            scales[step] = scale_of(step, choice);
            let rough_loss = trials.rough_loss(&scales)?;
            // Most gain nothing on few images either: the others are spared.
            if rough_loss < rough_least {
                let loss = trials.loss(&scales)?;
                if loss < least * (1.0 - GAIN_MIN) {
                    (least, rough_least, choices[step]) = (loss, rough_loss, choice);
                }
            }
            done_len += 1;
            progress(done_len, trial_len);
        }
        scales[step] = scale_of(step, choices[step]);
    }
    let mut chosen = Vec::with_capacity(outputs.len());
    for (step, output) in outputs.iter().enumerate() {
        let mut alone = vec![None; outputs.len()];
        alone[step] = scales[step];
        let (method, scale) = output.candidates[choices[step]];
        let loss = trials.loss(&alone)?;
        chosen.push(OutputReport { max: 0.0, scale, method, error: 0.0, loss });
        done_len += 1;
        progress(done_len, trial_len);
    }
    Ok(chosen)
}

/// A network in 8-bit integers that is ready to be written.
pub struct Calibration {
    parts: Parts,
    network: Network,
    model: Model,
    report: Report,
}

/// What a file follows from.
struct Chosen<'a> {
    source: &'a Model,
    options: CpuOptions,
    network: Network,
    parts: Parts,
    layers: Vec<LayerReport>,
    kept: Kept,
}

impl Chosen<'_> {
    /// Opened as a file would be, and computed with.
    fn opened(self) -> Result<Calibration> {
        let Self { source, options, network, parts, layers, kept } = self;
        let name = format!("the 8-bit integers made of {}", source.path().display());
        let bytes = parts.to_bytes(&network, source.config());
        let model = Model::from_bytes(&name, bytes, source.config().clone())?;
        let report = Report { layers, ..kept.compare(&model, &options)? };
        Ok(Calibration { parts, network, model, report })
    }
}

impl Calibration {
    /// What was chosen and what it costs.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The network, ready to be computed with.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The bytes of a safetensors file, which [`Model::load`] opens. `origin` are entries of its
    /// header, for people.
    pub fn to_bytes(&mut self, origin: Vec<(String, String)>) -> Vec<u8> {
        self.parts.origin = origin;
        self.parts.to_bytes(&self.network, self.model.config())
    }
}

#[cfg(test)]
mod tests;
