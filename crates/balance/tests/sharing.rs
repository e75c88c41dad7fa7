//! Many threads, each with its own balancer, on the same endpoints.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread;

use evenkeel_balance::{
    Address, Ask, Balancer, CallReport, Connectivity, EndpointSet, Outcome, Pick, Policy,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const ASK: Ask = Ask { now: Duration::ZERO, hash: None };
const WORKERS: usize = 4;
const CALLS: usize = 50_000;
const ENDPOINTS: u16 = 5;

fn shared_set() -> Arc<EndpointSet> {
    let address = |port| Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    Arc::new(EndpointSet::new(&(1..=ENDPOINTS).map(|port| (address(port), 1)).collect::<Vec<_>>()))
}

fn connected(set: &Arc<EndpointSet>, seed: u64) -> Balancer {
    let mut balancer = Balancer::new(Policy::default(), SmallRng::seed_from_u64(seed));
    assert_eq!(balancer.update(set).added.len(), usize::from(ENDPOINTS));
    while let Some(slot) = balancer.wants_connection(Duration::ZERO) {
        balancer.set_connectivity(slot, Connectivity::Ready, Duration::ZERO);
    }
    balancer
}

fn report(outcome: Outcome, latency: Duration) -> CallReport {
    CallReport { now: latency, outcome, latency, load: None }
}

/// Makes `CALLS` calls with up to 20 in flight, and leaves `left_open` of them in flight.
fn make_calls(set: &Arc<EndpointSet>, seed: u64, left_open: usize) {
    let mut balancer = connected(set, seed);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut open = Vec::new();
    for _ in 0..CALLS {
        let Pick::Endpoint(slot) = balancer.pick(&ASK) else { panic!("all endpoints are ready") };
        balancer.call_started(slot, ASK.now);
        open.push(slot);
        if open.len() == 20 {
            let done = open.swap_remove(rng.random_range(0..20));
            balancer.call_finished(done, &report(Outcome::Success, Duration::from_micros(10)));
        }
    }
    for done in open.drain(left_open..) {
        balancer.call_finished(done, &report(Outcome::Cancelled, Duration::ZERO));
    }
}

#[test]
fn calls_in_flight_and_outcomes_are_exact_across_workers() {
    let set = shared_set();
    let barrier = Barrier::new(WORKERS);
    thread::scope(|scope| {
        for (seed, left_open) in (1..).zip(0..WORKERS) {
            let (set, barrier) = (&set, &barrier);
            scope.spawn(move || {
                barrier.wait();
                make_calls(set, seed, left_open);
            });
        }
    });
    let sum = |count: fn(&evenkeel_balance::Endpoint) -> u64| -> u64 {
        set.endpoints().iter().map(|endpoint| count(endpoint)).sum()
    };
    let left_open = (0..WORKERS).sum::<usize>() as u64;
    assert_eq!(sum(|endpoint| u64::from(endpoint.in_flight())), left_open);
    let finished =
        sum(|endpoint| endpoint.finished(Outcome::Success) + endpoint.finished(Outcome::Cancelled));
    assert_eq!(finished + left_open, (WORKERS * CALLS) as u64);
    for endpoint in set.endpoints() {
        assert_eq!(endpoint.mean_latency(), Some(Duration::from_micros(10)));
        assert_eq!(endpoint.connectivity(), None, "every worker has gone");
    }
}

#[test]
fn one_workers_drain_is_every_workers() {
    let set = shared_set();
    set.endpoints()[0].set_draining(true);
    thread::scope(|scope| {
        for seed in 0..WORKERS as u64 {
            let set = &set;
            scope.spawn(move || {
                let mut balancer = connected(set, seed);
                for _ in 0..1_000 {
                    let Pick::Endpoint(slot) = balancer.pick(&ASK) else {
                        panic!("four endpoints are ready")
                    };
                    assert!(!balancer.endpoint(slot).is_draining());
                }
            });
        }
    });
}
