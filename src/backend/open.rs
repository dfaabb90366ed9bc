//! Backends by their specs, and how one is opened.
//!
//! The one place that opens them. Knows nothing of engines and loads.

use std::fmt;
use std::str::FromStr;

use super::cpu::{Cpu, CpuDevice, CpuOptions};
#[cfg(feature = "cuda")]
use super::cuda::{CudaDevice, CudaOptions, DeviceId, Tuning, Verdicts};
#[cfg(feature = "sim")]
use super::simulated::SimulatedDevice;
use super::{Backend, Geometry, Null};
use crate::error::{Error, Kind, Result};
use crate::lower::DType;
use crate::model::{Answer, Model};
use crate::setters::setters;
#[cfg(feature = "sim")]
use crate::sim::device::DeviceSpec;
use crate::words::did_you_mean;

/// As the specs of backends begin.
const KINDS: &[&str] = match cfg!(feature = "sim") {
    true => &["cpu", "cuda", "null", "sim"],
    false => &["cpu", "cuda", "null"],
};

/// Which backend: parsed from `cpu`, `cuda`, `cuda:INDEX`, `null` or, with feature `sim`,
/// `sim:DEVICE`.
///
/// ```
/// use twinstream::backend::{Backend, BackendSpec, OpenOptions};
///
/// let spec: BackendSpec = "null".parse()?;
/// let backend = spec.open(None, &OpenOptions::default())?;
/// assert_eq!(backend.geometry().result_len, 10);
/// # Ok::<(), twinstream::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BackendSpec {
    /// The processor.
    Cpu,
    /// A GPU. Builds without feature `cuda` can name one, but not open it.
    Cuda {
        /// Its place in the driver's list; none: as [`OpenOptions`] say.
        index: Option<u32>,
    },
    /// A backend that does nothing, at once.
    Null,
    /// A described device in real time.
    #[cfg(feature = "sim")]
    Simulated(Box<DeviceSpec>),
}

impl BackendSpec {
    /// What it computes `model` in, as `options` have it; nothing where no network is computed.
    pub fn precision(&self, model: &Model, options: &OpenOptions) -> Option<DType> {
        let own = match self {
            Self::Null => return None,
            #[cfg(feature = "sim")]
            Self::Simulated(_) => return None,
            _ if model.quantized().is_some() => DType::I8,
            Self::Cpu => DType::F32,
            Self::Cuda { .. } => DType::F16,
        };
        Some(options.precision.unwrap_or(own))
    }

    /// Whether this build can open it.
    pub fn is_built(&self) -> bool {
        cfg!(feature = "cuda") || !matches!(self, Self::Cuda { .. })
    }

    /// Opens it. What computes a network needs `model`; the others take no notice of it.
    ///
    /// # Errors
    /// `is_argument` without a model where one is needed, and for a backend that this build does
    /// not have; and what the backend itself reports.
    pub fn open(&self, model: Option<&Model>, options: &OpenOptions) -> Result<Box<dyn Backend>> {
        let model = || {
            let message = || format!("{self}: a network is computed there: give a model");
            model.ok_or_else(|| Error::new(Kind::Argument, message()))
        };
        Ok(match self {
            Self::Cpu => Box::new(open_cpu(model()?, options)?),
            #[cfg(feature = "cuda")]
            Self::Cuda { index } => Box::new(open_cuda(model()?, *index, options)?),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda { .. } => {
                let message = format!("{self}: this build has no GPU backend");
                return Err(Error::new(Kind::Argument, message));
            }
            Self::Null => Box::new(Null::new(options.geometry)),
            #[cfg(feature = "sim")]
            Self::Simulated(device) => {
                Box::new(SimulatedDevice::new(device, options.seed, options.geometry)?)
            }
        })
    }
}

impl FromStr for BackendSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let kind = text.split(':').next().unwrap_or_default();
            let guess = did_you_mean(kind, KINDS.iter().copied());
            let simulated = if cfg!(feature = "sim") { ", sim:DEVICE" } else { "" };
            let message =
                format!("`{text}`: not a backend; backends are cpu, cuda, null{simulated}{guess}");
            Error::new(Kind::Argument, message)
        };
        Ok(match text.split_once(':') {
            None if text == "cpu" => Self::Cpu,
            None if text == "cuda" => Self::Cuda { index: None },
            Some(("cuda", index)) => {
                Self::Cuda { index: Some(index.parse().map_err(|_| refused())?) }
            }
            None if text == "null" => Self::Null,
            #[cfg(feature = "sim")]
            Some(("sim", device)) => Self::Simulated(Box::new(device.parse()?)),
            _ => return Err(refused()),
        })
    }
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda { index: None } => f.write_str("cuda"),
            Self::Cuda { index: Some(index) } => write!(f, "cuda:{index}"),
            Self::Null => f.write_str("null"),
            #[cfg(feature = "sim")]
            Self::Simulated(device) => write!(f, "sim:{}", device.name),
        }
    }
}

