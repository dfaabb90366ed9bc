//! The innermost matrix product: the `gemm` crate's microkernels for this processor, called on
//! weights that were packed once.
//!
//! This is the fence around that crate: nothing else names it. Its public `gemm` function packs and
//! allocates at every call, which its microkernels do not.

/// The microkernels' common signature: `dst[c][r] = alpha·dst[c][r] + beta·Σ lhs[k][r]·rhs[c][k]`
/// over `rows, columns, depth`, strides in values, `alpha_status` 0 for alpha = 0 and 1 for 1.
type Microkernel = unsafe fn(
    usize,
    usize,
    usize,
    *mut f32,
    *const f32,
    *const f32,
    isize,
    isize,
    isize,
    isize,
    isize,
    f32,
    f32,
    u8,
    bool,
    bool,
    bool,
    *const f32,
);

/// The microkernels of one instruction set.
pub(super) struct Kernels {
    name: &'static str,
    /// Values of one vector register.
    lanes: usize,
    /// Vectors of the tallest tile.
    vector_max: usize,
    /// Columns of the widest tile.
    column_max: usize,
    /// By vectors, then columns.
    table: Vec<Microkernel>,
}

/// A tile's operands. `weights` is a packed panel: `depth` rows of `Kernels::panel_len` values.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) weights: *const f32,
    pub(super) input: *const f32,
    pub(super) input_stride: usize,
    pub(super) output: *mut f32,
    pub(super) output_stride: usize,
    /// Adds to the output instead of overwriting it.
    pub(super) accumulate: bool,
}

macro_rules! kernels {
    ($name:expr, $lanes:expr, $set:path) => {{
        use $set as set;
        Kernels {
            name: $name,
            lanes: $lanes,
            vector_max: set::MR_DIV_N,
            column_max: set::NR,
            table: set::UKR.as_flattened().to_vec(),
        }
    }};
}

impl Kernels {
    /// The fastest that this processor executes.
    pub(super) fn detect() -> Self {
        Self::supported().swap_remove(0)
    }

    /// All that this processor executes, fastest first.
    pub(super) fn supported() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx512f") {
                found.push(kernels!("AVX-512", 16, gemm_f32::microkernel::avx512f::f32));
            }
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                found.push(kernels!("AVX2", 8, gemm_f32::microkernel::fma::f32));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(kernels!("NEON", 4, gemm_f32::microkernel::neon::f32));
        }
        found.push(kernels!("none", 1, gemm_f32::microkernel::scalar::f32));
        found
    }

    /// The instruction set.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Rows of the tallest tile, and of a packed panel.
    pub(super) fn panel_len(&self) -> usize {
        self.lanes * self.vector_max
    }

    /// Columns of the widest tile.
    pub(super) fn column_max(&self) -> usize {
        self.column_max
    }

    /// `output[column][row] (+)= Σ weights[depth][row] · input[column][depth]`.
    ///
    /// # Safety
    /// `tile.rows` is 1..=`panel_len`, `tile.columns` 1..=`column_max`; `weights` is valid for
    /// `depth · panel_len` values, `input` and `output` for the rows that columns and strides name;
    /// no other thread touches the output's values.
    #[inline(always)]
    pub(super) unsafe fn multiply(&self, tile: &Tile) {
        let vectors = tile.rows.div_ceil(self.lanes);
        let kernel = self.table[(vectors - 1) * self.column_max + tile.columns - 1];
        let (alpha, alpha_status) = if tile.accumulate { (1.0, 1) } else { (0.0, 0) };
        // SAFETY: the processor has the kernel's instructions (`supported`), and the caller
        // guarantees the operands.
        unsafe {
            kernel(
                tile.rows,
                tile.columns,
                tile.depth,
                tile.output,
                tile.weights,
                tile.input,
                tile.output_stride as isize,
                1,
                self.panel_len() as isize,
                1,
                tile.input_stride as isize,
                alpha,
                1.0,
                alpha_status,
                false,
                false,
                false,
                tile.weights,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each instruction set computes the documented product at every tile size.
    #[test]
    fn every_tile_of_every_instruction_set() {
        for kernels in Kernels::supported() {
            let (depth, panel) = (37, kernels.panel_len());
            let value = |index: usize| ((index * 7919) % 17) as f32 - 8.0;
            let weights: Vec<f32> = (0..depth * panel).map(value).collect();
            for rows in 1..=panel {
                for columns in 1..=kernels.column_max() {
                    let (input_stride, output_stride) = (depth + 3, panel + 5);
                    let input: Vec<f32> = (0..columns * input_stride).map(value).collect();
                    let mut output = vec![1.0; columns * output_stride];
                    let tile = Tile {
                        rows,
                        columns,
                        depth,
                        weights: weights.as_ptr(),
                        input: input.as_ptr(),
                        input_stride,
                        output: output.as_mut_ptr(),
                        output_stride,
                        accumulate: columns % 2 == 0,
                    };
                    // SAFETY: the vectors above hold what the tile names.
                    unsafe { kernels.multiply(&tile) };
                    for (index, &found) in output.iter().enumerate() {
                        let (column, row) = (index / output_stride, index % output_stride);
                        let mut expected = if row < rows && !tile.accumulate { 0.0 } else { 1.0 };
                        if row < rows {
                            expected += (0..depth)
                                .map(|k| {
                                    weights[k * panel + row] * input[column * input_stride + k]
                                })
                                .sum::<f32>();
                        }
                        // Small integers: every order of summation is exact.
                        assert_eq!(found, expected, "{} lanes, {rows}x{columns}", kernels.lanes);
                    }
                }
            }
        }
    }
}
