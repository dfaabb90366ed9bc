//! A kernel that stays for all layers, as a model: which rules let blocks take the items of a batch
//! one after another, and memory serve again, whatever the blocks' speeds. docs/KERNELS.md has the
//! rules; no such kernel is built.
//!
//! Method: all states are visited that any order of the blocks' acts leads to. An item is a layer's
//! pixel tile by one of its channel tiles. A block claims items in their order, waits for counts of
//! what the item depends on, reads, writes, and counts. Reading and writing take time: what is
//! read has to be there, and stay, until all is read. Then each rule is left out by itself, and it
//! shows.

use std::collections::HashSet;

/// Where a layer's results lie.
#[derive(Clone, Copy, PartialEq)]
enum Slot {
    /// The input and the output of residual blocks, in place.
    Block,
    /// What a block's first convolution leaves; one of two in turns.
    First(usize),
    /// What its second one leaves.
    Second,
}

/// Reads the results of another layer, at its own pixel tile and so many to either side.
#[derive(Clone, Copy)]
struct Input {
    layer: usize,
    reach: usize,
    slot: Slot,
}

struct Layer {
    input: Option<Input>,
    /// A layer that has to have read what this one overwrites, where no input says so.
    waits_for: Option<usize>,
    output: Option<Slot>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// A block takes any item that nobody has, so that all may wait for items that nobody took.
    ClaimsOutOfOrder,
    /// Counts before its results are there.
    CountsEarly,
    /// Waits for one count too few.
    TargetTooLow,
    /// 3x3 convolutions wait for their own pixel tile alone.
    NoReach,
    /// First convolutions share one slot.
    OneFirstSlot,
    /// In each chunk of images first convolutions begin with the same slot.
    SlotsStartAnew,
    /// The next chunk's stem does not wait for the readers of this one's last results.
    StemWaitsForNobody,
    /// An item is never counted.
    LostCount,
    /// A block stops with its item.
    StuckBlock,
}

#[derive(Clone, Copy)]
struct Size {
    workers: usize,
    /// Of each chunk: residual blocks.
    blocks: usize,
    chunks: usize,
    pixel_tiles: usize,
    channel_tiles: usize,
}

/// The item that a block is at, and how far.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    Idle,
    Waiting(u16),
    Reading(u16),
    Writing(u16),
    /// With `CountsEarly`: counted, but not written.
    Counted(u16),
}

/// A value that no layer has.
const TORN: u8 = u8::MAX;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    claimed: Vec<bool>,
    workers: Vec<Work>,
    /// By layer and pixel tile.
    counts: Vec<u8>,
    /// By slot, pixel tile and channel tile: the layer whose results lie there.
    memory: Vec<u8>,
}

struct Kernel {
    size: Size,
    fault: Fault,
    layers: Vec<Layer>,
}

impl Kernel {
    /// Of each chunk a stem, blocks of three convolutions, and a pool that reads the last results.
    fn new(size: Size, fault: Fault) -> Self {
        let mut layers: Vec<Layer> = Vec::new();
        for chunk in 0..size.chunks {
            let waits_for =
                (chunk > 0 && fault != Fault::StemWaitsForNobody).then(|| layers.len() - 1);
            layers.push(Layer { input: None, waits_for, output: Some(Slot::Block) });
            for block in 0..size.blocks {
                let turn = match fault {
                    Fault::OneFirstSlot => 0,
                    Fault::SlotsStartAnew => block % 2,
                    _ => (chunk * size.blocks + block) % 2,
                };
                let first = Slot::First(turn);
                for (reads, reach, writes) in [
                    (Slot::Block, 0, first),
                    (first, 1, Slot::Second),
                    (Slot::Second, 0, Slot::Block),
                ] {
                    let input = Some(Input { layer: layers.len() - 1, reach, slot: reads });
                    layers.push(Layer { input, waits_for: None, output: Some(writes) });
                }
            }
            let input = Some(Input { layer: layers.len() - 1, reach: 0, slot: Slot::Block });
            layers.push(Layer { input, waits_for: None, output: None });
        }
        Self { size, fault, layers }
    }

    fn item_len(&self) -> usize {
        self.layers.len() * self.size.pixel_tiles * self.size.channel_tiles
    }

    /// Layer, pixel tile and channel tile.
    fn place(&self, item: u16) -> (usize, usize, usize) {
        let (item, channels) = (usize::from(item), self.size.channel_tiles);
        let pixels = self.size.pixel_tiles;
        (item / channels / pixels, item / channels % pixels, item % channels)
    }

