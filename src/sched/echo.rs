//! Whether answers call forth arrivals: clients that wait for their answers, and send again a
//! constant time after them.
//!
//! Answers and arrivals are matched in order. A time that every image of several batches in a row
//! has come back after is believed. It may be chance, as where arrivals come in clumps at fixed
//! times: when answers are given at other times, the arrivals then do not move with them. Each time
//! that a belief breaks, it takes four times as much to come back. Never allocates after
//! construction. What to do about it is not known here.

use std::collections::VecDeque;

/// Answers whose images may all be on their way at a time: those of one think time.
const ANSWER_LEN: usize = 256;
/// Answers that have come back in a row before that is believed.
const NEEDED_MIN: u32 = 16;
const NEEDED_MAX: u32 = 1 << 14;
/// How much harder it is to believe again.
const DOUBT: u32 = 4;

/// A batch that was answered, and how many have come back of it.
#[derive(Clone, Copy, Debug)]
struct Answer {
    at_ns: u64,
    len: usize,
    back_len: usize,
}

/// What arrivals have to do with answers.
#[derive(Clone, Debug)]
pub struct Echo {
    /// Arrivals may be so much off.
    off_ns: u64,
    /// The latest, in order.
    answers: VecDeque<Answer>,
    /// How many of these have come back, or should have.
    over_len: usize,
    think_ns: u64,
    /// Answers that came back in a row, halved by each that did not and each arrival that was none.
    run: u32,
    needed: u32,
    guesses: u32,
    latest_arrival_ns: u64,
}

/// Images that are about to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// When they are due, in nanoseconds of the caller's clock.
    pub at_ns: u64,
    /// How many.
    pub len: usize,
}

impl Echo {
    /// Nothing is known; arrivals that are due may be off by `off_ns`.
    pub fn new(off_ns: u64) -> Self {
        Self {
            off_ns,
            answers: VecDeque::with_capacity(ANSWER_LEN),
            over_len: 0,
            think_ns: 0,
            run: 0,
            needed: NEEDED_MIN,
            guesses: 0,
            latest_arrival_ns: 0,
        }
    }

    /// Takes note of a batch that was answered.
    pub fn answered(&mut self, now_ns: u64, len: usize) {
        if self.answers.len() == ANSWER_LEN {
            self.answers.pop_front();
            match self.over_len.checked_sub(1) {
                Some(over_len) => self.over_len = over_len,
                None => self.missed(),
            }
        }
        self.answers.push_back(Answer { at_ns: now_ns, len, back_len: 0 });
    }

    /// Takes note of an arrival.
    pub fn arrived(&mut self, now_ns: u64) {
        let gap_ns = now_ns.saturating_sub(self.latest_arrival_ns);
        self.latest_arrival_ns = now_ns;
        let early_ns = self.think_ns.saturating_sub(self.off_ns);
        let late_ns = self.think_ns.saturating_add(self.off_ns);
        while let Some(answer) = self.answers.get_mut(self.over_len) {
            if answer.at_ns.saturating_add(late_ns) < now_ns {
                self.over_len += 1;
                self.missed();
                continue;
            }
            if answer.at_ns.saturating_add(early_ns) > now_ns {
                break;
            }
            answer.back_len += 1;
            if answer.back_len == answer.len {
                self.over_len += 1;
                self.came_back();
            }
            return;
        }
        self.missed();
        // Those who came together have one guess.
        if self.run == 0 && gap_ns > self.off_ns {
            self.guess(now_ns);
        }
    }

    /// Time from an answer to its clients' next requests, in nanoseconds, where it is one.
    pub fn think_ns(&self) -> Option<u64> {
        (self.run >= self.needed).then_some(self.think_ns)
    }

