//! Requests that wait, by priority and within a priority by deadline.
//!
//! Invariant: each level is sorted by key, equal keys in the order they came; a level that has
//! requests gets at least one place in [`SHARE`] of those handed out, so none starves. Knows slots
//! and keys alone, not what they stand for. Never allocates: the room is made at construction.

use std::collections::VecDeque;

/// A lower level that waits is handed at least one place in so many.
const SHARE: usize = 8;

/// How urgent a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Goes before all others, but for the share that these are owed.
    High,
    /// What a request is unless it says otherwise.
    #[default]
    Normal,
    /// Goes when there is room.
    Low,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key_ns: u64,
    slot: u32,
}

/// Requests sorted by priority and key.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    levels: [VecDeque<Entry>; Priority::ALL.len()],
    /// Places handed to other levels since this one was last owed one.
    passed_over: [usize; Priority::ALL.len()],
    len: usize,
}

impl Queue {
    /// Room for `capacity` requests in each level.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            levels: std::array::from_fn(|_| VecDeque::with_capacity(capacity)),
            passed_over: [0; Priority::ALL.len()],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, priority: Priority, key_ns: u64, slot: u32) {
        let level = &mut self.levels[priority as usize];
        let entry = Entry { key_ns, slot };
        match level.back() {
            Some(last) if last.key_ns > key_ns => {
                level.insert(level.partition_point(|other| other.key_ns <= key_ns), entry);
            }
            _ => level.push_back(entry),
        }
        self.len += 1;
    }

    /// Puts one back that was taken: before those of the same key, of which it was the first.
    pub(super) fn put_back(&mut self, priority: Priority, key_ns: u64, slot: u32) {
        let level = &mut self.levels[priority as usize];
        let place = level.partition_point(|other| other.key_ns < key_ns);
        level.insert(place, Entry { key_ns, slot });
        self.len += 1;
    }

    /// The request that goes last.
    pub(super) fn pop_last(&mut self) -> Option<u32> {
        let entry = self.levels.iter_mut().rev().find_map(VecDeque::pop_back)?;
        self.len -= 1;
        Some(entry.slot)
    }

    /// Takes one request out; false if it is not here.
    pub(super) fn remove(&mut self, priority: Priority, key_ns: u64, slot: u32) -> bool {
        let level = &mut self.levels[priority as usize];
        let first = level.partition_point(|entry| entry.key_ns < key_ns);
        let place = level.range(first..).take_while(|entry| entry.key_ns == key_ns);
        let Some(offset) = place.into_iter().position(|entry| entry.slot == slot) else {
            return false;
        };
        level.remove(first + offset);
        self.len -= 1;
        true
    }

    /// The request that goes first of its priority.
    pub(super) fn first(&self, priority: Priority) -> Option<u32> {
        self.levels[priority as usize].front().map(|entry| entry.slot)
    }

    pub(super) fn pop_first(&mut self, priority: Priority) -> Option<u32> {
        let entry = self.levels[priority as usize].pop_front()?;
        self.len -= 1;
        Some(entry.slot)
    }

    pub(super) fn level_len(&self, priority: Priority) -> usize {
        self.levels[priority as usize].len()
    }

    /// The request that goes after `index` others of its priority.
    pub(super) fn nth(&self, priority: Priority, index: usize) -> Option<u32> {
        self.levels[priority as usize].get(index).map(|entry| entry.slot)
    }

    /// Requests that would go before one of this priority and key.
    pub(super) fn ahead_len(&self, priority: Priority, key_ns: u64) -> usize {
        let level = &self.levels[priority as usize];
        let same = match level.back() {
            Some(last) if last.key_ns > key_ns => {
                level.partition_point(|entry| entry.key_ns <= key_ns)
            }
            _ => level.len(),
        };
        self.levels[..priority as usize].iter().map(VecDeque::len).sum::<usize>() + same
    }

    /// Moves the first `take_len` requests, or all if there are fewer, to the end of `out`.
    pub(super) fn take(&mut self, take_len: usize, out: &mut Vec<u32>) {
        let take_len = take_len.min(self.len);
        let mut left = take_len;
        for level in 1..self.levels.len() {
            let higher_len = self.levels[..level].iter().map(VecDeque::len).sum::<usize>();
            if self.levels[level].is_empty() {
                self.passed_over[level] = 0;
                continue;
            }
            self.passed_over[level] += take_len;
            if higher_len == 0 {
                // Its turn, unless a lower level that is owed its place takes the last one.
                continue;
            }
            let owed = (self.passed_over[level] / SHARE).min(left).min(self.levels[level].len());
            self.passed_over[level] -= owed * SHARE;
            self.drain(level, owed, out);
            left -= owed;
        }
        for level in 0..self.levels.len() {
            let some = left.min(self.levels[level].len());
            if some > 0 {
                self.passed_over[level] = 0;
            }
            self.drain(level, some, out);
            left -= some;
        }
    }

    fn drain(&mut self, level: usize, some: usize, out: &mut Vec<u32>) {
        out.extend(self.levels[level].drain(..some).map(|entry| entry.slot));
        self.len -= some;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Queue, take_len: usize) -> Vec<u32> {
        let mut out = Vec::new();
        queue.take(take_len, &mut out);
        out
    }

    #[test]
    fn earliest_key_first_and_equal_keys_as_they_came() {
        let mut queue = Queue::with_capacity(8);
        for (key_ns, slot) in [(30, 0), (10, 1), (20, 2), (10, 3), (30, 4)] {
            queue.push(Priority::Normal, key_ns, slot);
        }
        assert_eq!(queue.ahead_len(Priority::Normal, 10), 2);
        assert_eq!(queue.ahead_len(Priority::Low, 0), 5);
        assert!(queue.remove(Priority::Normal, 10, 3));
        assert!(!queue.remove(Priority::Normal, 10, 3));
        assert_eq!(take(&mut queue, 9), [1, 2, 0, 4]);
        assert_eq!(queue.len(), 0);
    }

    /// A level is handed its share while a higher one never empties.
    #[test]
    fn no_level_starves() {
        let mut queue = Queue::with_capacity(1000);
        for slot in 0..100 {
            queue.push(Priority::Low, 0, 1000 + slot);
            queue.push(Priority::Normal, 0, 2000 + slot);
        }
        let mut served = [0_usize; 3];
        for round in 0..100 {
            for slot in 0..4 {
                queue.push(Priority::High, round, slot);
            }
            for slot in take(&mut queue, 4) {
                served[slot as usize / 1000] += 1;
            }
        }
        assert_eq!(served, [300, 50, 50]);
    }

    /// A lower level's place is one more that went to another.
    #[test]
    fn a_place_owed_to_a_lower_level_counts() {
        let mut queue = Queue::with_capacity(100);
        queue.push(Priority::Low, 0, 30);
        for slot in 0..SHARE as u32 - 1 {
            queue.push(Priority::High, 0, slot);
            take(&mut queue, 1);
        }
        queue.push(Priority::Normal, 0, 20);
        assert_eq!(take(&mut queue, 1), [30]);
        for slot in 0..SHARE as u32 {
            queue.push(Priority::High, 0, slot);
        }
        let taken: Vec<u32> = (0..SHARE).flat_map(|_| take(&mut queue, 1)).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 20, 6]);
    }
}
