//! Convolutions in f16 with faults that the proof of kernels must find: for tests, in builds for
//! the emulated device alone, and there only those that the environment names.

use std::sync::LazyLock;

use super::conv::Conv;
use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch};
use super::packed::Packed;
use super::tile::Tile;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step};
use crate::model::Model;

/// Names kernels of `cuda/emulator/driver/faulty.inc`, with commas between them.
const VARIABLE: &str = "TWINSTREAM_EMULATED_KERNELS";
/// The layers that they are offered for: with an output of its own, and over its residual.
const LAYERS: [&str; 2] = ["layer1.1.conv2", "layer2.1.conv3"];
/// What all of them compute, but for their faults.
const TILE: &str = "conv_64x64";

/// The kernels that were asked for, which live as long as the process.
static KERNELS: LazyLock<Vec<Kernel>> = LazyLock::new(|| {
    let tiles = Tile::of_module("conv", 1);
    let tile = tiles.iter().find(|tile| tile.kernel.name == TILE).expect("the tile is listed");
    let names = std::env::var(VARIABLE).unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    let kernel =
        |name: &str| Kernel { module: "faulty", name: name.to_owned().leak(), ..tile.kernel };
    names.map(kernel).collect()
});

/// What a right one is launched as.
fn sound(step: &Step, batch_len: usize) -> Choice {
    static CONV: Conv = Conv;
    let mut choices = CONV.choices(step, batch_len).into_iter();
    let is_it = |it: &Choice| it.kernel().name == TILE && it.split_k == 1;
    choices.find(is_it).expect("every layer is computed so")
}

/// See the module.
#[derive(Debug)]
pub(super) struct Faulty;

impl Family for Faulty {
    fn module(&self) -> &'static str {
        "faulty"
    }

    fn kernel(&self, index: usize) -> &'static Kernel {
        &KERNELS[index]
    }

    fn needs_proof(&self) -> bool {
        true
    }

    fn choices(&'static self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let is_offered = step.dtype == DType::F16 && LAYERS.contains(&step.name.as_str());
        let kernel_len = if is_offered { KERNELS.len() } else { 0 };
        (0..kernel_len).map(|index| Choice { family: self, index, split_k: 1 }).collect()
    }

    fn grid(&self, _: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> [u32; 3] {
        let sound = sound(step, batch_len);
        sound.family.grid(sound, step, batch_len, device)
    }

    fn launch(
        &self,
        choice: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Result<Launch> {
        let sound = sound(step, batch_len);
        let launch = sound.family.launch(sound, step, batch_len, arguments)?;
        Ok(Launch { kernel: choice.kernel(), ..launch })
    }

    /// The best of all, so that what keeps them from being used is the proof.
    fn clocks(&self, _: Choice, _: &Step, _batch_len: usize, _: &DeviceInfo) -> f64 {
        0.0
    }

    fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        Conv.packed_bytes(step)
    }

    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        Conv.pack(model, step)
    }
}
