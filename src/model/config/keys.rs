//! The keys that timm and transformers write into such a file, and what is done about each.
//!
//! Invariant: a key that could change the answers is read or refused; what is not known is told.

use super::json::{Field, Json, Object, error};
use crate::error::{Error, Result};

/// What is done about a key.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// Its value is taken.
    Read,
    /// Changes nothing here, whatever its value.
    Passed,
    /// Describes the network, or a step that is not taken here: these values alone leave both as
    /// they are.
    Only(&'static [&'static str]),
}
use Use::{Only, Passed, Read};

/// Keys of the file and of its `pretrained_cfg`. Those that say what the file is about come first:
/// of several faults, the first is told.
const KEYS: &[(&str, Use)] = &[
    ("architecture", Read),
    ("model_type", Only(&["\"resnet\"", "\"timm_wrapper\""])),
    (
        "architectures",
        Only(&["[\"ResNetForImageClassification\"]", "[\"TimmWrapperForImageClassification\"]"]),
    ),
    // timm.
    ("pretrained_cfg", Read),
    ("input_size", Read),
    ("mean", Read),
    ("std", Read),
    ("interpolation", Read),
    ("crop_pct", Read),
    ("crop_mode", Read),
    ("num_classes", Read),
    ("label_names", Read),
    ("labels", Read),
    ("label_descriptions", Read),
    ("model_args", Read),
    ("features_only", Only(&["false"])),
    ("global_pool", Only(&["\"avg\"", "\"fast\"", "\"fastavg\""])),
    ("num_features", Only(&["2048"])),
    ("in_chans", Only(&["3"])),
    ("output_stride", Only(&["32"])),
    ("first_conv", Only(&["\"conv1\""])),
    ("classifier", Only(&["\"fc\""])),
    ("label_offset", Only(&["0"])),
    // The second size and crop for evaluation: timm takes them where it is told to.
    ("test_input_size", Passed),
    ("test_crop_pct", Passed),
    ("test_pool_size", Passed),
    ("min_input_size", Passed),
    ("fixed_input_size", Passed),
    ("pool_size", Passed),
    ("url", Passed),
    ("file", Passed),
    ("source", Passed),
    ("state_dict", Passed),
    ("hf_hub_id", Passed),
    ("hf_hub_filename", Passed),
    ("tag", Passed),
    ("custom_load", Passed),
    ("license", Passed),
    ("description", Passed),
    ("origin_url", Passed),
    ("paper_name", Passed),
    ("paper_ids", Passed),
    ("notes", Passed),
    // transformers, of a network.
    ("id2label", Read),
    ("label2id", Read),
    ("num_labels", Read),
    ("num_channels", Only(&["3"])),
    ("embedding_size", Only(&["64"])),
    ("hidden_sizes", Only(&["[256, 512, 1024, 2048]"])),
    ("depths", Only(&["[3, 4, 6, 3]"])),
    ("layer_type", Only(&["\"bottleneck\""])),
    ("hidden_act", Only(&["\"relu\""])),
    ("downsample_in_first_stage", Only(&["false"])),
    ("downsample_in_bottleneck", Only(&["false"])),
    ("do_pooling", Only(&["true"])),
    ("problem_type", Only(&["\"single_label_classification\""])),
    ("stage_names", Passed),
    ("out_features", Passed),
    ("out_indices", Passed),
    ("initializer_range", Passed),
    ("torch_dtype", Passed),
    ("dtype", Passed),
    ("transformers_version", Passed),
    ("_name_or_path", Passed),
    // transformers, of the way of an image.
    ("image_processor_type", Read),
    ("feature_extractor_type", Read),
    ("do_resize", Read),
    ("size", Read),
    ("resample", Read),
    ("do_center_crop", Read),
    ("crop_size", Read),
    ("do_rescale", Read),
    ("rescale_factor", Read),
    ("do_normalize", Read),
    ("image_mean", Read),
    ("image_std", Read),
    ("do_pad", Only(&["false"])),
    ("do_flip_channel_order", Only(&["false"])),
    ("rescale_offset", Only(&["false"])),
    ("default_to_square", Passed),
    ("pad_size", Passed),
    ("do_convert_rgb", Passed),
    ("processor_class", Passed),
    ("data_format", Passed),
    ("input_data_format", Passed),
    ("return_tensors", Passed),
    ("disable_grouping", Passed),
    ("device", Passed),
];

