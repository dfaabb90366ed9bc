//! Entropy-coded scans: of a baseline picture to samples, of a progressive one to coefficients.
//!
//! Invariant: every block of a scan is decoded from data that are there: a code that does not
//! exist, a run beyond a block, a restart marker that is not the expected one and an early end are
//! errors. Work follows the data: an end is seen within a row of MCUs. Knows nothing of colours.

use multiversion::multiversion;

use super::huffman::{Bits, Code, Decoded, Table};
use super::idct::{self, Block};
use super::markers::{Headers, ScanHeader};
use super::picture::Picture;
use super::progressive::{self, Band};
use super::walk::{CUT, Grid, Part, coefficient, difference, walk};
use super::{malformed, standard, truncated};
use crate::error::{Error, Result};

/// Bits of a constant's difference, as libjpeg takes them.
const CONSTANT_BITS_MAX: u8 = 15;

/// Decodes the scan whose data begin at `position`, which is moved behind them.
pub(super) fn decode(
    picture: &mut Picture,
    headers: &Headers,
    scan: &ScanHeader,
    bytes: &[u8],
    position: &mut usize,
) -> Result<()> {
    for part in &scan.components {
        let component = &mut picture.components[part.index];
        component.set_quantisation(&headers.quantisations)?;
        if picture.is_progressive {
            component.missing_bits[scan.first..=scan.last].fill(scan.missing_bits);
        } else if std::mem::replace(&mut component.missing_bits, [0; 64]) == [0; 64] {
            return Err(malformed("a component comes in two scans"));
        }
    }
    let tables = Tables::new(headers, scan, picture.is_progressive)?;
    let grid = Grid::new(picture, scan, headers.restart_interval);
    let mut parts = take_parts(picture, scan, &tables);
    let mut bits = Bits::new(bytes, *position);
    let decoded = if picture.is_progressive {
        let band = Band { first: scan.first, last: scan.last, low: scan.missing_bits.into() };
        match (scan.first, scan.is_refinement) {
            (0, false) => progressive::constants(&mut bits, &grid, &mut parts, &band),
            (0, true) => progressive::constant_bits(&mut bits, &grid, &mut parts, &band),
            (_, false) => progressive::bands(&mut bits, &grid, &mut parts, &band),
            (_, true) => progressive::band_bits(&mut bits, &grid, &mut parts, &band),
        }
    } else {
        sequential(&mut bits, &grid, &mut parts)
    };
    for (part, taken) in scan.components.iter().zip(parts) {
        let component = &mut picture.components[part.index];
        (component.samples, component.coefficients) = (taken.samples, taken.coefficients);
    }
    *position = bits.position();
    decoded.map_err(|damage| {
        // Zeros behind the end may be no code; the end is what is wrong then.
        if bits.is_overdrawn() { truncated(CUT) } else { malformed(damage) }
    })
}

/// The tables that a scan needs, ready for decoding.
struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

impl Tables {
    fn new(headers: &Headers, scan: &ScanHeader, is_progressive: bool) -> Result<Self> {
        let mut tables = Self { dc: [const { None }; 4], ac: [const { None }; 4] };
        // Frames out of a film come without the tables that the standard suggests.
        let suggested = |code: Option<Code>| code.filter(|_| !is_progressive);
        for part in &scan.components {
            let (dc, ac) = (part.dc_table, part.ac_table);
            if !is_progressive || (scan.first == 0 && !scan.is_refinement) {
                let code = headers.dc_codes.get(dc).cloned().flatten();
                let code = code.or_else(|| suggested(standard::dc(dc))).ok_or_else(no_table)?;
                if code.symbols.iter().any(|&size| size > CONSTANT_BITS_MAX) {
                    return Err(malformed("a Huffman table of impossible sizes"));
                }
                add_table(&mut tables.dc[dc], &code)?;
            }
            if !is_progressive || scan.first > 0 {
                let code = headers.ac_codes.get(ac).cloned().flatten();
                let code = code.or_else(|| suggested(standard::ac(ac))).ok_or_else(no_table)?;
                add_table(&mut tables.ac[ac], &code)?;
            }
        }
        Ok(tables)
    }
}

fn add_table(table: &mut Option<Table>, code: &Code) -> Result<()> {
    if table.is_none() {
        let no_code = || malformed("a Huffman table that is no prefix code");
        *table = Some(Table::new(code).ok_or_else(no_code)?);
    }
    Ok(())
}

fn no_table() -> Error {
    malformed("a Huffman table is missing")
}

/// Takes the memory out of the components, as scans may name these in any order.
fn take_parts<'a>(picture: &mut Picture, scan: &ScanHeader, tables: &'a Tables) -> Vec<Part<'a>> {
    let part = |part: &super::markers::ScanComponent| {
        let component = &mut picture.components[part.index];
        Part {
            dc: tables.dc.get(part.dc_table).and_then(Option::as_ref),
            ac: tables.ac.get(part.ac_table).and_then(Option::as_ref),
            stride_blocks: component.stride_blocks,
            quantisation: component.quantisation.unwrap_or([0; 64]),
            samples: std::mem::take(&mut component.samples),
            coefficients: std::mem::take(&mut component.coefficients),
        }
    };
    scan.components.iter().map(part).collect()
}

#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
fn sequential(bits: &mut Bits, grid: &Grid, parts: &mut [Part]) -> Decoded<()> {
    walk(bits, grid, |bits, state, part, x, y| {
        let prediction = &mut state.predictions[part];
        let part = &mut parts[part];
        let mut block = [0; 64];
        let last = sequential_block(bits, part.dc(), part.ac(), prediction, &mut block)?;
        let stride = part.stride_blocks * 8;
        let samples = &mut part.samples[y * 8 * stride + x * 8..];
        idct::inverse(&block, &part.quantisation, last, samples, stride);
        Ok(())
    })
}

/// Returns the index of the last coefficient, in zigzag order.
#[inline(always)]
fn sequential_block(
    bits: &mut Bits,
    dc: &Table,
    ac: &Table,
    prediction: &mut i32,
    block: &mut Block,
) -> Decoded<usize> {
    bits.refill();
    *prediction = prediction.wrapping_add(difference(bits, dc)?);
    block[0] = *prediction as i16;
    let (mut index, mut last) = (1, 0);
    while index < 64 {
        bits.refill();
        let entry = bits.peek(ac);
        let (symbol, value) = if entry.value != 0 {
            bits.drop(entry.bits.into());
            (entry.symbol, entry.value)
        } else {
            let symbol = bits.symbol(ac)?;
            match symbol {
                // Sixteen zeros.
                0xf0 => {
                    index += 16;
                    continue;
                }
                // No more coefficients, for any run, as libjpeg takes it.
                _ if symbol & 15 == 0 => break,
                _ => (symbol, bits.value(u32::from(symbol & 15)) as i16),
            }
        };
        index += usize::from(symbol >> 4);
        *coefficient(block, index)? = value;
        last = index;
        index += 1;
    }
    Ok(last)
}
