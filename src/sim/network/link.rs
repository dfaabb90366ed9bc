//! One direction of a link: bytes go one after the other, first come, first served.

/// What a direction has carried, and until when it is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Bytes that it was given.
    pub bytes: u64,
    /// How long these occupy it, in nanoseconds.
    pub busy_ns: u64,
    free_ns: u64,
}

impl Link {
    /// Takes bytes that are there at `now_ns`, never before those of earlier calls, and occupy it
    /// for `transmission_ns`; says when the last of them has left.
    pub(super) fn carry(&mut self, now_ns: u64, bytes: u64, transmission_ns: u64) -> u64 {
        self.bytes += bytes;
        self.busy_ns += transmission_ns;
        self.free_ns = self.free_ns.max(now_ns) + transmission_ns;
        self.free_ns
    }
}
