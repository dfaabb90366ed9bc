//! Requests that are answered as one: their cells, one linked to the next.
//!
//! Invariant: the first cell of a group ends after all others, with all of their answers in place,
//! and alone has a waiter, is cancelled or abandoned. Who takes or drops the answers unlinks each
//! cell before it lets its answer go. A cell by itself is a group of one. Generic in the answer;
//! knows neither rings nor engines.

use super::cell::{Cell, Finished};
use super::sync::Ordering;

/// Links cells at rest, whose requests are about to be handed in, in this order.
pub(super) fn link<T>(cells: &[Cell<T>], mut members: impl Iterator<Item = u32>) {
    let Some(first) = members.next() else { return };
    let (mut last, mut len) = (first, 1);
    for member in members {
        cells[last as usize].link(member);
        (last, len) = (member, len + 1);
    }
    // Relaxed: it comes to the engine with the requests, which alone counts from then on.
    cells[first as usize].left_len.store(len, Ordering::Relaxed);
}

/// Takes a group apart whose requests were not accepted.
pub(super) fn unlink<T>(cells: &[Cell<T>], first: u32) {
    let mut next = Some(first);
    while let Some(cell) = next {
        next = cells[cell as usize].unlink();
    }
}

/// The cells of a group, first to last. It must not be taken apart meanwhile.
pub(super) fn members<T>(cells: &[Cell<T>], first: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(first), |&cell| cells[cell as usize].next())
}

/// Stores the answer of one request of a group; of the last one also what became of the whole.
/// `code` is 0 if it has a result. The whole's is the first in order that is not.
pub(super) fn finish<T>(
    cells: &[Cell<T>],
    first: u32,
    member: u32,
    answer: T,
    code: u8,
) -> Option<Finished> {
    let head = &cells[first as usize];
    if member == first {
        head.keep(answer, code);
    } else {
        cells[member as usize].finish(answer, code);
    }
    // Relaxed: one thread finishes.
    if head.left_len.fetch_sub(1, Ordering::Relaxed) > 1 {
        return None;
    }
    let codes = members(cells, first).map(|cell| cells[cell as usize].own_code());
    let code = codes.into_iter().find(|&code| code != 0).unwrap_or(0);
    let (finished, answer) = head.end(code);
    if let Some(answer) = answer {
        drop_all(cells, first, answer);
    }
    Some(finished)
}

/// The answer in the cell that is next, if it is there; then the one after it is.
pub(super) fn take<T>(cells: &[Cell<T>], next: &mut Option<u32>) -> Option<T> {
    let cell = &cells[(*next)? as usize];
    *next = cell.unlink();
    cell.take()
}

/// Gives up the ticket of a group. True if it is still on its way and should be cancelled.
pub(super) fn abandon<T>(cells: &[Cell<T>], first: u32) -> bool {
    match cells[first as usize].abandon() {
        None => true,
        Some(answer) => {
            drop_all(cells, first, answer);
            false
        }
    }
}

/// Drops every answer of a group that has ended and whose first was taken out.
fn drop_all<T>(cells: &[Cell<T>], first: u32, answer: T) {
    // The cell is unlinked before its answer, and with it the cell, is let go.
    let mut next = cells[first as usize].unlink();
    drop(answer);
    while next.is_some() {
        drop(take(cells, &mut next));
    }
}
