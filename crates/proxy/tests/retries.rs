//! Calls that are tried again: after which ends, how often, where, and when not.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::Factor;
use evenkeel_balance::limit::{RateLimit, RateLimiter};
use evenkeel_balance::retry::{
    CodeSet, RetryBudget, RetryBudgetConfig, RetryOn, RetryPolicy, RetryThrottle, RetryThrottleConfig,
};
use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::limit::rate::RouteRateLimit;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::RouteActions;
use evenkeel_proxy::worker::snapshot::{RetryGates, RetrySettings};
use evenkeel_telemetry::{ClusterEvent, PushedBack, RetryDenied, RetryReason};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

fn retries(codes: &[Code]) -> RetrySettings {
    let policy = RetryPolicy {
        max_attempts: 3,
        initial_backoff: 10 * MS,
        retry_on: RetryOn::statuses(CodeSet::of(codes)),
        ..RetryPolicy::default()
    };
    RetrySettings { policy, is_idempotent: false }
}

/// A client of so many backends, behind a route that retries so.
fn world(backends: u16, settings: RetrySettings) -> (World, usize) {
    world_with(backends, settings, RetryBudgetConfig::default())
}

fn world_with(backends: u16, settings: RetrySettings, budget: RetryBudgetConfig) -> (World, usize) {
    let accountant = Accountant::new(u64::MAX);
    let mut world = World::with_backends(&accountant, Limits::edge(), backends, |cluster, route| {
        cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
        route.retry = Some(Arc::new(settings));
    });
    let client = world.client();
    (world, client)
}

fn all_fail(world: &mut World, code: Code, more: &[(&'static str, &'static str)]) {
    for backend in world.backends.clone() {
        world.peer(backend).fails_with = Some((code, more.to_vec()));
    }
}

fn served(world: &World) -> Vec<usize> {
    world.backends.iter().map(|backend| world.peers[backend].1.served).collect()
}

fn counted(world: &World, event: ClusterEvent) -> u64 {
    world.telemetry.snapshot().cluster_event(event)
}

#[test]
fn a_call_whose_status_is_retried_succeeds_at_another_endpoint() {
    let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
    let (mut world, client) = world_with(2, retries(&[Code::Unavailable]), budget);
    let broken = world.backends[0];
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    for _ in 0..10 {
        world.call(client, b'S', 10);
        world.turns(20);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 10]);
    let [failed, answered] = served(&world)[..] else { panic!("there are two") };
    assert!(failed >= 5 && answered == 10, "{failed} and {answered}");
    assert_eq!(counted(&world, ClusterEvent::Retry(RetryReason::Status)), failed as u64);
}

#[test]
fn the_status_is_the_same_in_trailers_behind_headers() {
    let (mut world, client) = world(2, retries(&[Code::Unavailable]));
    let broken = world.backends[0];
    world.peer(broken).fails_late = true;
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    for _ in 0..3 {
        world.call(client, b'S', 10);
        world.turns(20);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 3]);
    assert!(served(&world)[0] >= 1 && served(&world)[1] == 3, "{:?}", served(&world));
}

#[test]
fn a_status_that_is_not_retried_goes_to_the_client_at_once_with_all_that_it_says() {
    for (late, code) in [(false, Code::Internal), (true, Code::Internal), (false, Code::NotFound)] {
        let (mut world, client) = world(2, retries(&[Code::Unavailable]));
        all_fail(&mut world, code, &[("x-cause", "disk")]);
        for backend in world.backends.clone() {
            world.peer(backend).fails_late = late;
        }
        world.call(client, b'S', 10);
        world.turns(3);
        assert_eq!(world.peer(client).ends, [End::Status(code)]);
        assert!(world.peer(client).ended_with.contains(&("x-cause".into(), "disk".into())));
        assert_eq!(served(&world).iter().sum::<usize>(), 1);
    }
}

#[test]
fn attempts_end_at_the_policys_number_and_say_how_many_there_were_before() {
    let (mut world, client) = world(1, retries(&[Code::Unavailable]));
    all_fail(&mut world, Code::Unavailable, &[]);
    world.call(client, b'S', 10);
    let backend = world.backends[0];
    let previous = |world: &mut World| {
        let asked = world.peer(backend).asked_with.clone();
        asked.into_iter().find(|(name, _)| name == "grpc-previous-rpc-attempts").map(|(_, value)| value)
    };
    world.turns(2);
    assert_eq!(previous(&mut world), None);
    // 10 ms and a fifth more or less, then twice that.
    world.turns(14);
    assert_eq!(previous(&mut world).as_deref(), Some("1"));
    world.turns(28);
    assert_eq!(previous(&mut world).as_deref(), Some("2"));
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    assert_eq!(served(&world), [3]);
    assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::AttemptsUsed)), 1);
}

