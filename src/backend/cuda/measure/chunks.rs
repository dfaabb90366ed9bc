//! Measures whole batches in chunks of several lengths and without: the other half of what
//! `twinstream tune` does.
//!
//! Invariant: chunks are noted only where they win by more than times differ by themselves.

use super::fixture::{Fixture, buckets};
use super::timer::{batch_ns, median};
use super::tune::TuneOptions;
use crate::backend::cuda::choice::Chooser;
use crate::backend::cuda::device::CudaOptions;
use crate::backend::cuda::plan::Plan;
use crate::backend::cuda::sys::context::Context;
use crate::backend::cuda::tuning::{Tuning, input_key};
use crate::error::Result;
use crate::model::Model;

/// Images of a chunk that are measured, the likeliest first: what the level-2 cache holds of them.
pub(super) const CHUNK_LENS: [usize; 9] = [16, 28, 14, 20, 12, 32, 24, 10, 8];
/// Each length is measured so often at most, in turns, and the median counts: clocks change
/// meanwhile.
const CHUNK_ROUNDS: usize = 7;
/// Chunks have to gain this share of a batch's time.
const GAIN_SHARE_MIN: f64 = 0.01;
/// And so many times as much as the times of either stray from their median, which is three times
/// what the difference of two medians of seven does.
const GAIN_SPREADS_MIN: f64 = 2.0;

/// Times of a batch with layers 1 and 2 in chunks of one length, or of all its images.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredLength {
    /// Images of a chunk; none: no chunks.
    pub chunk_len: Option<usize>,
    /// Nanoseconds of a batch behind others: the median.
    pub elapsed_ns: f64,
    /// How far from it half of the times are at most.
    pub spread_ns: f64,
}

/// A batch's measurement in chunks and without.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredChunks {
    /// Longest batch.
    pub batch_len: usize,
    /// Images of a chunk that is noted; none where no chunks are.
    pub chunk_len: Option<usize>,
    /// All lengths, in the order in which they were measured; no chunks first.
    pub lengths: Vec<MeasuredLength>,
}

impl MeasuredChunks {
    /// The length of least time, where it gains more than noise may, else none.
    fn new(batch_len: usize, lengths: Vec<MeasuredLength>) -> Self {
        let whole = &lengths[0];
        let least = |one: &&MeasuredLength, other: &&MeasuredLength| {
            one.elapsed_ns.total_cmp(&other.elapsed_ns)
        };
        let best = lengths.iter().min_by(least).expect("one is without chunks");
        let noise_ns = GAIN_SPREADS_MIN * (whole.spread_ns + best.spread_ns);
        let gain_ns_min = noise_ns.max(GAIN_SHARE_MIN * whole.elapsed_ns);
        let is_gain = whole.elapsed_ns - best.elapsed_ns > gain_ns_min;
        let chunk_len = if is_gain { best.chunk_len } else { None };
        Self { batch_len, chunk_len, lengths }
    }

    /// What was measured of the length that is noted.
    pub fn noted(&self) -> &MeasuredLength {
        let noted = self.lengths.iter().find(|length| length.chunk_len == self.chunk_len);
        noted.expect("what is noted was measured")
    }

    /// Nanoseconds of a batch without chunks.
    pub fn whole_ns(&self) -> f64 {
        self.lengths[0].elapsed_ns
    }
}

