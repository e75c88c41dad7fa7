//! Limits of clusters and routes: what is let through, who waits, who is turned away, and what a client is told.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use evenkeel_balance::canary::Observed;
use evenkeel_balance::limit::{
    AdaptiveConfig, AdaptiveLimiter, BreakerLimits, CircuitBreaker, KeyedRateLimiter, MinRtt, RateLimit,
    RateLimiter, Resource, Scope,
};
use evenkeel_balance::retry::{CodeSet, RetryOn, RetryPolicy};
use evenkeel_balance::{Address, EndpointSet, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::{Half, Limits, StreamKey};
use evenkeel_proxy::worker::affinity::KeySource;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::limit::rate::{ClientRateLimit, RouteRateLimit};
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::rewrite::{MetadataChange, Rewrite};
use evenkeel_proxy::worker::route::{Route, RouteActions, Split, Versions};
use evenkeel_proxy::worker::snapshot::{Cluster, RetrySettings};
use evenkeel_telemetry::{ClusterEvent, Limited, RateLimited, RetryDenied, RouteEvent, RouteEvents};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

const OK: End = End::Status(Code::Ok);
const UNAVAILABLE: End = End::Status(Code::Unavailable);
const EXHAUSTED: End = End::Status(Code::ResourceExhausted);

fn world(backends: u16, adjust: impl FnOnce(&mut Cluster, &mut Route)) -> (World, usize) {
    let accountant = Accountant::new(u64::MAX);
    let mut world = World::with_backends(&accountant, Limits::mesh(), backends, adjust);
    let client = world.client();
    (world, client)
}

fn breakers(limits: BreakerLimits) -> ClusterLimits {
    let breaker = Arc::new(CircuitBreaker::new(Scope::Cluster, &limits));
    ClusterLimits { breaker: Some(breaker), counts_endpoints: true, ..ClusterLimits::default() }
}

fn adaptive(config: AdaptiveConfig) -> ClusterLimits {
    let limiter = Arc::new(AdaptiveLimiter::new(config, Duration::ZERO));
    ClusterLimits { adaptive: Some(limiter), ..ClusterLimits::default() }
}

/// One attempt at a time.
fn one_at_a_time() -> ClusterLimits {
    let min_rtt = MinRtt::Fixed(MS);
    adaptive(AdaptiveConfig {
        min_limit: 1,
        max_limit: 1,
        initial_limit: 1,
        min_rtt,
        ..AdaptiveConfig::default()
    })
}

fn silence(world: &mut World, is_silent: bool) {
    for backend in world.backends.clone() {
        world.peer(backend).is_silent = is_silent;
    }
}

fn served(world: &World) -> Vec<usize> {
    world.backends.iter().map(|backend| world.peers[backend].1.served).collect()
}

/// The clusters that are told of, and how many calls wait at each.
fn waiting(world: &World) -> Vec<(String, u64)> {
    let clusters = world.telemetry.snapshot().clusters;
    clusters.iter().map(|cluster| (cluster.name.to_string(), cluster.pending)).collect()
}

fn counted(world: &World, event: ClusterEvent) -> u64 {
    world.telemetry.snapshot().cluster_event(event)
}

/// A call with these fields and a small message.
fn call_with(world: &mut World, client: usize, fields: &[(&str, &str)]) -> StreamKey {
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, fields);
    peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
    stream
}

fn ended_with(world: &mut World, client: usize, name: &str) -> Option<String> {
    let ended = &world.peer(client).ended_with;
    ended.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone())
}

