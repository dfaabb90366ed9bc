//! From the bytes of a JPEG, PNG, WebP or BMP file to RGB pixels.
//!
//! Invariant: the format is told by content, never by name; a file that ends early is an error,
//! never a picture with made-up pixels; sizes are checked before memory is asked for; a decoder's
//! panic does not get out. Colour follows Pillow's `convert("RGB")`. Knows nothing of resizing and
//! of models.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::Path;

use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};

use super::{PIXELS_MAX, Rgb8, bmp, check_size, jpeg};
use crate::error::{Error, Kind, Result};
use crate::foreign::{self, Remedy};

/// Longest file that is read: images of [`PIXELS_MAX`] pixels need less, and a pipe or device that
/// never ends is cut off here.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Most memory a decoder may ask for, a pixel: that of 16-bit RGBA.
const DECODER_PIXEL_BYTES: u64 = 8;

/// What is read, and what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Most pixels (width times height) an image may have. A decoder takes 3 to 12 bytes for each
    /// while it works.
    pub pixels_max: usize,
}

impl Default for DecodeOptions {
    /// [`PIXELS_MAX`] pixels.
    fn default() -> Self {
        Self { pixels_max: PIXELS_MAX }
    }
}

impl DecodeOptions {
    /// These options with another largest number of pixels.
    #[must_use]
    pub fn pixels_max(mut self, pixels_max: usize) -> Self {
        self.pixels_max = pixels_max;
        self
    }
}

/// Reads and decodes an image file; see [`decode`].
///
/// # Errors
/// [`Error::is_io`] if the file cannot be read or is longer than [`FILE_BYTES_MAX`],
/// [`Error::is_image`] for what [`decode`] refuses. The message names the file.
pub fn decode_file(path: impl AsRef<Path>) -> Result<Rgb8> {
    decode_file_with(path, &DecodeOptions::default())
}

/// [`decode_file`] with other options.
///
/// # Errors
/// As [`decode_file`], for the options' number of pixels.
pub fn decode_file_with(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Rgb8> {
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
    decode_with(&bytes, options).map_err(|error| error.in_file(path))
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
    decode_with(bytes, &DecodeOptions::default())
}

/// [`decode`] with other options.
///
/// # Errors
/// As [`decode`], for the options' number of pixels.
pub fn decode_with(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb8> {
    let pixels_max = options.pixels_max;
    // Decoders are others' code; of what they work on, nothing outlives a panic.
    let decoded = catch_unwind(|| match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, pixels_max),
        Ok(ImageFormat::Png) => decode_png(bytes, pixels_max),
        Ok(ImageFormat::WebP) => decode_other(&as_in_pillow(bytes), WEBP, pixels_max),
        Ok(ImageFormat::Bmp) if !is_text(bytes) => bmp::decode(bytes, pixels_max),
        _ => Err(refuse_foreign(bytes)),
    });
    decoded.unwrap_or_else(|_| {
        Err(Error::new(Kind::Image, "malformed image data: the decoder panicked"))
    })
}

/// Width and height as the header of a file tells them, before anything is decoded; none where it
/// tells none.
pub fn dimensions(bytes: &[u8]) -> Option<(usize, usize)> {
    let found = catch_unwind(|| match image::guess_format(bytes).ok()? {
        ImageFormat::Jpeg => jpeg::dimensions(bytes),
        ImageFormat::Png => {
            let number = |at: usize| {
                let digits = bytes.get(at..)?.first_chunk()?;
                usize::try_from(u32::from_be_bytes(*digits)).ok()
            };
            Some((number(16)?, number(20)?))
        }
        ImageFormat::WebP => {
            let reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::WebP);
            let (width, height) = reader.into_dimensions().ok()?;
            Some((width as usize, height as usize))
        }
        ImageFormat::Bmp => bmp::dimensions(bytes),
        _ => None,
    });
    found.ok().flatten()
}

/// Whether a file that begins as a BMP is text all the same; a BMP's header, even cut, holds zeros.
fn is_text(bytes: &[u8]) -> bool {
    const HEADER_START_LEN: usize = 18;

    foreign::is_text(&bytes[..bytes.len().min(HEADER_START_LEN)])
}

/// Says what a file is that is none of the formats that are read.
fn refuse_foreign(bytes: &[u8]) -> Error {
    const EXPECTED: &str = "expected JPEG, PNG, WebP or BMP data";

    let message = match foreign::tell(bytes) {
        None => format!("not an image: {EXPECTED}"),
        Some(foreign) => match foreign.remedy {
            Remedy::Convert(command) => format!(
                "this is {}, which is not read: convert it to JPEG or PNG, for example with \
                 `{command}`",
                foreign.name
            ),
            Remedy::Fetch(remedy) | Remedy::Open(remedy) => {
                format!("this is {}, not an image: {remedy}", foreign.name)
            }
            _ => format!("this is {}, not an image: {EXPECTED}", foreign.name),
        },
    };
    Error::new(Kind::Image, message)
}

const PNG: (&str, ImageFormat) = ("PNG", ImageFormat::Png);
const WEBP: (&str, ImageFormat) = ("WebP", ImageFormat::WebP);

