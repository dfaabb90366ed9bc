//! The first kernel of a batch: brings its description to the device, and those of its chunks.

use super::abi;
use super::launch::{Kernel, Launch};

static KERNEL: Kernel = Kernel::alone(
    "describe",
    abi::TWINSTREAM_DESCRIBE_THREADS,
    abi::TWINSTREAM_DESCRIBE_SHARED_BYTES,
);

/// Copies so many descriptions from page-locked memory at `source` to `batch`. It begins when the
/// batch before has ended, whose descriptions it overwrites.
pub(crate) fn launch(source: u64, batch: u64, description_len: u32) -> Launch {
    let params = Box::new(abi::twinstream_describe_params { source, batch });
    Launch { may_overlap: false, ..Launch::new(&KERNEL, [description_len, 1, 1], params) }
}
