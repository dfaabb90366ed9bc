//! Folders of images whose names, or whose order, are classes.
//!
//! Invariant: each image has one class of the model. Knows nothing of what is done with them.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::folders::{EXTENSIONS, LeftOut, folders, images};
use crate::output::tell;

/// A folder's images, and the class of each.
pub struct Labelled {
    pub paths: Vec<PathBuf>,
    /// Index among the logits, one a path.
    pub labels: Vec<usize>,
    pub left_out: LeftOut,
}

/// The image files of `folder` and the class index of each, by class and name.
pub fn labelled_images(
    folder: &Path,
    label_names: &[String],
    class_count: usize,
) -> anyhow::Result<Labelled> {
    let mut left_out = LeftOut::default();
    let folders = folders(folder, &mut left_out)?;
    let classes = if label_names.is_empty() {
        tell(format_args!(
            "{}: the classes have no names: the folders in there, by name, are taken for them",
            folder.display()
        ));
        classes_in_order(folder, folders, class_count)?
    } else {
        classes_by_name(folder, folders, label_names)?
    };
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    let mut empty = Vec::new();
    for (label, class) in classes {
        let images = images(&class, &mut left_out)?;
        if images.is_empty() {
            empty.push(class.display().to_string());
        }
        labels.resize(labels.len() + images.len(), label);
        paths.extend(images);
    }
    ensure!(
        empty.is_empty(),
        "{}: has no images, which are files whose names end in one of {}; add some, or remove the \
         folder",
        names(&empty),
        EXTENSIONS.join(", ")
    );
    Ok(Labelled { paths, labels, left_out })
}

/// Says on stderr what was not looked at.
pub fn tell_left_out(left_out: &LeftOut) {
    if let Some(example) = &left_out.example {
        tell(format_args!(
            "left out, as hidden or no images by their names: {}, such as {}",
            left_out.len,
            example.display()
        ));
    }
}

/// Class folders that are named by the model's labels, some or all.
fn classes_by_name(
    folder: &Path,
    folders: Vec<PathBuf>,
    label_names: &[String],
) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    let mut classes = Vec::new();
    for path in folders {
        let name = path.file_name().unwrap_or_default();
        let mut labels =
            (0..label_names.len()).filter(|&index| name == label_names[index].as_str());
        let Some(label) = labels.next() else {
            bail!("{}: no class of the model; they are {}", path.display(), names(label_names));
        };
        if let Some(other) = labels.next() {
            bail!(
                "{}: two classes have this name, {label} and {other}; give each class a name of \
                 its own in the configuration",
                path.display()
            );
        }
        classes.push((label, path));
    }
    ensure!(
        !classes.is_empty(),
        "{}: has no class folders; expected some of {}",
        folder.display(),
        names(label_names)
    );
    classes.sort();
    Ok(classes)
}

/// Class folders of a model without labels: sorted by name they are its classes, as torchvision's
/// `ImageFolder` has it, which is right only where none is missing.
fn classes_in_order(
    folder: &Path,
    folders: Vec<PathBuf>,
    class_count: usize,
) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    ensure!(
        folders.len() == class_count,
        "{}: has {} class folders, but the network has {class_count} classes; without label_names \
         in the model's configuration each needs a folder, in the order of their names: add what \
         is missing, or name the classes in config.json (see --config)",
        folder.display(),
        folders.len()
    );
    Ok(folders.into_iter().enumerate().collect())
}

/// The first few of `all`.
fn names(all: &[String]) -> String {
    const SHOWN_LEN: usize = 10;
    let ellipsis = if all.len() > SHOWN_LEN { ", …" } else { "" };
    all[..all.len().min(SHOWN_LEN)].join(", ") + ellipsis
}
