//! Clients, a link and a balancer before simulated hosts: latency as the clients see it.
//!
//! A request's bytes share the link with those of all others, first come, first served, and so do
//! the answers' on the way back; each byte then takes the delay. Headers are ahead of the bytes
//! that wait: the balancer, which is beside the hosts, chooses by them. Connections are open and
//! warm: neither handshakes nor slow start, nothing is lost. Knows nothing of policies.

mod link;
mod plan;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use link::Link;
pub(super) use plan::plan_about;
pub use plan::{NetworkPlan, plan};
pub use spec::{Balancer, ITEMS, Network};

use super::event::{Event, Observer};
use super::report::{Latencies, Report};
use super::usage::Usage;
use super::world::{NEVER_NS, Setup, Source, World};
use crate::sched::Outcome;

/// What a run over a network came to.
#[derive(Clone, Debug, Default)]
pub struct NetworkReport {
    /// All hosts together; latencies and the end are the clients'.
    pub clients: Report,
    /// Each host by itself; latencies count from a request's last byte to its result there.
    pub hosts: Vec<Report>,
    /// What each host's devices did.
    pub usage: Vec<Usage>,
    /// The link towards the hosts.
    pub way_in: Link,
    /// The link back.
    pub way_out: Link,
}

impl NetworkReport {
    /// The share of the time in which the busier direction of the link was.
    pub fn link_share(&self) -> f64 {
        let busy_ns = self.way_in.busy_ns.max(self.way_out.busy_ns);
        busy_ns as f64 / self.clients.end_ns.max(1) as f64
    }

    /// Latencies of all hosts, without the network.
    pub fn host_latencies(&self) -> Latencies {
        let of_hosts = self.hosts.iter().flat_map(|host| host.latencies.sorted_ns());
        Latencies::new(of_hosts.copied().collect())
    }
}

/// Simulates `setup`, whose workload is that of the clients and whose devices each host has, behind
/// a network, until the last answer has reached its client. A latency bound counts in the host.
///
/// # Panics
/// If the setup announces requests by itself: here the network does.
pub fn run(setup: &Setup, network: &Network) -> NetworkReport {
    assert_eq!(setup.announced_ns, 0, "the network announces requests");
    let setups: Vec<Setup> = (0..network.host_len as u64)
        .map(|host| Setup {
            arrival_len_max: u64::MAX,
            duration_ns: u64::MAX,
            seed: setup.seed.wrapping_add(host),
            ..setup.clone()
        })
        .collect();
    let mut clients = Clients::new(setup, network, &setups);
    while clients.advance() {}
    clients.into_report()
}

/// What became of a request on its host.
#[derive(Clone, Copy, Debug)]
struct Answer {
    sent_ns: u64,
    at_ns: u64,
    is_completed: bool,
    is_refused: bool,
}

/// Tells a host's requests apart, and collects their answers.
#[derive(Debug)]
struct Desk {
    /// When those were sent that are still on their way, in the order of their arrival.
    coming_ns: VecDeque<u64>,
    /// When the request of a slot was sent.
    sent_ns: Vec<u64>,
    answers: Vec<Answer>,
    usage: Usage,
}

impl Observer for Desk {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        self.usage.event(now_ns, event);
        let mut answer = |sent_ns, is_completed, is_refused| {
            self.answers.push(Answer { sent_ns, at_ns: now_ns, is_completed, is_refused });
        };
        let mut arrived = || self.coming_ns.pop_front().expect("only what was sent arrives");
        match *event {
            Event::Submitted { slot, .. } => self.sent_ns[slot as usize] = arrived(),
            Event::Refused { .. } => answer(arrived(), false, true),
            Event::Finished { slot, outcome, .. } => {
                answer(self.sent_ns[slot as usize], outcome == Outcome::Completed, false);
            }
            Event::Asked { .. }
            | Event::Ended { .. }
            | Event::Cancelled { .. }
            | Event::Lost { .. }
            | Event::Returned { .. } => {}
        }
    }
}

struct Host<'a> {
    world: World<'a, Desk>,
    /// Requests that it was given and has not answered.
    outstanding_len: usize,
}

/// A request whose headers are on their way to the balancer.
#[derive(Clone, Copy, Debug)]
struct Head {
    at_ns: u64,
    sent_ns: u64,
    arrival_ns: u64,
}

struct Clients<'a> {
    setup: &'a Setup,
    network: &'a Network,
    source: Source,
    sent_len: u64,
    heads: VecDeque<Head>,
    hosts: Vec<Host<'a>>,
    /// The host that was chosen last.
    last_host: usize,
    /// Whether the hosts were told that nothing comes any more.
    is_ended: bool,
    way_in: Link,
    way_out: Link,
    latencies_ns: Vec<u64>,
    now_ns: u64,
    end_ns: u64,
}

