//! Which backends an engine runs on, and what they are opened with beyond their words.
//!
//! Knows nothing of what the engine is for.

use twinstream::backend::{BackendSpec, BackendSpecs, OpenOptions};
use twinstream::model::Model;

use crate::computer::{GpuOptions, refuse_unbuilt};
use crate::options::{Given, ModelOptions, Size, parse_count, refuse_unused};
use crate::outcome::Usage;

/// See the module.
#[derive(clap::Args)]
pub(crate) struct BackendOptions {
    #[command(flatten)]
    model: ModelOptions,
    /// Threads that compute on the CPU [default: one for every processor]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    threads: Option<usize>,
    /// Pin the scheduling thread to this core.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    #[command(flatten)]
    gpu: GpuOptions,
}

/// What backends are opened with.
pub(crate) struct Prepared {
    /// None where nothing is computed.
    pub(crate) model: Option<Model>,
    pub(crate) options: OpenOptions,
}

impl BackendOptions {
    /// Refuses options that none of `backends` uses; none at all is virtual time, which opens
    /// nothing. `network` is another option that is for networks alone.
    pub(crate) fn check(
        &self,
        backends: Option<&BackendSpecs>,
        network: Given,
    ) -> Result<(), Usage> {
        let network = self.model.given().into_iter().chain([network]);
        let threads = [("--threads", self.threads.is_some())];
        let Some(backends) = backends else {
            let engine = [("--core", self.core.is_some())];
            let all = network.chain(threads).chain(self.gpu.given()).chain(engine);
            return refuse_unused("without --backend", all);
        };
        let is_used = |option: &str| {
            backends.iter().any(|backend| match (backend, option) {
                (BackendSpec::Cpu { threads }, "--threads") => threads.is_none(),
                (BackendSpec::Cuda { index }, "--device") => index.is_none(),
                (BackendSpec::Cuda { .. }, "--tuning" | "--no-graphs") => true,
                (_, "--threads" | "--device" | "--tuning" | "--no-graphs") => false,
                (backend, _) => is_network(backend),
            })
        };
        let choice = match &**backends {
            [BackendSpec::Simulated(_)] => "with --backend sim:DEVICE".to_owned(),
            _ => format!("with --backend {backends}"),
        };
        let all = network.chain(threads).chain(self.gpu.given());
        refuse_unused(&choice, all.filter(|(option, _)| !is_used(option)))
    }

    /// Loads the model where one is computed.
    pub(crate) fn prepare(&self, backends: &BackendSpecs) -> anyhow::Result<Prepared> {
        backends.iter().try_for_each(refuse_unbuilt)?;
        let options = OpenOptions::default();
        if !backends.iter().any(is_network) {
            return Ok(Prepared { model: None, options });
        }
        let model = self.model.load()?;
        let Size { height, width } = self.model.size(&model);
        let options = options
            .size(Some((height, width)))
            .threads(self.threads)
            .precision(self.model.precision);
        let options =
            backends.iter().try_fold(options, |options, backend| self.gpu.add(backend, options))?;
        Ok(Prepared { model: Some(model), options })
    }
}

/// Whether a network is computed there.
fn is_network(backend: &BackendSpec) -> bool {
    matches!(backend, BackendSpec::Cpu { .. } | BackendSpec::Cuda { .. })
}
