//! Several lanes behind one queue, evenly out of phase.
//!
//! A device that has a batch every T keeps an image waiting for T/2 on average; n of them, each
//! T/n behind the one before, for T/(2n). Taking all that waits does not keep them so: who starts
//! late takes more, ends later, and they fall into step. So it is the length of a batch that is
//! chosen, so that its lane ends when it is that lane's turn, and a batch starts once so many wait.
//!
//! Turns are evenly spread: of n lanes by when they are free, the next n batches end n, n + 1, …
//! times a gap from now, and serve what waits and what comes while they start. That gives the gap,
//! and with it the length, a line in what waits; it asks for as many as it gives at its fixed
//! point. The longest lane to be free looks ahead less far where lanes differ much.
//!
//! Where the fixed cost is small nothing is gained by a batch that long, and each image of it waits
//! for all: there the sum that `batch_len` goes by cuts it. With one lane in use all are taken.

use super::forecast::SPARE_MIN;
use super::{Decision, Reason, View, batch_len};
use crate::sched::line::Stage;
use crate::sched::policy::LaneView;

/// A batch may start so much before as many wait as its turn asks for, as a share of them, …
const EARLY: f64 = 0.05;
/// … more where the fixed cost is small, …
const EARLY_PER_FIXED: f64 = 0.25;
/// … but so many images at most.
const EARLY_MAX: f64 = 2.5;
/// Images that cost less to compute than this share of a batch's fixed cost are not worth two
/// batches: with many lanes, and what is added with fewer.
const SMALL: f64 = 0.3;
const SMALL_PER_LANE: f64 = 0.4;
/// Lanes whose batches take so many times as long as others' are slower, rather than measured so.
const SLOWER: f64 = 1.25;
/// Slower lanes are in use where the square root of the fixed cost is so many times that of theirs.
const WORTH: f64 = 2.0;
/// A batch is cut where the queue is so many times what would be cut on one lane: the turns of the
/// others are upset by that, too.
const BACKLOG: f64 = 3.0;

/// What the lanes that are in use have to do with one another.
struct Turn {
    /// The length that ends at this lane's turn: `per_waiting` times those that wait, and `rest`.
    per_waiting: f64,
    rest: f64,
    /// How fast the length that is asked for falls, in images a nanosecond.
    fall_per_ns: f64,
    /// Whether any lane is busy.
    is_busy: bool,
}

/// The lanes that are in use, and the arrivals at all of them.
struct Fleet<'a> {
    view: &'a View<'a>,
    arrivals_per_ns: f64,
    /// Share of the lanes' time that the arrivals leave.
    spare: f64,
    /// The length by which lanes are compared, and the longest time of one that is in use.
    typical_len: usize,
    used_ns: f64,
}

impl<'a> Fleet<'a> {
    fn new(view: &'a View<'a>) -> Self {
        let share_per_ns = view.steady_arrivals_per_ns.unwrap_or(view.arrivals_per_ns);
        let capacity_per_ns: f64 = view.lanes.iter().map(images_per_ns).sum();
        let most_per_ns = (1.0 - SPARE_MIN) * capacity_per_ns;
        let arrivals_per_ns = (share_per_ns * view.lanes.len() as f64).min(most_per_ns);
        let spare = 1.0 - arrivals_per_ns / capacity_per_ns;
        let compute = view.lanes[0].compute;
        let typical = (1.0 - spare) / spare * compute.fixed_ns / compute.per_image_ns.max(1.0);
        let typical_len = (typical as usize).clamp(1, view.batch_len_max);
        let mut fleet = Self { view, arrivals_per_ns, spare, typical_len, used_ns: 0.0 };
        fleet.choose();
        fleet
    }

    /// Takes the lanes into use that are worth it, the quickest first.
    fn choose(&mut self) {
        let time_ns = |at: &LaneView| at.compute.at_ns(self.typical_len);
        let (mut used_ns, mut used_per_ns, mut weight) = (0.0, 0.0, 0.0);
        loop {
            let slower = self.view.lanes.iter().filter(|at| time_ns(at) > used_ns);
            let next_ns = slower.map(time_ns).fold(f64::INFINITY, f64::min);
            if next_ns == f64::INFINITY {
                break;
            }
            let is_next = |at: &&LaneView| (next_ns..=SLOWER * next_ns).contains(&time_ns(at));
            let alike = || self.view.lanes.iter().filter(is_next);
            let fixed_ns = alike().map(|at| at.compute.fixed_ns).fold(f64::INFINITY, f64::min);
            let spare_per_ns = used_per_ns - self.arrivals_per_ns;
            if spare_per_ns > 0.0 && weight / spare_per_ns <= WORTH * fixed_ns.sqrt() {
                break;
            }
            used_per_ns += alike().map(images_per_ns).sum::<f64>();
            weight +=
                alike().map(|at| at.compute.fixed_ns.sqrt() * images_per_ns(at)).sum::<f64>();
            used_ns = SLOWER * next_ns;
        }
        self.used_ns = used_ns;
    }

    fn is_used(&self, at: &LaneView) -> bool {
        at.compute.at_ns(self.typical_len) <= self.used_ns
    }

    fn used(&self) -> impl Iterator<Item = &LaneView> {
        self.view.lanes.iter().filter(|at| self.is_used(at))
    }