/// What timm hands to the network's constructor. A key that is not here is refused: it is there
/// because it makes another network.
const MODEL_ARGS: &[(&str, Use)] = &[
    ("num_classes", Read),
    ("in_chans", Only(&["3"])),
    ("output_stride", Only(&["32"])),
    ("global_pool", Only(&["\"avg\"", "\"fast\"", "\"fastavg\""])),
    ("features_only", Only(&["false"])),
    ("layers", Only(&["[3, 4, 6, 3]"])),
    ("channels", Only(&["[64, 128, 256, 512]"])),
    ("cardinality", Only(&["1"])),
    ("base_width", Only(&["64"])),
    ("stem_width", Only(&["64"])),
    ("stem_type", Only(&["\"\""])),
    ("replace_stem_pool", Only(&["false"])),
    ("block_reduce_first", Only(&["1"])),
    ("down_kernel_size", Only(&["1"])),
    ("avg_down", Only(&["false"])),
    ("act_layer", Only(&["\"relu\""])),
    ("norm_layer", Only(&["\"batchnorm2d\"", "\"batchnorm\""])),
    ("block_args", Only(&["{}"])),
    ("aa_layer", Only(&["\"\""])),
    // Of training alone.
    ("drop_rate", Passed),
    ("drop_path_rate", Passed),
    ("drop_block_rate", Passed),
    ("zero_init_last", Passed),
];

/// Keys of `pretrained_cfg` that timm does not read beside it.
const INNER: [&str; 6] = ["input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"];

/// Most edits between a key and the one that was meant, where that is a long one.
const EDITS_MAX: usize = 3;

/// Letters of a key for each edit.
const LETTERS_AN_EDIT: usize = 4;

/// Longest key that is compared with others, in bytes: comparing takes time and memory by length.
const MISTYPED_BYTES_MAX: usize = 64;

/// Most keys of an object: ten times those that are known.
const KEYS_LEN_MAX: usize = 1000;

/// The file's objects, of known keys alone; a value `null` is as none.
pub(super) struct Keys<'a> {
    top: &'a Object,
    /// `pretrained_cfg`, where there is one: in timm's older, flat form its keys stand at the top.
    inner: Option<&'a Object>,
    args: Option<&'a Object>,
    /// Keys that nobody knows.
    pub(super) unknown: Vec<String>,
}

impl<'a> Keys<'a> {
    /// Refuses keys that describe another network, stand in the wrong place or are mistyped.
    pub(super) fn of(top: &'a Object) -> Result<Self> {
        let field = |key| find("", top, key);
        // The one key whose `null` says something: timm itself fails at it.
        let inner = top.iter().find(|(key, _)| key == "pretrained_cfg");
        let inner =
            inner.map(|(key, value)| Field { place: "", key, value }.object()).transpose()?;
        let args = field("model_args").map(|args| args.object()).transpose()?;
        let keys = Self { top, inner, args, unknown: Vec::new() };
        let unknown = keys.check()?;
        Ok(Self { unknown, ..keys })
    }

