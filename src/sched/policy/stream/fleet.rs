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
/// Who waits looks again after so much of the time of an image at the soonest.
const LOOK: f64 = 1e-3;

/// What the lanes that are in use have to do with one another.
struct Turn {
    /// The length that ends at this lane's turn: `per_waiting` times those that wait, and `rest`.
    per_waiting: f64,
    rest: f64,
    /// How fast the length that is asked for falls, in images a nanosecond.
    fall_per_ns: f64,
    /// Whether any lane is busy.
    is_busy: bool,
    /// Lanes in use, and the images that they could compute in the time for which they are busy.
    lane_len: f64,
    owed_len: f64,
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
            weight += alike().map(|at| at.compute.fixed_ns.sqrt() * images_per_ns(at)).sum::<f64>();
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

    /// At least `len`, or longer where a shared link could not keep up: as long as the time that
    /// all who wait take, with those to come, outweighs that of one batch.
    fn len_by_link(&self, len: usize, most_len: usize) -> usize {
        let own = &self.view.lanes[self.view.rank];
        let lane_len = self.used().count() as f64;
        let (waiting, per_ns) = (self.view.waiting_len as f64, self.arrivals_per_ns);
        // Time an image, and whether it is the link's.
        let each_ns = |len: usize| {
            let (upload_ns, compute_ns) = (own.upload.at_ns(len), own.compute.at_ns(len));
            let both_ns = upload_ns.max(compute_ns / lane_len);
            (both_ns / len as f64, upload_ns * lane_len > compute_ns)
        };
        let price_ns = |len: usize, each_ns: f64| {
            let spare = (1.0 - per_ns * each_ns).max(SPARE_MIN);
            waiting * each_ns / spare + len as f64 * each_ns + 2.0 * own.compute.at_ns(len)
        };
        let (mut len, (mut each, mut is_link)) = (len, each_ns(len));
        while is_link && len < most_len {
            let longer_len = (len + 1 + len / 4).min(most_len);
            let (longer_each, is_still_link) = each_ns(longer_len);
            if price_ns(longer_len, longer_each) >= price_ns(len, each) {
                break;
            }
            (len, each, is_link) = (longer_len, longer_each, is_still_link);
        }
        len
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
            lane_len: len,
            owed_len: owed,
        }
    }
}

