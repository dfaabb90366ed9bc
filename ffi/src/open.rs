//! From the options of the header to a running engine.
//!
//! Invariant: an engine stands complete or not at all. The one place that knows the backends.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::layout::{self, Options};
use crate::requests::Requests;
use crate::status::{Failed, Outcome, Status};
use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions};
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{CudaDevice, CudaOptions, Tuning};
use twinstream::backend::{Backend, Geometry, Null};
use twinstream::engine::{Engine, EngineOptions};
use twinstream::model::{Answer, Model};
use twinstream::ring::Memory;
use twinstream::sched::PolicySpec;

/// A core that stands for none.
const NO_CORE: i32 = -1;
/// An image of the network that the repository carries.
const NULL_IMAGE_BYTES: u64 = 32 * 32 * 3;
const NULL_RESULT_LEN: u64 = 10;
/// A larger image and a longer result than any network's.
const NULL_IMAGE_BYTES_MAX: u64 = 1 << 28;
const NULL_RESULT_LEN_MAX: u64 = 1 << 20;

/// A running engine with all that C is told of it.
pub(crate) struct Live {
    pub(crate) engine: Engine,
    pub(crate) requests: Arc<Requests>,
    /// By place of `requests`; not in there, as they keep it alive.
    pub(crate) wakers: Box<[Waker]>,
    pub(crate) geometry: layout::Geometry,
    pub(crate) labels: Vec<CString>,
}

/// Texts of the options, read while they hold.
#[derive(Default)]
pub(crate) struct Texts<'a> {
    pub(crate) weights_path: Option<&'a CStr>,
    pub(crate) config_path: Option<&'a CStr>,
    pub(crate) policy: Option<&'a CStr>,
}

/// Which backend, and what it is opened with.
pub(crate) enum BackendOptions<'a> {
    Cpu(layout::CpuOptions),
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the GPU's"))]
    Cuda {
        device: Option<&'a CStr>,
        tuning_path: Option<&'a CStr>,
    },
    Null(layout::NullOptions),
}

pub(crate) fn default_options() -> Options {
    let engine = EngineOptions::default();
    Options {
        struct_size: size_of::<Options>() as u32,
        abi_version: layout::ABI_VERSION,
        backend: layout::BACKEND_CPU,
        memory_weakest: engine.memory_weakest as i32,
        weights_path: std::ptr::null(),
        config_path: std::ptr::null(),
        policy: std::ptr::null(),
        cpu: std::ptr::null(),
        cuda: std::ptr::null(),
        null: std::ptr::null(),
        height: 0,
        width: 0,
        top_k: 0,
        core: engine.core.map_or(NO_CORE, |core| core as i32),
        slot_len: engine.slot_len as u64,
        batch_len_max: engine.batch_len_max as u64,
        latency_bound_ns: 0,
        spin_ns: engine.spin.as_nanos() as u64,
        stall_timeout_ns: engine.stall_timeout.as_nanos() as u64,
    }
}

/// Starts the engine that the options describe. `tag` tells its requests from those of others.
pub(crate) fn open(
    options: &Options,
    backend: &BackendOptions<'_>,
    texts: &Texts<'_>,
    tag: u16,
) -> Outcome<Live> {
    let engine_options = engine_options(options, texts)?;
    match backend {
        BackendOptions::Cpu(cpu_options) => {
            let (model, size) = model(options, texts)?;
            let threads = CpuOptions::for_model(&model).threads;
            let cpu_options = CpuOptions {
                threads: or(cpu_options.thread_len, threads),
                height: size.0,
                width: size.1,
            };
            let device = CpuDevice::answering(Cpu::new(&model, &cpu_options)?, answer(options))?;
            Live::start(device, &engine_options, tag, (size, labels(&model)))
        }
        #[cfg(feature = "cuda")]
        BackendOptions::Cuda { device, tuning_path } => {
            let (model, size) = model(options, texts)?;
            let own = CudaOptions::for_model(&model);
            let cuda_options = CudaOptions {
                device: device.map_or(Ok(own.device), |text| text.to_string_lossy().parse())?,
                tuning: tuning_path.map_or_else(Tuning::stored, |file| Tuning::load(path(file)))?,
                height: size.0,
                width: size.1,
                answer: answer(options),
                ..own
            };
            let device = CudaDevice::new(&model, &cuda_options)?;
            Live::start(device, &engine_options, tag, (size, labels(&model)))
        }
        #[cfg(not(feature = "cuda"))]
        BackendOptions::Cuda { .. } => {
            let text = "this library was built without the CUDA backend";
            Err(Failed::new(Status::Unsupported, text))
        }
        BackendOptions::Null(null_options) => null(options, null_options, &engine_options, tag),
    }
}

