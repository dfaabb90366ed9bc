//! What policies are measured against: bounds, and the best that one can hope for without
//! look-ahead, to be printed beside every policy.
//!
//! All look at the compute engine alone, as a queue served in batches, and add what every request
//! pays at the least for its transfers ([`least_mean_ns`], [`p99_in_order_ns`], [`p99_ns`],
//! [`mean_without_look_ahead_ns`]). They know the mean stage times and nothing of policies: on a
//! device whose times vary they are bounds on what its mean times allow.
//!
//! | figure | holds for | source |
//! |---|---|---|
//! | [`clairvoyant_mean_ns`] | mean on one trace, any that answers all | dynamic programme |
//! | [`several_mean_ns`] | mean of several devices, any that answers all | convex programme |
//! | [`in_order_quantile_ns`] | p99 on one trace, any that answers all in order | the same |
//! | [`clairvoyant_quantile_ns`] | p99 on one trace, any; may give up 1 % | dynamic programme |
//! | [`fluid_goodput_hz`] | answers in time a second | fluid limit |
//! | [`optimal_mean_ns`] | mean without look-ahead, Poisson | semi-Markov decision process |
//! | [`TakeAll`] | mean and tail of taking all, Poisson | embedded Markov chain |
//! | [`inoue_mean_ns`] | mean of taking all (upper bound) | Inoue 2021, arXiv 1912.06322 |

mod clairvoyant;
mod fluid;
mod front;
mod mean;
mod optimal;
mod poisson;
mod several;
mod take_all;

pub use clairvoyant::{clairvoyant_quantile_ns, in_order_quantile_ns};
pub use fluid::fluid_goodput_hz;
pub use mean::clairvoyant_mean_ns;
pub use optimal::{optimal_mean_ns, take_all_mean_ns};
pub use several::several_mean_ns;
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

/// Best mean latency in nanoseconds without look-ahead: the optimum of policies that compute what
/// is in device memory without regard to uploads in flight, under Poisson arrivals at `rate_hz`;
/// none beyond capacity.
///
/// No bound on policies that do look at their uploads: they know the next arrivals of the compute
/// queue one upload ahead, and may end up below by a percent or two. [`least_mean_ns`] is one.
pub fn mean_without_look_ahead_ns(
    spec: &DeviceSpec,
    batch_len_max: usize,
    rate_hz: f64,
) -> Option<f64> {
    let times = ServiceTimes::compute(spec, batch_len_max);
    Some(optimal_mean_ns(&times, rate_hz)? + transfers_ns(spec))
}

/// Least mean latency in nanoseconds of any schedule of the device that answers all of the arrivals
/// given, even one that knows them all in advance: see [`clairvoyant_mean_ns`].
///
/// # Panics
/// When there are no arrivals, or they are not sorted.
pub fn least_mean_ns(spec: &DeviceSpec, batch_len_max: usize, arrivals_ns: &[u64]) -> f64 {
    let times = ServiceTimes::compute(spec, batch_len_max);
    let ready_ns = ready_ns(spec, batch_len_max, arrivals_ns);
    clairvoyant_mean_ns(&times, arrivals_ns, &ready_ns)
        + least_ns(spec, Stage::Download, batch_len_max)
}

/// Least p99 latency in nanoseconds of any schedule that answers all of the arrivals given in the
/// order they came, even one that knows them all in advance.
///
/// # Panics
/// When there are no arrivals, or they are not sorted.
pub fn p99_in_order_ns(spec: &DeviceSpec, batch_len_max: usize, arrivals_ns: &[u64]) -> f64 {
    let times = ServiceTimes::compute(spec, batch_len_max);
    let ready_ns = ready_ns(spec, batch_len_max, arrivals_ns);
    in_order_quantile_ns(&times, arrivals_ns, &ready_ns, 0.99)
        + least_ns(spec, Stage::Download, batch_len_max)
}

/// Least p99 latency in nanoseconds of any policy on the arrivals given, even one that knows them
/// all in advance and gives up one in a hundred.
///
/// # Panics
/// When there are no arrivals, or they are not sorted.
pub fn p99_ns(spec: &DeviceSpec, batch_len_max: usize, arrivals_ns: &[u64]) -> f64 {
    let times = ServiceTimes::compute(spec, batch_len_max);
    let transfers_ns = [Stage::Upload, Stage::Download]
        .map(|stage| least_ns(spec, stage, batch_len_max))
        .iter()
        .sum::<f64>();
    clairvoyant_quantile_ns(&times, arrivals_ns, 0.99) + transfers_ns
}

/// Moments in nanoseconds before which 1, 2, … images cannot be in device memory, whatever is
/// uploaded in which order and in which chunks.
///
/// Let u be the least time of a chunk and s ≤ u so that one of b images takes u + (b − 1)·s or
/// more. Of the first i images up, i − j + 1 or more are not among the first j − 1 to arrive. The
/// chunks that carry these start after arrival j, one at a time, and take u + (i − j)·s or more
/// together. So the i-th is not up before the latest of aⱼ + u + (i − j)·s, over all j ≤ i.
///
/// # Panics
/// When the arrivals are not sorted.
pub fn ready_ns(spec: &DeviceSpec, batch_len_max: usize, arrivals_ns: &[u64]) -> Vec<u64> {
    assert!(arrivals_ns.is_sorted(), "arrivals must be in order");
    let chunk_ns = least_ns(spec, Stage::Upload, batch_len_max);
    let slope_ns = (2..=batch_len_max)
        .map(|len| (spec.mean_ns(Stage::Upload, len) - chunk_ns) / (len - 1) as f64)
        .fold(chunk_ns, f64::min);
    let (chunk_ns, slope_ns) = (chunk_ns as u64, slope_ns as u64);
    let mut latest_ns = 0;
    arrivals_ns
        .iter()
        .map(|at_ns| {
            latest_ns = (latest_ns + slope_ns).max(at_ns + chunk_ns);
            latest_ns
        })
        .collect()
}

/// The least time in whole nanoseconds that a stage takes for any number of images.
fn least_ns(spec: &DeviceSpec, stage: Stage, batch_len_max: usize) -> f64 {
    let times_ns = (1..=batch_len_max).map(|len| spec.mean_ns(stage, len));
    times_ns.fold(f64::INFINITY, f64::min).floor()
}
