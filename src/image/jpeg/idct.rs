//! The inverse cosine transform, with libjpeg's integers ("islow").
//!
//! Invariant: every sample equals libjpeg-turbo's, its behaviour on coefficients out of range
//! included: they wrap and saturate where its vector instructions do. Knows nothing of where
//! blocks come from.

/// Coefficients or their quantisation, row by row.
pub(super) type Block = [i16; 64];

/// Fractional bits of the constants.
const CONST_BITS: u32 = 13;
/// Fractional bits that are kept between the passes.
const PASS_BITS: u32 = 2;
/// Largest value, and not the smallest, that can be shifted by these.
const SHIFTED_MAX: u16 = (i16::MAX >> PASS_BITS) as u16;

/// Writes the 8x8 samples of a block to `plane`, whose rows are `stride` apart. `last` is the index
/// of the last coefficient, in zigzag order, that may be other than 0.
#[inline(always)]
pub(super) fn inverse(
    block: &Block,
    quantisation: &Block,
    last: usize,
    plane: &mut [u8],
    stride: usize,
) {
    /// The last index before which all lie in the upper left quarter.
    const QUARTER_LAST: usize = 9;
    if last == 0 {
        let constant = block[0].wrapping_mul(quantisation[0]).wrapping_shl(PASS_BITS);
        let sample = to_sample((i32::from(constant) + 16) >> (PASS_BITS + 3));
        for row in plane.chunks_mut(stride).take(8) {
            row[..8].fill(sample);
        }
    } else if last <= QUARTER_LAST {
        transform::<4>(block, quantisation, plane, stride);
    } else {
        transform::<8>(block, quantisation, plane, stride);
    }
}

/// Both passes over the first `SIDE` rows and columns; the others are 0.
#[inline(always)]
fn transform<const SIDE: usize>(
    block: &Block,
    quantisation: &Block,
    plane: &mut [u8],
    stride: usize,
) {
    let mut work = [[0_i16; 8]; 8];
    for ((work, row), quantisation) in work
        .iter_mut()
        .zip(block.as_chunks::<8>().0)
        .zip(quantisation.as_chunks::<8>().0)
        .take(SIDE)
    {
        for ((work, value), factor) in work.iter_mut().zip(row).zip(quantisation) {
            *work = value.wrapping_mul(*factor);
        }
    }
    if work[0].iter().fold(false, |any, value| any | (value.unsigned_abs() > SHIFTED_MAX)) {
        first_pass_of_extremes(&mut work, block);
    } else {
        pass::<SIDE, { CONST_BITS - PASS_BITS }>(&mut work);
    }
    let mut work = transposed(&work);
    pass::<SIDE, { CONST_BITS + PASS_BITS + 3 }>(&mut work);
    for (row, samples) in plane.chunks_mut(stride).zip(transposed(&work)) {
        row[..8].copy_from_slice(&samples.map(|sample| to_sample(sample.into())));
    }
}

/// Where a block has no coefficients but those of the first row, libjpeg-turbo shifts these in 16
/// bits, which tells beyond [`SHIFTED_MAX`]: files that are not damaged stay far below.
#[cold]
#[inline(never)]
fn first_pass_of_extremes(work: &mut [[i16; 8]; 8], block: &Block) {
    if block[8..].iter().all(|&value| value == 0) {
        *work = [work[0].map(|value| value.wrapping_shl(PASS_BITS)); 8];
    } else {
        pass::<8, { CONST_BITS - PASS_BITS }>(work);
    }
}

/// The transform of all eight columns, of which rows from `SIDE` on are 0, less `SHIFT` bits.
#[inline(always)]
fn pass<const SIDE: usize, const SHIFT: u32>(work: &mut [[i16; 8]; 8]) {
    // The constants of the factorisation (Loeffler, Ligtenberg, Moschytz) times 2^13.
    const C0_298: i32 = 2446;
    const C0_390: i32 = 3196;
    const C0_541: i32 = 4433;
    const C0_765: i32 = 6270;
    const C0_899: i32 = 7373;
    const C1_175: i32 = 9633;
    const C1_501: i32 = 12299;
    const C1_847: i32 = 15137;
    const C1_961: i32 = 16069;
    const C2_053: i32 = 16819;
    const C2_562: i32 = 20995;
    const C3_072: i32 = 25172;
    let mut output = [[0_i16; 8]; 8];
    for column in 0..8 {
        let input = |row: usize| if row < SIDE { work[row][column] } else { 0 };
        let wide = |row: usize| i32::from(input(row));
        let sum = |a: i16, b: i16| i32::from(a.wrapping_add(b));
        let difference = |a: i16, b: i16| i32::from(a.wrapping_sub(b));
        // Rows 0, 2, 4, 6.
        let even2 = (wide(2) + wide(6)) * C0_541 - wide(6) * C1_847;
        let even3 = (wide(2) + wide(6)) * C0_541 + wide(2) * C0_765;
        let even0 = sum(input(0), input(4)) << CONST_BITS;
        let even1 = difference(input(0), input(4)) << CONST_BITS;
        let rounding = 1 << (SHIFT - 1);
        let even = [
            even0.wrapping_add(even3),
            even1.wrapping_add(even2),
            even1.wrapping_sub(even2),
            even0.wrapping_sub(even3),
        ]
        .map(|value| value.wrapping_add(rounding));
        // Rows 1, 3, 5, 7.
        let (sum73, sum51) = (sum(input(7), input(3)), sum(input(5), input(1)));
        let z5 = sum73.wrapping_add(sum51).wrapping_mul(C1_175);
        let z3 = z5.wrapping_sub(sum73.wrapping_mul(C1_961));
        let z4 = z5.wrapping_sub(sum51.wrapping_mul(C0_390));
        let z1 = (wide(7) + wide(1)).wrapping_mul(-C0_899);
        let z2 = (wide(5) + wide(3)).wrapping_mul(-C2_562);
        let add = |factor: i32, row: usize, a: i32, b: i32| {
            (wide(row) * factor).wrapping_add(a).wrapping_add(b)
        };
        let odd = [
            add(C1_501, 1, z1, z4),
            add(C3_072, 3, z2, z3),
            add(C2_053, 5, z2, z4),
            add(C0_298, 7, z1, z3),
        ];
        for (row, (even, odd)) in even.into_iter().zip(odd).enumerate() {
            output[row][column] = saturated(even.wrapping_add(odd) >> SHIFT);
            output[7 - row][column] = saturated(even.wrapping_sub(odd) >> SHIFT);
        }
    }
    *work = output;
}

/// In three steps, each of which deals the second half of the values between those of the first:
/// processors have instructions for that.
#[inline(always)]
fn transposed(rows: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
    dealt(&dealt(&dealt(rows)))
}

#[inline(always)]
fn dealt(rows: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
    let mut output = [[0; 8]; 8];
    for index in 0..4 {
        let (a, b) = (rows[index], rows[index + 4]);
        output[2 * index] = [a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]];
        output[2 * index + 1] = [a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]];
    }
    output
}

#[inline(always)]
fn saturated(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// From a value around 0 to a sample around 128.
#[inline(always)]
fn to_sample(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}
