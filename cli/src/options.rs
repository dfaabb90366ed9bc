//! Options that several subcommands share, and the model that they open.
//!
//! Knows nothing of what is done with them.

#[cfg(feature = "cuda")]
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use twinstream::lower::DType;
use twinstream::model::Model;

use crate::files::of_repository;
use crate::outcome::Usage;
use crate::reader::is_stdin;

/// The network of the repository, used where none is named.
const DEFAULT_WEIGHTS: &str = "models/resnet50-cifar10/model.safetensors";

/// What commands for a GPU say in a build without one.
pub const NO_GPU: &str = "this build has no GPU backend: build with --features cuda";

/// Which network, at which input size.
#[derive(Args)]
pub struct ModelOptions {
    /// Weights with torchvision's or timm's names, as a safetensors file [default: the CIFAR-10
    /// classifier in models/resnet50-cifar10]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Configuration in timm's form [default: config.json beside the weights, else ImageNet's]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Input size, height x width, such as 224x224 [default: the configuration's]
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// What is computed in: f32, bf16 or i8 on the CPU, f16 or i8 on a GPU [default: i8 with
    /// weights that `twinstream calibrate` wrote, else f32 on the CPU and f16 on a GPU]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<DType>,
}

impl ModelOptions {
    pub fn load(&self) -> anyhow::Result<Model> {
        let weights = match &self.weights {
            Some(weights) => weights.clone(),
            None => of_repository(DEFAULT_WEIGHTS).with_context(|| {
                format!("no {DEFAULT_WEIGHTS} here: name a model with --weights")
            })?,
        };
        for path in [Some(&weights), self.config.as_ref()].into_iter().flatten() {
            if is_stdin(path) {
                let message = "weights and configuration are not read from stdin: name a file, \
                     such as ./- if it has this name";
                return Err(Usage(message.to_owned()).into());
            }
        }
        Ok(Model::load(&weights, self.config.as_deref())?)
    }

    /// Its options, and whether they were given.
    pub fn given(&self) -> [Given; 4] {
        [
            ("--weights", self.weights.is_some()),
            ("--config", self.config.is_some()),
            ("--size", self.size.is_some()),
            ("--precision", self.precision.is_some()),
        ]
    }

    /// As another process of this program is told them.
    #[cfg(feature = "cuda")]
    pub fn arguments(&self) -> Vec<OsString> {
        let size = self.size.map(|Size { height, width }| format!("{height}x{width}").into());
        let precision = self.precision.map(|precision| precision.to_string().into());
        let given = [
            ("--weights", self.weights.clone().map(PathBuf::into_os_string)),
            ("--config", self.config.clone().map(PathBuf::into_os_string)),
            ("--size", size),
            ("--precision", precision),
        ];
        arguments(given)
    }

    /// The input size that was asked for, or the model's own.
    pub fn size(&self, model: &Model) -> Size {
        let config = model.config();
        self.size.unwrap_or(Size { height: config.height, width: config.width })
    }
}

/// Height and width of the network's input in pixels.
#[derive(Clone, Copy)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sides = text.split_once('x').and_then(|(height, width)| {
            Some(Self { height: height.parse().ok()?, width: width.parse().ok()? })
        });
        sides.ok_or("expected HEIGHTxWIDTH in pixels, such as 224x224")
    }
}

/// A command line of options that were given.
#[cfg(feature = "cuda")]
pub fn arguments(
    given: impl IntoIterator<Item = (&'static str, Option<OsString>)>,
) -> Vec<OsString> {
    let given = given.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
    given.flatten().collect()
}

/// An option by its name, and whether it was given.
pub type Given = (&'static str, bool);

/// Refuses options that change nothing where the backend is the one that `choice` names.
pub fn refuse_unused(choice: &str, options: impl IntoIterator<Item = Given>) -> Result<(), Usage> {
    match options.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(Usage(format!("{option} changes nothing {choice}; leave it out"))),
        None => Ok(()),
    }
}

pub fn parse_count(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a whole number from 1"),
    }
}

/// MiB as bytes; more than any machine has where the number is absurd.
pub fn parse_mebibytes(text: &str) -> Result<usize, &'static str> {
    Ok(parse_count(text)?.saturating_mul(1 << 20))
}

/// Megapixels as a number of pixels; of a million, the RGB values alone take 3 TB.
pub fn parse_pixels(text: &str) -> Result<usize, &'static str> {
    match text.parse::<f64>() {
        Ok(megapixels) if (1e-6..=1e6).contains(&megapixels) => Ok((megapixels * 1e6) as usize),
        _ => Err("expected a number of megapixels above 0 and up to 1000000, such as 200"),
    }
}