    /// How long a lane is busy beyond an upload that starts now.
    fn busy_ns(&self, at: &LaneView, upload_len: usize) -> f64 {
        let upload_ns = if upload_len > 0 { at.upload.at_ns(upload_len) } else { 0.0 };
        ((at.free_ns - self.view.now_ns) as f64 - upload_ns).max(0.0)
    }

    /// The turn of this lane, if its batch's upload is as long as that of `upload_len` images.
    fn turn(&self, upload_len: usize) -> Turn {
        let own = &self.view.lanes[self.view.rank];
        let len = self.used().count() as f64;
        let (mut busy_max_ns, mut owed, mut per_ns, mut busy_per_ns) = (0.0_f64, 0.0, 0.0, 0.0);
        let (mut work, mut turns, mut own_turn) = (0.0, 0.0, len);
        for (rank, at) in self.used().enumerate() {
            let (busy_ns, speed) = (self.busy_ns(at, upload_len), images_per_ns(at));
            let turn = len + rank as f64;
            if at.lane == own.lane {
                own_turn = turn;
            }
            busy_max_ns = busy_max_ns.max(busy_ns);
            owed += busy_ns * speed;
            per_ns += speed;
            if busy_ns > 0.0 {
                busy_per_ns += speed;
            }
            work += (busy_ns + at.compute.fixed_ns) * speed;
            turns += turn * speed;
        }
        let horizon_ns = busy_max_ns.min(2.0 * owed / per_ns);
        let own_per_ns = images_per_ns(own);
        let per_waiting = own_turn / turns * own_per_ns;
        let served = self.arrivals_per_ns * horizon_ns + work;
        let own_ns = own.compute.fixed_ns + self.busy_ns(own, upload_len);
        Turn {
            per_waiting,
            rest: per_waiting * served - own_ns * own_per_ns,
            fall_per_ns: per_waiting * (self.arrivals_per_ns + busy_per_ns)
                / (1.0 - per_waiting).max(1e-9),
            is_busy: busy_max_ns > 0.0,
        }
    }
}

impl Turn {
    /// Images that have to wait before a batch of this lane starts.
    fn wanted_len(&self, images_of_fixed: f64) -> f64 {
        if self.per_waiting >= 1.0 || !self.is_busy {
            return 0.0;
        }
        let len = self.rest / (1.0 - self.per_waiting);
        let early = EARLY + EARLY_PER_FIXED / images_of_fixed.max(1e-9);
        (len * (1.0 - early)).max(len - EARLY_MAX)
    }

    /// The length that ends at this lane's turn.
    fn len(&self, waiting_len: usize) -> f64 {
        self.per_waiting * waiting_len as f64 + self.rest
    }
}

/// What the lane does with those that wait.
pub(super) fn upload(view: &View<'_>) -> Decision {
    let own = &view.lanes[view.rank];
    if !own.may_take {
        return Decision::HOLD;
    }
    let fleet = Fleet::new(view);
    if !fleet.is_used(own) {
        return spare(view, &fleet);
    }
    let before = &view.lanes[..view.rank];
    if before.iter().any(|at| at.may_take && fleet.is_used(at)) {
        return Decision::HOLD;
    }
    let most_len = view.batch_len();
    let first_len = fleet.turn(0).len(view.waiting_len).clamp(1.0, most_len as f64);
    let turn = fleet.turn(first_len as usize);
    let images_of_fixed = own.compute.fixed_ns * images_per_ns(own);
    let wanted_len = turn.wanted_len(images_of_fixed).min(view.batch_len_max as f64);
    let missing = wanted_len - view.waiting_len as f64;
    if missing > 1e-9 && !view.is_draining {
        let wait_ns = missing / turn.fall_per_ns.max(f64::MIN_POSITIVE);
        return Decision::until(view.now_ns + wait_ns.max(1.0) as u64 + 1);
    }
    let small = (SMALL + SMALL_PER_LANE / view.lanes.len() as f64) * images_of_fixed;
    let mut len = most_len;
    if view.waiting_len as f64 > small {
        len = (turn.len(view.waiting_len).max(small).round() as usize).clamp(1, most_len);
    }
    let weight =
        BACKLOG * view.waiting_len as f64 / (fleet.spare * fleet.used().count() as f64);
    len = batch_len(view, weight, len);
    let upload_ns = view.cost.predict_ns(Stage::Upload, len);
    let start_ns = own.free_ns.saturating_sub(upload_ns);
    if view.now_ns < start_ns {
        return Decision::until(start_ns);
    }
    let reason = match (own.free_ns > view.now_ns, len < view.waiting_len) {
        (true, _) => Reason::JustInTime,
        (false, true) => Reason::Full,
        (false, false) => Reason::Idle,
    };
    Decision::go(len, reason)
}

/// A lane that is not in use takes what the others would be done with later than it.
fn spare(view: &View<'_>, fleet: &Fleet<'_>) -> Decision {
    let own = &view.lanes[view.rank];
    let others_ns = fleet
        .used()
        .map(|at| fleet.busy_ns(at, 0) + at.compute.at_ns(view.waiting_len))
        .fold(f64::INFINITY, f64::min);
    let len = ((others_ns - own.compute.fixed_ns) * images_per_ns(own)) as usize;
    let len = len.min(view.waiting_len / 2);
    if len == 0 || own.free_ns > view.now_ns {
        return Decision::HOLD;
    }
    Decision::go(len, Reason::Idle)
}

/// Images that a lane computes a nanosecond in endless batches.
fn images_per_ns(at: &LaneView) -> f64 {
    1.0 / at.compute.per_image_ns.max(1.0)
}