#[test]
fn pushback_is_obeyed_be_it_a_delay_or_never() {
    for (pushback, turns, attempts, counted_as) in [
        ("60", 50, 1, PushedBack::Delay),
        ("60", 80, 2, PushedBack::Delay),
        ("-1", 500, 1, PushedBack::Never),
        ("soon", 500, 1, PushedBack::Malformed),
        ("99999999999999999999", 500, 1, PushedBack::Malformed),
        ("2147483647", 500, 1, PushedBack::TooLong),
    ] {
        let (mut world, client) = world(1, retries(&[Code::Unavailable]));
        all_fail(&mut world, Code::Unavailable, &[("grpc-retry-pushback-ms", pushback)]);
        world.call(client, b'S', 10);
        world.turns(turns);
        assert_eq!(served(&world), [attempts], "{pushback} after {turns} ms");
        assert_eq!(world.peer(client).ends.is_empty(), pushback == "60");
        for outcome in PushedBack::ALL {
            let expected = if *outcome == counted_as { attempts as u64 } else { 0 };
            assert_eq!(
                counted(&world, ClusterEvent::PushedBack(*outcome)),
                expected,
                "{pushback}: {outcome:?}"
            );
        }
    }
}

/// gRPC's clients count the calls of all methods (gRFC A6), those without a policy as well.
#[test]
fn calls_of_a_route_without_a_policy_count_for_the_throttle_as_in_grpcs_clients() {
    let config = RetryThrottleConfig::new(10, Factor::from_thousandths(500)).unwrap();
    let gates = Arc::new(RetryGates {
        budget: RetryBudget::new(RetryBudgetConfig::default()),
        throttle: Some(RetryThrottle::new(config)),
    });
    let of_cluster = Arc::clone(&gates);
    let accountant = Accountant::new(u64::MAX);
    let mut world =
        World::with_backends(&accountant, Limits::edge(), 1, |cluster, _| cluster.gates = of_cluster);
    let client = world.client();
    let tokens = || gates.throttle.as_ref().unwrap().tokens_thousandths();
    let calls = |world: &mut World, count: usize| {
        for _ in 0..count {
            world.call(client, b'S', 10);
            world.turns(5);
        }
    };
    all_fail(&mut world, Code::Unavailable, &[]);
    calls(&mut world, 3);
    assert_eq!(tokens(), 10_000, "no policy calls it retryable");
    all_fail(&mut world, Code::Unavailable, &[("grpc-retry-pushback-ms", "-1")]);
    calls(&mut world, 3);
    assert_eq!(tokens(), 7_000);
    let backend = world.backends[0];
    world.peer(backend).fails_with = None;
    calls(&mut world, 2);
    assert_eq!(tokens(), 8_000);
}

#[test]
fn a_budget_bounds_the_retries_of_a_cluster_where_everything_fails() {
    let budget = RetryBudgetConfig { min_concurrency: 1, ..RetryBudgetConfig::default() };
    let (mut world, client) = world_with(3, retries(&[Code::Unavailable]), budget);
    all_fail(&mut world, Code::Unavailable, &[]);
    for _ in 0..500 {
        world.call(client, b'S', 10);
        world.turn();
    }
    world.turns(100);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable); 500]);
    let attempts = served(&world).iter().sum::<usize>();
    assert!((510..=600).contains(&attempts), "{attempts} attempts for 500 calls");
    assert!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::OverBudget)) > 300);
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_for_another() {
    let mut settings = retries(&[Code::DeadlineExceeded]);
    settings.policy.per_try_timeout = Some(30 * MS);
    settings.is_idempotent = true;
    let (mut world, client) = world(2, settings);
    let silent = world.backends[0];
    world.peer(silent).is_silent = true;
    for _ in 0..2 {
        world.call(client, b'S', 10);
    }
    world.turns(25);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    world.turns(30);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 2]);
    assert_eq!(counted(&world, ClusterEvent::Retry(RetryReason::AttemptTimeout)), 1);
    assert_eq!(world.worker.call_count(), 0);
}

/// A backend may be unable to answer before it has the whole request.
#[test]
fn an_attempt_is_timed_from_the_end_of_its_request() {
    let mut settings = retries(&[Code::DeadlineExceeded]);
    settings.policy.per_try_timeout = Some(30 * MS);
    settings.is_idempotent = true;
    let (mut world, client) = world(2, settings);
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    for _ in 0..10 {
        let now = world.now;
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\x01S", false).unwrap();
        world.turns(20);
    }
    assert_eq!(
        (world.peer(client).ends.len(), counted(&world, ClusterEvent::Retry(RetryReason::AttemptTimeout))),
        (0, 0)
    );
    for backend in world.backends.clone() {
        world.peer(backend).is_silent = true;
    }
    let now = world.now;
    world.peer(client).http2.send_data(now, stream, b"", true).unwrap();
    world.turns(28);
    assert_eq!(served(&world).iter().sum::<usize>(), 1);
    // The rest of its time, and a backoff of 12 ms at most.
    world.turns(20);
    assert_eq!(
        (served(&world), counted(&world, ClusterEvent::Retry(RetryReason::AttemptTimeout))),
        (vec![1, 1], 1)
    );
}

