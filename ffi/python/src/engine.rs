//! The engine as Python sees it. What belongs to event loops is in `twinstream/_engine.py`.
//!
//! Invariant: the interpreter is let go where a call may block, and kept elsewhere; once the engine
//! is closed, nothing keeps it but calls that are under way.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::answer::Answer;
use crate::arguments::{request_options, seconds};
use crate::blocking;
use crate::errors;
use crate::images::{Image, Pixels, is_one};
use crate::inbox::Inbox;
use crate::lease::Lease;
use crate::logging;
use crate::many;
use crate::opening::{self, Arguments, Info, Live};
use crate::stats;
use crate::ticket::Ticket;

/// See `twinstream.Engine`.
#[pyclass(frozen, subclass, module = "twinstream._twinstream")]
pub(crate) struct Engine {
    /// None once it was closed.
    live: Mutex<Option<Arc<Live>>>,
    info: Arc<Info>,
}

impl Engine {
    fn live(&self) -> PyResult<Arc<Live>> {
        self.lock().clone().ok_or_else(errors::closed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place with the image in it, which must need no more work.
    fn fill(py: Python<'_>, live: &Live, image: &Image<'_>) -> PyResult<twinstream::engine::Lease> {
        let mut lease = live.engine.lease().map_err(errors::refused)?;
        image.copy_to(py, &mut lease)?;
        Ok(lease)
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (path=None, *, config=None, size=None, backend="cpu", precision=None,
        threads=None, top_k=None, policy=None, slot_len=None, batch_len_max=None,
        latency_bound=None, cache_bytes=0))]
    #[expect(clippy::too_many_arguments, reason = "keywords, each with a default")]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        config: Option<PathBuf>,
        size: Option<(usize, usize)>,
        backend: &str,
        precision: Option<String>,
        threads: Option<usize>,
        top_k: Option<usize>,
        policy: Option<String>,
        slot_len: Option<usize>,
        batch_len_max: Option<usize>,
        latency_bound: Option<f64>,
        cache_bytes: usize,
    ) -> PyResult<Self> {
        let backend = backend.to_owned();
        let (live, info) = opening::open(
            py,
            Arguments {
                path,
                config,
                size,
                backend,
                precision,
                threads,
                top_k,
                policy,
                slot_len,
                batch_len_max,
                latency_bound,
                cache_bytes,
            },
        )?;
        logging::flush(py)?;
        Ok(Self { live: Mutex::new(Some(Arc::new(live))), info: Arc::new(info) })
    }

