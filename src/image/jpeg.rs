//! JPEG data to RGB pixels, strictly: what a lenient decoder would fill with grey is an error here.
//!
//! Invariant: an image comes out only if its data run to the end-of-image marker and every block of
//! it was decoded. Knows nothing of files and of other formats.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Rgb8, check_size};
use crate::error::{Error, Kind, Result};

/// Decodes the first image of JPEG data: baseline or progressive; grey, YCbCr, RGB, CMYK or YCCK.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8> {
    let malformed = |error: DecodeErrors| {
        Error::new(Kind::Image, format!("malformed JPEG data: {error:?}")).with_source(error)
    };
    if !is_complete(bytes) {
        return Err(Error::new(Kind::Image, "truncated JPEG data: no end-of-image marker"));
    }
    // The sides are checked below, by their product.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(malformed)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    check_size(width, height)?;
    let pixels = decoder.decode().map_err(malformed)?;
    Rgb8::new(width, height, pixels)
}

const MARKER: u8 = 0xff;
const END_OF_IMAGE: u8 = 0xd9;

/// Whether the segments and scans of `bytes` lead to an end-of-image marker.
///
/// The decoder alone does not tell: it takes an end within the last rows of blocks for the end of
/// the image. Searching for the marker's bytes does not tell either: a thumbnail in a header has
/// its own.
fn is_complete(bytes: &[u8]) -> bool {
    let mut position = 2;
    loop {
        // Whatever is between segments is skipped, above all a scan's entropy-coded data.
        let Some(marker) = next_marker(bytes, &mut position) else { return false };
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a segment: TEM, restarts and start of image.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let Some(&[high, low]) = bytes.get(position..).and_then(<[u8]>::first_chunk) else {
            return false;
        };
        position += usize::from(u16::from_be_bytes([high, low]));
    }
}

/// The code of the next marker at or after `position`, which is moved behind it. Stuffed bytes of
/// entropy-coded data (`ff 00`) and fill bytes (`ff ff`) are none.
fn next_marker(bytes: &[u8], position: &mut usize) -> Option<u8> {
    loop {
        let found = bytes.get(*position..)?.iter().position(|&byte| byte == MARKER)?;
        let code = *bytes.get(*position + found + 1)?;
        *position += found + 1;
        if code != 0 && code != MARKER {
            *position += 1;
            return Some(code);
        }
    }
}
