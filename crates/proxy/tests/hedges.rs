//! Calls that are hedged: when further attempts are sent, which answer counts, and what becomes of the others.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{BreakerLimits, CircuitBreaker, Resource, Scope};
use evenkeel_balance::outlier::{OutlierConfig, OutlierDetector};
use evenkeel_balance::retry::{
    CodeSet, HedgingPolicy, RetryBudget, RetryBudgetConfig, RetryThrottle, RetryThrottleConfig,
};
use evenkeel_balance::{Factor, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits};
use evenkeel_proxy::worker::TransportEnd;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::snapshot::{HedgeSettings, RetryGates};
use evenkeel_telemetry::{ClusterEvent, Ejected, Hedged, RetryDenied};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

/// Up to three attempts, 20 ms apart.
fn policy() -> HedgingPolicy {
    HedgingPolicy { max_attempts: 3, hedging_delay: 20 * MS, ..HedgingPolicy::default() }
}

fn world(backends: u16, policy: HedgingPolicy) -> (World, usize) {
    world_with(backends, policy, RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() })
}

fn world_with(backends: u16, policy: HedgingPolicy, budget: RetryBudgetConfig) -> (World, usize) {
    let accountant = Accountant::new(u64::MAX);
    let mut world = World::with_backends(&accountant, Limits::edge(), backends, |cluster, route| {
        cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
        route.hedge = Some(Arc::new(HedgeSettings { policy }));
    });
    let client = world.client();
    (world, client)
}

fn each_backend(world: &mut World, mut change: impl FnMut(&mut peers::Peer)) {
    for backend in world.backends.clone() {
        change(world.peer(backend));
    }
}

fn served(world: &World) -> Vec<usize> {
    let mut served: Vec<usize> = world.backends.iter().map(|backend| world.peers[backend].1.served).collect();
    served.sort_unstable();
    served
}

fn counted(world: &World, event: ClusterEvent) -> u64 {
    world.telemetry.snapshot().cluster_event(event)
}

/// Streams that are open at the backends.
fn open_streams(world: &World) -> usize {
    world.backends.iter().map(|backend| world.peers[backend].1.http2.stream_count()).sum()
}

fn nothing_is_left(world: &mut World) {
    world.turns(2);
    assert_eq!(world.worker.call_count(), 0);
    assert_eq!(open_streams(world), 0, "attempts that lost are cancelled");
    assert_eq!(world.in_flight(), 0);
}

#[test]
fn a_call_that_is_answered_in_time_has_one_attempt() {
    let (mut world, client) = world(3, policy());
    world.call(client, b'S', 10);
    world.turns(100);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!((served(&world), counted(&world, ClusterEvent::Hedged(Hedged::Sent))), (vec![0, 0, 1], 0));
    nothing_is_left(&mut world);
}

#[test]
fn a_further_attempt_is_sent_a_delay_after_the_last_and_each_to_an_endpoint_of_its_own() {
    let (mut world, client) = world(4, policy());
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    for (turns, attempts) in
        [(18, vec![0, 0, 0, 1]), (4, vec![0, 0, 1, 1]), (20, vec![0, 1, 1, 1]), (100, vec![0, 1, 1, 1])]
    {
        world.turns(turns);
        assert_eq!(served(&world), attempts, "after {:?}", world.now);
    }
    let previous = |world: &World| {
        let asked = world.backends.iter().flat_map(|backend| world.peers[backend].1.asked_with.clone());
        let mut said: Vec<String> =
            asked.filter(|(name, _)| name == "grpc-previous-rpc-attempts").map(|(_, value)| value).collect();
        said.sort_unstable();
        said
    };
    assert_eq!(previous(&world), ["1", "2"]);
    assert!(world.peer(client).ends.is_empty());
}

#[test]
fn the_first_answer_counts_and_the_other_attempts_are_cancelled() {
    let (mut world, client) = world(2, policy());
    // Whichever is asked first says nothing.
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(5);
    let first = *world.backends.iter().find(|backend| world.peers[*backend].1.served == 1).unwrap();
    each_backend(&mut world, |peer| peer.is_silent = false);
    world.turns(20);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(world.peer(first).ends, [End::Reset(ErrorCode::CANCEL)]);
    assert_eq!(counted(&world, ClusterEvent::Hedged(Hedged::Won)), 1);
    nothing_is_left(&mut world);
}

