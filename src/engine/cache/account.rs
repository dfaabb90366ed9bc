//! Whether hashing images pays.
//!
//! An account in nanoseconds. Each image that is hashed costs what hashing takes; each whose answer
//! is there, or on its way, earns what the device would have taken for one image more. Once nothing
//! is left, images are no longer hashed, but for some in a row now and then: 1 in 1,024 of all. For
//! these there is credit, and where it lasts, so does hashing. What was earned long ago is not to
//! cover what is lost now, so the account has a limit. Knows neither images nor clocks.

/// Images whose hashing is covered as the account is opened, and at most.
const CREDIT_LEN: f64 = 4096.0;
/// Images in a row for which there is credit once it was used up.
const PROBE_LEN: u32 = 64;
/// Of so many images, one is hashed where none of them pays.
const PROBE_ONE_IN: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Account {
    hash_ns: f64,
    credit_ns: f64,
    /// Images that are still to pass without being hashed.
    skip_len: u32,
}

impl Account {
    /// Hashing an image takes so long.
    pub(in crate::engine) fn new(hash_ns: f64) -> Self {
        let hash_ns = hash_ns.max(1.0);
        Self { hash_ns, credit_ns: CREDIT_LEN * hash_ns, skip_len: 0 }
    }

    /// Whether images are to be hashed.
    pub(in crate::engine) fn is_on(&self) -> bool {
        self.skip_len == 0
    }

    /// An image was hashed, which saved the device so much.
    pub(in crate::engine) fn hashed(&mut self, saved_ns: f64) {
        let credit_ns = self.credit_ns + saved_ns - self.hash_ns;
        self.credit_ns = credit_ns.min(CREDIT_LEN * self.hash_ns);
        if self.credit_ns <= 0.0 && self.is_on() {
            self.skip_len = PROBE_LEN * (PROBE_ONE_IN - 1);
        }
    }

    /// An image was not hashed.
    pub(in crate::engine) fn passed(&mut self) {
        if self.skip_len == 1 {
            self.credit_ns = f64::from(PROBE_LEN) * self.hash_ns;
        }
        self.skip_len = self.skip_len.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH_NS: f64 = 20_000.0;

    /// How many of so many images are hashed, where the n-th would save so much.
    fn play(account: &mut Account, image_len: usize, saves_ns: impl Fn(usize) -> f64) -> usize {
        let mut hashed_len = 0;
        for image in 0..image_len {
            if account.is_on() {
                hashed_len += 1;
                account.hashed(saves_ns(image));
            } else {
                account.passed();
            }
        }
        hashed_len
    }

    #[test]
    fn unique_images_are_hashed_once_in_a_while() {
        let mut account = Account::new(HASH_NS);
        assert_eq!(play(&mut account, 4096, |_| 0.0), 4096);
        assert!(!account.is_on());
        let hashed_len = play(&mut account, 10 * 65_536, |_| 0.0);
        assert_eq!(hashed_len, 640);
    }

    #[test]
    fn hits_that_pay_keep_it_on_and_those_that_do_not_turn_it_off() {
        // One in ten is a hit. It pays where that saves more than ten hashes.
        for (saved_ns, is_on) in [(11.0 * HASH_NS, true), (9.0 * HASH_NS, false)] {
            let mut account = Account::new(HASH_NS);
            let saves_ns = |image| if image % 10 == 0 { saved_ns } else { 0.0 };
            let hashed_len = play(&mut account, 1_000_000, saves_ns);
            assert_eq!(hashed_len == 1_000_000, is_on, "{saved_ns}: {hashed_len}");
            assert!(is_on || hashed_len < 50_000, "{hashed_len}");
        }
    }

    #[test]
    fn it_comes_back_when_hits_do_and_forgets_what_it_earned() {
        let mut account = Account::new(HASH_NS);
        play(&mut account, 500_000, |_| 0.0);
        // The next images in a row that are hashed are hits.
        let hashed_len = play(&mut account, 200_000, |_| 2.0 * HASH_NS);
        assert!(hashed_len > 200_000 - 65_536, "{hashed_len}");
        // As long as the good times were, no more than the limit is spent after them.
        assert_eq!(play(&mut account, 60_000, |_| 0.0), 4096);
    }
}
