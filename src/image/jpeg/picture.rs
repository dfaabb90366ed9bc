//! The components of a picture while its scans come in, and its pixels afterwards.
//!
//! Invariant: memory is asked for only for sides that are read, and data that are long enough to
//! hold a bit for each block. Pixels come only from components of which no coefficient is missing.
//! Knows nothing of codes.

use multiversion::multiversion;

use super::colour::ColourSpace;
use super::idct::{self, Block};
use super::markers::{ComponentHeader, FrameHeader, ScanHeader};
use super::upsample::Plane;
use super::{malformed, truncated};
use crate::error::Result;

/// Of a coefficient that no scan has given yet.
const ALL_BITS: u8 = u8::MAX;

/// One component: its place in the picture and what is known of it.
pub(super) struct Component {
    pub(super) x_sampling: usize,
    pub(super) y_sampling: usize,
    /// Index of its quantisation table.
    quantisation_index: usize,
    /// Samples in a row, and rows.
    width: usize,
    height: usize,
    /// Blocks that hold these.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    /// Blocks in a row of memory: whole MCUs.
    pub(super) stride_blocks: usize,
    /// The table that held when its first scan began, row by row.
    pub(super) quantisation: Option<Block>,
    /// How many lower bits of each coefficient are still to come, in zigzag order.
    pub(super) missing_bits: [u8; 64],
    /// `stride_blocks * 8` a row.
    pub(super) samples: Vec<u8>,
    /// Of a progressive picture, `stride_blocks` a row.
    pub(super) coefficients: Vec<Block>,
}

impl Component {
    /// Takes the table that holds now, unless an earlier scan did.
    pub(super) fn set_quantisation(&mut self, tables: &[Option<Block>; 4]) -> Result<()> {
        if self.quantisation.is_none() {
            let table = tables.get(self.quantisation_index).copied().flatten();
            let missing = || malformed("a quantisation table is missing");
            self.quantisation = Some(table.ok_or_else(missing)?);
        }
        Ok(())
    }

    /// Samples of a row of memory.
    pub(super) fn stride(&self) -> usize {
        self.stride_blocks * 8
    }
}

/// A picture whose scans are coming in.
pub(super) struct Picture {
    pub(super) is_progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    colour_space: ColourSpace,
    pub(super) components: Vec<Component>,
    pub(super) mcus_wide: usize,
    pub(super) mcus_high: usize,
}

impl Picture {
    /// Asks for the memory of a picture of sides that were checked. `data_len` bytes are to come.
    pub(super) fn new(
        frame: &FrameHeader,
        colour_space: ColourSpace,
        data_len: usize,
    ) -> Result<Self> {
        let x_max = frame.components.iter().map(|header| header.x_sampling).max().unwrap_or(1);
        let y_max = frame.components.iter().map(|header| header.y_sampling).max().unwrap_or(1);
        let mcus_wide = frame.width.div_ceil(8 * x_max);
        let mcus_high = frame.height.div_ceil(8 * y_max);
        let blocks_len = |header: &ComponentHeader| {
            mcus_wide * header.x_sampling * mcus_high * header.y_sampling
        };
        let component = |header: &ComponentHeader| {
            let width = (frame.width * header.x_sampling).div_ceil(x_max);
            let height = (frame.height * header.y_sampling).div_ceil(y_max);
            Component {
                x_sampling: header.x_sampling,
                y_sampling: header.y_sampling,
                quantisation_index: header.quantisation,
                width,
                height,
                blocks_wide: width.div_ceil(8),
                blocks_high: height.div_ceil(8),
                stride_blocks: mcus_wide * header.x_sampling,
                quantisation: None,
                missing_bits: [ALL_BITS; 64],
                samples: Vec::new(),
                coefficients: Vec::new(),
            }
        };
        let mut components: Vec<Component> = frame.components.iter().map(component).collect();
        let true_len: usize = components.iter().map(|c| c.blocks_wide * c.blocks_high).sum();
        if data_len < true_len.div_ceil(8) {
            return Err(truncated("less than a bit for each block"));
        }
        for (component, header) in components.iter_mut().zip(&frame.components) {
            component.samples = vec![0; blocks_len(header) * 64];
            if frame.is_progressive {
                component.coefficients = vec![[0; 64]; blocks_len(header)];
            }
        }
        let is_progressive = frame.is_progressive;
        let (width, height) = (frame.width, frame.height);
        Ok(Self { is_progressive, width, height, colour_space, components, mcus_wide, mcus_high })
    }

    /// Blocks of the whole picture.
    pub(super) fn blocks_len(&self) -> usize {
        self.components.iter().map(|component| component.samples.len() / 64).sum()
    }

    /// Blocks that a scan holds, or a few more.
    pub(super) fn visits(&self, scan: &ScanHeader) -> usize {
        scan.components.iter().map(|part| self.components[part.index].samples.len() / 64).sum()
    }

    /// The pixels, `[height, width, 3]`.
    pub(super) fn into_pixels(mut self) -> Result<Vec<u8>> {
        let is_missing = |component: &Component| component.missing_bits != [0; 64];
        if self.components.iter().any(is_missing) {
            return Err(truncated("scans are missing"));
        }
        for component in &mut self.components {
            transform(component);
        }
        let mut pixels = vec![0; self.height * self.width * 3];
        compose(&self, &mut pixels);
        Ok(pixels)
    }
}

/// Makes samples of a progressive picture's coefficients, and gives their memory back.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
fn transform(component: &mut Component) {
    let coefficients = std::mem::take(&mut component.coefficients);
    let Some(quantisation) = component.quantisation else { return };
    let stride = component.stride();
    let rows = coefficients.chunks(component.stride_blocks);
    for (blocks, samples) in rows.zip(component.samples.chunks_mut(stride * 8)) {
        for (x, block) in blocks.iter().enumerate() {
            let is_constant = block[1..].iter().fold(0, |any, value| any | value) == 0;
            let last = if is_constant { 0 } else { 63 };
            idct::inverse(block, &quantisation, last, &mut samples[x * 8..], stride);
        }
    }
}

#[multiversion(targets("x86_64+avx2+bmi1+bmi2+fma+lzcnt+popcnt", "aarch64+neon"))]
fn compose(picture: &Picture, pixels: &mut [u8]) {
    let x_max = picture.components.iter().map(|component| component.x_sampling).max().unwrap_or(1);
    let y_max = picture.components.iter().map(|component| component.y_sampling).max().unwrap_or(1);
    let plane =
        |component: &'_ Component| (x_max / component.x_sampling, y_max / component.y_sampling);
    // Whole repetitions of a sample, of which there are at most four, may lead beyond a row.
    let row_len = picture.width + 3;
    let mut sums = vec![0; row_len];
    let mut rows = vec![vec![0; row_len]; picture.components.len()];
    for (y, pixels) in pixels.chunks_exact_mut(picture.width * 3).enumerate() {
        let mut full = [&[][..]; 4];
        let parts = picture.components.iter().zip(&mut rows).zip(&mut full);
        for ((component, row), full) in parts {
            let (x_factor, y_factor) = plane(component);
            let plane = Plane {
                samples: &component.samples,
                stride: component.stride(),
                width: component.width,
                height: component.height,
                x_factor,
                y_factor,
            };
            *full = &plane.upsampled(y, row, &mut sums)[..picture.width];
        }
        picture.colour_space.convert(&full[..picture.components.len()], pixels);
    }
}
