//! Which part of an image the network sees, and how large: resize by the shorter side, centre crop.
//!
//! Invariant: sizes and offsets are those of torchvision's `Resize` and `CenterCrop` with the scale
//! that timm derives from `crop_pct`. Knows nothing of files, filters' arithmetic or normalisation.

use super::resample::{Axis, resample};
use super::{PIXELS_MAX, Rgb8};
use crate::error::{Error, Kind, Result};
use crate::model::{CROP_PCT_MIN, Interpolation, ModelConfig};

/// The way from a decoded image to a network's input: resize, then cut out the centre.
///
/// The shorter side is resized to `floor(size / crop_pct)` and the other in proportion, rounded
/// down; for a crop that is not square, the image is resized so that both sides just cover
/// `floor(height / crop_pct)` by `floor(width / crop_pct)`, rounded to nearest. These are the
/// transforms of torchvision, and of timm with `crop_mode` "center". Up to 1.0.30, timm resized for
/// a crop that is not square with its bilinear filter whatever was asked for; here, as in timm
/// 1.0.31, `interpolation` holds for every crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Rows of the result, at least 1.
    pub height: usize,
    /// Columns of the result, at least 1.
    pub width: usize,
    /// Share of the resized image's side that the crop keeps: above 0 (at least 0.01), at most 1.
    pub crop_pct: f64,
    /// The filter of the resize.
    pub interpolation: Interpolation,
}

impl Preprocess {
    /// What `config` asks for, at its own input size.
    pub fn for_model(config: &ModelConfig) -> Self {
        let ModelConfig { height, width, crop_pct, interpolation, .. } = *config;
        Self { height, width, crop_pct, interpolation }
    }

    /// The input of `height` by `width` that the network is to see of `image`.
    ///
    /// An image that has this size already is passed on unchanged where `crop_pct` is 1.
    ///
    /// # Errors
    /// [`Error::is_argument`] if a side is 0, the result would have more than
    /// [`PIXELS_MAX`] pixels, or `crop_pct` is not within 0.01 and 1.
    pub fn apply(&self, image: &Rgb8) -> Result<Rgb8> {
        self.check()?;
        let (width, height) = self.resized(image.width(), image.height());
        let x = centre(width, self.width);
        let y = centre(height, self.height);
        let pixels = resample(image, &x, &y, self.interpolation);
        Rgb8::new(self.width, self.height, pixels)
    }

    fn check(&self) -> Result<()> {
        let Self { height, width, crop_pct, .. } = *self;
        let pixels_len = height.saturating_mul(width);
        if pixels_len == 0 || pixels_len > PIXELS_MAX {
            return Err(Error::new(
                Kind::Argument,
                format!("input size {height}x{width}: expected 1 to {PIXELS_MAX} pixels"),
            ));
        }
        // Not a negated comparison by accident: NaN is refused too.
        if !(CROP_PCT_MIN..=1.0).contains(&crop_pct) {
            return Err(Error::new(
                Kind::Argument,
                format!("crop_pct: expected {CROP_PCT_MIN} to 1, found {crop_pct}"),
            ));
        }
        Ok(())
    }

    /// Width and height of the image before the crop; neither is below the crop's.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        let scale_height = (self.height as f64 / self.crop_pct).floor();
        let scale_width = (self.width as f64 / self.crop_pct).floor();
        if scale_height == scale_width {
            let short = scale_height as usize;
            if width <= height {
                (short, short * height / width)
            } else {
                (short * width / height, short)
            }
        } else {
            let ratio = (height as f64 / scale_height).min(width as f64 / scale_width);
            let side = |len: usize| (len as f64 / ratio).round_ties_even() as usize;
            (side(width), side(height))
        }
    }
}

/// The middle `window_len` of `resized_len` positions; a half offset goes to the even one, as
/// Python's `round` has it.
fn centre(resized_len: usize, window_len: usize) -> Axis {
    let spare = resized_len - window_len;
    let start = spare / 2 + usize::from(spare % 4 == 3);
    Axis { resized_len, window: start..start + window_len }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(size: usize, crop_pct: f64) -> Preprocess {
        let interpolation = Interpolation::Bilinear;
        Preprocess { height: size, width: size, crop_pct, interpolation }
    }

    #[test]
    fn sizes_are_those_of_torchvision_and_timm() {
        assert_eq!(square(224, 0.875).resized(500, 375), (341, 256));
        assert_eq!(square(224, 0.875).resized(375, 500), (256, 341));
        assert_eq!(square(224, 0.95).resized(100, 100), (235, 235));
        assert_eq!(square(224, 0.7).resized(1, 5000), (320, 1_600_000));
        let wide = Preprocess { width: 448, ..square(224, 1.0) };
        assert_eq!(wide.resized(500, 375), (448, 336));
        assert_eq!(wide.resized(1000, 100), (2240, 224));
    }

    #[test]
    fn the_filter_is_that_of_the_configuration_for_every_crop() {
        let pixels: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * i % 251) as u8).collect();
        let image = Rgb8::new(40, 30, pixels).unwrap();
        for (height, width) in [(32, 32), (32, 48)] {
            let [linear, cubic] = [Interpolation::Bilinear, Interpolation::Bicubic].map(|filter| {
                let way = Preprocess { height, width, crop_pct: 0.95, interpolation: filter };
                way.apply(&image).unwrap()
            });
            assert_ne!(linear, cubic, "{height}x{width}");
        }
    }

    #[test]
    fn half_offsets_go_to_the_even_position() {
        // int(round(spare / 2)) in Python: 0, 0, 1, 2, 2, 2, 3, 4.
        let starts: Vec<usize> = (10..18).map(|len| centre(len, 10).window.start).collect();
        assert_eq!(starts, [0, 0, 1, 2, 2, 2, 3, 4]);
    }

    #[test]
    fn an_image_of_the_right_size_passes_unchanged() {
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 + i / 5) as u8).collect();
        let image = Rgb8::new(32, 32, pixels).unwrap();
        assert_eq!(square(32, 1.0).apply(&image).unwrap(), image);
    }

    #[test]
    fn every_shape_of_image_gives_the_asked_size() {
        for (width, height) in [(1, 1), (1, 5000), (5000, 1), (2, 3), (31, 33), (640, 7)] {
            let image = Rgb8::new(width, height, vec![77; width * height * 3]).unwrap();
            for (height, width) in [(32, 32), (224, 224), (33, 500), (1, 7)] {
                for crop_pct in [0.01, 0.5, 0.875, 0.95, 0.999, 1.0] {
                    for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
                        let way = Preprocess { height, width, crop_pct, interpolation };
                        let input = way.apply(&image).unwrap();
                        assert_eq!((input.height(), input.width()), (height, width), "{way:?}");
                        assert!(input.pixels().iter().all(|&value| value == 77), "{way:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let image = Rgb8::new(8, 8, vec![0; 192]).unwrap();
        for crop_pct in [0.0, -1.0, 1e-9, 1.001, f64::NAN, f64::INFINITY] {
            let error = square(4, crop_pct).apply(&image).unwrap_err();
            assert!(error.is_argument() && error.to_string().contains("crop_pct"), "{error}");
        }
        for size in [0, usize::MAX, 1 << 20] {
            assert!(square(size, 1.0).apply(&image).unwrap_err().is_argument());
        }
    }
}
