//! A family of one kernel.

use super::family::{Arguments, Choice, Family};
use super::launch::{Kernel, Launch, Params};
use super::packed::Packed;
use crate::backend::cuda::sys::info::DeviceInfo;
use crate::error::Result;
use crate::lower::{DType, Step, Work};
use crate::model::Model;

/// The clocks of a kernel that there is nothing to compare with.
pub(super) fn any_clocks(_: &Step, _batch_len: usize, _: &DeviceInfo) -> f64 {
    0.0
}

/// See the module. Its functions are those of [`Family`].
#[derive(Debug)]
pub(super) struct Single {
    pub(super) kernel: &'static Kernel,
    /// Steps of this type that do such work.
    pub(super) dtype: DType,
    pub(super) computes: fn(&Work) -> bool,
    pub(super) grid: fn(&Step, usize) -> [u32; 3],
    pub(super) params: fn(&Step, &Arguments) -> Box<dyn Params>,
    pub(super) clocks: fn(&Step, usize, &DeviceInfo) -> f64,
    pub(super) packed_bytes: fn(&Step) -> (usize, usize),
    pub(super) pack: fn(&Model, &Step) -> Result<Packed>,
}

impl Family for Single {
    fn kernel(&self, _: usize) -> &'static Kernel {
        self.kernel
    }

    fn choices(&'static self, step: &Step, _batch_len: usize) -> Vec<Choice> {
        let computes = step.dtype == self.dtype && (self.computes)(&step.work);
        computes.then_some(Choice { family: self, index: 0, split_k: 1 }).into_iter().collect()
    }

    fn grid(&self, _: Choice, step: &Step, batch_len: usize, _: &DeviceInfo) -> [u32; 3] {
        (self.grid)(step, batch_len)
    }

    fn clocks(&self, _: Choice, step: &Step, batch_len: usize, device: &DeviceInfo) -> f64 {
        (self.clocks)(step, batch_len, device)
    }

    fn launch(
        &self,
        _: Choice,
        step: &Step,
        batch_len: usize,
        arguments: &Arguments,
    ) -> Result<Launch> {
        let params = (self.params)(step, arguments);
        Ok(Launch::new(self.kernel, (self.grid)(step, batch_len), params))
    }

    fn packed_bytes(&self, step: &Step) -> (usize, usize) {
        (self.packed_bytes)(step)
    }

    fn pack(&self, model: &Model, step: &Step) -> Result<Packed> {
        (self.pack)(model, step)
    }
}
