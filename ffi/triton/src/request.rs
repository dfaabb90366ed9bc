//! A request of the server's, owned: what it asks for, and its one answer.
//!
//! Invariant: each is answered, told to the statistics and released exactly once; one that is
//! dropped otherwise is answered with an error.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use twinstream::engine::{Answers, Failure, ManyLease, Output, RequestOptions};
use twinstream::sched::{Priority, Timing};

use crate::clock::now_ns;
use crate::config::{INPUT, OUTPUT};
use crate::instance::Instance;
use crate::raw;
use crate::server::{Span, text};
use crate::status::{Cause, Failed, Outcome, check};
use crate::watch::Watch;

/// The parameter of a request that says which go first. `priority` is the server's own, and it does
/// not tell backends.
const PRIORITY: &str = "request_priority";

/// See the module.
pub(crate) struct Request {
    raw: *mut raw::Request,
    instance: Arc<Instance>,
    /// By the server's clock.
    taken_ns: u64,
    committed_ns: u64,
    is_answered: bool,
}

// SAFETY: the server lets any thread answer a request, one at a time.
unsafe impl Send for Request {}

impl Request {
    /// # Safety
    /// The server's, which leaves it to the backend.
    pub(crate) unsafe fn new(raw: *mut raw::Request, instance: Arc<Instance>) -> Self {
        instance.enter();
        let taken_ns = now_ns();
        Self { raw, instance, taken_ns, committed_ns: taken_ns, is_answered: false }
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.instance.service.watch
    }

    /// Its images in slots of the engine, and what it asks for.
    pub(crate) fn prepare(&mut self) -> Outcome<(ManyLease, RequestOptions)> {
        if self.is_cancelled() {
            return Err(Failure::Cancelled.into());
        }
        let options = RequestOptions::default()
            .deadline(self.timeout()?.and_then(|timeout| Instant::now().checked_add(timeout)))
            .priority(self.priority()?);
        let input = self.input()?;
        let mut lease = self.instance.service.engine.lease_many(input.image_len)?;
        input.copy_to(&mut lease)?;
        self.committed_ns = now_ns();
        Ok((lease, options))
    }

