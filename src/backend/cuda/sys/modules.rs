//! The compiled kernels that this program carries, and what else decides how they run.
//!
//! Invariant: a hash stands for the code that is loaded, bit by bit. Knows no context.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// The kernels: fat binaries by their source files, each with the compute capability that alone
/// runs it, if there is one; or one that is empty where the emulated device knows them by name.
#[cfg(not(twinstream_emulated))]
pub(super) const KERNELS: &[Binary] = include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));
#[cfg(twinstream_emulated)]
pub(super) const KERNELS: &[Binary] = &[("", None, &[])];
pub(super) type Binary = (&'static str, Option<(u32, u32)>, &'static [u8]);

/// Where the driver of Linux says its exact version, such as `580.65.06`.
const DRIVER_BUILD_PATH: &str = "/sys/module/nvidia/version";

/// The code of a module, and this package's version, which stands for the host's part of a launch:
/// a number of 64 hexadecimal digits.
pub(crate) fn hash(module: &str) -> String {
    static HASHES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut hashes = HASHES.lock().unwrap_or_else(PoisonError::into_inner);
    let compute = || {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        let is_it = |(stem, ..): &&Binary| cfg!(twinstream_emulated) || *stem == module;
        // A module that was left out of the build has no kernel that a device runs.
        KERNELS.iter().filter(is_it).for_each(|(.., code)| hash.update(code));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    hashes.entry(module.to_owned()).or_insert_with(compute).clone()
}

/// The driver's exact version, where the system tells it.
pub(crate) fn driver_build() -> Option<&'static str> {
    static BUILD: LazyLock<Option<String>> = LazyLock::new(|| {
        if cfg!(twinstream_emulated) {
            return None;
        }
        let text = std::fs::read_to_string(DRIVER_BUILD_PATH).ok()?;
        Some(text.trim().to_owned()).filter(|build| !build.is_empty())
    });
    BUILD.as_deref()
}