    /// The value of `key`: what stands at the top goes before `pretrained_cfg`, as timm has it.
    pub(super) fn get(&self, key: &'a str) -> Option<Field<'a>> {
        self.top(key).or_else(|| self.inner(key))
    }

    /// The value of `key` at the top.
    pub(super) fn top(&self, key: &'a str) -> Option<Field<'a>> {
        find("", self.top, key)
    }

    /// The value of `key` in `pretrained_cfg`.
    pub(super) fn inner(&self, key: &'a str) -> Option<Field<'a>> {
        find("pretrained_cfg", self.inner?, key)
    }

    /// The value of `key` in `model_args`.
    pub(super) fn arg(&self, key: &'a str) -> Option<Field<'a>> {
        find("model_args", self.args?, key)
    }

    fn objects(&self) -> impl Iterator<Item = (&'static str, &'a Object)> {
        let inner = self.inner.map(|inner| ("pretrained_cfg", inner));
        std::iter::once(("", self.top)).chain(inner)
    }

    /// The keys that nobody knows, where nothing is wrong.
    fn check(&self) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        if self.objects().any(|(_, object)| object.len() > KEYS_LEN_MAX) {
            return Err(error(format!("not a configuration: more than {KEYS_LEN_MAX} keys")));
        }
        self.check_kind()?;
        for (place, object) in self.objects() {
            check_values(place, object, KEYS)?;
        }
        self.args.map_or(Ok(()), check_args)?;
        for (place, object) in self.objects() {
            for (key, _) in object.iter().filter(|(key, _)| use_of(key, KEYS).is_none()) {
                let name = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                match meant(key, KEYS) {
                    Some(meant) => return Err(mistyped(&name, meant)),
                    None => unknown.push(name),
                }
            }
        }
        let misplaced = INNER.iter().find_map(|key| find("", self.top, key));
        match misplaced.filter(|_| self.inner.is_some()) {
            Some(Field { key, .. }) => Err(error(format!(
                "{key} stands beside pretrained_cfg, where timm does not read it: move it inside"
            ))),
            None => Ok(unknown),
        }
    }

    /// Refuses files that are about something else.
    fn check_kind(&self) -> Result<()> {
        let says_something = |key: &str| matches!(use_of(key, KEYS), Some(Read | Only(_)));
        if self.top.iter().any(|(key, _)| says_something(key)) {
            return Ok(());
        }
        // One mistyped key in a file is a key that was meant.
        if let Some((key, meant)) =
            self.top.iter().find_map(|(key, _)| Some((key, meant(key, KEYS)?)))
        {
            return Err(mistyped(key, meant));
        }
        Err(error(
            "not a timm configuration: it has none of its keys, such as architecture, \
             pretrained_cfg, label_names; docs/WEIGHTS.md shows one. Without any configuration, \
             ImageNet's preprocessing is assumed",
        ))
    }
}

fn find<'a>(place: &'a str, object: &'a Object, key: &str) -> Option<Field<'a>> {
    let (key, value) = object.iter().find(|(name, _)| name == key)?;
    (*value != Json::Null).then_some(Field { place, key, value })
}

fn use_of(key: &str, table: &[(&str, Use)]) -> Option<Use> {
    table.iter().find(|(name, _)| *name == key).map(|(_, what)| *what)
}

fn check_values<'a>(place: &'a str, object: &'a Object, table: &[(&str, Use)]) -> Result<()> {
    for (key, what) in table {
        let (Only(allowed), Some(field)) = (what, find(place, object, key)) else { continue };
        if !allowed.contains(&field.value.to_string().as_str()) {
            let expected = format!("{}, that of the ResNet-50 that is run", allowed.join(" or "));
            return Err(field.wrong(&expected));
        }
    }
    Ok(())
}

fn check_args(args: &Object) -> Result<()> {
    check_values("model_args", args, MODEL_ARGS)?;
    let unknown =
        args.iter().find(|(key, value)| use_of(key, MODEL_ARGS).is_none() && *value != Json::Null);
    match unknown {
        None => Ok(()),
        Some((key, value)) => {
            let field = Field { place: "model_args", key, value };
            let meant = meant(key, MODEL_ARGS).map(|it| format!("; did you mean {it}?"));
            Err(error(format!(
                "{} is {}: it asks for another network than timm's plain resnet50, which is all \
                 that is run{}",
                field.name(),
                value.quoted(),
                meant.unwrap_or_default()
            )))
        }
    }
}

fn mistyped(name: &str, meant: &str) -> Error {
    error(format!("{name} is no key of a configuration: did you mean {meant}?"))
}

/// The key that was meant, of those that change something.
fn meant(key: &str, table: &[(&'static str, Use)]) -> Option<&'static str> {
    if key.len() > MISTYPED_BYTES_MAX {
        return None;
    }
    let plain = |key: &str| key.to_lowercase().replace(['_', '-', ' ', '.'], "");
    let edits = |name: &str| strsim::damerau_levenshtein(&plain(key), &plain(name));
    let known = table.iter().filter(|(_, what)| *what != Passed).map(|(name, _)| *name);
    let near = known.map(|name| (edits(name), name));
    let limit = |name: &str| (name.len() / LETTERS_AN_EDIT).clamp(1, EDITS_MAX);
    near.filter(|(edits, name)| *edits <= limit(name)).min().map(|it| it.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_meant_is_found() {
        for (key, expected) in [
            ("crop_prct", Some("crop_pct")),
            ("cropPct", Some("crop_pct")),
            ("Mean", Some("mean")),
            ("interpolaton", Some("interpolation")),
            ("pretrained_config", Some("pretrained_cfg")),
            ("label_name", Some("label_names")),
            ("input-size", Some("input_size")),
            ("stdd", Some("std")),
            ("tags", None),
            ("optimizer", None),
            ("lr", None),
        ] {
            assert_eq!(meant(key, KEYS), expected, "{key}");
        }
    }

    #[test]
    fn no_key_is_listed_twice() {
        for table in [KEYS, MODEL_ARGS] {
            for (index, (key, _)) in table.iter().enumerate() {
                assert!(table[..index].iter().all(|(other, _)| other != key), "{key}");
            }
        }
    }
}
