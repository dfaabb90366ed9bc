//! The segments of JPEG data: tables, sides, components, and where scans begin.
//!
//! Invariant: what comes out of here is in range: sampling factors, table numbers, spectral bands.
//! Bytes between segments are skipped, as libjpeg does. Kinds of JPEG that are not read are refused
//! by their name, with the remedy. Knows nothing of pixels.

use super::huffman::Code;
use super::idct::Block;
use super::{malformed, refused, truncated};
use crate::error::Result;

const MARKER: u8 = 0xff;
const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const FIRST_RESTART: u8 = 0xd0;
const LAST_RESTART: u8 = 0xd7;

/// Most components of a scan that has several blocks in an MCU, and most blocks of that.
const SCAN_COMPONENTS_MAX: usize = 4;
const MCU_BLOCKS_MAX: usize = 10;

/// Where the coefficients stand that come in zigzag order.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A component as the frame's header gives it.
#[derive(Clone, Debug)]
pub(super) struct ComponentHeader {
    pub(super) id: u8,
    /// Blocks beside and on top of each other in an MCU, 1 to 4.
    pub(super) x_sampling: usize,
    pub(super) y_sampling: usize,
    pub(super) quantisation: usize,
}

/// What a picture's frame header says. Sides may be 0 here.
#[derive(Clone, Debug)]
pub(super) struct FrameHeader {
    pub(super) is_progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<ComponentHeader>,
}

/// A component's part in a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanComponent {
    /// Of the frame's component.
    pub(super) index: usize,
    pub(super) dc_table: usize,
    pub(super) ac_table: usize,
}

/// What a scan's header says; in a progressive picture its band and bits are in range.
#[derive(Clone, Debug)]
pub(super) struct ScanHeader {
    pub(super) components: Vec<ScanComponent>,
    /// First and last coefficient, in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Whether it adds one bit to what an earlier scan gave.
    pub(super) is_refinement: bool,
    /// Lower bits of the coefficients that are still missing after this scan.
    pub(super) missing_bits: u8,
}

/// All that segments have said so far.
#[derive(Default)]
pub(super) struct Headers {
    /// Row by row.
    pub(super) quantisations: [Option<Block>; 4],
    pub(super) dc_codes: [Option<Code>; 4],
    pub(super) ac_codes: [Option<Code>; 4],
    /// MCUs between two restart markers, 0 for none of these.
    pub(super) restart_interval: usize,
    pub(super) has_jfif: bool,
    pub(super) adobe_transform: Option<u8>,
    pub(super) frame: Option<FrameHeader>,
}

