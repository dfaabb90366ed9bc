//! A network's memory on a device, filled, copied and compared where it lies: a few bytes come
//! back.
//!
//! Invariant: whatever is asked for is done in the order of one stream, but for what is to disturb
//! it. Judges nothing.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::fixture::Fixture;
use crate::backend::cuda::executor::{Executor, Loaded};
use crate::backend::cuda::kernels::family::Family;
use crate::backend::cuda::kernels::packed::Packed;
use crate::backend::cuda::kernels::{prove, prove_abi};
use crate::backend::cuda::sys::context::Context;
use crate::backend::cuda::sys::driver::Code;
use crate::backend::cuda::sys::memory::{DeviceMemory, PinnedMemory};
use crate::backend::cuda::sys::stream::{Graph, Priority, Stream};

type Outcome<T> = std::result::Result<T, Code>;

const CHUNK_BYTES: usize = 16;
/// What one launch compares: indices stay within 32 bits.
const PIECE_BYTES: usize = 2 << 30;
const DIFFERENCE_WORD_LEN: usize =
    size_of::<prove_abi::twinstream_prove_difference>() / size_of::<u32>();
/// Of random values: two runs try the same.
const SEED: u32 = 1;
/// Comparisons whose differences come back at once.
const COMPARISON_LEN_MAX: usize = 64;

/// Bytes of device memory, whole chunks.
#[derive(Clone)]
pub(super) struct Part<'a> {
    pub(super) memory: &'a DeviceMemory,
    pub(super) bytes: Range<usize>,
}

impl<'a> Part<'a> {
    pub(super) fn new(memory: &'a DeviceMemory, bytes: Range<usize>) -> Self {
        Self { memory, bytes }
    }

    fn address(&self) -> u64 {
        self.memory.range(self.bytes.start, self.bytes.len())
    }
}

/// How far apart values may be that are right, see `twinstream_prove_compare_params`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub(super) sum_error: f32,
    pub(super) value_error: f32,
    pub(super) least_error: f32,
}

/// How a part differs from what it is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    /// Values.
    pub(super) len: usize,
    /// Index of the first of them.
    pub(super) first: usize,
    /// The largest distance.
    pub(super) worst: f32,
}

/// What there is to compare: found, expected, and for values within a bound the magnitudes of their
/// sums.
pub(super) type Pair<'a> = (Part<'a>, Part<'a>, Option<(Part<'a>, Tolerance)>);

/// See the module.
pub(super) struct Workbench {
    // Streams before the memory that their work uses.
    stream: Stream,
    other: Stream,
    fixture: Fixture,
    /// Images that are described to the device.
    described: Cell<usize>,
    plan: usize,
    differences: DeviceMemory,
    staging: PinnedMemory,
    flushed: DeviceMemory,
    flush_bytes: usize,
}

impl Workbench {
    /// Disturbs by writing so many bytes.
    pub(super) fn new(
        context: &Arc<Context>,
        fixture: Fixture,
        flush_bytes: usize,
    ) -> Outcome<Self> {
        let word_len = COMPARISON_LEN_MAX * DIFFERENCE_WORD_LEN;
        Ok(Self {
            stream: Stream::new(context, Priority::Usual)?,
            other: Stream::new(context, Priority::Highest)?,
            fixture,
            described: Cell::new(0),
            plan: 0,
            differences: DeviceMemory::new(context, word_len * size_of::<u32>())?,
            staging: PinnedMemory::new(context, word_len)?,
            flushed: DeviceMemory::new(context, flush_bytes)?,
            flush_bytes: flush_bytes / CHUNK_BYTES * CHUNK_BYTES,
        })
    }

    pub(super) fn executor(&self) -> &Executor {
        self.fixture.executor()
    }

    pub(super) fn executor_mut(&mut self) -> &mut Executor {
        self.fixture.executor_mut()
    }

    /// Uploads images of noise and describes a full batch of a plan.
    pub(super) fn prepare(&mut self, plan: usize) -> Outcome<()> {
        self.plan = plan;
        self.described.set(self.executor().plans()[plan].batch_len);
        self.wait()?;
        self.fixture.prepare(plan)
    }

    /// Describes a batch of so many images.
    pub(super) fn describe(&mut self, image_len: usize) -> Outcome<()> {
        if self.described.replace(image_len) == image_len {
            return Ok(());
        }
        self.wait()?;
        self.fixture.describe(self.plan, image_len)
    }

    /// Uploads a full batch's images of noise.
    pub(super) fn upload(&mut self) -> Outcome<()> {
        self.wait()?;
        self.fixture.upload(self.executor().plans()[self.plan].batch_len)
    }

