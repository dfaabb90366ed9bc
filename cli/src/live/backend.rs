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
use crate::backend::{BackendOptions, Prepared};
use crate::outcome::Usage;

/// What a backend is opened with beyond its words, and what it is sent.
#[derive(clap::Args)]
pub(crate) struct OpenOptions {
    #[command(flatten)]
    backend: BackendOptions,
    /// Folder with images to send [default: examples/images; noise where nothing is computed]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
}

impl OpenOptions {
    /// Refuses options that `backend` does not use; none is virtual time, which opens nothing.
    pub(crate) fn check(&self, backend: Option<&BackendSpec>) -> Result<(), Usage> {
        self.backend.check(backend, ("--images", self.images.is_some()))
    }

    pub(crate) fn open(&self, spec: &BackendSpec) -> anyhow::Result<Opened> {
        let Prepared { model, options } = self.backend.prepare(spec)?;
        let images = match (&model, options.size) {
            (Some(model), Some((height, width))) => {
                let preprocess = Preprocess::for_model(model.config());
                let preprocess = Preprocess { height, width, ..preprocess };
                images::read(self.images.as_deref(), preprocess)?
            }
            _ => images::noise(options.geometry.image_bytes),
        };
        Ok(Opened { spec: spec.clone(), model, options, images, core: self.backend.core })
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