#[test]
fn two_workers_together_send_as_many_attempts_as_the_bound_and_not_one_more() {
    let limits = Arc::new(breakers(BreakerLimits { max_requests: Some(10), ..BreakerLimits::default() }));
    let address = |port: u16| Address::Tcp(([127, 0, 0, 1], port).into());
    let endpoints = Arc::new(EndpointSet::new(&[(address(1), 1), (address(2), 1)]));
    let mut worlds = [(); 2].map(|()| {
        let (limits, endpoints) = (Arc::clone(&limits), Arc::clone(&endpoints));
        world(2, |cluster, _| {
            (cluster.limits, cluster.endpoints) = (Some(limits), Some(endpoints));
        })
    });
    let breaker = limits.breaker.as_ref().unwrap();
    for (world, _) in &mut worlds {
        silence(world, true);
    }
    for _ in 0..20 {
        for (world, client) in &mut worlds {
            world.call(*client, b'S', 10);
            world.turn();
            assert!(breaker.used(Resource::Requests) <= 10);
        }
    }
    let sent: usize = worlds.iter().flat_map(|(world, _)| served(world)).sum();
    assert_eq!((sent, breaker.used(Resource::Requests), breaker.overflows(Resource::Requests)), (10, 10, 30));
    for (world, client) in &mut worlds {
        world.turns(2);
        assert_eq!(world.peer(*client).ends, [UNAVAILABLE; 15]);
        assert_eq!(counted(world, ClusterEvent::Limited(Limited::MaxRequests)), 15);
        let message = ended_with(world, *client, "grpc-message").unwrap();
        assert_eq!(message, "upstream overflow: max_requests: cluster test");
        world.close_clients();
    }
    assert_eq!(breaker.used(Resource::Requests), 0, "every place is given back");
}

#[test]
fn an_endpoint_whose_breaker_is_open_is_passed_over_until_all_are() {
    let endpoint = BreakerLimits { max_requests: Some(2), ..BreakerLimits::default() };
    let (mut world, client) = world(3, |cluster, _| {
        cluster.limits = Some(Arc::new(breakers(BreakerLimits::default())));
        for one in cluster.endpoints.as_ref().unwrap().endpoints() {
            one.breaker().set_limits(&endpoint);
        }
    });
    silence(&mut world, true);
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(call_with(&mut world, client, &[]));
        world.turn();
    }
    world.turns(3);
    assert_eq!(served(&world), [2; 3]);
    assert_eq!(world.peer(client).ends, [UNAVAILABLE; 4]);
    assert_eq!(counted(&world, ClusterEvent::Limited(Limited::Endpoint)), 4);
    // One that is given up makes room for one.
    world.peer(client).cancel(streams[0]);
    world.turns(3);
    call_with(&mut world, client, &[]);
    call_with(&mut world, client, &[]);
    world.turns(3);
    assert_eq!((served(&world).iter().sum::<usize>(), world.peer(client).ends.len()), (7, 5));
}