impl Headers {
    /// Takes in the segments from `position` on, up to the next scan's header, behind which
    /// `position` is left. None at the end of the image.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        position: &mut usize,
    ) -> Result<Option<ScanHeader>> {
        loop {
            let marker =
                next_marker(bytes, position).ok_or_else(|| truncated("no end-of-image marker"))?;
            match marker {
                END_OF_IMAGE => return Ok(None),
                START_OF_IMAGE => return Err(malformed("a second start-of-image marker")),
                // Stray restarts and TEM have no segment.
                0x01 | FIRST_RESTART..=LAST_RESTART => continue,
                _ => {}
            }
            let rest = &bytes[*position..];
            let &[high, low] = rest.first_chunk().ok_or_else(|| truncated("within a segment"))?;
            let segment_len = usize::from(u16::from_be_bytes([high, low]));
            // As libjpeg does with segments that it passes over; none that it reads is so short.
            let is_passed_over = matches!(marker, 0xdc | 0xe0..=0xef | 0xfe);
            if segment_len < 2 && !is_passed_over {
                return Err(malformed("a segment that is shorter than its length"));
            }
            let segment_len = segment_len.max(2);
            let segment = rest.get(2..segment_len).ok_or_else(|| truncated("within a segment"))?;
            *position += segment_len;
            match marker {
                0xc0..=0xc2 => self.read_frame(segment, marker == 0xc2)?,
                0xc4 => self.read_codes(segment)?,
                0xda => return self.read_scan(segment).map(Some),
                0xdb => self.read_quantisations(segment)?,
                0xdd => {
                    let interval = segment.try_into().map_err(|_| malformed("restart interval"))?;
                    self.restart_interval = u16::from_be_bytes(interval).into();
                }
                0xe0 => self.has_jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
                0xee if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                    self.adobe_transform = Some(segment[11]);
                }
                // Arithmetic conditioning, number of lines, other applications' data, comments.
                0xcc | 0xdc | 0xe1..=0xef | 0xfe => {}
                _ => return Err(not_read(marker)),
            }
        }
    }

    fn read_frame(&mut self, segment: &[u8], is_progressive: bool) -> Result<()> {
        if self.frame.is_some() {
            return Err(malformed("a second frame"));
        }
        let (&[bits, high, low, wide, narrow, component_len], components) =
            segment.split_first_chunk().ok_or_else(|| malformed("a short frame header"))?;
        if bits == 12 {
            return Err(refused("12-bit", "save it again with 8 bits a sample"));
        }
        if bits != 8 {
            return Err(malformed(&format!("{bits} bits a sample")));
        }
        let (components, rest) = components.as_chunks::<3>();
        if components.len() != usize::from(component_len) || !rest.is_empty() {
            return Err(malformed("a frame header of the wrong length"));
        }
        let components = components.iter().map(|&[id, sampling, quantisation]| ComponentHeader {
            id,
            x_sampling: usize::from(sampling >> 4),
            y_sampling: usize::from(sampling & 15),
            quantisation: quantisation.into(),
        });
        let frame = FrameHeader {
            is_progressive,
            width: u16::from_be_bytes([wide, narrow]).into(),
            height: u16::from_be_bytes([high, low]).into(),
            components: components.collect(),
        };
        if !matches!(component_len, 1 | 3 | 4) {
            let what = format!("{component_len}-component");
            return Err(refused(&what, "save it again as grey, RGB or CMYK"));
        }
        check_sampling(&frame.components)?;
        self.frame = Some(frame);
        Ok(())
    }

    fn read_codes(&mut self, mut segment: &[u8]) -> Result<()> {
        while let Some((&[kind, ref counts @ ..], rest)) = segment.split_first_chunk::<17>() {
            let symbols_len = counts.iter().copied().map(usize::from).sum::<usize>();
            let symbols = rest.get(..symbols_len).filter(|symbols| symbols.len() <= 256);
            let symbols =
                symbols.ok_or_else(|| malformed("a Huffman table of the wrong length"))?;
            let codes = if kind & 16 == 0 { &mut self.dc_codes } else { &mut self.ac_codes };
            let code = codes.get_mut(usize::from(kind & !16));
            *code.ok_or_else(|| malformed("a fifth Huffman table"))? =
                Some(Code { counts: *counts, symbols: symbols.to_vec() });
            segment = &rest[symbols_len..];
        }
        if segment.is_empty() { Ok(()) } else { Err(malformed("a Huffman table that is cut")) }
    }

    fn read_quantisations(&mut self, mut segment: &[u8]) -> Result<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let value_bytes = if kind >> 4 == 0 { 1 } else { 2 };
            let (values, rest) = rest
                .split_at_checked(64 * value_bytes)
                .ok_or_else(|| malformed("a quantisation table that is cut"))?;
            let mut table = [0; 64];
            for (&place, value) in ZIGZAG.iter().zip(values.chunks_exact(value_bytes)) {
                let value = value.iter().fold(0, |value, &byte| value << 8 | u16::from(byte));
                // Factors wrap as the coefficients do that they are multiplied with.
                table[usize::from(place)] = value as i16;
            }
            *self
                .quantisations
                .get_mut(usize::from(kind & 15))
                .ok_or_else(|| malformed("a fifth quantisation table"))? = Some(table);
            segment = rest;
        }
        Ok(())
    }

    fn read_scan(&self, segment: &[u8]) -> Result<ScanHeader> {
        let frame = self.frame.as_ref().ok_or_else(|| malformed("a scan before the frame"))?;
        let wrong_len = || malformed("a scan header of the wrong length");
        let (&component_len, rest) = segment.split_first().ok_or_else(wrong_len)?;
        let (entries, rest) =
            rest.split_at_checked(2 * usize::from(component_len)).ok_or_else(wrong_len)?;
        let &[first, last, bits] = rest.try_into().map_err(|_| wrong_len())?;
        if !(1..=SCAN_COMPONENTS_MAX).contains(&usize::from(component_len)) {
            return Err(wrong_len());
        }
        let mut components: Vec<ScanComponent> = Vec::new();
        for &[id, tables] in entries.as_chunks::<2>().0 {
            // As libjpeg does, which tells components of equal ids by their order.
            let skipped_len = components.len();
            let mut later = frame.components.iter().enumerate().skip(skipped_len);
            let found = later.find(|(_, component)| component.id == id).map(|(index, _)| index);
            let index = found
                .filter(|index| components.iter().all(|other| other.index != *index))
                .ok_or_else(|| malformed("a scan of a component that is not in the frame"))?;
            let [dc_table, ac_table] = [tables >> 4, tables & 15].map(usize::from);
            components.push(ScanComponent { index, dc_table, ac_table });
        }
        let blocks_len: usize = components
            .iter()
            .map(|part| &frame.components[part.index])
            .map(|component| component.x_sampling * component.y_sampling)
            .sum();
        if components.len() > 1 && blocks_len > MCU_BLOCKS_MAX {
            return Err(malformed(&format!("{blocks_len} blocks in an MCU")));
        }
        let (high, low) = (bits >> 4, bits & 15);
        if frame.is_progressive {
            let is_band = match first {
                0 => last == 0,
                _ => first <= last && last < 64 && components.len() == 1,
            };
            if !is_band || low > 13 || (high != 0 && high != low + 1) {
                return Err(malformed("a scan of impossible coefficients"));
            }
        }
        let (first, last) = (first.into(), last.into());
        Ok(ScanHeader { components, first, last, is_refinement: high != 0, missing_bits: low })
    }
}

