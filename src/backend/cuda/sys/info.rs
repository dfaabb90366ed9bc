//! The devices of this machine, each by a few numbers, and how one of them is asked for.
//!
//! Invariant: [`DeviceInfo`] is plain data, so that plans can be made for a device that is not
//! there. Knows no context, and nothing of kernels.

use std::fmt;
use std::str::FromStr;

use cust::device::{Device, DeviceAttribute};

use super::driver::{self, Code, check};
use crate::error::{Error, Kind, Result};

/// Which CUDA device to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceId {
    /// By its index in the driver's list, from 0; `CUDA_VISIBLE_DEVICES` changes the list.
    Index(u32),
    /// By its identity, which no order changes.
    Uuid([u8; 16]),
}

impl FromStr for DeviceId {
    type Err = Error;

    /// A number, or a UUID as `nvidia-smi -L` prints it, with or without its `GPU-` or `MIG-`.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        let uuid = ["GPU-", "MIG-"].iter().find_map(|prefix| text.strip_prefix(prefix));
        let digits: String = uuid.unwrap_or(text).chars().filter(|&c| c != '-').collect();
        let bytes = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32);
        bytes.map(|bytes| Self::Uuid(bytes.to_be_bytes())).ok_or_else(|| {
            let message =
                format!("device \"{text}\": expected a number, or a UUID as nvidia-smi -L prints");
            Error::new(Kind::Argument, message)
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Uuid(bytes) => {
                f.write_str("GPU")?;
                for (index, byte) in bytes.iter().enumerate() {
                    let dash = if [0, 4, 6, 8, 10].contains(&index) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// A CUDA device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its index in the driver's list.
    pub index: u32,
    /// Its identity.
    pub uuid: [u8; 16],
    /// What NVIDIA calls it.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessor_len: u32,
    /// Memory of the device.
    pub memory_bytes: u64,
    /// Shared memory of a multiprocessor.
    pub shared_bytes: u32,
    /// Clock of the multiprocessors at its highest, in Hz.
    pub clock_hz: u64,
    /// What the memory moves at most in a second.
    pub memory_bytes_per_s: u64,
    /// The CUDA version that the driver is of: 1000 times the major one and ten times the minor.
    pub driver_version: u32,
}

impl DeviceInfo {
    /// An H100 SXM by NVIDIA's data sheet, to plan for where there is no device.
    pub fn h100() -> Self {
        Self {
            index: 0,
            uuid: [0; 16],
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            capability: (9, 0),
            multiprocessor_len: 132,
            memory_bytes: 80 << 30,
            shared_bytes: 228 << 10,
            clock_hz: 1_980_000_000,
            memory_bytes_per_s: 3_350_000_000_000,
            driver_version: 13000,
        }
    }

    /// Multiply-accumulates of f16 that the tensor cores do in a nanosecond, by NVIDIA's papers on
    /// the architectures.
    pub(crate) fn macs_per_ns(&self) -> f64 {
        let per_clock = match self.capability {
            (8, 0) => 1024.0,
            (8, _) => 512.0,
            _ => 2048.0,
        };
        per_clock * f64::from(self.multiprocessor_len) * self.clock_hz as f64 / 1e9
    }

    pub(crate) fn memory_bytes_per_ns(&self) -> f64 {
        self.memory_bytes_per_s as f64 / 1e9
    }

    /// The device that is asked for.
    ///
    /// # Errors
    /// As [`devices`]; `is_argument` where it is not there.
    pub(crate) fn find(id: DeviceId) -> Result<Self> {
        let devices = devices()?;
        let is_it = |info: &&Self| match id {
            DeviceId::Index(index) => info.index == index,
            DeviceId::Uuid(uuid) => info.uuid == uuid,
        };
        devices.iter().find(is_it).cloned().ok_or_else(|| {
            let name =
                |it: &Self| format!("{} ({}, {})", it.index, it.name, DeviceId::Uuid(it.uuid));
            let known: Vec<String> = devices.iter().map(name).collect();
            let message = format!("no CUDA device {id}: there are {}", known.join(", "));
            Error::new(Kind::Argument, message)
        })
    }

    fn new(index: u32) -> std::result::Result<Self, Code> {
        let device = Device::get_device(index)?;
        let attribute = |attribute| device.get_attribute(attribute).map(|value| value as u32);
        let mut uuid = [0; 16];
        // SAFETY: `uuid` has room for the 16 bytes of one.
        check(unsafe { driver::cuDeviceGetUuid_v2(&mut uuid, device.as_raw()) })?;
        let mut driver_version = 0;
        // SAFETY: `driver_version` is a place for a number.
        check(unsafe { driver::cuDriverGetVersion(&mut driver_version) })?;
        Ok(Self {
            index,
            uuid,
            name: device.name()?,
            capability: (
                attribute(DeviceAttribute::ComputeCapabilityMajor)?,
                attribute(DeviceAttribute::ComputeCapabilityMinor)?,
            ),
            multiprocessor_len: attribute(DeviceAttribute::MultiprocessorCount)?,
            memory_bytes: device.total_memory()? as u64,
            shared_bytes: attribute(DeviceAttribute::MaxSharedMemoryPerMultiprocessor)?,
            clock_hz: 1000 * u64::from(attribute(DeviceAttribute::ClockRate)?),
            // Both edges of the clock carry data.
            memory_bytes_per_s: 2
                * 1000
                * u64::from(attribute(DeviceAttribute::MemoryClockRate)?)
                * u64::from(attribute(DeviceAttribute::GlobalMemoryBusWidth)?)
                / 8,
            driver_version: driver_version as u32,
        })
    }
}

/// The CUDA devices of this machine.
///
/// # Errors
/// `is_device` where there is no driver, or it reports an error.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let list = || -> std::result::Result<Vec<DeviceInfo>, Code> {
        cust::init(cust::CudaFlags::empty())?;
        (0..Device::num_devices()?).map(DeviceInfo::new).collect()
    };
    list().map_err(|code| code.error("listing the CUDA devices"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_are_read_as_they_are_printed() {
        for text in ["0", "7", "GPU-00112233-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(text.parse::<DeviceId>().unwrap().to_string(), text);
        }
        let bare = "00112233445566778899AABBCCDDEEFF".parse::<DeviceId>().unwrap();
        assert_eq!(bare.to_string(), "GPU-00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!("MIG-00112233-4455-6677-8899-aabbccddeeff".parse::<DeviceId>().unwrap(), bare);
        for text in ["", "-1", "GPU-12", "first"] {
            assert!(text.parse::<DeviceId>().unwrap_err().is_argument(), "{text}");
        }
    }
}
