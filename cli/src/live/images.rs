//! The images that are sent.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use twinstream::image::{self, Preprocess};

use crate::files::of_repository;
use crate::folders::check_folder;

/// The images of the repository, sent where no others are named.
const DEFAULT_FOLDER: &str = "examples/images";
/// Different images sent at most: enough that no cache holds them, few enough to be in memory.
const IMAGE_LEN_MAX: usize = 256;

/// The images of a folder as network inputs, in the order of their names.
pub(super) fn read(folder: Option<&Path>, preprocess: Preprocess) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = match folder {
        Some(folder) => folder.to_path_buf(),
        None => of_repository(DEFAULT_FOLDER)
            .with_context(|| format!("no {DEFAULT_FOLDER} here: name a folder with --images"))?,
    };
    check_folder(&folder)?;
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.truncate(IMAGE_LEN_MAX);
    ensure!(!paths.is_empty(), "{}: no images in there", folder.display());
    let read = |path: &PathBuf| Ok(preprocess.apply(&image::decode_file(path)?)?.into_pixels());
    paths.iter().map(read).collect()
}

/// Noise, for a device that does not look at it.
pub(super) fn noise(image_bytes: usize) -> Vec<Vec<u8>> {
    vec![(0..image_bytes).map(|byte| (byte * 31 % 251) as u8).collect()]
}
