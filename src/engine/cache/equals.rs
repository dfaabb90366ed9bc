//! Equal images in flight: a leader is computed, followers wait for its answer.
//!
//! Invariant: a follower could not have been answered before its leader: it is no more urgent, and
//! its deadline no earlier. Followers of a leader keep the order in which they came. Knows neither
//! answers nor images.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::engine::hashing::{Key, KeyHasher};
use crate::sched::Priority;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    None,
    Leader,
    Follower,
}

/// What can be said of a slot's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Claim {
    pub(in crate::engine) key: Key,
    pub(in crate::engine) priority: Priority,
    pub(in crate::engine) deadline_ns: u64,
}

/// A slot in its circle: a leader, and behind it its followers.
#[derive(Clone, Copy)]
struct Member {
    role: Role,
    claim: Claim,
    before: u32,
    behind: u32,
}

/// See the module.
pub(in crate::engine) struct Equals {
    leaders: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    /// By slot.
    members: Vec<Member>,
    leader_len: usize,
    follower_len: usize,
}

impl Equals {
    pub(in crate::engine) fn new(slot_len: usize) -> Self {
        let claim = Claim { key: Key([0; 2]), priority: Priority::Normal, deadline_ns: 0 };
        let alone = |slot| Member { role: Role::None, claim, before: slot, behind: slot };
        // With twice the room a table tidies itself up in its place.
        let leaders = HashMap::with_capacity_and_hasher(2 * slot_len, BuildHasherDefault::new());
        Self {
            leaders,
            members: (0..slot_len as u32).map(alone).collect(),
            leader_len: 0,
            follower_len: 0,
        }
    }

    /// Has a slot's request follow that of an equal image, if there is one that it can follow.
    pub(in crate::engine) fn follow(&mut self, slot: u32, claim: Claim) -> bool {
        let Some(&leader) = self.leaders.get(&claim.key) else { return false };
        let ahead = self.members[leader as usize].claim;
        if claim.priority < ahead.priority || claim.deadline_ns < ahead.deadline_ns {
            return false;
        }
        self.members[slot as usize].role = Role::Follower;
        self.members[slot as usize].claim = claim;
        self.follower_len += 1;
        self.insert_before(slot, leader);
        true
    }

    /// A slot's request is computed: those that come later may follow it.
    pub(in crate::engine) fn lead(&mut self, slot: u32, claim: Claim) {
        self.members[slot as usize].role = Role::Leader;
        self.members[slot as usize].claim = claim;
        self.leader_len += 1;
        self.leaders.insert(claim.key, slot);
    }

    /// A slot's request is no longer to be followed: its key, if it was. It still has its
    /// followers.
    pub(in crate::engine) fn end(&mut self, slot: u32) -> Option<Key> {
        // Where images are not hashed, no memory is looked at.
        if self.leader_len == 0 || self.members[slot as usize].role != Role::Leader {
            return None;
        }
        self.leader_len -= 1;
        let claim = self.members[slot as usize].claim;
        self.members[slot as usize].role = Role::None;
        // One that could not follow may lead in its place.
        if self.leaders.get(&claim.key) == Some(&slot) {
            self.leaders.remove(&claim.key);
        }
        Some(claim.key)
    }

    /// Whether a slot's request has followers.
    pub(in crate::engine) fn is_followed(&self, slot: u32) -> bool {
        let member = self.members[slot as usize];
        member.role == Role::Leader && member.behind != slot
    }

    /// The first follower of a slot's request, which follows it no longer.
    pub(in crate::engine) fn take_follower(&mut self, slot: u32) -> Option<u32> {
        let first = self.members[slot as usize].behind;
        (first != slot).then(|| {
            self.leave(first);
            first
        })
    }

    /// The first follower of a slot's request was taken and leads the rest of them now.
    pub(in crate::engine) fn succeed(&mut self, slot: u32, first: u32) {
        let claim = self.members[first as usize].claim;
        self.members[first as usize].role = Role::Leader;
        self.leader_len += 1;
        self.leaders.entry(claim.key).or_insert(first);
        let next = self.members[slot as usize].behind;
        if next != slot {
            self.unlink(slot);
            self.insert_before(first, next);
        }
    }

    /// Whether a slot's request follows another.
    pub(in crate::engine) fn is_follower(&self, slot: u32) -> bool {
        self.members[slot as usize].role == Role::Follower
    }

    /// How many requests follow others.
    pub(in crate::engine) fn follower_len(&self) -> usize {
        self.follower_len
    }

    /// A follower follows no longer: its leader, if it was the last.
    pub(in crate::engine) fn leave(&mut self, slot: u32) -> Option<u32> {
        let behind = self.members[slot as usize].behind;
        self.unlink(slot);
        self.members[slot as usize].role = Role::None;
        self.follower_len -= 1;
        (self.members[behind as usize].behind == behind).then_some(behind)
    }

    fn unlink(&mut self, slot: u32) {
        let Member { before, behind, .. } = self.members[slot as usize];
        self.members[before as usize].behind = behind;
        self.members[behind as usize].before = before;
        self.members[slot as usize].before = slot;
        self.members[slot as usize].behind = slot;
    }

    fn insert_before(&mut self, slot: u32, behind: u32) {
        let before = self.members[behind as usize].before;
        self.members[before as usize].behind = slot;
        self.members[slot as usize].before = before;
        self.members[slot as usize].behind = behind;
        self.members[behind as usize].before = slot;
    }
}