#[test]
fn calls_that_wait_for_a_place_are_served_in_the_order_in_which_they_came() {
    let (mut world, client) = world(2, |cluster, _| cluster.limits = Some(Arc::new(one_at_a_time())));
    for number in 0..10 {
        call_with(&mut world, client, &[("x-number", &number.to_string())]);
    }
    let (mut order, mut before) = (Vec::new(), 0);
    for _ in 0..60 {
        world.turn();
        let begun: usize = world.backends.iter().map(|backend| world.peers[backend].1.begun.len()).sum();
        assert!(begun - before <= 1, "one at a time");
        if begun > before {
            let newest: Vec<String> = world
                .backends
                .iter()
                .flat_map(|backend| &world.peers[backend].1.asked_with)
                .filter(|(name, _)| name == "x-number")
                .map(|(_, value)| value.clone())
                .filter(|value| !order.contains(value))
                .collect();
            order.extend(newest);
        }
        before = begun;
    }
    assert_eq!(order, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(world.peer(client).ends, [OK; 10]);
}

#[test]
fn a_call_that_could_not_end_in_time_is_told_at_once_and_when_to_come_again() {
    let (mut world, client) = world(1, |cluster, _| cluster.limits = Some(Arc::new(one_at_a_time())));
    for _ in 0..50 {
        world.call(client, b'S', 10);
    }
    world.turns(200);
    assert_eq!(world.peer(client).ends, [OK; 50], "the pace is known now");
    for _ in 0..100 {
        world.call(client, b'S', 10);
    }
    call_with(&mut world, client, &[("grpc-timeout", "20m")]);
    call_with(&mut world, client, &[("grpc-timeout", "10S")]);
    world.turns(3);
    assert_eq!(counted(&world, ClusterEvent::Limited(Limited::DeadlineUnreachable)), 1);
    let ends = world.peer(client).ends.clone();
    assert!(ends.contains(&EXHAUSTED), "{ends:?}");
    world.turns(400);
    let ends = &world.peer(client).ends;
    assert_eq!(ends.iter().filter(|end| **end == OK).count(), 50 + 100 + 1);
    assert_eq!(world.worker.call_count(), 0);
    assert_eq!(world.worker.usage().pending, 0);
}

#[test]
fn the_cluster_s_bound_of_waiting_calls_holds_and_is_given_back_when_clients_leave() {
    let mut limits = one_at_a_time();
    let bound = BreakerLimits { max_pending: Some(3), ..BreakerLimits::default() };
    limits.breaker = Some(Arc::new(CircuitBreaker::new(Scope::Cluster, &bound)));
    let breaker = limits.breaker.clone().unwrap();
    let (mut world, client) = world(1, |cluster, _| cluster.limits = Some(Arc::new(limits)));
    silence(&mut world, true);
    let streams: Vec<_> = (0..6).map(|_| call_with(&mut world, client, &[])).collect();
    world.turns(3);
    assert_eq!(world.peer(client).ends, [UNAVAILABLE; 2]);
    assert_eq!((breaker.used(Resource::Pending), world.worker.usage().pending), (3, 3));
    assert_eq!(waiting(&world), [("test".to_owned(), 3)]);
    assert_eq!(counted(&world, ClusterEvent::Limited(Limited::MaxPending)), 2);
    for stream in &streams[1..4] {
        world.peer(client).cancel(*stream);
    }
    world.turns(3);
    assert_eq!((breaker.used(Resource::Pending), world.worker.usage().pending), (0, 0));
    assert_eq!(waiting(&world), [("test".to_owned(), 0)]);
}

#[test]
fn calls_that_wait_are_told_of_a_cluster_until_it_is_gone() {
    let (mut world, client) = world(1, |cluster, _| {
        cluster.wait_for_ready = true;
        cluster.endpoints = Some(Arc::new(EndpointSet::new(&[])));
    });
    (0..2).for_each(|_| world.call(client, b'S', 10));
    world.turns(2);
    let of = |name: &str, count: u64| (name.to_owned(), count);
    assert_eq!(waiting(&world), [of("test", 2)]);
    // The same cluster to an operator, another record to the worker.
    world.change_cluster(|cluster| cluster.policy = Policy::Random);
    assert_eq!(waiting(&world), [of("test", 2)]);
    assert_eq!(world.worker.call_count(), 2);
    world.change_cluster(|cluster| cluster.name = "successor".into());
    world.turns(1);
    assert_eq!(waiting(&world), [of("successor", 0)]);
    world.turns(2);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable); 2], "no endpoint can come any more");
}

#[test]
fn where_calls_do_not_wait_the_limit_refuses_them_with_pushback() {
    let limits = ClusterLimits { refuses_at_once: true, ..one_at_a_time() };
    let (mut world, client) = world(1, |cluster, _| cluster.limits = Some(Arc::new(limits)));
    silence(&mut world, true);
    world.call(client, b'S', 10);
    world.call(client, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(client).ends, [EXHAUSTED]);
    assert_eq!(counted(&world, ClusterEvent::Limited(Limited::Concurrency)), 1);
    let pushback: u64 = ended_with(&mut world, client, "grpc-retry-pushback-ms").unwrap().parse().unwrap();
    assert!((100..=200).contains(&pushback), "{pushback} ms, of windows of 100 ms");
}

/// Watches that wait for news would else leave no room for any other call, for as long as they live.
#[test]
fn a_call_whose_answer_goes_on_for_a_second_gives_its_place_of_adaptive_concurrency_back() {
    let (mut world, client) = world(1, |cluster, _| cluster.limits = Some(Arc::new(one_at_a_time())));
    let backend = world.backends[0];
    world.peer(backend).answers_headers_only = true;
    world.call(client, b'S', 10);
    world.turns(3);
    let begun_at = world.now;
    world.call(client, b'S', 10);
    while served(&world) == [1] && world.now < begun_at + MS * 2_000 {
        world.turn();
    }
    assert_eq!(served(&world), [2]);
    let waited = world.now - begun_at;
    assert!((MS * 990..MS * 1_010).contains(&waited), "{waited:?}");
    assert_eq!(world.in_flight(), 2, "the first goes on");
}