#[test]
fn the_first_attempt_may_still_win() {
    let (mut world, client) = world(2, policy());
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(5);
    let now = world.now;
    let first = *world.backends.iter().find(|backend| world.peers[*backend].1.served == 1).unwrap();
    world.turns(20);
    assert_eq!(served(&world), [1, 1]);
    let peer = world.peer(first);
    peer.is_silent = false;
    let stream = peer.begun[0];
    peer.answer(now, stream);
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(counted(&world, ClusterEvent::Hedged(Hedged::Won)), 0);
    let resets = |world: &World, at: usize| world.peers[&at].1.ends.clone();
    let other = *world.backends.iter().find(|backend| **backend != first).unwrap();
    assert_eq!((resets(&world, first), resets(&world, other)), (vec![], vec![End::Reset(ErrorCode::CANCEL)]));
    assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
}

#[test]
fn a_status_that_is_not_fatal_sends_the_next_attempt_at_once() {
    let (mut world, client) = world(3, policy());
    each_backend(&mut world, |peer| peer.fails_with = Some((Code::Unavailable, Vec::new())));
    world.call(client, b'S', 10);
    world.turns(8);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    assert_eq!(served(&world), [1, 1, 1]);
    assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::AttemptsUsed)), 1);
    nothing_is_left(&mut world);
}

#[test]
fn a_later_attempt_avoids_every_endpoint_that_failed_while_others_ran() {
    let budget = RetryBudgetConfig { min_concurrency: 100, ..RetryBudgetConfig::default() };
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, route| {
        cluster.policy = Policy::Random;
        cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
        route.hedge = Some(Arc::new(HedgeSettings { policy: policy() }));
    });
    let client = world.client();
    // Whether an endpoint is avoided shows by many calls: which of several a call gets is drawn.
    for calls in 1..=20 {
        each_backend(&mut world, |peer| {
            peer.is_silent = true;
            peer.begun.clear();
        });
        world.call(client, b'S', 10);
        world.turns(30);
        // Both that run fail, one after the other, and neither lets the third be sent at once.
        each_backend(&mut world, |peer| {
            peer.is_silent = false;
            peer.fails_with = Some((Code::Unavailable, vec![("grpc-retry-pushback-ms", "30")]));
        });
        for backend in world.backends.clone() {
            let now = world.now;
            let peer = world.peer(backend);
            for stream in core::mem::take(&mut peer.begun) {
                peer.served -= 1; // It was counted when it came.
                peer.answer(now, stream);
            }
            world.turns(2);
        }
        each_backend(&mut world, |peer| peer.fails_with = None);
        world.turns(60);
        assert_eq!(served(&world), [calls; 3], "each has one attempt of each call");
        assert_eq!(world.peer(client).ends, vec![End::Status(Code::Ok); calls]);
        assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
    }
}

#[test]
fn a_fatal_status_decides_although_another_attempt_runs() {
    let (mut world, client) = world(2, policy());
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(5);
    each_backend(&mut world, |peer| {
        peer.is_silent = false;
        peer.fails_with = Some((Code::NotFound, vec![("x-cause", "gone")]));
    });
    world.turns(25);
    assert_eq!(world.peer(client).ends, [End::Status(Code::NotFound)]);
    assert!(world.peer(client).ended_with.contains(&("x-cause".into(), "gone".into())));
    assert_eq!(counted(&world, ClusterEvent::Hedged(Hedged::Won)), 1, "the hedge decided it");
    nothing_is_left(&mut world);
}

#[test]
fn an_attempt_that_fails_leaves_the_others_to_win() {
    let (mut world, client) = world(3, policy());
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(30);
    assert_eq!(served(&world), [0, 1, 1]);
    // One of the two that run loses its connection; the third is asked at once.
    world.worker_may_connect = true;
    let lost = *world.backends.iter().find(|backend| world.peers[*backend].1.served == 1).unwrap();
    let conn = world.peers[&lost].0;
    let now = world.now;
    world.worker.ended(now, conn, TransportEnd::Reset);
    world.turns(3);
    assert!(world.peer(client).ends.is_empty());
    each_backend(&mut world, |peer| peer.is_silent = false);
    for backend in world.backends.clone() {
        let now = world.now;
        let peer = world.peer(backend);
        for stream in core::mem::take(&mut peer.begun) {
            peer.answer(now, stream);
        }
    }
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(world.worker.call_count(), 0);
}

