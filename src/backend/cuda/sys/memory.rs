//! Memory of the device, and page-locked memory of the host that copies go through.
//!
//! Invariant: ranges are checked before anyone copies; memory keeps its context alive.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use cust::memory::{DeviceBuffer, LockedBuffer};

use super::context::Context;
use super::driver::{self, Code, check};
use crate::error::{Error, Kind};

/// A failure to allocate `what`: with the bytes that are free, where that is why.
pub(crate) fn no_room(code: Code, what: fmt::Arguments) -> Error {
    if !code.is_memory() {
        return code.error("allocating device memory");
    }
    let free = cust::memory::mem_get_info().map_or(0, |(free, _)| free);
    Error::new(Kind::Memory, format!("the device has no room for {what}: {free} bytes are free"))
}

/// Bytes on the device.
pub(crate) struct DeviceMemory {
    buffer: ManuallyDrop<DeviceBuffer<u8>>,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// Memory that holds anything; at least one byte.
    pub(crate) fn new(context: &Arc<Context>, len_bytes: usize) -> Result<Self, Code> {
        // SAFETY: bytes of any value are bytes.
        let buffer = unsafe { DeviceBuffer::uninitialized(len_bytes.max(1))? };
        Ok(Self { buffer: ManuallyDrop::new(buffer), context: Arc::clone(context) })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.buffer.as_device_ptr().as_raw()
    }

    /// Where a part of it begins.
    ///
    /// # Panics
    /// When it ends beyond the memory.
    pub(crate) fn range(&self, offset_bytes: usize, len_bytes: usize) -> u64 {
        let end = offset_bytes.checked_add(len_bytes);
        assert!(
            end.is_some_and(|end| end <= self.buffer.len()),
            "{len_bytes} bytes at {offset_bytes} exceed the {} of the device's memory",
            self.buffer.len()
        );
        self.address() + offset_bytes as u64
    }

    /// Writes `bytes` at an offset; they are there after [`Context::synchronize`], and may be
    /// dropped at once.
    pub(crate) fn write(&self, offset_bytes: usize, bytes: &[u8]) -> Result<(), Code> {
        let address = self.range(offset_bytes, bytes.len());
        // SAFETY: the target was checked; the source lives during the call.
        check(unsafe { driver::cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Sets all bytes to zero; they are after [`Context::synchronize`].
    pub(crate) fn clear(&self) -> Result<(), Code> {
        // SAFETY: exactly its own bytes.
        check(unsafe { driver::cuMemsetD8_v2(self.address(), 0, self.buffer.len()) })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let _pushed = self.context.push_current();
        // SAFETY: taken once, here.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        if let Err((error, buffer)) = DeviceBuffer::drop(buffer) {
            log::warn!("freeing device memory: {}", Code::from(error));
            // Dropping it would only try again.
            std::mem::forget(buffer);
        }
    }
}

/// Page-locked words of the host.
pub(crate) struct PinnedMemory {
    buffer: ManuallyDrop<LockedBuffer<u32>>,
    context: Arc<Context>,
}

impl PinnedMemory {
    /// Zeroed words; at least one.
    pub(crate) fn new(context: &Arc<Context>, word_len: usize) -> Result<Self, Code> {
        let buffer = LockedBuffer::new(&0, word_len.max(1))?;
        Ok(Self { buffer: ManuallyDrop::new(buffer), context: Arc::clone(context) })
    }

    pub(crate) fn len_bytes(&self) -> usize {
        size_of_val(&**self.buffer)
    }

    /// Where a part of it begins, for a copy.
    ///
    /// # Panics
    /// When it ends beyond the memory.
    pub(crate) fn range(&self, offset_bytes: usize, len_bytes: usize) -> (*mut u8, usize) {
        let end = offset_bytes.checked_add(len_bytes);
        assert!(
            end.is_some_and(|end| end <= self.len_bytes()),
            "{len_bytes} bytes at {offset_bytes} exceed the {} of page-locked memory",
            self.len_bytes()
        );
        let first = self.buffer.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: asserted to lie within.
        (unsafe { first.add(offset_bytes) }, len_bytes)
    }

    /// The words. No copy to or from them is under way.
    pub(crate) fn words(&self) -> &[u32] {
        &self.buffer
    }

    /// The words, to be written. No copy to or from them is under way.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        &mut self.buffer
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let _pushed = self.context.push_current();
        // SAFETY: taken once, here.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        if let Err((error, buffer)) = LockedBuffer::drop(buffer) {
            log::warn!("freeing page-locked memory: {}", Code::from(error));
            std::mem::forget(buffer);
        }
    }
}
