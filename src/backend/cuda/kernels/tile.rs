//! The tiles of convolutions, as `cuda/tiles.inc` lists them.
//!
//! Invariant: the list that the kernels are compiled from is the one that is read here. Knows
//! neither layers nor devices.

use super::launch::Kernel;
use crate::lower::DType;

/// The list; what includes it in C++ are the kernels and their tests.
const LIST: &str = include_str!("../../../../cuda/tiles.inc");

/// A kernel of a family of convolutions, and what a block of it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(super) kernel: Kernel,
    /// Type of activations and weights.
    pub(super) dtype: DType,
    /// Output pixels.
    pub(super) m: usize,
    /// Output channels.
    pub(super) n: usize,
    /// Blocks of a cluster, which share pixels.
    pub(super) cluster_len: u32,
    /// Blocks that a multiprocessor has registers for.
    pub(super) blocks_max: u32,
}

impl Tile {
    /// Those of the family whose kernels `cuda/` has in a file of this name, in the list's order;
    /// so many blocks make up a cluster.
    pub(super) fn of_module(module: &'static str, cluster_len: u32) -> Vec<Self> {
        let head = format!("TWINSTREAM_{}_TILE(", module.to_uppercase());
        let rows = LIST.lines().filter_map(|line| line.strip_prefix(&head));
        rows.map(|row| Self::parse((module, cluster_len), row)).collect()
    }

    /// What follows the head of a line: the compiler of the kernels has checked it.
    fn parse((module, cluster_len): (&'static str, u32), row: &'static str) -> Self {
        let mut fields = row.trim_end_matches(')').split(", ");
        let name = fields.next().unwrap_or_default();
        let number = |field: Option<&str>| -> u32 {
            let number = field.and_then(|field| field.parse().ok());
            number.unwrap_or_else(|| panic!("cuda/tiles.inc: not a tile: {row}"))
        };
        let arch = number(fields.next());
        let dtype = match fields.next() {
            Some("f16") => DType::F16,
            Some("i8") => DType::I8,
            _ => panic!("cuda/tiles.inc: not a type of values: {row}"),
        };
        let mut number = || number(fields.next());
        let (m, n) = (number(), number());
        let (_warps_m, _warps_n, _stages) = (number(), number(), number());
        let (thread_len, blocks_max, shared_bytes) = (number(), number(), number());
        let kernel = Kernel { module, name, arch, thread_len, shared_bytes };
        Self { kernel, dtype, m: m as usize, n: n as usize, cluster_len, blocks_max }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The columns of every tile, whatever its family: name, arch, dtype, M, N, warps along M and
    /// N, stages, threads, blocks, shared bytes.
    pub(crate) fn rows() -> Vec<Vec<&'static str>> {
        let lines = LIST.lines().filter(|line| line.starts_with("TWINSTREAM_"));
        let rows = lines.map(|line| line.split_once('(').unwrap().1.trim_end_matches(')'));
        rows.map(|row| row.split(", ").collect()).collect()
    }

    #[test]
    fn the_list_is_read_as_it_stands() {
        let tiles = Tile::of_module("conv", 1);
        let tile = tiles.iter().find(|tile| tile.kernel.name == "conv_16x64").unwrap();
        let kernel = Kernel {
            module: "conv",
            name: "conv_16x64",
            arch: 80,
            thread_len: 128,
            shared_bytes: 61968,
        };
        let dtype = DType::F16;
        assert_eq!(*tile, Tile { kernel, dtype, m: 16, n: 64, cluster_len: 1, blocks_max: 3 });
    }

    /// Goal: the table that explains the tiles to readers names each with its numbers. Method: the
    /// page's row of each, written from the list.
    #[test]
    fn the_documents_table_is_the_list() {
        let page = include_str!("../../../../docs/KERNELS.md");
        for row in rows() {
            let [name, arch, dtype, m, n, warps_m, warps_n, stages, ..] = row[..] else {
                panic!("{row:?}")
            };
            let a_warp = |len: &str, warps: &str| -> usize {
                len.parse::<usize>().unwrap() / warps.parse::<usize>().unwrap()
            };
            let (warp_m, warp_n) = (a_warp(m, warps_m), a_warp(n, warps_n));
            let expected = format!(
                "| `{name}` | sm_{arch} | {dtype} | {warps_m} x {warps_n} | {warp_m} x {warp_n} | \
                 {stages} | "
            );
            assert!(page.contains(&expected), "docs/KERNELS.md lacks {expected}");
        }
    }
}
