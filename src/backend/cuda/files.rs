//! Small files that are read whole and replaced whole.
//!
//! Invariant: whoever reads meanwhile finds the old file or the new one; of two that write at a
//! time, one. Knows nothing of what they hold.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Kind, Result};

/// What a file holds; nothing where it is not there.
///
/// # Errors
/// `is_io` when it cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("{}: cannot read: {error}", path.display());
            Err(Error::new(Kind::Io, message).with_source(error))
        }
    }
}

/// Writes a file beside its place, under a name that no other write has, and moves it there.
///
/// # Errors
/// `is_io` when it cannot be written; nothing is left beside it then.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    static WRITE_LEN: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only the number counts.
    let number = WRITE_LEN.fetch_add(1, Ordering::Relaxed);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}-{number}.new", std::process::id()));
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // Why it could not be written is what matters.
        _ = std::fs::remove_file(&beside);
        Error::new(Kind::Io, format!("{}: cannot write: {error}", path.display()))
            .with_source(error)
    })
}
