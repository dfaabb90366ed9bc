//! What is found out on a device that no engine uses: times of tiles and chunks (`twinstream
//! tune`), of launches and batches (`twinstream profile`), and which kernels may be used there
//! (`twinstream prove`).
//!
//! Invariant: nothing that serves requests uses what is here.

pub(super) mod cases;
pub(super) mod chunks;
mod fixture;
mod mapped;
pub(super) mod profile;
pub(super) mod prove;
mod subject;
mod timer;
pub(super) mod tune;
mod workbench;
