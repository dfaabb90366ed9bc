//! Networks before hosts: what holds of every byte and every latency.

use super::*;
use crate::sched::PolicySpec;
use crate::sim::arrivals::{ClosedLoop, Workload};
use crate::sim::device::DeviceSpec;
use crate::sim::summary::setup;

const DEVICE: &str = "up=12us+6us,compute=500us+25us,down=10us+100ns";

fn device() -> DeviceSpec {
    DEVICE.parse().unwrap()
}

fn world(arrivals: &str, policy: PolicySpec, request_len: u64) -> Setup {
    let mut world = setup(&device(), &arrivals.parse().unwrap(), policy, 256, 7);
    world.arrival_len_max = request_len;
    world
}

fn network(words: &str) -> Network {
    words.parse().unwrap()
}

/// A delay alone moves every arrival and every answer by the same time.
#[test]
fn a_delay_alone_is_added_to_every_latency_and_changes_nothing_else() {
    for policy in [PolicySpec::Serial, PolicySpec::Jit, PolicySpec::Stream] {
        let world = world("poisson:20k", policy, 20_000);
        let near = crate::sim::run(&world, ());
        for (words, both_ns) in [("delay=0s", 0), ("delay=20ms", 40_000_000)] {
            let far = run(&world, &network(words));
            let expected: Vec<u64> =
                near.latencies.sorted_ns().iter().map(|ns| ns + both_ns).collect();
            assert_eq!(far.clients.latencies.sorted_ns(), expected, "{policy}, {words}");
            assert_eq!(far.host_latencies(), near.latencies, "{policy}, {words}");
            assert_eq!(far.clients.batch_count, near.batch_count, "{policy}, {words}");
        }
    }
}

/// Every byte that was sent is carried once, each way, and no sooner than the link can.
#[test]
fn bytes_are_conserved_and_the_link_carries_no_more_than_it_can() {
    for (workload, words) in [
        ("poisson:30k", "delay=1ms,bandwidth=25Gbit,hosts=3,announced"),
        ("burst:5k@10ms,60k@10ms", "delay=100us,bandwidth=40Gbit,hosts=2,balancer=round-robin"),
        ("closed:200", "delay=2ms,bandwidth=40Gbit,announced"),
        ("closed:64,think=1ms,exponential", "delay=0s,bandwidth=10Gbit,hosts=2"),
    ] {
        let (world, network) = (world(workload, PolicySpec::Stream, 30_000), network(words));
        let found = run(&world, &network);
        assert_eq!(found.clients.offered_len, 30_000, "{words}");
        assert_eq!(found.clients.completed_len, 30_000, "{words}");
        assert_eq!(found.way_in.bytes, 30_000 * network.request_bytes, "{words}");
        assert_eq!(found.way_out.bytes, 30_000 * network.answer_bytes, "{words}");
        let least_ns = network.alone_ns() + device().alone_ns() as u64;
        assert!(found.clients.latencies.sorted_ns()[0] >= least_ns, "{words}");
        assert!(found.link_share() <= 1.0, "{words}: {}", found.link_share());
        assert!(found.clients.throughput_hz() <= network.capacity_hz(), "{words}");
    }
}

/// The link is a queue: requests that are sent at once leave it one after the other.
#[test]
fn what_is_sent_at_once_arrives_in_order_and_a_transmission_apart() {
    let mut link = Link::default();
    let left: Vec<u64> = [0, 0, 5, 100].map(|now_ns| link.carry(now_ns, 3, 10)).to_vec();
    assert_eq!(left, [10, 20, 30, 110]);
    assert_eq!((link.bytes, link.busy_ns), (12, 40));
}

/// A client has one request on its way, so that no more than the number of clients over the whole
/// round are answered.
#[test]
fn clients_that_wait_for_answers_wait_for_the_network_too() {
    let client_len = 32;
    let workload = Workload::Closed(ClosedLoop::new(client_len));
    let mut world = setup(&device(), &workload, PolicySpec::Stream, 256, 7);
    world.arrival_len_max = 20_000;
    let found = run(&world, &network("delay=20ms")).clients;
    let round_s = found.latencies.mean_ns() * 1e-9;
    let expected_hz = client_len as f64 / round_s;
    assert!((found.throughput_hz() / expected_hz - 1.0).abs() < 0.01, "{found:?}");
    assert!(round_s > 0.040 && round_s < 0.043, "{round_s}");
}

/// Where bytes take no time, headers have nothing to tell; where they wait, the scheduler listens.
#[test]
fn headers_announce_what_is_still_on_the_link_and_nothing_else() {
    let world = world("poisson:12k", PolicySpec::Stream, 20_000);
    let differs = |words: &str| {
        let [plain, announced] = ["", ",announced"]
            .map(|item| run(&world, &network(&format!("{words}{item}"))).clients.latencies);
        plain != announced
    };
    assert!(!differs("delay=5ms"));
    assert!(differs("delay=5ms,bandwidth=20Gbit"));
}

/// Three clients and four hosts, some of whose batches take ten times as long: who takes turns
/// comes to one that is busy, who looks at what is outstanding finds one that is idle.
#[test]
fn the_host_with_the_fewest_outstanding_is_idle_where_one_is() {
    let mut world = world("closed:3,think=1ms,exponential", PolicySpec::Serial, 20_000);
    world.devices = vec![format!("{DEVICE},outliers=10%x10").parse().unwrap()];
    let [least, turns] =
        ["hosts=4", "hosts=4,balancer=round-robin"].map(|words| run(&world, &network(words)));
    assert!(turns.hosts.iter().all(|host| host.offered_len == 5_000));
    let [least_ns, turns_ns] = [least, turns].map(|found| found.clients.latencies.mean_ns());
    assert!(least_ns < 0.95 * turns_ns, "{least_ns} {turns_ns}");
}
