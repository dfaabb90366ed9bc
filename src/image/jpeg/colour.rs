//! Which colours the components of a picture are, and rows of them to RGB.
//!
//! Invariant: libjpeg's choice of the colour space, its arithmetic to RGB, and Pillow's from CMYK
//! to RGB. Knows nothing of blocks and of sampling.

/// What the components are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColourSpace {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    /// YCbCr of the complement, and black.
    Ycck,
}

impl ColourSpace {
    /// What the headers make of the one, three or four components with `ids`; `adobe_transform` is
    /// what an Adobe segment says, if there is one.
    pub(super) fn new(ids: &[u8], has_jfif: bool, adobe_transform: Option<u8>) -> Self {
        match (ids, adobe_transform) {
            ([_], _) => Self::Grey,
            ([_, _, _], _) if has_jfif => Self::YCbCr,
            ([_, _, _], Some(0)) | (b"RGB", None) => Self::Rgb,
            ([_, _, _], _) => Self::YCbCr,
            (_, None | Some(0)) => Self::Cmyk,
            (_, Some(_)) => Self::Ycck,
        }
    }

    /// Writes a row of pixels from the rows of its components, of the same length.
    #[inline(always)]
    pub(super) fn convert(self, rows: &[&[u8]], pixels: &mut [u8]) {
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        match (self, rows) {
            (Self::Grey, [grey]) => {
                for (pixel, &grey) in pixels.iter_mut().zip(*grey) {
                    *pixel = [grey; 3];
                }
            }
            (Self::Rgb, [r, g, b]) => {
                for (((pixel, &r), &g), &b) in pixels.iter_mut().zip(*r).zip(*g).zip(*b) {
                    *pixel = [r, g, b];
                }
            }
            (Self::YCbCr, [y, cb, cr]) => {
                for (((pixel, &y), &cb), &cr) in pixels.iter_mut().zip(*y).zip(*cb).zip(*cr) {
                    *pixel = ycc_to_rgb(y, cb, cr);
                }
            }
            (Self::Cmyk | Self::Ycck, [a, b, c, k]) => {
                let inks = a.iter().zip(*b).zip(*c).zip(*k);
                for (pixel, (((&a, &b), &c), &k)) in pixels.iter_mut().zip(inks) {
                    let inks = match self {
                        Self::Ycck => ycc_to_rgb(a, b, c),
                        // As Pillow does with all such files, which Adobe's are written for.
                        _ => [a, b, c].map(|ink| 255 - ink),
                    };
                    *pixel = inks.map(|ink| k.saturating_sub(scaled(ink, k)));
                }
            }
            _ => unreachable!("a colour space is chosen by the number of components"),
        }
    }
}

#[inline(always)]
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    /// Of the factors below, and half a unit of the sum.
    const BITS: u32 = 16;
    const ROUND: i32 = 1 << (BITS - 1);
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    // 1.402, 0.344136, 0.714136 and 1.772.
    let r = y + ((91881 * cr + ROUND) >> BITS);
    let g = y + ((-22554 * cb - 46802 * cr + ROUND) >> BITS);
    let b = y + ((116_130 * cb + ROUND) >> BITS);
    [r, g, b].map(|value| value.clamp(0, 255) as u8)
}

/// `a * b / 255`, rounded.
#[inline(always)]
fn scaled(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}
