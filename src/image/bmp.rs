//! BMP data to RGB pixels: every header and layout that Pillow reads, with its values.
//!
//! Invariant: an image comes out only if the file holds each of its pixels; just the padding behind
//! the last one may be missing. Two habits of Pillow are left out, since they give wrong pixels: it
//! drops the last pixel of a literal RLE4 run of odd length, and it misreads jumps (deltas), which
//! are refused, for nobody says what the pixels jumped over are. Knows nothing of files and of
//! other formats.

use super::{Rgb8, check_size};
use crate::error::{Error, Kind, Result};

const FILE_HEADER_LEN: usize = 14;
/// The header of OS/2 1.x, with sides of 16 bits and palette entries of 3 bytes.
const CORE_HEADER_LEN: usize = 12;
/// Headers that hold the colour masks themselves, from here on; behind shorter ones they follow.
const MASKED_HEADER_LEN: usize = 52;
/// Where the masks stand, from the start of the second header.
const MASKS: usize = 40;
const PALETTE_LEN_MAX: usize = 256;

/// How pixels are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Rle8,
    Rle4,
    Bitfields,
}

struct Header {
    /// Of the header behind the file's, 14 bytes long.
    len: usize,
    width: usize,
    height: usize,
    is_top_down: bool,
    bits: usize,
    compression: Compression,
    palette_len: usize,
    /// Where the pixels start; 0 where they follow what comes before them.
    data_start: usize,
}

/// Width and height, as the header tells them.
pub(super) fn dimensions(bytes: &[u8]) -> Option<(usize, usize)> {
    Header::parse(bytes).ok().map(|header| (header.width, header.height))
}

