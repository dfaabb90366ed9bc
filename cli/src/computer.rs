//! What computes the subcommands' batches: an engine around the processor or a GPU.
//!
//! Invariant: answers come in the order of the images. The processor gives logits, a GPU what was
//! asked for. On the processor each batch is computed as one, so that an answer depends on no
//! timing.

#[cfg(feature = "cuda")]
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(feature = "cuda")]
use anyhow::Context;
use anyhow::bail;
use clap::{Args, ValueEnum};
use twinstream::backend::cpu::CpuOptions;
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{
    CudaOptions, DeviceId, Tuning, Verdicts, tuning_path, verdicts_path,
};
use twinstream::backend::{BackendSpec, OpenOptions};
use twinstream::engine::{Engine, EngineOptions, RequestOptions};
use twinstream::image::{DecodeOptions, Preprocess};
use twinstream::lower::DType;
use twinstream::model::{Answer, Class, Model, top_k, top_k_of};
use twinstream::sched::{Decision, Line, Policy, Reason, Stages, View};

#[cfg(feature = "cuda")]
use crate::options::arguments;
use crate::options::{Given, ModelOptions, NO_GPU, Size, parse_count, parse_pixels, refuse_unused};
use crate::outcome::Usage;
use crate::reader::Preparation;

/// Where and how the network is computed.
#[derive(Args)]
pub struct BackendOptions {
    /// What computes
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    backend: Backend,
    /// Threads that compute [default: one for every processor]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub threads: Option<usize>,
    /// Images that are computed at once
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = 16)]
    pub batch: usize,
    /// Largest image that is read, in megapixels (millions of pixels) [default: 178.96]
    #[arg(long, value_name = "MEGAPIXELS", value_parser = parse_pixels)]
    pub pixels_max: Option<usize>,
    #[command(flatten)]
    pub gpu: GpuOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    Cpu,
    Cuda,
}

/// Which GPU, and how it is launched.
#[derive(Args)]
pub struct GpuOptions {
    /// GPU, by its number or by its UUID as `nvidia-smi -L` prints it [default: 0]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Tiles that `twinstream tune` measured, and beside them, with .verdicts.json for its suffix,
    /// what `twinstream prove` found [default: tuning.json in twinstream's cache folder]
    #[arg(long, value_name = "FILE")]
    pub tuning: Option<PathBuf>,
    /// Launch kernels one by one, for profilers that replay them
    #[arg(long)]
    pub no_graphs: bool,
}

impl BackendOptions {
    /// Refuses options that the backend does not use; threads decode images beside any.
    pub fn check(&self) -> Result<(), Usage> {
        match self.backend {
            Backend::Cpu => refuse_unused("with --backend cpu", self.gpu.given()),
            Backend::Cuda => Ok(()),
        }
    }
}

impl GpuOptions {
    /// Its options, and whether they were given.
    pub fn given(&self) -> [Given; 3] {
        [
            ("--device", self.device.is_some()),
            ("--tuning", self.tuning.is_some()),
            ("--no-graphs", self.no_graphs),
        ]
    }

    /// Adds them to those of a GPU; the others have no use for them.
    pub fn add(&self, spec: &BackendSpec, options: OpenOptions) -> anyhow::Result<OpenOptions> {
        match spec {
            #[cfg(feature = "cuda")]
            BackendSpec::Cuda { .. } => {
                let (device, tuning, verdicts) = self.known()?;
                let options = options.device(device).tuning(tuning).verdicts(verdicts);
                Ok(options.graphs(!self.no_graphs))
            }
            _ => Ok(options),
        }
    }
}

#[cfg(feature = "cuda")]
impl GpuOptions {
    /// As the library takes them, for images of this size, in the model's own precision unless told
    /// otherwise.
    pub fn options(
        &self,
        model: &Model,
        (size, precision): (Size, Option<DType>),
    ) -> anyhow::Result<CudaOptions> {
        let (device, tuning, verdicts) = self.known()?;
        let options = CudaOptions::for_model(model).height(size.height).width(size.width);
        let precision = precision.unwrap_or(options.precision);
        let options = options.precision(precision).device(device);
        Ok(options.tuning(tuning).verdicts(verdicts).graphs(!self.no_graphs))
    }

    /// As another process of this program is told them.
    pub fn arguments(&self) -> Vec<OsString> {
        arguments([
            ("--device", self.device.clone().map(OsString::from)),
            ("--tuning", self.tuning.clone().map(PathBuf::into_os_string)),
        ])
    }

    /// The device, and what was measured and proven of it.
    fn known(&self) -> anyhow::Result<(DeviceId, Tuning, Verdicts)> {
        let device = self.device.as_deref().map_or(Ok(DeviceId::Index(0)), str::parse)?;
        let (tuning, verdicts) = match &self.tuning {
            Some(path) => (Tuning::load(path)?, Verdicts::load(&verdicts_path(path))?),
            None => (Tuning::stored()?, Verdicts::stored()?),
        };
        Ok((device, tuning, verdicts))
    }

    /// The file that was named, or the usual one.
    pub fn tuning_path(&self) -> anyhow::Result<PathBuf> {
        let path = self.tuning.clone().or_else(tuning_path);
        path.context("neither HOME nor XDG_CACHE_HOME is set: name a file with --tuning")
    }
}

/// What no policy looks at.
const FREE: Line = Line::new(0.0, 0.0);

/// Says so where this build cannot open the backend.
pub fn refuse_unbuilt(spec: &BackendSpec) -> anyhow::Result<()> {
    if !spec.is_built() {
        bail!("--backend cuda: {NO_GPU}");
    }
    Ok(())
}

/// Waits for all images that were announced, and computes them as one batch.
#[derive(Debug)]
struct Whole {
    len: Arc<AtomicUsize>,
}