#[test]
fn a_bound_of_retries_lets_no_more_of_them_begin() {
    for (max_retries, attempts) in [(0, 1), (1, 3)] {
        let limits = breakers(BreakerLimits { max_retries: Some(max_retries), ..BreakerLimits::default() });
        let breaker = limits.breaker.clone().unwrap();
        let policy = RetryPolicy {
            max_attempts: 3,
            initial_backoff: MS,
            retry_on: RetryOn::statuses(CodeSet::of(&[Code::Unavailable])),
            ..RetryPolicy::default()
        };
        let (mut world, client) = world(1, |cluster, route| {
            cluster.limits = Some(Arc::new(limits));
            route.retry = Some(Arc::new(RetrySettings { policy, is_idempotent: false }));
        });
        let backend = world.backends[0];
        world.peer(backend).fails_with = Some((Code::Unavailable, Vec::new()));
        world.call(client, b'S', 10);
        world.turns(30);
        assert_eq!(served(&world), [attempts]);
        let denied = counted(&world, ClusterEvent::RetryDenied(RetryDenied::BreakerOpen));
        assert_eq!(denied, u64::from(max_retries == 0));
        assert_eq!(breaker.used(Resource::Retries), 0);
    }
}

#[test]
fn a_retry_passes_over_endpoints_that_take_none_and_the_call_ends_as_its_attempt_did_if_all_do_so() {
    let policy = RetryPolicy {
        initial_backoff: MS,
        retry_on: RetryOn::statuses(CodeSet::of(&[Code::Unavailable])),
        ..RetryPolicy::default()
    };
    for (bounds, expected, late) in [
        ([0, 1], [1, 0, 1], false),
        ([1, 0], [1, 1, 0], true),
        ([0, 0], [1, 0, 0], false),
        ([0, 0], [1, 0, 0], true),
    ] {
        let mut endpoints = Vec::new();
        let (mut world, client) = world(3, |cluster, route| {
            cluster.limits = Some(Arc::new(breakers(BreakerLimits::default())));
            route.retry = Some(Arc::new(RetrySettings { policy, is_idempotent: false }));
            endpoints = cluster.endpoints.as_ref().unwrap().endpoints().to_vec();
            for (endpoint, max_retries) in endpoints[1..].iter().zip(bounds) {
                let limits = BreakerLimits { max_retries: Some(max_retries), ..BreakerLimits::default() };
                endpoint.breaker().set_limits(&limits);
            }
        });
        let failing = world.backends[0];
        world.peer(failing).fails_with = Some((Code::Unavailable, vec![("x-cause", "disk")]));
        world.peer(failing).fails_late = late;
        let mut before = served(&world);
        // The rotation begins anywhere, and has been everywhere after three calls.
        while served(&world)[0] == 0 {
            before = served(&world);
            assert!(before.iter().sum::<usize>() < 3);
            world.peer(client).ends.clear();
            world.call(client, b'S', 10);
            world.turns(10);
        }
        let since: Vec<usize> = served(&world).iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(since, expected, "{bounds:?}");
        let is_refused = bounds == [0, 0];
        assert_eq!(world.peer(client).ends, [if is_refused { UNAVAILABLE } else { OK }]);
        assert_eq!(counted(&world, ClusterEvent::Limited(Limited::Endpoint)), u64::from(is_refused));
        if is_refused {
            assert_eq!(
                ended_with(&mut world, client, "x-cause").as_deref(),
                Some("disk"),
                "the backend's own"
            );
            assert_eq!(ended_with(&mut world, client, "grpc-message"), None, "and nothing of the proxy's");
        }
        let denied = counted(&world, ClusterEvent::RetryDenied(RetryDenied::BreakerOpen));
        assert_eq!(denied, u64::from(is_refused));
        assert!(endpoints.iter().all(|endpoint| endpoint.breaker().used(Resource::Retries) == 0));
    }
}