/// Decodes a BMP file of at most `pixels_max` pixels.
pub(super) fn decode(bytes: &[u8], pixels_max: usize) -> Result<Rgb8> {
    let header = Header::parse(bytes)?;
    let (width, height) = (header.width, header.height);
    check_size(width, height, pixels_max)?;
    let mut rest = FILE_HEADER_LEN + header.len;
    let mut pixels = match header.compression {
        _ if header.bits <= 8 => {
            let palette = header.palette(bytes, &mut rest)?;
            let data = header.data(bytes, rest)?;
            let indices = match header.compression {
                Compression::None => header.indices(data)?,
                compression => run_lengths(data, width, height, compression == Compression::Rle4)?,
            };
            indices.iter().flat_map(|&index| palette[usize::from(index)]).collect()
        }
        Compression::None | Compression::Bitfields => {
            let channels = header.channels(bytes, &mut rest)?;
            header.true_colours(header.data(bytes, rest)?, channels)?
        }
        _ => return Err(malformed("run lengths of pixels that are no palette's")),
    };
    if !header.is_top_down {
        flip(&mut pixels, width * 3);
    }
    Rgb8::new(width, height, pixels)
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let len = u32_at(bytes, FILE_HEADER_LEN)? as usize;
        let at = |offset: usize| FILE_HEADER_LEN + offset;
        let is_core = len == CORE_HEADER_LEN;
        if !is_core && ![40, 52, 56, 64, 108, 124].contains(&len) {
            return Err(malformed(&format!("a header of {len} bytes is not known")));
        }
        let data_start = u32_at(bytes, 10)? as usize;
        if bytes.len() < at(len) {
            return Err(truncated());
        }
        let bits_at = at(if is_core { 10 } else { 14 });
        let bits = usize::from(u16_at(bytes, bits_at)?);
        if ![1, 4, 8, 16, 24, 32].contains(&bits) {
            return Err(malformed(&format!("{bits} bits a pixel are not read")));
        }
        let default_len = 1 << bits.min(8);
        if is_core {
            let (width, height) = (u16_at(bytes, at(4))?, u16_at(bytes, at(6))?);
            return Ok(Self {
                len,
                width: width.into(),
                height: height.into(),
                is_top_down: false,
                bits,
                compression: Compression::None,
                palette_len: default_len,
                data_start,
            });
        }
        let height = u32_at(bytes, at(8))?;
        // A negative height; Pillow takes no others than those of few rows for one, either.
        let is_top_down = height >> 24 == 0xff;
        Ok(Self {
            len,
            width: u32_at(bytes, at(4))? as usize,
            height: if is_top_down { height.wrapping_neg() } else { height } as usize,
            is_top_down,
            bits,
            compression: match u32_at(bytes, at(16))? {
                0 => Compression::None,
                1 => Compression::Rle8,
                2 => Compression::Rle4,
                3 => Compression::Bitfields,
                other => return Err(malformed(&format!("compression {other} is not read"))),
            },
            palette_len: match u32_at(bytes, at(32))? as usize {
                0 => default_len,
                palette_len => palette_len,
            },
            data_start,
        })
    }

    /// RGB by index; `at`, where it starts, is moved behind it. What the file does not define is
    /// black, or goes on where all that it defines is the grey of its index, as in Pillow.
    fn palette(&self, bytes: &[u8], at: &mut usize) -> Result<[[u8; 3]; PALETTE_LEN_MAX]> {
        if self.palette_len > PALETTE_LEN_MAX {
            return Err(malformed(&format!("a palette of {} colours", self.palette_len)));
        }
        if self.compression == Compression::Bitfields {
            return Err(malformed("colour masks beside a palette"));
        }
        let greys = std::array::from_fn(|index| [index as u8; 3]);
        let mut palette = greys;
        let entry_len = if self.len == CORE_HEADER_LEN { 3 } else { 4 };
        let entries = bytes.get(*at..*at + self.palette_len * entry_len).ok_or_else(truncated)?;
        for (colour, entry) in palette.iter_mut().zip(entries.chunks_exact(entry_len)) {
            *colour = [entry[2], entry[1], entry[0]];
        }
        *at += entries.len();
        if palette != greys {
            palette[self.palette_len..].fill([0; 3]);
        }
        Ok(palette)
    }

    /// Where red, green and blue stand in a pixel; `at`, behind the header, is moved behind masks
    /// that follow it.
    fn channels(&self, bytes: &[u8], at: &mut usize) -> Result<[Channel; 3]> {
        let eight_bits = [0xff_0000, 0xff00, 0xff];
        let mut masks = match self.bits {
            16 => [0x7c00, 0x3e0, 0x1f],
            _ => eight_bits,
        };
        if self.compression == Compression::Bitfields {
            for (index, mask) in masks.iter_mut().enumerate() {
                *mask = u32_at(bytes, FILE_HEADER_LEN + MASKS + 4 * index)?;
            }
            if self.len < MASKED_HEADER_LEN {
                *at += size_of_val(&masks);
            }
            if self.bits == 32 && masks == [0; 3] {
                masks = eight_bits;
            }
        }
        let channel = |mask| {
            Channel::new(mask, self.bits)
                .ok_or_else(|| malformed(&format!("the colour mask {mask:#x} is not read")))
        };
        Ok([channel(masks[0])?, channel(masks[1])?, channel(masks[2])?])
    }

    /// The pixels' data, which start at `behind` where the header does not say.
    fn data<'a>(&self, bytes: &'a [u8], behind: usize) -> Result<&'a [u8]> {
        // Some writers forget the palette as they say where the pixels start.
        let is_forgotten = self.bits <= 8 && self.data_start == FILE_HEADER_LEN + self.len;
        let start = if self.data_start == 0 || is_forgotten { behind } else { self.data_start };
        bytes.get(start..).ok_or_else(truncated)
    }

    /// The stored rows, without their padding.
    fn rows<'a>(&self, data: &'a [u8]) -> Result<impl Iterator<Item = &'a [u8]>> {
        let row_len = (self.width * self.bits).div_ceil(8);
        let stride = row_len.next_multiple_of(4);
        if data.len() < stride * (self.height - 1) + row_len {
            return Err(truncated());
        }
        Ok(data.chunks(stride).take(self.height).map(move |row| &row[..row_len]))
    }

    /// Indices into the palette, row by row as stored.
    fn indices(&self, data: &[u8]) -> Result<Vec<u8>> {
        let bits = self.bits;
        let per_byte = 8 / bits;
        let mask = u8::MAX >> (8 - bits);
        let mut indices = Vec::with_capacity(self.width * self.height);
        for row in self.rows(data)? {
            indices.extend((0..self.width).map(|x| {
                let shift = 8 - bits * (x % per_byte + 1);
                row[x / per_byte] >> shift & mask
            }));
        }
        Ok(indices)
    }

    /// RGB, row by row as stored.
    fn true_colours(&self, data: &[u8], channels: [Channel; 3]) -> Result<Vec<u8>> {
        let mut pixels = Vec::with_capacity(self.width * self.height * 3);
        for row in self.rows(data)? {
            for stored in row.chunks_exact(self.bits / 8) {
                let value =
                    stored.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                pixels.extend(channels.map(|channel| channel.value(value)));
            }
        }
        Ok(pixels)
    }
}

