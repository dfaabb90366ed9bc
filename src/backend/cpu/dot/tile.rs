//! The innermost product: some pixels times a panel of 64 channels, and what becomes of its sums.
//!
//! One loop for all types and instruction sets, whose arithmetic is behind [`Lanes`]. The sums stay
//! in registers from the first value to the output: every loop over pixels is spelled out. Knows
//! addresses alone, no shape.

/// Pixels of the largest tile.
pub(super) const PIXEL_MAX: usize = 6;
/// Channels of a panel.
pub(super) const PANEL_LEN: usize = 64;
/// Bytes of a pixel, and of a channel's weights, that one step multiplies: four 8-bit integers or
/// two bf16.
pub(super) const STEP_BYTES: usize = 4;
/// Bytes of a panel's weights in one step.
pub(super) const PANEL_STEP_BYTES: usize = PANEL_LEN * STEP_BYTES;
/// Runs of the largest kernel: the taps of 3x3.
pub(super) const RUN_MAX: usize = 9;
/// Bytes of a cache line.
pub(super) const LINE_BYTES: usize = 64;

/// Values that follow one another, in the weights as in each pixel's input.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The panel's, `[step][channel][value of the step]`.
    pub(super) weights: *const u8,
    /// By pixel.
    pub(super) inputs: [*const u8; PIXEL_MAX],
}

impl Run {
    pub(super) const NONE: Self =
        Self { weights: std::ptr::null(), inputs: [std::ptr::null(); PIXEL_MAX] };
}

/// What sums are turned into outputs with. Values of a panel are in the order of its weights.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) multiplier: *const f32,
    pub(super) bias: *const f32,
    /// What the output's previous values are multiplied with, to be added.
    pub(super) residual: Option<f32>,
}

/// The operands of one tile.
pub(super) struct Tile {
    pub(super) runs: [Run; RUN_MAX],
    pub(super) run_len: usize,
    /// Bytes of each run, whole steps.
    pub(super) run_bytes: usize,
    /// The projection's run, summed first and multiplied with `shortcut_multiplier`.
    pub(super) shortcut: Run,
    /// Zero where there is no projection.
    pub(super) shortcut_bytes: usize,
    pub(super) shortcut_multiplier: *const f32,
    pub(super) scales: Scales,
    /// By pixel: where the panel's values go.
    pub(super) outputs: [*mut u8; PIXEL_MAX],
    /// Channels of which logits are written; none: all are written, as activations.
    pub(super) logit_len: Option<usize>,
    /// What is fetched into the cache meanwhile, a line at each step.
    pub(super) prefetch: *const u8,
    /// From one line to the next; zero where there is nothing to fetch.
    pub(super) prefetch_bytes: usize,
}

/// Computes the tile's first so many pixels.
///
/// # Safety
/// The processor has the kernel's instructions. Runs hold `run_bytes` (`shortcut_bytes`) of input,
/// and a panel's weights for as many; scales hold a panel's values, outputs take them, and no
/// other thread touches these.
pub(super) type Kernel = unsafe fn(&Tile);

/// One instruction set's arithmetic on one type. A panel is computed in parts.
///
/// # Safety
/// All methods: the processor has the instructions, and pointers hold what is read or written.
pub(super) trait Lanes {
    /// Parts of a panel.
    const PART_LEN: usize;
    /// One pixel's sums of a part.
    type Sums: Copy;
    /// A part's weights in one step.
    type Weights: Copy;
    /// One pixel's values in one step.
    type Input: Copy;

    unsafe fn zero() -> Self::Sums;
    unsafe fn weights(at: *const u8) -> Self::Weights;
    unsafe fn input(at: *const u8) -> Self::Input;
    unsafe fn dot(sums: Self::Sums, input: Self::Input, weights: Self::Weights) -> Self::Sums;
    /// Brings a projection's sums to the unit of those that they are added to.
    unsafe fn rescale(sums: Self::Sums, multiplier: *const f32) -> Self::Sums;
    /// Writes a part's activations into the panel at `output`.
    unsafe fn store(sums: Self::Sums, scales: &Scales, part: usize, output: *mut u8);
    /// Writes a part's logits, in the order of the weights.
    unsafe fn logits(sums: Self::Sums, scales: &Scales, part: usize, logits: &mut [f32; PANEL_LEN]);
    /// The channel whose weights have this place in a panel.
    fn channel(place: usize) -> usize;
    /// Fetches a line into the second-level cache.
    unsafe fn prefetch(_line: *const u8) {}
}

