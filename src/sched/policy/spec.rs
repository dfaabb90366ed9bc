//! Policies by name, with their settings.
//!
//! Only the peers have settings; those of `fixed`, `adaptive` and `aimd` are what their users tune.

use std::fmt;
use std::str::FromStr;

use super::Policy;
use super::adaptive::Adaptive;
use super::aimd::AdditiveIncrease;
use super::fixed::Fixed;
use super::jit::JustInTime;
use super::paper::Paper;
use super::serial::Serial;
use super::stream::Stream;

/// Which policy, and its settings if it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolicySpec {
    /// One stream; takes everything that waits when the device is idle.
    Serial,
    /// A batch of at most `batch_len` images, or what is there after `delay_ns`.
    Fixed {
        /// Longest batch.
        batch_len: usize,
        /// Longest wait of the first image, in nanoseconds; 0: none.
        delay_ns: u64,
        /// Whether the next batch is uploaded while one computes.
        is_eager: bool,
    },
    /// BentoML's rule.
    Adaptive {
        /// Time between two looks at the queue, in nanoseconds, at least 1.
        tick_ns: u64,
    },
    /// Clipper's rule.
    Aimd {
        /// Images that the limit grows by.
        increase: usize,
        /// Time of a batch that counts as a miss, in nanoseconds.
        bound_ns: u64,
    },
    /// The paper's asynchronous policy.
    Paper,
    /// Just in time, takes everything.
    Jit,
    /// Uploads on arrival, closes the batch when the compute engine is free.
    #[default]
    Stream,
}

impl PolicySpec {
    /// Every policy by name; the peers with customary settings.
    pub const ALL: [(&'static str, Self); 8] = [
        ("serial", Self::Serial),
        ("fixed", Self::Fixed { batch_len: 32, delay_ns: 1_000_000, is_eager: false }),
        ("fixed-eager", Self::Fixed { batch_len: usize::MAX, delay_ns: 0, is_eager: true }),
        ("adaptive", Self::Adaptive { tick_ns: 1_000_000 }),
        ("aimd", Self::Aimd { increase: 2, bound_ns: 50_000_000 }),
        ("paper", Self::Paper),
        ("jit", Self::Jit),
        ("stream", Self::Stream),
    ];

    /// The policy at its start.
    pub fn policy(&self) -> Box<dyn Policy> {
        match *self {
            Self::Serial => Box::new(Serial),
            Self::Fixed { batch_len, delay_ns, is_eager } => {
                Box::new(Fixed { batch_len: batch_len.max(1), delay_ns, is_eager })
            }
            Self::Adaptive { tick_ns } => Box::new(Adaptive::new(tick_ns.max(1))),
            Self::Aimd { increase, bound_ns } => {
                Box::new(AdditiveIncrease::new(increase, bound_ns))
            }
            Self::Paper => Box::new(Paper),
            Self::Jit => Box::new(JustInTime),
            Self::Stream => Box::new(Stream),
        }
    }

    /// Name of the policy without its settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Fixed { is_eager: false, .. } => "fixed",
            Self::Fixed { is_eager: true, .. } => "fixed-eager",
            Self::Adaptive { .. } => "adaptive",
            Self::Aimd { .. } => "aimd",
            Self::Paper => "paper",
            Self::Jit => "jit",
            Self::Stream => "stream",
        }
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A word that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy is called {0:?}; policies are {names}", names = names())]
pub struct UnknownPolicy(String);

fn names() -> String {
    PolicySpec::ALL.map(|(name, _)| name).join(", ")
}

impl FromStr for PolicySpec {
    type Err = UnknownPolicy;

    fn from_str(word: &str) -> Result<Self, UnknownPolicy> {
        let named = Self::ALL.iter().find(|(name, _)| *name == word);
        named.map(|(_, spec)| *spec).ok_or_else(|| UnknownPolicy(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for (name, spec) in PolicySpec::ALL {
            assert_eq!(name.parse(), Ok(spec));
            assert_eq!(spec.name(), name);
        }
        let error = "strem".parse::<PolicySpec>().unwrap_err().to_string();
        assert!(error.contains("strem") && error.contains("stream"), "{error}");
    }
}
