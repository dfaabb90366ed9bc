//! A small generator of random numbers, the same ones for the same seed.

pub struct Random(u64);

impl Random {
    /// `seed` is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to `end`, without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    /// True once in `len` times.
    pub fn once_in(&mut self, len: usize) -> bool {
        self.below(len) == 0
    }

    pub fn choose<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for index in 1..values.len() {
            values.swap(index, self.below(index + 1));
        }
    }
}
