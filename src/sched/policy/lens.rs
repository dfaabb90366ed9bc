//! A few batch lengths, in a value that is copied like a number.

/// Most lengths of one list.
const LEN_MAX: usize = 16;

/// Batch lengths of 1 to 65,535 images, ascending, at most 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchLens {
    /// Zeros fill the end.
    lens: [u16; LEN_MAX],
}

impl BatchLens {
    /// No length at all.
    pub const NONE: Self = Self { lens: [0; LEN_MAX] };

    /// These lengths, in any order; none if there are too many or one is out of range.
    pub fn new(lens: &[usize]) -> Option<Self> {
        let mut sorted = lens.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut found = Self::NONE;
        for (index, &len) in sorted.iter().enumerate() {
            *found.lens.get_mut(index)? = u16::try_from(len).ok().filter(|len| *len > 0)?;
        }
        Some(found)
    }

    /// The lengths, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.lens.iter().filter(|len| **len > 0).map(|len| usize::from(*len))
    }

    /// The longest that is not above `batch_len`.
    pub fn longest_within(&self, batch_len: usize) -> Option<usize> {
        self.iter().rev().find(|len| *len <= batch_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_sorted_and_found() {
        let lens = BatchLens::new(&[16, 4, 8, 4]).unwrap();
        assert_eq!(lens.iter().collect::<Vec<_>>(), [4, 8, 16]);
        let within = [3, 4, 7, 15, 16, 99].map(|batch_len| lens.longest_within(batch_len));
        assert_eq!(within, [None, Some(4), Some(4), Some(8), Some(16), Some(16)]);
        assert_eq!(BatchLens::new(&[0]), None);
        assert_eq!(BatchLens::new(&[65_536]), None);
        assert_eq!(BatchLens::new(&(1..=17).collect::<Vec<_>>()), None);
        assert_eq!(BatchLens::new(&[]), Some(BatchLens::NONE));
    }
}
