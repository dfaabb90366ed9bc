//! The model's side file `config.json`, in the form that timm writes beside its weights.
//!
//! Only what inference needs is read; unknown keys are ignored. A missing key takes the value that
//! torchvision's and timm's ImageNet ResNet-50 share.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::network::{INPUT_SIDE_MAX, INPUT_SIDE_MIN};
use crate::error::{Error, Kind, Result};

/// Smallest share of the side that a crop may keep; far below the 0.8 to 1 of real models, it
/// bounds the size that an image is enlarged to.
pub(crate) const CROP_PCT_MIN: f64 = 0.01;

/// Longest file that is read: far more than names for a hundred thousand classes take, and a pipe
/// or device that never ends is cut off here.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Filter of the resize, antialiased as in Pillow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom spline with a = -0.5.
    Bicubic,
}

/// How images become the network's input, and what its outputs are called.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Height of the network's input in pixels.
    pub height: usize,
    /// Width of the network's input in pixels.
    pub width: usize,
    /// Mean of each RGB channel, of pixel values scaled to 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of each RGB channel, of pixel values scaled to 0..=1.
    pub std: [f32; 3],
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// The crop's share of the resized image's shorter side, 0.01 to 1.
    pub crop_pct: f64,
    /// Number of logits, where the file states it.
    pub class_count: Option<usize>,
    /// Names of the classes in the order of the logits; empty where the file has none.
    pub label_names: Vec<String>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            height: 224,
            width: 224,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            interpolation: Interpolation::Bilinear,
            crop_pct: 0.875,
            class_count: None,
            label_names: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct File {
    architecture: Option<String>,
    num_classes: Option<usize>,
    label_names: Option<Vec<String>>,
    #[serde(default)]
    pretrained_cfg: Pretrained,
}

#[derive(Default, Deserialize)]
struct Pretrained {
    input_size: Option<[usize; 3]>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<Interpolation>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    num_classes: Option<usize>,
}

