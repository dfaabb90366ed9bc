//! How arrivals follow each other: a histogram of the gaps between the latest of them, and how many
//! of them came together.
//!
//! Never allocates after construction. What to do about it is not known here.

use super::durations::{Alike, Durations};

/// Gaps remembered: enough for a rare pause to be seen a few times, few enough to follow a change
/// within seconds.
const WINDOW_LEN: usize = 1024;
/// Clusters remembered.
const CLUSTER_LEN: usize = 32;
/// So few clusters tell nothing.
const CLUSTER_MIN: usize = 4;
/// So few gaps tell nothing of how arrivals follow each other.
pub(super) const GAPS_MIN: usize = 64;
/// So few gaps longer than the present one tell nothing of when the next arrival is due.
pub(super) const LONGER_MIN: f64 = 4.0;

/// The latest gaps between arrivals.
#[derive(Clone, Debug)]
pub struct ArrivalGaps {
    gaps: Durations,
    latest_ns: Option<u64>,
    /// Longest gap inside a cluster.
    apart_ns: u64,
    /// Arrivals of the latest clusters that have ended, a ring.
    clusters: [u32; CLUSTER_LEN],
    cluster_count: usize,
    /// Arrivals of the present cluster.
    run_len: u32,
}

/// What may come next, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// How likely it is what comes next, from 0 to 1.
    pub likely: f64,
    /// Its first arrival's distance from the latest one, in nanoseconds.
    pub gap_ns: f64,
    /// How many arrivals come together.
    pub len: f64,
}

/// How arrivals that come together have looked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clusters {
    /// Mean gap inside of a cluster, in nanoseconds.
    pub gap_ns: f64,
    /// Mean gap from one cluster to the next, in nanoseconds.
    pub pause_ns: f64,
    /// How likely the present cluster goes on.
    goes_on: f64,
    /// Arrivals that it still has if it does.
    rest_len: f64,
    /// Arrivals of a cluster, on average.
    len: f64,
    /// Gaps longer than the present one, inside of clusters.
    gaps_longer: f64,
    /// Gaps longer than the present one, between clusters.
    pauses_longer: f64,
}

impl ArrivalGaps {
    /// No arrivals yet; those that are up to `apart_ns` apart are a cluster.
    pub fn new(apart_ns: u64) -> Self {
        Self {
            gaps: Durations::new(WINDOW_LEN),
            latest_ns: None,
            apart_ns,
            clusters: [0; CLUSTER_LEN],
            cluster_count: 0,
            run_len: 0,
        }
    }

    /// Takes note of an arrival.
    pub fn arrived(&mut self, now_ns: u64) {
        let Some(latest_ns) = self.latest_ns.replace(now_ns) else {
            self.run_len = 1;
            return;
        };
        let gap_ns = now_ns.saturating_sub(latest_ns);
        if gap_ns > self.apart_ns {
            self.clusters[self.cluster_count % CLUSTER_LEN] = self.run_len;
            self.cluster_count += 1;
            self.run_len = 0;
        }
        self.run_len = self.run_len.saturating_add(1);
        self.gaps.add(gap_ns);
    }

    /// Gaps remembered, at most 1,024.
    pub fn len(&self) -> usize {
        self.gaps.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their mean in nanoseconds; 0 if there are none.
    pub fn mean_ns(&self) -> f64 {
        self.gaps.mean_ns()
    }

    /// Time since the latest arrival, in nanoseconds.
    pub fn age_ns(&self, now_ns: u64) -> f64 {
        now_ns.saturating_sub(self.latest_ns.unwrap_or(now_ns)) as f64
    }

    /// How arrivals come together, as far as is known at a moment; none where too little is.
    pub fn clusters(&self, now_ns: u64) -> Option<Clusters> {
        let known = &self.clusters[..self.cluster_count.min(CLUSTER_LEN)];
        if known.len() < CLUSTER_MIN {
            return None;
        }
        let age_ns = self.age_ns(now_ns);
        let apart_ns = self.apart_ns as f64;
        let (mut inside, mut inside_ns) = (0.0, 0.0);
        let (mut gaps_longer, mut pauses_longer) = (0.0, 0.0);
        for some in self.iter() {
            let is_inside = some.mean_ns <= apart_ns;
            if is_inside {
                inside += some.len;
                inside_ns += some.len * some.mean_ns;
            }
            if some.mean_ns > age_ns {
                *(if is_inside { &mut gaps_longer } else { &mut pauses_longer }) += some.len;
            }
        }
        if gaps_longer + pauses_longer < LONGER_MIN {
            return None;
        }
        let (goes_on, rest_len) = self.rest_of_cluster(known);
        let pauses = self.len() as f64 - inside;
        Some(Clusters {
            gap_ns: if inside > 0.0 { inside_ns / inside } else { 0.0 },
            pause_ns: if pauses > 0.0 {
                (self.mean_ns() * self.len() as f64 - inside_ns) / pauses
            } else {
                f64::INFINITY
            },
            goes_on: if gaps_longer > 0.0 { goes_on } else { 0.0 },
            rest_len,
            len: known.iter().map(|len| f64::from(*len)).sum::<f64>() / known.len() as f64,
            gaps_longer,
            pauses_longer,
        })
    }

    /// How likely the present cluster goes on, and how many arrivals it then still has.
    fn rest_of_cluster(&self, known: &[u32]) -> (f64, f64) {
        let (mut as_long, mut longer, mut rest) = (0.0, 0.0, 0.0);
        for &len in known.iter().filter(|len| **len >= self.run_len) {
            as_long += 1.0;
            if len > self.run_len {
                longer += 1.0;
                rest += f64::from(len - self.run_len);
            }
        }
        match as_long {
            // It outgrows all others: as long again.
            0.0 => (1.0 - 1.0 / f64::from(self.run_len), f64::from(self.run_len)),
            _ => (longer / as_long, rest / f64::max(longer, 1.0)),
        }
    }

    /// What may come next, the soonest first: the rest of the present cluster, or another one. The
    /// likelihoods add up to 1.
    pub fn due(&self, now_ns: u64, clusters: Clusters) -> impl Iterator<Item = Due> + '_ {
        let (age_ns, apart_ns) = (self.age_ns(now_ns), self.apart_ns as f64);
        self.iter().filter(move |some| some.mean_ns > age_ns).map(move |some| {
            let (likely, longer, len) = if some.mean_ns <= apart_ns {
                (clusters.goes_on, clusters.gaps_longer, clusters.rest_len)
            } else {
                (1.0 - clusters.goes_on, clusters.pauses_longer, clusters.len)
            };
            Due { likely: likely * some.len / longer, gap_ns: some.mean_ns, len }
        })
    }

