//! Backends by their words, and engines on them: `cpu`, `null`, `sim:DEVICE`, `cuda`.
//!
//! The one place that knows which backends there are. Knows nothing of loads and figures.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions};
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{CudaDevice, CudaOptions};
use twinstream::backend::{Backend, Geometry, Null};
use twinstream::engine::{Engine, EngineOptions};
use twinstream::image::Preprocess;
use twinstream::model::Model;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::words::did_you_mean;

use super::device::SimulatedDevice;
use super::images;
use super::watched::{Batches, Watched};
use crate::computer::GpuOptions;
use crate::options::{ModelOptions, Size, parse_count, refuse_unused};
use crate::outcome::Usage;

/// Images and results where no network says otherwise: those of CIFAR-10.
const GEOMETRY: Geometry =
    Geometry { image_bytes: 32 * 32 * 3, result_len: 10, batch_len_max: 256 };

/// Which backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BackendWords {
    Cpu,
    Cuda,
    Null,
    Simulated(Box<DeviceSpec>),
}

impl FromStr for BackendWords {
    type Err = anyhow::Error;

    fn from_str(words: &str) -> anyhow::Result<Self> {
        Ok(match words.split_once(':') {
            Some(("sim", device)) => Self::Simulated(Box::new(device.parse()?)),
            None if words == "cpu" => Self::Cpu,
            None if words == "cuda" => Self::Cuda,
            None if words == "null" => Self::Null,
            _ => {
                let kind = words.split(':').next().unwrap_or_default();
                let guess = did_you_mean(kind, ["cpu", "cuda", "null", "sim"]);
                bail!("`{words}`: not a backend; backends are cpu, cuda, null, sim:DEVICE{guess}")
            }
        })
    }
}

/// What a backend is opened with beyond its words.
#[derive(clap::Args)]
pub(crate) struct OpenOptions {
    #[command(flatten)]
    model: ModelOptions,
    /// Threads that compute on the CPU [default: one for every processor]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    threads: Option<usize>,
    /// Folder with images to send [default: examples/images; noise where nothing is computed]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Pin the scheduling thread to this core.
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    gpu: GpuOptions,
}

impl OpenOptions {
    /// Refuses options that `backend` does not use; none is virtual time, which opens nothing.
    pub(crate) fn check(&self, backend: Option<&BackendWords>) -> Result<(), Usage> {
        let cpu = [("--threads", self.threads.is_some())];
        let images = [("--images", self.images.is_some())];
        let network = self.model.given().into_iter().chain(images);
        let gpu = self.gpu.given();
        match backend {
            Some(BackendWords::Cpu) => refuse_unused("with --backend cpu", gpu),
            Some(BackendWords::Cuda) => refuse_unused("with --backend cuda", cpu),
            Some(BackendWords::Null) => {
                refuse_unused("with --backend null", network.chain(cpu).chain(gpu))
            }
            Some(BackendWords::Simulated(_)) => {
                refuse_unused("with --backend sim:DEVICE", network.chain(cpu).chain(gpu))
            }
            None => {
                let engine = [("--core", self.core.is_some())];
                let all = network.chain(cpu).chain(gpu).chain(engine);
                refuse_unused("without --backend", all)
            }
        }
    }

    pub(crate) fn open(&self, backend: &BackendWords) -> anyhow::Result<Opened> {
        let kind = match backend {
            #[cfg(not(feature = "cuda"))]
            BackendWords::Cuda => {
                bail!("--backend cuda: {}", crate::options::NO_GPU)
            }
            #[cfg(feature = "cuda")]
            BackendWords::Cuda => {
                let model = self.model.load()?;
                let options = self.gpu.options(self.model.size(&model))?;
                let images = self.read_images(&model)?;
                let kind = Kind::Cuda { model: Box::new(model), options: Box::new(options) };
                return Ok(Opened { kind, images, core: self.core });
            }
            BackendWords::Null => Kind::Null,
            BackendWords::Simulated(device) => Kind::Simulated(device.clone()),
            BackendWords::Cpu => {
                let model = self.model.load()?;
                let Size { height, width } = self.model.size(&model);
                let mut options = CpuOptions { height, width, ..CpuOptions::for_model(&model) };
                options.threads = self.threads.unwrap_or(options.threads);
                let images = self.read_images(&model)?;
                let kind = Kind::Cpu { model: Box::new(model), options };
                return Ok(Opened { kind, images, core: self.core });
            }
        };
        Ok(Opened { kind, images: images::noise(GEOMETRY.image_bytes), core: self.core })
    }

    fn read_images(&self, model: &Model) -> anyhow::Result<Vec<Vec<u8>>> {
        let Size { height, width } = self.model.size(model);
        let preprocess = Preprocess { height, width, ..Preprocess::for_model(model.config()) };
        images::read(self.images.as_deref(), preprocess)
    }
}

enum Kind {
    Null,
    Simulated(Box<DeviceSpec>),
    Cpu {
        model: Box<Model>,
        options: CpuOptions,
    },
    #[cfg(feature = "cuda")]
    Cuda {
        model: Box<Model>,
        options: Box<CudaOptions>,
    },
}

/// A backend that engines can be started on, one after the other, and images for it.
pub(crate) struct Opened {
    kind: Kind,
    pub(crate) images: Vec<Vec<u8>>,
    core: Option<usize>,
}

impl Opened {
    /// An engine on a backend of its own; what the backend computes is noted in the batches. The
    /// seed is that of a simulated device's noise.
    pub(crate) fn start(
        &self,
        options: &EngineOptions,
        seed: u64,
    ) -> anyhow::Result<(Engine, Batches)> {
        let geometry = Geometry { batch_len_max: options.batch_len_max, ..GEOMETRY };
        let backend: Box<dyn Backend> = match &self.kind {
            Kind::Null => Box::new(Null::new(geometry)),
            Kind::Simulated(device) => Box::new(SimulatedDevice::new(device, seed, geometry)?),
            Kind::Cpu { model, options } => Box::new(CpuDevice::new(Cpu::new(model, options)?)),
            #[cfg(feature = "cuda")]
            Kind::Cuda { model, options } => Box::new(CudaDevice::new(model, options)?),
        };
        let (watched, batches) = Watched::new(backend);
        let engine = Engine::start(watched, &EngineOptions { core: self.core, ..*options })?;
        // Calibration is not part of any run.
        batches.lock().expect("nothing panics while it notes").clear();
        Ok((engine, batches))
    }

    /// As its words name it.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Null => "null".to_owned(),
            Kind::Simulated(device) => format!("sim:{}", device.name),
            Kind::Cpu { .. } => "cpu".to_owned(),
            #[cfg(feature = "cuda")]
            Kind::Cuda { .. } => "cuda".to_owned(),
        }
    }

    /// The device that is simulated, if one is.
    pub(crate) fn simulated(&self) -> Option<&DeviceSpec> {
        match &self.kind {
            Kind::Simulated(device) => Some(device),
            _ => None,
        }
    }
}