#[test]
fn further_connections_keep_to_the_bound_and_the_first_is_always_made() {
    let limits = breakers(BreakerLimits { max_connections: Some(1), ..BreakerLimits::default() });
    let breaker = limits.breaker.clone().unwrap();
    let (world, _) = world(3, |cluster, _| {
        cluster.limits = Some(Arc::new(limits));
        cluster.max_connections_per_endpoint = 4;
    });
    assert_eq!(breaker.used(Resource::Connections), 3, "one to each endpoint");
    assert!(breaker.is_open(Resource::Connections));
    drop(world);
}

#[test]
fn calls_to_a_cluster_without_endpoints_fail_or_wait_as_the_cluster_says() {
    let empty = |waits: bool| {
        world(1, move |cluster, _| {
            cluster.wait_for_ready = waits;
            cluster.endpoints = Some(Arc::new(EndpointSet::new(&[])));
        })
    };
    let (mut world, client) = empty(false);
    world.call(client, b'S', 10);
    world.turns(2);
    assert_eq!(world.peer(client).ends, [UNAVAILABLE]);
    let message = ended_with(&mut world, client, "grpc-message").unwrap();
    assert!(message.starts_with("no healthy upstream"), "{message}");

    let (mut world, client) = empty(true);
    world.call(client, b'S', 10);
    call_with(&mut world, client, &[("grpc-timeout", "50m")]);
    world.turns(60);
    assert_eq!(world.peer(client).ends, [End::Status(Code::DeadlineExceeded)]);
    world.worker_may_connect = true;
    world.change_cluster(|cluster| {
        let address = Address::Tcp(([127, 0, 0, 1], 1).into());
        cluster.endpoints = Some(Arc::new(EndpointSet::new(&[(address, 1)])));
    });
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::DeadlineExceeded), OK]);
}

fn rate(requests: u32, burst: u32) -> RateLimit {
    RateLimit::new(requests, Duration::from_secs(1), burst).unwrap()
}

fn per_client(limit: RateLimit, max_keys: u32) -> ClientRateLimit {
    let limiter = KeyedRateLimiter::new(limit, max_keys, &mut SmallRng::seed_from_u64(5));
    ClientRateLimit { by: [KeySource::Metadata(b"x-client-id"[..].into())].into(), limiter }
}

fn limited_world(limit: RouteRateLimit) -> (World, usize) {
    world(1, |_, route| {
        let rate_limit = Some(Arc::new(limit));
        route.actions = Some(Arc::new(RouteActions { rate_limit, ..RouteActions::default() }));
    })
}

#[test]
fn what_a_rate_limit_refuses_says_nothing_of_a_canary() {
    let observed = Arc::<Observed>::default();
    let (mut world, client) = world(1, |_, route| {
        let rate_limit = RouteRateLimit { route: Some(RateLimiter::new(rate(1, 3))), clients: None };
        let actions = RouteActions { rate_limit: Some(Arc::new(rate_limit)), ..RouteActions::default() };
        route.actions = Some(Arc::new(actions));
        let versions = Versions { stable: 1, canary: 0, observed: Arc::clone(&observed) };
        route.destination = Split::to(0).with_versions(versions);
    });
    for _ in 0..50 {
        world.call(client, b'S', 10);
    }
    world.turns(3);
    assert_eq!(world.peer(client).ends.len(), 50);
    let counted = observed.totals();
    assert_eq!((counted.canary.calls, counted.canary.errors, counted.stable.calls), (3, 0, 0));
}

