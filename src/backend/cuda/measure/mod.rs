//! Times on a device that no engine uses: of tiles and chunks (`twinstream tune`), of launches and
//! batches (`twinstream profile`).
//!
//! Invariant: nothing that serves requests uses what is here.

pub(super) mod chunks;
mod fixture;
pub(super) mod profile;
mod timer;
pub(super) mod tune;
