//! Which tile and how many slices of K each convolution gets: from measurements where there are
//! some, else from a model of what a launch costs.
//!
//! Invariant: any choice computes the same network; only time differs. Knows the device by a few
//! numbers and never asks it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::context::DeviceInfo;
use super::plan::STEP_LEN;
use super::tile::{TILES, Tile};
use crate::error::{Error, Kind, Result};
use crate::lower::ConvStep;

/// Slices of K that are tried.
const SPLITS: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// Partial sums of one launch at most: beyond the level-2 cache they cost more than they gain.
const PARTIALS_BYTES_MAX: usize = 32 << 20;

// What the model takes a multiprocessor to do at a clock; measurements (`twinstream tune`) replace
// its choices, so only their order matters.
/// Multiply-accumulates of f16 by the tensor cores.
const MACS_PER_CLOCK: f64 = 1024.0;
/// Bytes that reach shared memory from the level-2 cache.
const LOAD_BYTES_PER_CLOCK: f64 = 40.0;
/// What a block waits for before its first product: the launch, and the first loads.
const BLOCK_CLOCKS: f64 = 1500.0;
/// A step of K beyond its products and loads: a barrier.
const STEP_CLOCKS: f64 = 60.0;
/// What the last block of a tile adds: it waits for the others' sums in the level-2 cache.
const SPLIT_CLOCKS: f64 = 1200.0;
/// Shared memory that the driver keeps of each block's.
const SHARED_BYTES_OF_BLOCK: u32 = 1024;

/// How one convolution is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Index into [`TILES`].
    pub(super) tile: usize,
    /// Slices of K.
    pub(super) split_len: u32,
}

impl Choice {
    pub(super) fn tile(self) -> &'static Tile {
        &TILES[self.tile]
    }

    pub(super) fn grid(self, conv: &ConvStep, batch_len: usize) -> [u32; 3] {
        let tile = self.tile();
        let pixel_len = batch_len * conv.output_shape.pixel_len();
        let across = conv.output_shape.channels / tile.n;
        [pixel_len.div_ceil(tile.m) as u32, across as u32, self.split_len]
    }

    /// Every choice that the kernels allow for a convolution.
    pub(super) fn all(conv: &ConvStep, batch_len: usize) -> impl Iterator<Item = Self> {
        let step_len = conv.sum_len() / STEP_LEN;
        let channels = conv.output_shape.channels;
        let choices = (0..TILES.len())
            .flat_map(|tile| SPLITS.map(|split_len| Self { tile, split_len }))
            .filter(move |choice| {
                channels.is_multiple_of(choice.tile().n) && choice.split_len as usize <= step_len
            });
        let choices: Vec<_> = choices
            .filter(|choice| {
                let tile = choice.tile();
                let partials: u32 = choice.grid(conv, batch_len).iter().product();
                let partials_bytes = partials as usize * tile.m * tile.n * size_of::<f32>();
                choice.split_len == 1 || partials_bytes <= PARTIALS_BYTES_MAX
            })
            .collect();
        choices.into_iter()
    }
}

/// The file in which `twinstream tune` stores what it measured, for any number of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    devices: BTreeMap<String, TunedDevice>,
}

