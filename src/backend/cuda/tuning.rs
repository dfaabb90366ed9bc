//! What `twinstream tune` measured to be best, in a file: kernels and splits by device, input size
//! and precision, layer and batch bucket; and the chunks of layers 1 and 2 by batch bucket.
//!
//! Invariant: what is written can be read again. Knows kernels by their names alone, and not
//! whether there are such.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use super::sys::info::DeviceInfo;
use crate::error::{Error, Kind, Result};
use crate::lower::DType;

/// The file in which `twinstream tune` stores what it measured, for any number of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    devices: BTreeMap<String, TunedDevice>,
    /// Images of a chunk by device, [`input_key`] and batch bucket.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chunks: BTreeMap<String, BTreeMap<String, BTreeMap<usize, usize>>>,
}

/// By [`input_key`], and then by layer.
type TunedDevice = BTreeMap<String, BTreeMap<String, Vec<Tuned>>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tuned {
    batch_len: usize,
    kernel: String,
    #[serde(rename = "split_len")]
    split_k: u32,
}

impl Tuning {
    /// What `twinstream tune` stored for this user at [`tuning_path`]; nothing where it did not.
    ///
    /// # Errors
    /// As [`Tuning::load`].
    pub fn stored() -> Result<Self> {
        tuning_path().map_or_else(|| Ok(Self::default()), |path| Self::load(&path))
    }

    /// Reads a file; one that is not there holds nothing.
    ///
    /// # Errors
    /// `is_io` when it cannot be read, `is_config` when it is not of this form.
    pub fn load(path: &Path) -> Result<Self> {
        let Some(text) = files::read(path)? else { return Ok(Self::default()) };
        serde_json::from_slice(&text).map_err(|error| {
            Error::new(Kind::Config, format!("{}: {error}", path.display())).with_source(error)
        })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// `is_io` when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write(path, &serde_json::to_vec_pretty(self).expect("names and numbers are JSON"))
    }

    /// Notes what was best, in place of what was noted before.
    pub(super) fn set(
        &mut self,
        (device, input): (&DeviceInfo, &str),
        layer: &str,
        batch_len: usize,
        (kernel, split_k): (&str, u32),
    ) {
        let inputs = self.devices.entry(device_key(device)).or_default();
        let layers = inputs.entry(input.to_owned()).or_default();
        let choices = layers.entry(layer.to_owned()).or_default();
        choices.retain(|tuned| tuned.batch_len != batch_len);
        choices.push(Tuned { batch_len, kernel: kernel.to_owned(), split_k });
        choices.sort_by_key(|tuned| tuned.batch_len);
    }

    /// The kernel that was noted, and its `split_k`.
    pub(super) fn find(
        &self,
        (device, input): (&DeviceInfo, &str),
        layer: &str,
        batch_len: usize,
    ) -> Option<(&str, u32)> {
        let choices = self.devices.get(&device_key(device))?.get(input)?.get(layer)?;
        let tuned = choices.iter().find(|tuned| tuned.batch_len == batch_len)?;
        Some((&tuned.kernel, tuned.split_k))
    }

    /// Notes how many images a chunk of layers 1 and 2 is best made of; none: no chunks.
    pub(super) fn set_chunk_len(
        &mut self,
        (device, input): (&DeviceInfo, &str),
        batch_len: usize,
        chunk_len: Option<usize>,
    ) {
        let inputs = self.chunks.entry(device_key(device)).or_default();
        let chunk_lens = inputs.entry(input.to_owned()).or_default();
        match chunk_len {
            Some(chunk_len) => _ = chunk_lens.insert(batch_len, chunk_len),
            None => _ = chunk_lens.remove(&batch_len),
        }
    }

    /// What was noted so.
    pub(super) fn chunk_len(
        &self,
        (device, input): (&DeviceInfo, &str),
        batch_len: usize,
    ) -> Option<usize> {
        self.chunks.get(&device_key(device))?.get(input)?.get(&batch_len).copied()
    }
}

/// The input's size, `HEIGHTxWIDTH`, with the precision behind it unless that is f16.
pub(super) fn input_key((height, width): (usize, usize), precision: DType) -> String {
    match precision {
        DType::F16 => format!("{height}x{width}"),
        other => format!("{height}x{width} {other}"),
    }
}

/// Devices of one name are alike.
pub(super) fn device_key(device: &DeviceInfo) -> String {
    let (major, minor) = device.capability;
    format!("{} sm_{major}{minor} x{}", device.name, device.multiprocessor_len)
}

/// Where the tuning of this user's devices lies unless told otherwise:
/// `$XDG_CACHE_HOME/twinstream/tuning.json`, `~/.cache` standing in for the variable.
pub fn tuning_path() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty());
    let folder = folder.map(Into::into).or_else(|| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(".cache"))
    });
    folder.map(|folder: PathBuf| folder.join("twinstream/tuning.json"))
}
