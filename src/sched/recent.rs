//! The latest values of a series, kept sorted so that any quantile is read at once.
//!
//! Invariant: `sorted` holds exactly the values of the ring. Never allocates.

/// Values kept: enough for a 95 % quantile, few enough to follow a change quickly.
const CAPACITY: usize = 32;

/// The latest 32 values.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    ring: [f64; CAPACITY],
    sorted: [f64; CAPACITY],
    next: usize,
    len: usize,
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self { ring: [0.0; CAPACITY], sorted: [0.0; CAPACITY], next: 0, len: 0 }
    }

    /// Adds a value that is not NaN; the oldest one leaves when there is no room.
    pub(super) fn push(&mut self, value: f64) {
        let place = self.position(value);
        if self.len < CAPACITY {
            self.sorted.copy_within(place..self.len, place + 1);
            self.sorted[place] = value;
            self.len += 1;
        } else {
            // Only those between the one that leaves and the one that comes move.
            let gone = self.position(self.ring[self.next]);
            if place > gone {
                self.sorted.copy_within(gone + 1..place, gone);
                self.sorted[place - 1] = value;
            } else {
                self.sorted.copy_within(place..gone, place + 1);
                self.sorted[place] = value;
            }
        }
        self.ring[self.next] = value;
        self.next = (self.next + 1) % CAPACITY;
    }

    /// Forgets every value.
    pub(super) fn clear(&mut self) {
        self.next = 0;
        self.len = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value that a share `quantile` (0 to 1) of the values stays below or at; 0 if none.
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        if self.len == 0 {
            return 0.0;
        }
        self.sorted[(quantile * (self.len - 1) as f64 + 0.5) as usize]
    }

    fn position(&self, value: f64) -> usize {
        self.sorted[..self.len].partition_point(|&other| other < value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against sorting the latest values anew, through several turns of the ring.
    #[test]
    fn quantiles_are_those_of_the_latest_values() {
        let mut recent = Recent::new();
        assert_eq!(recent.quantile(0.5), 0.0);
        let values: Vec<f64> = (0..1000_u64).map(|i| (i * i * 7919 % 1009) as f64).collect();
        for end in 1..=values.len() {
            recent.push(values[end - 1]);
            let mut latest = values[end.saturating_sub(CAPACITY)..end].to_vec();
            latest.sort_by(f64::total_cmp);
            for quantile in [0.0, 0.5, 0.95, 1.0] {
                let expected = latest[(quantile * (latest.len() - 1) as f64).round() as usize];
                assert_eq!(recent.quantile(quantile), expected);
            }
        }
    }
}
