//! The devices of a simulated world: what each engine works on, who fails when.
//!
//! Invariant: an engine, and the link if all uploads share one, does one thing at a time, in the
//! order asked for. A device that fails forgets all that it was asked for.

use std::collections::VecDeque;
use std::str::FromStr;

use super::device::{Device, DeviceSpec};
use super::words::{duration_ns, refuse};
use crate::error::{Error, Result};
use crate::sched::{Stage, Stages};

pub(super) const STAGES: [Stage; 3] = [Stage::Upload, Stage::Compute, Stage::Download];
const NEVER_NS: u64 = u64::MAX;
/// From one device's seed to the next: another part of the generator's sequence.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A device that fails, and is back later or not at all. Times are nanoseconds of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The device's lane.
    pub lane: usize,
    /// When it fails.
    pub from_ns: u64,
    /// When it is back, after that; none: never.
    pub until_ns: Option<u64>,
}

impl FromStr for Outage {
    type Err = Error;

    /// Reads `DEVICE,FROM,UNTIL`, such as `0,10s,20s`; without the last it is never back.
    fn from_str(text: &str) -> Result<Self> {
        let what = "not an outage; write DEVICE,FROM or DEVICE,FROM,UNTIL, such as 0,10s,20s";
        let mut items = text.split(',');
        let (lane, from) = items.next().zip(items.next()).ok_or_else(|| refuse(text, what))?;
        let until = items.next();
        if items.next().is_some() {
            return Err(refuse(text, what));
        }
        let lane = lane
            .trim()
            .parse()
            .map_err(|_| refuse(lane, "not a device; write its number, the first one is 0"))?;
        let moment_ns = |word| duration_ns(word).map(|ns| ns.round() as u64);
        let (from_ns, until_ns) = (moment_ns(from)?, until.map(moment_ns).transpose()?);
        if until_ns.is_some_and(|until_ns| until_ns <= from_ns) {
            return Err(refuse(text, "back before it fails; write the later time last"));
        }
        Ok(Self { lane, from_ns, until_ns })
    }
}

/// What becomes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Lost,
    Returned,
}

/// Work that an engine has taken on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    end_ns: u64,
    pub(super) elapsed_ns: u64,
    pub(super) is_failing: bool,
}

#[derive(Debug, Default)]
struct Engine {
    jobs: VecDeque<Job>,
    free_ns: u64,
}

impl Engine {
    fn next_ns(&self) -> u64 {
        self.jobs.front().map_or(NEVER_NS, |job| job.end_ns)
    }
}

struct Member {
    device: Device,
    engines: Stages<Engine>,
    is_lost: bool,
}

/// See the module.
pub(super) struct Fleet {
    members: Vec<Member>,
    /// When the link that all share is free; none: each has its own.
    link_free_ns: Option<u64>,
    /// What is still to come, the earliest last.
    changes: Vec<(u64, usize, Change)>,
}

impl Fleet {
    /// Idle ones, that fail as told.
    pub(super) fn new(
        specs: &[DeviceSpec],
        is_link_shared: bool,
        outages: &[Outage],
        seed: u64,
    ) -> Self {
        let member = |(index, spec)| Member {
            device: Device::new(spec, seed.wrapping_add(SEED_STEP.wrapping_mul(index))),
            engines: Stages::default(),
            is_lost: false,
        };
        let changes = outages.iter().flat_map(|outage| {
            let returned = outage.until_ns.map(|at_ns| (at_ns, outage.lane, Change::Returned));
            [Some((outage.from_ns, outage.lane, Change::Lost)), returned]
        });
        let mut changes: Vec<_> = changes.flatten().collect();
        changes.sort_by_key(|&(at_ns, ..)| std::cmp::Reverse(at_ns));
        Self {
            members: (0..).zip(specs).map(member).collect(),
            link_free_ns: is_link_shared.then_some(0),
            changes,
        }
    }

    /// When something happens next.
    pub(super) fn next_ns(&self) -> u64 {
        let engines = self.members.iter().flat_map(|member| {
            let Stages { upload, compute, download } = &member.engines;
            [upload, compute, download]
        });
        let change_ns = self.changes.last().map_or(NEVER_NS, |&(at_ns, ..)| at_ns);
        engines.map(Engine::next_ns).fold(change_ns, u64::min)
    }

    /// A stage that has ended by now, if there is one.
    pub(super) fn end(&mut self, now_ns: u64) -> Option<(usize, Stage, Job)> {
        for (lane, member) in self.members.iter_mut().enumerate() {
            for stage in STAGES {
                let jobs = &mut member.engines.of_mut(stage).jobs;
                if let Some(job) = jobs.pop_front_if(|job| job.end_ns <= now_ns) {
                    return Some((lane, stage, job));
                }
            }
        }
        None
    }

    /// A device that has failed or is back by now, if there is one. Who has failed can't fail.
    pub(super) fn change(&mut self, now_ns: u64) -> Option<(usize, Change)> {
        while let Some((_, lane, change)) = self.changes.pop_if(|(at_ns, ..)| *at_ns <= now_ns) {
            let member = &mut self.members[lane];
            let is_lost = change == Change::Lost;
            if is_lost == member.is_lost {
                continue;
            }
            member.is_lost = is_lost;
            // What is back starts idle.
            member.engines = Stages::default();
            return Some((lane, change));
        }
        None
    }

    /// Takes on a stage of so many images; when it begins and ends.
    pub(super) fn start(
        &mut self,
        now_ns: u64,
        (lane, stage, len): (usize, Stage, usize),
        is_failing: bool,
    ) -> (u64, u64) {
        let member = &mut self.members[lane];
        let engine = member.engines.of_mut(stage);
        let mut start_ns = engine.free_ns.max(now_ns);
        let link_free_ns = self.link_free_ns.as_mut().filter(|_| stage == Stage::Upload);
        if let Some(free_ns) = &link_free_ns {
            start_ns = start_ns.max(**free_ns);
        }
        let elapsed_ns = member.device.stage_ns(stage, len, start_ns);
        let end_ns = start_ns + elapsed_ns;
        if let Some(free_ns) = link_free_ns {
            *free_ns = end_ns;
        }
        engine.free_ns = end_ns;
        engine.jobs.push_back(Job { end_ns, elapsed_ns, is_failing });
        (start_ns, end_ns)
    }
}
