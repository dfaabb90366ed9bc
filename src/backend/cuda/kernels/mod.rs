//! The kernels as the host launches them: one file a kind of step, and the one list of families.
//!
//! Another family of convolutions is: its sources in `cuda/`, its tiles in `cuda/tiles.inc`, a file
//! here, and its name in [`FAMILIES`]. All that chooses, plans, packs, launches and measures asks
//! the trait. Knows steps, a device's numbers and addresses; no driver, memory, stream or plan.

#[rustfmt::skip]
pub(super) mod abi;
mod average_pool;
mod conv;
mod conv_wgmma;
pub(super) mod describe;
pub(super) mod family;
#[cfg(twinstream_emulated)]
mod faulty;
mod filter;
mod fully_connected;
pub(super) mod launch;
pub(super) mod packed;
pub(super) mod prove;
#[rustfmt::skip]
pub(super) mod prove_abi;
mod single;
mod stem;
mod stem_wgmma;
mod tile;
pub(super) mod top_k;

use crate::lower::Step;
use family::{Choice, Family};

use super::sys::info::DeviceInfo;

/// Every family that computes a step.
static FAMILIES: &[&dyn Family] = &[
    &stem::F16,
    &stem::I8,
    &stem_wgmma::StemWgmma,
    &conv::Conv,
    &conv_wgmma::ConvWgmma,
    &average_pool::F16,
    &average_pool::I8,
    &fully_connected::F16,
    &fully_connected::I8,
    #[cfg(twinstream_emulated)]
    &faulty::Faulty,
];

/// Every way to launch a step for batches up to a length that the device can run.
pub(super) fn choices(step: &Step, batch_len: usize, device: &DeviceInfo) -> Vec<Choice> {
    let of_families = FAMILIES.iter().flat_map(|family| family.choices(step, batch_len));
    of_families.filter(|choice| choice.kernel().runs_on(device)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lower::{DType, Step, Steps};
    use crate::model::Network;

    /// Of all types that there are kernels for.
    fn steps() -> Vec<Step> {
        let network = Network::resnet50(1000, 224, 224).unwrap();
        [DType::F16, DType::I8]
            .into_iter()
            .flat_map(|dtype| Steps::new(&network, dtype).list)
            .collect()
    }

    /// Goal: no tile is listed in vain, and each launches the kernel that the list means. Method:
    /// the names of all choices for the network against the list.
    #[test]
    fn every_tile_is_some_family_s() {
        let of_families = |step| FAMILIES.iter().flat_map(move |family| family.choices(step, 8));
        let steps = steps();
        let choices: Vec<Choice> = steps.iter().flat_map(of_families).collect();
        for row in tile::tests::rows() {
            let choice = choices.iter().find(|choice| choice.kernel().name == row[0]);
            let kernel = choice.unwrap_or_else(|| panic!("{row:?}")).kernel();
            assert_eq!((kernel.arch.to_string(), kernel.shared_bytes.to_string()), {
                (row[1].to_owned(), row[10].to_owned())
            });
        }
        let modules: BTreeSet<_> = choices.iter().map(|choice| choice.kernel().module).collect();
        let expected = [
            "average_pool",
            "average_pool_i8",
            "conv",
            "conv_pairs",
            "conv_splits",
            "conv_wgmma",
            "fully_connected",
            "fully_connected_i8",
            "stem",
            "stem_i8",
            "stem_wgmma",
        ];
        assert!(modules.into_iter().eq(expected));
    }

    /// Goal: no family is taken for another, whose weights are packed otherwise.
    #[test]
    fn each_family_has_a_module_of_its_own() {
        let modules: BTreeSet<_> = FAMILIES.iter().map(|family| family.module()).collect();
        assert_eq!(modules.len(), FAMILIES.len(), "{FAMILIES:?}");
    }

    /// Goal: a device is given no kernel that it cannot run. Method: devices one step below each
    /// kernel's architecture, and at it; one of the next generation, where code for `sm_90a` does
    /// not run; a driver that encodes no tensor maps.
    #[test]
    fn a_device_runs_what_its_architecture_has() {
        let h100 = DeviceInfo::h100();
        for step in &steps() {
            for choice in choices(step, 1, &h100) {
                let kernel = choice.kernel();
                let is_offered = |arch: u32| {
                    let capability = (arch / 10, arch % 10);
                    let device = DeviceInfo { capability, ..h100.clone() };
                    choices(step, 1, &device).contains(&choice)
                };
                assert!(is_offered(kernel.arch), "{kernel:?}");
                assert!(!is_offered(kernel.arch - 1), "{kernel:?}");
                let is_alone = ["conv_pairs", "conv_splits", "conv_wgmma", "stem_wgmma"]
                    .contains(&kernel.module);
                assert_eq!(is_offered(100), !is_alone, "{kernel:?}");
                let old = DeviceInfo { driver_version: 11080, ..h100.clone() };
                assert_eq!(choices(step, 1, &old).contains(&choice), !is_alone, "{kernel:?}");
            }
        }
    }

    /// Goal: kernels of one type of values are not given another's steps.
    #[test]
    fn no_kernel_takes_another_type_of_values() {
        let network = Network::resnet50(10, 32, 32).unwrap();
        let steps = Steps::new(&network, DType::F32);
        let device = DeviceInfo::h100();
        assert!(steps.list.iter().all(|step| choices(step, 1, &device).is_empty()));
    }
}
