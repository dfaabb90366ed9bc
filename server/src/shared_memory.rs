//! System shared memory: regions that clients register, to hand images over and take results there.
//!
//! Invariant: what is registered is reached by reading and writing its file, never by mapping it: a
//! client that shortens it gets an error, and the server no signal. Knows nothing of images.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, open};

use crate::parameters::whole;
use crate::problem::{Cause, Problem};
use crate::protocol::{
    Parameter, Parameters, RegionStatus, SystemSharedMemoryRegisterRequest as Register,
};

/// Where Linux has shared memory.
const FOLDER: &str = "/dev/shm/";
/// Regions at a time.
const REGION_LEN_MAX: usize = 1024;

/// See the module.
pub struct Regions {
    /// Clients may register some.
    is_on: bool,
    /// Most bytes that are read for a request.
    bytes_max: usize,
    regions: RwLock<BTreeMap<String, Region>>,
}

#[derive(Clone)]
struct Region {
    key: String,
    offset: u64,
    byte_size: u64,
    file: Arc<File>,
}

/// A part of a region, as parameters of a tensor name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub region: String,
    pub offset: u64,
    pub byte_size: u64,
}

impl Place {
    pub fn of(parameters: &Parameters) -> Result<Option<Self>, Problem> {
        let Some(region) = parameters.get("shared_memory_region") else { return Ok(None) };
        let Some(Parameter::String(region)) = &region.parameter_choice else {
            return Err(Problem::argument("parameter shared_memory_region: a name is wanted"));
        };
        let byte_size = whole(parameters, "shared_memory_byte_size")?.ok_or_else(|| {
            Problem::argument("shared_memory_region without shared_memory_byte_size")
        })?;
        let offset = whole(parameters, "shared_memory_offset")?.unwrap_or(0);
        Ok(Some(Self { region: region.clone(), offset, byte_size }))
    }
}

impl Regions {
    pub fn new(is_on: bool, bytes_max: usize) -> Self {
        Self { is_on, bytes_max, regions: RwLock::default() }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    pub fn register(&self, asked: Register) -> Result<(), Problem> {
        self.check_on()?;
        let Register { name, key, offset, byte_size } = asked;
        if name.is_empty() {
            return Err(Problem::argument("a region of shared memory has a name"));
        }
        let file = open_memory(&key).map_err(|error| {
            Problem::argument(format!("region `{name}`: shared memory `{key}`: {error}"))
        })?;
        let file_bytes = file.metadata().map_or(0, |metadata| metadata.len());
        if offset.checked_add(byte_size).is_none_or(|end| end > file_bytes) {
            return Err(Problem::argument(format!(
                "region `{name}`: {byte_size} bytes from {offset} on: `{key}` has {file_bytes}"
            )));
        }
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if regions.contains_key(&name) {
            return Err(Problem::argument(format!("region `{name}` is registered already")));
        }
        if regions.len() == REGION_LEN_MAX {
            return Err(Problem::argument(format!("{REGION_LEN_MAX} regions are registered")));
        }
        regions.insert(name, Region { key, offset, byte_size, file: Arc::new(file) });
        Ok(())
    }

    /// Forgets a region, or all of them without a name; one that is not there is forgotten.
    pub fn unregister(&self, name: &str) -> Result<(), Problem> {
        self.check_on()?;
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            "" => regions.clear(),
            name => drop(regions.remove(name)),
        }
        Ok(())
    }

    /// A region, or all of them without a name.
    pub fn status(&self, name: &str) -> Result<Vec<RegionStatus>, Problem> {
        self.check_on()?;
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let status = |(name, region): (&String, &Region)| RegionStatus {
            name: name.clone(),
            key: region.key.clone(),
            offset: region.offset,
            byte_size: region.byte_size,
        };
        if name.is_empty() {
            return Ok(regions.iter().map(status).collect());
        }
        let found = regions.get_key_value(name).map(status);
        Ok(vec![found.ok_or_else(|| unknown(name))?])
    }

    pub fn read(&self, place: &Place) -> Result<Bytes, Problem> {
        let (file, offset) = self.find(place, place.byte_size)?;
        if place.byte_size > self.bytes_max as u64 {
            let text = format!("{} bytes: a request has up to {}", place.byte_size, self.bytes_max);
            return Err(Problem::new(Cause::TooLarge, text));
        }
        let mut bytes = vec![0; place.byte_size as usize];
        file.read_exact_at(&mut bytes, offset).map_err(|error| lost(place, &error))?;
        Ok(bytes.into())
    }

    pub fn write(&self, place: &Place, bytes: &[u8]) -> Result<(), Problem> {
        if bytes.len() as u64 > place.byte_size {
            return Err(Problem::argument(format!(
                "the output has {} bytes, and {} in region `{}`",
                bytes.len(),
                place.byte_size,
                place.region
            )));
        }
        let (file, offset) = self.find(place, bytes.len() as u64)?;
        // Written beyond its end, a file that was cut since would grow again.
        let file_bytes = file.metadata().map_or(0, |metadata| metadata.len());
        if offset + bytes.len() as u64 > file_bytes {
            return Err(lost(place, &std::io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_all_at(bytes, offset).map_err(|error| lost(place, &error))
    }

    /// Where so many bytes of a place are.
    fn find(&self, place: &Place, len_bytes: u64) -> Result<(Arc<File>, u64), Problem> {
        self.check_on()?;
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let Region { offset, byte_size, file, .. } =
            regions.get(&place.region).ok_or_else(|| unknown(&place.region))?;
        let end = place.offset.checked_add(place.byte_size.max(len_bytes));
        if end.is_none_or(|end| end > *byte_size) {
            return Err(Problem::argument(format!(
                "{} bytes from {} on: region `{}` has {byte_size}",
                place.byte_size, place.offset, place.region
            )));
        }
        Ok((Arc::clone(file), offset + place.offset))
    }

    fn check_on(&self) -> Result<(), Problem> {
        match self.is_on {
            true => Ok(()),
            false => Err(Problem::argument("shared memory is off: start with --shared-memory")),
        }
    }
}

/// As `shm_open` does, and no link to what lies elsewhere is followed.
fn open_memory(key: &str) -> std::io::Result<File> {
    let name = key.strip_prefix('/').unwrap_or(key);
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(std::io::Error::other("a key is one name behind a slash"));
    }
    // Not blocking: it may be a pipe.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(open(format!("{FOLDER}{name}"), flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("no shared memory")),
    }
}

fn unknown(name: &str) -> Problem {
    Problem::new(Cause::NotFound, format!("no region `{name}`: register it first"))
}

fn lost(place: &Place, error: &std::io::Error) -> Problem {
    Problem::argument(format!("region `{}`: its memory is shorter by now: {error}", place.region))
}
