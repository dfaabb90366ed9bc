//! Tensor maps: what the copy engine is told of images in device memory, as the driver encodes it.
//!
//! Invariant: every map is encoded here, with zeros outside, and is of the form that devices
//! expect, whichever driver encoded it. Knows no layer.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::driver::{self, Code, check};

/// CU_TENSOR_MAP_DATA_TYPE_UINT8, …_FLOAT16.
const UINT8: c_int = 0;
const FLOAT16: c_int = 6;
/// CU_TENSOR_MAP_INTERLEAVE_NONE.
const NO_INTERLEAVE: c_int = 0;
/// CU_TENSOR_MAP_SWIZZLE_64B, …_128B.
const SWIZZLE_64B: c_int = 2;
const SWIZZLE_128B: c_int = 3;
/// CU_TENSOR_MAP_L2_PROMOTION_L2_256B.
const PROMOTE_256B: c_int = 3;
/// CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE: zeros.
const FILL_ZEROS: c_int = 0;

/// Up to this version, CUDA 13.1's, drivers set a bit of word 1 in every map, which only those may
/// have that span so many bytes.
const FAULTY_VERSION_MAX: c_int = 13010;
const LARGE_FLAG: u64 = 1 << 21;
const LARGE_BYTES: u64 = 128 << 10;

/// A map, which the driver asks to be aligned.
#[repr(C, align(64))]
struct Map([u64; 16]);

/// Images without gaps, `[image][height][width][channels]`; channels are a multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// A multiple of 16.
    pub(crate) address: u64,
    /// 1: u8; 2: f16.
    pub(crate) value_bytes: usize,
    pub(crate) channels: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) image_len: usize,
}

/// The pixels that one tap of a convolution's kernel sees, output pixel after output pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Of one copy, as the pixels are.
    pub(crate) channels: usize,
    pub(crate) pixels: usize,
    /// From pixel to pixel on both axes.
    pub(crate) stride: usize,
    /// Where the first and the last pixel of an image that the first tap sees lie, from the image's
    /// own first and last one: width, height.
    pub(crate) lower: [i32; 2],
    pub(crate) upper: [i32; 2],
}

/// What the driver is told of every map, and where it writes the map.
struct Common {
    to: *mut c_void,
    data_type: c_int,
    address: *mut c_void,
    dimensions: *const u64,
    strides_bytes: *const u64,
    swizzle: c_int,
}

impl Images {
    /// A map of the images' pixels in a row, by boxes of so many channels and pixels.
    ///
    /// # Errors
    /// What the driver says, as one that knows no maps.
    pub(crate) fn boxes(&self, channels: usize, pixels: usize) -> Result<[u64; 16], Code> {
        let dimensions = [self.channels, self.width * self.height * self.image_len];
        let lens = [channels as u32, pixels as u32];
        self.encode(dimensions, channels, |common| {
            // SAFETY: the driver writes the map, and reads two numbers of each array but the
            // strides, of which it reads one.
            unsafe {
                driver::cuTensorMapEncodeTiled(
                    common.to,
                    common.data_type,
                    2,
                    common.address,
                    common.dimensions,
                    common.strides_bytes,
                    lens.as_ptr(),
                    [1, 1].as_ptr(),
                    NO_INTERLEAVE,
                    common.swizzle,
                    PROMOTE_256B,
                    FILL_ZEROS,
                )
            }
        })
    }

    /// A map of what taps see.
    ///
    /// # Errors
    /// As [`Images::boxes`].
    pub(crate) fn im2col(&self, window: &Window) -> Result<[u64; 16], Code> {
        let dimensions = [self.channels, self.width, self.height, self.image_len];
        let stride = window.stride as u32;
        let steps = [1, stride, stride, 1];
        self.encode(dimensions, window.channels, |common| {
            // SAFETY: the driver writes the map, and reads four numbers of dimensions and steps,
            // three strides, and two of each corner.
            unsafe {
                driver::cuTensorMapEncodeIm2col(
                    common.to,
                    common.data_type,
                    4,
                    common.address,
                    common.dimensions,
                    common.strides_bytes,
                    window.lower.as_ptr(),
                    window.upper.as_ptr(),
                    window.channels as u32,
                    window.pixels as u32,
                    steps.as_ptr(),
                    NO_INTERLEAVE,
                    common.swizzle,
                    PROMOTE_256B,
                    FILL_ZEROS,
                )
            }
        })
    }

    /// What both kinds of maps have in common. A copy takes rows of `row_len` values.
    fn encode<const RANK: usize>(
        &self,
        dimensions: [usize; RANK],
        row_len: usize,
        by_driver: impl FnOnce(Common) -> c_int,
    ) -> Result<[u64; 16], Code> {
        let dimensions = dimensions.map(|len| len as u64);
        // Of all dimensions but the innermost; the last number is the bytes of them all.
        let mut bytes = self.value_bytes as u64;
        let strides_bytes = dimensions.map(|len| {
            bytes *= len;
            bytes
        });
        let mut map = Map([0; 16]);
        check(by_driver(Common {
            to: (&raw mut map).cast(),
            data_type: if self.value_bytes == 1 { UINT8 } else { FLOAT16 },
            address: ptr::without_provenance_mut(self.address as usize),
            dimensions: dimensions.as_ptr(),
            strides_bytes: strides_bytes.as_ptr(),
            swizzle: if row_len * self.value_bytes == 64 { SWIZZLE_64B } else { SWIZZLE_128B },
        }))?;
        let mut version = 0;
        // SAFETY: `version` is a place for a number.
        check(unsafe { driver::cuDriverGetVersion(&mut version) })?;
        if version <= FAULTY_VERSION_MAX && bytes < LARGE_BYTES {
            map.0[1] &= !LARGE_FLAG;
        }
        Ok(map.0)
    }
}

#[cfg(all(test, twinstream_emulated))]
mod tests {
    use super::*;

    fn images(width: usize, image_len: usize) -> Images {
        cust::init(cust::CudaFlags::empty()).unwrap();
        Images { address: 256, value_bytes: 2, channels: 64, width, height: 8, image_len }
    }

    /// Goal: the bit that drivers up to 13.1 set in every map is left where it belongs: from 128
    /// KiB on.
    #[test]
    fn small_maps_lose_what_drivers_set() {
        let is_large = |words: [u64; 16]| words[1] & LARGE_FLAG != 0;
        let window = Window { channels: 64, pixels: 64, stride: 1, lower: [-1; 2], upper: [-1; 2] };
        for (image_len, expected) in [(1, false), (15, false), (16, true), (300, true)] {
            let images = images(8, image_len);
            assert_eq!(is_large(images.boxes(64, 64).unwrap()), expected, "{image_len}");
            assert_eq!(is_large(images.im2col(&window).unwrap()), expected, "{image_len}");
        }
    }

    /// Goal: what the driver does not take is an error, not a map of something else.
    #[test]
    fn shapes_that_no_map_has_are_refused() {
        let images = images(8, 1);
        assert!(Images { address: 8, ..images }.boxes(64, 64).is_err());
        assert!(images.boxes(64, 257).is_err());
        let window = Window { channels: 64, pixels: 64, stride: 9, lower: [0; 2], upper: [0; 2] };
        assert!(images.im2col(&window).is_err());
    }
}
