//! Any bytes to a network's input: decode, then resize and crop to sizes that follow from the
//! bytes.
//!
//! Whatever comes in, there is an error or an input of the size that was asked for; never a panic.
//! What a header tells is the size that is decoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinstream::image::{self, Preprocess};
use twinstream::model::Interpolation;

fuzz_target!(|bytes: &[u8]| {
    let told = image::dimensions(bytes);
    let Ok(image) = image::decode(bytes) else { return };
    assert!(told.is_none_or(|told| told == (image.width(), image.height())), "{told:?}");
    // Not a part of the input, so that plain image files are a corpus.
    let sum = bytes.iter().map(|&byte| usize::from(byte)).sum::<usize>();
    let preprocess = Preprocess {
        height: 1 + bytes.len() % 97,
        width: 1 + sum % 97,
        crop_pct: [1.0, 0.95, 0.875, 0.01][sum % 4],
        interpolation: [Interpolation::Bilinear, Interpolation::Bicubic][bytes.len() % 2],
    };
    let input = preprocess.apply(&image).expect("every image has a crop");
    assert_eq!((input.height(), input.width()), (preprocess.height, preprocess.width));
    assert_eq!(input.pixels().len(), input.height() * input.width() * 3);
});