impl Policy for Whole {
    fn upload(&self, view: &View<'_>) -> Decision {
        // Relaxed: the ring orders a request behind what was announced before.
        let len = self.len.load(Ordering::Relaxed);
        match view.waiting_len < len {
            true => Decision::HOLD,
            false => Decision::Go { len, reason: Reason::Full },
        }
    }
}

/// A network that is ready to run.
pub struct Computer {
    engine: Engine,
    /// Images that the engine takes at a time.
    slot_len: usize,
    /// What [`Whole`] waits for.
    announced: Arc<AtomicUsize>,
    /// What it answers an image with.
    answer: Answer,
    /// What it computes in.
    pub precision: DType,
}

impl Computer {
    /// The network, and the threads that may decode images beside it. No more than `answer` is
    /// wanted of an image.
    pub fn open(
        model: &Model,
        (size, precision): (Size, Option<DType>),
        answer: Answer,
        options: &BackendOptions,
    ) -> anyhow::Result<(Self, usize)> {
        let (spec, answer) = match (options.backend, answer) {
            // To rank them costs nothing beside the network.
            (Backend::Cpu, _) => (BackendSpec::Cpu { threads: None }, Answer::Logits),
            (Backend::Cuda, Answer::TopK(count)) => {
                (BackendSpec::Cuda { index: None }, Answer::TopK(count.min(model.class_count())))
            }
            (Backend::Cuda, answer) => (BackendSpec::Cuda { index: None }, answer),
        };
        refuse_unbuilt(&spec)?;
        let threads = options.threads.unwrap_or_else(|| CpuOptions::for_model(model).threads);
        let open = OpenOptions::default()
            .size(Some((size.height, size.width)))
            .threads(Some(threads))
            .precision(precision)
            .answer(answer);
        let open = options.gpu.add(&spec, open)?;
        let precision = spec.precision(model, &open).expect("a network is computed");
        let backend = spec.open(Some(model), &open)?;
        let batch_len_max = backend.geometry().batch_len_max;
        let engine_options = EngineOptions::default().batch_len_max(options.batch);
        let announced = Arc::new(AtomicUsize::new(0));
        let (engine, slot_len) = match options.backend {
            Backend::Cuda => {
                (Engine::start(backend, &engine_options.slot_len(options.batch))?, options.batch)
            }
            Backend::Cpu => {
                let slot_len = options.batch.min(batch_len_max);
                let engine_options = engine_options
                    .slot_len(slot_len)
                    // However large the images and slow the processor.
                    .stall_timeout(Duration::MAX)
                    // The policy does not look at them: nothing is to be measured.
                    .costs(Some(Stages { upload: FREE, compute: FREE, download: FREE }));
                let policy = Whole { len: Arc::clone(&announced) };
                let engine = Engine::start_with_policy(backend, &engine_options, Box::new(policy))?;
                (engine, slot_len)
            }
        };
        Ok((Self { engine, slot_len, announced, answer, precision }, threads))
    }

    /// Bytes of an image.
    pub fn image_bytes(&self) -> usize {
        self.engine.geometry().image_bytes
    }

    /// Values of an answer.
    pub fn answer_len(&self) -> usize {
        self.engine.geometry().result_len
    }

    /// The most probable classes that an answer names, at most so many, best first.
    pub fn classes(&self, answer: &[f32], count: usize) -> Vec<Class> {
        match self.answer {
            Answer::Logits => top_k(answer, count),
            Answer::TopK(_) => top_k_of(answer).take(count).collect(),
        }
    }

    /// The answers to the images.
    pub fn infer(&mut self, images: &[u8], answers: &mut [f32]) -> anyhow::Result<()> {
        let images = images.chunks(self.slot_len * self.image_bytes());
        for (images, answers) in images.zip(answers.chunks_mut(self.slot_len * self.answer_len())) {
            self.infer_at_once(images, answers)?;
        }
        Ok(())
    }

    fn infer_at_once(&mut self, images: &[u8], answers: &mut [f32]) -> anyhow::Result<()> {
        let Self { engine, announced, .. } = self;
        let geometry = engine.geometry();
        announced.store(images.len() / geometry.image_bytes, Ordering::Relaxed);
        let submit = |image| engine.submit(image, RequestOptions::default());
        let images = images.chunks_exact(geometry.image_bytes);
        let tickets: Vec<_> = images.map(submit).collect::<Result<_, _>>()?;
        for (ticket, answer) in
            tickets.into_iter().zip(answers.chunks_exact_mut(geometry.result_len))
        {
            match ticket.wait() {
                Ok(result) => answer.copy_from_slice(&result),
                Err(failure) => match engine.fault() {
                    Some(fault) => bail!("{failure}: {fault}"),
                    None => bail!(failure),
                },
            }
        }
        Ok(())
    }
}

/// A network that is ready to run, and the way of an image into it.
pub struct Classifier {
    pub model: Model,
    pub computer: Computer,
    pub preprocess: Preparation,
    pub threads: usize,
}

impl Classifier {
    pub fn open(
        options: &ModelOptions,
        backend: &BackendOptions,
        answer: Answer,
    ) -> anyhow::Result<Self> {
        backend.check()?;
        let model = options.load()?;
        let size = options.size(&model);
        let (computer, threads) =
            Computer::open(&model, (size, options.precision), answer, backend)?;
        let Size { height, width } = size;
        let crop = Preprocess { height, width, ..Preprocess::for_model(model.config()) };
        let decode = backend.pixels_max.map_or_else(DecodeOptions::default, |pixels_max| {
            DecodeOptions::default().pixels_max(pixels_max)
        });
        let preprocess = Preparation { decode, crop };
        Ok(Self { computer, preprocess, threads, model })
    }
}
