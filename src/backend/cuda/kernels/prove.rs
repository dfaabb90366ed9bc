//! Kernels that no batch needs: memory is filled and results are compared where they lie, to prove
//! other kernels.

use super::launch::{Kernel, Launch};
use super::prove_abi;

/// Chunks that a block takes, as far as there are so few blocks.
const BLOCK_CHUNK_LEN: usize = 4096;
/// As many blocks as fill any device.
const BLOCK_LEN_MAX: usize = 2048;

static FILL: Kernel = of_module(Kernel::alone(
    "prove_fill",
    prove_abi::TWINSTREAM_PROVE_FILL_THREADS,
    prove_abi::TWINSTREAM_PROVE_FILL_SHARED_BYTES,
));
static COMPARE: Kernel = of_module(Kernel::alone(
    "prove_compare",
    prove_abi::TWINSTREAM_PROVE_COMPARE_THREADS,
    prove_abi::TWINSTREAM_PROVE_COMPARE_SHARED_BYTES,
));

const fn of_module(kernel: Kernel) -> Kernel {
    Kernel { module: "prove", ..kernel }
}

fn grid(chunk_len: usize) -> [u32; 3] {
    [chunk_len.div_ceil(BLOCK_CHUNK_LEN).clamp(1, BLOCK_LEN_MAX) as u32, 1, 1]
}

/// Fills memory.
pub(crate) fn fill(params: prove_abi::twinstream_prove_fill_params) -> Launch {
    Launch::new(&FILL, grid(params.chunk_len as usize), Box::new(params))
}

/// Compares results.
pub(crate) fn compare(params: prove_abi::twinstream_prove_compare_params) -> Launch {
    Launch::new(&COMPARE, grid(params.chunk_len as usize), Box::new(params))
}
