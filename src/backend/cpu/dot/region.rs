//! Which output pixels are computed with which taps, and how many at a time.
//!
//! Pixels with the same taps form a region, whose tiles run through rows and images alike: in a
//! batch, the same corner of all images is one tile. Where a region would be too small for full
//! tiles, rows or columns with different taps are one region, and taps in the padding read zeros.
//! All of it is arithmetic: no table grows with the image.

use std::ops::Range;

use super::tile::PIXEL_MAX;
use crate::model::Shape;

/// A square kernel on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

/// Consecutive output rows (or columns), and the taps that they are computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) outputs: Range<usize>,
    pub(super) taps: Range<usize>,
}

impl Window {
    /// Each pixel by itself.
    pub(super) const ONE: Self = Self { kernel: 1, stride: 1, padding: 0 };

    /// Cuts `outputs` rows (or columns) where the taps inside an image of `inputs` change.
    pub(super) fn spans(&self, outputs: usize, inputs: usize) -> Vec<Span> {
        let Self { kernel, stride, padding } = *self;
        let mut spans: Vec<Span> = Vec::new();
        for output in 0..outputs {
            let start = padding.saturating_sub(output * stride);
            let end = kernel.min(inputs + padding - output * stride);
            match spans.last_mut() {
                Some(span) if span.taps == (start..end) => span.outputs.end = output + 1,
                _ => spans.push(Span { outputs: output..output + 1, taps: start..end }),
            }
        }
        spans
    }
}

/// One span for all of them, with the taps of any.
fn merged(spans: &[Span]) -> Vec<Span> {
    let first = spans.iter().map(|span| span.taps.start).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.taps.end).max().unwrap_or(0);
    let outputs = spans.last().map_or(0, |span| span.outputs.end);
    vec![Span { outputs: 0..outputs, taps: first..end }]
}

/// Output pixels that are computed with the same taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) rows: Span,
    pub(super) columns: Span,
    /// Whether some of its taps lie in the padding.
    pub(super) is_padded: bool,
}

impl Region {
    /// Its pixels in a batch along the axes image, row, column.
    pub(super) fn extents(&self, batch_len: usize) -> [usize; 3] {
        [batch_len, self.rows.outputs.len(), self.columns.outputs.len()]
    }

    /// Its tiles.
    pub(super) fn tiles(&self, batch_len: usize) -> Tiles {
        Tiles::new(self.extents(batch_len).iter().product())
    }
}

/// Pixels cut into the fewest tiles, whose lengths differ by one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    /// Tiles.
    pub(super) len: usize,
    /// Pixels of the shorter ones.
    pixels: usize,
    /// The first so many have one more.
    longer: usize,
}

impl Tiles {
    fn new(pixels: usize) -> Self {
        let len = pixels.div_ceil(PIXEL_MAX);
        Self { len, pixels: pixels / len, longer: pixels % len }
    }

    /// The first pixel of a tile.
    pub(super) fn first_pixel(&self, tile: usize) -> usize {
        tile * self.pixels + tile.min(self.longer)
    }

    /// The pixels of a tile.
    pub(super) fn pixel_len(&self, tile: usize) -> usize {
        self.pixels + usize::from(tile < self.longer)
    }

    /// Clocks of a step in all tiles, on a processor that computes two registers a clock and
    /// fetches the weights in six.
    fn cost(&self) -> usize {
        let tile = |pixels: usize| (2 * pixels).max(6);
        self.longer * tile(self.pixels + 1) + (self.len - self.longer) * tile(self.pixels)
    }
}

/// All of an output, in regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) regions: Vec<Region>,
}

impl Layout {
    /// One region for each combination of taps.
    pub(super) fn exact(window: Window, input: Shape, output: Shape) -> Self {
        let rows = window.spans(output.height, input.height);
        let columns = window.spans(output.width, input.width);
        Self::of(&rows, &columns, false)
    }

    /// The exact one, and those with merged rows or columns.
    pub(super) fn all(window: Window, input: Shape, output: Shape) -> Vec<Self> {
        let rows = window.spans(output.height, input.height);
        let columns = window.spans(output.width, input.width);
        let mut all = vec![Self::of(&rows, &columns, false)];
        if window.padding > 0 {
            all.push(Self::of(&rows, &merged(&columns), true));
            all.push(Self::of(&merged(&rows), &columns, true));
            all.push(Self::of(&merged(&rows), &merged(&columns), true));
        }
        all
    }

    fn of(rows: &[Span], columns: &[Span], is_padded: bool) -> Self {
        let region = |rows: &Span, columns: &Span| Region {
            rows: rows.clone(),
            columns: columns.clone(),
            is_padded,
        };
        let regions =
            rows.iter().flat_map(|rows| columns.iter().map(|columns| region(rows, columns)));
        Self { regions: regions.collect() }
    }

    /// Tiles of all regions.
    pub(super) fn tile_len(&self, batch_len: usize) -> usize {
        self.regions.iter().map(|region| region.tiles(batch_len).len).sum()
    }

    /// Clocks of a step at each tap, in all tiles.
    pub(super) fn cost(&self, batch_len: usize) -> usize {
        let cost = |region: &Region| {
            region.rows.taps.len() * region.columns.taps.len() * region.tiles(batch_len).cost()
        };
        self.regions.iter().map(cost).sum()
    }
}
