//! Memory that begins on a cache line.

use super::tile::LINE_BYTES;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; LINE_BYTES]);

const _: () = assert!(align_of::<Line>() == LINE_BYTES);

/// Bytes on whole cache lines, zero at first.
#[derive(Clone)]
pub(super) struct Bytes(Vec<Line>);

impl Bytes {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![Line([0; LINE_BYTES]); len.div_ceil(LINE_BYTES)])
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// The byte at `index`.
    pub(super) fn at(&mut self, index: usize) -> &mut u8 {
        &mut self.0[index / LINE_BYTES].0[index % LINE_BYTES]
    }
}