impl ModelConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `is_io` when it cannot be read or is longer than 16 MiB; `is_config` when it is not JSON of
    /// timm's form, is of another architecture, or a value is out of range.
    pub fn load(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| {
            Error::new(Kind::Io, format!("{}: cannot read: {error}", path.display()))
                .with_source(error)
        };
        let mut text = Vec::new();
        let file = fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let reason = format!("{}: longer than {FILE_BYTES_MAX} bytes", path.display());
            return Err(Error::new(Kind::Io, reason));
        }
        Self::parse(&text).map_err(|error| error.in_file(path))
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// `is_config`, as for [`ModelConfig::load`].
    pub fn parse(text: &[u8]) -> Result<Self> {
        let file: File = serde_json::from_slice(text).map_err(|error| {
            Error::new(Kind::Config, format!("not a timm config: {error}")).with_source(error)
        })?;
        let default = Self::default();
        let pretrained = file.pretrained_cfg;
        let [channels, height, width] =
            pretrained.input_size.unwrap_or([3, default.height, default.width]);
        let config = Self {
            height,
            width,
            mean: pretrained.mean.unwrap_or(default.mean),
            std: pretrained.std.unwrap_or(default.std),
            interpolation: pretrained.interpolation.unwrap_or(default.interpolation),
            crop_pct: pretrained.crop_pct.unwrap_or(default.crop_pct),
            class_count: file.num_classes.or(pretrained.num_classes),
            label_names: file.label_names.unwrap_or_default(),
        };
        let architecture = file.architecture.as_deref().unwrap_or("resnet50");
        let crop_mode = pretrained.crop_mode.as_deref().unwrap_or("center");
        config.validate(architecture, channels, crop_mode)?;
        Ok(config)
    }

    fn validate(&self, architecture: &str, channels: usize, crop_mode: &str) -> Result<()> {
        let sides = INPUT_SIDE_MIN..=INPUT_SIDE_MAX;
        let problem = if architecture != "resnet50" {
            format!("architecture is \"{architecture}\": expected \"resnet50\"")
        } else if channels != 3 || !sides.contains(&self.height) || !sides.contains(&self.width) {
            format!(
                "input_size is [{channels}, {}, {}]: expected [3, height, width] with sides from \
                 {INPUT_SIDE_MIN} to {INPUT_SIDE_MAX}",
                self.height, self.width
            )
        } else if !self.mean.iter().all(|mean| mean.is_finite()) {
            format!("mean is {:?}: expected finite numbers", self.mean)
        } else if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            format!("std is {:?}: expected positive numbers", self.std)
        } else if !self.is_normalisable() {
            let (mean, std) = (self.mean, self.std);
            format!("std is {std:?}, mean {mean:?}: no finite numbers come of such a division")
        } else if !(CROP_PCT_MIN..=1.0).contains(&self.crop_pct) {
            format!("crop_pct is {}: expected {CROP_PCT_MIN} to 1", self.crop_pct)
        } else if crop_mode != "center" {
            format!("crop_mode is \"{crop_mode}\": expected \"center\"")
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Config, problem))
    }

    /// Whether the darkest and the brightest value of each channel make finite inputs, and with
    /// them all.
    fn is_normalisable(&self) -> bool {
        self.mean.iter().zip(&self.std).all(|(&mean, &std)| {
            let input = |value: f64| ((value - f64::from(mean)) / f64::from(std)) as f32;
            input(0.0).is_finite() && input(1.0).is_finite()
        })
    }

    /// Checks the file's class count and labels against the number of logits in the weights.
    pub(super) fn check_class_count(&self, class_count: usize) -> Result<()> {
        if let Some(stated) = self.class_count
            && stated != class_count
        {
            return Err(Error::new(
                Kind::Config,
                format!("num_classes is {stated}, but fc.weight in the weights has {class_count}"),
            ));
        }
        if !self.label_names.is_empty() && self.label_names.len() != class_count {
            return Err(Error::new(
                Kind::Config,
                format!(
                    "label_names has {} names, but fc.weight in the weights has {class_count} rows",
                    self.label_names.len()
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_object_is_imagenet() {
        assert_eq!(ModelConfig::parse(b"{}").unwrap(), ModelConfig::default());
    }

    #[test]
    fn timm_file_is_read() {
        let config = ModelConfig::parse(
            br#"{"architecture": "resnet50", "num_classes": 2, "label_names": ["a", "b"],
                "pretrained_cfg": {"input_size": [3, 160, 176], "interpolation": "bicubic",
                "crop_pct": 0.95,
                "pool_size": [7, 7], "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}}"#,
        )
        .unwrap();
        assert_eq!((config.height, config.width), (160, 176));
        assert_eq!(config.interpolation, Interpolation::Bicubic);
        assert_eq!(config.label_names, ["a", "b"]);
        assert!(config.check_class_count(2).is_ok());
        assert!(config.check_class_count(3).unwrap_err().to_string().contains("num_classes is 2"));
    }

    #[test]
    fn bad_values_are_named() {
        for (text, culprit) in [
            (r#"{"architecture": "vit_base"}"#, "vit_base"),
            (r#"{"pretrained_cfg": {"input_size": [1, 224, 224]}}"#, "input_size"),
            (r#"{"pretrained_cfg": {"input_size": [3, 16, 224]}}"#, "input_size"),
            (r#"{"pretrained_cfg": {"std": [0.2, 0.0, 0.2]}}"#, "std"),
            (r#"{"pretrained_cfg": {"mean": [0.2, 1e99, 0.2]}}"#, "mean"),
            (r#"{"pretrained_cfg": {"std": [0.2, 1e-42, 0.2]}}"#, "std"),
            (r#"{"pretrained_cfg": {"mean": [3e38, 0, 0], "std": [0.5, 1, 1]}}"#, "mean"),
            (r#"{"pretrained_cfg": {"crop_pct": 0}}"#, "crop_pct"),
            (r#"{"pretrained_cfg": {"crop_pct": 0.001}}"#, "crop_pct"),
            (r#"{"pretrained_cfg": {"crop_pct": 1.01}}"#, "crop_pct"),
            (r#"{"pretrained_cfg": {"crop_mode": "squash"}}"#, "crop_mode"),
            (r#"{"pretrained_cfg": {"interpolation": "nearest"}}"#, "nearest"),
            ("[", "not a timm config"),
        ] {
            let error = ModelConfig::parse(text.as_bytes()).unwrap_err();
            assert!(error.is_config(), "{text}");
            assert!(error.to_string().contains(culprit), "{text}: {error}");
        }
    }
}
