//! Which kernel and how many blocks a tile (split-K) each step gets: from measurements where there
//! are some, else from what its family says that a launch costs.
//!
//! Invariant: any choice computes the same network; only time differs. Kernels that need a proof
//! are none without it. Knows the device by a few numbers and never asks it.

use super::kernels;
use super::kernels::family::Choice;
use super::sys::info::DeviceInfo;
use super::tuning::{Tuning, input_key};
use super::verdicts::{Case, Verdict, Verdicts};
use crate::lower::{DType, Step};

/// Chooses for one device and input size.
pub(super) struct Chooser<'a> {
    device: &'a DeviceInfo,
    /// Height and width.
    size: (usize, usize),
    tuning: &'a Tuning,
    verdicts: &'a Verdicts,
}

/// A kernel that a device could run and is not given, as what it needs is not proven there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// What was to be proven.
    pub case: Case,
    /// Why it was refused; none: nobody has tried.
    pub refusal: Option<String>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(
        device: &'a DeviceInfo,
        size: (usize, usize),
        (tuning, verdicts): (&'a Tuning, &'a Verdicts),
    ) -> Self {
        Self { device, size, tuning, verdicts }
    }

    pub(super) fn device(&self) -> &DeviceInfo {
        self.device
    }

    /// What was measured to be best, as far as the kernels still allow it; else what costs least by
    /// its family's model. None where no kernel of the device computes the step.
    pub(super) fn choose(&self, step: &Step, batch_len: usize) -> Option<Choice> {
        let input = input_key(self.size, step.dtype);
        let tuned = self.tuning.find((self.device, input.as_str()), &step.name, batch_len);
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
        let tuned = self.tuning.chunk_len((self.device, input.as_str()), batch_len)?;
        (1..batch_len).contains(&tuned).then_some(tuned)
    }

    /// Every choice for a step, what the model finds best first.
    pub(super) fn ranked(&self, step: &Step, batch_len: usize) -> Vec<Choice> {
        let mut choices = self.ranked_unproven(step, batch_len);
        choices.retain(|&choice| self.may_use(choice, step, batch_len));
        choices
    }

    /// The same with those that may not be used, as they are not proven.
    pub(super) fn ranked_unproven(&self, step: &Step, batch_len: usize) -> Vec<Choice> {
        let mut choices = kernels::choices(step, batch_len, self.device);
        choices.sort_by(|&one, &other| {
            let clocks = |choice| self.clocks(choice, step, batch_len);
            clocks(one).total_cmp(&clocks(other))
        });
        choices
    }

    /// Whether a kernel may be launched for a step and batches up to a length.
    pub(super) fn may_use(&self, choice: Choice, step: &Step, batch_len: usize) -> bool {
        !choice.family.needs_proof()
            || self.verdict(choice, step, batch_len).1 == Some(&Verdict::Equal)
    }

    /// The kernels for a step that the device could run, but for a proof.
    pub(super) fn unproven(&self, step: &Step, batch_len: usize) -> Vec<Unproven> {
        let of_device = kernels::choices(step, batch_len, self.device).into_iter();
        let in_need = of_device.filter(|choice| choice.family.needs_proof());
        let verdicts = in_need.map(|choice| self.verdict(choice, step, batch_len));
        let unproven = verdicts.filter_map(|(case, verdict)| match verdict {
            Some(Verdict::Equal) => None,
            Some(Verdict::Refused(why)) => Some(Unproven { case, refusal: Some(why.clone()) }),
            None => Some(Unproven { case, refusal: None }),
        });
        unproven.collect()
    }

    /// Those that are worth a word: kernels that were refused, and all for a step where nobody has
    /// tried any.
    pub(super) fn notable(&self, step: &Step, batch_len: usize) -> Vec<Unproven> {
        let of_device = kernels::choices(step, batch_len, self.device).into_iter();
        let in_need_len = of_device.filter(|choice| choice.family.needs_proof()).count();
        let mut unproven = self.unproven(step, batch_len);
        let is_refused = |it: &Unproven| it.refusal.is_some();
        if unproven.len() < in_need_len || unproven.iter().any(is_refused) {
            unproven.retain(is_refused);
        }
        unproven
    }

    fn verdict(&self, choice: Choice, step: &Step, batch_len: usize) -> (Case, Option<&Verdict>) {
        let case = Case::new(self.device, (choice, step), batch_len);
        let verdict = self.verdicts.get(&case);
        (case, verdict)
    }

    /// What the device runs, as far as it is known to compute what it should there.
    fn choices(&self, step: &Step, batch_len: usize) -> Vec<Choice> {
        let choices = kernels::choices(step, batch_len, self.device).into_iter();
        choices.filter(|&choice| self.may_use(choice, step, batch_len)).collect()
    }

    fn clocks(&self, choice: Choice, step: &Step, batch_len: usize) -> f64 {
        choice.family.clocks(choice, step, batch_len, self.device)
    }
}