    /// What is about to come back, in order; nothing where nothing is believed.
    pub fn due(&self) -> impl Iterator<Item = Return> + '_ {
        let think_ns = self.think_ns();
        self.answers.range(self.over_len..).map_while(move |answer| {
            let at_ns = answer.at_ns.saturating_add(think_ns?);
            Some(Return { at_ns, len: answer.len - answer.back_len })
        })
    }

    /// How much off those may be that are due, in nanoseconds.
    pub fn off_ns(&self) -> u64 {
        self.off_ns
    }

    fn came_back(&mut self) {
        let sure = self.needed.saturating_mul(DOUBT);
        self.run = (self.run + 1).min(sure);
        if self.run == sure {
            self.needed = NEEDED_MIN;
        }
    }

    fn missed(&mut self) {
        let was_believed = self.think_ns().is_some();
        self.run /= 2;
        if was_believed && self.think_ns().is_none() {
            self.needed = self.needed.saturating_mul(DOUBT).min(NEEDED_MAX);
            self.run = 0;
        }
    }

    /// Takes what arrives for an image of a late answer: every second time the latest, every fourth
    /// time the one before it, and so on. Clients in groups have others' answers between theirs.
    fn guess(&mut self, now_ns: u64) {
        self.guesses = self.guesses.wrapping_add(1);
        let back = self.guesses.trailing_zeros() as usize;
        let Some(index) = self.answers.len().checked_sub(1 + back) else { return };
        let answer = &mut self.answers[index];
        answer.back_len = 1;
        self.think_ns = now_ns.saturating_sub(answer.at_ns);
        self.over_len = index + usize::from(answer.len == 1);
        self.answers.range_mut(index + 1..).for_each(|answer| answer.back_len = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINK_NS: u64 = 1_000;

    /// A round of clients that wait: so many are answered, and come back in good time.
    fn round(echo: &mut Echo, now_ns: &mut u64, len: usize) {
        echo.answered(*now_ns, len);
        for _ in 0..len {
            echo.arrived(*now_ns + THINK_NS + 5);
        }
        *now_ns += 5_000 + 37 * (*now_ns % 101);
    }

    #[test]
    fn a_constant_think_time_is_believed() {
        let mut echo = Echo::new(10);
        let mut now_ns = 0;
        // The first round is a guess.
        for _ in 0..16 {
            assert_eq!(echo.think_ns(), None);
            round(&mut echo, &mut now_ns, 3);
        }
        assert_eq!(echo.think_ns(), Some(THINK_NS + 5));
        echo.answered(now_ns, 7);
        let due: Vec<_> = echo.due().collect();
        assert_eq!(due, [Return { at_ns: now_ns + THINK_NS + 5, len: 7 }]);
        echo.arrived(now_ns + THINK_NS);
        assert_eq!(echo.due().map(|due| due.len).sum::<usize>(), 6);
    }

    /// Others who come now and then are no reason to forget what has held for long.
    #[test]
    fn a_stray_arrival_is_no_doubt() {
        let mut echo = Echo::new(10);
        let mut now_ns = 0;
        for index in 0..1_000 {
            round(&mut echo, &mut now_ns, 2);
            if index % 50 == 49 {
                echo.arrived(now_ns - 1_000);
                assert_eq!(echo.think_ns(), Some(THINK_NS + 5), "{index}");
            }
        }
    }

    /// Clumps at fixed times look like clients in step until they are answered at other times; then
    /// it takes four times as long to be taken in again, up to some thousand rounds.
    #[test]
    fn clumps_that_do_not_follow_answers_are_believed_less_and_less() {
        let mut echo = Echo::new(10);
        let mut rounds_before = 0;
        for needed in [16, 64, 256, 1_024, 4_096, 16_384, 16_384] {
            let mut rounds = 0;
            while echo.think_ns().is_none() {
                rounds += 1;
                let at_ns = 10_000 * (rounds_before + rounds);
                (0..4).for_each(|_| echo.arrived(at_ns));
                echo.answered(at_ns + 2_000, 4);
                assert!(rounds <= 2 * needed, "{rounds} rounds of {needed}");
            }
            assert!(rounds >= needed, "{rounds} rounds of {needed}");
            rounds_before += rounds + 1;
            let at_ns = 10_000 * rounds_before;
            (0..4).for_each(|_| echo.arrived(at_ns));
            echo.answered(at_ns + 1_000, 2);
            echo.answered(at_ns + 3_000, 2);
            rounds_before += 1;
            (0..4).for_each(|_| echo.arrived(at_ns + 10_000));
            echo.answered(at_ns + 12_000, 4);
            assert_eq!(echo.think_ns(), None);
        }
    }

    /// Hundreds of single images may be on their way at a time; memory has an end all the same.
    #[test]
    fn hundreds_of_answers_may_be_on_their_way() {
        let mut echo = Echo::new(10);
        let mut now_ns = 0;
        (0..20).for_each(|_| round(&mut echo, &mut now_ns, 1));
        (0..200).for_each(|_| echo.answered(now_ns, 1));
        assert_eq!(echo.due().count(), 200);
        (0..2_000).for_each(|_| echo.answered(now_ns, 1));
        assert!(echo.answers.len() <= 512, "{}", echo.answers.len());
    }

    /// Whatever comes, in whatever order, nothing overflows.
    #[test]
    fn nonsense_is_survived() {
        let mut echo = Echo::new(u64::MAX);
        for now_ns in [0, u64::MAX, 5, u64::MAX, 0] {
            echo.arrived(now_ns);
            echo.answered(now_ns, 1);
            assert!(echo.due().count() <= ANSWER_LEN);
        }
    }
}
