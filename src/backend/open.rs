//! Backends by their specs, and how one is opened.
//!
//! The one place that opens them. Knows nothing of engines and loads.

use std::fmt;
use std::ops::Deref;
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

/// Teams on the processor at most: as many devices as an engine has.
const TEAM_LEN_MAX: usize = 32;

/// Which backend, of one device: parsed from `cpu`, `cpu:1xTHREADS`, `cuda`, `cuda:INDEX`, `null`
/// or, with feature `sim`, `sim:DEVICE`. Several are [`BackendSpecs`].
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
    Cpu {
        /// Threads of the team that computes; none: as [`OpenOptions`] say.
        threads: Option<usize>,
    },
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
            Self::Cpu { .. } => DType::F32,
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
            Self::Cpu { threads } => {
                let cpu = open_cpu(model()?, *threads, options)?;
                Box::new(CpuDevice::answering(cpu, options.answer)?)
            }
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
        Ok(match text.split_once(':') {
            None if text == "cpu" => Self::Cpu { threads: None },
            Some(("cpu", _)) => match parse_teams(text)? {
                (1, threads) => Self::Cpu { threads: Some(threads) },
                _ => {
                    let message = format!("`{text}`: each team is a backend, and here is one");
                    return Err(Error::new(Kind::Argument, message));
                }
            },
            None if text == "cuda" => Self::Cuda { index: None },
            Some(("cuda", index)) => {
                Self::Cuda { index: Some(index.parse().map_err(|_| refused(text, ""))?) }
            }
            None if text == "null" => Self::Null,
            #[cfg(feature = "sim")]
            Some(("sim", device)) => Self::Simulated(Box::new(device.parse()?)),
            _ => return Err(refused(text, "")),
        })
    }
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { threads: None } => f.write_str("cpu"),
            Self::Cpu { threads: Some(threads) } => write!(f, "cpu:1x{threads}"),
            Self::Cuda { index: None } => f.write_str("cuda"),
            Self::Cuda { index: Some(index) } => write!(f, "cuda:{index}"),
            Self::Null => f.write_str("null"),
            #[cfg(feature = "sim")]
            Self::Simulated(device) => write!(f, "sim:{}", device.name),
        }
    }
}

/// Backends of one engine: parsed from their specs, separated by commas. `cpu:2x1` stands for two
/// teams on the processor, each of one thread and with the same weights in memory.
///
/// ```
/// use twinstream::backend::{BackendSpecs, OpenOptions};
/// use twinstream::engine::{Engine, EngineOptions};
///
/// let specs: BackendSpecs = "null,null".parse()?;
/// let backends = specs.open(None, &OpenOptions::default())?;
/// assert_eq!(backends.len(), 2);
/// let engine = Engine::start_all(backends, &EngineOptions::default())?;
/// # Ok::<(), twinstream::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BackendSpecs(Vec<BackendSpec>);

impl BackendSpecs {
    /// Opens each of them, as [`BackendSpec::open`] does; the noise of simulated devices differs.
    ///
    /// # Errors
    /// As for [`BackendSpec::open`].
    pub fn open(
        &self,
        model: Option<&Model>,
        options: &OpenOptions,
    ) -> Result<Vec<Box<dyn Backend>>> {
        let mut teams = self.open_teams(model, options)?.into_iter();
        let mut backends: Vec<Box<dyn Backend>> = Vec::with_capacity(self.0.len());
        for (spec, place) in self.0.iter().zip(0..) {
            backends.push(match (spec, teams.len()) {
                (BackendSpec::Cpu { .. }, 1..) => {
                    let cpu = teams.next().expect("there is one more");
                    Box::new(CpuDevice::answering(cpu, options.answer)?)
                }
                _ => spec.open(model, &options.clone().seed(options.seed.wrapping_add(place)))?,
            });
        }
        Ok(backends)
    }

    /// The teams on the processor, where there is a model: all compute with the weights of the
    /// first.
    fn open_teams(&self, model: Option<&Model>, options: &OpenOptions) -> Result<Vec<Cpu>> {
        let Some(model) = model else { return Ok(Vec::new()) };
        let mut teams: Vec<Cpu> = Vec::new();
        for spec in &self.0 {
            let BackendSpec::Cpu { threads } = spec else { continue };
            teams.push(match teams.first() {
                Some(first) => first.share(thread_len(model, *threads, options))?,
                None => open_cpu(model, *threads, options)?,
            });
        }
        Ok(teams)
    }
}

impl Deref for BackendSpecs {
    type Target = [BackendSpec];

    fn deref(&self) -> &[BackendSpec] {
        &self.0
    }
}

impl From<BackendSpec> for BackendSpecs {
    fn from(spec: BackendSpec) -> Self {
        Self(vec![spec])
    }
}

impl FromStr for BackendSpecs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut specs = Vec::new();
        for spec in split(text) {
            if !spec.starts_with("cpu:") {
                specs.push(spec.parse()?);
                continue;
            }
            let (team_len, threads) = parse_teams(&spec)?;
            let team = BackendSpec::Cpu { threads: Some(threads) };
            specs.extend(std::iter::repeat_n(team, team_len));
        }
        Ok(Self(specs))
    }
}

impl fmt::Display for BackendSpecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = |one: &BackendSpec, other: &BackendSpec| {
            one == other && matches!(one, BackendSpec::Cpu { threads: Some(_) })
        };
        for (place, specs) in self.0.chunk_by(same).enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match &specs[0] {
                BackendSpec::Cpu { threads: Some(threads) } => {
                    write!(f, "{comma}cpu:{}x{threads}", specs.len())?;
                }
                spec => write!(f, "{comma}{spec}")?,
            }
        }
        Ok(())
    }
}

