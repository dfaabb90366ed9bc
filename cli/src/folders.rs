//! Folders of labelled images, walked as torchvision's `ImageFolder` does.
//!
//! Invariant: images come in the order of their paths; a file is an image by its name's ending, and
//! all that is left out is counted. Knows nothing of what the images show.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::outcome::Usage;
use crate::reader::is_stdin;

/// Endings of an image's name, whatever their case: torchvision's.
pub const EXTENSIONS: [&str; 9] =
    ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// Files that were passed over.
#[derive(Default)]
pub struct LeftOut {
    pub len: usize,
    /// The first of them.
    pub example: Option<PathBuf>,
}

impl LeftOut {
    fn add(&mut self, path: PathBuf) {
        self.len += 1;
        self.example.get_or_insert(path);
    }
}

/// The folders in `folder`, by name. Files beside them and what is hidden go to `left_out`.
pub fn folders(folder: &Path, left_out: &mut LeftOut) -> anyhow::Result<Vec<PathBuf>> {
    check_folder(folder)?;
    let mut folders = entries(folder)?;
    folders.retain(|path| {
        let is_class = path.is_dir() && !is_hidden(path);
        if !is_class {
            left_out.add(path.clone());
        }
        is_class
    });
    Ok(folders)
}

/// Refuses what is there, but no folder.
pub fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let path = folder.display();
    if is_stdin(folder) {
        let problem =
            "images are not read from stdin: name a folder, such as ./- if it has this name";
        return Err(Usage(format!("{path}: {problem}")).into());
    }
    let is_other = folder.exists() && !folder.is_dir();
    ensure!(!is_other, "{path}: not a folder: name the folder that its images are in");
    Ok(())
}

/// The images in `folder` and in the folders below it, links followed, by path. Other files, what
/// is hidden, and links back to a folder around them go to `left_out`.
pub fn images(folder: &Path, left_out: &mut LeftOut) -> anyhow::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    walk(folder, &mut Vec::new(), &mut images, left_out)?;
    images.sort();
    Ok(images)
}

/// `around` are the folders that hold this one, as they are without links.
fn walk(
    folder: &Path,
    around: &mut Vec<PathBuf>,
    images: &mut Vec<PathBuf>,
    left_out: &mut LeftOut,
) -> anyhow::Result<()> {
    let itself = fs::canonicalize(folder).with_context(|| folder.display().to_string())?;
    if around.contains(&itself) {
        left_out.add(folder.to_path_buf());
        return Ok(());
    }
    around.push(itself);
    for path in entries(folder)? {
        if is_hidden(&path) {
            left_out.add(path);
        } else if path.is_dir() {
            walk(&path, around, images, left_out)?;
        } else if is_image(&path) {
            images.push(path);
        } else {
            left_out.add(path);
        }
    }
    around.pop();
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// As desktops, editors and version control leave everywhere.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// What is in `folder`, by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.with_context(|| folder.display().to_string())?;
    paths.sort();
    Ok(paths)
}