    /// Bytes of the activations.
    pub(super) fn arena(&self, bytes: Range<usize>) -> Part<'_> {
        Part::new(self.executor().arena(), bytes)
    }

    /// Fills memory with values of a kind (`TWINSTREAM_PROVE_ONES` and so on).
    pub(super) fn fill(&self, part: &Part, values: u32) -> Outcome<()> {
        self.fill_on(&self.stream, part, (values, SEED))
    }

    fn fill_on(&self, stream: &Stream, part: &Part, (values, seed): (u32, u32)) -> Outcome<()> {
        let chunk_len = (part.bytes.len() / CHUNK_BYTES) as u64;
        let params =
            prove_abi::twinstream_prove_fill_params { to: part.address(), chunk_len, seed, values };
        let launch = self.executor().find(prove::fill(params))?;
        // SAFETY: the memory is the workbench's or its user's, who waits for the streams.
        unsafe { self.executor().enqueue_launch(&launch, stream) }
    }

    pub(super) fn copy(&self, to: &Part, from: &Part) -> Outcome<()> {
        let (to_place, from_place) = ((to.memory, to.bytes.start), (from.memory, from.bytes.start));
        assert_eq!(to.bytes.len(), from.bytes.len());
        // SAFETY: as for filling.
        unsafe { self.stream.copy(to_place, from_place, to.bytes.len()) }
    }

    pub(super) fn launch(&self, launch: &Loaded) -> Outcome<()> {
        // SAFETY: the executor outlives the stream's work; nothing it uses is used otherwise.
        unsafe { self.executor().enqueue_launch(launch, &self.stream) }
    }

    /// Launches as one graph.
    pub(super) fn capture(&self, launches: &[&Loaded]) -> Outcome<Graph> {
        self.stream.capture(|| launches.iter().try_for_each(|launch| self.launch(launch)))
    }

    pub(super) fn replay(&self, graph: &Graph) -> Outcome<()> {
        // SAFETY: as for launching.
        unsafe { self.stream.replay(graph) }
    }

    /// Has the next launch find caches that hold nothing of use.
    pub(super) fn flush(&self) -> Outcome<()> {
        let flushed = Part::new(&self.flushed, 0..self.flush_bytes);
        self.fill_on(&self.stream, &flushed, (prove_abi::TWINSTREAM_PROVE_BYTES, SEED))
    }

    /// Has the next launch run beside other work.
    pub(super) fn disturb(&self) -> Outcome<()> {
        self.wait()?;
        let flushed = Part::new(&self.flushed, 0..self.flush_bytes);
        self.fill_on(&self.other, &flushed, (prove_abi::TWINSTREAM_PROVE_BYTES, SEED))
    }

    /// Waits for all that was queued.
    pub(super) fn wait(&self) -> Outcome<()> {
        self.other.synchronize()?;
        self.stream.synchronize()
    }

    /// Replaces a step's weights for a family.
    pub(super) fn write_weights(
        &self,
        step: usize,
        family: &dyn Family,
        packed: &Packed,
    ) -> Outcome<()> {
        self.wait()?;
        self.executor().write_weights(step, family, packed)
    }

    /// How each pair of values of so many bytes differs: bit for bit, or beyond the bound. Waits
    /// for all that was queued.
    pub(super) fn compare(
        &self,
        pairs: &[Pair],
        value_bytes: usize,
    ) -> Outcome<Vec<Option<Difference>>> {
        let pieces = self.pieces(pairs, value_bytes);
        let all = Part::new(&self.differences, 0..self.staging.len_bytes());
        self.fill(&all, prove_abi::TWINSTREAM_PROVE_ZEROS)?;
        for (.., params) in &pieces {
            self.launch(&self.executor().find(prove::compare(*params))?)?;
        }
        let len_bytes = all.bytes.len();
        // SAFETY: the copy is waited for.
        unsafe { self.stream.download((&self.staging, 0), (&self.differences, 0), len_bytes)? };
        self.wait()?;
        let mut found: Vec<Option<Difference>> = vec![None; pairs.len()];
        let words = self.staging.words().chunks_exact(DIFFERENCE_WORD_LEN);
        for ((index, start, _), words) in pieces.into_iter().zip(words) {
            let (len, worst) = (words[0] as usize, f32::from_bits(words[2]));
            if len > 0 {
                let first = start / value_bytes + !words[1] as usize;
                let sum = found[index].get_or_insert(Difference { len: 0, first, worst });
                (sum.len, sum.worst) = (sum.len + len, sum.worst.max(worst));
            }
        }
        Ok(found)
    }

    /// The launches that compare pairs: of which pair, from which byte on.
    fn pieces(
        &self,
        pairs: &[Pair],
        value_bytes: usize,
    ) -> Vec<(usize, usize, prove_abi::twinstream_prove_compare_params)> {
        let mut pieces = Vec::new();
        for (index, (found, expected, within)) in pairs.iter().enumerate() {
            let len_bytes = found.bytes.len();
            assert_eq!((len_bytes, len_bytes % CHUNK_BYTES), (expected.bytes.len(), 0));
            let none = Tolerance { sum_error: 0.0, value_error: 0.0, least_error: 0.0 };
            let tolerance = within.as_ref().map_or(none, |(_, tolerance)| *tolerance);
            for start in (0..len_bytes).step_by(PIECE_BYTES) {
                let number = pieces.len();
                assert!(number < COMPARISON_LEN_MAX, "more than {number} comparisons at once");
                let offset_bytes = number * DIFFERENCE_WORD_LEN * size_of::<u32>();
                let params = prove_abi::twinstream_prove_compare_params {
                    found: found.address() + start as u64,
                    expected: expected.address() + start as u64,
                    magnitudes: within.as_ref().map_or(0, |(it, _)| it.address() + start as u64),
                    difference: self.differences.range(offset_bytes, 0),
                    chunk_len: (PIECE_BYTES.min(len_bytes - start) / CHUNK_BYTES) as u32,
                    value_bytes: value_bytes as u32,
                    sum_error: tolerance.sum_error,
                    value_error: tolerance.value_error,
                    least_error: tolerance.least_error,
                };
                pieces.push((index, start, params));
            }
        }
        pieces
    }
}
