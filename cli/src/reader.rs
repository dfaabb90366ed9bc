//! Image files, or stdin, to batches of network inputs, decoded by several threads while the
//! network computes.
//!
//! Invariant: batches come in the order of the paths, an unreadable image is a part of its batch,
//! and at most three batches are in memory. Knows nothing of networks and of output.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail, ensure};
use twinstream::image::{self, DecodeOptions, FILE_BYTES_MAX, Preprocess};

/// What became of one file: its u8 RGB HWC input, or why there is none.
pub struct Input<'a> {
    pub path: &'a Path,
    pub pixels: anyhow::Result<Vec<u8>>,
}

/// How a file becomes an input.
#[derive(Clone, Copy)]
pub struct Preparation {
    pub decode: DecodeOptions,
    pub crop: Preprocess,
}

/// Calls `consume` with batches of up to `batch_len` inputs until all `paths` were read or it
/// fails.
pub fn for_each_batch<'a>(
    paths: &'a [impl AsRef<Path> + Sync],
    batch_len: usize,
    threads: usize,
    preparation: Preparation,
    mut consume: impl FnMut(Vec<Input<'a>>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(1);
        scope.spawn(move || {
            for paths in paths.chunks(batch_len) {
                // Nobody listens any more once `consume` has failed.
                if sender.send(read_batch(paths, threads, preparation)).is_err() {
                    break;
                }
            }
        });
        for batch in receiver {
            consume(batch)?;
        }
        Ok(())
    })
}

fn read_batch<'a>(
    paths: &'a [impl AsRef<Path> + Sync],
    threads: usize,
    preparation: Preparation,
) -> Vec<Input<'a>> {
    thread::scope(|scope| {
        let read = |path: &'a Path| Input { path, pixels: read_image(path, preparation) };
        let readers: Vec<_> = paths
            .chunks(paths.len().div_ceil(threads))
            .map(|paths| {
                scope.spawn(move || -> Vec<_> {
                    paths.iter().map(|path| read(path.as_ref())).collect()
                })
            })
            .collect();
        readers.into_iter().flat_map(|reader| reader.join().expect("no panic in there")).collect()
    })
}

fn read_image(path: &Path, preparation: Preparation) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        bail!(
            "{}: a folder, not an image; name its files; `evaluate` takes folders",
            path.display()
        );
    }
    let image = match is_stdin(path) {
        true => image::decode_with(&read_stdin()?, &preparation.decode).context("stdin")?,
        false => image::decode_file_with(path, &preparation.decode)?,
    };
    Ok(preparation.crop.apply(&image)?.into_pixels())
}

/// Whether a path stands for stdin; a file of this name is `./-`.
pub fn is_stdin(path: &Path) -> bool {
    path == "-"
}

fn read_stdin() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).context("stdin")?;
    ensure!(!bytes.is_empty(), "stdin: empty: send an image's bytes to it, such as with `< FILE`");
    ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "stdin: longer than {FILE_BYTES_MAX} bytes");
    Ok(bytes)
}
