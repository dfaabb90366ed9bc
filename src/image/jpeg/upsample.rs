//! From the samples of a component to one for every pixel, as libjpeg makes them ("fancy").
//!
//! Invariant: no sample beyond the component's true sides is read; what would be needed of them is
//! the last column or row again. Knows nothing of colours.

/// A component's samples, row by row, and its sides.
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [u8],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    /// How often a sample is repeated beside and below itself.
    pub(super) x_factor: usize,
    pub(super) y_factor: usize,
}

impl<'a> Plane<'a> {
    #[inline(always)]
    fn row(&self, y: usize) -> &'a [u8] {
        &self.samples[y * self.stride..][..self.width]
    }

    /// Row `y` of the picture: a row of samples where that is one, else put into `row`.
    ///
    /// `row` and `sums` are as long as a row of samples, rounded up to whole repetitions.
    #[inline(always)]
    pub(super) fn upsampled<'b>(&self, y: usize, row: &'b mut [u8], sums: &mut [i16]) -> &'b [u8]
    where
        'a: 'b,
    {
        let near = self.row(y / self.y_factor);
        // Where two rows are mixed, the second one is that on the pixel's side.
        let is_upper = y.is_multiple_of(2);
        let far_y = if is_upper { (y / 2).saturating_sub(1) } else { y / 2 + 1 };
        let far = |plane: &Self| plane.row(far_y.min(plane.height - 1));
        // As narrow ones are not mixed along their rows, they are not mixed at all.
        let is_wide = self.width > 2;
        match (self.x_factor, self.y_factor) {
            (1, 1) => return near,
            (1, 2) => mix_rows(near, far(self), if is_upper { 1 } else { 2 }, row),
            (2, 1) if is_wide => {
                for (sum, &near) in sums.iter_mut().zip(near) {
                    *sum = near.into();
                }
                mix_columns::<1, 2, 2>(&sums[..self.width], row);
            }
            (2, 2) if is_wide => {
                for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far(self)) {
                    *sum = i16::from(near) * 3 + i16::from(far);
                }
                mix_columns::<8, 7, 4>(&sums[..self.width], row);
            }
            (x_factor, _) => {
                for (row, &near) in row.chunks_exact_mut(x_factor).zip(near) {
                    row.fill(near);
                }
            }
        }
        row
    }
}

/// Three parts of one row and one of another.
#[inline(always)]
fn mix_rows(near: &[u8], far: &[u8], rounding: u16, row: &mut [u8]) {
    for ((row, &near), &far) in row.iter_mut().zip(near).zip(far) {
        *row = ((u16::from(near) * 3 + u16::from(far) + rounding) >> 2) as u8;
    }
}

/// Twice as many samples: three parts of the near one and one of that on the other side, scaled by
/// `BITS` bits. `LEFT` and `RIGHT` are added before the shift.
#[inline(always)]
fn mix_columns<const LEFT: i16, const RIGHT: i16, const BITS: u32>(sums: &[i16], row: &mut [u8]) {
    let left = |near: i16, far: i16| ((near * 3 + far + LEFT) >> BITS) as u8;
    let right = |near: i16, far: i16| ((near * 3 + far + RIGHT) >> BITS) as u8;
    let (row, _) = row.as_chunks_mut::<2>();
    let last = sums.len() - 1;
    // At the ends a sample is mixed with itself, which for `BITS` of 2 leaves it as it is.
    row[0] = [left(sums[0], sums[0]), right(sums[0], sums[1])];
    let inner = row[1..last].iter_mut().zip(sums).zip(&sums[1..]).zip(&sums[2..]);
    for (((row, &before), &near), &after) in inner {
        *row = [left(near, before), right(near, after)];
    }
    row[last] = [left(sums[last], sums[last - 1]), right(sums[last], sums[last])];
}