    /// Whether its client wants no answer any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        let mut is_cancelled = false;
        // SAFETY: the request is alive; writes to a flag.
        let status = unsafe { raw::request_is_cancelled(self.raw, &mut is_cancelled) };
        check(status).is_ok() && is_cancelled
    }

    fn timeout(&self) -> Outcome<Option<Duration>> {
        let mut timeout_us = 0;
        // SAFETY: the request is alive; writes to a number.
        check(unsafe { raw::request_timeout(self.raw, &mut timeout_us) })?;
        Ok((timeout_us > 0).then(|| Duration::from_micros(timeout_us)))
    }

    fn priority(&self) -> Outcome<Priority> {
        let mut len = 0;
        // SAFETY: the request is alive; writes to a number.
        check(unsafe { raw::request_parameter_len(self.raw, &mut len) })?;
        for index in 0..len {
            let (mut name, mut kind, mut value) = (ptr::null(), 0, ptr::null());
            // SAFETY: the request is alive, and so is its parameter's name.
            let name = unsafe {
                check(raw::request_parameter(self.raw, index, &mut name, &mut kind, &mut value))?;
                CStr::from_ptr(name)
            };
            if name.to_bytes() != PRIORITY.as_bytes() {
                continue;
            }
            // SAFETY: by its kind it is such a number.
            let value = (kind == raw::PARAMETER_INT).then(|| unsafe { *value.cast::<i64>() });
            return match value {
                Some(0 | 2) => Ok(Priority::Normal),
                Some(1) => Ok(Priority::High),
                Some(3) => Ok(Priority::Low),
                _ => Err(Failed::argument(format!(
                    "parameter {PRIORITY}: 1 is high, 2 normal, 3 low, 0 the default"
                ))),
            };
        }
        Ok(Priority::default())
    }

    fn input(&self) -> Outcome<Input> {
        let (mut len, mut raw_input) = (0, ptr::null_mut());
        let (mut name, mut datatype, mut shape) = (ptr::null(), 0, ptr::null());
        let (mut dim_len, mut len_bytes, mut buffer_len) = (0, 0, 0);
        // SAFETY: the request is alive, and with it its inputs, their names and shapes, which have
        // at least a batch's dimension.
        let (name, shape) = unsafe {
            check(raw::request_input_len(self.raw, &mut len))?;
            if len != 1 {
                let text = format!("{len} inputs: there is one, `{INPUT}`");
                return Err(Failed::argument(text));
            }
            check(raw::request_input(self.raw, 0, &mut raw_input))?;
            check(raw::input_properties(
                raw_input,
                &mut name,
                &mut datatype,
                &mut shape,
                &mut dim_len,
                &mut len_bytes,
                &mut buffer_len,
            ))?;
            (text(name), std::slice::from_raw_parts(shape, dim_len as usize))
        };
        let sizes = self.instance.service.sizes;
        let dims = [sizes.height as i64, sizes.width as i64, 3];
        if name != INPUT || datatype != raw::TYPE_UINT8 || shape.get(1..) != Some(&dims[..]) {
            return Err(Failed::argument(format!(
                "input `{name}` {shape:?}: send `{INPUT}`, UINT8 [n, {}, {}, 3]",
                sizes.height, sizes.width
            )));
        }
        let image_bytes = self.instance.service.image_bytes();
        let image_len = usize::try_from(shape[0]).unwrap_or(0);
        let wanted_bytes = image_len.checked_mul(image_bytes);
        if image_len == 0 || wanted_bytes != usize::try_from(len_bytes).ok() {
            return Err(Failed::argument(format!(
                "`{INPUT}` has {len_bytes} bytes, by its shape {shape:?} it has {}; one image has \
                 {image_bytes}, and a request at least one image",
                wanted_bytes.unwrap_or(usize::MAX)
            )));
        }
        Ok(Input { raw: raw_input, buffer_len, image_len })
    }

    /// Answers it with what the engine says.
    pub(crate) fn finish(self, answers: Answers) {
        match answers.collect::<Result<Vec<Output>, _>>() {
            Ok(outputs) => self.complete(&outputs),
            Err(failure) => self.fail(failure.into()),
        }
    }

    /// Answers it with the error.
    pub(crate) fn fail(mut self, failed: Failed) {
        self.end(Err(failed), None);
    }

    fn complete(mut self, outputs: &[Output]) {
        let timings: Vec<Timing> = outputs.iter().map(|output| *output.timing()).collect();
        // When the engine's clock began.
        let start_ns = self.committed_ns.saturating_sub(timings[0].arrival_ns);
        let span = |timing: &Timing| Span {
            taken_ns: start_ns + timing.upload_started_ns,
            compute_started_ns: start_ns + timing.compute_started_ns,
            compute_ended_ns: start_ns + timing.compute_ended_ns,
        };
        self.report_batches(&timings, span);
        let whole = timings.iter().map(span).reduce(|one, other| Span {
            taken_ns: one.taken_ns.min(other.taken_ns),
            compute_started_ns: one.compute_started_ns.min(other.compute_started_ns),
            compute_ended_ns: one.compute_ended_ns.max(other.compute_ended_ns),
        });
        self.end(Ok(outputs), whole);
    }

    /// Tells the statistics of batches that this request is the first of to be answered.
    fn report_batches(&self, timings: &[Timing], span: impl Fn(&Timing) -> Span) {
        let mut batches =
            self.instance.service.batches.lock().unwrap_or_else(PoisonError::into_inner);
        for timing in timings {
            if batches.is_first(timing.batch, timing.batch_len) {
                let reported =
                    self.instance.handle.report_batch(timing.batch_len, span(timing), now_ns());
                told(reported);
            }
        }
    }

    /// Sends the answer, tells the statistics and lets the request go.
    fn end(&mut self, outcome: Outcome<&[Output]>, span: Option<Span>) {
        self.is_answered = true;
        let sent = self.send(outcome);
        let ended_ns = now_ns();
        // What was not computed took no time.
        let span = span.filter(|_| matches!(sent, Ok(true))).unwrap_or(Span {
            taken_ns: self.taken_ns,
            compute_started_ns: self.taken_ns,
            compute_ended_ns: self.taken_ns,
        });
        let is_success = matches!(sent, Ok(true));
        told(sent.map(drop));
        told(self.instance.handle.report(self.raw, is_success, span, ended_ns));
        // The server may finalize the instance as soon as it has the request.
        self.instance.leave();
        // SAFETY: it is ours, and used no more.
        told(check(unsafe { raw::request_release(self.raw, raw::RELEASE_ALL) }));
    }

    /// Sends the one response: whether it has a result.
    fn send(&self, outcome: Outcome<&[Output]>) -> Outcome<bool> {
        let mut response = ptr::null_mut();
        // SAFETY: the request is alive.
        check(unsafe { raw::response_new(&mut response, self.raw) })?;
        let failed = outcome.and_then(|outputs| self.write(response, outputs)).err();
        let is_result = failed.is_none();
        let error = failed.map_or(ptr::null_mut(), Failed::into_raw);
        // SAFETY: the response is the server's from here on, the error stays ours.
        unsafe {
            let sent = check(raw::response_send(response, raw::RESPONSE_FINAL, error));
            if !error.is_null() {
                raw::error_delete(error);
            }
            sent.map(|()| is_result)
        }
    }

    /// Writes the logits, image by image, into the response.
    fn write(&self, response: *mut raw::Response, outputs: &[Output]) -> Outcome<()> {
        let shape = [outputs.len() as i64, outputs[0].len() as i64];
        let (mut output, mut buffer) = (ptr::null_mut(), ptr::null_mut());
        let (mut memory, mut device) = (raw::MEMORY_CPU, 0);
        let len_bytes = outputs.iter().map(|output| size_of_val(&**output) as u64).sum();
        // SAFETY: response and output are alive; the server reads two numbers of the shape, and
        // gives a buffer of so many bytes.
        unsafe {
            check(raw::response_output(
                response,
                &mut output,
                OUTPUT.as_ptr(),
                raw::TYPE_FP32,
                shape.as_ptr(),
                shape.len() as u32,
            ))?;
            check(raw::output_buffer(output, &mut buffer, len_bytes, &mut memory, &mut device))?;
        }
        if memory == raw::MEMORY_GPU {
            return Err(in_gpu_memory(&OUTPUT.to_string_lossy()));
        }
        let mut place = buffer.cast::<u8>();
        for output in outputs {
            let bytes = size_of_val(&**output);
            // SAFETY: the lengths of all outputs are those of the buffer.
            unsafe {
                ptr::copy_nonoverlapping(output.as_ptr().cast(), place, bytes);
                place = place.add(bytes);
            }
        }
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_answered {
            let text = "the backend gave the request up: its log says why";
            self.end(Err(Failed::new(Cause::Internal, text)), None);
        }
    }
}

