//! The latest durations of some kind, as a histogram.
//!
//! Whole numbers of a window, so that nothing drifts and every platform agrees. Bins are half
//! octaves. Never allocates after construction.

/// Two an octave, up to nine minutes.
const BIN_LEN: usize = 80;
/// A window of longer ones could overflow its sum.
const DURATION_NS_MAX: u64 = u64::MAX >> 11;

/// Durations of about one length.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    len: u32,
    sum_ns: u64,
}

/// Some durations of about one length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alike {
    /// How many.
    pub len: f64,
    /// Their mean in nanoseconds.
    pub mean_ns: f64,
}

/// The latest durations.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    window_ns: Box<[u64]>,
    next: usize,
    bins: [Bin; BIN_LEN],
    /// Bins that hold durations, a bit each.
    filled: u128,
    len: u32,
    sum_ns: u64,
}

impl Durations {
    /// None yet; at most the latest `window_len` are remembered, 2,048 at most.
    pub(super) fn new(window_len: usize) -> Self {
        Self {
            window_ns: vec![0; window_len].into(),
            next: 0,
            bins: [Bin::default(); BIN_LEN],
            filled: 0,
            len: 0,
            sum_ns: 0,
        }
    }

    pub(super) fn add(&mut self, duration_ns: u64) {
        let duration_ns = duration_ns.min(DURATION_NS_MAX);
        if self.len() == self.window_ns.len() {
            let gone_ns = self.window_ns[self.next];
            let index = bin_index(gone_ns);
            let bin = &mut self.bins[index];
            bin.len -= 1;
            bin.sum_ns -= gone_ns;
            if bin.len == 0 {
                self.filled &= !(1 << index);
            }
            self.len -= 1;
            self.sum_ns -= gone_ns;
        }
        self.window_ns[self.next] = duration_ns;
        self.next = (self.next + 1) % self.window_ns.len();
        let index = bin_index(duration_ns);
        self.bins[index].len += 1;
        self.bins[index].sum_ns += duration_ns;
        self.filled |= 1 << index;
        self.len += 1;
        self.sum_ns += duration_ns;
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Their mean in nanoseconds; 0 if there are none.
    pub(super) fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / f64::from(self.len.max(1))
    }

    /// All by length, ascending, those of about one length together.
    pub(super) fn iter(&self) -> impl Iterator<Item = Alike> + '_ {
        let mut filled = self.filled;
        std::iter::from_fn(move || {
            let index = (filled != 0).then_some(filled.trailing_zeros() as usize)?;
            filled &= filled - 1;
            let Bin { len, sum_ns } = self.bins[index];
            Some(Alike { len: f64::from(len), mean_ns: sum_ns as f64 / f64::from(len) })
        })
    }
}

fn bin_index(duration_ns: u64) -> usize {
    let octave = duration_ns.max(1).ilog2();
    let half = if octave == 0 { 0 } else { duration_ns >> (octave - 1) & 1 };
    (2 * octave as usize + half as usize).min(BIN_LEN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_LEN: usize = 1024;

    /// Against the window itself, through several turns and all lengths.
    #[test]
    fn holds_the_latest() {
        let mut durations = Durations::new(WINDOW_LEN);
        let lengths_ns: Vec<u64> =
            (0..5_000_u64).map(|i| (i * 7_919 % 1_009) << (i % 40)).collect();
        for end in 1..=lengths_ns.len() {
            durations.add(lengths_ns[end - 1]);
            let latest_ns = &lengths_ns[end.saturating_sub(WINDOW_LEN)..end];
            assert_eq!(durations.len(), latest_ns.len());
            let mean_ns = latest_ns.iter().sum::<u64>() as f64 / latest_ns.len() as f64;
            assert_eq!(durations.mean_ns(), mean_ns);
            if end % 500 == 0 {
                let (mut len, mut before_ns) = (0.0, -1.0);
                for alike in durations.iter() {
                    assert!(alike.len > 0.0 && alike.mean_ns > before_ns);
                    (len, before_ns) = (len + alike.len, alike.mean_ns);
                }
                assert_eq!(len as usize, latest_ns.len());
            }
        }
    }

    #[test]
    fn a_bin_is_half_an_octave() {
        assert_eq!([0, 1, 2, 3, 4, 6, 1024, 1536].map(bin_index), [0, 0, 2, 3, 4, 5, 20, 21]);
        let mut durations = Durations::new(2);
        for duration_ns in [u64::MAX, 0, u64::MAX, u64::MAX] {
            durations.add(duration_ns);
        }
        assert_eq!(durations.iter().count(), 1);
    }
}
