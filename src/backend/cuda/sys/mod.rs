//! What the driver is asked for: devices, contexts, streams, memory, ranges for profilers.
//!
//! Invariant: every call of the driver is made in this folder, and what it gives is given back.
//! Knows no network, kernel, batch or plan; each file is used by its own name.

pub(super) mod context;
pub(super) mod driver;
#[cfg(twinstream_emulated)]
pub mod emulated;
pub(super) mod info;
pub(super) mod memory;
pub(super) mod modules;
pub(super) mod nvtx;
pub(super) mod stream;
pub(super) mod tensor_map;
pub(super) mod waiter;