/// A block for each of `$pixels` pixels, with its index as a constant.
macro_rules! each_pixel {
    ($pixels:ident, $pixel:ident, $block:block) => {
        each_pixel!(@ $pixels, $pixel, $block, 0 1 2 3 4 5)
    };
    (@ $pixels:ident, $pixel:ident, $block:block, $($index:literal)*) => {{
        $(if $pixels > $index {
            let $pixel: usize = $index;
            $block
        })*
    }};
}

/// The body of a [`Kernel`] for `PIXELS` pixels.
///
/// # Safety
/// As for [`Kernel`]; called from a function that was compiled for the instruction set.
#[inline(always)]
pub(super) unsafe fn compute<L: Lanes, const PIXELS: usize>(tile: &Tile) {
    let mut prefetch = tile.prefetch;
    for part in 0..L::PART_LEN {
        let place = part * (PANEL_LEN / L::PART_LEN);
        // SAFETY: as the caller vouches.
        unsafe {
            let mut sums = [L::zero(); PIXELS];
            if tile.shortcut_bytes > 0 {
                let run = (&tile.shortcut, tile.shortcut_bytes, place);
                (sums, prefetch) = add_run::<L, PIXELS>(sums, run, prefetch, tile.prefetch_bytes);
                let multiplier = tile.shortcut_multiplier.wrapping_add(place);
                each_pixel!(PIXELS, pixel, {
                    sums[pixel] = L::rescale(sums[pixel], multiplier);
                });
            }
            for run in tile.runs.iter().take(tile.run_len) {
                let run = (run, tile.run_bytes, place);
                (sums, prefetch) = add_run::<L, PIXELS>(sums, run, prefetch, tile.prefetch_bytes);
            }
            match tile.logit_len {
                None => each_pixel!(PIXELS, pixel, {
                    L::store(sums[pixel], &tile.scales, part, tile.outputs[pixel]);
                }),
                Some(logit_len) => each_pixel!(PIXELS, pixel, {
                    let mut logits = [0.0; PANEL_LEN];
                    L::logits(sums[pixel], &tile.scales, part, &mut logits);
                    write_logits::<L>(&logits, part, tile.outputs[pixel].cast(), logit_len);
                }),
            }
        }
    }
}

/// Adds the product of a run of so many bytes, for the part that begins at a place of the panel.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn add_run<L: Lanes, const PIXELS: usize>(
    mut sums: [L::Sums; PIXELS],
    (run, run_bytes, place): (&Run, usize, usize),
    mut prefetch: *const u8,
    prefetch_bytes: usize,
) -> ([L::Sums; PIXELS], *const u8) {
    let Run { mut weights, inputs } = *run;
    weights = weights.wrapping_add(place * STEP_BYTES);
    let mut at = 0;
    while at < run_bytes {
        // SAFETY: as the caller vouches.
        unsafe {
            let step = L::weights(weights);
            each_pixel!(PIXELS, pixel, {
                sums[pixel] = L::dot(sums[pixel], L::input(inputs[pixel].wrapping_add(at)), step);
            });
            L::prefetch(prefetch);
        }
        prefetch = prefetch.wrapping_add(prefetch_bytes);
        weights = weights.wrapping_add(PANEL_STEP_BYTES);
        at += STEP_BYTES;
    }
    (sums, prefetch)
}

/// Writes a part's logits in the order of channels, but for those beyond the last class.
///
/// # Safety
/// `output` takes `logit_len` values.
#[inline(never)]
unsafe fn write_logits<L: Lanes>(
    logits: &[f32; PANEL_LEN],
    part: usize,
    output: *mut f32,
    logit_len: usize,
) {
    let len = PANEL_LEN / L::PART_LEN;
    for place in part * len..(part + 1) * len {
        let channel = L::channel(place);
        if channel < logit_len {
            // SAFETY: as the caller vouches.
            unsafe { output.add(channel).write(logits[place]) };
        }
    }
}

/// The kernels of an instruction set on a type, by pixels less one.
macro_rules! kernels {
    ($(#[$attribute:meta])* $lanes:ty) => {{
        $(#[$attribute])*
        unsafe fn kernel<const PIXELS: usize>(tile: &$crate::backend::cpu::dot::tile::Tile) {
            // SAFETY: as the caller vouches.
            unsafe { $crate::backend::cpu::dot::tile::compute::<$lanes, PIXELS>(tile) }
        }
        [kernel::<1>, kernel::<2>, kernel::<3>, kernel::<4>, kernel::<5>, kernel::<6>]
    }};
}
pub(super) use kernels;
