//! The first kernel of a batch: brings its description to the device.

use super::abi;
use super::launch::{Kernel, Launch};

static KERNEL: Kernel = Kernel::alone(
    "describe",
    abi::TWINSTREAM_DESCRIBE_THREADS,
    abi::TWINSTREAM_DESCRIBE_SHARED_BYTES,
);

/// Copies the description from page-locked memory at `source` to `batch`. It begins when the batch
/// before has ended, whose description it overwrites.
pub(crate) fn launch(source: u64, batch: u64) -> Launch {
    let params = Box::new(abi::twinstream_describe_params { source, batch });
    Launch { may_overlap: false, ..Launch::new(&KERNEL, [1, 1, 1], params) }
}
