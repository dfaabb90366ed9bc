//! Requests that are announced: their places are leased, their bytes are still on the way.
//!
//! How long announcements last until the request is there is learnt from the latest ones; one that
//! came to nothing lasted for ever. So does one that is older than all that came. Never allocates
//! after construction. What to do about them is not known here.

use super::durations::Durations;

/// Announcements known at a time: as many as could share a batch at a load at which waiting pays.
const PLACE_LEN: usize = 32;
/// The latest announcements that are learnt from.
const WINDOW_LEN: usize = 256;
/// So few tell nothing.
const KNOWN_MIN: usize = 8;
/// What an announcement that comes to nothing lasts: longer than any that does not.
const NEVER_NS: u64 = u64::MAX;
const LONG_NS: f64 = 1e15;

/// Announcements that are open, and what has become of others.
#[derive(Clone, Debug)]
pub struct Announcements {
    /// By place: when it was announced.
    since_ns: [u64; PLACE_LEN],
    /// Places in use, a bit each.
    open: u32,
    durations: Durations,
    /// What is due may be so much late.
    off_ns: u64,
}

/// A request that may come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Announced {
    /// When it is expected, in nanoseconds from now.
    pub in_ns: f64,
    /// How likely it comes at all, from 0 to 1.
    pub likely: f64,
}

impl Announcements {
    /// Announcements that may be open at a time, by number from 0.
    pub const PLACE_LEN: usize = PLACE_LEN;

    /// None yet; requests may come `off_ns` later than expected.
    pub fn new(off_ns: u64) -> Self {
        let durations = Durations::new(WINDOW_LEN);
        Self { since_ns: [0; PLACE_LEN], open: 0, durations, off_ns }
    }

    /// Takes note that a request was announced at `since_ns`.
    ///
    /// # Panics
    /// If there is no such place.
    pub fn announced(&mut self, since_ns: u64, place: usize) {
        self.since_ns[place] = since_ns;
        self.open |= 1 << place;
    }

    /// Takes note that the announced request is there, or will not be.
    ///
    /// # Panics
    /// If there is no such place.
    pub fn ended(&mut self, now_ns: u64, place: usize, is_there: bool) {
        if self.open & 1 << place != 0 {
            self.open &= !(1 << place);
            let lasted_ns = now_ns.saturating_sub(self.since_ns[place]);
            self.durations.add(if is_there { lasted_ns } else { NEVER_NS });
        }
    }

    /// Requests that may come, the soonest first.
    pub fn due(&self, now_ns: u64) -> impl Iterator<Item = Announced> + use<> {
        let mut due = [Announced::default(); PLACE_LEN];
        let mut len = 0;
        let mut open = if self.durations.len() < KNOWN_MIN { 0 } else { self.open };
        while open != 0 {
            let place = open.trailing_zeros() as usize;
            open &= open - 1;
            let announced = self.expected(now_ns.saturating_sub(self.since_ns[place]) as f64);
            if announced.likely > 0.0 {
                due[len] = announced;
                len += 1;
            }
        }
        due[..len].sort_unstable_by(|one, other| one.in_ns.total_cmp(&other.in_ns));
        due.into_iter().take(len)
    }

    /// What becomes of a request that was announced `age_ns` ago.
    fn expected(&self, age_ns: f64) -> Announced {
        let (mut longer, mut come, mut sum_ns) = (0.0, 0.0, 0.0);
        for alike in self.durations.iter() {
            if alike.mean_ns + (self.off_ns as f64) < age_ns {
                continue;
            }
            longer += alike.len;
            if alike.mean_ns < LONG_NS {
                come += alike.len;
                sum_ns += alike.len * (alike.mean_ns - age_ns).max(0.0);
            }
        }
        if come == 0.0 {
            return Announced::default();
        }
        Announced { in_ns: sum_ns / come, likely: come / longer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_expected_as_others_came() {
        let mut announcements = Announcements::new(10);
        for i in 0..16 {
            let now_ns = 10_000 * i;
            announcements.announced(now_ns, 3);
            // Three in four come after 1 µs, the others never.
            announcements.ended(now_ns + 1_000, 3, i % 4 != 0);
        }
        announcements.announced(200_000, 7);
        announcements.announced(200_400, 0);
        let due: Vec<_> = announcements.due(200_500).collect();
        assert_eq!(due, [500.0, 900.0].map(|in_ns| Announced { in_ns, likely: 0.75 }));
        // One that is late by more than they ever were will not come.
        let due: Vec<_> = announcements.due(201_100).collect();
        assert_eq!(due, [Announced { in_ns: 300.0, likely: 0.75 }]);
        announcements.ended(201_500, 0, true);
        assert_eq!(announcements.due(201_500).count(), 0);
    }

    #[test]
    fn too_few_tell_nothing() {
        let mut announcements = Announcements::new(10);
        let end = |announcements: &mut Announcements| {
            announcements.announced(0, 0);
            announcements.ended(5, 0, true);
        };
        announcements.announced(6, 1);
        (0..7).for_each(|_| end(&mut announcements));
        assert_eq!(announcements.due(7).count(), 0);
        end(&mut announcements);
        assert_eq!(announcements.due(7).count(), 1);
    }

    /// What was announced hundreds of times ago is forgotten, and not sooner.
    #[test]
    fn the_latest_count() {
        let mut announcements = Announcements::new(10);
        let end = |announcements: &mut Announcements, len: usize, is_there: bool| {
            for _ in 0..len {
                announcements.announced(0, 0);
                announcements.ended(1_000, 0, is_there);
            }
            announcements.announced(0, 1);
            let likely = announcements.due(500).next().map(|due| due.likely);
            announcements.ended(0, 1, false);
            likely
        };
        assert_eq!(end(&mut announcements, 100, true), Some(1.0));
        let likely = end(&mut announcements, 99, false).unwrap();
        assert!((0.49..0.51).contains(&likely), "{likely}");
        assert_eq!(end(&mut announcements, 256, false), None);
    }
}
