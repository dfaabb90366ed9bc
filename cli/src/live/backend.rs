//! Engines on backends, for loads: one after the other, each with a backend of its own.
//!
//! Knows nothing of loads and figures.

use std::path::PathBuf;

use twinstream::backend::{self, BackendSpec, BackendSpecs, Geometry};
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
    /// Refuses options that none of `backends` uses; none at all is virtual time, which opens
    /// nothing.
    pub(crate) fn check(&self, backends: Option<&BackendSpecs>) -> Result<(), Usage> {
        self.backend.check(backends, ("--images", self.images.is_some()))
    }

    pub(crate) fn open(&self, specs: BackendSpecs) -> anyhow::Result<Opened> {
        let Prepared { model, options } = self.backend.prepare(&specs)?;
        let images = match (&model, options.size) {
            (Some(model), Some((height, width))) => {
                let preprocess = Preprocess::for_model(model.config());
                let preprocess = Preprocess { height, width, ..preprocess };
                images::read(self.images.as_deref(), preprocess)?
            }
            _ => images::noise(options.geometry.image_bytes),
        };
        Ok(Opened { specs, model, options, images, core: self.backend.core })
    }
}

/// Backends that engines can be started on, one after the other, and images for them.
pub(crate) struct Opened {
    specs: BackendSpecs,
    model: Option<Model>,
    options: backend::OpenOptions,
    pub(crate) images: Vec<Vec<u8>>,
    core: Option<usize>,
}

impl Opened {
    /// An engine on backends of its own; what each computes is noted in its batches. The seed is
    /// that of a simulated device's noise.
    pub(crate) fn start(
        &self,
        options: &EngineOptions,
        seed: u64,
    ) -> anyhow::Result<(Engine, Vec<Batches>)> {
        let geometry = Geometry { batch_len_max: options.batch_len_max, ..self.options.geometry };
        let open = self.options.clone().seed(seed).geometry(geometry);
        let backends = self.specs.open(self.model.as_ref(), &open)?.into_iter();
        let watch = |backend| {
            let (watched, batches) = Watched::new(backend);
            (watched.into(), batches)
        };
        let (backends, batches): (Vec<_>, Vec<Batches>) = backends.map(watch).unzip();
        let engine = Engine::start_all(backends, &options.core(self.core))?;
        // Calibration is not part of any run.
        for batches in &batches {
            batches.lock().expect("nothing panics while it notes").clear();
        }
        Ok((engine, batches))
    }

    /// As its words name it.
    pub(crate) fn name(&self) -> String {
        self.specs.to_string()
    }

    /// What the network is computed in, on the first backend, if one is.
    pub(crate) fn precision(&self) -> Option<DType> {
        self.specs[0].precision(self.model.as_ref()?, &self.options)
    }

    /// The devices that are simulated, if all are.
    pub(crate) fn simulated(&self) -> Option<Vec<&DeviceSpec>> {
        let mut devices = Vec::with_capacity(self.specs.len());
        for spec in self.specs.iter() {
            let BackendSpec::Simulated(device) = spec else { return None };
            devices.push(&**device);
        }
        Some(devices)
    }
}
