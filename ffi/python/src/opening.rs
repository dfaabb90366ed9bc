//! From a caller's arguments to a running engine.
//!
//! Invariant: an argument that the chosen backend would not use is refused. Which backends there
//! are, how one is opened and what its defaults are the library says.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use twinstream::Error;
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{Tuning, Verdicts};
use twinstream::backend::{BackendSpec, BackendSpecs, Geometry, OpenOptions};
use twinstream::engine::{AnswerTable, Engine, EngineOptions, Refused};
use twinstream::image::Preprocess;
use twinstream::lower::DType;
use twinstream::model::{Answer, Model, ModelConfig};
use twinstream::sched::PolicySpec;

use crate::arguments::seconds;
use crate::errors;

/// What a caller says of an engine.
pub(crate) struct Arguments {
    pub(crate) path: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) size: Option<(usize, usize)>,
    pub(crate) backend: String,
    pub(crate) precision: Option<String>,
    pub(crate) threads: Option<usize>,
    pub(crate) top_k: Option<usize>,
    pub(crate) policy: Option<String>,
    pub(crate) slot_len: Option<usize>,
    pub(crate) batch_len_max: Option<usize>,
    pub(crate) latency_bound: Option<f64>,
    pub(crate) cache_bytes: usize,
}

/// What holds for an engine throughout its life, and after.
pub(crate) struct Info {
    pub(crate) preprocess: Preprocess,
    pub(crate) labels: Vec<String>,
    pub(crate) answer: Answer,
    pub(crate) precision: Option<DType>,
    pub(crate) backend: String,
    pub(crate) slot_len: usize,
    pub(crate) spin: Duration,
    /// Threads that decode images.
    pub(crate) decoder_len: usize,
}

/// A running engine, and where its answers are looked for.
pub(crate) struct Live {
    pub(crate) engine: Engine,
    pub(crate) answers: AnswerTable,
}

fn from_one(name: &str, value: Option<usize>) -> PyResult<()> {
    match value {
        Some(0) => Err(errors::value(name, "a whole number from 1", 0)),
        _ => Ok(()),
    }
}

impl Live {
    /// Whether it is that of the process which this one was forked off.
    pub(crate) fn is_forked(&self) -> bool {
        self.engine.refusal() == Some(Refused::Forked)
    }
}

/// Everything read, nothing opened.
struct Plan {
    arguments: Arguments,
    specs: BackendSpecs,
    open: OpenOptions,
    engine: EngineOptions,
}

impl Arguments {
    /// Reads them; fails where one is wrong or would not be used.
    fn plan(self) -> PyResult<Plan> {
        let specs: BackendSpecs = self.backend.parse().map_err(|error| errors::library(&error))?;
        self.refuse_unused(&specs)?;
        for (name, value) in [
            ("threads", self.threads),
            ("top_k", self.top_k),
            ("slot_len", self.slot_len),
            ("batch_len_max", self.batch_len_max),
        ] {
            from_one(name, value)?;
        }
        let policy = self.policy.as_deref().map(|policy| {
            let error = |error| errors::value("policy", "a policy's spec", error);
            policy.parse::<PolicySpec>().map_err(error)
        });
        let bound = self.latency_bound.map(|bound| seconds("latency_bound", bound)).transpose()?;
        let default = EngineOptions::default();
        let engine = default
            .policy(policy.transpose()?.unwrap_or(default.policy))
            .slot_len(self.slot_len.unwrap_or(default.slot_len))
            .batch_len_max(self.batch_len_max.unwrap_or(default.batch_len_max))
            .latency_bound(bound)
            .cache_bytes(self.cache_bytes);
        let precision = self.precision.as_deref().map(str::parse::<DType>).transpose();
        let open = OpenOptions::default()
            .threads(self.threads)
            .answer(self.top_k.map_or(Answer::Logits, Answer::TopK))
            .precision(precision.map_err(|error| errors::library(&error))?);
        Ok(Plan { arguments: self, specs, open, engine })
    }

