//! The first layer, from raw pixels, with the max pool.
//!
//! Pixels are copied between zeros, so that all taps of all pixels can be read. Zero is not what
//! the network has there, which each border's own bias sets right. Some images at a time, so that
//! the pool finds in the cache what the convolution wrote.

use std::slice;
use std::sync::Arc;

use half::bf16;

use super::bytes::Bytes;
use super::filter::Filter;
use super::isa::Isa;
use super::pool;
use super::product::{Input, Operands, Product};
use super::region::{Layout, Span, Window};
use super::tile::STEP_BYTES;
use crate::backend::cpu::team::Team;
use crate::error::Result;
use crate::lower::DType;
use crate::model::{Model, Shape};

const WINDOW: Window = Window { kernel: 7, stride: 2, padding: 3 };
/// What the convolution writes at a time, unless one image has more.
const CONV_BYTES: usize = 1 << 20;
/// Bytes of a copying task.
const COPY_BYTES: usize = 1 << 15;

/// The stem and its intermediate values.
pub(super) struct Stem {
    dtype: DType,
    product: Arc<Product>,
    input: Shape,
    bordered: Shape,
    conv: Shape,
    output: Shape,
    /// Images at a time.
    chunk_len: usize,
    /// Images between zeros.
    pixels: Bytes,
    /// What the convolution writes.
    values: Bytes,
}

impl Stem {
    /// For batches of up to `batch_len_max` images.
    pub(super) fn new(
        model: &Model,
        (isa, dtype): (Isa, DType),
        filter: usize,
        [input, conv, output]: [Shape; 3],
        batch_len_max: usize,
    ) -> Result<Self> {
        let filter = Filter::of_pixels(model, dtype, filter)?;
        let exact = Layout::exact(WINDOW, input, conv);
        let bias = |region| filter.border_bias(model, region);
        let biases: Vec<Vec<f32>> = exact.regions.iter().map(bias).collect();
        let all_taps = |span: Span| Span { taps: 0..WINDOW.kernel, ..span };
        let mut layout = exact;
        for region in &mut layout.regions {
            region.rows = all_taps(region.rows.clone());
            region.columns = all_taps(region.columns.clone());
        }
        let border = 2 * WINDOW.padding;
        let bordered =
            Shape { height: input.height + border, width: input.width + border, ..input };
        let window = Window { padding: 0, ..WINDOW };
        let size = dtype.size_bytes();
        let conv_bytes = conv.value_len() * size;
        let chunk_len = (CONV_BYTES / conv_bytes).clamp(1, batch_len_max);
        let from = Input::new(bordered, window, dtype);
        Ok(Self {
            dtype,
            product: Arc::new(
                Product::new((isa, dtype), &filter, from, conv, chunk_len)
                    .in_regions(layout, &biases),
            ),
            input,
            bordered,
            conv,
            output,
            chunk_len,
            // The last row's last step reads beyond it.
            pixels: Bytes::new(chunk_len * bordered.value_len() * size + STEP_BYTES),
            values: Bytes::new(chunk_len * conv_bytes),
        })
    }

    /// Another with the same weights.
    pub(super) fn share(&self) -> Self {
        let (pixels, values) = (self.pixels.clone(), self.values.clone());
        Self { product: Arc::clone(&self.product), pixels, values, ..*self }
    }

    /// Computes whole images.
    ///
    /// # Safety
    /// `output` takes as many images of the pool's shape, and nothing else touches it.
    pub(super) unsafe fn run(&mut self, team: &mut Team, images: &[u8], mut output: *mut u8) {
        let image_bytes = self.input.value_len();
        for images in images.chunks(self.chunk_len * image_bytes) {
            let batch_len = images.len() / image_bytes;
            self.copy(team, images);
            let operands = Operands {
                input: self.pixels.as_ptr(),
                shortcut: std::ptr::null(),
                output: self.values.as_mut_ptr(),
            };
            // SAFETY: both are as long as a chunk of images, and `self` is borrowed mutably.
            unsafe { self.product.run(team, operands, batch_len) };
            let operands = Operands { input: self.values.as_ptr(), output, ..operands };
            // SAFETY: as above, and as the caller vouches.
            unsafe { self.max_pool(team, operands, batch_len) };
            output =
                output.wrapping_add(batch_len * self.output.value_len() * self.dtype.size_bytes());
        }
    }

    /// Copies images between the zeros, in the network's type.
    fn copy(&mut self, team: &mut Team, images: &[u8]) {
        let Self { input, bordered, dtype, .. } = *self;
        let size = dtype.size_bytes();
        let row_len = input.width * input.channels;
        let row_len_a_task = (COPY_BYTES / row_len).clamp(1, input.height);
        let parts = input.height.div_ceil(row_len_a_task);
        let operands = Operands {
            input: images.as_ptr(),
            shortcut: std::ptr::null(),
            output: self.pixels.as_mut_ptr(),
        };
        let operands = &operands;
        team.run(images.len() / input.value_len() * parts, &|_, task| {
            let (image, part) = (task / parts, task % parts);
            let rows = part * row_len_a_task..((part + 1) * row_len_a_task).min(input.height);
            for row in rows {
                let from = image * input.value_len() + row * row_len;
                let to_row = image * bordered.height + row + WINDOW.padding;
                let to = (to_row * bordered.width + WINDOW.padding) * input.channels;
                let Operands { input, output, .. } = *operands;
                // SAFETY: rows of the images, and of the bordered ones, whose alignment suits both
                // types; each task writes rows of its own.
                unsafe {
                    let pixels = slice::from_raw_parts(input.add(from), row_len);
                    let values = output.add(to * size);
                    match dtype {
                        DType::I8 => values.copy_from(pixels.as_ptr(), row_len),
                        _ => widen(pixels, slice::from_raw_parts_mut(values.cast(), row_len)),
                    }
                }
            }
        });
    }

    /// Pools, a task an output row.
    ///
    /// # Safety
    /// The operands hold `batch_len` images of the shapes; nothing else touches them.
    unsafe fn max_pool(&self, team: &mut Team, operands: Operands, batch_len: usize) {
        let Self { conv, output: shape, dtype, .. } = *self;
        let (input_len, row_len) = (conv.value_len(), shape.width * shape.channels);
        let operands = &operands;
        team.run(batch_len * shape.height, &|_, task| {
            let Operands { input, output, .. } = *operands;
            let (image, row) = (task / shape.height, task % shape.height);
            // SAFETY: the caller vouches for the operands, whose alignment suits both types; each
            // task writes a row of its own.
            unsafe {
                match dtype {
                    DType::I8 => pool::max_pool_u8(
                        conv,
                        slice::from_raw_parts(input.add(image * input_len), input_len),
                        row,
                        slice::from_raw_parts_mut(output.add(task * row_len), row_len),
                    ),
                    _ => {
                        let (input, output) = (input.cast::<u16>(), output.cast::<u16>());
                        pool::max_pool_bf16(
                            conv,
                            slice::from_raw_parts(input.add(image * input_len), input_len),
                            row,
                            slice::from_raw_parts_mut(output.add(task * row_len), row_len),
                        );
                    }
                }
            }
        });
    }
}

/// To bf16, which holds every u8 exactly.
fn widen(pixels: &[u8], values: &mut [bf16]) {
    for (value, &pixel) in values.iter_mut().zip(pixels) {
        *value = bf16::from_bits((f32::from(pixel).to_bits() >> 16) as u16);
    }
}
