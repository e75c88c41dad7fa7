//! Counts the heap allocations of a pick, and of everything else that happens once per call.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_balance::{
    Address, Affinity, Ask, Balancer, BalancerConfig, BoundedLoad, CallReport, Choice, Connectivity,
    EndpointSet, KeyPart, LeastRequestConfig, LoadReport, LoadWeightConfig, Outcome, PeakEwmaConfig, Pick,
    Policy, PrequalConfig, ProbeAnswer, ProbeSource, RingSize, SampleSize, SlowStart, TableSize, hash_bytes,
    hash_of,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

const NOW: Duration = Duration::from_secs(1);
const ASK: Ask = Ask { now: NOW, hash: None };
const REPORT: CallReport = CallReport {
    now: Duration::from_millis(1_001),
    outcome: Outcome::Success,
    latency: Duration::from_millis(1),
    load: None,
};

fn policies() -> Vec<Policy> {
    let sample = |count| {
        Policy::LeastRequest(LeastRequestConfig::of(Choice::Sample(
            SampleSize::try_from(count).expect("at least two"),
        )))
    };
    vec![
        Policy::PickFirst { shuffle: false },
        Policy::RoundRobin,
        Policy::WeightedRoundRobin,
        Policy::Random,
        sample(2),
        sample(10),
        Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)),
        Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()),
        Policy::PeakEwma(PeakEwmaConfig::default()),
        Policy::Prequal(PrequalConfig::default()),
        Policy::Prequal(PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() }),
        Policy::RingHash { size: RingSize::default(), affinity: Affinity::Rehash },
        Policy::RingHash { size: RingSize::default(), affinity: Affinity::Bounded(BoundedLoad::default()) },
        Policy::Maglev { size: TableSize::default(), affinity: Affinity::Rehash },
        Policy::Maglev { size: TableSize::default(), affinity: Affinity::Bounded(BoundedLoad::default()) },
    ]
}

/// A balancer of 1,000 connected endpoints with weights from 1 to 99.
fn connected(policy: Policy) -> Balancer {
    connected_to(policy, &endpoints())
}

fn endpoints() -> Arc<EndpointSet> {
    let address = |port| Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    let addresses: Vec<_> = (1..=1_000_u16).map(|port| (address(port), u32::from(port % 100))).collect();
    Arc::new(EndpointSet::new(&addresses))
}

fn connected_to(policy: Policy, set: &Arc<EndpointSet>) -> Balancer {
    let mut balancer = Balancer::new(policy, SmallRng::seed_from_u64(1));
    connect(&mut balancer, set);
    balancer
}

fn connect(balancer: &mut Balancer, set: &Arc<EndpointSet>) {
    assert_eq!(balancer.update(set).added.len(), 1_000);
    while let Some(slot) = balancer.wants_connection(NOW) {
        balancer.set_connectivity(slot, Connectivity::Ready, NOW);
    }
}

/// What a session-affinity key may be made of.
fn key_of(number: u64) -> [KeyPart; 3] {
    let value = number.to_be_bytes();
    let cookie = b"theme=dark; session=\"8f14e45f\"";
    [
        KeyPart::metadata([&value[..], b"second"]),
        KeyPart::cookie([&cookie[..]], b"session"),
        KeyPart::source_ip(Some([192, 0, 2, 1].into())).terminal(),
    ]
}

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_call_allocates_nothing() {
    for policy in policies() {
        let mut balancer = connected(policy);
        let count = allocations(|| {
            for key in 0..10_000 {
                let ask = Ask { hash: hash_of(key_of(key)), ..ASK };
                let Pick::Endpoint(slot) = balancer.pick(&ask) else { panic!("all endpoints are ready") };
                balancer.call_started(slot, NOW);
                balancer.call_finished(slot, &REPORT);
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    }
}

#[test]
fn a_retry_allocates_nothing() {
    for policy in policies() {
        let mut balancer = connected(policy);
        let mut tried = Vec::with_capacity(5);
        let count = allocations(|| {
            for key in 0..1_000 {
                let ask = Ask { hash: Some(hash_bytes(&u64::to_be_bytes(key))), ..ASK };
                tried.clear();
                while tried.len() < 5
                    && let Pick::Endpoint(slot) = balancer.pick_excluding(&ask, &tried)
                {
                    tried.push(slot);
                }
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    }
}

#[test]
fn noticing_that_endpoints_drain_and_come_back_allocates_nothing() {
    for policy in policies() {
        let mut balancer = connected(policy);
        let endpoints: Vec<_> = balancer.slots().map(|status| Arc::clone(status.endpoint)).collect();
        let count = allocations(|| {
            for draining in [true, false, true, false] {
                endpoints.iter().skip(1).for_each(|endpoint| endpoint.set_draining(draining));
                for _ in 0..2_000 {
                    assert!(matches!(balancer.pick(&ASK), Pick::Endpoint(_)));
                }
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    }
}

#[test]
fn endpoints_that_were_draining_from_the_start_come_back_without_an_allocation() {
    for policy in policies() {
        let set = endpoints();
        set.endpoints().iter().for_each(|endpoint| endpoint.set_draining(true));
        let mut balancer = connected_to(policy, &set);
        let count = allocations(|| {
            set.endpoints().iter().for_each(|endpoint| endpoint.set_draining(false));
            for _ in 0..2_000 {
                assert!(matches!(balancer.pick(&ASK), Pick::Endpoint(_)));
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    }
}

/// Calls as time passes, with load reports, answers to probes, and endpoints that warm up.
#[test]
fn what_changes_with_time_allocates_nothing() {
    for policy in policies() {
        let config =
            BalancerConfig { policy, slow_start: Some(SlowStart::default()), ..BalancerConfig::default() };
        let mut balancer = Balancer::with_config(config, SmallRng::seed_from_u64(1));
        connect(&mut balancer, &endpoints());
        let count = allocations(|| {
            for call in 0..40_000_u32 {
                let now = NOW + call * Duration::from_millis(2);
                let ask = Ask { now, hash: Some(hash_bytes(&call.to_be_bytes())) };
                let Pick::Endpoint(slot) = balancer.pick(&ask) else { panic!("all endpoints are ready") };
                balancer.call_started(slot, now);
                while let Some(probed) = balancer.wants_probe(now) {
                    let answer = ProbeAnswer { requests_in_flight: call % 7, latency: Some(REPORT.latency) };
                    balancer.probe_answered(probed, &answer, now);
                }
                let load = LoadReport {
                    utilization: 0.5,
                    requests_per_second: f64::from(1 + slot.index() as u32 % 90),
                    errors_per_second: 0.0,
                };
                balancer.call_finished(slot, &CallReport { now, load: Some(load), ..REPORT });
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    }
}
