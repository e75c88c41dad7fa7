//! What calls see of configurations that follow each other: those that wait go on waiting, and new ones wait for connections.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{
    AdaptiveConfig, AdaptiveLimiter, BreakerLimits, CircuitBreaker, MinRtt, Resource, Scope,
};
use evenkeel_balance::{EndpointSet, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::overload::Accountant;

use self::peers::{End, World};

fn world(backends: u16) -> (World, usize) {
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, |_, _| {});
    let client = world.client();
    (world, client)
}

#[test]
fn a_call_waits_for_discovery_however_often_the_policy_goes_back_and_forth() {
    let (mut world, client) = world(1);
    let endpoints = world.snapshot.clusters[0].endpoints.clone();
    // A cluster of another policy asks discovery anew, and has no answer at first.
    world.change_cluster(|cluster| cluster.endpoints = None);
    world.change_cluster(|cluster| (cluster.policy, cluster.endpoints) = (Policy::Random, None));
    world.call(client, b'S', 10);
    for policy in [Policy::RoundRobin, Policy::Random, Policy::RoundRobin, Policy::Random] {
        world.turns(3);
        world.change_cluster(|cluster| cluster.policy = policy);
        world.turns(3);
        assert_eq!((world.peer(client).ends.len(), world.worker.call_count()), (0, 1), "{policy:?}");
    }
    world.change_cluster(|cluster| cluster.endpoints = endpoints);
    world.worker_may_connect = true;
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    world.close_clients();
}

#[test]
fn no_call_fails_when_the_policy_changes_while_endpoints_answer() {
    let policies =
        [Policy::PickFirst { shuffle: false }, Policy::PickFirst { shuffle: true }, Policy::Random];
    for policy in policies {
        let (mut world, client) = world(2);
        world.worker_may_connect = true;
        for policy in [policy, Policy::RoundRobin, policy] {
            world.change_cluster(|cluster| cluster.policy = policy);
            for _ in 0..5 {
                world.call(client, b'S', 10);
                world.turns(1);
            }
        }
        world.turns(5);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 15], "{policy:?}");
        world.close_clients();
    }
}

/// Circuit breakers of which the cluster's is this one.
fn with(
    breaker: &Arc<CircuitBreaker>,
    adaptive: Option<&Arc<AdaptiveLimiter>>,
) -> Option<Arc<ClusterLimits>> {
    let (breaker, adaptive) = (Some(Arc::clone(breaker)), adaptive.cloned());
    Some(Arc::new(ClusterLimits { breaker, counts_endpoints: true, adaptive, refuses_at_once: false }))
}

/// What is in use: connections, waiting calls, requests, retries.
fn used(breaker: &CircuitBreaker) -> [u32; 4] {
    Resource::ALL.map(|resource| breaker.used(resource))
}

fn breaker(max_requests: u32) -> Arc<CircuitBreaker> {
    let limits = BreakerLimits { max_requests: Some(max_requests), ..BreakerLimits::default() };
    Arc::new(CircuitBreaker::new(Scope::Cluster, &limits))
}

/// A world with so many calls under way at a backend that does not answer.
fn with_calls(count: usize, limits: Option<ClusterLimits>) -> (World, usize) {
    let (mut world, client) = world(1);
    world.worker_may_connect = true;
    let backend = world.backends[0];
    world.peer(backend).is_silent = true;
    world.change_cluster(|cluster| cluster.limits = limits.map(Arc::new));
    for _ in 0..count {
        world.call(client, b'S', 10);
    }
    world.turns(3);
    (world, client)
}

#[test]
fn circuit_breakers_that_are_turned_on_count_what_is_under_way() {
    let (mut world, client) = with_calls(3, None);
    let first = breaker(3);
    for _ in 0..2 {
        // Off and on again: nothing is counted twice.
        world.change_cluster(|cluster| cluster.limits = None);
        world.change_cluster(|cluster| cluster.limits = with(&first, None));
        assert_eq!(used(&first), [1, 0, 3, 0]);
    }
    world.call(client, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)], "the bound is reached");
    // Another breaker takes over what the first one counted.
    let second = breaker(4);
    world.change_cluster(|cluster| cluster.limits = None);
    world.change_cluster(|cluster| cluster.limits = with(&second, None));
    assert_eq!((used(&first), used(&second)), ([0; 4], [1, 0, 3, 0]));
    world.call(client, b'S', 10);
    world.turns(3);
    assert_eq!(used(&second), [1, 0, 4, 0]);
    let endpoints = world.snapshot.clusters[0].endpoints.clone();
    let endpoint = &endpoints.iter().next().expect("discovery has answered").endpoints()[0];
    assert_eq!(used(endpoint.breaker()), [1, 0, 4, 0]);
    world.close_clients();
    assert_eq!((used(&second), used(endpoint.breaker())), ([0; 4], [0; 4]));
}

#[test]
fn circuit_breakers_that_come_with_another_policy_count_what_is_under_way_by_the_former() {
    let (mut world, client) = with_calls(3, None);
    let breaker = breaker(4);
    world.change_cluster(|cluster| (cluster.policy, cluster.limits) = (Policy::Random, with(&breaker, None)));
    assert_eq!(used(&breaker)[2], 3);
    // One more finds a place, at a backend that answers.
    for _ in 0..2 {
        world.call(client, b'S', 10);
    }
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable), End::Status(Code::Ok)]);
    assert_eq!(used(&breaker)[2], 3);
    world.close_clients();
    assert_eq!(used(&breaker), [0; 4]);
}

#[test]
fn circuit_breakers_beside_adaptive_concurrency_take_over_its_calls_and_those_that_wait() {
    let limit = AdaptiveConfig {
        min_limit: 2,
        max_limit: 2,
        initial_limit: 2,
        min_rtt: MinRtt::Fixed(Duration::from_millis(1)),
        ..AdaptiveConfig::default()
    };
    let limiter = Arc::new(AdaptiveLimiter::new(limit, Duration::ZERO));
    let alone = ClusterLimits { adaptive: Some(Arc::clone(&limiter)), ..ClusterLimits::default() };
    let (mut world, _) = with_calls(5, Some(alone));
    let breaker = breaker(9);
    world.change_cluster(|cluster| cluster.limits = with(&breaker, Some(&limiter)));
    assert_eq!((used(&breaker), limiter.in_flight()), ([1, 3, 2, 0], 2));
    world.close_clients();
    assert_eq!((used(&breaker), limiter.in_flight()), ([0; 4], 0));
}

#[test]
fn a_call_that_waits_for_ready_does_not_wait_for_a_cluster_that_is_taken_away() {
    let (mut world, client) = world(1);
    world.change_cluster(|cluster| {
        (cluster.wait_for_ready, cluster.endpoints) = (true, Some(Arc::new(EndpointSet::new(&[]))));
    });
    world.call(client, b'S', 10);
    world.turns(30);
    assert_eq!((world.peer(client).ends.len(), world.worker.call_count()), (0, 1));
    world.change_cluster(|cluster| cluster.name = "other".into());
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
}
