//! Scans of a progressive picture: first the upper bits of some coefficients, then one bit more.
//!
//! Invariant: each scan does to the coefficients what libjpeg does, in whatever order scans come.
//! Knows nothing of samples.

use multiversion::multiversion;

use super::huffman::{Bits, Decoded, Table};
use super::idct::Block;
use super::walk::{Grid, Part, RUN_TOO_LONG, State, coefficient, difference, walk};

/// The coefficients of a scan, in zigzag order, and how many lower bits it leaves out.
pub(super) struct Band {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) low: u32,
}

/// The constants' upper bits.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
pub(super) fn constants(
    bits: &mut Bits,
    grid: &Grid,
    parts: &mut [Part],
    band: &Band,
) -> Decoded<()> {
    walk(bits, grid, |bits, state, part, x, y| {
        let prediction = &mut state.predictions[part];
        bits.refill();
        *prediction = prediction.wrapping_add(difference(bits, parts[part].dc())?);
        parts[part].coefficients(x, y)[0] = (*prediction << band.low) as i16;
        Ok(())
    })
}

/// One more bit of the constants.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
pub(super) fn constant_bits(
    bits: &mut Bits,
    grid: &Grid,
    parts: &mut [Part],
    band: &Band,
) -> Decoded<()> {
    walk(bits, grid, |bits, _, part, x, y| {
        bits.refill();
        parts[part].coefficients(x, y)[0] |= (bits.take(1) << band.low) as i16;
        Ok(())
    })
}

/// The upper bits of other coefficients.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
pub(super) fn bands(bits: &mut Bits, grid: &Grid, parts: &mut [Part], band: &Band) -> Decoded<()> {
    walk(bits, grid, |bits, state, part, x, y| {
        if state.empty_len > 0 {
            state.empty_len -= 1;
            return Ok(());
        }
        let ac = parts[part].ac();
        let block = parts[part].coefficients(x, y);
        let mut index = band.first;
        while index <= band.last {
            bits.refill();
            let symbol = bits.symbol(ac)?;
            let (run, size) = (symbol >> 4, u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => index += 16,
                (_, 0) => {
                    state.empty_len = empty_len(bits, run) - 1;
                    break;
                }
                _ => {
                    index += usize::from(run);
                    if index > band.last {
                        return Err(RUN_TOO_LONG);
                    }
                    *coefficient(block, index)? = (bits.value(size) << band.low) as i16;
                    index += 1;
                }
            }
        }
        Ok(())
    })
}

/// How many blocks, this one included, hold nothing new.
#[inline(always)]
fn empty_len(bits: &mut Bits, exponent: u8) -> u32 {
    (1 << exponent) + bits.take(exponent.into())
}

/// One more bit of other coefficients, and those that this bit makes different from 0.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
pub(super) fn band_bits(
    bits: &mut Bits,
    grid: &Grid,
    parts: &mut [Part],
    band: &Band,
) -> Decoded<()> {
    walk(bits, grid, |bits, state, part, x, y| {
        let ac = parts[part].ac();
        refine(bits, state, ac, parts[part].coefficients(x, y), band)
    })
}

#[inline(always)]
fn refine(
    bits: &mut Bits,
    state: &mut State,
    ac: &Table,
    block: &mut Block,
    band: &Band,
) -> Decoded<()> {
    let mut index = band.first;
    while state.empty_len == 0 && index <= band.last {
        bits.refill();
        let symbol = bits.symbol(ac)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        let value = match (run, size) {
            (15, 0) => 0,
            (_, 0) => {
                state.empty_len = empty_len(bits, run);
                break;
            }
            (_, 1) => (if bits.take(1) == 1 { 1 } else { -1 }) << band.low,
            _ => return Err("a new coefficient of more than one bit"),
        };
        index = refine_until(bits, block, band, index, run.into())?;
        if value != 0 {
            if index > band.last {
                return Err(RUN_TOO_LONG);
            }
            *coefficient(block, index)? = value;
        }
        index += 1;
    }
    if state.empty_len > 0 {
        refine_until(bits, block, band, index, usize::MAX)?;
        state.empty_len -= 1;
    }
    Ok(())
}

/// Adds a bit to each coefficient from `index` on that is not 0, up to one that is, behind
/// `zeros_len` of these, whose index is returned, or to the end of the band.
#[inline(always)]
fn refine_until(
    bits: &mut Bits,
    block: &mut Block,
    band: &Band,
    mut index: usize,
    mut zeros_len: usize,
) -> Decoded<usize> {
    let bit = 1 << band.low;
    while index <= band.last {
        let value = coefficient(block, index)?;
        if *value == 0 {
            if zeros_len == 0 {
                break;
            }
            zeros_len -= 1;
        } else {
            bits.refill();
            // A bit that is there already was given by an earlier scan of the same.
            if bits.take(1) == 1 && *value & bit == 0 {
                *value = value.wrapping_add(if *value > 0 { bit } else { -bit });
            }
        }
        index += 1;
    }
    Ok(index)
}