/// Headers that are held back are a response that has begun: a watch has nothing more to say for long.
#[test]
fn an_attempt_whose_response_has_begun_is_not_timed_any_more() {
    let mut settings = retries(&[Code::DeadlineExceeded]);
    settings.policy.per_try_timeout = Some(30 * MS);
    settings.is_idempotent = true;
    let (mut world, client) = world(1, settings);
    let backend = world.backends[0];
    world.peer(backend).answers_headers_only = true;
    world.call(client, b'S', 10);
    world.turns(100);
    assert!(!world.peer(client).answered_with.is_empty());
    assert_eq!((world.peer(client).ends.len(), served(&world)), (0, vec![1]));
    assert_eq!(counted(&world, ClusterEvent::Retry(RetryReason::AttemptTimeout)), 0);
}

/// However long its answer goes on: some watches that were retried would else deny every other call its retry for hours.
#[test]
fn a_retry_that_is_answered_gives_its_place_in_the_budget_back() {
    let budget = RetryBudgetConfig { percent: 0, min_concurrency: 1, window: None };
    let (mut world, client) = world_with(1, retries(&[Code::Unavailable]), budget);
    let backend = world.backends[0];
    for watches in 1..=3 {
        all_fail(&mut world, Code::Unavailable, &[]);
        world.call(client, b'S', 10);
        world.turns(3);
        (world.peer(backend).fails_with, world.peer(backend).answers_headers_only) = (None, true);
        // The backoff, and what headers are held back for.
        world.turns(70);
        world.peer(backend).answers_headers_only = false;
        assert_eq!(counted(&world, ClusterEvent::Retry(RetryReason::Status)), watches);
        assert_eq!(world.worker.call_count() as u64, watches, "the watches go on");
    }
    assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::OverBudget)), 0);
}

/// Of a flood that a rate limit keeps out a fifth would be more retries than there are calls.
#[test]
fn the_budget_counts_no_call_that_a_rate_limit_turned_away() {
    let gates =
        Arc::new(RetryGates { budget: RetryBudget::new(RetryBudgetConfig::default()), throttle: None });
    let limiter = RateLimiter::new(RateLimit::new(1, Duration::from_secs(1), 5).unwrap());
    let rate_limit = Some(Arc::new(RouteRateLimit { route: Some(limiter), clients: None }));
    let accountant = Accountant::new(u64::MAX);
    let mut world = World::with_backends(&accountant, Limits::edge(), 1, |cluster, route| {
        cluster.gates = Arc::clone(&gates);
        route.retry = Some(Arc::new(retries(&[Code::Unavailable])));
        route.actions = Some(Arc::new(RouteActions { rate_limit, ..RouteActions::default() }));
    });
    let client = world.client();
    for _ in 0..50 {
        world.call(client, b'S', 10);
    }
    world.turns(5);
    let ends = &world.peer(client).ends;
    assert_eq!(ends.iter().filter(|end| **end == End::Status(Code::Ok)).count(), 5, "{ends:?}");
    assert_eq!(gates.budget.window(world.now).unwrap().1.calls, 5);
}

#[test]
fn what_may_have_happened_is_not_repeated_unless_it_is_declared_harmless() {
    let mut settings = retries(&[Code::DeadlineExceeded]);
    settings.policy.per_try_timeout = Some(30 * MS);
    let (mut world, client) = world(1, settings);
    let silent = world.backends[0];
    world.peer(silent).is_silent = true;
    world.call(client, b'S', 10);
    world.turns(40);
    assert_eq!(world.peer(client).ends, [End::Status(Code::DeadlineExceeded)]);
    assert_eq!(served(&world), [1]);
}

#[test]
fn a_call_that_is_cancelled_while_it_waits_for_a_retry_leaves_nothing_behind() {
    let (mut world, client) = world(1, retries(&[Code::Unavailable]));
    all_fail(&mut world, Code::Unavailable, &[]);
    let timers = world.worker.usage().timers;
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, &[]);
    peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
    world.turns(3);
    assert_eq!((served(&world), world.worker.call_count()), (vec![1], 1));
    world.peer(client).cancel(stream);
    world.turns(50);
    assert_eq!((served(&world), world.worker.call_count()), (vec![1], 0));
    assert_eq!(world.worker.usage().timers, timers, "no timer is left");
}

#[test]
fn headers_are_held_back_for_fifty_milliseconds_at_most_and_only_behind_a_whole_request() {
    let (mut world, client) = world(1, retries(&[Code::Unavailable]));
    let backend = world.backends[0];
    world.peer(backend).answers_headers_only = true;
    world.call(client, b'S', 10);
    world.turns(40);
    assert!(world.peer(client).answered_with.is_empty(), "they may still be followed by a failure");
    world.turns(15);
    assert!(!world.peer(client).answered_with.is_empty());
    world.peer(client).answered_with.clear();
    let now = world.now;
    world.peer(client).begin(now, &[]);
    world.turns(3);
    assert!(!world.peer(client).answered_with.is_empty(), "the client may wait for them before it goes on");
}