/// Where a colour stands in a pixel's bits.
#[derive(Clone, Copy)]
struct Channel {
    shift: u32,
    max: u32,
}

impl Channel {
    /// The bits of `mask`, which must be adjacent, at most 16, and within the pixel's `bits`.
    fn new(mask: u32, bits: usize) -> Option<Self> {
        let shift = mask.trailing_zeros();
        let max = mask.checked_shr(shift)?;
        let is_one_run = max.count_ones() == 32 - max.leading_zeros();
        let is_inside = u64::from(mask) >> bits == 0;
        (is_one_run && max <= 0xffff && is_inside).then_some(Self { shift, max })
    }

    /// Scaled to 8 bits, rounded down.
    fn value(self, pixel: u32) -> u8 {
        ((pixel >> self.shift & self.max) * 255 / self.max) as u8
    }
}

/// Palette indices of RLE8 or RLE4 data. A row that ends early is filled with index 0.
fn run_lengths(data: &[u8], width: usize, height: usize, is_rle4: bool) -> Result<Vec<u8>> {
    const END_OF_ROW: u8 = 0;
    const END_OF_IMAGE: u8 = 1;
    const JUMP: u8 = 2;

    let pixels_len = width * height;
    let mut indices = Vec::new();
    let mut x = 0;
    let mut rest = data;
    while indices.len() < pixels_len {
        let (&[len, code], behind) = rest.split_first_chunk().ok_or_else(truncated)?;
        rest = behind;
        let nibbles = |byte: u8| [byte >> 4, byte & 15];
        match (len, code) {
            (0, END_OF_ROW) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, END_OF_IMAGE) => return Err(truncated()),
            (0, JUMP) => return Err(malformed("run lengths that skip pixels are not read")),
            (0, literal_len) => {
                let literal_len = usize::from(literal_len);
                if x + literal_len > width {
                    return Err(malformed("a run is longer than its row"));
                }
                let bytes_len = if is_rle4 { literal_len.div_ceil(2) } else { literal_len };
                let literal = rest.get(..bytes_len).ok_or_else(truncated)?;
                match is_rle4 {
                    true => {
                        indices.extend(literal.iter().copied().flat_map(nibbles).take(literal_len));
                    }
                    false => indices.extend(literal),
                }
                x += literal_len;
                // Runs are padded to 16 bits; the padding behind the last may be missing.
                rest = rest.get(bytes_len.next_multiple_of(2)..).unwrap_or_default();
            }
            (len, code) => {
                let pair = if is_rle4 { nibbles(code) } else { [code; 2] };
                // As in Pillow, a row takes of a run what it has room for.
                let len = usize::from(len).min(width - x);
                indices.extend(pair.into_iter().cycle().take(len));
                x += len;
            }
        }
    }
    Ok(indices)
}

/// Turns the order of rows of `row_len` values around.
fn flip(pixels: &mut [u8], row_len: usize) {
    let rows_len = pixels.len() / row_len;
    let (top, bottom) = pixels.split_at_mut(rows_len / 2 * row_len);
    for (above, below) in top.chunks_exact_mut(row_len).zip(bottom.rchunks_exact_mut(row_len)) {
        above.swap_with_slice(below);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(truncated)?;
    Ok(u16::from_le_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(truncated)?;
    Ok(u32::from_le_bytes(*word))
}

fn truncated() -> Error {
    Error::new(Kind::Image, "truncated BMP data")
}

fn malformed(reason: &str) -> Error {
    Error::new(Kind::Image, format!("malformed BMP data: {reason}"))
}
