//! One bar over several pieces of work that take differently long; a line each where stderr is no
//! terminal.
//!
//! Invariant: the bar never goes back, and is full when the last piece ends. Knows nothing of what
//! is done.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use twinstream::sim::experiment::Progress;

use crate::output::tell;

/// Positions of the bar for a unit of cost: a step may be a small part of one.
const COST_SCALE: u64 = 1_000;

/// Time between two drawings where nothing happens.
const TICK: Duration = Duration::from_millis(500);

pub(crate) struct LongBar {
    line: ProgressBar,
    /// Names of the pieces, and how long they take beside each other.
    pieces: Vec<(&'static str, u64)>,
    state: Mutex<State>,
}

/// How far the current piece has come.
struct State {
    piece: usize,
    start: Instant,
    announced_len: usize,
    done_len: usize,
}

impl LongBar {
    pub(crate) fn new(pieces: Vec<(&'static str, u64)>) -> Self {
        let cost: u64 = pieces.iter().map(|(_, cost)| cost).sum();
        let style = ProgressStyle::with_template("{bar:16} {percent} % · {eta} to go · {msg}")
            .expect("the template is valid");
        let line = ProgressBar::new(cost * COST_SCALE).with_style(style);
        let state = State { piece: 0, start: Instant::now(), announced_len: 0, done_len: 0 };
        if !line.is_hidden() {
            line.enable_steady_tick(TICK);
        }
        Self { line, pieces, state: Mutex::new(state) }
    }

    /// The piece of this index starts.
    pub(crate) fn start(&self, piece: usize) {
        let mut state = self.state.lock().expect("no holder panics");
        *state = State { piece, start: Instant::now(), announced_len: 0, done_len: 0 };
        self.draw(&state);
    }

    /// The current piece is done: tells its results, with the bar out of their way.
    pub(crate) fn end<R>(&self, results: impl FnOnce() -> R) -> R {
        let state = self.state.lock().expect("no holder panics");
        let piece_len = self.pieces.len();
        if self.line.is_hidden() {
            let (name, took) = (self.pieces[state.piece].0, state.start.elapsed().as_secs_f64());
            tell(format_args!("{name}: done in {took:.1} s, {} of {piece_len}", state.piece + 1));
        }
        self.line.set_position(self.cost_before(state.piece + 1) * COST_SCALE);
        drop(state);
        self.line.suspend(results)
    }

    pub(crate) fn clear(&self) {
        self.line.finish_and_clear();
    }

    fn cost_before(&self, piece: usize) -> u64 {
        self.pieces[..piece].iter().map(|(_, cost)| cost).sum()
    }

    fn draw(&self, state: &State) {
        let (name, cost) = self.pieces[state.piece];
        let State { piece, announced_len, done_len, .. } = *state;
        let share = done_len as f64 / announced_len.max(1) as f64;
        let at = self.cost_before(piece) * COST_SCALE + (share * (cost * COST_SCALE) as f64) as u64;
        // Work that is announced late makes the share smaller.
        self.line.set_position(at.max(self.line.position()));
        let rate_hz = done_len as f64 / state.start.elapsed().as_secs_f64().max(1e-3);
        self.line.set_message(format!(
            "{}/{} {name}: {done_len}/{announced_len} runs, {rate_hz:.1}/s",
            piece + 1,
            self.pieces.len(),
        ));
    }
}

impl Progress for LongBar {
    fn announce(&self, step_len: usize) {
        let mut state = self.state.lock().expect("no holder panics");
        state.announced_len += step_len;
        self.draw(&state);
    }

    fn step(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        state.done_len += 1;
        self.draw(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_goes_over_all_pieces_and_never_back() {
        let bar = LongBar::new(vec![("short", 1), ("long", 3)]);
        let at = || bar.line.position();
        assert_eq!(bar.line.length(), Some(4_000));
        bar.start(0);
        bar.announce(2);
        bar.step();
        assert_eq!(at(), 500);
        bar.announce(2);
        assert_eq!(at(), 500, "more to do takes nothing back");
        bar.end(|| ());
        assert_eq!(at(), 1_000);
        bar.start(1);
        assert_eq!(at(), 1_000);
        bar.announce(3);
        bar.step();
        assert_eq!(at(), 2_000);
        bar.end(|| ());
        assert_eq!(at(), 4_000);
    }
}
