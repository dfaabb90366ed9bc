//! JPEG data to RGB pixels: the very ones of libjpeg-turbo, and so of Pillow; strictly, without
//! `unsafe`.
//!
//! Invariant: an image comes out only if its data run to the end-of-image marker, every block of it
//! was decoded from them, and no scan is missing; then every value equals Pillow's. What libjpeg
//! makes up (grey for what was cut, smooth blocks for scans that are missing) is an error here.
//! JPEG data have no checksum, so bytes that were changed or taken from the midst may go unnoticed,
//! and so may a last block that was cut where it still makes sense. Memory and time have limits
//! that follow from the sides, see [`BLOCK_VISITS_MAX`]. Knows nothing of files and of other
//! formats; why it is here: docs/JPEG.md.

mod colour;
mod huffman;
mod idct;
mod markers;
mod picture;
mod progressive;
mod scan;
mod standard;
mod upsample;
mod walk;

use self::colour::ColourSpace;
use self::markers::Headers;
use self::picture::Picture;
use super::{Rgb8, check_size};
use crate::error::{Error, Kind, Result};

/// Most scans of an image. Encoders write about ten, the standard's finest order is below this.
const SCANS_MAX: usize = 100;
/// How often a block may come in scans, on average over the image: encoders stay below ten. Blocks
/// that come in a scan for nothing cost hardly a bit, but time.
const BLOCK_VISITS_MAX: usize = 20;

/// Decodes the first image of JPEG data: baseline, extended or progressive, of 8 bits,
/// Huffman-coded; grey, YCbCr, RGB, CMYK or YCCK; in whatever scans and sampling libjpeg reads; of
/// `pixels_max` pixels at most.
pub(super) fn decode(bytes: &[u8], pixels_max: usize) -> Result<Rgb8> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Err(malformed("no start-of-image marker"));
    }
    let mut position = 2;
    let mut headers = Headers::default();
    let Some(mut scan) = headers.read(bytes, &mut position)? else {
        return Err(malformed("no scan before the end"));
    };
    let mut picture = open(&headers, bytes.len() - position, pixels_max)?;
    let (mut scans_len, mut visits_left) = (0, picture.blocks_len() * BLOCK_VISITS_MAX);
    loop {
        scans_len += 1;
        let visits = picture.visits(&scan);
        if scans_len > SCANS_MAX || visits > visits_left {
            return Err(malformed("more scans than any encoder writes"));
        }
        visits_left -= visits;
        scan::decode(&mut picture, &headers, &scan, bytes, &mut position)?;
        match headers.read(bytes, &mut position)? {
            Some(next) => scan = next,
            None => break,
        }
    }
    let (width, height) = (picture.width, picture.height);
    Rgb8::new(width, height, picture.into_pixels()?)
}

/// Width and height, as the header before the first scan tells them.
pub(super) fn dimensions(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut position, mut headers) = (2, Headers::default());
    headers.read(bytes, &mut position).ok()?;
    headers.frame.as_ref().map(|frame| (frame.width, frame.height))
}

/// Checks what stands before the first scan.
fn open(headers: &Headers, data_len: usize, pixels_max: usize) -> Result<Picture> {
    let frame = headers.frame.as_ref().ok_or_else(|| malformed("a scan before the frame"))?;
    check_size(frame.width, frame.height, pixels_max)?;
    let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
    let colour_space = ColourSpace::new(&ids, headers.has_jfif, headers.adobe_transform);
    Picture::new(frame, colour_space, data_len)
}

fn malformed(reason: &str) -> Error {
    Error::new(Kind::Image, format!("malformed JPEG data: {reason}"))
}

fn truncated(reason: &str) -> Error {
    Error::new(Kind::Image, format!("truncated JPEG data: {reason}"))
}

/// For data that another program may read. `what` stands before the word JPEG.
fn refused(what: &str, remedy: &str) -> Error {
    Error::new(Kind::Image, format!("{what} JPEG data are not read: {remedy}"))
}
