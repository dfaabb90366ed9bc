//! Images that are handed over as one, and waited for.
//!
//! Invariant: what does not fit the slots at once goes in pieces of half of them, two at a time, so
//! that the device has work while answers are taken out.

use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::prelude::*;
use twinstream::engine::{ManyTicket, RequestOptions};

use crate::answer::Answer;
use crate::blocking;
use crate::errors;
use crate::images::{Image, prepare_all};
use crate::opening::{Info, Live};

/// Pieces that are on their way at a time.
const PIECES: usize = 2;

/// The answers to all images, in order.
pub(crate) fn infer<'py>(
    py: Python<'py>,
    live: &Live,
    info: &Arc<Info>,
    objects: &[Bound<'py, PyAny>],
) -> PyResult<Vec<Py<Answer>>> {
    let piece_len = match objects.len() <= info.slot_len {
        true => objects.len().max(1),
        false => info.slot_len.div_ceil(PIECES),
    };
    let mut answers = Vec::with_capacity(objects.len());
    let mut pieces = VecDeque::with_capacity(PIECES);
    for (index, piece) in objects.chunks(piece_len).enumerate() {
        let first = index * piece_len;
        let images = read(py, piece, first, info)?;
        if pieces.len() == PIECES {
            take(py, pieces.pop_front(), info, &mut answers)?;
        }
        pieces.push_back(hand_in(py, live, &images)?);
    }
    while !pieces.is_empty() {
        take(py, pieces.pop_front(), info, &mut answers)?;
    }
    Ok(answers)
}

/// The answer to an image that needs no more work.
pub(crate) fn infer_one(
    py: Python<'_>,
    live: &Live,
    info: &Arc<Info>,
    image: Image<'_>,
) -> PyResult<Py<Answer>> {
    let ticket = hand_in(py, live, &[image])?;
    let mut answers = Vec::with_capacity(1);
    take(py, Some(ticket), info, &mut answers)?;
    Ok(answers.remove(0))
}

fn read<'py>(
    py: Python<'py>,
    objects: &[Bound<'py, PyAny>],
    first: usize,
    info: &Info,
) -> PyResult<Vec<Image<'py>>> {
    let read = |(index, object)| Image::of(object, Some(first + index), info);
    let images = objects.iter().enumerate().map(read).collect::<PyResult<Vec<_>>>()?;
    prepare_all(py, images, Some(first), info)
}

fn hand_in(py: Python<'_>, live: &Live, images: &[Image<'_>]) -> PyResult<ManyTicket> {
    let leased = blocking::wait(py, live.engine.lease_many_async(images.len()))?;
    let mut lease = leased.map_err(errors::refused)?;
    for (place, image) in lease.images_mut().zip(images) {
        image.copy_to(py, place)?;
    }
    lease.commit(RequestOptions::default()).map_err(errors::refused)
}

fn take(
    py: Python<'_>,
    ticket: Option<ManyTicket>,
    info: &Arc<Info>,
    answers: &mut Vec<Py<Answer>>,
) -> PyResult<()> {
    let Some(ticket) = ticket else { return Ok(()) };
    for answer in blocking::wait(py, ticket)? {
        answers.push(Answer::new(py, &answer.map_err(errors::failed)?, info)?);
    }
    Ok(())
}