    fn around(&self, pixel: usize, reach: usize) -> std::ops::RangeInclusive<usize> {
        pixel.saturating_sub(reach)..=(pixel + reach).min(self.size.pixel_tiles - 1)
    }

    fn cell(&self, slot: Slot, pixel: usize, channel: usize) -> usize {
        let slot = match slot {
            Slot::Block => 0,
            Slot::First(turn) => 1 + turn,
            Slot::Second => 3,
        };
        (slot * self.size.pixel_tiles + pixel) * self.size.channel_tiles + channel
    }

    /// Whether all is counted that an item waits for.
    fn may_begin(&self, state: &State, item: u16) -> bool {
        let (layer, pixel, _) = self.place(item);
        let target = self.size.channel_tiles - usize::from(self.fault == Fault::TargetTooLow);
        let is_done = |layer: usize, pixel: usize| {
            usize::from(state.counts[layer * self.size.pixel_tiles + pixel]) >= target
        };
        let Layer { input, waits_for, .. } = self.layers[layer];
        input.is_none_or(|input| {
            let reach = if self.fault == Fault::NoReach { 0 } else { input.reach };
            self.around(pixel, reach).all(|pixel| is_done(input.layer, pixel))
        }) && waits_for.is_none_or(|layer| is_done(layer, pixel))
    }

    /// Whether what an item reads is there.
    fn reads_right(&self, state: &State, item: u16) -> bool {
        let (layer, pixel, channel) = self.place(item);
        let Some(input) = self.layers[layer].input else { return true };
        let has = |slot, pixel, channel, layer: usize| {
            usize::from(state.memory[self.cell(slot, pixel, channel)]) == layer
        };
        // A block's last convolution adds its input, which lies where its results go.
        let is_last = self.layers[layer].output == Some(Slot::Block);
        let residual = !is_last || has(Slot::Block, pixel, channel, layer - 3);
        let mut channels = 0..self.size.channel_tiles;
        residual
            && channels.all(|channel| {
                let mut pixels = self.around(pixel, input.reach);
                pixels.all(|pixel| has(input.slot, pixel, channel, input.layer))
            })
    }

    /// The states after one act of a block; an error where it read what was not there.
    fn after(&self, state: &State, worker: usize) -> Result<Vec<State>, String> {
        let mut next = state.clone();
        let wrong = |item| format!("{:?} reads what is not there", self.place(item));
        let is_chosen = |item: u16| usize::from(item) == self.item_len() / 2;
        match state.workers[worker] {
            Work::Idle => return Ok(self.claims(state, worker)),
            Work::Waiting(item) if !self.may_begin(state, item) => return Ok(Vec::new()),
            Work::Waiting(item) => {
                if !self.reads_right(state, item) {
                    return Err(wrong(item));
                }
                next.workers[worker] = Work::Reading(item);
            }
            Work::Reading(item) if self.fault == Fault::StuckBlock && is_chosen(item) => {
                return Ok(Vec::new());
            }
            Work::Reading(item) => {
                if !self.reads_right(state, item) {
                    return Err(wrong(item));
                }
                self.write(&mut next, item, TORN);
                next.workers[worker] = Work::Writing(item);
                if self.fault == Fault::CountsEarly {
                    self.count(&mut next, item);
                    next.workers[worker] = Work::Counted(item);
                }
            }
            Work::Writing(item) => {
                self.write(&mut next, item, self.place(item).0 as u8);
                if !(self.fault == Fault::LostCount && is_chosen(item)) {
                    self.count(&mut next, item);
                }
                next.workers[worker] = Work::Idle;
            }
            Work::Counted(item) => {
                self.write(&mut next, item, self.place(item).0 as u8);
                next.workers[worker] = Work::Idle;
            }
        }
        Ok(vec![next])
    }

    fn claims(&self, state: &State, worker: usize) -> Vec<State> {
        let free = (0..self.item_len()).filter(|&item| !state.claimed[item]);
        let len = if self.fault == Fault::ClaimsOutOfOrder { usize::MAX } else { 1 };
        let claim = |item| {
            let mut next = state.clone();
            next.claimed[item] = true;
            next.workers[worker] = Work::Waiting(item as u16);
            next
        };
        free.take(len).map(claim).collect()
    }

    fn write(&self, state: &mut State, item: u16, value: u8) {
        let (layer, pixel, channel) = self.place(item);
        if let Some(slot) = self.layers[layer].output {
            state.memory[self.cell(slot, pixel, channel)] = value;
        }
    }