    /// The gaps by length, ascending, those of about one length together.
    pub fn iter(&self) -> impl Iterator<Item = Alike> + '_ {
        self.gaps.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clusters of eight, 10 µs apart, every millisecond: behind the fifth arrival three are due at
    /// once, behind the eighth the next eight in a millisecond.
    #[test]
    fn clusters_are_told_from_pauses() {
        let mut gaps = ArrivalGaps::new(100_000);
        let mut now_ns = 0;
        let mut arrive = |gaps: &mut ArrivalGaps, len: usize, gap_ns: u64| {
            for _ in 0..len {
                now_ns += gap_ns;
                gaps.arrived(now_ns);
            }
            now_ns
        };
        for _ in 0..10 {
            arrive(&mut gaps, 1, 1_000_000);
            arrive(&mut gaps, 7, 10_000);
        }
        let rest = |gaps: &ArrivalGaps, now_ns: u64| {
            let clusters = gaps.clusters(now_ns).unwrap();
            let due: Vec<_> = gaps.due(now_ns, clusters).filter(|due| due.likely > 0.0).collect();
            let likely: f64 = due.iter().map(|due| due.likely).sum();
            assert!((likely - 1.0).abs() < 1e-9, "{due:?}");
            (due[0].gap_ns, due[0].len)
        };
        arrive(&mut gaps, 1, 1_000_000);
        let now_ns = arrive(&mut gaps, 4, 10_000);
        assert_eq!(rest(&gaps, now_ns), (10_000.0, 3.0));
        let now_ns = arrive(&mut gaps, 3, 10_000);
        assert_eq!(rest(&gaps, now_ns), (1_000_000.0, 8.0));
        // The cluster is over although shorter than the others: what comes is the next one.
        arrive(&mut gaps, 1, 1_000_000);
        let now_ns = arrive(&mut gaps, 2, 10_000) + 200_000;
        assert_eq!(rest(&gaps, now_ns), (1_000_000.0, 8.0));
        let clusters = gaps.clusters(now_ns).unwrap();
        assert_eq!((clusters.gap_ns, clusters.pause_ns), (10_000.0, 1_000_000.0));
    }

    /// Goal: few clusters, and few gaps as long as the present one, tell nothing. Method: pairs,
    /// and behind the last one a silence as few were.
    #[test]
    fn too_few_tell_nothing() {
        let mut gaps = ArrivalGaps::new(100_000);
        let mut now_ns = 0;
        let mut pair = |gaps: &mut ArrivalGaps, pause_ns: u64| {
            now_ns += pause_ns;
            gaps.arrived(now_ns);
            now_ns += 10_000;
            gaps.arrived(now_ns);
            now_ns
        };
        // The fourth cluster ends with the fifth's first arrival.
        for _ in 0..4 {
            let now_ns = pair(&mut gaps, 1_000_000);
            assert!(gaps.clusters(now_ns).is_none());
        }
        let now_ns = pair(&mut gaps, 1_000_000);
        assert!(gaps.clusters(now_ns).is_some());
        for _ in 0..3 {
            pair(&mut gaps, 3_000_000);
        }
        let now_ns = pair(&mut gaps, 1_000_000);
        assert!(gaps.clusters(now_ns + 2_000_000).is_none());
        let now_ns = pair(&mut gaps, 3_000_000);
        assert!(gaps.clusters(now_ns + 2_000_000).is_some());
    }
}