#[test]
fn pushback_is_obeyed_be_it_a_delay_or_never() {
    for (pushback, turns, attempts) in [("60", 50, 1), ("60", 80, 2), ("-1", 300, 1)] {
        let (mut world, client) = world(2, HedgingPolicy { max_attempts: 2, ..policy() });
        each_backend(&mut world, |peer| {
            peer.fails_with = Some((Code::Unavailable, vec![("grpc-retry-pushback-ms", pushback)]));
        });
        world.call(client, b'S', 10);
        world.turns(turns);
        assert_eq!(served(&world).iter().sum::<usize>(), attempts, "{pushback} after {turns} ms");
        assert_eq!(world.peer(client).ends.is_empty(), attempts == 1 && pushback == "60");
    }
}

#[test]
fn a_budget_bounds_the_further_attempts_of_all_calls() {
    let budget = RetryBudgetConfig { min_concurrency: 1, ..RetryBudgetConfig::default() };
    let (mut world, client) = world_with(3, HedgingPolicy { hedging_delay: MS, ..policy() }, budget);
    each_backend(&mut world, |peer| peer.is_silent = true);
    for _ in 0..90 {
        world.call(client, b'S', 10);
        world.turn();
    }
    world.turns(50);
    let attempts = served(&world).iter().sum::<usize>();
    // A fifth of the calls under way.
    assert!((100..=108).contains(&attempts), "{attempts} attempts for 90 calls");
}

#[test]
fn a_request_that_is_not_whole_is_not_hedged_until_it_is() {
    let (mut world, client) = world(2, policy());
    each_backend(&mut world, |peer| peer.is_silent = true);
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, &[]);
    peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", false).unwrap();
    world.turns(100);
    let begun = |world: &World| world.backends.iter().map(|at| world.peers[at].1.begun.len()).sum::<usize>();
    assert_eq!(begun(&world), 1);
    let now = world.now;
    world.peer(client).http2.send_data(now, stream, b"", true).unwrap();
    world.turns(25);
    assert_eq!((begun(&world), served(&world)), (2, vec![1, 1]));
}

#[test]
fn a_lone_endpoint_is_not_asked_twice_and_without_a_delay_the_search_for_another_has_pauses() {
    let (mut world, client) = world(1, HedgingPolicy { hedging_delay: Duration::ZERO, ..policy() });
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(51);
    assert_eq!(served(&world), [1]);
    let looks = counted(&world, ClusterEvent::Hedged(Hedged::NoEndpoint));
    assert!((8..=11).contains(&looks), "{looks} in 50 ms");
}

#[test]
fn a_call_that_is_cancelled_or_too_late_cancels_all_its_attempts() {
    for cancels in [true, false] {
        let (mut world, client) = world(3, policy());
        each_backend(&mut world, |peer| peer.is_silent = true);
        let timers = world.worker.usage().timers;
        let now = world.now;
        let peer = world.peer(client);
        let stream = peer.begin(now, &[("grpc-timeout", "70m")]);
        peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
        world.turns(50);
        assert_eq!((served(&world), open_streams(&world)), (vec![1, 1, 1], 3));
        if cancels {
            world.peer(client).cancel(stream);
        }
        world.turns(30);
        if !cancels {
            assert_eq!(world.peer(client).ends, [End::Status(Code::DeadlineExceeded)]);
        }
        nothing_is_left(&mut world);
        assert_eq!(world.worker.usage().timers, timers, "no timer is left");
    }
}

