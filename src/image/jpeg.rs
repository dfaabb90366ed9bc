//! JPEG data to RGB pixels, strictly: what a lenient decoder would fill with grey is an error here.
//!
//! Invariant: an image comes out only if its data run to the end-of-image marker and every block of
//! it was decoded from them. JPEG data have no checksum, so some things go unnoticed: bytes that
//! were changed or taken from the midst; a last block that was cut where it still makes sense; of a
//! progressive image, scans that are missing as a whole (a file may leave them out) and a cut in
//! the correction bits of one (any bits are some). Knows nothing of files and of other formats.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Rgb8, check_size};
use crate::error::{Error, Kind, Result};

/// Decodes the first image of JPEG data: baseline or progressive; grey, YCbCr, RGB, CMYK or YCCK.
/// Baseline images of several scans are read where these are simple, see [`Outline::is_sound`].
pub(super) fn decode(bytes: &[u8], pixels_max: usize) -> Result<Rgb8> {
    let malformed = |error: DecodeErrors| {
        Error::new(Kind::Image, format!("malformed JPEG data: {error:?}")).with_source(error)
    };
    let refused = |reason| Err(Error::new(Kind::Image, reason));
    let Some((end, outline)) = find_end(bytes) else {
        return refused("truncated JPEG data: no end-of-image marker");
    };
    if !outline.is_whole() {
        return refused("truncated JPEG data: scans are missing");
    }
    if !outline.is_sound() {
        return refused("JPEG data that are split into scans in this way are not read");
    }
    // The decoder takes an end of data for as many zeros as it lacks.
    let guarded = [&bytes[..end], GUARD.as_flattened(), &[MARKER, END_OF_IMAGE]].concat();
    // The sides are checked below, by their product.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&guarded), options);
    decoder.decode_headers().map_err(malformed)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    check_size(width, height, pixels_max)?;
    let pixels = decoder.decode().map_err(malformed)?;
    Rgb8::new(width, height, pixels)
}

const MARKER: u8 = 0xff;
/// Starts of frames.
const BASELINE: u8 = 0xc0;
const EXTENDED: u8 = 0xc1;
const PROGRESSIVE: u8 = 0xc2;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const RESTART_INTERVAL: u8 = 0xdd;

/// Entropy-coded ones, to stand behind the data of the last scan: no code consists of ones alone,
/// so a decoder that has not got all it needs stops at them. There are enough for what may come
/// before the next code: the rest of one, its value, and a correction bit for each coefficient.
const GUARD: [[u8; 2]; 16] = [[MARKER, 0]; 16];

/// What the headers say of an image's scans.
#[derive(Default)]
struct Outline {
    is_progressive: bool,
    component_len: usize,
    /// Whether a component has several blocks beside, or on top of each other, to one of another's.
    is_wide: bool,
    is_tall: bool,
    scan_len: usize,
    /// Of all scans together.
    scanned_len: usize,
    has_restarts: bool,
}

impl Outline {
    /// Each component comes in one scan; in a progressive image in one with its constant, and in
    /// others.
    fn is_whole(&self) -> bool {
        self.scanned_len >= self.component_len + usize::from(self.is_progressive)
    }

    /// Whether the decoder (zune-jpeg 0.5.15) reads it right. An image in several scans that is not
    /// progressive it turns into another, without a word, where there are restarts, a component
    /// that is tall, or one that is wide while some share a scan.
    fn is_sound(&self) -> bool {
        let is_mixed = self.scanned_len > self.scan_len;
        let is_hard = self.has_restarts || self.is_tall || (is_mixed && self.is_wide);
        self.is_progressive || self.scan_len == 1 || !is_hard
    }
}

/// Where the end-of-image marker stands that the segments and scans of `bytes` lead to, and their
/// outline; none where they lead to no such marker.
///
/// The decoder alone does not tell: it takes an end within the last rows of blocks for the end of
/// the image. Searching for the marker's bytes does not tell either: a thumbnail in a header has
/// its own.
fn find_end(bytes: &[u8]) -> Option<(usize, Outline)> {
    let mut position = 2;
    let mut outline = Outline::default();
    loop {
        // Whatever is between segments is skipped, above all a scan's entropy-coded data.
        let marker = next_marker(bytes, &mut position)?;
        match marker {
            END_OF_IMAGE => return Some((position - 2, outline)),
            // Markers without a segment: TEM, restarts and start of image.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let &[high, low] = bytes.get(position..)?.first_chunk()?;
        let segment_len = usize::from(u16::from_be_bytes([high, low]));
        let segment = bytes.get(position..)?.get(..segment_len)?;
        let byte = |offset: usize| segment.get(offset).copied().unwrap_or_default();
        match marker {
            BASELINE | EXTENDED | PROGRESSIVE => {
                outline.is_progressive = marker == PROGRESSIVE;
                outline.component_len = byte(7).into();
                let mut samplings = segment.iter().skip(9).step_by(3);
                outline.is_wide = samplings.clone().any(|sampling| sampling >> 4 > 1);
                outline.is_tall = samplings.any(|sampling| sampling & 15 > 1);
            }
            RESTART_INTERVAL => outline.has_restarts |= byte(2) > 0 || byte(3) > 0,
            START_OF_SCAN => {
                outline.scan_len += 1;
                outline.scanned_len += usize::from(byte(2));
            }
            _ => {}
        }
        position += segment_len;
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
