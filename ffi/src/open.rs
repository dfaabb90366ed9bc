//! From the options of the header to a running engine.
//!
//! Invariant: an engine stands complete or not at all. Knows which backends C has, not how one is
//! opened.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::layout::{self, Options};
use crate::requests::Requests;
use crate::status::{Failed, Outcome, Status};
#[cfg(feature = "cuda")]
use twinstream::backend::cuda::{Tuning, Verdicts, verdicts_path};
use twinstream::backend::{Backend, BackendSpec, BackendSpecs, Geometry, OpenOptions};
use twinstream::engine::{Engine, EngineOptions};
use twinstream::model::{Answer, Model};
use twinstream::ring::Memory;
use twinstream::sched::PolicySpec;

/// A core that stands for none.
const NO_CORE: i32 = -1;
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
    pub(crate) precision: Option<&'a CStr>,
}

/// Which backend, and what it is opened with.
pub(crate) enum BackendOptions<'a> {
    Cpu(layout::CpuOptions),
    Cuda { device: Option<&'a CStr>, tuning_path: Option<&'a CStr> },
    Null(layout::NullOptions),
    Several(&'a CStr),
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
        trace_len: engine.trace_len as u64,
        precision: std::ptr::null(),
        cache_bytes: engine.cache_bytes as u64,
        backends: std::ptr::null(),
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
    let given_texts = (options, texts);
    match backend {
        BackendOptions::Cpu(cpu_options) => {
            let spec = BackendSpec::Cpu { threads: given(cpu_options.thread_len) };
            network(&spec.into(), OpenOptions::default(), given_texts, &engine_options, tag)
        }
        BackendOptions::Cuda { device, tuning_path } => {
            let spec = BackendSpec::Cuda { index: None };
            network(&spec.into(), cuda(*device, *tuning_path)?, given_texts, &engine_options, tag)
        }
        BackendOptions::Null(null_options) => {
            let spec = BackendSpec::Null;
            null(&spec.into(), null_options, given_texts, &engine_options, tag)
        }
        BackendOptions::Several(specs) => {
            let specs: BackendSpecs = specs.to_string_lossy().parse()?;
            let has_cuda = specs.iter().any(|spec| matches!(spec, BackendSpec::Cuda { .. }));
            if specs.iter().all(|spec| *spec == BackendSpec::Null) {
                return null(&specs, &no_null_options(), given_texts, &engine_options, tag);
            }
            let open = if has_cuda { cuda(None, None)? } else { OpenOptions::default() };
            network(&specs, open, given_texts, &engine_options, tag)
        }
    }
}

