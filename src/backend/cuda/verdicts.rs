//! What `twinstream prove` found of the kernels that need a proof, in a file beside the tuning: by
//! device and driver, by the kernels' code, by kernel, step and the longest batch of a launch.
//!
//! Invariant: a verdict counts for exactly what was tried; of anything else, and of what a file
//! does not tell for certain, there is none. Knows kernels by their names alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use super::kernels::family::Choice;
use super::sys::info::DeviceInfo;
use super::sys::modules;
use super::tuning::{device_key, tuning_path};
use crate::error::Result;
use crate::lower::{Step, Work};
use crate::model::Shape;

/// Of the file's form; a file of another is as good as none.
const VERSION: u32 = 1;

/// What a device has shown of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It computes what the safe kernel does.
    Equal,
    /// It does not, or something else went wrong: what, in words.
    Refused(String),
}

/// What there is a verdict on: a kernel that computes a step for batches up to a length, on a
/// device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    device: String,
    code: String,
    /// The family's module; its kernels are tried by one process.
    pub family: String,
    /// The kernel's name.
    pub kernel: String,
    /// Blocks that share an output's sum.
    #[serde(rename = "split_len")]
    pub split_k: u32,
    /// The step's type, shapes and filter: layers that agree in them are one step.
    pub step: String,
    /// The longest batch, or chunk of one, that is launched so.
    pub batch_len: usize,
    /// The first layer that is such a step.
    pub layer: String,
}

impl Case {
    pub(super) fn new(
        device: &DeviceInfo,
        (choice, step): (Choice, &Step),
        batch_len: usize,
    ) -> Self {
        let kernel = choice.kernel();
        Self {
            device: proof_key(device),
            code: format!("{} {}", kernel.module, modules::hash(kernel.module)),
            family: choice.family.module().to_owned(),
            kernel: kernel.name.to_owned(),
            split_k: choice.split_k,
            step: step_key(step),
            batch_len,
            layer: step.name.clone(),
        }
    }

    /// Whether both are of one device, kernel, step and length.
    pub(super) fn is(&self, other: &Self) -> bool {
        let rest = |case: &Self| (case.split_k, case.batch_len);
        (&self.device, &self.code, &self.kernel) == (&other.device, &other.code, &other.kernel)
            && self.step == other.step
            && rest(self) == rest(other)
    }
}

/// Verdicts by longest batch; by step; by kernel with its split; by module with its code.
type ByStep = BTreeMap<String, BTreeMap<usize, Verdict>>;
type ByCode = BTreeMap<String, BTreeMap<String, ByStep>>;

/// The file in which `twinstream prove` stores verdicts, for any number of devices and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    version: u32,
    devices: BTreeMap<String, ByCode>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { version: VERSION, devices: BTreeMap::new() }
    }
}

impl Verdicts {
    /// What `twinstream prove` stored for this user beside [`tuning_path`]; nothing where it did
    /// not.
    ///
    /// # Errors
    /// As [`Verdicts::load`].
    pub fn stored() -> Result<Self> {
        tuning_path().map_or_else(|| Ok(Self::default()), |path| Self::load(&verdicts_path(&path)))
    }

    /// Reads a file; one that is not there holds nothing. Nor does one that is damaged or of
    /// another version, of which the log warns: what it proved is not proven then.
    ///
    /// # Errors
    /// `is_io` when it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let Some(text) = files::read(path)? else { return Ok(Self::default()) };
        let problem = match serde_json::from_slice::<Self>(&text) {
            Ok(read) if read.version == VERSION => return Ok(read),
            Ok(read) => format!("version {} is not {VERSION}", read.version),
            Err(error) => error.to_string(),
        };
        log::warn!(
            "{}: {problem}: no kernel counts as proven; run `twinstream prove`",
            path.display()
        );
        Ok(Self::default())
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// `is_io` when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write(path, &serde_json::to_vec_pretty(self).expect("text and numbers are JSON"))
    }

    /// Notes a verdict, in place of what was noted before.
    pub fn set(&mut self, case: &Case, verdict: Verdict) {
        let code = self.devices.entry(case.device.clone()).or_default();
        let kernels = code.entry(case.code.clone()).or_default();
        let steps = kernels.entry(kernel_key(case)).or_default();
        steps.entry(case.step.clone()).or_default().insert(case.batch_len, verdict);
    }

    /// The verdict that was noted.
    pub fn get(&self, case: &Case) -> Option<&Verdict> {
        let kernels = self.devices.get(&case.device)?.get(&case.code)?;
        kernels.get(&kernel_key(case))?.get(&case.step)?.get(&case.batch_len)
    }
}

/// Where verdicts lie whose tuning is in this file: beside it, with `.verdicts.json` for its
/// suffix.
pub fn verdicts_path(tuning: &Path) -> PathBuf {
    tuning.with_extension("verdicts.json")
}

fn kernel_key(case: &Case) -> String {
    format!("{}/{}", case.kernel, case.split_k)
}

/// Devices that are alike, with the driver that they were tried under.
fn proof_key(device: &DeviceInfo) -> String {
    let mut key = format!("{} CUDA {}", device_key(device), device.driver_version);
    if let Some(build) = modules::driver_build() {
        write!(key, " driver {build}").expect("text can be written");
    }
    key
}