#[test]
fn a_backend_that_reads_nothing_costs_its_calls_a_delay_and_their_clients_no_credit() {
    let budget = RetryBudgetConfig { min_concurrency: 100, ..RetryBudgetConfig::default() };
    let (mut world, client) = world_with(2, policy(), budget);
    let stuck = world.backends[0];
    (world.peer(stuck).is_silent, world.peer(stuck).consumes) = (true, false);
    // Each takes most of a stream's window. Those to the stuck backend are more than its connection's window, and what is left of
    // them is less than the client's.
    for _ in 0..60 {
        world.call(client, b'S', peers::LARGE);
    }
    world.turns(200);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 60]);
    assert!(world.peer(stuck).served < 30, "not all of them could be sent whole");
    assert!(counted(&world, ClusterEvent::Hedged(Hedged::Won)) >= 30);
    assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
    // All of the client's credit is back: a window full of calls gets through at once.
    for _ in 0..17 {
        world.call(client, b'S', peers::LARGE);
    }
    world.turns(100);
    assert_eq!(world.peer(client).ends.len(), 77);
}

#[test]
fn statuses_that_are_not_fatal_are_what_the_route_says() {
    let (mut world, client) =
        world(2, HedgingPolicy { non_fatal: CodeSet::of(&[Code::Aborted]), ..policy() });
    each_backend(&mut world, |peer| peer.fails_with = Some((Code::Unavailable, Vec::new())));
    world.call(client, b'S', 10);
    world.turns(5);
    assert_eq!(
        (served(&world), world.peer(client).ends.clone()),
        (vec![0, 1], vec![End::Status(Code::Unavailable)])
    );
}

#[test]
fn a_client_that_counts_its_own_attempts_is_not_counted_twice() {
    let (mut world, client) = world(2, policy());
    each_backend(&mut world, |peer| peer.is_silent = true);
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, &[("grpc-previous-rpc-attempts", "3")]);
    peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
    world.turns(30);
    let said = |at: &usize| {
        let asked = world.peers[at].1.asked_with.iter();
        asked.filter(|(name, _)| name == "grpc-previous-rpc-attempts").map(|(_, value)| value.clone())
    };
    let mut said: Vec<String> = world.backends.iter().flat_map(said).collect();
    said.sort_unstable();
    assert_eq!(said, ["1", "3"], "the first attempt is the client's, the second ours");
}

#[test]
fn a_trial_that_a_hedge_overtakes_has_failed() {
    let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
    let detector = Arc::new(OutlierDetector::new(OutlierConfig::default(), 3, Duration::ZERO));
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, route| {
        cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
        cluster.outliers = Some(detector);
        route.hedge = Some(Arc::new(HedgeSettings { policy: policy() }));
    });
    let client = world.client();
    let broken = world.backends[1];
    world.peer(broken).fails_with = Some((Code::Internal, Vec::new()));
    for _ in 0..20 {
        world.call(client, b'S', 10);
        world.turns(3);
    }
    assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures)), 1);
    (world.peer(broken).fails_with, world.peer(broken).is_silent) = (None, true);
    let asked = world.peer(broken).served;
    for (pause, ejections) in [(34, 1), (67, 2)] {
        world.now += Duration::from_secs(pause);
        for _ in 0..20 {
            world.call(client, b'S', 10);
            world.turns(30);
        }
        assert_eq!(world.peer(broken).served, asked + ejections, "one call tried it");
        assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::TrialFailed)), ejections as u64);
    }
    nothing_is_left(&mut world);
}

#[test]
fn hedges_do_not_hide_a_slow_backend_from_a_policy_that_avoids_it() {
    let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
    for policy_of_cluster in [Policy::PeakEwma(Default::default()), Policy::Prequal(Default::default())] {
        let mut world =
            World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, route| {
                cluster.policy = policy_of_cluster;
                cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
                route.hedge = Some(Arc::new(HedgeSettings { policy: policy() }));
            });
        let client = world.client();
        let slow = world.backends[1];
        world.peer(slow).is_silent = true;
        for _ in 0..200 {
            world.call(client, b'S', 10);
            world.turns(25);
        }
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 200]);
        let asked = world.peer(slow).served;
        assert!(asked <= 10, "{policy_of_cluster:?}: {asked} of 200");
        nothing_is_left(&mut world);
    }
}