impl<'a> Clients<'a> {
    fn new(setup: &'a Setup, network: &'a Network, setups: &'a [Setup]) -> Self {
        let host = |setup: &'a Setup| {
            let slot_len = setup.config.slot_len;
            let (coming_ns, answers) = (VecDeque::new(), Vec::new());
            let usage = Usage::new(setup.devices.len());
            let desk = Desk { coming_ns, sent_ns: vec![0; slot_len], answers, usage };
            let mut world = World::new(setup, setup.config.policy.policy(), desk);
            world.await_network();
            Host { world, outstanding_len: 0 }
        };
        Self {
            setup,
            network,
            source: Source::new(setup),
            sent_len: 0,
            heads: VecDeque::new(),
            hosts: setups.iter().map(host).collect(),
            last_host: setups.len() - 1,
            is_ended: false,
            way_in: Link::default(),
            way_out: Link::default(),
            latencies_ns: Vec::new(),
            now_ns: 0,
            end_ns: 0,
        }
    }

    /// Goes to the next moment at which something happens; false if there is none. What clients
    /// and balancer do comes before what hosts do then.
    fn advance(&mut self) -> bool {
        let mut send_ns = self.source.next_ns();
        if self.source.is_over(self.setup, self.sent_len, send_ns) {
            send_ns = NEVER_NS;
            if self.heads.is_empty() && !self.is_ended {
                self.is_ended = true;
                self.hosts.iter_mut().for_each(|host| host.world.end_network(self.now_ns));
            }
        }
        let head_ns = self.heads.front().map_or(NEVER_NS, |head| head.at_ns);
        let host_times = self.hosts.iter_mut().map(|host| host.world.next_ns());
        let (host, host_ns) =
            host_times.enumerate().min_by_key(|(_, next_ns)| *next_ns).expect("there is a host");
        let next_ns = send_ns.min(head_ns).min(host_ns);
        if next_ns == NEVER_NS {
            // A host may have answered as it was asked for its next moment.
            return self.take_answers();
        }
        self.now_ns = self.now_ns.max(next_ns);
        if send_ns == next_ns {
            self.send(send_ns);
        } else if head_ns == next_ns {
            self.balance();
        } else {
            self.hosts[host].world.advance();
        }
        self.take_answers();
        true
    }

    /// A client sends a request.
    fn send(&mut self, sent_ns: u64) {
        self.source.advance();
        self.sent_len += 1;
        let Network { delay_ns, request_bytes, .. } = *self.network;
        let transmission_ns = self.network.transmission_ns(request_bytes);
        let left_ns = self.way_in.carry(sent_ns, request_bytes, transmission_ns);
        let (at_ns, arrival_ns) = (sent_ns + delay_ns, left_ns + delay_ns);
        self.heads.push_back(Head { at_ns, sent_ns, arrival_ns });
    }

    /// The next request's headers are at the balancer, which gives it to a host.
    fn balance(&mut self) {
        let Some(Head { at_ns, sent_ns, arrival_ns }) = self.heads.pop_front() else { return };
        let host_len = self.hosts.len();
        let in_turn = (1..=host_len).map(|step| (self.last_host + step) % host_len);
        let chosen = match self.network.balancer {
            Balancer::RoundRobin => in_turn.take(1).next(),
            Balancer::Least => in_turn.min_by_key(|&index| self.hosts[index].outstanding_len),
        };
        self.last_host = chosen.expect("there is a host");
        let host = &mut self.hosts[self.last_host];
        host.outstanding_len += 1;
        host.world.observer.coming_ns.push_back(sent_ns);
        let announced_ns = if self.network.is_announced { at_ns } else { arrival_ns };
        host.world.bring(announced_ns, arrival_ns);
    }

    /// Sends clients the answers that there are; false if there are none.
    fn take_answers(&mut self) -> bool {
        let Network { delay_ns, answer_bytes, .. } = *self.network;
        let transmission_ns = self.network.transmission_ns(answer_bytes);
        let mut is_any = false;
        for host in &mut self.hosts {
            for answer in host.world.observer.answers.drain(..) {
                is_any = true;
                host.outstanding_len -= 1;
                let left_ns = self.way_out.carry(answer.at_ns, answer_bytes, transmission_ns);
                let client_ns = left_ns + delay_ns;
                if answer.is_completed {
                    self.latencies_ns.push(client_ns - answer.sent_ns);
                }
                self.end_ns = self.end_ns.max(client_ns);
                self.source.answered(client_ns, answer.is_refused);
            }
        }
        is_any
    }

    fn into_report(self) -> NetworkReport {
        let usage = self.hosts.iter().map(|host| host.world.observer.usage.clone()).collect();
        let hosts: Vec<Report> =
            self.hosts.into_iter().map(|host| host.world.into_report()).collect();
        let mut clients = Report::default();
        hosts.iter().for_each(|host| clients.add(host));
        clients.latencies = Latencies::new(self.latencies_ns);
        clients.end_ns = self.end_ns;
        NetworkReport { clients, hosts, usage, way_in: self.way_in, way_out: self.way_out }
    }
}
