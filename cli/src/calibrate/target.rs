//! Where a calibration may write: looked at before anything is computed.
//!
//! Invariant: what it would replace is a file of its own kind, and none that it reads.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::files::check_replaceable;
use crate::outcome::Usage;

/// Refuses to write to `out` what is made of `weights` and of images in the folder `images`.
pub(super) fn check_out(out: &Path, weights: &Path, images: &Path) -> anyhow::Result<()> {
    let refused = |problem: &str| Err(Usage(format!("--out {}: {problem}", out.display())).into());
    if is_same(out, weights) {
        return refused("would replace the weights that it is made from: name another file");
    }
    let name = out.as_os_str().as_encoded_bytes();
    let is_folder = out.is_dir() || name.ends_with(b"/") || name.ends_with(b"/.");
    ensure!(!is_folder, "{}: a folder: name a file in it", out.display());
    // Whose reader might never come.
    let is_pipe = fs::metadata(out).is_ok_and(|found| found.file_type().is_fifo());
    ensure!(!is_pipe, "{}: a pipe: name a file", out.display());
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "{}: no such folder", folder.display());
    let paths = [folder, images].map(fs::canonicalize);
    if let [Ok(folder), Ok(images)] = paths
        && folder.starts_with(images)
    {
        return refused("lies among the images: name a file outside their folder");
    }
    if out.is_file() && !is_network(out).with_context(|| out.display().to_string())? {
        return refused("would replace a file that is no network: name another, or remove it");
    }
    check_replaceable(out)
}

/// Whether two paths name one file, by whatever links.
fn is_same(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(a).is_some() && identity(a) == identity(b)
}

/// Whether a file begins as safetensors do, or has nothing to lose.
fn is_network(path: &Path) -> std::io::Result<bool> {
    let len = fs::metadata(path)?.len();
    let mut start = Vec::new();
    File::open(path)?.take(9).read_to_end(&mut start)?;
    let Some((header_len, brace)) = start.split_first_chunk() else { return Ok(len == 0) };
    Ok(brace == b"{" && u64::from_le_bytes(*header_len) < len)
}