/// The one input, whose bytes are as many as its images have.
struct Input {
    raw: *mut raw::Input,
    buffer_len: u32,
    image_len: usize,
}

impl Input {
    /// Copies the images, however the server has cut them up.
    fn copy_to(&self, lease: &mut ManyLease) -> Outcome<()> {
        let mut places = lease.images_mut();
        let mut place: &mut [u8] = &mut [];
        for index in 0..self.buffer_len {
            let mut bytes = self.buffer(index)?;
            while !bytes.is_empty() {
                if place.is_empty() {
                    place = places.next().ok_or_else(|| other_len("more"))?;
                }
                let len = bytes.len().min(place.len());
                let (filled, rest) = place.split_at_mut(len);
                filled.copy_from_slice(&bytes[..len]);
                (bytes, place) = (&bytes[len..], rest);
            }
        }
        match place.is_empty() && places.next().is_none() {
            true => Ok(()),
            false => Err(other_len("less")),
        }
    }

    fn buffer(&self, index: u32) -> Outcome<&[u8]> {
        let mut buffer: *const c_void = ptr::null();
        let (mut len_bytes, mut memory, mut device) = (0, raw::MEMORY_CPU, 0);
        // SAFETY: the input is alive as its request is.
        check(unsafe {
            raw::input_buffer(
                self.raw,
                index,
                &mut buffer,
                &mut len_bytes,
                &mut memory,
                &mut device,
            )
        })?;
        match (memory, len_bytes) {
            (raw::MEMORY_GPU, _) => Err(in_gpu_memory(INPUT)),
            (_, 0) => Ok(&[]),
            // SAFETY: so many bytes in memory of the host, which live as long as the request.
            _ => Ok(unsafe { std::slice::from_raw_parts(buffer.cast(), len_bytes as usize) }),
        }
    }
}

fn other_len(word: &str) -> Failed {
    Failed::argument(format!("the buffers of `{INPUT}` have {word} bytes than its shape says"))
}

fn in_gpu_memory(name: &str) -> Failed {
    let text = format!("`{name}` is in GPU memory: use the host's, such as system shared memory");
    Failed::new(Cause::Unsupported, text)
}

/// There is nobody but the log to tell.
fn told(outcome: Outcome<()>) {
    if let Err(failed) = outcome {
        log::error!("the server refused: {}", failed.text);
    }
}
