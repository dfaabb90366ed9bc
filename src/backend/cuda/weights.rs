//! Filters on the device, packed for the kernels that read them.
//!
//! Invariant: each step's are there once for every family that a plan launches it with, and where
//! is decided in one place, for those who allocate and those who only plan.

use std::sync::Arc;

use super::kernels::family::Family;
use super::kernels::packed::Packed;
use super::plan::{Plan, add_family};
use super::sys::context::Context;
use super::sys::driver::Code;
use super::sys::memory::{DeviceMemory, no_room};
use crate::error::Result;
use crate::lower::Steps;
use crate::model::Model;

/// What starts at a multiple of this suits every kernel.
const ALIGN_BYTES: usize = 256;

/// A step's filter as one family reads it.
struct Entry {
    step: usize,
    family: &'static dyn Family,
    /// Where weights and bias begin, and how long they are.
    offsets_bytes: (usize, usize),
    lens_bytes: (usize, usize),
}

/// Where the filters of plans lie in one memory.
pub(super) struct Layout {
    entries: Vec<Entry>,
    pub(super) len_bytes: usize,
}

impl Layout {
    /// In the order of the steps.
    pub(super) fn new(steps: &Steps, plans: &[Plan]) -> Self {
        let (mut entries, mut len_bytes) = (Vec::new(), 0);
        let mut take = |bytes: usize| {
            let offset = len_bytes;
            len_bytes += bytes.next_multiple_of(ALIGN_BYTES);
            offset
        };
        for (index, step) in steps.list.iter().enumerate() {
            let mut families = Vec::new();
            let wanted = plans.iter().flat_map(|plan| &plan.families[index]);
            wanted.for_each(|&family| add_family(&mut families, family));
            for family in families {
                let lens_bytes = family.packed_bytes(step);
                let offsets_bytes = (take(lens_bytes.0), take(lens_bytes.1));
                entries.push(Entry { step: index, family, offsets_bytes, lens_bytes });
            }
        }
        Self { entries, len_bytes }
    }
}

/// See the module.
pub(super) struct Weights {
    memory: DeviceMemory,
    layout: Layout,
}

impl Weights {
    /// Packs and uploads the filters of all plans, one after another. The context is current.
    pub(super) fn new(
        context: &Arc<Context>,
        model: &Model,
        steps: &Steps,
        plans: &[Plan],
    ) -> Result<Self> {
        let layout = Layout::new(steps, plans);
        let len_bytes = layout.len_bytes;
        let memory = DeviceMemory::new(context, len_bytes)
            .map_err(|code| no_room(code, format_args!("{len_bytes} bytes of weights")))?;
        for entry @ Entry { step, family, lens_bytes, .. } in &layout.entries {
            if *lens_bytes == (0, 0) {
                continue;
            }
            let packed = family.pack(model, &steps.list[*step])?;
            write(&memory, entry, &packed).map_err(|code| {
                code.error(format!("uploading the weights of {}", steps.list[*step].name))
            })?;
        }
        Ok(Self { memory, layout })
    }

    /// Replaces what a family reads for a step; it is there after [`Context::synchronize`].
    pub(super) fn replace(
        &self,
        step: usize,
        family: &dyn Family,
        packed: &Packed,
    ) -> std::result::Result<(), Code> {
        write(&self.memory, self.entry(step, family), packed)
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where weights and bias of a step begin as a family reads them.
    pub(super) fn addresses(&self, step: usize, family: &dyn Family) -> (u64, u64) {
        let (weights, bias) = self.entry(step, family).offsets_bytes;
        (self.memory.range(weights, 0), self.memory.range(bias, 0))
    }

    fn entry(&self, step: usize, family: &dyn Family) -> &Entry {
        let is_asked =
            |entry: &&Entry| entry.step == step && entry.family.module() == family.module();
        self.layout.entries.iter().find(is_asked).expect("packed for every plan")
    }
}

fn write(memory: &DeviceMemory, entry: &Entry, packed: &Packed) -> std::result::Result<(), Code> {
    let bias: &[u8] = bytemuck::cast_slice(&packed.bias);
    // Else a family would overwrite another's.
    assert_eq!((packed.weights.len(), bias.len()), entry.lens_bytes, "step {}", entry.step);
    memory.write(entry.offsets_bytes.0, &packed.weights)?;
    memory.write(entry.offsets_bytes.1, bias)
}
