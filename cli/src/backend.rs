//! Which backend an engine runs on, and what it is opened with beyond its words.
//!
//! Knows nothing of what the engine is for.

use twinstream::backend::{BackendSpec, OpenOptions};
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

/// What a backend is opened with.
pub(crate) struct Prepared {
    /// None where nothing is computed.
    pub(crate) model: Option<Model>,
    pub(crate) options: OpenOptions,
}

impl BackendOptions {
    /// Refuses options that `backend` does not use; none is virtual time, which opens nothing.
    /// `network` is another option that is for networks alone.
    pub(crate) fn check(&self, backend: Option<&BackendSpec>, network: Given) -> Result<(), Usage> {
        let cpu = [("--threads", self.threads.is_some())];
        let network = self.model.given().into_iter().chain([network]);
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

    /// Loads the model where one is computed.
    pub(crate) fn prepare(&self, spec: &BackendSpec) -> anyhow::Result<Prepared> {
        refuse_unbuilt(spec)?;
        let options = OpenOptions::default();
        if !matches!(spec, BackendSpec::Cpu | BackendSpec::Cuda { .. }) {
            return Ok(Prepared { model: None, options });
        }
        let model = self.model.load()?;
        let Size { height, width } = self.model.size(&model);
        let options = options
            .size(Some((height, width)))
            .threads(self.threads)
            .precision(self.model.precision);
        let options = self.gpu.add(spec, options)?;
        Ok(Prepared { model: Some(model), options })
    }
}
