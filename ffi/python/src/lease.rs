//! A place for an image in the memory that the device copies from, as a buffer to be written.
//!
//! Invariant: while arrays or views of it are alive, it is not committed and its place is not given
//! back: nobody writes to a place that is another's. The views keep the lease alive.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::arguments::request_options;
use crate::errors;
use crate::opening::{Info, Live};
use crate::ticket::Ticket;

/// A place for one image in page-locked memory where there is some: write u8 RGB pixels of the
/// engine's `image_shape` to `array`, then `commit`. Leaving its `with` block, or dropping it,
/// gives an uncommitted place back.
#[pyclass(frozen, module = "twinstream")]
pub(crate) struct Lease {
    /// None once it was committed or given back.
    lease: Mutex<Option<twinstream::engine::Lease>>,
    pixels: AtomicPtr<u8>,
    len: usize,
    shape: [ffi::Py_ssize_t; 3],
    strides: [ffi::Py_ssize_t; 3],
    /// Views that are alive.
    view_len: AtomicUsize,
    live: Arc<Live>,
    info: Arc<Info>,
}

impl Lease {
    pub(crate) fn new(
        live: Arc<Live>,
        info: Arc<Info>,
        mut lease: twinstream::engine::Lease,
    ) -> Self {
        let [height, width] = [info.preprocess.height, info.preprocess.width];
        Self {
            pixels: AtomicPtr::new(lease.as_mut_ptr()),
            len: lease.len(),
            lease: Mutex::new(Some(lease)),
            shape: [height, width, 3].map(|len| len as ffi::Py_ssize_t),
            strides: [3 * width, 3, 1].map(|len| len as ffi::Py_ssize_t),
            view_len: AtomicUsize::new(0),
            live,
            info,
        }
    }

    /// Takes the filled place.
    fn take(&self) -> PyResult<twinstream::engine::Lease> {
        if self.view_len.load(Ordering::Relaxed) > 0 {
            let text = "an array or view of the lease is alive: drop it (`del array`) before the \
                        lease is committed";
            return Err(PyBufferError::new_err(text));
        }
        self.lock().take().ok_or_else(ended)
    }

    /// The same for this engine, which must be the lease's.
    pub(crate) fn take_of(&self, live: &Arc<Live>) -> PyResult<twinstream::engine::Lease> {
        match Arc::ptr_eq(live, &self.live) {
            true => self.take(),
            false => Err(errors::value("image", "a lease of this engine", "one of another")),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<twinstream::engine::Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> PyErr {
    PyValueError::new_err("the lease was committed or given back")
}

#[pymethods]
impl Lease {
    /// The place as a numpy array of uint8; each call makes a new one. It must be gone before
    /// `commit`.
    #[getter]
    fn array<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().lock().is_none() {
            return Err(ended());
        }
        slf.py().import("numpy")?.call_method1("asarray", (slf,))
    }

    /// Hands the image in. `deadline`: seconds from now; `priority`: 1 before 0 before -1.
    #[pyo3(signature = (*, deadline=None, priority=0))]
    fn commit(&self, deadline: Option<f64>, priority: i64) -> PyResult<Ticket> {
        let options = request_options(deadline, priority)?;
        Ticket::commit(&self.live, &self.info, self.take()?, options)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) {
        // Where views are alive, the place is given back with the last one.
        if self.view_len.load(Ordering::Relaxed) == 0 {
            drop(self.lock().take());
        }
    }

    /// # Safety
    /// `view` is the interpreter's, to be filled.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if this.lock().is_none() {
            return Err(PyBufferError::new_err("the lease was committed or given back"));
        }
        let wants = |flag: c_int| flags & flag == flag;
        let when = |is_wanted: bool, place: *const ffi::Py_ssize_t| match is_wanted {
            true => place.cast_mut(),
            false => ptr::null_mut(),
        };
        this.view_len.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the view is ours to fill. Pixels, shape and strides stay where they are as long
        // as the lease, which the view keeps alive, and nobody else writes to the pixels meanwhile.
        unsafe {
            (*view).buf = this.pixels.load(Ordering::Relaxed).cast();
            (*view).len = this.len as ffi::Py_ssize_t;
            (*view).readonly = 0;
            (*view).itemsize = 1;
            (*view).format = match wants(ffi::PyBUF_FORMAT) {
                true => c"B".as_ptr().cast_mut(),
                false => ptr::null_mut(),
            };
            (*view).ndim = 3;
            (*view).shape = when(wants(ffi::PyBUF_ND), this.shape.as_ptr());
            (*view).strides = when(wants(ffi::PyBUF_STRIDES), this.strides.as_ptr());
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = ptr::null_mut();
            (*view).obj = slf.clone().into_any().into_ptr();
        }
        Ok(())
    }

    /// # Safety
    /// `_view` was filled by `__getbuffer__`.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.view_len.fetch_sub(1, Ordering::Relaxed);
    }
}