fn null(
    options: &Options,
    null_options: &layout::NullOptions,
    engine_options: &EngineOptions,
    tag: u16,
) -> Outcome<Live> {
    if options.top_k != 0 {
        return Err(argument(format!(
            "top_k is {}: the null backend ranks nothing",
            options.top_k
        )));
    }
    let geometry = Geometry {
        image_bytes: null_size(
            null_options.image_bytes,
            (NULL_IMAGE_BYTES, NULL_IMAGE_BYTES_MAX),
            "image_bytes",
        )?,
        result_len: null_size(
            null_options.result_len,
            (NULL_RESULT_LEN, NULL_RESULT_LEN_MAX),
            "result_len",
        )?,
        batch_len_max: engine_options.batch_len_max,
    };
    let labels = (0..geometry.result_len).map(|index| format!("class {index}")).collect();
    Live::start(Null::new(geometry), engine_options, tag, ((0, 0), labels))
}

impl Live {
    /// Starts an engine on `backend`, whose images have this height and width and whose classes
    /// have these names.
    pub(crate) fn start(
        backend: impl Backend + 'static,
        options: &EngineOptions,
        tag: u16,
        ((height, width), labels): ((usize, usize), Vec<String>),
    ) -> Outcome<Self> {
        let engine = Engine::start(backend, options)?;
        let sizes = engine.geometry();
        let geometry = layout::Geometry {
            struct_size: 0,
            height: height as u32,
            width: width as u32,
            reserved: 0,
            image_bytes: sizes.image_bytes as u64,
            result_len: sizes.result_len as u64,
            batch_len_max: sizes.batch_len_max.min(options.batch_len_max).min(options.slot_len)
                as u64,
        };
        // As many as there are results. Answers without one count too, until they are released.
        let (requests, wakers) = Requests::new(2 * options.slot_len, tag, options.spin)
            .map_err(|error| Failed::new(Status::Io, format!("the completion queue: {error}")))?;
        // A label that no C text can hold is cut.
        let until_zero = |label: String| label.split('\0').next().unwrap_or_default().to_owned();
        let text = |label| CString::new(until_zero(label)).expect("cut before the first zero");
        let labels = labels.into_iter().map(text).collect();
        Ok(Self { engine, requests, wakers, geometry, labels })
    }
}

fn engine_options(options: &Options, texts: &Texts<'_>) -> Outcome<EngineOptions> {
    let memories = [Memory::Cuda, Memory::Locked, Memory::Plain];
    let memory = memories.into_iter().find(|memory| *memory as i32 == options.memory_weakest);
    let policy = match texts.policy {
        None => PolicySpec::default(),
        Some(name) => name
            .to_string_lossy()
            .parse()
            .map_err(|error: twinstream::sched::PolicyError| argument(error.to_string()))?,
    };
    Ok(EngineOptions {
        policy,
        slot_len: size(options.slot_len, "slot_len")?,
        batch_len_max: size(options.batch_len_max, "batch_len_max")?,
        latency_bound: duration(options.latency_bound_ns),
        spin: Duration::from_nanos(options.spin_ns),
        core: match options.core {
            NO_CORE => None,
            core => Some(usize::try_from(core).map_err(|_| argument(format!("no core {core}")))?),
        },
        stall_timeout: Duration::from_nanos(options.stall_timeout_ns),
        memory_weakest: memory.ok_or_else(|| {
            argument(format!("{} is no TWINSTREAM_MEMORY_", options.memory_weakest))
        })?,
    })
}

/// None for zero.
pub(crate) fn duration(ns: u64) -> Option<Duration> {
    (ns > 0).then(|| Duration::from_nanos(ns))
}

/// The network, and height and width of its images.
fn model(options: &Options, texts: &Texts<'_>) -> Outcome<(Model, (usize, usize))> {
    let weights = texts.weights_path.map(path).ok_or_else(|| {
        Failed::new(Status::Null, "weights_path is NULL: name a safetensors file")
    })?;
    let model = Model::load(weights, texts.config_path.map(path))?;
    let config = model.config();
    let size = (or(options.height, config.height), or(options.width, config.width));
    Ok((model, size))
}

fn labels(model: &Model) -> Vec<String> {
    (0..model.class_count()).map(|index| model.label(index)).collect()
}

/// `own` for zero.
fn or(value: u32, own: usize) -> usize {
    if value > 0 { value as usize } else { own }
}

fn answer(options: &Options) -> Answer {
    match options.top_k {
        0 => Answer::Logits,
        count => Answer::TopK(count as usize),
    }
}

fn path(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

fn size(value: u64, name: &str) -> Outcome<usize> {
    usize::try_from(value).map_err(|_| argument(format!("{name} is {value}: too large")))
}

/// A size of the null backend, the default for zero.
fn null_size(value: u64, (default, max): (u64, u64), name: &str) -> Outcome<usize> {
    if value > max {
        return Err(argument(format!("{name} is {value}: must be at most {max}")));
    }
    size(if value > 0 { value } else { default }, name)
}

fn argument(text: String) -> Failed {
    Failed::new(Status::Argument, text)
}
