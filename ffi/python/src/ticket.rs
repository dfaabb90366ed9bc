//! A request that was handed in, to be waited for, looked at or cancelled from any thread.
//!
//! Invariant: its state is looked at with the interpreter held, so that no thread finds it locked.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use twinstream::engine::{AnswerTable, Failure, Lease, RequestOptions, spin_until};

use crate::answer::Answer;
use crate::arguments::seconds;
use crate::blocking;
use crate::errors;
use crate::opening::{Info, Live};

enum State {
    Pending(twinstream::engine::Ticket),
    Answered(Py<Answer>),
    Failed(Failure),
}

/// A request that was handed in. Dropping it before it has its answer cancels the request.
#[pyclass(frozen, module = "twinstream")]
pub(crate) struct Ticket {
    state: Mutex<State>,
    number: u32,
    answers: AnswerTable,
    live: Weak<Live>,
    info: Arc<Info>,
}

impl Ticket {
    pub(crate) fn commit(
        live: &Arc<Live>,
        info: &Arc<Info>,
        lease: Lease,
        options: RequestOptions,
    ) -> PyResult<Self> {
        let number = lease.number();
        let ticket = lease.commit(options).map_err(errors::refused)?;
        Ok(Self {
            state: Mutex::new(State::Pending(ticket)),
            number,
            answers: live.answers.clone(),
            live: Arc::downgrade(live),
            info: Arc::clone(info),
        })
    }

    fn is_forked(&self) -> bool {
        self.live.upgrade().is_some_and(|live| live.is_forked())
    }

    /// The answer, or why there is none; nothing while it is on its way. This thread is woken then.
    fn look(&self, py: Python<'_>) -> PyResult<Option<Py<Answer>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Pending(ticket) = &*state {
            let is_pending =
                !ticket.is_ended() && blocking::with_waker(|waker| ticket.wake_when_ended(waker));
            if is_pending {
                return Ok(None);
            }
            // Replaced at once.
            let State::Pending(ticket) = mem::replace(&mut *state, State::Failed(Failure::Failed))
            else {
                unreachable!("it is pending")
            };
            *state = match ticket.wait() {
                Ok(output) => State::Answered(Answer::new(py, &output, &self.info)?),
                Err(failure) => State::Failed(failure),
            };
        }
        match &*state {
            State::Answered(answer) => Ok(Some(answer.clone_ref(py))),
            State::Failed(failure) => Err(errors::failed(*failure)),
            State::Pending(_) => unreachable!("it has ended"),
        }
    }
}

#[pymethods]
impl Ticket {
    /// Blocks until the answer is there, no longer than `timeout` seconds: then `TimeoutError`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<Answer>> {
        let timeout = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let spin = timeout.map_or(self.info.spin, |timeout| timeout.min(self.info.spin));
        if let Some(answer) = self.look(py)? {
            return Ok(answer);
        }
        let is_ended = || self.answers.get(self.number).is_some();
        py.detach(|| spin_until(is_ended, spin));
        loop {
            if let Some(answer) = self.look(py)? {
                return Ok(answer);
            }
            if self.is_forked() {
                return Err(errors::forked());
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Err(PyTimeoutError::new_err("the request has no answer yet"));
            }
            py.detach(|| blocking::sleep(until));
            py.check_signals()?;
        }
    }

    /// Whether it has ended: `wait` would not block.
    fn done(&self) -> bool {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Pending(ticket) => ticket.is_ended(),
            _ => true,
        }
    }

    /// Asks for the request to be cancelled. It still ends: as `Cancelled`, or otherwise if it does
    /// so first.
    fn cancel(&self) {
        if let State::Pending(ticket) = &*self.state.lock().unwrap_or_else(PoisonError::into_inner)
        {
            ticket.cancel();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_forked() {
            // It is the other process's to cancel.
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(mem::replace(state, State::Failed(Failure::ShutDown)));
        }
    }
}