fn network(
    specs: &BackendSpecs,
    open: OpenOptions,
    (options, texts): (&Options, &Texts<'_>),
    engine_options: &EngineOptions,
    tag: u16,
) -> Outcome<Live> {
    let weights = texts.weights_path.map(path).ok_or_else(|| {
        Failed::new(Status::Null, "weights_path is NULL: name a safetensors file")
    })?;
    let model = Model::load(weights, texts.config_path.map(path))?;
    let labels = (0..model.class_count()).map(|index| model.label(index)).collect();
    let height = given(options.height).unwrap_or(model.config().height);
    let width = given(options.width).unwrap_or(model.config().width);
    let precision = texts.precision.map(|text| text.to_string_lossy().parse()).transpose()?;
    let open = open.size(Some((height, width))).answer(answer(options)).precision(precision);
    let backends = specs.open(Some(&model), &open)?;
    Live::start(backends, engine_options, tag, ((height, width), labels))
}

#[cfg(feature = "cuda")]
fn cuda(device: Option<&CStr>, tuning_path: Option<&CStr>) -> Outcome<OpenOptions> {
    let open = OpenOptions::default();
    let device = device.map_or(Ok(open.device), |text| text.to_string_lossy().parse())?;
    let (tuning, verdicts) = match tuning_path.map(path) {
        Some(path) => (Tuning::load(path)?, Verdicts::load(&verdicts_path(path))?),
        None => (Tuning::stored()?, Verdicts::stored()?),
    };
    Ok(open.device(device).tuning(tuning).verdicts(verdicts))
}

/// Not in this build.
#[cfg(not(feature = "cuda"))]
fn cuda(_: Option<&CStr>, _: Option<&CStr>) -> Outcome<OpenOptions> {
    let text = "this library was built without the CUDA backend";
    Err(Failed::new(Status::Unsupported, text))
}

fn null(
    specs: &BackendSpecs,
    null_options: &layout::NullOptions,
    (options, texts): (&Options, &Texts<'_>),
    engine_options: &EngineOptions,
    tag: u16,
) -> Outcome<Live> {
    if texts.precision.is_some() {
        return Err(argument("precision is given: the null backend computes nothing".to_owned()));
    }
    if options.top_k != 0 {
        return Err(argument(format!(
            "top_k is {}: the null backend ranks nothing",
            options.top_k
        )));
    }
    let open = OpenOptions::default();
    let (image_bytes, result_len) = (null_options.image_bytes, null_options.result_len);
    let image_bytes = null_size(image_bytes, NULL_IMAGE_BYTES_MAX, "image_bytes")?;
    let result_len = null_size(result_len, NULL_RESULT_LEN_MAX, "result_len")?;
    let geometry = Geometry {
        image_bytes: image_bytes.unwrap_or(open.geometry.image_bytes),
        result_len: result_len.unwrap_or(open.geometry.result_len),
        batch_len_max: engine_options.batch_len_max,
    };
    let backends = specs.open(None, &open.geometry(geometry))?;
    let labels = (0..geometry.result_len).map(|index| format!("class {index}")).collect();
    Live::start(backends, engine_options, tag, ((0, 0), labels))
}

impl Live {
    /// Starts an engine on `backends`, whose images have this height and width and whose classes
    /// have these names.
    pub(crate) fn start(
        backends: Vec<Box<dyn Backend>>,
        options: &EngineOptions,
        tag: u16,
        ((height, width), labels): ((usize, usize), Vec<String>),
    ) -> Outcome<Self> {
        let engine = Engine::start_all(backends, options)?;
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
        // As many as there are numbers: one for each result.
        let entry_len = 2 * options.slot_len;
        let (requests, wakers) = Requests::new(&engine, entry_len, tag, options.spin)
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
    Ok(EngineOptions::default()
        .policy(policy)
        .slot_len(size(options.slot_len, "slot_len")?)
        .batch_len_max(size(options.batch_len_max, "batch_len_max")?)
        .latency_bound(duration(options.latency_bound_ns))
        .spin(Duration::from_nanos(options.spin_ns))
        .core(match options.core {
            NO_CORE => None,
            core => Some(usize::try_from(core).map_err(|_| argument(format!("no core {core}")))?),
        })
        .stall_timeout(Duration::from_nanos(options.stall_timeout_ns))
        .trace_len(size(options.trace_len, "trace_len")?)
        .cache_bytes(size(options.cache_bytes, "cache_bytes")?)
        .memory_weakest(memory.ok_or_else(|| {
            argument(format!("{} is no TWINSTREAM_MEMORY_", options.memory_weakest))
        })?))
}

/// Those of a null backend that says nothing.
fn no_null_options() -> layout::NullOptions {
    let struct_size = size_of::<layout::NullOptions>() as u32;
    layout::NullOptions { struct_size, reserved: 0, image_bytes: 0, result_len: 0 }
}

/// None for zero.
pub(crate) fn duration(ns: u64) -> Option<Duration> {
    (ns > 0).then(|| Duration::from_nanos(ns))
}

/// None for zero.
fn given(value: u32) -> Option<usize> {
    (value > 0).then_some(value as usize)
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

/// A size of the null backend, none for zero.
fn null_size(value: u64, max: u64, name: &str) -> Outcome<Option<usize>> {
    if value > max {
        return Err(argument(format!("{name} is {value}: must be at most {max}")));
    }
    Ok(if value > 0 { Some(size(value, name)?) } else { None })
}

fn argument(text: String) -> Failed {
    Failed::new(Status::Argument, text)
}
