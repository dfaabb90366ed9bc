//! What policies are measured against: optima and bounds, to be printed beside every policy.
//!
//! All bounds look at the compute engine alone, as a queue served in batches; the caller adds the
//! transfers of one image, which every request pays at the least ([`mean_ns`], [`p99_ns`]). They
//! know the mean stage times and nothing of policies.
//!
//! | bound | holds for | source |
//! |---|---|---|
//! | [`optimal_mean_ns`] | mean, any online policy, Poisson | semi-Markov decision process |
//! | [`TakeAll`] | mean and tail of taking all, Poisson | embedded Markov chain |
//! | [`inoue_mean_ns`] | mean of taking all (upper bound) | Inoue 2021, arXiv 1912.06322 |
//! | [`clairvoyant_quantile_ns`] | p99 on one trace, any policy | dynamic programme |
//! | [`in_order_quantile_ns`] | p99 on one trace, any policy that answers all in order | the same |
//! | [`fluid_goodput_hz`] | answers in time a second | fluid limit |

mod clairvoyant;
mod fluid;
mod optimal;
mod poisson;
mod take_all;

pub use clairvoyant::{clairvoyant_quantile_ns, in_order_quantile_ns};
pub use fluid::fluid_goodput_hz;
pub use optimal::{optimal_mean_ns, take_all_mean_ns};
pub use take_all::{TakeAll, inoue_mean_ns};

use super::device::DeviceSpec;
use crate::sched::Stage;

/// Times in nanoseconds that a batch of 1, 2, … images occupies an engine.
///
/// Never falling: a batch may be run padded to a longer one that takes less time.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceTimes(Vec<f64>);

impl ServiceTimes {
    /// Times for batches of 1 to `batch_len_max` images.
    ///
    /// # Panics
    /// When `batch_len_max` is 0, or a time is not above zero.
    pub fn new(batch_len_max: usize, time_ns: impl Fn(usize) -> f64) -> Self {
        assert!(batch_len_max > 0, "a batch holds at least one image");
        let mut times_ns: Vec<f64> = (1..=batch_len_max).map(time_ns).collect();
        assert!(times_ns.iter().all(|&time| time > 0.0), "every batch takes time");
        for index in (1..times_ns.len()).rev() {
            times_ns[index - 1] = times_ns[index - 1].min(times_ns[index]);
        }
        Self(times_ns)
    }

    /// Mean compute times of a device.
    pub fn compute(spec: &DeviceSpec, batch_len_max: usize) -> Self {
        Self::new(batch_len_max, |len| spec.mean_ns(Stage::Compute, len))
    }

    /// Mean times of the three stages of a device in series.
    pub fn serial(spec: &DeviceSpec, batch_len_max: usize) -> Self {
        Self::new(batch_len_max, |len| {
            [Stage::Upload, Stage::Compute, Stage::Download]
                .iter()
                .map(|&stage| spec.mean_ns(stage, len))
                .sum()
        })
    }

    /// Time of a batch of `batch_len` images, 1 to [`Self::batch_len_max`].
    pub fn at_ns(&self, batch_len: usize) -> f64 {
        self.0[batch_len - 1]
    }

    /// Longest batch.
    pub fn batch_len_max(&self) -> usize {
        self.0.len()
    }

    /// Batch length of the highest throughput.
    pub fn most_efficient_len(&self) -> usize {
        (1..=self.0.len())
            .max_by(|&a, &b| (a as f64 / self.at_ns(a)).total_cmp(&(b as f64 / self.at_ns(b))))
            .unwrap_or(1)
    }

    /// Largest throughput in images a second.
    pub fn capacity_hz(&self) -> f64 {
        let len = self.most_efficient_len();
        len as f64 / self.at_ns(len) * 1e9
    }
}

/// Time in nanoseconds that one image spends in transfers at the least.
pub fn transfers_ns(spec: &DeviceSpec) -> f64 {
    spec.mean_ns(Stage::Upload, 1) + spec.mean_ns(Stage::Download, 1)
}

/// Least mean latency in nanoseconds of any online policy that computes what is in device memory
/// without regard to uploads in flight, under Poisson arrivals at `rate_hz`; none beyond capacity.
///
/// A policy that does look at its uploads knows the next arrivals of the compute queue one upload
/// ahead, and may end up below this by a percent or two. Never below it less the upload: with the
/// arrivals known as they come, the optimum of the compute queue alone holds for all.
pub fn mean_ns(spec: &DeviceSpec, batch_len_max: usize, rate_hz: f64) -> Option<f64> {
    let times = ServiceTimes::compute(spec, batch_len_max);
    Some(optimal_mean_ns(&times, rate_hz)? + transfers_ns(spec))
}

/// Least p99 latency in nanoseconds of any policy on the arrivals given, even one that knows them
/// all in advance.
pub fn p99_ns(spec: &DeviceSpec, batch_len_max: usize, arrivals_ns: &[u64]) -> f64 {
    let times = ServiceTimes::compute(spec, batch_len_max);
    clairvoyant_quantile_ns(&times, arrivals_ns, 0.99) + transfers_ns(spec)
}