/// By the input's size, `HEIGHTxWIDTH`, and then by layer.
type TunedDevice = BTreeMap<String, BTreeMap<String, Vec<Tuned>>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tuned {
    batch_len: usize,
    kernel: String,
    split_len: u32,
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
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                let message = format!("{}: cannot read: {error}", path.display());
                return Err(Error::new(Kind::Io, message).with_source(error));
            }
        };
        serde_json::from_slice(&text).map_err(|error| {
            Error::new(Kind::Config, format!("{}: {error}", path.display())).with_source(error)
        })
    }

    /// Writes the file, whole or not at all: beside its place first, as `path` with `.new`.
    ///
    /// # Errors
    /// `is_io` when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("names and numbers are JSON");
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
        written.map_err(|error| {
            Error::new(Kind::Io, format!("{}: cannot write: {error}", path.display()))
                .with_source(error)
        })
    }

    /// Notes what was best, in place of what was noted before.
    pub(super) fn set(
        &mut self,
        (device, size): (&DeviceInfo, &str),
        layer: &str,
        batch_len: usize,
        choice: Choice,
    ) {
        let sizes = self.devices.entry(device_key(device)).or_default();
        let layers = sizes.entry(size.to_owned()).or_default();
        let choices = layers.entry(layer.to_owned()).or_default();
        choices.retain(|tuned| tuned.batch_len != batch_len);
        let kernel = choice.tile().name.to_owned();
        choices.push(Tuned { batch_len, kernel, split_len: choice.split_len });
        choices.sort_by_key(|tuned| tuned.batch_len);
    }

    fn find(
        &self,
        (device, size): (&DeviceInfo, &str),
        layer: &str,
        batch_len: usize,
    ) -> Option<Choice> {
        let choices = self.devices.get(&device_key(device))?.get(size)?.get(layer)?;
        let tuned = choices.iter().find(|tuned| tuned.batch_len == batch_len)?;
        let tile = TILES.iter().position(|tile| tile.name == tuned.kernel)?;
        Some(Choice { tile, split_len: tuned.split_len })
    }
}

/// Devices of one name are alike.
fn device_key(device: &DeviceInfo) -> String {
    let (major, minor) = device.capability;
    format!("{} sm_{major}{minor} x{}", device.name, device.multiprocessor_len)
}