#[test]
fn the_deadline_is_the_failure_of_all_attempts_that_run() {
    for cancels in [true, false] {
        let config = OutlierConfig {
            consecutive_failures: Some(1),
            max_ejected_percent: 100,
            ..OutlierConfig::default()
        };
        let detector = Arc::new(OutlierDetector::new(config, 3, Duration::ZERO));
        let mut world =
            World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, route| {
                cluster.outliers = Some(detector);
                route.hedge =
                    Some(Arc::new(HedgeSettings { policy: HedgingPolicy { max_attempts: 2, ..policy() } }));
            });
        let client = world.client();
        each_backend(&mut world, |peer| peer.is_silent = true);
        let now = world.now;
        let peer = world.peer(client);
        let stream = peer.begin(now, &[("grpc-timeout", "100m")]);
        peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
        world.turns(98);
        assert_eq!(served(&world), [0, 1, 1]);
        if cancels {
            world.peer(client).cancel(stream);
        }
        world.turns(5);
        assert_eq!(
            counted(&world, ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures)),
            2,
            "{cancels}"
        );
        nothing_is_left(&mut world);
    }
}

#[test]
fn a_hedged_call_that_succeeds_gives_back_what_failures_took_of_the_throttle() {
    let config = RetryThrottleConfig::new(10, Factor::from_thousandths(500)).unwrap();
    let gates = RetryGates {
        budget: RetryBudget::new(RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() }),
        throttle: Some(RetryThrottle::new(config)),
    };
    let gates = Arc::new(gates);
    let of_cluster = Arc::clone(&gates);
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, route| {
        cluster.gates = of_cluster;
        route.hedge = Some(Arc::new(HedgeSettings { policy: HedgingPolicy { max_attempts: 2, ..policy() } }));
    });
    let client = world.client();
    let tokens = || gates.throttle.as_ref().unwrap().tokens_thousandths();
    let calls = |world: &mut World, count: usize| {
        for _ in 0..count {
            world.call(client, b'S', 10);
            world.turns(5);
        }
    };
    each_backend(&mut world, |peer| peer.fails_with = Some((Code::Unavailable, Vec::new())));
    calls(&mut world, 2);
    assert_eq!((tokens(), served(&world).iter().sum::<usize>()), (6_000, 4));
    each_backend(&mut world, |peer| peer.fails_with = None);
    calls(&mut world, 3);
    assert_eq!(tokens(), 7_500);
    // A status in trailers behind headers counts as well.
    each_backend(&mut world, |peer| {
        (peer.fails_with, peer.fails_late) = (Some((Code::Unavailable, Vec::new())), true);
    });
    calls(&mut world, 1);
    assert_eq!(tokens(), 6_500);
    nothing_is_left(&mut world);
}

#[test]
fn a_backend_that_forbids_further_attempts_ends_the_sending_although_others_run() {
    let (mut world, client) = world(4, HedgingPolicy { max_attempts: 4, ..policy() });
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(5);
    let first = *world.backends.iter().find(|backend| world.peers[*backend].1.served == 1).unwrap();
    each_backend(&mut world, |peer| {
        peer.is_silent = false;
        peer.fails_with = Some((Code::Unavailable, vec![("grpc-retry-pushback-ms", "-1")]));
    });
    world.turns(25);
    assert_eq!((served(&world), world.peer(client).ends.len()), (vec![0, 0, 1, 1], 0));
    let now = world.now;
    let peer = world.peer(first);
    peer.fails_with = Some((Code::Unavailable, Vec::new()));
    let stream = peer.begun[0];
    peer.answer(now, stream);
    world.turns(100);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    // The first one is counted again with its late answer.
    assert_eq!(
        (served(&world), counted(&world, ClusterEvent::RetryDenied(RetryDenied::Pushback))),
        (vec![0, 0, 1, 2], 1)
    );
    assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
}

/// Five attempts a delay apart, and a bound of the retries under way in the cluster, and at each endpoint.
fn world_with_bound(
    delay: Duration,
    of_cluster: u32,
    of_endpoint: Option<u32>,
) -> (World, usize, Arc<CircuitBreaker>) {
    let bound = |max_retries| BreakerLimits { max_retries, ..BreakerLimits::default() };
    let breaker = Arc::new(CircuitBreaker::new(Scope::Cluster, &bound(Some(of_cluster))));
    let limits = ClusterLimits {
        breaker: Some(Arc::clone(&breaker)),
        counts_endpoints: true,
        ..ClusterLimits::default()
    };
    let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
    let policy = HedgingPolicy { max_attempts: 5, hedging_delay: delay, ..policy() };
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 5, |cluster, route| {
        cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
        cluster.limits = Some(Arc::new(limits));
        for endpoint in cluster.endpoints.iter().flat_map(|set| set.endpoints()) {
            endpoint.breaker().set_limits(&bound(of_endpoint));
        }
        route.hedge = Some(Arc::new(HedgeSettings { policy }));
    });
    let client = world.client();
    (world, client, breaker)
}

