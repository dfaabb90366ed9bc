//! The last kernel of a batch whose answer is the best classes: ranks the logits.

use super::abi;
use super::launch::{Kernel, Launch};

static KERNEL: Kernel =
    Kernel::alone("top_k", abi::TWINSTREAM_TOP_K_THREADS, abi::TWINSTREAM_TOP_K_SHARED_BYTES);

/// Ranks the logits of batches up to a length.
pub(crate) fn launch(batch_len: usize, params: abi::twinstream_top_k_params) -> Launch {
    Launch::new(&KERNEL, [batch_len as u32, 1, 1], Box::new(params))
}
