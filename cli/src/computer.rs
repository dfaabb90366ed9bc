//! What computes the subcommands' batches: the processor itself, or an engine around a GPU.
//!
//! Invariant: answers come in the order of the images. The processor gives logits, a GPU what was
//! asked for.

use std::path::PathBuf;

#[cfg(feature = "cuda")]
use anyhow::Context;
use anyhow::bail;
use clap::{Args, ValueEnum};
use twinstream::backend::cpu::{Cpu, CpuOptions};
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{CudaDevice, CudaOptions, DeviceId, Tuning, tuning_path};
#[cfg(feature = "cuda")]
use twinstream::engine::EngineOptions;
use twinstream::engine::{Engine, RequestOptions};
use twinstream::model::{Answer, Class, Model, top_k, top_k_of};

#[cfg(not(feature = "cuda"))]
use crate::options::NO_GPU;
use crate::options::{Given, Size, parse_count, parse_pixels, refuse_unused};
use crate::outcome::Usage;

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
    /// Tiles that `twinstream tune` measured [default: tuning.json in twinstream's cache folder]
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
}

#[cfg(feature = "cuda")]
impl GpuOptions {
    /// As the library takes them.
    pub fn options(&self, size: Size) -> anyhow::Result<CudaOptions> {
        let device = self.device.as_deref().map_or(Ok(DeviceId::Index(0)), str::parse)?;
        let tuning = self.tuning.as_deref().map_or_else(Tuning::stored, Tuning::load)?;
        let Size { height, width } = size;
        let graphs = !self.no_graphs;
        Ok(CudaOptions { device, height, width, graphs, tuning, answer: Answer::default() })
    }

    /// The file that was named, or the usual one.
    pub fn tuning_path(&self) -> anyhow::Result<PathBuf> {
        let path = self.tuning.clone().or_else(tuning_path);
        path.context("neither HOME nor XDG_CACHE_HOME is set: name a file with --tuning")
    }
}

/// A network that is ready to run.
pub struct Computer {
    device: Device,
    /// What it answers an image with.
    answer: Answer,
    class_count: usize,
}

enum Device {
    Cpu(Box<Cpu>),
    Gpu(Box<Engine>),
}

impl Computer {
    /// The network, and the threads that may decode images beside it. No more than `answer` is
    /// wanted of an image.
    pub fn open(
        model: &Model,
        size: Size,
        answer: Answer,
        options: &BackendOptions,
    ) -> anyhow::Result<(Self, usize)> {
        let Size { height, width } = size;
        let class_count = model.class_count();
        let mut cpu = CpuOptions { height, width, ..CpuOptions::for_model(model) };
        cpu.threads = options.threads.unwrap_or(cpu.threads);
        let (device, answer) = match options.backend {
            // To rank them costs nothing beside the network.
            Backend::Cpu => (Device::Cpu(Box::new(Cpu::new(model, &cpu)?)), Answer::Logits),
            Backend::Cuda => {
                let answer = match answer {
                    Answer::Logits => answer,
                    Answer::TopK(count) => Answer::TopK(count.min(class_count)),
                };
                (Device::Gpu(Box::new(open_gpu(model, size, answer, options)?)), answer)
            }
        };
        Ok((Self { device, answer, class_count }, cpu.threads))
    }

    /// Bytes of an image.
    pub fn image_bytes(&self) -> usize {
        match &self.device {
            Device::Cpu(cpu) => cpu.image_bytes(),
            Device::Gpu(engine) => engine.geometry().image_bytes,
        }
    }

    /// Values of an answer.
    pub fn answer_len(&self) -> usize {
        match &self.device {
            Device::Cpu(_) => self.class_count,
            Device::Gpu(engine) => engine.geometry().result_len,
        }
    }

    /// The most probable classes that an answer names, at most so many, best first.
    pub fn classes(&self, answer: &[f32], count: usize) -> Vec<Class> {
        match self.answer {
            Answer::Logits => top_k(answer, count),
            Answer::TopK(_) => top_k_of(answer).take(count).collect(),
        }
    }

    /// The answers to at most as many images as a batch was said to have.
    pub fn infer(&mut self, images: &[u8], answers: &mut [f32]) -> anyhow::Result<()> {
        let engine = match &mut self.device {
            Device::Cpu(cpu) => return Ok(cpu.infer(images, answers)?),
            Device::Gpu(engine) => engine,
        };
        let geometry = engine.geometry();
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

#[cfg(feature = "cuda")]
fn open_gpu(
    model: &Model,
    size: Size,
    answer: Answer,
    options: &BackendOptions,
) -> anyhow::Result<Engine> {
    let cuda = CudaOptions { answer, ..options.gpu.options(size)? };
    let device = CudaDevice::new(model, &cuda)?;
    let (slot_len, batch_len_max) = (options.batch, options.batch);
    let options = EngineOptions { slot_len, batch_len_max, ..EngineOptions::default() };
    Ok(Engine::start(device, &options)?)
}

#[cfg(not(feature = "cuda"))]
fn open_gpu(_: &Model, _: Size, _: Answer, _: &BackendOptions) -> anyhow::Result<Engine> {
    bail!("--backend cuda: {NO_GPU}")
}