/// Chooses for one device and input size.
pub(super) struct Chooser<'a> {
    device: &'a DeviceInfo,
    size: String,
    tuning: Option<&'a Tuning>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(
        device: &'a DeviceInfo,
        (height, width): (usize, usize),
        tuning: Option<&'a Tuning>,
    ) -> Self {
        Self { device, size: format!("{height}x{width}"), tuning }
    }

    /// What was measured to be best, as far as the kernels still allow it; else what costs least by
    /// the model.
    pub(super) fn choose(&self, layer: &str, conv: &ConvStep, batch_len: usize) -> Choice {
        let of_device = (self.device, self.size.as_str());
        let tuned = self.tuning.and_then(|tuning| tuning.find(of_device, layer, batch_len));
        let allowed = |choice: &Choice| Choice::all(conv, batch_len).any(|other| other == *choice);
        tuned.filter(allowed).unwrap_or_else(|| {
            Choice::all(conv, batch_len)
                .min_by(|one, other| {
                    let clocks = |choice: &Choice| self.clocks(*choice, conv, batch_len);
                    clocks(one).total_cmp(&clocks(other))
                })
                .expect("the smallest tile is always allowed")
        })
    }

    /// Estimated clocks of a launch: its blocks in waves, each as long as its products or its loads
    /// take, whichever is more.
    pub(super) fn clocks(&self, choice: Choice, conv: &ConvStep, batch_len: usize) -> f64 {
        let tile = choice.tile();
        let block_len: u32 = choice.grid(conv, batch_len).iter().product();
        let per_processor = self.device.shared_bytes / (tile.shared_bytes + SHARED_BYTES_OF_BLOCK);
        let per_processor = per_processor.clamp(1, tile.blocks_max);
        let steps = (conv.sum_len() / STEP_LEN).div_ceil(choice.split_len as usize) as f64;
        let macs = (tile.m * tile.n * STEP_LEN) as f64;
        let load_bytes = ((tile.m + tile.n) * STEP_LEN * 2) as f64;
        // Blocks that share a multiprocessor share its rates, and hide each other's waits.
        let processor_len = f64::from(self.device.multiprocessor_len);
        let rounds = (f64::from(block_len) / processor_len).ceil();
        let waves = (rounds / f64::from(per_processor)).ceil();
        let busy = rounds * steps * (macs / MACS_PER_CLOCK).max(load_bytes / LOAD_BYTES_PER_CLOCK);
        let waiting = waves * (BLOCK_CLOCKS + steps * STEP_CLOCKS);
        let joining = if choice.split_len > 1 {
            let partial_bytes = f64::from(block_len) * (tile.m * tile.n * 8) as f64;
            SPLIT_CLOCKS + partial_bytes / (LOAD_BYTES_PER_CLOCK * processor_len)
        } else {
            0.0
        };
        busy + waiting + joining
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::{Steps, Work};
    use crate::model::Network;

    /// Goal: what was measured is used, on the device and at the size where it was, and only if the
    /// kernels allow it; all else is the model's choice.
    #[test]
    fn measured_choices_are_kept_and_used() {
        let device = DeviceInfo::h100();
        let steps = Steps::new(&Network::resnet50(10, 32, 32).unwrap());
        let layer = "layer2.1.conv2";
        let step = steps.list.iter().find(|step| step.name == layer).unwrap();
        let Work::Conv(conv) = &step.work else { unreachable!("a convolution by its name") };
        let model = Chooser::new(&device, (32, 32), None).choose(layer, conv, 8);
        let other = Choice::all(conv, 8).find(|choice| *choice != model).unwrap();

        let mut tuning = Tuning::default();
        tuning.set((&device, "32x32"), layer, 8, model);
        tuning.set((&device, "32x32"), layer, 8, other);
        let impossible = Choice { tile: 0, split_len: 99 };
        tuning.set((&device, "32x32"), layer, 16, impossible);
        let name = format!("twinstream-tuning-{}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        tuning.save(&path).unwrap();
        let loaded = Tuning::load(&path).unwrap();
        std::fs::write(&path, b"{\"devices\": 1}").unwrap();
        assert!(Tuning::load(&path).unwrap_err().is_config());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Tuning::load(&path).unwrap(), Tuning::default());
        assert_eq!(loaded, tuning);

        let choose = |device: &DeviceInfo, size, batch_len| {
            Chooser::new(device, size, Some(&loaded)).choose(layer, conv, batch_len)
        };
        assert_eq!(choose(&device, (32, 32), 8), other);
        assert_eq!(choose(&device, (64, 64), 8), model);
        assert_ne!(choose(&device, (32, 32), 16), impossible);
        let smaller = DeviceInfo { multiprocessor_len: 131, ..device.clone() };
        assert!(Choice::all(conv, 8).any(|choice| choice == choose(&smaller, (32, 32), 8)));
    }

    /// Goal: the tile of two stages is for devices whose shared memory holds one block of three
    /// stages, and two of two; where registers are the limit, it gains nothing and is not taken.
    #[test]
    fn fewer_stages_are_for_small_shared_memory() {
        let h100 = DeviceInfo::h100();
        let (multiprocessor_len, shared_bytes) = (108, 164 << 10);
        let a100 =
            DeviceInfo { capability: (8, 0), multiprocessor_len, shared_bytes, ..h100.clone() };
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap());
        let tiles_on = |device: &DeviceInfo| {
            let chooser = Chooser::new(device, (224, 224), None);
            let convs = steps.list.iter().filter_map(|step| match &step.work {
                Work::Conv(conv) => Some(chooser.choose(&step.name, conv, 128).tile().name),
                _ => None,
            });
            convs.collect::<Vec<_>>()
        };
        let (on_a100, on_h100) = (tiles_on(&a100), tiles_on(&h100));
        assert!(on_a100.contains(&"conv_128x128_2_stages"), "{on_a100:?}");
        assert!(!on_a100.contains(&"conv_128x128"), "{on_a100:?}");
        assert!(!on_h100.contains(&"conv_128x128_2_stages"), "{on_h100:?}");
        assert!(on_h100.contains(&"conv_128x128"), "{on_h100:?}");
    }
}
