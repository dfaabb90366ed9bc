//! Whether hashing images pays.
//!
//! An account of callers' time in nanoseconds. Each image that is hashed costs what hashing takes;
//! each whose answer is there, or on its way, earns what an image by itself takes to pass all
//! stages, which its caller would have waited for at the least. Once nothing is left, images are no
//! longer hashed, but for some in a row now and then, which takes 1/500 of a processor's time. For
//! these there is credit, and where it lasts, so does hashing. What was earned long ago is not to
//! cover what is lost now, so the account has a limit. Knows no images; reads no clock.

/// Images whose hashing is covered as the account is opened, and at most.
const CREDIT_LEN: f64 = 1024.0;
/// Images in a row for which there is credit once it was used up.
const PROBE_LEN: f64 = 64.0;
/// Their hashing takes so small a part of the time from one such row to the next.
const PROBE_ONE_IN: f64 = 500.0;

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Account {
    hash_ns: f64,
    credit_ns: f64,
    /// When images are hashed again; none while they are.
    due_ns: Option<u64>,
}

impl Account {
    /// Hashing an image takes so long.
    pub(in crate::engine) fn new(hash_ns: f64) -> Self {
        let hash_ns = hash_ns.max(1.0);
        Self { hash_ns, credit_ns: CREDIT_LEN * hash_ns, due_ns: None }
    }

    /// Whether images are to be hashed.
    pub(in crate::engine) fn is_on(&self) -> bool {
        self.due_ns.is_none()
    }

    /// An image was hashed, which saved its caller so much.
    pub(in crate::engine) fn hashed(&mut self, now_ns: u64, saved_ns: f64) {
        let credit_ns = self.credit_ns + saved_ns - self.hash_ns;
        self.credit_ns = credit_ns.min(CREDIT_LEN * self.hash_ns);
        if self.credit_ns <= 0.0 && self.is_on() {
            self.due_ns = Some(now_ns + (PROBE_ONE_IN * PROBE_LEN * self.hash_ns) as u64);
        }
    }

    /// It is so late now.
    pub(in crate::engine) fn passed(&mut self, now_ns: u64) {
        if self.due_ns.is_some_and(|due_ns| now_ns >= due_ns) {
            self.due_ns = None;
            self.credit_ns = PROBE_LEN * self.hash_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH_NS: f64 = 20_000.0;
    const GAP_NS: u64 = 100_000;

    /// An account in virtual time.
    struct Play {
        account: Account,
        now_ns: u64,
    }

    impl Play {
        fn new() -> Self {
            Self { account: Account::new(HASH_NS), now_ns: 0 }
        }

        /// How many of so many images are hashed, where the n-th would save so much.
        fn hashed_len(&mut self, image_len: usize, saves_ns: impl Fn(usize) -> f64) -> usize {
            let mut hashed_len = 0;
            for image in 0..image_len {
                self.now_ns += GAP_NS;
                if self.account.is_on() {
                    hashed_len += 1;
                    self.account.hashed(self.now_ns, saves_ns(image));
                }
                self.account.passed(self.now_ns);
            }
            hashed_len
        }
    }

    #[test]
    fn unique_images_are_hashed_once_in_a_while() {
        let mut play = Play::new();
        assert_eq!(play.hashed_len(1024, |_| 0.0), 1024);
        assert!(!play.account.is_on());
        // From row to row it is 500 times what 64 hashes take, and those themselves.
        let rows = 20;
        let image_len = rows * (500 * 64 * HASH_NS as usize / GAP_NS as usize + 64);
        assert_eq!(play.hashed_len(image_len, |_| 0.0), rows * 64);
        let busy_ns = rows as f64 * 64.0 * HASH_NS;
        assert!(busy_ns <= image_len as f64 * GAP_NS as f64 / 500.0);
    }

    #[test]
    fn hits_that_pay_keep_it_on_and_those_that_do_not_turn_it_off() {
        // One in ten is a hit. It pays where that saves more than ten hashes.
        for (saved_ns, is_on) in [(11.0 * HASH_NS, true), (9.0 * HASH_NS, false)] {
            let saves_ns = |image| if image % 10 == 0 { saved_ns } else { 0.0 };
            let hashed_len = Play::new().hashed_len(1_000_000, saves_ns);
            assert_eq!(hashed_len == 1_000_000, is_on, "{saved_ns}: {hashed_len}");
            assert!(is_on || hashed_len < 150_000, "{hashed_len}");
        }
    }

    #[test]
    fn it_comes_back_when_hits_do_and_forgets_what_it_earned() {
        let mut play = Play::new();
        play.hashed_len(500_000, |_| 0.0);
        // The next images in a row that are hashed are hits.
        let hashed_len = play.hashed_len(100_000, |_| 2.0 * HASH_NS);
        assert!(hashed_len > 100_000 - 6_500, "{hashed_len}");
        // As long as the good times were, no more than the limit is spent after them.
        assert_eq!(play.hashed_len(6_000, |_| 0.0), 1024);
    }
}
