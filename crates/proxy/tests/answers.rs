//! What clients are told of the attempt that their call ends with, and what backends' answers say of them.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::Policy;
use evenkeel_balance::limit::{BreakerLimits, CircuitBreaker, Resource, Scope};
use evenkeel_balance::retry::{CodeSet, HedgingPolicy, RetryBudget, RetryBudgetConfig, RetryOn, RetryPolicy};
use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::Route;
use evenkeel_proxy::worker::snapshot::{Cluster, HedgeSettings, RetryGates, RetrySettings};
use evenkeel_telemetry::{ClusterEvent, RetryDenied};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

/// What is not gRPC, what it means, and what clients are told.
const NOT_GRPC: [(&str, Code, &str); 2] = [
    ("200", Code::Unknown, "upstream answered without a gRPC content-type"),
    ("503", Code::Unavailable, "upstream answered with HTTP status 503 instead of gRPC"),
];

fn world(backends: u16, adjust: impl FnOnce(&mut Cluster, &mut Route)) -> (World, usize) {
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, adjust);
    let client = world.client();
    (world, client)
}

fn told(world: &mut World, client: usize) -> Option<String> {
    let ended = &world.peer(client).ended_with;
    ended.iter().find(|(name, _)| name == "grpc-message").map(|(_, value)| value.replace("%20", " "))
}

fn denied(world: &World) -> u64 {
    world.telemetry.snapshot().cluster_event(ClusterEvent::RetryDenied(RetryDenied::BreakerOpen))
}

/// A limit that has no place for the next attempt, once that is due.
fn one_request() -> (ClusterLimits, Arc<CircuitBreaker>) {
    let limits = BreakerLimits { max_requests: Some(1), ..BreakerLimits::default() };
    let breaker = Arc::new(CircuitBreaker::new(Scope::Cluster, &limits));
    (ClusterLimits { breaker: Some(Arc::clone(&breaker)), ..ClusterLimits::default() }, breaker)
}

#[test]
fn a_retry_that_finds_no_place_leaves_what_stood_for_an_answer_that_was_not_grpc() {
    for (status, code, text) in NOT_GRPC {
        let (limits, breaker) = one_request();
        let policy = RetryPolicy {
            initial_backoff: 10 * MS,
            retry_on: RetryOn::statuses(CodeSet::of(&[code])),
            ..RetryPolicy::default()
        };
        let (mut world, client) = world(1, |cluster, route| {
            cluster.limits = Some(Arc::new(limits));
            route.retry = Some(Arc::new(RetrySettings { policy, is_idempotent: false }));
        });
        let backend = world.backends[0];
        world.peer(backend).answers_http = Some(status);
        world.call(client, b'S', 10);
        world.turns(3);
        assert!(world.peer(client).ends.is_empty(), "the backoff is waited for");
        breaker.acquire(Resource::Requests).unwrap();
        world.turns(20);
        assert_eq!(world.peer(client).ends, [End::Status(code)], "{status}");
        assert_eq!((told(&mut world, client).as_deref(), denied(&world)), (Some(text), 1));
        assert_eq!(world.worker.call_count(), 0);
    }
}

#[test]
fn a_hedged_call_whose_next_attempt_finds_no_place_leaves_what_stood_for_an_answer_that_was_not_grpc() {
    for (status, code, text) in NOT_GRPC {
        let (limits, breaker) = one_request();
        let policy = HedgingPolicy {
            hedging_delay: 20 * MS,
            non_fatal: CodeSet::of(&[code]),
            ..HedgingPolicy::default()
        };
        let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
        let (mut world, client) = world(2, |cluster, route| {
            cluster.limits = Some(Arc::new(limits));
            cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
            route.hedge = Some(Arc::new(HedgeSettings { policy }));
        });
        for backend in world.backends.clone() {
            world.peer(backend).answers_http = Some(status);
        }
        // The place that the first attempt leaves is taken before the second asks for it.
        let now = world.now;
        let stream = world.peer(client).begin(now, &[]);
        world.turns(2);
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
        while world.backends.iter().all(|backend| world.peers[backend].1.served == 0) {
            world.turn();
        }
        breaker.force(Resource::Requests);
        world.turns(30);
        assert_eq!(world.peer(client).ends, [End::Status(code)], "{status}");
        assert_eq!(told(&mut world, client).as_deref(), Some(text));
        assert_eq!(world.worker.call_count(), 0);
    }
}

/// It answers at once and has nothing in flight: were that success, the policies that go by latency would send it all calls.
#[test]
fn a_backend_that_turns_calls_away_draws_none_for_being_quick() {
    for policy in [Policy::PeakEwma(Default::default()), Policy::Prequal(Default::default())] {
        let (mut world, client) = world(3, |cluster, _| cluster.policy = policy);
        let calls = |world: &mut World| {
            for _ in 0..300 {
                world.call(client, b'S', 10);
                world.turns(20);
            }
        };
        calls(&mut world);
        // All are as quick, and the policy goes on with one of them as soon as it knows that.
        let full = *world.backends.iter().max_by_key(|backend| world.peers[*backend].1.served).unwrap();
        let before = world.peer(full).served;
        world.peer(full).fails_with = Some((Code::ResourceExhausted, Vec::new()));
        calls(&mut world);
        let served = world.peer(full).served - before;
        assert!(before >= 100 && served < 30, "{before} of 300, then {served} while it is full, {policy:?}");
    }
}