/// Says in the log which kernels the device goes without, and why: a line for each that was
/// refused, and one for all that nobody tried.
pub(super) fn log_unproven(device: &DeviceInfo, unproven: &[Unproven]) {
    let mut told: Vec<&str> = Vec::new();
    for Unproven { case, refusal } in unproven {
        let Some(refusal) = refusal else { continue };
        if told.contains(&case.kernel.as_str()) {
            continue;
        }
        told.push(&case.kernel);
        let is_same = |it: &&Unproven| it.refusal.is_some() && it.case.kernel == case.kernel;
        let more = match unproven.iter().filter(is_same).count() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        log::warn!(
            "kernel {} refused at {}, up to {} images: {refusal}{more}",
            case.kernel,
            case.layer,
            case.batch_len
        );
    }
    let untried = || unproven.iter().filter(|it| it.refusal.is_none());
    let mut kernels: Vec<&str> = untried().map(|it| it.case.kernel.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    if !kernels.is_empty() {
        log::warn!(
            "not proven on {}, and so not used in {} places: {}: run `twinstream prove`",
            device.name,
            untried().count(),
            kernels.join(", ")
        );
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
        let model = Chooser::new(&device, (32, 32), (&Tuning::default(), &Verdicts::default()))
            .choose(step, 8)
            .unwrap();
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
            Chooser::new(device, size, (&loaded, &Verdicts::default()))
                .choose(step, batch_len)
                .unwrap()
        };
        assert_eq!(choose(&device, (32, 32), 8), other);
        assert_eq!(choose(&device, (64, 64), 8), model);
        assert_ne!(noted(choose(&device, (32, 32), 16)), impossible);
        let smaller = DeviceInfo { multiprocessor_len: 131, ..device.clone() };
        assert!(choices(step, 8, &smaller).contains(&choose(&smaller, (32, 32), 8)));
    }

    /// Goal: what needs a proof is not chosen without, nor where it was refused, even where it was
    /// measured to be best; where it is proven, it stands beside the others. Who asks what is not
    /// used learns why.
    #[cfg(twinstream_emulated)]
    #[test]
    fn kernels_without_proof_are_none() {
        let device = DeviceInfo::h100();
        let steps = Steps::new(&Network::resnet50(1000, 224, 224).unwrap(), DType::F16);
        let step = steps.list.iter().find(|step| step.name == "layer3.1.conv2").unwrap();
        let mut tuning = Tuning::default();
        let best = ("conv_wgmma_128x192", 1);
        tuning.set((&device, "224x224"), &step.name, 128, best);
        let mut verdicts = Verdicts::default();
        let found = |verdicts: &Verdicts| {
            let chooser = Chooser::new(&device, (224, 224), (&tuning, verdicts));
            let chosen = chooser.choose(step, 128).unwrap();
            let ranked = chooser.ranked(step, 128);
            assert!(ranked.contains(&chosen));
            let of = |module: &str| ranked.iter().filter(|it| it.family.module() == module).count();
            assert!(of("conv") > 0);
            (chosen.kernel().name, of("conv_wgmma"), chooser.unproven(step, 128))
        };
        let (chosen, proven_len, unproven) = found(&verdicts);
        let all_len = unproven.len();
        assert_eq!((chosen, proven_len), ("conv_128x128", 0));
        assert!(unproven.iter().all(|it| it.refusal.is_none()));
        let case = unproven.into_iter().map(|it| it.case).find(|case| case.kernel == best.0);
        let case = case.unwrap();
        verdicts.set(&case, Verdict::Refused("it hangs".to_owned()));
        let (chosen, proven_len, unproven) = found(&verdicts);
        assert_eq!((chosen, proven_len, unproven.len()), ("conv_128x128", 0, all_len));
        let refused = unproven.iter().find(|it| it.case == case).unwrap();
        assert_eq!(refused.refusal.as_deref(), Some("it hangs"));
        verdicts.set(&case, Verdict::Equal);
        let (chosen, proven_len, unproven) = found(&verdicts);
        assert_eq!((chosen, proven_len, unproven.len()), (best.0, 1, all_len - 1));
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
            let known = (&Tuning::default(), &Verdicts::default());
            let chooser = Chooser::new(device, (224, 224), known);
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
