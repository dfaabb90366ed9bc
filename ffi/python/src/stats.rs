//! Statistics as the data classes of `twinstream._types`.

use pyo3::IntoPyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use twinstream::engine::{DeviceStats, LatencyHistogram, Stats};
use twinstream::sched::{Line, Reason, Stages};

/// An object of a data class with these fields.
struct Object<'py> {
    class: &'static str,
    fields: Bound<'py, PyDict>,
}

impl<'py> Object<'py> {
    fn new(py: Python<'py>, class: &'static str) -> Self {
        Self { class, fields: PyDict::new(py) }
    }

    fn with(self, name: &str, value: impl IntoPyObject<'py>) -> PyResult<Self> {
        self.fields.set_item(name, value)?;
        Ok(self)
    }

    fn build(self) -> PyResult<Bound<'py, PyAny>> {
        let module = self.fields.py().import("twinstream._types")?;
        module.getattr(self.class)?.call((), Some(&self.fields))
    }
}

pub(crate) fn new<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyAny>> {
    let refused = Object::new(py, "Refusals")
        .with("full", stats.refused.full)?
        .with("size", stats.refused.size)?
        .with("shut_down", stats.refused.shut_down)?
        .with("device_lost", stats.refused.device_lost)?;
    let batch_lens = Object::new(py, "Lengths")
        .with("len", stats.batch_lens.len())?
        .with("image_len", stats.batch_lens.image_len())?
        .with("mean", stats.batch_lens.mean())?
        .with("max", stats.batch_lens.len_max())?;
    let cache = Object::new(py, "Cache")
        .with("hits", stats.cache.hits)?
        .with("joined", stats.cache.joined)?
        .with("misses", stats.cache.misses)?
        .with("bytes", stats.cache.bytes)?
        .with("is_on", stats.cache.is_on)?;
    Object::new(py, "Stats")
        .with("accepted", stats.accepted)?
        .with("completed", stats.completed)?
        .with("rejected", stats.rejected)?
        .with("expired", stats.expired)?
        .with("cancelled", stats.cancelled)?
        .with("failed", stats.failed)?
        .with("device_lost", stats.device_lost)?
        .with("shut_down", stats.shut_down)?
        .with("late", stats.late)?
        .with("refused", refused.build()?)?
        .with("refusal", stats.refusal.map(|refusal| refusal.to_string()))?
        .with("slots_in_use", stats.slots_in_use)?
        .with("slot_len", stats.slot_len)?
        .with("alive_len", stats.alive_len)?
        .with("waiting_len", stats.waiting_len)?
        .with("arrival_rate_hz", stats.arrival_rate_hz)?
        .with("fits", stages(py, &stats.fits, |line| fit(py, line))?)?
        .with("started", stages(py, &stats.started, |counts| started(py, counts))?)?
        .with("batch_lens", batch_lens.build()?)?
        .with("latency", latency(py, &stats.latency)?)?
        .with("waiting", latency(py, &stats.waiting)?)?
        .with("computing", latency(py, &stats.computing)?)?
        .with("notifying", latency(py, &stats.notifying)?)?
        .with("callback_ns", stats.callback_ns)?
        .with("uploaded_bytes", stats.uploaded_bytes)?
        .with("downloaded_bytes", stats.downloaded_bytes)?
        .with("cache", cache.build()?)?
        .with("devices", devices(py, stats)?)?
        .build()
}

fn stages<'py, T>(
    py: Python<'py>,
    stages: &Stages<T>,
    value: impl Fn(&T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    Object::new(py, "Stages")
        .with("upload", value(&stages.upload)?)?
        .with("compute", value(&stages.compute)?)?
        .with("download", value(&stages.download)?)?
        .build()
}

fn fit<'py>(py: Python<'py>, line: &Line) -> PyResult<Bound<'py, PyAny>> {
    Object::new(py, "Line")
        .with("fixed_ns", line.fixed_ns)?
        .with("per_image_ns", line.per_image_ns)?
        .build()
}

fn devices<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyTuple>> {
    let device = |device: &DeviceStats| {
        Object::new(py, "Device")
            .with("batches", device.batches)?
            .with("images", device.images)?
            .with("is_lost", device.is_lost)?
            .with("fits", stages(py, &device.fits, |line| fit(py, line))?)?
            .build()
    };
    PyTuple::new(py, stats.devices.iter().map(device).collect::<PyResult<Vec<_>>>()?)
}

/// By the reasons' names.
fn started<'py>(py: Python<'py>, counts: &[u64; Reason::ALL.len()]) -> PyResult<Bound<'py, PyAny>> {
    let by_reason = PyDict::new(py);
    for (reason, count) in Reason::ALL.iter().zip(counts) {
        by_reason.set_item(reason.name(), count)?;
    }
    Ok(by_reason.into_any())
}

fn latency<'py>(py: Python<'py>, latencies: &LatencyHistogram) -> PyResult<Bound<'py, PyAny>> {
    Object::new(py, "Latencies")
        .with("len", latencies.len())?
        .with("mean_ns", latencies.mean_ns())?
        .with("p50_ns", latencies.quantile_ns(0.5))?
        .with("p99_ns", latencies.quantile_ns(0.99))?
        .with("p999_ns", latencies.quantile_ns(0.999))?
        .with("max_ns", latencies.max_ns())?
        .build()
}