#[test]
fn a_bound_of_retries_counts_each_further_attempt_that_runs() {
    for (of_cluster, of_endpoint, expected) in
        [(0, None, 1), (1, None, 2), (3, None, 4), (9, None, 5), (9, Some(0), 1)]
    {
        let (mut world, client, breaker) = world_with_bound(Duration::ZERO, of_cluster, of_endpoint);
        each_backend(&mut world, |peer| peer.is_silent = true);
        world.call(client, b'S', 10);
        world.turns(60);
        assert_eq!(served(&world).iter().sum::<usize>(), expected, "{of_cluster} and {of_endpoint:?}");
        assert_eq!(breaker.used(Resource::Retries), expected as u32 - 1);
        // The one that ran first answers.
        each_backend(&mut world, |peer| peer.is_silent = false);
        let now = world.now;
        let asked = |world: &World, at: &usize| world.peers[at].1.served == 1;
        let any = *world.backends.iter().find(|at| asked(&world, at)).unwrap();
        let peer = world.peer(any);
        let stream = peer.begun[0];
        peer.answer(now, stream);
        world.turns(3);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
        assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
        assert_eq!((breaker.used(Resource::Retries), breaker.used(Resource::Requests)), (0, 0));
    }
}

#[test]
fn a_bound_of_retries_holds_for_hedges_that_follow_a_failure() {
    for (of_cluster, of_endpoint, attempts, denied, followed) in
        [(0, None, 1, 1, 0), (1, None, 5, 0, 4), (9, Some(0), 1, 1, 1)]
    {
        let (mut world, client, breaker) = world_with_bound(Duration::from_secs(60), of_cluster, of_endpoint);
        each_backend(&mut world, |peer| {
            peer.fails_with = Some((Code::Unavailable, vec![("x-cause", "broken")]));
        });
        world.call(client, b'S', 10);
        world.turns(30);
        assert_eq!(served(&world).iter().sum::<usize>(), attempts, "at most {of_cluster} at a time");
        assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
        assert!(world.peer(client).ended_with.contains(&("x-cause".into(), "broken".into())));
        assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::BreakerOpen)), denied);
        assert_eq!(counted(&world, ClusterEvent::Hedged(Hedged::AfterFailure)), followed);
        nothing_is_left(&mut world);
        assert_eq!(breaker.used(Resource::Retries), 0);
    }
}

#[test]
fn a_call_whose_next_attempt_is_refused_when_it_is_due_ends_with_its_last_answer() {
    let budget = RetryBudgetConfig { min_concurrency: 1, percent: 0, ..RetryBudgetConfig::default() };
    let (mut world, client) = world_with(2, policy(), budget);
    // One call has the whole budget: its hedge hangs.
    each_backend(&mut world, |peer| peer.is_silent = true);
    world.call(client, b'S', 10);
    world.turns(25);
    let said = vec![("grpc-retry-pushback-ms", "30"), ("grpc-message", "try%20later"), ("x-cause", "busy")];
    each_backend(&mut world, |peer| {
        (peer.is_silent, peer.fails_with) = (false, Some((Code::Unavailable, said.clone())));
    });
    world.call(client, b'S', 10);
    world.turns(20);
    assert!(world.peer(client).ends.is_empty(), "the pushback is waited for");
    world.turns(30);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    for (name, value) in said {
        assert!(world.peer(client).ended_with.contains(&(name.into(), value.into())), "{name}");
    }
    assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::OverBudget)), 1);
    // Those of a call that its client gives up meanwhile are let go too.
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, &[]);
    peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
    world.turns(10);
    world.peer(client).cancel(stream);
    world.turns(3);
    assert_eq!(world.worker.call_count(), 1, "the one that hangs");
}