    fn count(&self, state: &mut State, item: u16) {
        let (layer, pixel, _) = self.place(item);
        state.counts[layer * self.size.pixel_tiles + pixel] += 1;
    }

    /// Visits all states. What blocks can do at the end of one that leads nowhere: nothing, for all
    /// is done, or wait, which they do for a bounded time.
    fn explore(&self) -> Result<Ends, String> {
        let Size { workers, pixel_tiles, channel_tiles, .. } = self.size;
        let first = State {
            claimed: vec![false; self.item_len()],
            workers: vec![Work::Idle; workers],
            counts: vec![0; self.layers.len() * pixel_tiles],
            memory: vec![TORN; 4 * pixel_tiles * channel_tiles],
        };
        let (mut seen, mut open) = (HashSet::from([first.clone()]), vec![first]);
        let mut ends = Ends::default();
        while let Some(state) = open.pop() {
            let mut leads_on = false;
            for worker in 0..workers {
                for mut next in self.after(&state, worker)? {
                    leads_on = true;
                    // Blocks are alike.
                    next.workers.sort_unstable();
                    if seen.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
            let is_waiting = state.workers.iter().any(|work| matches!(work, Work::Waiting(_)));
            ends.finished += usize::from(!leads_on && !is_waiting);
            ends.gave_up += usize::from(!leads_on && is_waiting);
        }
        ends.states = seen.len();
        Ok(ends)
    }
}

/// States that lead nowhere, and all.
#[derive(Debug, Default)]
struct Ends {
    finished: usize,
    gave_up: usize,
    states: usize,
}

const SIZES: [Size; 7] = [
    Size { workers: 2, blocks: 3, chunks: 1, pixel_tiles: 4, channel_tiles: 1 },
    Size { workers: 3, blocks: 3, chunks: 1, pixel_tiles: 3, channel_tiles: 1 },
    Size { workers: 3, blocks: 1, chunks: 1, pixel_tiles: 2, channel_tiles: 2 },
    Size { workers: 3, blocks: 1, chunks: 3, pixel_tiles: 2, channel_tiles: 1 },
    Size { workers: 2, blocks: 3, chunks: 2, pixel_tiles: 3, channel_tiles: 1 },
    Size { workers: 6, blocks: 2, chunks: 2, pixel_tiles: 3, channel_tiles: 1 },
    // So many that one may lag behind others that wait in each layer up to the next chunk's second.
    Size { workers: 5, blocks: 1, chunks: 2, pixel_tiles: 2, channel_tiles: 1 },
];

/// Goal: with all rules, whatever the order, each item reads what it should, and the batch ends.
#[test]
fn every_order_ends_and_reads_what_it_should() {
    for size in SIZES {
        let ends = Kernel::new(size, Fault::None).explore().unwrap();
        assert_eq!((ends.finished, ends.gave_up), (1, 0), "{ends:?}");
        assert!(ends.states > 1000, "{ends:?}");
    }
}

/// Goal: no rule is there in vain. Method: each left out leads to a wrong read in some order.
#[test]
fn each_rule_left_out_leads_to_a_wrong_read() {
    for fault in [
        Fault::CountsEarly,
        Fault::TargetTooLow,
        Fault::NoReach,
        Fault::OneFirstSlot,
        Fault::SlotsStartAnew,
        Fault::StemWaitsForNobody,
    ] {
        let is_wrong = |&size: &Size| Kernel::new(size, fault).explore().is_err();
        assert!(SIZES.iter().any(is_wrong), "{fault:?}");
    }
}

/// Goal: who claims out of order may wait for what nobody has claimed.
#[test]
fn claims_out_of_order_may_wait_for_ever() {
    let size = Size { workers: 2, blocks: 1, chunks: 1, pixel_tiles: 2, channel_tiles: 1 };
    let ends = Kernel::new(size, Fault::ClaimsOutOfOrder).explore().unwrap();
    assert!(ends.gave_up > 0, "{ends:?}");
}

/// Goal: where a count is lost or a block stuck, nothing wrong is read, and no order ends as if all
/// were done: some block waits, and gives up.
#[test]
fn a_lost_count_or_a_stuck_block_ends_in_a_wait() {
    for fault in [Fault::LostCount, Fault::StuckBlock] {
        let ends = Kernel::new(SIZES[0], fault).explore().unwrap();
        assert!(ends.finished == 0 && ends.gave_up > 0, "{fault:?}: {ends:?}");
    }
}
