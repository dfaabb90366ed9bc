//! A model in the server: its files, its configuration, and the engines of its instances.
//!
//! Invariant: instances on the same device share one engine, which ends with the last of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{Tuning, Verdicts};
use twinstream::backend::{BackendSpec, OpenOptions};
use twinstream::engine::{Engine, EngineOptions};
use twinstream::model;

use crate::config::{self, LABELS, Parameters, RequestLens, Sizes};
use crate::server::{self, Place};
use crate::service::Service;
use crate::status::{Cause, Failed, Outcome};

/// The file in the folder of a version.
const WEIGHTS: &str = "model.safetensors";
/// Of images where no network is computed, and their classes: CIFAR-10's.
const NO_NETWORK: Sizes = Sizes { height: 32, width: 32, class_count: 10 };

/// See the module.
pub(crate) struct Model {
    name: String,
    /// None where no network is computed.
    network: Option<model::Model>,
    parameters: Parameters,
    sizes: Sizes,
    /// By where they compute.
    services: Mutex<HashMap<Place, Weak<Service>>>,
}

impl Model {
    /// Reads what the server has of it, and completes its configuration where that is wanted.
    pub(crate) fn open(handle: &server::Model) -> Outcome<Self> {
        let folder = handle.folder()?;
        let mut config = handle.config()?;
        let parameters = config::parameters(&config)?;
        let network = match &parameters.backend {
            None => Some(model::Model::load(&weights(&folder, handle.version()?, &config), None)?),
            Some(_) => None,
        };
        let sizes = network.as_ref().map_or(NO_NETWORK, sizes);
        let defaults = EngineOptions::default();
        let lens = RequestLens { default: defaults.batch_len_max, max: defaults.slot_len };
        let has_labels = folder.join(LABELS).is_file();
        if handle.is_completed()? && config::complete(&mut config, sizes, lens, has_labels) {
            handle.set_config(&config)?;
        }
        config::check(&config, sizes, lens)?;
        let services = Mutex::default();
        Ok(Self { name: handle.name()?, network, parameters, sizes, services })
    }

    /// The service of an instance there: that of the others, or a new one.
    pub(crate) fn service(&self, place: Place) -> Outcome<Arc<Service>> {
        // Held while an engine starts: the next instance wants that one.
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.get(&place).and_then(Weak::upgrade) {
            return Ok(service);
        }
        let service = Arc::new(Service::new(self.start(place)?, self.sizes)?);
        services.insert(place, Arc::downgrade(&service));
        Ok(service)
    }

    fn start(&self, place: Place) -> Outcome<Engine> {
        let spec = match (&self.parameters.backend, place) {
            (Some(spec), _) => spec.clone(),
            (None, Place::Cpu) => BackendSpec::Cpu { threads: None },
            (None, Place::Gpu { index }) => BackendSpec::Cuda { index: Some(index) },
        };
        if !spec.is_built() {
            return Err(Failed::new(
                Cause::Unsupported,
                "config.pbtxt: instance_group has KIND_GPU, and this build has no GPU backend: set \
                 KIND_CPU, or build with --features cuda",
            ));
        }
        if self.parameters.threads.is_some() && !matches!(spec, BackendSpec::Cpu { threads: None })
        {
            let text = format!("config.pbtxt: parameter threads changes nothing on {spec}");
            return Err(Failed::argument(text));
        }
        let open = OpenOptions::default()
            .threads(self.parameters.threads)
            .precision(self.parameters.precision);
        #[cfg(feature = "cuda")]
        let open = open.tuning(Tuning::stored()?).verdicts(Verdicts::stored()?);
        let backend = spec.open(self.network.as_ref(), &open)?;
        let options = EngineOptions::default().cache_bytes(self.parameters.cache_bytes);
        let engine = Engine::start(backend, &options)?;
        log::info!("{} is computed on {spec}", self.name);
        Ok(engine)
    }
}

/// The configuration may name another file.
fn weights(folder: &Path, version: u64, config: &Value) -> PathBuf {
    let named = config["default_model_filename"].as_str().unwrap_or_default();
    let name = if named.ends_with(".safetensors") { named } else { WEIGHTS };
    folder.join(version.to_string()).join(name)
}

fn sizes(network: &model::Model) -> Sizes {
    let config = network.config();
    let (height, width) = (config.height, config.width);
    Sizes { height, width, class_count: network.class_count() }
}