    fn refuse_unused(&self, specs: &BackendSpecs) -> PyResult<()> {
        let options = [
            ("path", self.path.is_some()),
            ("config", self.config.is_some()),
            ("precision", self.precision.is_some()),
            ("top_k", self.top_k.is_some()),
            ("threads", self.threads.is_some()),
        ];
        let is_used = |name: &str| {
            specs.iter().any(|spec| match spec {
                BackendSpec::Cpu { threads } => name != "threads" || threads.is_none(),
                spec => is_network(spec) && name != "threads",
            })
        };
        match options.iter().find(|(name, is_given)| *is_given && !is_used(name)) {
            Some((name, _)) => {
                let text =
                    format!("{name}: changes nothing with backend=\"{specs}\": leave it out");
                Err(PyValueError::new_err(text))
            }
            None => Ok(()),
        }
    }
}

/// Starts the engine that the arguments describe. Opens files and measures for a moment, with the
/// interpreter let go.
pub(crate) fn open(py: Python<'_>, arguments: Arguments) -> PyResult<(Live, Info)> {
    let plan = arguments.plan()?;
    if plan.arguments.path.is_none() && plan.specs.iter().any(is_network) {
        return Err(errors::value("path", "the weights, as a safetensors file", "None"));
    }
    py.detach(|| plan.start()).map_err(|error| errors::library(&error))
}

fn processor_len() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether it computes one.
fn is_network(spec: &BackendSpec) -> bool {
    matches!(spec, BackendSpec::Cpu { .. } | BackendSpec::Cuda { .. })
}

impl Plan {
    fn start(self) -> Result<(Live, Info), Error> {
        let Self { arguments, specs, open, engine: options } = self;
        let config = arguments.config.as_deref();
        let model = arguments.path.as_deref().map(|path| Model::load(path, config)).transpose()?;
        let mut preprocess = match &model {
            Some(model) => Preprocess::for_model(model.config()),
            // Sizes of CIFAR-10, as those of the backends that compute nothing.
            None => Preprocess {
                height: 32,
                width: 32,
                crop_pct: 1.0,
                ..Preprocess::for_model(&ModelConfig::default())
            },
        };
        if let Some((height, width)) = arguments.size {
            (preprocess.height, preprocess.width) = (height, width);
        }
        let Preprocess { height, width, .. } = preprocess;
        let precision = model.as_ref().and_then(|model| specs[0].precision(model, &open));
        let image_bytes = height.saturating_mul(width).saturating_mul(3);
        let batch_len_max = options.batch_len_max;
        let geometry = Geometry { image_bytes, batch_len_max, ..open.geometry };
        let open = open.size(Some((height, width))).geometry(geometry);
        let answer = open.answer;
        let backends = specs.open(model.as_ref(), &tuned(&specs, open)?)?;
        let labels = match &model {
            Some(model) => (0..model.class_count()).map(|index| model.label(index)).collect(),
            None => (0..geometry.result_len).map(|index| format!("class {index}")).collect(),
        };
        let engine = Engine::start_all(backends, &options)?;
        let info = Info {
            preprocess,
            labels,
            answer,
            precision,
            backend: specs.to_string(),
            slot_len: options.slot_len,
            spin: options.spin,
            decoder_len: arguments.threads.unwrap_or_else(processor_len),
        };
        Ok((Live { answers: engine.answer_table(), engine }, info))
    }
}

/// With the tiles that were measured for the GPU, and the kernels that were proven there.
#[cfg(feature = "cuda")]
fn tuned(specs: &BackendSpecs, open: OpenOptions) -> Result<OpenOptions, Error> {
    match specs.iter().any(|spec| matches!(spec, BackendSpec::Cuda { .. })) {
        true => Ok(open.tuning(Tuning::stored()?).verdicts(Verdicts::stored()?)),
        false => Ok(open),
    }
}

/// Not in this build.
#[cfg(not(feature = "cuda"))]
fn tuned(_: &BackendSpecs, open: OpenOptions) -> Result<OpenOptions, Error> {
    Ok(open)
}
