//! The way of an image as transformers' `preprocessor_config.json` states it.
//!
//! Invariant: read where the file says every step, and each is one that is taken here; else refused
//! by name. Only the cut may lie one pixel elsewhere: transformers rounds half of an odd rest down,
//! timm and torchvision to even.

use super::json::{Field, Json, error};
use super::keys::Keys;
use super::{Interpolation, ModelConfig};
use crate::error::{Error, Result};

/// Keys that only such a file has.
const MARKS: [&str; 9] = [
    "image_processor_type",
    "feature_extractor_type",
    "image_mean",
    "image_std",
    "do_resize",
    "do_normalize",
    "do_rescale",
    "rescale_factor",
    "resample",
];

/// From this size on, ConvNext's processor squeezes images in place of cutting their middle out.
const SQUEEZED_SIZE: usize = 384;

/// Pillow's numbers of its filters, as far as they are read.
const BILINEAR: usize = 2;
const BICUBIC: usize = 3;

/// Whether the file is one.
pub(super) fn is_one(keys: &Keys<'_>) -> bool {
    let is_timm = ["pretrained_cfg", "mean", "std", "interpolation", "input_size"];
    MARKS.iter().any(|key| keys.get(key).is_some())
        && is_timm.iter().all(|key| keys.get(key).is_none())
}

/// What is to be told of such keys in a file that is none.
pub(super) fn passed_over(keys: &Keys<'_>) -> Option<String> {
    let others = ["size", "do_center_crop", "crop_size"];
    let found = MARKS.iter().chain(&others).filter(|key| keys.get(key).is_some());
    let found: Vec<&str> = found.copied().collect();
    (!found.is_empty()).then(|| format!("not read beside timm's keys: {}", found.join(", ")))
}

/// Sets `config` to what the file says.
pub(super) fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<()> {
    let kind = kind(keys)?;
    for key in ["do_resize", "do_rescale"] {
        let flag = keys.get(key).map_or(Ok(true), |field| field.flag())?;
        if !flag {
            return Err(required(keys, key)?.wrong("true"));
        }
    }
    if let Some(factor) = keys.get("rescale_factor")
        && (factor.number()? * 255.0 - 1.0).abs() > 1e-6
    {
        return Err(factor.wrong("1/255"));
    }
    let (mean, std) = match keys.get("do_normalize").map_or(Ok(true), |field| field.flag())? {
        true => (required(keys, "image_mean")?.colours()?, required(keys, "image_std")?.colours()?),
        false => ([0.0; 3], [1.0; 3]),
    };
    (config.mean, config.std) = (mean, std);
    let resample = required(keys, "resample")?;
    config.interpolation = match resample.count()? {
        BILINEAR => Interpolation::Bilinear,
        BICUBIC => Interpolation::Bicubic,
        _ => return Err(resample.wrong("2 (bilinear) or 3 (bicubic)")),
    };
    let (side, crop_pct) = match kind {
        Processor::ConvNext => conv_next(keys)?,
        Processor::ShortSideThenCrop => short_side_then_crop(keys)?,
    };
    (config.height, config.width, config.crop_pct) = (side, side, crop_pct);
    Ok(())
}

/// What `size` means.
enum Processor {
    /// The crop's side; `crop_pct` says how much larger the image is before.
    ConvNext,
    /// The image's shorter side before the crop, whose own is `crop_size`.
    ShortSideThenCrop,
}

fn kind(keys: &Keys<'_>) -> Result<Processor> {
    let field = keys.get("image_processor_type").or_else(|| keys.get("feature_extractor_type"));
    let field = field.ok_or_else(|| missing("image_processor_type"))?;
    let name = field.text()?;
    let is = |kind: &str| {
        let rest = name.strip_prefix(kind).unwrap_or_default();
        ["ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor"]
            .contains(&rest)
    };
    match () {
        () if is("ConvNext") => Ok(Processor::ConvNext),
        () if is("Bit") || is("CLIP") => Ok(Processor::ShortSideThenCrop),
        () => Err(field.wrong(
            "\"ConvNextImageProcessor\", \"BitImageProcessor\" or \"CLIPImageProcessor\"; for \
             another, state its steps in timm's form (docs/WEIGHTS.md)",
        )),
    }
}

fn conv_next(keys: &Keys<'_>) -> Result<(usize, f64)> {
    let size = required(keys, "size")?;
    let side = side(size, "shortest_edge")?;
    if side >= SQUEEZED_SIZE {
        return Err(size.wrong("below 384: from there on images are squeezed, which is not done"));
    }
    if let Some(crop) = keys.get("do_center_crop")
        && crop.flag()?
    {
        let crop_size = required(keys, "crop_size")?;
        if square(crop_size)? != side {
            return Err(crop_size.wrong(&format!("size's {side}")));
        }
    }
    Ok((side, required(keys, "crop_pct")?.number()?))
}

fn short_side_then_crop(keys: &Keys<'_>) -> Result<(usize, f64)> {
    let crop = required(keys, "do_center_crop")?;
    if !crop.flag()? {
        return Err(crop.wrong("true"));
    }
    let (size, crop_size) = (required(keys, "size")?, required(keys, "crop_size")?);
    let (short, side) = (side(size, "shortest_edge")?, square(crop_size)?);
    if side == 0 || side > short {
        return Err(crop_size.wrong(&format!("from 1 to size's {short}")));
    }
    // The quotient may be rounded up: then the image would come out a pixel smaller.
    let mut crop_pct = side as f64 / short as f64;
    while ((side as f64 / crop_pct).floor() as usize) < short {
        crop_pct = crop_pct.next_down();
    }
    Ok((side, crop_pct))
}