#[test]
fn a_route_lets_a_burst_through_then_its_rate_and_says_when_to_come_again() {
    let (mut world, client) =
        limited_world(RouteRateLimit { route: Some(RateLimiter::new(rate(10, 5))), clients: None });
    for _ in 0..8 {
        world.call(client, b'S', 10);
    }
    world.turns(3);
    let ends = &world.peer(client).ends;
    assert_eq!(ends.iter().filter(|end| **end == EXHAUSTED).count(), 3, "{ends:?}");
    assert_eq!((served(&world), counted(&world, ClusterEvent::Limited(Limited::RouteRate))), (vec![5], 3));
    let pushback: u64 =
        ended_with(&mut world, client, "grpc-retry-pushback-ms").map_or(100, |ms| ms.parse().unwrap());
    assert!((98..=200).contains(&pushback), "{pushback} ms");
    world.now += Duration::from_millis(100);
    world.call(client, b'S', 10);
    world.turns(3);
    assert_eq!(served(&world), [6]);
}

#[test]
fn each_client_has_its_own_rate_and_takes_nothing_from_the_others() {
    let route = Some(RateLimiter::new(rate(1_000, 9)));
    let (mut world, client) =
        limited_world(RouteRateLimit { route, clients: Some(per_client(rate(1, 3), 1_024)) });
    for _ in 0..20 {
        call_with(&mut world, client, &[("x-client-id", "greedy")]);
    }
    world.turn();
    for name in ["anna", "ben"] {
        for _ in 0..3 {
            call_with(&mut world, client, &[("x-client-id", name)]);
        }
    }
    world.turns(3);
    assert_eq!((served(&world), counted(&world, ClusterEvent::Limited(Limited::ClientRate))), (vec![9], 17));
    assert_eq!(counted(&world, ClusterEvent::Limited(Limited::RouteRate)), 0);
}

#[test]
fn clients_are_told_apart_by_what_they_sent_whatever_the_route_makes_of_it() {
    let change = MetadataChange::default();
    for request in [change.clone().remove("x-client-id"), change.set("x-client-id", "ours")] {
        let (mut world, client) = world(1, |_, route| {
            let clients = Some(per_client(rate(1, 3), 1_024));
            let rate_limit = Some(Arc::new(RouteRateLimit { route: None, clients }));
            let rewrite = Rewrite { request, ..Rewrite::default() };
            route.actions = Some(Arc::new(RouteActions { rate_limit, rewrite, ..RouteActions::default() }));
        });
        for _ in 0..5 {
            for name in ["anna", "ben"] {
                call_with(&mut world, client, &[("x-client-id", name)]);
            }
        }
        world.turns(3);
        let refused = counted(&world, ClusterEvent::Limited(Limited::ClientRate));
        assert_eq!((served(&world), refused), (vec![6], 4), "three calls of each");
    }
}

#[test]
fn a_client_with_a_hundred_thousand_names_gets_what_the_table_holds() {
    let clients = Some(per_client(RateLimit::new(1, Duration::from_secs(86_400), 1).unwrap(), 64));
    let counts = Arc::new(RouteEvents::default());
    let (mut world, client) = world(1, |_, route| {
        let rate_limit = Some(Arc::new(RouteRateLimit { route: None, clients }));
        let counts = Some(Arc::clone(&counts));
        route.actions = Some(Arc::new(RouteActions { rate_limit, counts, ..RouteActions::default() }));
    });
    for number in 0..100_000_u32 {
        call_with(&mut world, client, &[("x-client-id", &format!("name-{number}"))]);
        if number % 100 == 99 {
            world.turn();
        }
    }
    world.turns(3);
    assert_eq!(served(&world), [64 + 8], "each of eight sets: eight names, and all others together one");
    assert_eq!(counts.get(RouteEvent::RateLimitShared), 100_000 - 64);
    assert_eq!(counts.get(RouteEvent::RateLimited(RateLimited::Client)), 100_000 - 64 - 8);
    assert_eq!(world.worker.call_count(), 0);
}

/// A backend of so many threads that each work on a call for `service`, first come, first served, asked for or not.
struct Knee {
    free_at: Vec<Duration>,
    service: Duration,
    seen: usize,
    due: VecDeque<(Duration, usize, StreamKey)>,
    outage: (Duration, Duration),
}

impl Knee {
    fn new(threads: usize, service: Duration) -> Self {
        let outage = (Duration::MAX, Duration::MAX);
        Self { free_at: vec![Duration::ZERO; threads], service, seen: 0, due: VecDeque::new(), outage }
    }

