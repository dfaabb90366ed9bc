//! An answer: logits or ranked classes, and when its request passed which stage.
//!
//! Invariant: it owns its values, so that no place of the engine is in use once it is made.

use std::sync::Arc;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyType};
use twinstream::engine::Output;
use twinstream::model::{Answer as Kind, Class, top_k, top_k_of};
use twinstream::sched::Timing;

use crate::errors;
use crate::opening::Info;

/// What an image was answered with.
#[pyclass(frozen, module = "twinstream")]
pub(crate) struct Answer {
    /// 32-bit floats in the machine's byte order.
    values: Py<PyBytes>,
    timing: Timing,
    info: Arc<Info>,
}

impl Answer {
    pub(crate) fn new(py: Python<'_>, output: &Output, info: &Arc<Info>) -> PyResult<Py<Self>> {
        let values = PyBytes::new(py, bytemuck::cast_slice(output)).unbind();
        Py::new(py, Self { values, timing: *output.timing(), info: Arc::clone(info) })
    }

    /// The most probable classes, at most so many.
    fn classes(&self, py: Python<'_>, count: usize) -> Vec<Class> {
        let value = |bytes: &[u8]| f32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        let bytes = self.values.bind(py).as_bytes();
        let values: Vec<f32> = bytes.chunks_exact(size_of::<f32>()).map(value).collect();
        match self.info.answer {
            Kind::Logits => top_k(&values, count),
            Kind::TopK(_) => top_k_of(&values).take(count).collect(),
        }
    }
}

#[pymethods]
impl Answer {
    /// A logit for each class: a read-only numpy array of float32. An engine that was opened with
    /// `top_k` has none.
    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Kind::TopK(count) = self.info.answer {
            let text = format!("logits: the engine was opened with top_k={count}: ask top()");
            return Err(PyAttributeError::new_err(text));
        }
        py.import("numpy")?.call_method1("frombuffer", (&self.values, "=f4"))
    }

    /// The `k` most probable classes, best first; ties by lower index.
    #[pyo3(signature = (k=1))]
    fn top<'py>(&self, py: Python<'py>, k: usize) -> PyResult<Bound<'py, PyList>> {
        let limit = match self.info.answer {
            Kind::Logits => self.info.labels.len(),
            Kind::TopK(count) => count,
        };
        if !(1..=limit).contains(&k) {
            return Err(errors::value("k", &format!("1 to {limit}"), k));
        }
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class_type = CLASS.import(py, "twinstream._types", "Class")?;
        let list = PyList::empty(py);
        for Class { index, probability } in self.classes(py, k) {
            list.append(class_type.call1((index, &self.info.labels[index], probability))?)?;
        }
        Ok(list)
    }

    /// When the request passed which stage, in nanoseconds since the engine's start.
    #[getter]
    fn timing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static TIMING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let timing = &self.timing;
        let fields = PyDict::new(py);
        let moments = [
            ("arrival_ns", timing.arrival_ns),
            ("upload_started_ns", timing.upload_started_ns),
            ("upload_ended_ns", timing.upload_ended_ns),
            ("compute_started_ns", timing.compute_started_ns),
            ("compute_ended_ns", timing.compute_ended_ns),
            ("download_started_ns", timing.download_started_ns),
            ("download_ended_ns", timing.download_ended_ns),
            ("announced_ns", timing.announced_ns),
            ("batch", timing.batch),
            ("batch_len", timing.batch_len as u64),
            ("predicted_ns", timing.predicted_ns),
            ("computed_ns", timing.computed_ns),
        ];
        for (name, value) in moments {
            fields.set_item(name, value)?;
        }
        fields.set_item("reason", timing.reason.name())?;
        TIMING.import(py, "twinstream._types", "Timing")?.call((), Some(&fields))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let best = self.classes(py, 1)[0];
        format!("<Answer {:?} {:.3}>", self.info.labels[best.index], best.probability)
    }
}
