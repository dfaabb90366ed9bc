//! From the bytes of a JPEG, PNG, WebP or BMP file to RGB pixels.
//!
//! Invariant: the format is told by content, never by name; a file that ends early is an error,
//! never a picture with made-up pixels; sizes are checked before memory is asked for; a decoder's
//! panic does not get out. Colour follows Pillow's `convert("RGB")`. Knows nothing of resizing and
//! of models.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::Path;

use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};

use super::{PIXELS_MAX, Rgb8, check_size, jpeg};
use crate::error::{Error, Kind, Result};

/// Longest file that is read: no image of [`PIXELS_MAX`] pixels needs more, and a pipe or device
/// that never ends is cut off here.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Most memory a decoder may ask for: [`PIXELS_MAX`] pixels of 16-bit RGBA.
const DECODER_BYTES_MAX: u64 = PIXELS_MAX as u64 * 8;

/// Reads and decodes an image file; see [`decode`].
///
/// # Errors
/// [`Error::is_io`] if the file cannot be read or is longer than [`FILE_BYTES_MAX`],
/// [`Error::is_image`] for what [`decode`] refuses. The message names the file.
pub fn decode_file(path: impl AsRef<Path>) -> Result<Rgb8> {
    let path = path.as_ref();
    let unreadable = |error: std::io::Error| {
        Error::new(Kind::Io, format!("{}: {error}", path.display())).with_source(error)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("{}: longer than {FILE_BYTES_MAX} bytes", path.display());
        return Err(Error::new(Kind::Io, reason));
    }
    decode(&bytes).map_err(|error| error.in_file(path))
}

/// Decodes the bytes of a JPEG, PNG, WebP or BMP file.
///
/// Colours come out as by Pillow's `convert("RGB")`: grey is spread over the three channels,
/// palettes are looked up, alpha is dropped (not blended), 16-bit values keep their upper byte,
/// CMYK is multiplied out. Of an animation the first frame is taken. Colour profiles, gamma and the
/// EXIF orientation are not applied, as `PIL.Image.open` and the data sets built on it don't.
///
/// # Errors
/// [`Error::is_image`] if the format is another one, the data are malformed or end early, or the
/// image has more than [`PIXELS_MAX`] pixels.
pub fn decode(bytes: &[u8]) -> Result<Rgb8> {
    if bytes.is_empty() {
        return Err(Error::new(Kind::Image, "the file is empty"));
    }
    let format = image::guess_format(bytes).map_err(|_| {
        Error::new(Kind::Image, "not an image: expected JPEG, PNG, WebP or BMP data")
    })?;
    // Decoders are others' code; of what they work on, nothing outlives a panic.
    let decoded = catch_unwind(|| match format {
        ImageFormat::Jpeg => jpeg::decode(bytes),
        ImageFormat::Png | ImageFormat::WebP | ImageFormat::Bmp => decode_other(bytes, format),
        _ => Err(Error::new(
            Kind::Image,
            format!("{format:?} data are not read: expected JPEG, PNG, WebP or BMP"),
        )),
    });
    decoded.unwrap_or_else(|_| {
        let name = format!("{format:?}").to_uppercase();
        Err(Error::new(Kind::Image, format!("malformed {name} data: the decoder panicked")))
    })
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<Rgb8> {
    let name = format!("{format:?}").to_uppercase();
    let malformed = |error: ImageError| {
        let reason = match &error {
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                format!("truncated {name} data")
            }
            ImageError::Limits(_) => format!("{name} data ask for too much memory"),
            _ => format!("malformed {name} data: {error}"),
        };
        Error::new(Kind::Image, reason).with_source(error)
    };
    let reader = || ImageReader::with_format(Cursor::new(bytes), format);
    let (width, height) = reader().into_dimensions().map_err(malformed)?;
    check_size(width as usize, height as usize)?;
    if format == ImageFormat::Png {
        check_palette(bytes)?;
    }
    let mut reader = reader();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let decoded = reader.decode().map_err(malformed)?;
    Rgb8::new(width as usize, height as usize, to_rgb8(decoded))
}

/// Refuses a palette that ends within a colour, at which the png crate (0.18.1) panics.
fn check_palette(png: &[u8]) -> Result<()> {
    const SIGNATURE_LEN: usize = 8;
    const COLOUR_TYPE: usize = 25;
    const INDEXED: u8 = 3;
    /// Of a chunk: length and type before its data, a checksum behind them.
    const FRAME_LEN: usize = 12;

    if png.get(COLOUR_TYPE) != Some(&INDEXED) {
        return Ok(());
    }
    let mut chunks = png.get(SIGNATURE_LEN..).unwrap_or_default();
    while let Some((&[a, b, c, d, ref kind @ ..], _)) = chunks.split_first_chunk::<8>() {
        let data_len = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind == b"PLTE" && !data_len.is_multiple_of(3) {
            let reason =
                format!("malformed PNG data: {data_len} bytes of palette are no whole colours");
            return Err(Error::new(Kind::Image, reason));
        }
        chunks = chunks.get(FRAME_LEN.saturating_add(data_len)..).unwrap_or_default();
    }
    Ok(())
}

/// Pillow's `convert("RGB")`.
fn to_rgb8(decoded: DynamicImage) -> Vec<u8> {
    match decoded {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma16(image) => {
            image.as_raw().iter().flat_map(|&grey| [upper_byte(grey); 3]).collect()
        }
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|pixel| [upper_byte(pixel.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().copied().map(upper_byte).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| [0, 1, 2].map(|c| upper_byte(pixel.0[c]))).collect()
        }
        eight_bits => eight_bits.into_rgb8().into_raw(),
    }
}

fn upper_byte(value: u16) -> u8 {
    (value >> 8) as u8
}