fn decode_png(bytes: &[u8], pixels_max: usize) -> Result<Rgb8> {
    /// The first chunk of a PNG as Apple's tools rewrite it.
    const CGBI: Option<&[u8]> = Some(b"CgBI");

    if bytes.get(12..16) == CGBI {
        let reason = "this is a PNG that Apple's tools rewrote (CgBI), which is not read: convert \
             it back, for example with `pngcrush -revert-iphone-optimizations FILE out.png`";
        return Err(Error::new(Kind::Image, reason));
    }
    check_palette(bytes)?;
    decode_other(bytes, PNG, pixels_max)
}

const FETCH: &str = "the file is damaged: make or download it again";

/// Says of data what the decoder said in its programmers' words, of which these tell the cause.
fn refuse_damaged(name: &str, fault: &str) -> String {
    // The png crate names a chunk as `ChunkType { type: IDAT, … }`.
    let chunk = fault.split_once("ChunkType { type: ").and_then(|(_, rest)| rest.split_once(','));
    let chunk = chunk.map(|(kind, _)| kind);
    let cause = match chunk {
        _ if fault.contains("CRC") => {
            return format!("a chunk of the {name} data has a wrong checksum: {FETCH}");
        }
        _ if ["not have enough data", "InsufficientInput", "Not enough VP8"]
            .iter()
            .any(|words| fault.contains(words)) =>
        {
            return format!("truncated {name} data (too few for its pixels): {FETCH}");
        }
        Some(chunk) if fault.contains("Unrecognized critical") => {
            &format!("chunk {chunk} is not known, yet marked as needed for the pixels")
        }
        Some(chunk) => &format!("chunk {chunk} stands at a wrong place, twice or too short"),
        None if fault.contains("chunk is missing") => "no chunk with pixels",
        None if fault.contains("deflate") => "the compressed pixels are wrong",
        None if fault.contains("palette") => "no palette, or too short a one",
        None if name == PNG.0 => "values in its header or chunks are wrong",
        None => "its header or compressed pixels are wrong",
    };
    format!("malformed {name} data: {cause}: {FETCH}")
}

/// Decodes with the `image` crate.
fn decode_other(
    bytes: &[u8],
    (name, format): (&str, ImageFormat),
    pixels_max: usize,
) -> Result<Rgb8> {
    let malformed = |error: ImageError| {
        let reason = match &error {
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let end = if format == ImageFormat::Png { " (no IEND chunk)" } else { "" };
                format!("truncated {name} data{end}: {FETCH}")
            }
            ImageError::Limits(_) => format!("{name} data ask for too much memory"),
            error => refuse_damaged(name, &error.to_string()),
        };
        Error::new(Kind::Image, reason).with_source(error)
    };
    let reader = || ImageReader::with_format(Cursor::new(bytes), format);
    let (width, height) = reader().into_dimensions().map_err(malformed)?;
    check_size(width as usize, height as usize, pixels_max)?;
    let mut reader = reader();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some((pixels_max as u64).saturating_mul(DECODER_PIXEL_BYTES));
    reader.limits(limits);
    let decoded = reader.decode().map_err(malformed)?;
    Rgb8::new(width as usize, height as usize, to_rgb8(decoded))
}

/// The file without what the decoder (image-webp 0.2.4) takes otherwise than Pillow.
///
/// A flag that promises alpha where nothing in the file has any: some writers set it always, and
/// the decoder then looks for a chunk that is not there. And the blending of an animation's first
/// frame: there is nothing beneath it, so its colours are taken as stored.
fn as_in_pillow(webp: &[u8]) -> Cow<'_, [u8]> {
    const FLAGS: usize = 20;
    const ALPHA: u8 = 0x10;
    const ANIMATION: u8 = 0x02;
    /// In the data of a frame.
    const FRAME_FLAGS: usize = 15;
    const DO_NOT_BLEND: u8 = 0x02;

    let mut changed = Cow::Borrowed(webp);
    let mut chunks = webp_chunks(webp);
    let is_extended = chunks.next().is_some_and(|(kind, _)| kind == b"VP8X");
    let flags = webp.get(FLAGS).copied().unwrap_or_default();
    if !is_extended {
        return changed;
    }
    if flags & ANIMATION != 0 {
        let first_frame = chunks.find(|(kind, _)| *kind == b"ANMF");
        let at = first_frame.map(|(_, data_at)| data_at + FRAME_FLAGS);
        if let Some(at) = at.filter(|&at| at < webp.len()) {
            changed.to_mut()[at] |= DO_NOT_BLEND;
        }
    // Lossless data hold alpha themselves.
    } else if flags & ALPHA != 0 && !chunks.any(|(kind, _)| kind == b"ALPH" || kind == b"VP8L") {
        changed.to_mut()[FLAGS] &= !ALPHA;
    }
    changed
}

/// The kinds of a WebP's chunks, and where the data of each begin.
fn webp_chunks(webp: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    const CHUNKS: usize = 12;
    const HEADER_LEN: usize = 8;

    let mut at = CHUNKS;
    std::iter::from_fn(move || {
        let header = webp.get(at..)?.first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, a, b, c, d] = *header;
        let data_len = u32::from_le_bytes([a, b, c, d]) as usize;
        let data_at = at + HEADER_LEN;
        at = data_at.saturating_add(data_len).saturating_add(data_len % 2);
        Some((&header[..4], data_at))
    })
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