    /// Takes what came to the backend and answers what is done.
    fn work(&mut self, world: &mut World) {
        let (now, backend) = (world.now, world.backends[0]);
        let peer = world.peer(backend);
        peer.is_silent = true;
        for stream in peer.begun.drain(..) {
            let free = self.free_at.iter_mut().min().unwrap();
            let mut start = now.max(*free);
            if (self.outage.0..self.outage.1).contains(&start) {
                start = self.outage.1;
            }
            *free = start + self.service;
            self.seen += 1;
            self.due.push_back((*free, backend, stream));
        }
        while let Some((at, asked, stream)) = self.due.front().copied()
            && at <= now
        {
            self.due.pop_front();
            // What was asked for on a connection that is gone is worked on all the same.
            if asked == backend && peer.http2.send_half(stream) != Half::Closed {
                peer.is_silent = false;
                peer.answer(now, stream);
                peer.is_silent = true;
            }
        }
    }
}

/// Calls answered in time in each second, with so many calls a second for so long.
fn goodput(
    limits: Option<ClusterLimits>,
    retry: Option<RetryPolicy>,
    mut knee: Knee,
    (per_second, seconds): (usize, usize),
    timeout: &str,
) -> Vec<usize> {
    let (mut world, client) = world(1, |cluster, route| {
        cluster.limits = limits.map(Arc::new);
        route.retry = retry.map(|policy| Arc::new(RetrySettings { policy, is_idempotent: true }));
    });
    silence(&mut world, true);
    // A backend that is reset for each call has enough of its connection at times, and is connected to again.
    world.worker_may_connect = true;
    let (mut in_second, mut before, mut begun) = (Vec::new(), 0, 0);
    for second in 0..seconds {
        for milli in 0..1_000 {
            while begun < (second * 1_000 + milli + 1) * per_second / 1_000 {
                call_with(&mut world, client, &[("grpc-timeout", timeout)]);
                begun += 1;
            }
            world.turn();
            knee.work(&mut world);
        }
        let answered = world.peer(client).ends.iter().filter(|end| **end == OK).count();
        in_second.push(answered - before);
        before = answered;
    }
    in_second
}

#[test]
fn adaptive_concurrency_keeps_a_backend_at_its_knee_where_without_it_all_work_is_late() {
    // Four threads and 20 ms: 200 a second; twice as many come, and wait for 200 ms.
    let run = |limits| goodput(limits, None, Knee::new(4, 20 * MS), (400, 10), "200m");
    let alone = run(None);
    let limited = run(Some(adaptive(AdaptiveConfig::default())));
    println!("in time each second, of 400: without {alone:?}, with adaptive concurrency {limited:?}");
    let mean = |answered: &[usize]| answered[2..].iter().sum::<usize>() / answered[2..].len();
    assert!(mean(&alone) < 20, "{alone:?}");
    assert!(mean(&limited) >= 160, "of 200: {limited:?}");
}

#[test]
fn a_metastable_overload_ends_once_its_cause_does() {
    // Bronson et al., HotOS 2021: 300/s of capacity, 280 offered, a second of patience and one retry, an outage.
    let policy = RetryPolicy {
        max_attempts: 2,
        per_try_timeout: Some(1_000 * MS),
        initial_backoff: MS,
        retry_on: RetryOn::statuses(CodeSet::of(&[Code::DeadlineExceeded])),
        ..RetryPolicy::default()
    };
    let run = |limits| {
        let mut knee = Knee::new(30, 100 * MS);
        knee.outage = (Duration::from_secs(5), Duration::from_secs(10));
        goodput(limits, Some(policy), knee, (280, 30), "2500m")
    };
    let (alone, limited) = (run(None), run(Some(adaptive(AdaptiveConfig::default()))));
    println!("in time each second, of 280: without {alone:?}, with adaptive concurrency {limited:?}");
    assert!(alone[20..].iter().all(|answered| *answered < 140), "it goes on without its cause: {alone:?}");
    assert!(limited[20..].iter().all(|answered| *answered >= 252), "back within ten seconds: {limited:?}");
}