/// One number, bare or under `key`.
fn side(field: Field<'_>, key: &str) -> Result<usize> {
    let wrong = || field.wrong(&format!("a number of pixels, or {{\"{key}\": pixels}}"));
    let side = match field.value {
        Json::Object(entries) => match &entries[..] {
            [(name, value)] if name == key => value.count(),
            _ => None,
        },
        value => value.count(),
    };
    side.ok_or_else(wrong)
}

/// A number, or a height and width that are equal.
fn square(field: Field<'_>) -> Result<usize> {
    let side = match field.value {
        Json::Object(entries) => {
            let side = |key| entries.iter().find(|(name, _)| name == key)?.1.count();
            side("height").filter(|height| side("width") == Some(*height) && entries.len() == 2)
        }
        value => value.count(),
    };
    side.ok_or_else(|| field.wrong("a number of pixels, or an equal height and width"))
}

fn required<'a>(keys: &Keys<'a>, key: &'a str) -> Result<Field<'a>> {
    keys.get(key).ok_or_else(|| missing(key))
}

fn missing(key: &str) -> Error {
    error(format!(
        "not a timm configuration, and as one of transformers it lacks {key}: add it, or state the \
         preprocessing in timm's form (docs/WEIGHTS.md)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelConfig> {
        ModelConfig::parse(text.as_bytes())
    }

    /// A file of ConvNext's processor, as transformers has it for its ResNet-50, with `more` keys.
    fn conv_next(more: &str) -> String {
        format!(
            r#"{{"image_processor_type": "ConvNextFeatureExtractor", "do_normalize": true,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            "resample": 3, {more}}}"#
        )
    }

    #[test]
    fn a_file_that_says_every_step_is_read() {
        for size in [r#""size": 224"#, r#""size": {"shortest_edge": 224}, "do_center_crop": false"#]
        {
            let config = parse(&conv_next(&format!("{size}, \"crop_pct\": 0.875"))).unwrap();
            let interpolation = Interpolation::Bicubic;
            assert_eq!(config, ModelConfig { interpolation, ..ModelConfig::default() });
        }
    }

    /// Goal: images are resized to the very size that the file says, whatever the quotient is
    /// rounded to.
    #[test]
    fn a_resize_before_a_crop_keeps_its_size() {
        for short in 32..700 {
            for side in [32, short / 2, short - 1, short].into_iter().filter(|side| *side >= 32) {
                let config = parse(&format!(
                    r#"{{"feature_extractor_type": "CLIPFeatureExtractor", "do_center_crop": true,
                    "size": {{"shortest_edge": {short}}}, "do_normalize": false, "resample": 2,
                    "crop_size": {{"height": {side}, "width": {side}}}, "do_rescale": true,
                    "rescale_factor": 0.00392156862745098}}"#
                ))
                .unwrap();
                assert_eq!((config.height, config.width), (side, side));
                assert_eq!((side as f64 / config.crop_pct).floor() as usize, short, "{side}");
                assert_eq!((config.mean, config.std), ([0.0; 3], [1.0; 3]));
            }
        }
    }

    #[test]
    fn what_is_missing_or_not_done_here_is_named() {
        for (more, words) in [
            (r#""size": 224"#, "lacks crop_pct"),
            (r#""crop_pct": 0.875"#, "lacks size"),
            (r#""size": 384, "crop_pct": 0.875"#, "size is 384: expected below 384"),
            (
                r#""size": {"height": 224, "width": 224}, "crop_pct": 1"#,
                "{\"shortest_edge\": pixels}",
            ),
            (r#""size": 224, "crop_pct": 0.875, "do_resize": false"#, "do_resize is false"),
            (r#""size": 224, "crop_pct": 0.875, "do_rescale": false"#, "do_rescale is false"),
            (r#""size": 224, "crop_pct": 1, "rescale_factor": 0.0078"#, "expected 1/255"),
            (
                r#""size": 224, "crop_pct": 0.9, "do_center_crop": true, "crop_size": 200"#,
                "crop_size is 200: expected size's 224",
            ),
            (r#""size": 224, "crop_pct": 0.875, "do_flip_channel_order": true"#, "do_flip_channel"),
            (r#""size": 224, "crop_pct": 0.875, "do_reszie": true"#, "did you mean do_resize?"),
        ] {
            let error = parse(&conv_next(more)).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(words), "{more}: {error}");
        }
        for (text, words) in [
            (r#"{"image_mean": [0.5, 0.5, 0.5]}"#, "lacks image_processor_type"),
            (
                r#"{"image_processor_type": "ViTImageProcessor", "size": 224}"#,
                "image_processor_type is \"ViTImageProcessor\"",
            ),
            (
                r#"{"image_processor_type": "BitImageProcessor", "do_normalize": false,
                "resample": 1}"#,
                "resample is 1: expected 2 (bilinear) or 3 (bicubic)",
            ),
            (
                r#"{"image_processor_type": "BitImageProcessor", "do_normalize": false,
                "resample": 2, "do_center_crop": true, "size": 224, "crop_size": 256}"#,
                "crop_size is 256: expected from 1 to size's 224",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(words), "{text}: {error}");
        }
    }
}