    /// The answer to one image, or a list of the answers to several. Waits for room and answers.
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let live = self.live()?;
        if is_one(images) {
            let image = Image::of(images, None, &self.info)?.prepare(py, &self.info)?;
            let answer = many::infer_one(py, &live, &self.info, image)?;
            return Ok(answer.into_bound(py).into_any());
        }
        let objects = match images.try_iter() {
            Ok(objects) => objects.collect::<PyResult<Vec<_>>>()?,
            // Says what an image is.
            Err(_) => return Err(Image::of(images, None, &self.info).err().expect("not one")),
        };
        let answers: Vec<Py<Answer>> = many::infer(py, &live, &self.info, &objects)?;
        Ok(PyList::new(py, answers)?.into_any())
    }

    /// Hands one image in and does not wait: `Full` where there is no room. A path or an image of
    /// another size is decoded and resized first.
    #[pyo3(signature = (image, *, deadline=None, priority=0))]
    fn submit_nowait(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        deadline: Option<f64>,
        priority: i64,
    ) -> PyResult<Ticket> {
        let live = self.live()?;
        let options = request_options(deadline, priority)?;
        let lease = match image.cast::<Lease>() {
            Ok(lease) => lease.get().take_of(&live)?,
            Err(_) => {
                let image = Image::of(image, None, &self.info)?.prepare(py, &self.info)?;
                Self::fill(py, &live, &image)?
            }
        };
        Ticket::commit(&live, &self.info, lease, options)
    }

    /// A place to write one image to, without a copy: `Full` where there is none.
    fn lease(&self) -> PyResult<Lease> {
        let live = self.live()?;
        let lease = live.engine.lease().map_err(errors::refused)?;
        Ok(Lease::new(live, Arc::clone(&self.info), lease))
    }

    /// Refuses further requests, waits until those that were accepted have ended, but no longer
    /// than `timeout` seconds, and ends the rest as `ShutDown`. True if there was no rest.
    #[pyo3(signature = (timeout=None))]
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let live = self.live()?;
        let timeout = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        if live.is_forked() {
            return Err(errors::forked());
        }
        // By a thread of its own, as a signal ends the call, but not what it began.
        let (outcome, caller) = (Arc::new(OnceLock::new()), thread::current());
        let drained = Arc::clone(&outcome);
        thread::spawn(move || {
            // Set once.
            let _ = drained.set(live.engine.drain(timeout.unwrap_or(Duration::MAX)));
            caller.unpark();
        });
        loop {
            if let Some(is_whole) = outcome.get() {
                return Ok(*is_whole);
            }
            py.detach(|| blocking::sleep(None));
            py.check_signals()?;
        }
    }

    /// Ends every request that is left as `ShutDown`, and the engine with it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let live = self.lock().take();
        py.detach(|| {
            if let Some(live) = live {
                live.engine.drain(Duration::ZERO);
            }
        });
        logging::flush(py)
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.lock().is_none()
    }

    /// Names of the classes, in the order of the logits.
    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.info.labels)
    }

    /// Height, width and channels of the network's input.
    #[getter]
    fn image_shape(&self) -> (usize, usize, usize) {
        (self.info.preprocess.height, self.info.preprocess.width, 3)
    }

    /// Number of classes.
    #[getter]
    fn class_count(&self) -> usize {
        self.info.labels.len()
    }

    /// What the network is computed in; none where nothing is computed.
    #[getter]
    fn precision(&self) -> Option<String> {
        self.info.precision.map(|precision| precision.to_string())
    }

    /// What it has done so far, as `Stats`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        logging::flush(py)?;
        stats::new(py, &self.live()?.engine.stats())
    }

    /// The statistics in Prometheus' text format, version 0.0.4.
    fn prometheus(&self) -> PyResult<String> {
        Ok(self.live()?.engine.stats().prometheus())
    }

    fn __repr__(&self) -> String {
        let Info { backend, precision, slot_len, .. } = &*self.info;
        let precision = precision.map(|precision| format!(" {precision}")).unwrap_or_default();
        let state = if self.closed() { " closed" } else { "" };
        format!("<Engine {backend}{precision} slot_len={slot_len}{state}>")
    }

    /// Room for the answers of an event loop.
    fn _inbox(&self) -> PyResult<Inbox> {
        Inbox::new(&self.live()?, &self.info)
    }

    /// Hands an image in whose answer `future` is to get: the request's number. None where the
    /// image must be prepared first.
    fn _hand_in(
        &self,
        py: Python<'_>,
        inbox: &Inbox,
        future: Py<PyAny>,
        image: &Bound<'_, PyAny>,
        deadline: Option<f64>,
        priority: i64,
    ) -> PyResult<Option<u32>> {
        let live = self.live()?;
        let options = request_options(deadline, priority)?;
        let lease = match image.cast::<Lease>() {
            Ok(lease) => lease.get().take_of(&live)?,
            Err(_) => match Image::of(image, None, &self.info)? {
                Image::Raw(_) => return Ok(None),
                image => Self::fill(py, &live, &image)?,
            },
        };
        inbox.commit(lease, options, future).map(Some)
    }

    /// The network's input of an image: decoded, resized and cropped. To be handed in any number of
    /// times, each for the price of a copy.
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Pixels>> {
        Image::of(image, None, &self.info)?.into_pixels(py, &self.info)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let live = self.live.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // It waits for what the device is in the middle of.
        Python::attach(|py| py.detach(|| drop(live)));
    }
}
