//! Least cost of computing images in batches, over every schedule of the compute engine.
//!
//! What came before a batch matters for what follows by two figures only: when the engine is free,
//! and the cost so far. Of each number of images computed, those pairs are kept that no other beats
//! in both. They are whole numbers, so that equal ones are equal.

use super::ServiceTimes;

/// One way to have computed so many images.
#[derive(Clone, Copy)]
struct Label {
    free_ns: u64,
    cost: u64,
}

/// The labels of one number of images: each is free later than the one before, and costs less.
#[derive(Clone, Default)]
struct Front {
    labels: Vec<Label>,
    /// No label of this front or one before it is free later.
    latest_ns: u64,
}

impl Front {
    /// Takes in what no label beats of the ways that are one batch longer than those of `before`.
    /// They are free in the same order; `cost` is asked where it matters, and no less than before.
    fn merge(
        &mut self,
        before: &[Label],
        free_ns: impl Fn(&Label) -> u64,
        cost: impl Fn(&Label) -> Option<u64>,
        spare: &mut Vec<Label>,
    ) {
        let mut at = 0;
        let is_better = |label: &Label| {
            let free_ns = free_ns(label);
            at += self.labels[at..].iter().take_while(|own| own.free_ns <= free_ns).count();
            let beats = |cost: u64| at == 0 || cost < self.labels[at - 1].cost;
            beats(label.cost) && cost(label).is_some_and(beats)
        };
        // Mostly none is.
        if !before.iter().any(is_better) {
            return;
        }
        spare.clear();
        let mut keep = |label: Label| match spare.last_mut() {
            Some(last) if last.cost <= label.cost => {}
            Some(last) if last.free_ns == label.free_ns => *last = label,
            _ => spare.push(label),
        };
        let mut own = self.labels.iter().copied().peekable();
        for label in before {
            let free_ns = free_ns(label);
            while let Some(label) = own.next_if(|own| own.free_ns <= free_ns) {
                keep(label);
            }
            if let Some(cost) = cost(label) {
                keep(Label { free_ns, cost });
            }
        }
        own.for_each(keep);
        std::mem::swap(&mut self.labels, spare);
    }
}

/// Least sum of `cost(first, len, done_ns)` over the batches of any schedule that computes all
/// images: those with numbers `first` to `first + len - 1`, done at `done_ns`. `ready_ns` ascends:
/// the moments at which so many images are in device memory.
///
/// The cost of a batch has to be the sum of one for each of its images, which does not fall as
/// `done_ns` rises. Times are rounded down to whole nanoseconds.
///
/// # Errors
/// How many images could be computed for `cost_max` at most, if not all can.
pub(super) fn least_cost(
    times: &ServiceTimes,
    ready_ns: &[u64],
    cost_max: u64,
    cost: impl Fn(usize, usize, u64) -> u64,
) -> Result<u64, usize> {
    let times_ns: Vec<u64> =
        (1..=times.batch_len_max()).map(|len| times.at_ns(len) as u64).collect();
    // In a ring by number of images: no batch reaches further back.
    let ring_len = times_ns.len().min(ready_ns.len()) + 1;
    let mut fronts = vec![Front::default(); ring_len];
    fronts[0].labels.push(Label { free_ns: 0, cost: 0 });
    let mut spare = Vec::new();
    for end in 1..=ready_ns.len() {
        let newest_ns = ready_ns[end - 1];
        let mut front = std::mem::take(&mut fronts[end % ring_len]);
        front.labels.clear();
        // Whoever waits so long for the newest image could have computed the first one alone
        // meanwhile and the rest at the same moment, in a shorter batch.
        let is_in_vain = |len: usize, free_ns: u64| {
            len > 1 && free_ns.max(ready_ns[end - len]) + times_ns[0] <= newest_ns
        };
        // Where the latest is in vain, so are all longer batches.
        let len_max = (2..=times_ns.len().min(end))
            .find(|&len| is_in_vain(len, fronts[(end - len) % ring_len].latest_ns))
            .map_or(times_ns.len().min(end), |len| len - 1);
        // Long batches beat more of the others, which then cost less to look at.
        for len in (1..=len_max).rev() {
            let first = end - len;
            let before = &fronts[first % ring_len].labels;
            // Those that wait for the newest image start together: the last costs least.
            let waiting = before.partition_point(|label| label.free_ns <= newest_ns);
            let mut from = waiting.saturating_sub(1);
            from += usize::from(is_in_vain(len, before[from].free_ns));
            let free_ns = |label: &Label| label.free_ns.max(newest_ns) + times_ns[len - 1];
            let cost = |label: &Label| {
                let sum = label.cost + cost(first, len, free_ns(label));
                (sum <= cost_max).then_some(sum)
            };
            front.merge(&before[from..], free_ns, cost, &mut spare);
        }
        let Some(last) = front.labels.last() else {
            return Err(end - 1);
        };
        front.latest_ns = last.free_ns.max(fronts[(end - 1) % ring_len].latest_ns);
        if let Some(&next_ns) = ready_ns.get(end) {
            // Whatever is free before the next image is there starts with it: the last costs least.
            let idle_len = front.labels.partition_point(|label| label.free_ns <= next_ns);
            front.labels.drain(..idle_len.saturating_sub(1));
        }
        fronts[end % ring_len] = front;
    }
    Ok(fronts[ready_ns.len() % ring_len].labels.last().map_or(0, |label| label.cost))
}
