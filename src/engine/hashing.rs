//! Keys of images, by which the engine knows those that it has seen before.
//!
//! Invariant: images of one key are taken for equal, so a key is a 128-bit hash that nobody can
//! foresee who lacks the secret, and the secret is drawn for each engine and leaves it never. Knows
//! nothing of what is done with keys.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::error::{Error, Kind, Result};

/// Timed runs, the shortest of which counts.
const RUN_LEN: usize = 5;

/// Of an image's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u64; 2]);

impl Hash for Key {
    /// A part of it will do: its bits are as good as drawn.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Of keys, for tables: what they are themselves.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys alone are hashed, by a whole word");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// Hashes images on the threads that commit them.
pub(super) struct Hashing {
    secret: [u8; 32],
    /// By image slot: its owner's, as its bytes are.
    keys: Box<[[AtomicU64; 2]]>,
    is_on: AtomicBool,
}

impl Hashing {
    pub(super) fn new(slot_len: usize) -> Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| {
            let message = format!("the system gives no random key for the cache: {error}");
            Error::new(Kind::Io, message)
        })?;
        let keys = (0..slot_len).map(|_| [const { AtomicU64::new(0) }; 2]).collect();
        Ok(Self { secret, keys, is_on: AtomicBool::new(true) })
    }

    /// Whether images are to be hashed.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Says whether images are to be hashed.
    pub(super) fn set_on(&self, is_on: bool) {
        // Relaxed, as its reading: a request says itself whether it was hashed.
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Hashes the images of slots for the one who takes them next, if images are to be hashed.
    pub(super) fn store<'a>(&self, images: impl Iterator<Item = (u32, &'a [u8])>) -> bool {
        let is_on = self.is_on();
        if is_on {
            for (slot, image) in images {
                // Relaxed, as below: a key passes from owner to owner with its slot.
                let words = self.keys[slot as usize].iter().zip(self.hash(image).0);
                words.for_each(|(place, word)| place.store(word, Ordering::Relaxed));
            }
        }
        is_on
    }

    /// What was stored for a slot.
    pub(super) fn key(&self, slot: u32) -> Key {
        Key([0, 1].map(|word| self.keys[slot as usize][word].load(Ordering::Relaxed)))
    }

    /// How long hashing an image takes, in nanoseconds.
    pub(super) fn cost_ns(&self, image_bytes: usize) -> f64 {
        let image = vec![0; image_bytes];
        let run = |_| {
            let start = Instant::now();
            std::hint::black_box(self.hash(std::hint::black_box(&image)));
            start.elapsed().as_nanos() as f64
        };
        (0..RUN_LEN).map(run).fold(f64::INFINITY, f64::min)
    }

    fn hash(&self, image: &[u8]) -> Key {
        let hash = blake3::keyed_hash(&self.secret, image);
        let word = |at: usize| u64::from_le_bytes(*hash.as_bytes()[at..].first_chunk().unwrap());
        Key([word(0), word(8)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_every_byte_and_of_one_engine() {
        let [one, other] = [0, 1].map(|_| Hashing::new(1).unwrap());
        let image = vec![7; 3000];
        let key = one.hash(&image);
        assert_eq!(key, one.hash(&image));
        assert_ne!(key, other.hash(&image));
        for byte in [0, 1, 1023, 1024, 2047, 2999] {
            let mut changed = image.clone();
            changed[byte] ^= 1;
            let changed = one.hash(&changed);
            assert!(key.0[0] != changed.0[0] && key.0[1] != changed.0[1], "byte {byte}");
        }
        assert!(one.store([(0, &image[..])].into_iter()));
        assert_eq!(one.key(0), key);
        one.set_on(false);
        assert!(!one.store([(0, &image[1..])].into_iter()));
        assert_eq!(one.key(0), key);
    }
}
