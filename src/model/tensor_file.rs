//! A safetensors file: memory-mapped, checked, read one tensor at a time as f32.
//!
//! The header is the `safetensors` crate's to validate (sizes, overlaps, bounds). Knows nothing of
//! which tensors a network needs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use super::architecture;
use crate::error::{Error, Kind, Result};
use crate::foreign::{self, Foreign, Remedy};

/// Where the bytes are.
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// An open file of named tensors.
pub(super) struct TensorFile {
    path: PathBuf,
    bytes: Bytes,
    entries: BTreeMap<String, Entry>,
}

impl TensorFile {
    /// Maps the file at `path` and reads its header. The file must not be changed while it is open.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Io, format!("{}: cannot read: {error}", path.display()))
                .with_source(error)
        };
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            let message = format!(
                "{}: not a file: name the safetensors file, such as {}",
                path.display(),
                path.join("model.safetensors").display()
            );
            return Err(Error::new(Kind::Io, message));
        }
        // SAFETY: the mapping is read-only and private; as the documentation of `Model::load`
        // demands, nobody truncates or rewrites the file while the model lives.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Self::parse(path.to_path_buf(), Bytes::Mapped(map))
    }

    /// Reads a file's content that is already in memory; `path` names it in messages.
    pub(super) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::parse(path.to_path_buf(), Bytes::Owned(bytes))
    }

    fn parse(path: PathBuf, bytes: Bytes) -> Result<Self> {
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| {
            let reason = refusal(&path, &bytes, &error);
            Error::new(Kind::Weights, reason).in_file(&path).with_source(error)
        })?;
        let base = bytes.as_ptr() as usize;
        let entries = tensors
            .iter()
            .map(|(name, view)| {
                let start = view.data().as_ptr() as usize - base;
                let entry = Entry {
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    start,
                    end: start + view.data().len(),
                };
                (name.to_owned(), entry)
            })
            .collect();
        let entries = strip_prefix(entries, &path);
        Ok(Self { path, bytes, entries })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of tensor `name`.
    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.entry(name)?.shape)
    }

    /// Tensor `name`, which must have `shape` and integers of 8 bits.
    pub(super) fn read_i8(&self, name: &str, shape: &[usize]) -> Result<Vec<i8>> {
        let entry = self.entry_of_shape(name, shape)?;
        if entry.dtype != Dtype::I8 {
            let problem = format!("tensor {name}: expected type I8, found {:?}", entry.dtype);
            return Err(self.error(problem));
        }
        let values = bytemuck::cast_slice(&self.bytes[entry.start..entry.end]).to_vec();
        self.release(entry);
        Ok(values)
    }

    /// Tensor `name`, which must have `shape`, as f32; every value is finite.
    pub(super) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.entry_of_shape(name, shape)?;
        let values = decode(entry.dtype, &self.bytes[entry.start..entry.end]).ok_or_else(|| {
            self.error(format!(
                "tensor {name}: expected type F32, F16, BF16, I8 or F8_E4M3, found {:?}",
                entry.dtype
            ))
        })?;
        self.release(entry);
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(self.error(format!(
                "tensor {name}: expected finite values, found {} at flat index {index}",
                values[index]
            ))),
        }
    }

    /// Lets the system drop the tensor's pages from memory: they were converted and are not needed
    /// again soon; another read would fault them in from the file.
    fn release(&self, entry: &Entry) {
        if let Bytes::Mapped(map) = &self.bytes {
            // SAFETY: the mapping is read-only and file-backed, so dropped pages come back with the
            // same content.
            let outcome = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    entry.start,
                    entry.end - entry.start,
                )
            };
            if let Err(error) = outcome {
                log::debug!("{}: pages stay in memory: {error}", self.path.display());
            }
        }
    }

    /// The header's entry `key`, beside the tensors.
    pub(super) fn header_entry(&self, key: &str) -> Option<String> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).ok()?;
        header.metadata().as_ref()?.get(key).cloned()
    }

    /// Whether the tensors are those of which the entry `key` of the header holds the checksum.
    pub(super) fn check_sum(&self, key: &str) -> Result<()> {
        let expected = self.header_entry(key);
        let tensors = self.entries.iter().map(|(name, entry)| {
            (name.as_str(), entry.shape.as_slice(), &self.bytes[entry.start..entry.end])
        });
        if expected.as_ref() == Some(&checksum(tensors)) {
            return Ok(());
        }
        Err(self.error(match expected {
            Some(_) => {
                "its tensors are not those that were written: copy it again, or write it anew \
                        with `twinstream calibrate`"
                    .to_owned()
            }
            None => format!("no entry {key} in its header: write it with `twinstream calibrate`"),
        }))
    }

    fn entry_of_shape(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let entry = self.entry(name)?;
        match entry.shape == shape {
            true => Ok(entry),
            false => Err(self.error(format!(
                "tensor {name}: expected shape {shape:?}, found {:?}",
                entry.shape
            ))),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            self.error(format!(
                "tensor {name} is missing: expected ResNet-50 with torchvision's or timm's names, \
                 found {} tensors{}",
                self.entries.len(),
                self.entries
                    .keys()
                    .next()
                    .map_or(String::new(), |first| format!(", the first is {first}")),
            ))
        })
    }

    pub(super) fn error(&self, problem: String) -> Error {
        Error::new(Kind::Weights, problem).in_file(&self.path)
    }
}

