//! The model's side file `config.json`, in the forms that timm and transformers write.
//!
//! Invariant: nothing of the file is passed over in silence that could change an answer: it is
//! read, refused by name, or told as a warning. A missing key takes the value that torchvision's
//! and timm's ImageNet ResNet-50 share, which is told too. Knows nothing of how images are resized.

mod json;
mod keys;
mod labels;
mod processor;

use std::fs;
use std::io::Read;
use std::path::Path;

use self::json::Field;
use self::keys::Keys;
pub(crate) use self::labels::unnamed;
use super::network::{INPUT_SIDE_MAX, INPUT_SIDE_MIN};
use crate::error::{Error, Kind, Result};

/// Smallest share of the side that a crop may keep; far below the 0.8 to 1 of real models, it
/// bounds the size that an image is enlarged to.
pub(crate) const CROP_PCT_MIN: f64 = 0.01;

/// Longest file that is read: far more than names for a hundred thousand classes take, and a pipe
/// or device that never ends is cut off here.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Most characters of the keys that a warning names.
const NAMED_LEN_MAX: usize = 300;

/// What mean and std are meant of; those of pixels up to 255 are the common mistake.
const OF_SCALED_PIXELS: &str = "of pixel values scaled to 0 to 1; divide those of 0 to 255 by 255";

/// Filter of the resize, antialiased as in Pillow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A file's contents, and what is to be told of them.
pub(super) struct Found {
    pub(super) config: ModelConfig,
    /// What was passed over.
    notes: Vec<String>,
    /// Those of [`PREPROCESSING`] that are not stated.
    assumed: Vec<Stated>,
}

impl ModelConfig {
    /// Reads the file at `path`. What it leaves open and what is not read of it is logged as a
    /// warning.
    ///
    /// # Errors
    /// `is_io` when it cannot be read or is longer than 16 MiB; `is_config` when it is not JSON, no
    /// configuration, one of another network or with steps that are not done here, or a value is
    /// of the wrong type or out of range.
    pub fn load(path: &Path) -> Result<Self> {
        let found = Found::load(path)?;
        found.warn(path, None);
        Ok(found.config)
    }

    /// Parses the text of a `config.json`, as [`ModelConfig::load`].
    ///
    /// # Errors
    /// `is_config`, as for [`ModelConfig::load`].
    pub fn parse(text: &[u8]) -> Result<Self> {
        let found = Found::parse(text)?;
        found.warn(Path::new("config.json"), None);
        Ok(found.config)
    }

    fn validate(&self) -> Result<()> {
        let sides = INPUT_SIDE_MIN..=INPUT_SIDE_MAX;
        let (height, width, mean, std) = (self.height, self.width, self.mean, self.std);
        let problem = if !sides.contains(&height) || !sides.contains(&width) {
            format!(
                "input_size is [3, {height}, {width}]: expected sides from {INPUT_SIDE_MIN} to \
                 {INPUT_SIDE_MAX}"
            )
        } else if !mean.iter().all(|mean| (0.0..=1.0).contains(mean)) {
            format!("mean is {mean:?}: expected 0 to 1, {OF_SCALED_PIXELS}")
        } else if !std.iter().all(|std| *std > 0.0 && *std <= 1.0) {
            format!("std is {std:?}: expected above 0 and up to 1, {OF_SCALED_PIXELS}")
        } else if !self.is_normalisable() {
            format!("std is {std:?}, mean {mean:?}: no finite numbers come of such a division")
        } else if !(CROP_PCT_MIN..=1.0).contains(&self.crop_pct) {
            format!("crop_pct is {}: expected {CROP_PCT_MIN} to 1", self.crop_pct)
        } else {
            return Ok(());
        };
        Err(json::error(problem))
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
                format!(
                    "num_classes is {stated}, but fc.weight in the weights has {class_count} rows: \
                     one of the two is another model's"
                ),
            ));
        }
        let names_len = self.label_names.len();
        if names_len == 0 || names_len == class_count {
            return Ok(());
        }
        let is_unnamed = |(index, name): &(usize, &String)| **name == unnamed(*index);
        let found = match self.label_names.iter().enumerate().find(is_unnamed) {
            Some((missing, _)) => {
                format!("has names up to that of class {}, without class {missing}", names_len - 1)
            }
            None => format!("has {names_len} names"),
        };
        let message = format!(
            "label_names {found}, but fc.weight in the weights has {class_count} rows: name every \
             class from 0 to {}, or none (labels and id2label count as label_names)",
            class_count - 1
        );
        Err(Error::new(Kind::Config, message))
    }
}