/// Refuses sampling that libjpeg cannot bring to the picture's size by whole factors.
fn check_sampling(components: &[ComponentHeader]) -> Result<()> {
    let x_max = components.iter().map(|component| component.x_sampling).max().unwrap_or(1);
    let y_max = components.iter().map(|component| component.y_sampling).max().unwrap_or(1);
    for component in components {
        for (factor, max) in [(component.x_sampling, x_max), (component.y_sampling, y_max)] {
            if !(1..=4).contains(&factor) {
                return Err(malformed(&format!("a sampling factor of {factor}")));
            }
            if max % factor != 0 {
                let what = format!("{factor} samples beside {max}, which is no whole ratio, in a");
                return Err(refused(&what, "save it again with usual chroma subsampling"));
            }
        }
    }
    Ok(())
}

/// The code of the next marker at or after `position`, which is moved behind it. Stuffed bytes of
/// entropy-coded data (`ff 00`) and fill bytes (`ff ff`) are none.
pub(super) fn next_marker(bytes: &[u8], position: &mut usize) -> Option<u8> {
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

/// Moves `position` behind the restart marker of this number, modulo 8; whether it was the next.
pub(super) fn skip_restart(bytes: &[u8], position: &mut usize, number: usize) -> bool {
    next_marker(bytes, position) == Some(FIRST_RESTART + (number % 8) as u8)
}

/// Why a picture with this marker is refused.
fn not_read(marker: u8) -> crate::error::Error {
    const AGAIN: &str = "save it again as baseline or progressive JPEG, or as PNG";
    match marker {
        0xc3 => refused("lossless", AGAIN),
        0xc5..=0xc7 | 0xde | 0xdf => refused("hierarchical", AGAIN),
        0xc9 | 0xca => {
            refused("arithmetic-coded", "`jpegtran` makes it Huffman-coded, without loss")
        }
        0xcb => refused("lossless arithmetic-coded", AGAIN),
        0xcd..=0xcf => refused("hierarchical arithmetic-coded", AGAIN),
        0xf7 => refused("JPEG-LS, not", AGAIN),
        _ => malformed(&format!("unknown marker ff {marker:02x}")),
    }
}
