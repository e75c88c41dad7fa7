//! Of two clusters only one retries, hedges, ejects, sheds or gets copies: what is counted of each, exactly.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{BreakerLimits, CircuitBreaker, Scope};
use evenkeel_balance::outlier::{OutlierConfig, OutlierDetector};
use evenkeel_balance::retry::{CodeSet, HedgingPolicy, RetryOn, RetryPolicy};
use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::TransportEnd;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::mirror::Mirror;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::{
    MetadataMatch, Route, RouteActions, RouteMatch, RouteTable, Split, ValueMatch,
};
use evenkeel_proxy::worker::snapshot::{Cluster, HedgeSettings, Listener, RetrySettings};
use evenkeel_telemetry::{
    ClusterCounts, ClusterEvent, Ejected, Event, Hedged, Limited, Mirrored, ResponseFlag, RetryDenied,
    RetryReason,
};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

/// The cluster that a call names with `x-to`: "test" has two endpoints, "second" one.
const NAMES: [&str; 2] = ["test", "second"];

/// A route for the calls that name the cluster at this position.
fn route(cluster: usize) -> Route {
    let value = ValueMatch::Exact(NAMES[cluster].as_bytes().into());
    let conditions = RouteMatch {
        metadata: vec![MetadataMatch { name: b"x-to"[..].into(), value, invert: false }],
        ..RouteMatch::default()
    };
    Route { conditions, ..Route::new(NAMES[cluster], Split::to(cluster)) }
}

/// A client of both clusters, whose routes `adjust` changes alike.
fn world(of_cluster: impl FnOnce(&mut Cluster), adjust: impl Fn(&mut Route)) -> (World, usize) {
    let accountant = Accountant::new(u64::MAX);
    let mut world = World::with_backends(&accountant, Limits::edge(), 2, |cluster, _| of_cluster(cluster));
    let routes = [0, 1].map(|cluster| {
        let mut route = route(cluster);
        adjust(&mut route);
        route
    });
    world.add_cluster("second", Listener::new("test", Limits::edge(), RouteTable::new(routes.into())));
    let client = world.client();
    (world, client)
}

fn call_to(world: &mut World, client: usize, name: &str) {
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, &[("x-to", name)]);
    peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
}

/// The counts of a cluster; `None` if it has none any more.
fn counts(world: &World, name: &str) -> Option<ClusterCounts> {
    let snapshot = world.telemetry.snapshot();
    snapshot.clusters.iter().find(|cluster| &*cluster.name == name).map(|cluster| cluster.events)
}

/// Checks that a cluster counted these and nothing else, and the other one nothing at all.
fn assert_counted(world: &World, name: &str, expected: &[(ClusterEvent, u64)]) {
    let counted = counts(world, name).unwrap();
    for (event, count) in expected {
        assert_eq!(counted.get(*event), *count, "{event:?} in {name}");
    }
    assert_eq!(counted.total(), expected.iter().map(|(_, count)| count).sum::<u64>(), "{name}: {counted:?}");
    let other = NAMES.into_iter().find(|other| *other != name).unwrap();
    assert_eq!(counts(world, other), Some(ClusterCounts::default()), "{other}");
}

fn retries(route: &mut Route) {
    let policy = RetryPolicy {
        max_attempts: 3,
        initial_backoff: 10 * MS,
        retry_on: RetryOn::statuses(CodeSet::of(&[Code::Unavailable])),
        ..RetryPolicy::default()
    };
    route.retry = Some(Arc::new(RetrySettings { policy, is_idempotent: false }));
}

#[test]
fn the_cluster_whose_calls_fail_has_the_retries() {
    let (mut world, client) = world(|_| {}, retries);
    let broken = world.backends[2];
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    for _ in 0..4 {
        call_to(&mut world, client, "test");
        world.turns(3);
    }
    call_to(&mut world, client, "second");
    world.turns(60);
    assert_eq!(world.peer(client).ends[4], End::Status(Code::Unavailable));
    let expected = [
        (ClusterEvent::Retry(RetryReason::Status), 2),
        (ClusterEvent::RetryDenied(RetryDenied::AttemptsUsed), 1),
    ];
    assert_counted(&world, "second", &expected);
}

#[test]
fn the_cluster_that_is_slow_has_the_hedges() {
    let policy = HedgingPolicy { max_attempts: 2, hedging_delay: 20 * MS, ..HedgingPolicy::default() };
    let (mut world, client) = world(|_| {}, |route| route.hedge = Some(Arc::new(HedgeSettings { policy })));
    // Its turn comes first.
    let slow = world.backends[0];
    world.peer(slow).is_silent = true;
    for _ in 0..3 {
        call_to(&mut world, client, "second");
        world.turns(3);
    }
    (0..2).for_each(|_| call_to(&mut world, client, "test"));
    world.turns(60);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 5]);
    let expected = [(ClusterEvent::Hedged(Hedged::Sent), 1), (ClusterEvent::Hedged(Hedged::Won), 1)];
    assert_counted(&world, "test", &expected);
}