impl Found {
    /// The file at `path`.
    pub(super) fn load(path: &Path) -> Result<Self> {
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

    /// Where there is no file.
    pub(super) fn none() -> Self {
        let assumed = PREPROCESSING.to_vec();
        Self { config: ModelConfig::default(), notes: Vec::new(), assumed }
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let object = json::parse(text)?;
        let mut keys = Keys::of(&object)?;
        for architecture in [keys.top("architecture"), keys.inner("architecture")] {
            architecture.map_or(Ok(()), check_architecture)?;
        }
        let mut notes = Vec::new();
        let unknown = std::mem::take(&mut keys.unknown);
        if !unknown.is_empty() {
            let unknown = json::cut(unknown.join(", "), NAMED_LEN_MAX);
            notes.push(format!("unknown, so not read: {unknown}"));
        }
        let label_names = labels::read(&keys, &mut notes)?;
        let class_count = class_count(&keys)?;
        let mut found = Self {
            config: ModelConfig { class_count, label_names, ..ModelConfig::default() },
            notes,
            assumed: Vec::new(),
        };
        if processor::is_one(&keys) {
            processor::read(&keys, &mut found.config)?;
        } else {
            found.read_preprocessing(&keys)?;
            found.notes.extend(processor::passed_over(&keys));
        }
        found.config.validate()?;
        Ok(found)
    }

    fn read_preprocessing(&mut self, keys: &Keys<'_>) -> Result<()> {
        let config = &mut self.config;
        if let Some(field) = keys.get("input_size") {
            (config.height, config.width) = input_size(field)?;
        }
        if let Some(field) = keys.get("mean") {
            config.mean = field.colours()?;
        }
        if let Some(field) = keys.get("std") {
            config.std = field.colours()?;
        }
        if let Some(field) = keys.get("interpolation") {
            config.interpolation = interpolation(field)?;
        }
        if let Some(field) = keys.get("crop_pct") {
            config.crop_pct = field.number()?;
        }
        if let Some(field) = keys.get("crop_mode")
            && field.text()? != "center"
        {
            return Err(field.wrong("\"center\", the one that is done here"));
        }
        let is_missing = |(key, _): &Stated| keys.get(key).is_none();
        self.assumed = PREPROCESSING.into_iter().filter(is_missing).collect();
        Ok(())
    }

    /// Logs what was passed over and what is assumed. `path` is the file's, or that of weights
    /// without one; `class_count` is the weights', where they are known.
    pub(super) fn warn(&self, path: &Path, class_count: Option<usize>) {
        let path = path.display();
        for note in &self.notes {
            log::warn!("{path}: {note}");
        }
        if self.assumed.is_empty() {
            return;
        }
        let value = |(key, value): &Stated| format!("{key} {}", value(&self.config));
        let values: Vec<String> = self.assumed.iter().map(value).collect();
        let is_all = self.assumed.len() == PREPROCESSING.len();
        let advice = match class_count {
            Some(count) if is_all && count != IMAGENET_CLASSES => format!(
                ". THIS IS LIKELY WRONG: with {count} classes the network is not ImageNet's, and \
                 images prepared in another way than in its training get wrong answers. State its \
                 preprocessing in config.json (docs/WEIGHTS.md)"
            ),
            _ => String::new(),
        };
        let values = values.join(", ");
        log::warn!("{path}: not stated, so taken as ImageNet's: {values}{advice}");
    }
}

/// The classes of the network whose preprocessing is assumed.
const IMAGENET_CLASSES: usize = 1000;

/// A key, and its value as the file would state it.
type Stated = (&'static str, fn(&ModelConfig) -> String);

/// The keys of the preprocessing: each that a file does not state is assumed.
const PREPROCESSING: [Stated; 5] = [
    ("input_size", |config| format!("[3, {}, {}]", config.height, config.width)),
    ("mean", |config| format!("{:?}", config.mean)),
    ("std", |config| format!("{:?}", config.std)),
    ("interpolation", |_| "bilinear".to_owned()),
    ("crop_pct", |config| config.crop_pct.to_string()),
];

/// timm's name of the network, with or without that of a training.
fn check_architecture(field: Field<'_>) -> Result<()> {
    match field.text()?.split('.').next() {
        Some("resnet50") => Ok(()),
        _ => Err(field.wrong("\"resnet50\", the one network that is run")),
    }
}

fn class_count(keys: &Keys<'_>) -> Result<Option<usize>> {
    let stated = keys.get("num_classes").or_else(|| keys.get("num_labels"));
    let stated = stated.map(|field| field.count()).transpose()?;
    let Some(field) = keys.arg("num_classes") else { return Ok(stated) };
    let count = field.count()?;
    match stated {
        Some(stated) if stated != count => {
            Err(field.wrong(&format!("{stated}, as num_classes says")))
        }
        _ => Ok(Some(count)),
    }
}

/// Height and width.
fn input_size(field: Field<'_>) -> Result<(usize, usize)> {
    let sides = match field.value {
        json::Json::List(values) => values.iter().map(json::Json::count).collect(),
        _ => None,
    };
    let sides: Option<Vec<usize>> = sides;
    match sides.as_deref() {
        Some(&[3, height, width]) => Ok((height, width)),
        _ => Err(field.wrong("[3, height, width], in pixels")),
    }
}

fn interpolation(field: Field<'_>) -> Result<Interpolation> {
    match field.text()? {
        "bilinear" => Ok(Interpolation::Bilinear),
        "bicubic" => Ok(Interpolation::Bicubic),
        _ => {
            Err(field
                .wrong("\"bilinear\" or \"bicubic\", the filters that images are resized with"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelConfig> {
        ModelConfig::parse(text.as_bytes())
    }

    fn keys_assumed(text: &str) -> Vec<&'static str> {
        let assumed = Found::parse(text.as_bytes()).unwrap().assumed;
        assumed.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_is_not_stated_is_imagenets_and_told() {
        let all = ["input_size", "mean", "std", "interpolation", "crop_pct"];
        assert_eq!(parse(r#"{"pretrained_cfg": {}}"#).unwrap(), ModelConfig::default());
        assert_eq!(keys_assumed(r#"{"architecture": "resnet50"}"#), all);
        assert_eq!(
            keys_assumed(r#"{"crop_pct": 0.9, "mean": null, "std": [1, 1, 1]}"#),
            ["input_size", "mean", "interpolation"]
        );
        assert_eq!(Found::none().assumed.len(), all.len());
    }

    /// Goal: timm's two forms mean the same. Method: the keys nested, then at the top.
    #[test]
    fn both_forms_of_timm_are_read() {
        let keys = r#""input_size": [3, 160, 176], "interpolation": "bicubic", "crop_pct": 0.95,
            "pool_size": [7, 7], "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1], "first_conv": "conv1",
            "label_names": ["a", "b"], "num_classes": 2, "tag": "a1_in1k", "classifier": null"#;
        for text in [
            format!(r#"{{"architecture": "resnet50", {keys}}}"#),
            format!(r#"{{"architecture": "resnet50.a1_in1k", "pretrained_cfg": {{{keys}}}}}"#),
        ] {
            let config = parse(&text).unwrap();
            assert_eq!((config.height, config.width), (160, 176));
            assert_eq!((config.mean, config.std), ([0.5; 3], [1.0; 3]));
            assert_eq!(config.interpolation, Interpolation::Bicubic);
            assert_eq!(config.crop_pct, 0.95);
            assert_eq!(config.label_names, ["a", "b"]);
            assert!(config.check_class_count(2).is_ok());
            let error = config.check_class_count(3).unwrap_err();
            assert!(error.to_string().contains("num_classes is 2"));
            assert_eq!(keys_assumed(&text), [""; 0]);
        }
    }

    #[test]
    fn labels_are_read_under_each_of_their_keys() {
        for text in [
            r#"{"label_names": ["a", "b"]}"#,
            r#"{"labels": ["a", "b"]}"#,
            r#"{"label_names": {"1": "b", "0": "a"}}"#,
            r#"{"pretrained_cfg": {"labels": {"0": "a", "1": "b"}}}"#,
            r#"{"pretrained_cfg": {"label_names": ["a", "b"]}, "label_descriptions": {"a": "A"}}"#,
            r#"{"label_names": [], "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0}}"#,
            // What stands at the top goes first.
            r#"{"label_names": ["a", "b"], "pretrained_cfg": {"label_names": ["c", "d"]}}"#,
        ] {
            assert_eq!(parse(text).unwrap().label_names, ["a", "b"], "{text}");
        }
        let with_gap = parse(r#"{"label_names": {"2": "c", "0": "a"}}"#).unwrap();
        assert_eq!(with_gap.label_names, ["a", "class 1", "c"]);
    }

    #[test]
    fn what_is_passed_over_is_told() {
        for (text, words) in [
            (r#"{"num_classes": 2, "optimizer": "sgd"}"#, "not read: optimizer"),
            (r#"{"pretrained_cfg": {"seed": 1}}"#, "not read: pretrained_cfg.seed"),
            (r#"{"label_names": ["a"], "labels": ["b"]}"#, "label_names and labels name the"),
            (
                r#"{"mean": [0, 0, 0], "image_std": [1, 1, 1], "crop_size": 224}"#,
                "not read beside timm's keys: image_std, crop_size",
            ),
            (r#"{"num_classes": 2, "label2id": {"a": 0}}"#, "label2id names no class"),
            (r#"{"num_classes": 2, "label_descriptions": {"a": "b"}}"#, "write label_names"),
        ] {
            let [note] = &Found::parse(text.as_bytes()).unwrap().notes[..] else {
                panic!("{text}")
            };
            assert!(note.contains(words), "{text}: {note}");
        }
    }

    #[test]
    fn what_leaves_the_network_as_it_is_is_accepted() {
        for text in [
            r#"{"architecture": "resnet50", "model_args": {}, "global_pool": "avg"}"#,
            r#"{"num_classes": 3, "model_args": {"num_classes": 3, "in_chans": 3,
                "block_args": null, "drop_rate": 0.1, "layers": [3, 4, 6, 3]},
                "num_features": 2048}"#,
            r#"{"architectures": ["ResNetForImageClassification"], "model_type": "resnet",
                "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048],
                "hidden_act": "relu", "layer_type": "bottleneck", "embedding_size": 64,
                "num_channels": 3,
                "downsample_in_first_stage": false, "torch_dtype": "float32"}"#,
            r#"{"pretrained_cfg": {"test_input_size": [3, 288, 288], "test_crop_pct": 1.0,
                "fixed_input_size": false, "label_offset": 0, "url": "", "license": "mit"}}"#,
        ] {
            let found = Found::parse(text.as_bytes()).unwrap();
            assert_eq!(found.notes, [""; 0], "{text}");
        }
    }

    /// Goal: no file that fits the limit takes minutes to refuse.
    #[test]
    fn too_many_and_too_long_keys_are_no_work() {
        let keys: Vec<String> = (0..1001).map(|index| format!(r#""k{index}": 0"#)).collect();
        let error = parse(&format!("{{{}}}", keys.join(", "))).unwrap_err();
        assert!(error.to_string().contains("more than 1000 keys"), "{error}");
        let long = format!(r#"{{"num_classes": 2, "{}": 0}}"#, "crop_pct".repeat(1 << 18));
        assert!(parse(&long).is_ok());
    }

    #[test]
    fn bad_values_are_named() {
        for (text, words) in [
            (r#"{"architecture": "vit_base"}"#, "architecture is \"vit_base\""),
            (r#"{"architecture": "resnet50d.ra2_in1k"}"#, "architecture is \"resnet50d"),
            (r#"{"pretrained_cfg": {"architecture": "resnet18"}}"#, "pretrained_cfg.architecture"),
            (r#"{"model_type": "vit", "hidden_size": 768}"#, "model_type is \"vit\""),
            (r#"{"model_type": "resnet", "depths": [2, 2, 2, 2]}"#, "depths is [2, 2, 2, 2]"),
            (r#"{"architecture": "resnet50", "global_pool": "max"}"#, "global_pool is \"max\""),
            (r#"{"architecture": "resnet50", "features_only": true}"#, "features_only is true"),
            (r#"{"architecture": "resnet50", "in_chans": 1}"#, "in_chans is 1: expected 3"),
            (r#"{"model_args": {"output_stride": 8}}"#, "model_args.output_stride is 8"),
            (r#"{"model_args": {"global_pool": "catavgmax"}}"#, "model_args.global_pool"),
            (r#"{"model_args": {"block": "BasicBlock"}}"#, "model_args.block is \"BasicBlock\""),
            (r#"{"model_args": {"outputstride": 32}}"#, "did you mean output_stride?"),
            (r#"{"model_args": []}"#, "model_args is []: expected an object"),
            (r#"{"num_classes": 3, "model_args": {"num_classes": 4}}"#, "model_args.num_classes"),
            (r#"{"pretrained_cfg": {"first_conv": "conv1.0"}}"#, "pretrained_cfg.first_conv"),
            (r#"{"pretrained_cfg": {"classifier": "head.fc"}}"#, "classifier is \"head.fc\""),
            (r#"{"pretrained_cfg": {"label_offset": 1}}"#, "label_offset is 1: expected 0"),
            (r#"{"pretrained_cfg": null}"#, "pretrained_cfg is null: expected an object"),
            (r#"{"pretrained_cfg": {"input_size": [1, 224, 224]}}"#, "input_size is [1, 224, 224]"),
            (r#"{"pretrained_cfg": {"input_size": [3, 16, 224]}}"#, "input_size is [3, 16, 224]"),
            (r#"{"pretrained_cfg": {"input_size": [224, 224]}}"#, "expected [3, height, width]"),
            (r#"{"input_size": 224}"#, "input_size is 224: expected [3, height, width]"),
            (r#"{"input_size": [3, 224.5, 224]}"#, "expected [3, height, width]"),
            (r#"{"pretrained_cfg": {"std": [0.2, 0.0, 0.2]}}"#, "std is [0.2, 0.0, 0.2]"),
            (r#"{"std": [58.395, 57.12, 57.375]}"#, "divide those of 0 to 255 by 255"),
            (r#"{"mean": [123.675, 116.28, 103.53]}"#, "divide those of 0 to 255 by 255"),
            (r#"{"mean": [0.2, -0.1, 0.2]}"#, "mean is [0.2, -0.1, 0.2]: expected 0 to 1"),
            (r#"{"pretrained_cfg": {"mean": [0.2, 1e99, 0.2]}}"#, "mean is"),
            (r#"{"pretrained_cfg": {"std": [0.2, 1e-42, 0.2]}}"#, "std is"),
            (r#"{"mean": 0.5}"#, "mean is 0.5: expected 3 numbers"),
            (r#"{"mean": [0.5, 0.5]}"#, "mean is [0.5, 0.5]: expected 3 numbers"),
            (r#"{"mean": ["0.5", 0.5, 0.5]}"#, "expected 3 numbers"),
            (r#"{"pretrained_cfg": {"crop_pct": 0}}"#, "crop_pct is 0"),
            (r#"{"pretrained_cfg": {"crop_pct": 0.001}}"#, "crop_pct"),
            (r#"{"pretrained_cfg": {"crop_pct": 1.01}}"#, "crop_pct"),
            (r#"{"crop_pct": "0.9"}"#, "crop_pct is \"0.9\": expected a number"),
            (r#"{"pretrained_cfg": {"crop_mode": "squash"}}"#, "crop_mode is \"squash\""),
            (
                r#"{"interpolation": "nearest"}"#,
                "interpolation is \"nearest\": expected \"bilinear\"",
            ),
            (r#"{"num_classes": -1}"#, "num_classes is -1: expected a whole number"),
            (r#"{"num_classes": "ten"}"#, "num_classes is \"ten\""),
            (r#"{"label_names": "cat"}"#, "label_names is \"cat\": expected a list of names"),
            (r#"{"label_names": ["cat", 7]}"#, "label_names[1] is 7: expected the name"),
            (r#"{"label_names": {"cat": 0}}"#, "label_names.cat: expected the number of a class"),
            (r#"{"id2label": {"0": "a", "00": "b"}}"#, "id2label names class 0 twice"),
            (r#"{"id2label": {"4000000000": "a"}}"#, "id2label.4000000000"),
            (r#"{"label_descriptions": 3}"#, "label_descriptions is 3"),
            (r#"{"pretrained_cfg": {"crop_prct": 0.9}}"#, "did you mean crop_pct?"),
            (r#"{"interpolaton": "bicubic"}"#, "did you mean interpolation?"),
            (r#"{"pretrained_cfg": {}, "crop_pct": 0.9}"#, "crop_pct stands beside pretrained_cfg"),
            ("{}", "not a timm configuration"),
            (r#"{"name": "x", "license": "mit"}"#, "not a timm configuration"),
            ("[", "is not JSON"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.is_config(), "{text}");
            assert!(error.to_string().contains(words), "{text}: {error}");
            for type_name in ["struct", "usize", "f64", "sequence", "map"] {
                assert!(!error.to_string().contains(type_name), "{text}: {error}");
            }
        }
    }
}