/// SHA-256 of tensors (name, shape, bytes) in the order of their names, in hexadecimal digits.
pub(crate) fn checksum<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut hash = Sha256::new();
    for (name, shape, bytes) in tensors {
        hash.update(format!("{name} {shape:?} {}\n", bytes.len()));
        hash.update(bytes);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tensors without what a wrapper (DataParallel, Lightning, `torch.compile`, a module around
/// the network) put before the names of all.
fn strip_prefix(entries: BTreeMap<String, Entry>, path: &Path) -> BTreeMap<String, Entry> {
    let prefix = architecture::prefix(entries.keys().map(String::as_str)).map(str::to_owned);
    let Some(prefix) = prefix.filter(|prefix| entries.keys().all(|name| name.starts_with(prefix)))
    else {
        return entries;
    };
    log::info!("{}: every tensor's name has the prefix {prefix}: left out", path.display());
    let strip = |(name, entry): (String, Entry)| (name[prefix.len()..].to_owned(), entry);
    entries.into_iter().map(strip).collect()
}

/// Why `bytes` are no safetensors file, and what to do about it.
fn refusal(path: &Path, bytes: &[u8], error: &SafeTensorError) -> String {
    const INVALID: &str = "not a valid safetensors file";
    const DATA_FETCH: &str = "copy or download it again";
    /// Of the header's length, before the header.
    const LENGTH_LEN: usize = size_of::<u64>();

    // With a header's length and brace, a file is what it should be, just not whole.
    let header = bytes.split_first_chunk().filter(|(_, rest)| rest.first() == Some(&b'{'));
    if let Some((&header_len, rest)) = header {
        let header_len = u64::from_le_bytes(header_len);
        match error {
            SafeTensorError::InvalidHeaderLength => {
                let missing_len = header_len.saturating_sub(rest.len() as u64);
                return format!(
                    "{INVALID}: cut within its header of {header_len} bytes, of which \
                     {missing_len} are missing, and all tensors: {DATA_FETCH}"
                );
            }
            SafeTensorError::MetadataIncompleteBuffer => {
                let header_len = header_len as usize;
                if let Ok(metadata) = serde_json::from_slice::<Metadata>(&rest[..header_len]) {
                    let expected_len = LENGTH_LEN + header_len + metadata.data_len();
                    return match expected_len.checked_sub(bytes.len()) {
                        Some(missing_len) => format!(
                            "{INVALID}: cut, {missing_len} of its {expected_len} bytes are \
                             missing: {DATA_FETCH}"
                        ),
                        None => format!(
                            "{INVALID}: {} bytes stand behind its tensors: {DATA_FETCH}",
                            bytes.len() - expected_len
                        ),
                    };
                }
            }
            _ => {}
        }
        return format!("{INVALID}: {error}");
    }
    let Some(Foreign { name, remedy }) = foreign::tell(bytes) else {
        return format!("{INVALID}: {error}");
    };
    let advice = match remedy {
        Remedy::ExportTorch(load) => {
            let load = load.replace("FILE", &path.display().to_string());
            format!(
                "export it with\n    import torch, safetensors.torch; state = {load}\n    \
                 safetensors.torch.save_file(state.get(\"state_dict\", state), \
                 \"model.safetensors\")"
            )
        }
        Remedy::ExportAnew => "export the network from PyTorch with\n    \
             import torchvision, safetensors.torch\n    \
             safetensors.torch.save_file(torchvision.models.resnet50(weights=\"DEFAULT\")\
             .state_dict(), \"model.safetensors\")\n\
             or from your own model (docs/WEIGHTS.md)"
            .to_owned(),
        Remedy::Fetch(remedy) | Remedy::Open(remedy) => remedy.to_owned(),
        Remedy::Convert(_) | Remedy::NameAnother => "name the weights' file".to_owned(),
    };
    format!("this is {name}, not safetensors: {advice}")
}

/// Little-endian values of `dtype` as f32, or `None` where the type is not one of ours.
fn decode(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Some(match dtype {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect(),
        Dtype::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        Dtype::I8 => bytes.iter().map(|&byte| f32::from(byte as i8)).collect(),
        Dtype::F8_E4M3 => bytes.iter().map(|&byte| f8_e4m3_to_f32(byte)).collect(),
        _ => return None,
    })
}

/// The 8-bit float of the OCP FP8 specification without infinities: sign, 4 exponent bits with bias
/// 7, 3 mantissa bits; all ones is NaN.
fn f8_e4m3_to_f32(byte: u8) -> f32 {
    let exponent = i32::from(byte >> 3 & 0xf);
    let mantissa = f32::from(byte & 7) / 8.0;
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-6),
        _ => (1.0 + mantissa) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_landmarks_of_the_specification() {
        for (byte, value) in [
            (0x00, 0.0),
            (0x01, 0.001_953_125),
            (0x07, 0.013_671_875),
            (0x08, 0.015_625),
            (0x38, 1.0),
            (0x7e, 448.0),
            (0xfe, -448.0),
            (0xb8, -1.0),
        ] {
            assert_eq!(f8_e4m3_to_f32(byte), value, "{byte:#x}");
        }
        assert!(f8_e4m3_to_f32(0x7f).is_nan() && f8_e4m3_to_f32(0xff).is_nan());
    }

    #[test]
    fn every_type_keeps_its_value() {
        let value = -1.5f32;
        let cases: [(Dtype, Vec<u8>); 4] = [
            (Dtype::F32, value.to_le_bytes().to_vec()),
            (Dtype::F16, f16::from_f32(value).to_le_bytes().to_vec()),
            (Dtype::BF16, bf16::from_f32(value).to_le_bytes().to_vec()),
            (Dtype::F8_E4M3, vec![0xbc]),
        ];
        for (dtype, bytes) in cases {
            assert_eq!(decode(dtype, &bytes), Some(vec![value]), "{dtype:?}");
        }
        assert_eq!(decode(Dtype::I8, &[0x80, 0x7f]), Some(vec![-128.0, 127.0]));
        assert_eq!(decode(Dtype::F64, &[0; 8]), None);
    }
}
