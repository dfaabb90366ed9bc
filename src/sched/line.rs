//! Stages of a batch and their straight-line cost.

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

    /// Time of a batch of `batch_len` images, in nanoseconds.
    pub fn at_ns(&self, batch_len: usize) -> f64 {
        self.per_image_ns * batch_len as f64 + self.fixed_ns
    }
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
}