/// Measures whole batches, full ones of each bucket from 32 images on, with the stem and layers 1
/// and 2 in chunks of several lengths, by the kernels that `tuning` has. Notes the best there where
/// it gains a hundredth of the time without chunks, and twice what the times of both stray by, in
/// the median; else none. Tells `report` as [`tune`](super::tune::tune) does.
///
/// # Errors
/// As [`tune`](super::tune::tune).
pub fn tune_chunks(
    model: &Model,
    options: &CudaOptions,
    tune_options: &TuneOptions,
    tuning: &mut Tuning,
    report: &mut dyn FnMut(&MeasuredChunks, &Tuning),
) -> Result<()> {
    let network = model.network(options.height, options.width)?;
    let steps = options.steps(model, &network)?;
    let buckets = buckets(&tune_options.batch_lens)?;
    let context = Context::new(options.device)?;
    let _pushed = context.push_current();
    let size = input_key((options.height, options.width), options.precision);
    let known = tuning.clone();
    let known = (&known, &options.verdicts);
    let chooser = Chooser::new(context.info(), (options.height, options.width), known);
    let mut plans = Vec::new();
    for batch_len in buckets {
        let plan = Plan::new(&steps, batch_len, &chooser)?;
        if !plan.is_measured_in_chunks() {
            continue;
        }
        let chunk_lens = CHUNK_LENS.into_iter().take(tune_options.choice_len.max(1));
        let is_possible = |&chunk_len: &usize| {
            chunk_len < batch_len && plan.may_chunk(&steps, chunk_len, &chooser)
        };
        let chunk_lens = chunk_lens.filter(is_possible).map(Some);
        let in_chunks = |chunk_len| Plan { chunk_len, ..plan.clone() };
        plans.extend(std::iter::once(None).chain(chunk_lens).map(in_chunks));
    }
    if plans.is_empty() {
        return Ok(());
    }
    let mut fixture = Fixture::new(&context, model, (steps, plans.clone()))?;
    let mut first = 0;
    for plans in plans.chunk_by(|one, other| one.batch_len == other.batch_len) {
        let mut times_ns = vec![Vec::new(); plans.len()];
        for _ in 0..tune_options.repeat_len.clamp(1, CHUNK_ROUNDS) {
            for (index, times_ns) in times_ns.iter_mut().enumerate() {
                let measured = fixture
                    .prepare(first + index)
                    .and_then(|()| batch_ns(&fixture, first + index, tune_options.repeat_len));
                times_ns.push(measured.map_err(|code| code.error("measuring chunks"))?);
            }
        }
        first += plans.len();
        let lengths = plans.iter().zip(times_ns).map(|(plan, times_ns)| {
            let (elapsed_ns, spread_ns) = median_and_spread(times_ns);
            MeasuredLength { chunk_len: plan.chunk_len, elapsed_ns, spread_ns }
        });
        let measured = MeasuredChunks::new(plans[0].batch_len, lengths.collect());
        tuning.set_chunk_len((context.info(), &size), measured.batch_len, measured.chunk_len);
        report(&measured, tuning);
    }
    Ok(())
}

/// The median, and that of the distances from it.
fn median_and_spread(times_ns: Vec<f64>) -> (f64, f64) {
    let middle_ns = median(times_ns.clone());
    let distances_ns = times_ns.into_iter().map(|time_ns| (time_ns - middle_ns).abs());
    (middle_ns, median(distances_ns.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a batch without chunks, and in chunks of 16 and of 8.
    fn chosen(times_ns: [(f64, f64); 3]) -> Option<usize> {
        let lengths = [None, Some(16), Some(8)].into_iter().zip(times_ns);
        let length = |(chunk_len, (elapsed_ns, spread_ns))| MeasuredLength {
            chunk_len,
            elapsed_ns,
            spread_ns,
        };
        let measured = MeasuredChunks::new(128, lengths.map(length).collect());
        assert_eq!(measured.noted().chunk_len, measured.chunk_len);
        assert_eq!(measured.whole_ns(), times_ns[0].0);
        measured.chunk_len
    }

    /// Goal: chunks are taken where they are faster beyond doubt, and there alone.
    #[test]
    fn chunks_win_by_more_than_noise() {
        assert_eq!(chosen([(1000.0, 0.0), (980.0, 0.0), (985.0, 0.0)]), Some(16));
        assert_eq!(chosen([(1000.0, 0.0), (980.0, 0.0), (975.0, 0.0)]), Some(8));
        assert_eq!(chosen([(1000.0, 0.0), (1001.0, 0.0), (1002.0, 0.0)]), None);
        // Less than a hundredth.
        assert_eq!(chosen([(1000.0, 0.0), (991.0, 0.0), (999.0, 0.0)]), None);
        // Less than the times stray by, of either.
        assert_eq!(chosen([(1000.0, 11.0), (980.0, 0.0), (999.0, 0.0)]), None);
        assert_eq!(chosen([(1000.0, 0.0), (980.0, 11.0), (999.0, 0.0)]), None);
        assert_eq!(chosen([(1000.0, 5.0), (980.0, 4.0), (999.0, 90.0)]), Some(16));
    }

    #[test]
    fn a_spread_is_what_half_of_the_times_are_within() {
        assert_eq!(median_and_spread(vec![5.0]), (5.0, 0.0));
        assert_eq!(median_and_spread(vec![9.0, 10.0, 13.0, 90.0, 8.0]), (10.0, 2.0));
    }
}