#[test]
fn the_cluster_with_the_broken_endpoint_has_the_ejection() {
    let detector = Arc::new(OutlierDetector::new(OutlierConfig::default(), 3, Duration::ZERO));
    let (mut world, client) = world(|cluster| cluster.outliers = Some(detector), |_| {});
    let broken = world.backends[0];
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    for _ in 0..20 {
        call_to(&mut world, client, "second");
        call_to(&mut world, client, "test");
        world.turns(3);
    }
    let expected = [(ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures), 1)];
    assert_counted(&world, "test", &expected);
    world.peer(broken).fails_with = None;
    world.now += Duration::from_secs(40);
    for _ in 0..20 {
        call_to(&mut world, client, "test");
        world.turns(3);
    }
    assert_counted(&world, "test", &[expected[0], (ClusterEvent::OutlierReturned, 1)]);
}

#[test]
fn the_cluster_with_the_limit_has_the_calls_that_were_turned_away() {
    let (mut world, client) = world(|_| {}, |_| {});
    let one = BreakerLimits { max_requests: Some(1), ..BreakerLimits::default() };
    let breaker = Some(Arc::new(CircuitBreaker::new(Scope::Cluster, &one)));
    world.limit_cluster(1, ClusterLimits { breaker, ..ClusterLimits::default() });
    for _ in 0..4 {
        call_to(&mut world, client, "test");
        call_to(&mut world, client, "second");
    }
    world.turns(5);
    let refused = |end: &&End| **end == End::Status(Code::Unavailable);
    assert_eq!(world.peer(client).ends.iter().filter(refused).count(), 3);
    let expected = [
        (ClusterEvent::Limited(Limited::MaxRequests), 3),
        (ClusterEvent::LocalReply(ResponseFlag::UpstreamOverflow), 3),
    ];
    assert_counted(&world, "second", &expected);
}

#[test]
fn copies_are_counted_in_the_cluster_that_gets_them() {
    let mirror = Some(Mirror { cluster: 1, part: 1_000_000 });
    let actions = Arc::new(RouteActions { mirror, ..RouteActions::default() });
    let (mut world, client) = world(|_| {}, |route| route.actions = Some(Arc::clone(&actions)));
    for _ in 0..5 {
        call_to(&mut world, client, "test");
        world.turns(3);
    }
    assert_counted(&world, "second", &[(ClusterEvent::Mirrored(Mirrored::Sent), 5)]);
}

#[test]
fn a_call_that_no_route_takes_is_of_no_cluster() {
    let (mut world, client) = world(|_| {}, |_| {});
    call_to(&mut world, client, "nobody");
    call_to(&mut world, client, "test");
    world.turns(3);
    for name in NAMES {
        assert_eq!(counts(&world, name), Some(ClusterCounts::default()), "{name}");
    }
    assert_eq!(world.telemetry.snapshot().event(Event::LocalReply(ResponseFlag::NoRoute)), 1);
}

#[test]
fn a_cluster_that_a_reload_removes_is_counted_until_its_calls_have_ended_and_no_longer() {
    let (mut world, client) = world(|_| {}, |_| {});
    let slow = world.backends[2];
    world.peer(slow).is_silent = true;
    let now = world.now;
    world.peer(client).begin(now, &[("x-to", "second"), ("grpc-timeout", "100m")]);
    world.turns(3);
    // Back to the first cluster alone.
    world.change_cluster(|_| {});
    world.reload(Listener::new("test", Limits::edge(), RouteTable::new(vec![route(0)])));
    world.turns(3);
    assert_eq!(counts(&world, "second"), Some(ClusterCounts::default()), "a call is left");
    let late = ClusterEvent::LocalReply(ResponseFlag::UpstreamTimeout);
    while world.worker.call_count() > 0 {
        assert!(world.now < Duration::from_secs(1), "the call ends at its deadline");
        assert_eq!(counts(&world, "second").map(|counts| counts.get(late)), Some(0));
        world.turn();
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::DeadlineExceeded)]);
    let (backend, now) = (world.peers[&slow].0, world.now);
    world.worker.ended(now, backend, TransportEnd::Eof);
    world.turns(3);
    assert_eq!(counts(&world, "second"), None);
    assert_eq!(counts(&world, "test"), Some(ClusterCounts::default()));
}