impl Turn {
    /// Images that have to wait before a batch of this lane starts.
    fn wanted_len(&self, images_of_fixed: f64) -> f64 {
        if self.lane_len < 2.0 || !self.is_busy {
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
    let late_ns = latest_start_ns(view);
    if missing > 1e-9 && view.now_ns < late_ns && !view.is_draining {
        let wait_ns = (missing / turn.fall_per_ns).max(LOOK * own.compute.per_image_ns);
        return Decision::until((view.now_ns + 1 + wait_ns as u64).min(late_ns));
    }
    let small = (SMALL + SMALL_PER_LANE / view.lanes.len() as f64) * images_of_fixed;
    let mut len = most_len;
    if view.waiting_len as f64 > small {
        len = (turn.len(view.waiting_len).max(small).round() as usize).clamp(1, most_len);
    }
    let weight = (view.waiting_len as f64 + turn.owed_len) / (fleet.spare * turn.lane_len);
    len = batch_len(view, weight, len);
    if view.is_link_shared {
        len = fleet.len_by_link(len, most_len);
    }
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

/// Until when a batch of all that wait may wait for more without missing the earliest deadline.
fn latest_start_ns(view: &View<'_>) -> u64 {
    let Some(deadline_ns) = view.earliest_deadline_ns else { return u64::MAX };
    let len = view.batch_len();
    let compute_ns = deadline_ns.saturating_sub(view.cost.finish_high_ns(len));
    if compute_ns < view.lanes[view.rank].free_ns {
        return 0;
    }
    compute_ns.saturating_sub(view.cost.predict_high_ns(Stage::Upload, len))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::announced::Announcements;
    use crate::sched::cost::CostModel;
    use crate::sched::echo::Echo;
    use crate::sched::gaps::ArrivalGaps;
    use crate::sched::line::{Line, Stages};

    const US: u64 = 1_000;
    const NOW_NS: u64 = 1_000_000 * US;
    const COMPUTE: Line = Line::new(500_000.0, 25_000.0);

    fn lane(lane: usize, busy_us: u64, compute: Line) -> LaneView {
        let upload = Line::new(12_000.0, 6_000.0);
        let free_ns = NOW_NS + busy_us * US;
        LaneView { lane, free_ns, may_take: true, upload, compute }
    }

    /// What the lane of a rank is told with so many waiting at a load of 0.7; `change` changes what
    /// it is shown.
    fn answer(
        (lanes, rank): (&[LaneView], usize),
        waiting_len: usize,
        change: impl FnOnce(&mut View<'_>),
    ) -> Decision {
        let LaneView { upload, compute, .. } = lanes[rank];
        let mut view = View {
            now_ns: NOW_NS,
            waiting_len,
            oldest_arrival_ns: NOW_NS,
            latest_arrival_ns: NOW_NS,
            uploading_len: 0,
            upload_free_ns: NOW_NS,
            resident_len: 0,
            computing_len: 0,
            compute_free_ns: lanes[rank].free_ns,
            batches_in_flight_len: 0,
            downloading_len: 0,
            unanswered_len: waiting_len,
            batch_len_max: 256,
            latency_bound_ns: None,
            arrivals_per_ns: 0.7 / 25_000.0,
            steady_arrivals_per_ns: None,
            earliest_deadline_ns: None,
            gaps: &ArrivalGaps::new(1),
            echo: &Echo::new(1),
            announcements: &Announcements::new(1),
            is_draining: false,
            cost: &CostModel::new(Stages { upload, compute, download: Line::new(0.0, 1.0) }),
            lanes,
            rank,
            is_link_shared: false,
        };
        change(&mut view);
        super::upload(&view)
    }

    fn len(decision: Decision) -> usize {
        let Decision::Go { len, .. } = decision else { panic!("{decision:?}") };
        len
    }

    /// An idle lane beside one that is busy for 1 ms.
    fn pair() -> [LaneView; 2] {
        [lane(0, 0, COMPUTE), lane(1, 1_000, COMPUTE)]
    }

    /// In step with the other lane a batch would be as long as the queue: it takes what ends half
    /// a turn from the other's end, and waits until so many are there.
    #[test]
    fn a_batch_is_as_long_as_its_turn() {
        let pair = pair();
        let lens = [60, 80, 120].map(|waiting_len| len(answer((&pair, 0), waiting_len, |_| ())));
        assert!(lens.is_sorted() && lens[0] > 40 && lens[2] < 100, "{lens:?}");
        let Decision::Hold { until_ns: Some(until_ns) } = answer((&pair, 0), 30, |_| ()) else {
            panic!("a batch of 30 would end before its turn");
        };
        assert!((NOW_NS + 10 * US..NOW_NS + 1_000 * US).contains(&until_ns), "{until_ns}");
        let idle = [lane(0, 0, COMPUTE), lane(1, 0, COMPUTE)];
        assert_eq!(len(answer((&idle, 0), 1, |_| ())), 1, "nobody waits for idle lanes");
    }

    #[test]
    fn only_the_first_lane_that_may_take_does() {
        let mut lanes = pair();
        assert_eq!(answer((&lanes, 1), 80, |_| ()), Decision::HOLD);
        lanes[0].may_take = false;
        assert_eq!(answer((&lanes, 0), 80, |_| ()), Decision::HOLD);
        let Decision::Hold { until_ns: Some(until_ns) } = answer((&lanes, 1), 250, |_| ()) else {
            panic!("it is busy for longer than an upload takes");
        };
        assert!(until_ns > NOW_NS + 100 * US, "{until_ns}");
    }

    #[test]
    fn nobody_waits_beyond_a_deadline_or_the_end() {
        let pair = pair();
        assert_eq!(len(answer((&pair, 0), 30, |view| view.is_draining = true)), 30);
        let by = |after_us: u64| {
            answer((&pair, 0), 30, |view| {
                view.earliest_deadline_ns = Some(NOW_NS + after_us * US);
            })
        };
        // 30 images take 192 + 1,250 µs.
        assert_eq!(by(1_452), Decision::until(NOW_NS + 10 * US - 30));
        assert_eq!(len(by(1_442)), 30);
    }

    /// Where batches do not pay, none is long; where the link of all is what does not keep up, more
    /// go up at once.
    #[test]
    fn batches_are_short_where_only_the_link_wants_them_long() {
        let short = Line::new(2_500.0, 25_000.0);
        let lanes = [lane(0, 0, short), lane(1, 0, short), lane(2, 0, short), lane(3, 0, short)];
        let by_link = |is_link_shared| {
            len(answer((&lanes, 0), 12, |view| view.is_link_shared = is_link_shared))
        };
        let lens = [by_link(false), by_link(true)];
        assert!(lens[0] <= 3 && lens[1] >= 2 * lens[0], "{lens:?}");
    }

    /// At low load a lane of half the speed is left out, but for what the others would take longer
    /// for; at high load it has its turn.
    #[test]
    fn slower_lanes_are_used_where_that_pays() {
        let slow = Line::new(2.5 * COMPUTE.fixed_ns, 2.5 * COMPUTE.per_image_ns);
        let lanes = [lane(1, 0, slow), lane(0, 100, COMPUTE)];
        let at_load = |load: f64, waiting_len: usize| {
            answer((&lanes, 0), waiting_len, |view| {
                view.arrivals_per_ns = load * 0.5 / 25_000.0;
            })
        };
        assert_eq!(at_load(0.1, 4), Decision::HOLD);
        let rest_len = len(at_load(0.1, 150));
        assert!((1..=75).contains(&rest_len), "{rest_len}");
        assert!(len(at_load(0.9, 150)) > 0);
    }
}
