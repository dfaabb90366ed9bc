//! From an image file to the u8 RGB pixels that the engine takes: decode, resize, centre crop.
//!
//! Invariant: every image that is decoded is whole (all pixels decoded, none made up) and not
//! larger than [`DecodeOptions`] allow. Where data have no checksum, as JPEG's, a file that ends
//! early is told, but not each that was changed, or was cut and given an end. Pixels agree with
//! those that Pillow and torchvision give for the same file, so a network sees here what it saw in
//! training. Knows nothing of normalisation: that is the backend's.
//!
//! ```no_run
//! use twinstream::image::{self, Preprocess};
//! use twinstream::model::ModelConfig;
//!
//! let preprocess = Preprocess::for_model(&ModelConfig::default());
//! let input = preprocess.apply(&image::decode_file("cat.jpg")?)?;
//! assert_eq!(input.pixels().len(), 224 * 224 * 3);
//! # Ok::<(), twinstream::Error>(())
//! ```

mod bmp;
mod decode;
#[forbid(unsafe_code)]
mod jpeg;
mod preprocess;
mod resample;

pub use decode::{
    DecodeOptions, FILE_BYTES_MAX, decode, decode_file, decode_file_with, decode_with, dimensions,
};
pub use preprocess::Preprocess;

use crate::error::{Error, Kind, Result};

/// Most pixels an image may have where [`DecodeOptions`] say nothing else: 512 MiB of RGB, the size
/// beyond which Pillow refuses an image as a decompression bomb. Larger ones are refused from their
/// header, before memory is asked for.
pub const PIXELS_MAX: usize = (256 << 20) / 3 * 2;

/// A colour image: u8, red-green-blue, row by row from the top left (HWC), no padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Rgb8 {
    /// Takes `height * width * 3` values in the order row, column, channel.
    ///
    /// # Errors
    /// [`Error::is_image`] if a side is 0 or `pixels` is not as long as the sides ask for.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_size(width, height, PIXELS_LIMIT)?;
        let expected_len = width * height * 3;
        if pixels.len() != expected_len {
            return Err(Error::new(
                Kind::Image,
                format!(
                    "an RGB image of {width}x{height} has {expected_len} values, found {}",
                    pixels.len()
                ),
            ));
        }
        Ok(Self { width, height, pixels })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All values, `[height, width, 3]`, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

/// More pixels than this have no RGB values that memory could hold.
const PIXELS_LIMIT: usize = isize::MAX as usize / 3;

/// Refuses sizes that no image may have; afterwards `width * height * 3` cannot overflow.
fn check_size(width: usize, height: usize, pixels_max: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::new(Kind::Image, format!("image of {width}x{height} has no pixels")));
    }
    match width.checked_mul(height) {
        Some(pixels_len) if pixels_len <= pixels_max.min(PIXELS_LIMIT) => Ok(()),
        _ => Err(Error::new(
            Kind::Image,
            format!(
                "image of {width}x{height} is too large: at most {pixels_max} pixels are read \
                 (--pixels-max, DecodeOptions::pixels_max)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_images_of_a_sane_size_exist() {
        assert!(Rgb8::new(2, 1, vec![0; 6]).is_ok());
        for (width, height, len) in
            [(0, 1, 0), (1, 0, 0), (2, 2, 11), (2, 2, 13), (usize::MAX, 2, 6), (PIXELS_LIMIT, 2, 0)]
        {
            assert!(Rgb8::new(width, height, vec![0; len]).unwrap_err().is_image());
        }
    }
}