/// What a step's launch depends on but for its weights and its place in memory.
fn step_key(step: &Step) -> String {
    let dtype = step.dtype;
    let text = |Shape { height, width, channels }: Shape| format!("{height}x{width}x{channels}");
    let output = text(step.output_shape);
    match &step.work {
        Work::Stem { input_shape, conv_shape, .. } => {
            format!("{dtype} stem {} to {} to {output}", text(*input_shape), text(*conv_shape))
        }
        Work::Conv(conv) => {
            let (of, rows, columns) = (conv.conv, conv.rows, conv.columns);
            let mut key = format!(
                "{dtype} conv {} to {output}, {}x{} from {},{} of {} stride {} padding {}",
                text(conv.input_shape),
                rows.len,
                columns.len,
                rows.first,
                columns.first,
                of.kernel,
                of.stride,
                of.padding
            );
            if of.relu {
                key.push_str(" relu");
            }
            if conv.residual.is_some() {
                key.push_str(" residual");
            }
            if let Some(shortcut) = conv.shortcut {
                let input = text(shortcut.input_shape);
                write!(key, " shortcut {input} stride {}", shortcut.stride)
                    .expect("text can be written");
            }
            key
        }
        Work::AveragePool { input_shape, .. } => {
            format!("{dtype} average of {}", text(*input_shape))
        }
        Work::FullyConnected { channels, class_count, .. } => {
            format!("{dtype} product of {channels} for {class_count}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::kernels::choices;
    use crate::lower::{DType, Steps};
    use crate::model::Network;

    fn steps(side: usize) -> Vec<Step> {
        Steps::new(&Network::resnet50(1000, side, side).unwrap(), DType::F16).list
    }

    fn case(device: &DeviceInfo, step: &Step, batch_len: usize) -> Case {
        let choice = choices(step, batch_len, device)[0];
        Case::new(device, (choice, step), batch_len)
    }

    /// Goal: a verdict is found for what was tried, and for nothing that differs from it in one
    /// thing alone: device, multiprocessors, driver, code, kernel, split, step or length.
    #[test]
    fn verdicts_count_for_what_was_tried_alone() {
        let h100 = DeviceInfo::h100();
        let steps = steps(224);
        let [first, second] = ["layer3.1.conv2", "layer3.2.conv2"]
            .map(|name| steps.iter().find(|step| step.name == name).unwrap());
        let tried = case(&h100, first, 8);
        let mut verdicts = Verdicts::default();
        verdicts.set(&tried, Verdict::Refused("it hangs".to_owned()));
        verdicts.set(&tried, Verdict::Equal);
        assert_eq!(verdicts.get(&tried), Some(&Verdict::Equal));
        // Layers of one shape are one step.
        assert_eq!(verdicts.get(&case(&h100, second, 8)), Some(&Verdict::Equal));
        let other_step = steps.iter().find(|step| step.name == "layer3.1.conv1").unwrap();
        let of = |device: DeviceInfo| case(&device, first, 8);
        let others = [
            of(DeviceInfo { name: "NVIDIA H200".to_owned(), ..h100.clone() }),
            of(DeviceInfo { multiprocessor_len: 60, ..h100.clone() }),
            of(DeviceInfo { capability: (8, 0), ..h100.clone() }),
            of(DeviceInfo { driver_version: 12080, ..h100.clone() }),
            Case { code: "conv 00".to_owned(), ..tried.clone() },
            Case { kernel: "conv_64x32".to_owned(), ..tried.clone() },
            Case { split_k: 9, ..tried.clone() },
            case(&h100, other_step, 8),
            case(&h100, first, 16),
        ];
        for other in others {
            assert_eq!(verdicts.get(&other), None, "{other:?}");
        }
    }

    /// Goal: what is stored is read again; what is damaged, old or new proves nothing, and is no
    /// error.
    #[test]
    fn only_a_sound_file_proves() {
        let tried = case(&DeviceInfo::h100(), &steps(224)[1], 8);
        let mut verdicts = Verdicts::default();
        verdicts.set(&tried, Verdict::Refused("2 of 64 values differ".to_owned()));
        let name = format!("twinstream-verdicts-{}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        verdicts.save(&path).unwrap();
        assert_eq!(Verdicts::load(&path).unwrap(), verdicts);
        let text = std::fs::read_to_string(&path).unwrap();
        let other = text.replace("\"version\": 1", "\"version\": 2");
        assert_ne!(text, other);
        for damaged in [&other, &text[..text.len() / 2], "[]", ""] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Verdicts::load(&path).unwrap(), Verdicts::default(), "{damaged}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Verdicts::load(&path).unwrap(), Verdicts::default());
        assert!(Verdicts::load(&std::env::temp_dir()).unwrap_err().is_io());
        assert_eq!(verdicts_path(Path::new("a/b.json")), Path::new("a/b.verdicts.json"));
    }

    /// Goal: steps whose launches differ in anything are told apart. Method: of a network, those
    /// of one key agree in all but weights and places.
    #[test]
    fn steps_of_one_key_are_launched_alike() {
        let alike = |step: &Step| {
            let Work::Conv(conv) = &step.work else { return String::new() };
            let mut conv = conv.clone();
            (conv.input, conv.conv.filter) = (0, 0);
            conv.residual = conv.residual.map(|_| 0);
            conv.conv.residual = None;
            conv.shortcut.iter_mut().for_each(|it| (it.input, it.filter) = (0, 0));
            format!("{conv:?}")
        };
        let steps = [steps(224), steps(32)].concat();
        let convs = || steps.iter().filter(|step| matches!(step.work, Work::Conv(_)));
        for one in convs() {
            for other in convs() {
                let is_one = step_key(one) == step_key(other);
                assert_eq!(is_one, alike(one) == alike(other), "{} {}", one.name, other.name);
            }
        }
    }
}