/// What a backend is opened with. Each takes of it what it uses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Height and width of the images in pixels; none: the model's own.
    pub size: Option<(usize, usize)>,
    /// What images are answered with.
    pub answer: Answer,
    /// Threads that compute on the CPU; none: one for every processor.
    pub threads: Option<usize>,
    /// What is computed in; none: `I8` with a model that was calibrated for it, else `F32` on the
    /// CPU and `F16` on a GPU.
    pub precision: Option<DType>,
    /// Sizes where nothing is computed; unless told otherwise those of CIFAR-10.
    pub geometry: Geometry,
    /// Seed of a simulated device's noise.
    pub seed: u64,
    /// Which GPU, unless the spec says so.
    #[cfg(feature = "cuda")]
    pub device: DeviceId,
    /// As [`CudaOptions::tuning`].
    #[cfg(feature = "cuda")]
    pub tuning: Tuning,
    /// As [`CudaOptions::verdicts`].
    #[cfg(feature = "cuda")]
    pub verdicts: Verdicts,
    /// As [`CudaOptions::graphs`].
    #[cfg(feature = "cuda")]
    pub graphs: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            size: None,
            answer: Answer::default(),
            threads: None,
            precision: None,
            geometry: Geometry { image_bytes: 32 * 32 * 3, result_len: 10, batch_len_max: 256 },
            seed: 0,
            #[cfg(feature = "cuda")]
            device: DeviceId::Index(0),
            #[cfg(feature = "cuda")]
            tuning: Tuning::default(),
            #[cfg(feature = "cuda")]
            verdicts: Verdicts::default(),
            #[cfg(feature = "cuda")]
            graphs: true,
        }
    }
}

setters!(OpenOptions {
    size: Option<(usize, usize)>,
    answer: Answer,
    threads: Option<usize>,
    precision: Option<DType>,
    geometry: Geometry,
    seed: u64,
});
#[cfg(feature = "cuda")]
setters!(OpenOptions { device: DeviceId, tuning: Tuning, verdicts: Verdicts, graphs: bool });

fn open_cpu(model: &Model, options: &OpenOptions) -> Result<CpuDevice> {
    let own = CpuOptions::for_model(model);
    let (height, width) = options.size.unwrap_or((own.height, own.width));
    let threads = options.threads.unwrap_or(own.threads);
    let precision = options.precision.unwrap_or(own.precision);
    let cpu = Cpu::new(model, &CpuOptions { threads, height, width, precision })?;
    CpuDevice::answering(cpu, options.answer)
}

#[cfg(feature = "cuda")]
fn open_cuda(model: &Model, index: Option<u32>, options: &OpenOptions) -> Result<CudaDevice> {
    let OpenOptions { tuning, verdicts, graphs, answer, size, precision, .. } = options.clone();
    let device = index.map_or(options.device, DeviceId::Index);
    let own = CudaOptions::for_model(model);
    let mut cuda = CudaOptions { device, tuning, verdicts, graphs, answer, ..own };
    if let Some((height, width)) = size {
        (cuda.height, cuda.width) = (height, width);
    }
    if let Some(precision) = precision {
        cuda.precision = precision;
    }
    CudaDevice::new(model, &cuda)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is read again, and what is mistyped is told.
    #[test]
    fn specs_name_backends() {
        for text in ["cpu", "cuda", "cuda:3", "null"] {
            assert_eq!(text.parse::<BackendSpec>().unwrap().to_string(), text);
        }
        for text in ["", "cpu:1", "cuda:", "cuda:-1", "cuda:first", "null:", "gpu"] {
            let error = text.parse::<BackendSpec>().unwrap_err();
            let text = error.to_string();
            assert!(error.is_argument() && text.contains("backends are cpu, cuda"), "{text}");
        }
        let text = "cudda".parse::<BackendSpec>().unwrap_err().to_string();
        assert!(text.ends_with("; did you mean `cuda`?"), "{text}");
    }

    /// Goal: what is told is what computes. Method: the CPU's own default, and what is asked for.
    #[test]
    fn the_precision_is_that_of_the_backend() {
        let weights =
            concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
        let model = Model::load(weights.as_ref(), None).unwrap();
        let options = OpenOptions::default();
        let precision = |spec: BackendSpec, options: &OpenOptions| spec.precision(&model, options);
        let own = CpuOptions::for_model(&model).precision;
        assert_eq!(precision(BackendSpec::Cpu, &options), Some(own));
        assert_eq!(precision(BackendSpec::Cuda { index: None }, &options), Some(DType::F16));
        assert_eq!(precision(BackendSpec::Null, &options), None);
        let asked = options.precision(Some(DType::BF16));
        assert_eq!(precision(BackendSpec::Cpu, &asked), Some(DType::BF16));
    }

    #[test]
    fn a_network_needs_a_model() {
        let error = BackendSpec::Cpu.open(None, &OpenOptions::default()).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "cpu: a network is computed there: give a model");
        let null = BackendSpec::Null.open(None, &OpenOptions::default()).unwrap();
        assert_eq!(null.geometry(), OpenOptions::default().geometry);
    }
}
