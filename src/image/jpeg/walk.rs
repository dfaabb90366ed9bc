//! The blocks of a scan, one after the other, and what its kinds decode alike.
//!
//! Invariant: a restart marker that is not the expected one and an early end are errors; an end is
//! seen within a row of MCUs. Knows nothing of what a block holds.

use super::huffman::{Bits, Damage, Decoded, Table};
use super::idct::Block;
use super::markers::{ScanHeader, ZIGZAG, skip_restart};
use super::picture::Picture;

const NO_RESTART: Damage = "a restart marker is missing or out of order";
pub(super) const CUT: Damage = "the data end early";
pub(super) const RUN_TOO_LONG: Damage = "a run of coefficients beyond its block";

/// How the blocks of a scan follow each other.
pub(super) struct Grid {
    mcus_wide: usize,
    mcus_high: usize,
    restart_interval: usize,
    /// Blocks of an MCU beside and on top of each other, a component each.
    sampling: Vec<(usize, usize)>,
}

impl Grid {
    pub(super) fn new(picture: &Picture, scan: &ScanHeader, restart_interval: usize) -> Self {
        let components = scan.components.iter().map(|part| &picture.components[part.index]);
        if let [part] = scan.components[..] {
            // Of a single component, blocks that hold nothing of the picture are left out.
            let component = &picture.components[part.index];
            let (mcus_wide, mcus_high) = (component.blocks_wide, component.blocks_high);
            return Self { mcus_wide, mcus_high, restart_interval, sampling: vec![(1, 1)] };
        }
        Self {
            mcus_wide: picture.mcus_wide,
            mcus_high: picture.mcus_high,
            restart_interval,
            sampling: components.map(|c| (c.x_sampling, c.y_sampling)).collect(),
        }
    }
}

/// A component's memory and tables during a scan.
pub(super) struct Part<'a> {
    pub(super) dc: Option<&'a Table>,
    pub(super) ac: Option<&'a Table>,
    pub(super) stride_blocks: usize,
    pub(super) quantisation: Block,
    pub(super) samples: Vec<u8>,
    pub(super) coefficients: Vec<Block>,
}

impl<'a> Part<'a> {
    #[inline(always)]
    pub(super) fn dc(&self) -> &'a Table {
        self.dc.expect("made for every scan that needs it")
    }

    #[inline(always)]
    pub(super) fn ac(&self) -> &'a Table {
        self.ac.expect("made for every scan that needs it")
    }

    #[inline(always)]
    pub(super) fn coefficients(&mut self, x: usize, y: usize) -> &mut Block {
        &mut self.coefficients[y * self.stride_blocks + x]
    }
}

/// What decoding carries from block to block, and forgets at a restart.
#[derive(Default)]
pub(super) struct State {
    /// The constant of each component's block before.
    pub(super) predictions: [i32; 4],
    /// Blocks to come that hold nothing new of a band.
    pub(super) empty_len: u32,
}

/// Calls `decode` for every block of a scan, in order: with the number of the part, column and row.
#[inline(always)]
pub(super) fn walk(
    bits: &mut Bits,
    grid: &Grid,
    decode: impl FnMut(&mut Bits, &mut State, usize, usize, usize) -> Decoded<()>,
) -> Decoded<()> {
    // A copy, which may stay in registers.
    let mut local = *bits;
    let walked = walk_local(&mut local, grid, decode);
    *bits = local;
    walked
}

#[inline(always)]
fn walk_local(
    bits: &mut Bits,
    grid: &Grid,
    mut decode: impl FnMut(&mut Bits, &mut State, usize, usize, usize) -> Decoded<()>,
) -> Decoded<()> {
    let mut state = State::default();
    let (mut restarts_len, mut mcus_left) = (0, grid.restart_interval);
    for mcu_y in 0..grid.mcus_high {
        for mcu_x in 0..grid.mcus_wide {
            if grid.restart_interval > 0 {
                if mcus_left == 0 {
                    *bits = restarted(*bits, restarts_len)?;
                    state = State::default();
                    restarts_len += 1;
                    mcus_left = grid.restart_interval;
                }
                mcus_left -= 1;
            }
            for (part, &(x_len, y_len)) in grid.sampling.iter().enumerate() {
                for y in mcu_y * y_len..(mcu_y + 1) * y_len {
                    for x in mcu_x * x_len..(mcu_x + 1) * x_len {
                        decode(bits, &mut state, part, x, y)?;
                    }
                }
            }
        }
        if bits.is_overdrawn() {
            return Err(CUT);
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn restarted(bits: Bits, restarts_len: usize) -> Decoded<Bits> {
    if bits.is_overdrawn() {
        return Err(CUT);
    }
    let skip = |bytes: &[u8], position: &mut usize| skip_restart(bytes, position, restarts_len);
    bits.skip_marker(skip).ok_or(NO_RESTART)
}

/// What a block's constant adds to that of the block before, after [`Bits::refill`].
#[inline(always)]
pub(super) fn difference(bits: &mut Bits, dc: &Table) -> Decoded<i32> {
    let size = bits.symbol(dc)?;
    Ok(bits.value(size.into()))
}

/// The place of a coefficient by its index in zigzag order.
#[inline(always)]
pub(super) fn coefficient(block: &mut Block, index: usize) -> Decoded<&mut i16> {
    let place = ZIGZAG.get(index).ok_or(RUN_TOO_LONG)?;
    Ok(&mut block[usize::from(*place) & 63])
}
