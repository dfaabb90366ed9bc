//! The convolution kernels and their sizes, as `cuda/tiles.inc` lists them.
//!
//! Invariant: the list that the kernels are compiled from is the one that is read here. Knows
//! neither layers nor devices.

use std::sync::LazyLock;

/// A convolution kernel: what a block computes and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) name: &'static str,
    /// Output pixels.
    pub(super) m: usize,
    /// Output channels.
    pub(super) n: usize,
    pub(super) thread_len: u32,
    /// Blocks that a multiprocessor has registers for.
    pub(super) blocks_max: u32,
    pub(super) shared_bytes: u32,
}

/// Every tile, in the order of the list.
pub(super) static TILES: LazyLock<Vec<Tile>> = LazyLock::new(|| {
    let lines = include_str!("../../../cuda/tiles.inc").lines();
    lines.filter_map(|line| line.strip_prefix("TWINSTREAM_TILE(")).map(Tile::parse).collect()
});

impl Tile {
    /// What follows `TWINSTREAM_TILE(` in a line: the compiler of the kernels has checked it.
    fn parse(line: &'static str) -> Self {
        const WARP_LEN: u32 = 32;

        let mut fields = line.trim_end_matches(')').split(", ");
        let name = fields.next().unwrap_or_default();
        let mut number = || -> u32 {
            let field = fields.next().and_then(|field| field.parse().ok());
            field.unwrap_or_else(|| panic!("cuda/tiles.inc: not a tile: {line}"))
        };
        let (m, n, warps_m, warps_n) = (number(), number(), number(), number());
        let (_stages, blocks_max, shared_bytes) = (number(), number(), number());
        let thread_len = warps_m * warps_n * WARP_LEN;
        Self { name, m: m as usize, n: n as usize, thread_len, blocks_max, shared_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_as_it_stands() {
        let tile = TILES.iter().find(|tile| tile.name == "conv_16x64").unwrap();
        let expected = Tile {
            name: "conv_16x64",
            m: 16,
            n: 64,
            thread_len: 128,
            blocks_max: 3,
            shared_bytes: 61968,
        };
        assert_eq!(*tile, expected);
        let lines = include_str!("../../../cuda/tiles.inc").lines();
        assert_eq!(lines.filter(|line| line.starts_with("TWINSTREAM_TILE")).count(), TILES.len());
    }
}
