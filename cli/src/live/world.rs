//! Experiments' worlds in real time: the simulator's setup, served by an engine.
//!
//! Knows nothing of figures and predictions.

use twinstream::engine::EngineOptions;
use twinstream::sim::Setup;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::experiment::{Live, LiveBatch, LiveError, LiveRun};

use super::recorder::End;
use super::watched::Batch;
use super::{Load, Opened, play};

/// See the module.
pub(crate) struct LiveWorld {
    opened: Opened,
    device: DeviceSpec,
    batch_len_max: usize,
}

impl LiveWorld {
    /// A world on one backend. One that is not simulated is measured first: the simulator takes it
    /// for the lines that its calibration finds.
    pub(crate) fn new(opened: Opened, seed: u64) -> anyhow::Result<Self> {
        let options = EngineOptions::default();
        let (engine, _) = opened.start(&options, seed)?;
        let batch_len_max = engine.geometry().batch_len_max.min(options.batch_len_max);
        let device = match opened.simulated().as_deref() {
            Some([device, ..]) => (*device).clone(),
            _ => DeviceSpec::from_lines(opened.name(), engine.stats().fits),
        };
        Ok(Self { opened, device, batch_len_max })
    }

    /// The backend in the words for it.
    pub(crate) fn backend(&self) -> String {
        self.opened.name()
    }
}

impl Live for LiveWorld {
    fn name(&self) -> String {
        match self.opened.simulated() {
            Some(_) => format!("Device {} (a backend that sleeps)", self.opened.name()),
            None => {
                let line = self.device.lines().compute;
                format!(
                    "Backend {}, simulated as it was calibrated (compute {:.3} ms + {:.3} ms an \
                     image),",
                    self.opened.name(),
                    line.fixed_ns * 1e-6,
                    line.per_image_ns * 1e-6,
                )
            }
        }
    }

    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn batch_len_max(&self) -> usize {
        self.batch_len_max
    }

    fn run(&self, setup: &Setup) -> Result<LiveRun, LiveError> {
        let options = EngineOptions::default()
            .policy(setup.config.policy)
            .slot_len(setup.config.slot_len)
            .batch_len_max(setup.config.batch_len_max);
        let (engine, batches) = self.opened.start(&options, setup.seed)?;
        let load = Load {
            workload: &setup.workload,
            duration_ns: setup.duration_ns,
            latency_bound_ns: None,
            announced_ns: setup.announced_ns,
            seed: setup.seed,
            images: &self.opened.images,
        };
        let played = play(&engine, &load)?;
        drop(engine);
        let batch = |batch: &Batch| LiveBatch {
            start_ns: batch.start.saturating_duration_since(played.start).as_nanos() as u64,
            elapsed_ns: batch.elapsed_ns,
            batch_len: batch.len,
        };
        let batches = batches[0].lock().expect("nothing panics while it notes");
        let answered = played.requests.iter().filter(|request| request.end == End::Completed);
        Ok(LiveRun {
            batches: batches.iter().map(batch).collect(),
            // An answer never comes before its request is due.
            answers: answered.map(|request| (request.due_ns, request.end_ns)).collect(),
            late_p99_ns: played.lateness.quantile_ns(0.99),
        })
    }
}
