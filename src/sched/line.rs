//! Stages of a batch and their straight-line cost.
//!
//! A line never falls and never goes below zero. It knows nothing of measurements: `cost` fits it.

/// One of the three engines that a batch passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Host to device (H2D).
    Upload,
    /// The network itself.
    Compute,
    /// Device to host (D2H).
    Download,
}

/// A value for each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stages<T> {
    /// Host to device (H2D).
    pub upload: T,
    /// The network itself.
    pub compute: T,
    /// Device to host (D2H).
    pub download: T,
}

/// Stage time as a straight line in the batch length: `T(b) = per_image_ns · b + fixed_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Cost of a batch whatever its length, `c` in the paper.
    pub fixed_ns: f64,
    /// Cost of one more image, `k` in the paper.
    pub per_image_ns: f64,
}

impl Line {
    /// The line through `fixed_ns` at zero images, rising by `per_image_ns` an image.
    pub const fn new(fixed_ns: f64, per_image_ns: f64) -> Self {
        Self { fixed_ns, per_image_ns }
    }

    /// The line through two measured batches, each an image count and its time in nanoseconds.
    ///
    /// A line that would start below zero is replaced by the one from zero to the longer batch.
    ///
    /// # Errors
    /// [`FitError::OneLength`] when both batches have the same length, [`FitError::Falling`] when
    /// the longer one took less time.
    pub fn through(first: (usize, u64), second: (usize, u64)) -> Result<Self, FitError> {
        let (short, long) = if first.0 <= second.0 { (first, second) } else { (second, first) };
        if short.0 == long.0 {
            return Err(FitError::OneLength);
        }
        if long.1 < short.1 {
            return Err(FitError::Falling);
        }
        let per_image_ns = (long.1 - short.1) as f64 / (long.0 - short.0) as f64;
        let fixed_ns = short.1 as f64 - per_image_ns * short.0 as f64;
        if fixed_ns < 0.0 {
            return Ok(Self::new(0.0, long.1 as f64 / long.0 as f64));
        }
        Ok(Self::new(fixed_ns, per_image_ns))
    }

    /// Time of a batch of `batch_len` images, in nanoseconds.
    pub fn at_ns(&self, batch_len: usize) -> f64 {
        self.per_image_ns * batch_len as f64 + self.fixed_ns
    }
}

/// Two measured batches that no cost line can be drawn through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Both batches have the same length: nothing tells fixed cost from cost per image.
    #[error("both batches have the same length")]
    OneLength,
    /// The longer batch took less time.
    #[error("the longer batch took less time")]
    Falling,
}

impl<T> Stages<T> {
    /// The value of one stage.
    pub fn of(&self, stage: Stage) -> &T {
        match stage {
            Stage::Upload => &self.upload,
            Stage::Compute => &self.compute,
            Stage::Download => &self.download,
        }
    }

    /// The value of one stage, to change it.
    pub fn of_mut(&mut self, stage: Stage) -> &mut T {
        match stage {
            Stage::Upload => &mut self.upload,
            Stage::Compute => &mut self.compute,
            Stage::Download => &mut self.download,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_batches_give_a_line_or_a_reason() {
        assert_eq!(Line::through((9, 140), (1, 60)), Ok(Line::new(50.0, 10.0)));
        assert_eq!(Line::through((1, 5), (11, 100)), Ok(Line::new(0.0, 100.0 / 11.0)));
        assert_eq!(Line::through((4, 50), (4, 60)), Err(FitError::OneLength));
        assert_eq!(Line::through((4, 50), (8, 40)), Err(FitError::Falling));
    }
}
