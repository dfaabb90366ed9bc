//! Which kernel and how many blocks a tile (split-K) each step gets: from measurements where there
//! are some, else from what its family says that a launch costs.
//!
//! Invariant: any choice computes the same network; only time differs. Kernels that need a proof
//! are none without it. Knows the device by a few numbers and never asks it.

use super::kernels;
use super::kernels::family::Choice;
use super::sys::info::DeviceInfo;
use super::tuning::{Tuning, input_key};
use crate::lower::{DType, Step};

/// Chooses for one device and input size.
pub(super) struct Chooser<'a> {
    device: &'a DeviceInfo,
    /// Height and width.
    size: (usize, usize),
    tuning: Option<&'a Tuning>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(
        device: &'a DeviceInfo,
        size: (usize, usize),
        tuning: Option<&'a Tuning>,
    ) -> Self {
        Self { device, size, tuning }
    }

    pub(super) fn device(&self) -> &DeviceInfo {
        self.device
    }

    /// What was measured to be best, as far as the kernels still allow it; else what costs least by
    /// its family's model. None where no kernel of the device computes the step.
    pub(super) fn choose(&self, step: &Step, batch_len: usize) -> Option<Choice> {
        let input = input_key(self.size, step.dtype);
        let of_device = (self.device, input.as_str());
        let tuned = self.tuning.and_then(|tuning| tuning.find(of_device, &step.name, batch_len));
        let choices = self.choices(step, batch_len);
        let is_tuned = |choice: &Choice| tuned == Some((choice.kernel().name, choice.split_k));
        choices.iter().copied().find(is_tuned).or_else(|| {
            choices.into_iter().min_by(|one, other| {
                let clocks = |choice: &Choice| self.clocks(*choice, step, batch_len);
                clocks(one).total_cmp(&clocks(other))
            })
        })
    }

    /// Images of a chunk of layers 1 and 2, where some length was measured to be best.
    pub(super) fn chunk_len(&self, precision: DType, batch_len: usize) -> Option<usize> {
        let input = input_key(self.size, precision);
        let tuned = self.tuning?.chunk_len((self.device, input.as_str()), batch_len)?;
        (1..batch_len).contains(&tuned).then_some(tuned)
    }

    /// Every choice for a step, what the model finds best first.
    pub(super) fn ranked(&self, step: &Step, batch_len: usize) -> Vec<Choice> {
        let mut choices = self.choices(step, batch_len);
        choices.sort_by(|&one, &other| {
            let clocks = |choice| self.clocks(choice, step, batch_len);
            clocks(one).total_cmp(&clocks(other))
        });
        choices
    }

    /// What the device runs, as far as it is known to compute what it should there.
    fn choices(&self, step: &Step, batch_len: usize) -> Vec<Choice> {
        let is_trusted = |choice: &Choice| {
            !choice.family.needs_proof() || self.tuning.is_some_and(Tuning::trusts_unproven)
        };
        let choices = kernels::choices(step, batch_len, self.device).into_iter();
        choices.filter(is_trusted).collect()
    }

    fn clocks(&self, choice: Choice, step: &Step, batch_len: usize) -> f64 {
        choice.family.clocks(choice, step, batch_len, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::kernels::choices;
    use super::*;
    use crate::lower::{Steps, Work};
    use crate::model::Network;

    /// Goal: what was measured is used, on the device and at the size where it was, and only if the
    /// kernels allow it; all else is the model's choice.
    #[test]
    fn measured_choices_are_kept_and_used() {
        let device = DeviceInfo::h100();
        let steps = Steps::new(&Network::resnet50(10, 32, 32).unwrap(), DType::F16);
        let layer = "layer2.1.conv2";
        let step = steps.list.iter().find(|step| step.name == layer).unwrap();
        let model = Chooser::new(&device, (32, 32), None).choose(step, 8).unwrap();
        let other = choices(step, 8, &device).into_iter().find(|choice| *choice != model).unwrap();
        let noted = |choice: Choice| (choice.kernel().name, choice.split_k);

        let mut tuning = Tuning::default();
        tuning.set((&device, "32x32"), layer, 8, noted(model));
        tuning.set((&device, "32x32"), layer, 8, noted(other));
        let impossible = ("conv_128x128", 99);
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
            Chooser::new(device, size, Some(&loaded)).choose(step, batch_len).unwrap()
        };
        assert_eq!(choose(&device, (32, 32), 8), other);
        assert_eq!(choose(&device, (64, 64), 8), model);
        assert_ne!(noted(choose(&device, (32, 32), 16)), impossible);
        let smaller = DeviceInfo { multiprocessor_len: 131, ..device.clone() };
        assert!(choices(step, 8, &smaller).contains(&choose(&smaller, (32, 32), 8)));
    }

    /// Goal: what needs a proof is not chosen without, even where it was measured to be best; where
    /// it is trusted, it stands beside the others.
    #[cfg(twinstream_emulated)]
    #[test]
    fn kernels_without_proof_are_none() {
        let device = DeviceInfo::h100();
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap(), DType::F16);
        let step = steps.list.iter().find(|step| step.name == "layer3.1.conv2").unwrap();
        let mut tuning = Tuning::default();
        let best = ("conv_wgmma_128x192", 1);
        tuning.set((&device, "224x224"), &step.name, 128, best);
        let families = |tuning: &Tuning| {
            let chooser = Chooser::new(&device, (224, 224), Some(tuning));
            let chosen = chooser.choose(step, 128).unwrap();
            let ranked = chooser.ranked(step, 128);
            assert!(ranked.contains(&chosen));
            let of = |module: &str| ranked.iter().any(|it| it.family.module() == module);
            (chosen.kernel().name, of("conv"), of("conv_wgmma"))
        };
        assert_eq!(families(&tuning), ("conv_128x128", true, false));
        assert_eq!(families(&tuning.trusting_unproven()), (best.0, true, true));
    }

    /// Goal: the tile of two stages is for devices whose shared memory holds one block of three
    /// stages, and two of two; where registers are the limit, it gains nothing and is not taken.
    #[test]
    fn fewer_stages_are_for_small_shared_memory() {
        let h100 = DeviceInfo::h100();
        let (multiprocessor_len, shared_bytes) = (108, 164 << 10);
        let a100 =
            DeviceInfo { capability: (8, 0), multiprocessor_len, shared_bytes, ..h100.clone() };
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap(), DType::F16);
        let tiles_on = |device: &DeviceInfo| {
            let chooser = Chooser::new(device, (224, 224), None);
            let convs = steps.list.iter().filter(|step| matches!(step.work, Work::Conv(_)));
            convs.map(|step| chooser.choose(step, 128).unwrap().kernel().name).collect::<Vec<_>>()
        };
        let (on_a100, on_h100) = (tiles_on(&a100), tiles_on(&h100));
        assert!(on_a100.contains(&"conv_128x128_2_stages"), "{on_a100:?}");
        assert!(!on_a100.contains(&"conv_128x128"), "{on_a100:?}");
        assert!(!on_h100.contains(&"conv_128x128_2_stages"), "{on_h100:?}");
        assert!(on_h100.contains(&"conv_128x128"), "{on_h100:?}");
    }
}
