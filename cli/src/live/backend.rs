//! Engines on backends, for loads: one after the other, each with a backend of its own.
//!
//! Knows nothing of loads and figures.

use std::path::PathBuf;

use twinstream::backend::{self, BackendSpec, Geometry};
use twinstream::engine::{Engine, EngineOptions};
use twinstream::image::Preprocess;
use twinstream::lower::DType;
use twinstream::model::Model;
use twinstream::sim::device::DeviceSpec;

use super::images;
use super::watched::{Batches, Watched};
use crate::computer::{GpuOptions, refuse_unbuilt};
use crate::options::{ModelOptions, Size, parse_count, refuse_unused};
use crate::outcome::Usage;

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
    pub(crate) fn check(&self, backend: Option<&BackendSpec>) -> Result<(), Usage> {
        let cpu = [("--threads", self.threads.is_some())];
        let images = [("--images", self.images.is_some())];
        let network = self.model.given().into_iter().chain(images);
        let gpu = self.gpu.given();
        match backend {
            Some(BackendSpec::Cpu) => refuse_unused("with --backend cpu", gpu),
            Some(BackendSpec::Cuda { index: None }) => refuse_unused("with --backend cuda", cpu),
            Some(spec @ BackendSpec::Cuda { .. }) => {
                let device = [("--device", self.gpu.device.is_some())];
                refuse_unused(&format!("with --backend {spec}"), cpu.into_iter().chain(device))
            }
            Some(BackendSpec::Simulated(_)) => {
                refuse_unused("with --backend sim:DEVICE", network.chain(cpu).chain(gpu))
            }
            Some(spec) => {
                let choice = format!("with --backend {spec}");
                refuse_unused(&choice, network.chain(cpu).chain(gpu))
            }
            None => {
                let engine = [("--core", self.core.is_some())];
                let all = network.chain(cpu).chain(gpu).chain(engine);
                refuse_unused("without --backend", all)
            }
        }
    }

    pub(crate) fn open(&self, spec: &BackendSpec) -> anyhow::Result<Opened> {
        refuse_unbuilt(spec)?;
        let options = backend::OpenOptions::default();
        let (model, options, images) = match spec {
            BackendSpec::Cpu | BackendSpec::Cuda { .. } => {
                let model = self.model.load()?;
                let Size { height, width } = self.model.size(&model);
                let options = options
                    .size(Some((height, width)))
                    .threads(self.threads)
                    .precision(self.model.precision);
                let options = self.gpu.add(spec, options)?;
                let images = self.read_images(&model)?;
                (Some(model), options, images)
            }
            _ => {
                let images = images::noise(options.geometry.image_bytes);
                (None, options, images)
            }
        };
        Ok(Opened { spec: spec.clone(), model, options, images, core: self.core })
    }

    fn read_images(&self, model: &Model) -> anyhow::Result<Vec<Vec<u8>>> {
        let Size { height, width } = self.model.size(model);
        let preprocess = Preprocess { height, width, ..Preprocess::for_model(model.config()) };
        images::read(self.images.as_deref(), preprocess)
    }
}

/// A backend that engines can be started on, one after the other, and images for it.
pub(crate) struct Opened {
    spec: BackendSpec,
    model: Option<Model>,
    options: backend::OpenOptions,
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
        let geometry = Geometry { batch_len_max: options.batch_len_max, ..self.options.geometry };
        let open = self.options.clone().seed(seed).geometry(geometry);
        let backend = self.spec.open(self.model.as_ref(), &open)?;
        let (watched, batches) = Watched::new(backend);
        let engine = Engine::start(watched, &options.core(self.core))?;
        // Calibration is not part of any run.
        batches.lock().expect("nothing panics while it notes").clear();
        Ok((engine, batches))
    }

    /// As its words name it.
    pub(crate) fn name(&self) -> String {
        self.spec.to_string()
    }

    /// What the network is computed in, if one is.
    pub(crate) fn precision(&self) -> Option<DType> {
        self.spec.precision(self.model.as_ref()?, &self.options)
    }

    /// The device that is simulated, if one is.
    pub(crate) fn simulated(&self) -> Option<&DeviceSpec> {
        match &self.spec {
            BackendSpec::Simulated(device) => Some(device),
            _ => None,
        }
    }
}