/// The specs of a list: those of simulated devices have commas of their own.
fn split(text: &str) -> Vec<String> {
    let mut specs: Vec<String> = Vec::new();
    for piece in text.split(',') {
        let is_kind = KINDS.contains(&piece.split(':').next().unwrap_or_default());
        match specs.last_mut() {
            Some(device) if device.starts_with("sim:") && !is_kind => {
                device.push(',');
                device.push_str(piece);
            }
            _ => specs.push(piece.to_owned()),
        }
    }
    specs
}

/// Teams, and threads of each, as in `cpu:2x1`.
fn parse_teams(spec: &str) -> Result<(usize, usize)> {
    let count = |text: &str| text.parse().ok().filter(|&count: &usize| count > 0);
    let teams = spec.strip_prefix("cpu:").and_then(|teams| teams.split_once('x'));
    let teams = teams.and_then(|(teams, threads)| Some((count(teams)?, count(threads)?)));
    teams.filter(|(team_len, _)| *team_len <= TEAM_LEN_MAX).ok_or_else(|| {
        let teams = format!(
            ", and cpu:TEAMSxTHREADS, such as cpu:2x1 for two teams of one thread, for up to \
             {TEAM_LEN_MAX}"
        );
        refused(spec, &teams)
    })
}

/// What is no backend, with something about those that are.
fn refused(spec: &str, more: &str) -> Error {
    let kind = spec.split(':').next().unwrap_or_default();
    let guess = match KINDS.contains(&kind) {
        true => String::new(),
        false => did_you_mean(kind, KINDS.iter().copied()),
    };
    let simulated = if cfg!(feature = "sim") { ", sim:DEVICE" } else { "" };
    let message =
        format!("`{spec}`: not a backend; backends are cpu, cuda, null{simulated}{more}{guess}");
    Error::new(Kind::Argument, message)
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

fn open_cpu(model: &Model, threads: Option<usize>, options: &OpenOptions) -> Result<Cpu> {
    let own = CpuOptions::for_model(model);
    let (height, width) = options.size.unwrap_or((own.height, own.width));
    let threads = thread_len(model, threads, options);
    let precision = options.precision.unwrap_or(own.precision);
    Cpu::new(model, &CpuOptions { threads, height, width, precision })
}

fn thread_len(model: &Model, threads: Option<usize>, options: &OpenOptions) -> usize {
    threads.or(options.threads).unwrap_or_else(|| CpuOptions::for_model(model).threads)
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
        assert_eq!(precision(BackendSpec::Cpu { threads: None }, &options), Some(own));
        assert_eq!(precision(BackendSpec::Cuda { index: None }, &options), Some(DType::F16));
        assert_eq!(precision(BackendSpec::Null, &options), None);
        let asked = options.precision(Some(DType::BF16));
        assert_eq!(precision(BackendSpec::Cpu { threads: None }, &asked), Some(DType::BF16));
    }

    /// Goal: lists are written as they are read, and each backend of them is the one that its own
    /// spec names; what is wrong is said of the one that it is wrong in.
    #[test]
    fn lists_name_several_backends() {
        let cpu = |threads| BackendSpec::Cpu { threads: Some(threads) };
        let cuda = |index| BackendSpec::Cuda { index: Some(index) };
        for (text, expected) in [
            ("cpu:2x1", vec![cpu(1), cpu(1)]),
            ("cpu:1x2", vec![cpu(2)]),
            ("cuda:0,cuda:1", vec![cuda(0), cuda(1)]),
            ("cpu:2x4,null,cpu:1x4", vec![cpu(4), cpu(4), BackendSpec::Null, cpu(4)]),
            ("cpu", vec![BackendSpec::Cpu { threads: None }]),
        ] {
            let specs: BackendSpecs = text.parse().unwrap();
            assert_eq!(specs.to_string(), text);
            assert_eq!(*specs, expected);
        }
        for (text, part) in [
            ("cpu:0x1", "cpu:TEAMSxTHREADS"),
            ("cpu:2", "`cpu:2`"),
            ("cpu:33x1", "for up to 32"),
            ("null,cuba:0", "`cuba:0`: not a backend"),
            ("null,", "``: not a backend"),
        ] {
            let error = text.parse::<BackendSpecs>().unwrap_err();
            assert!(error.is_argument() && error.to_string().contains(part), "{text}: {error}");
        }
        let error = "cpu:2x1".parse::<BackendSpec>().unwrap_err();
        assert!(error.to_string().contains("each team is a backend"), "{error}");
    }

    #[cfg(feature = "sim")]
    #[test]
    fn commas_of_a_simulated_device_are_its_own() {
        let text = "sim:up=1ms+1us,compute=2ms+9us,down=1us+1us,null,sim:h100";
        let specs: BackendSpecs = text.parse().unwrap();
        let one = |text: &str| text.parse::<BackendSpec>().unwrap();
        let expected =
            [one("sim:up=1ms+1us,compute=2ms+9us,down=1us+1us"), one("null"), one("sim:h100")];
        assert_eq!(*specs, expected);
    }

    #[test]
    fn a_network_needs_a_model() {
        let error = BackendSpec::Cpu { threads: None }
            .open(None, &OpenOptions::default())
            .map(drop)
            .unwrap_err();
        assert_eq!(error.to_string(), "cpu: a network is computed there: give a model");
        let null = BackendSpec::Null.open(None, &OpenOptions::default()).unwrap();
        assert_eq!(null.geometry(), OpenOptions::default().geometry);
    }
}
