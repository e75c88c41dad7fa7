//! Priorities, localities and panic with the whole balancer: failover and back, for every policy.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::Code;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::fixture::{ASK, Fixture, address, hashing, sample};
use crate::outlier::{OutlierConfig, OutlierDetector};
use crate::{
    Affinity, Ask, AttemptEnd, Balancer, BoundedLoad, CallReport, Choice, Connectivity, EndpointSet,
    EndpointSpec, Ineligible, LeastRequestConfig, LoadWeightConfig, Localities, Locality, Outcome,
    PanicChange, PanicMode, PeakEwmaConfig, Pick, Policy, PrequalConfig, RefusedBy, SpreadConfig, Withheld,
    ZoneAware,
};

fn policies() -> Vec<Policy> {
    let mut policies = vec![
        Policy::RoundRobin,
        Policy::WeightedRoundRobin,
        Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()),
        Policy::Random,
        sample(2),
        Policy::PeakEwma(PeakEwmaConfig::default()),
        Policy::Prequal(PrequalConfig::default()),
    ];
    policies.extend(hashing(Affinity::Rehash));
    policies.extend(hashing(Affinity::Bounded(BoundedLoad::default())));
    policies
}

fn zone(name: &str) -> Arc<Locality> {
    Arc::new(Locality { region: "eu".into(), zone: name.into(), sub_zone: String::new() })
}

/// Endpoints 0, 1, ... with these priorities and zones.
fn listed(places: &[(u8, &str)]) -> Vec<EndpointSpec> {
    let spec = |(number, (priority, name)): (u32, &(u8, &str))| EndpointSpec {
        priority: *priority,
        locality: Some(zone(name)),
        ..EndpointSpec::from((address(number), 1))
    };
    (0..).zip(places).map(spec).collect()
}

fn panic_below(threshold: u8) -> SpreadConfig {
    SpreadConfig { panic: PanicMode { threshold, fails: false }, ..SpreadConfig::default() }
}

fn zone_aware(own: &str) -> SpreadConfig {
    let own = Locality::clone(&zone(own));
    let aware = ZoneAware { own, min_cluster_size: 2, routing_enabled: 100, proxies: Arc::from([]) };
    SpreadConfig { localities: Localities::ZoneAware(aware), ..SpreadConfig::default() }
}

fn spread(policy: Policy, places: &[(u8, &str)], config: SpreadConfig) -> Fixture {
    let mut fixture = Fixture::idle(policy, &[], 3);
    fixture.set = Arc::new(fixture.set.followed_by(&listed(places), &Arc::new(config)));
    assert_eq!(fixture.balancer.update(&fixture.set).added.len(), places.len());
    fixture.connect();
    fixture
}

/// Calls per endpoint, each ending at once, with a key of its own.
fn counts(fixture: &mut Fixture, endpoints: usize, calls: u64) -> Vec<u64> {
    let mut counts = vec![0; endpoints];
    for call in 0..calls {
        let ask = Ask { hash: Some(crate::hash_bytes(&call.to_be_bytes())), ..ASK };
        let is_keyed = matches!(fixture.policy(), Policy::RingHash { .. } | Policy::Maglev { .. });
        let ask = if is_keyed { ask } else { ASK };
        let pick = fixture.balancer.pick(&ask);
        let slot = pick.slot().unwrap_or_else(|| panic!("an endpoint is ready, but the pick is {pick:?}"));
        counts[fixture.number(slot) as usize] += 1;
        fixture.balancer.call_started(slot, ASK.now);
        let latency = Duration::from_millis(1);
        let report = CallReport { now: ASK.now, outcome: Outcome::Success, latency, load: None };
        fixture.balancer.call_finished(slot, &report);
    }
    counts
}

/// Fails the endpoint's connection and all attempts from now on.
fn kill(fixture: &mut Fixture, number: u32) {
    fixture.set(number, Connectivity::TransientFailure);
}

const TWO_PRIORITIES: [(u8, &str); 6] = [(0, "a"), (0, "a"), (0, "a"), (0, "a"), (1, "b"), (1, "b")];

#[test]
fn calls_fail_over_to_the_next_priority_as_the_first_fails_and_come_back() {
    for policy in policies() {
        let mut fixture = spread(policy, &TWO_PRIORITIES, panic_below(50));
        let low_priority = |fixture: &mut Fixture| -> u64 { counts(fixture, 6, 1_000)[4..].iter().sum() };
        let near = |got: u64, percent: u64| got.abs_diff(10 * percent) <= 40;
        assert_eq!(low_priority(&mut fixture), 0, "{policy:?}");
        for (killed, expected) in [(0, 0), (1, 30), (2, 65), (3, 100)] {
            kill(&mut fixture, killed);
            let got = low_priority(&mut fixture);
            assert!(near(got, expected), "{policy:?}: {got} of 1000 with {} killed", killed + 1);
        }
        for (returned, expected) in [(3, 65), (2, 30), (1, 0), (0, 0)] {
            fixture.set(returned, Connectivity::Ready);
            let got = low_priority(&mut fixture);
            assert!(near(got, expected), "{policy:?}: {got} of 1000 with {} back", 4 - returned);
        }
        assert_eq!(low_priority(&mut fixture), 0, "{policy:?}");
        assert_eq!(fixture.balancer.poll_panic_change(), None, "the next priority is enough");
    }
}

#[test]
fn an_endpoint_whose_group_gets_no_calls_says_why() {
    let mut fixture = spread(Policy::RoundRobin, &TWO_PRIORITIES, panic_below(50));
    let reasons = |fixture: &Fixture, number| fixture.balancer.ineligible(fixture.slot(number));
    assert_eq!((reasons(&fixture, 0), reasons(&fixture, 4)), (vec![], vec![Ineligible::Standby]));
    // One of four out is borne by the others, a second one is not.
    kill(&mut fixture, 0);
    assert_eq!(reasons(&fixture, 4), [Ineligible::Standby]);
    kill(&mut fixture, 1);
    assert_eq!((reasons(&fixture, 3), reasons(&fixture, 4)), (vec![], vec![]));
    // Where the first priority is out, that is its endpoints' own state.
    (0..4).for_each(|number| kill(&mut fixture, number));
    assert_eq!((reasons(&fixture, 0), reasons(&fixture, 4)), (vec![Ineligible::Backoff], vec![]));
    (4..6).for_each(|number| kill(&mut fixture, number));
    assert_eq!(reasons(&fixture, 4), [Ineligible::Backoff], "all are out");
    let fixture = spread(Policy::RoundRobin, &[(0, "a"), (0, "a"), (0, "b")], zone_aware("a"));
    let of_zones = [0, 1, 2].map(|number| reasons(&fixture, number));
    assert_eq!(of_zones, [vec![], vec![], vec![Ineligible::LocalityWithoutShare]]);
    let fixture = spread(Policy::PickFirst { shuffle: false }, &TWO_PRIORITIES, panic_below(50));
    assert_eq!(reasons(&fixture, 4), [Ineligible::NotSelected], "pick_first has no shares");
}

#[test]
fn withheld_endpoints_count_as_out_and_draining_ones_as_absent() {
    let mut fixture = spread(Policy::RoundRobin, &TWO_PRIORITIES, panic_below(50));
    for number in [0, 1] {
        fixture.endpoint(number).set_withheld(Withheld::Unhealthy, true);
    }
    counts(&mut fixture, 6, 10);
    assert_eq!(counts(&mut fixture, 6, 1_000)[..2], [0, 0]);
    let low: u64 = counts(&mut fixture, 6, 1_000)[4..].iter().sum();
    assert!(low.abs_diff(300) <= 3, "{low}");
    for number in [0, 1] {
        fixture.endpoint(number).set_draining(true);
        fixture.endpoint(number).set_withheld(Withheld::Unhealthy, false);
    }
    // A connection event is when a worker looks at an endpoint that gets no calls.
    for number in [0, 1] {
        fixture.set(number, Connectivity::Idle);
        fixture.set(number, Connectivity::Ready);
    }
    assert_eq!(counts(&mut fixture, 6, 1_000)[..], [0, 0, 500, 500, 0, 0]);
}

#[test]
fn calls_wait_for_the_first_priority_while_it_is_being_connected_to() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[], 3);
    let places = listed(&[(0, "a"), (1, "b")]);
    fixture.set = Arc::new(fixture.set.followed_by(&places, &Arc::new(panic_below(50))));
    let changes = fixture.balancer.update(&fixture.set);
    assert_eq!(changes.added.len(), 2);
    fixture.set(1, Connectivity::Ready);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.set(0, Connectivity::Connecting);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.set(0, Connectivity::TransientFailure);
    assert_eq!(fixture.pick(), 1);
    fixture.set(0, Connectivity::Ready);
    assert_eq!(fixture.pick(), 0);
}

#[test]
fn a_retry_leaves_a_priority_whose_endpoints_were_all_tried() {
    let mut fixture = spread(Policy::RoundRobin, &[(0, "a"), (1, "b")], panic_below(50));
    let first = fixture.slot(0);
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &[first]), Pick::Endpoint(fixture.slot(1)));
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &[first, fixture.slot(1)]), Pick::Fail);
}

#[test]
fn a_retry_stays_in_its_locality_while_one_there_was_not_tried() {
    let mut all = policies();
    all.push(Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)));
    for policy in all {
        let mut fixture = spread(policy, &[(0, "a"), (0, "b"), (0, "b"), (0, "b")], zone_aware("b"));
        let slots = [0, 1, 2, 3].map(|number| fixture.slot(number));
        for tried in [&slots[1..2], &slots[1..3]] {
            for key in 0..100 {
                let ask = Ask { hash: Some(crate::hash_bytes(&[key])), ..ASK };
                let pick = fixture.balancer.pick_excluding(&ask, tried).slot().expect("others are ready");
                assert!(pick != slots[0] && !tried.contains(&pick), "{policy:?}: {:?}", fixture.number(pick));
            }
        }
        assert_eq!(
            fixture.balancer.pick_excluding(&ASK, &slots[1..]),
            Pick::Endpoint(slots[0]),
            "{policy:?}"
        );
    }
}

#[test]
fn panic_begins_and_ends_with_the_numbers_and_disregards_health_meanwhile() {
    for policy in policies() {
        let mut fixture = spread(policy, &[(0, "a"); 5], panic_below(50));
        for number in 0..3 {
            fixture.endpoint(number).set_withheld(Withheld::Unhealthy, true);
        }
        counts(&mut fixture, 5, 200);
        let change = |began, available| PanicChange {
            priority: 0,
            began,
            available,
            total: 5,
            threshold: 50,
            fails: false,
        };
        assert_eq!(fixture.balancer.poll_panic_change(), Some(change(true, 2)), "{policy:?}");
        assert_eq!(fixture.set.workers_in_panic(0), 1);
        let calls = counts(&mut fixture, 5, 500);
        assert!(calls.iter().all(|count| *count > 30), "{policy:?}: {calls:?}");
        fixture.endpoint(2).set_withheld(Withheld::Unhealthy, false);
        counts(&mut fixture, 5, 200);
        assert_eq!(fixture.balancer.poll_panic_change(), Some(change(false, 3)), "{policy:?}");
        assert_eq!(fixture.balancer.poll_panic_change(), None);
        assert_eq!(fixture.set.workers_in_panic(0), 0);
        counts(&mut fixture, 5, 200);
        assert_eq!(counts(&mut fixture, 5, 100)[..2], [0, 0], "{policy:?}");
    }
}

#[test]
fn a_priority_that_was_in_panic_has_its_calls_again_once_it_is_healthy() {
    let places = [(0, "a"), (1, "b"), (2, "c")];
    for policy in policies() {
        let mut fixture = spread(policy, &places, panic_below(50));
        let withhold = |fixture: &Fixture, numbers: &[u32], is_withheld: bool| {
            for number in numbers {
                fixture.endpoint(*number).set_withheld(Withheld::Unhealthy, is_withheld);
            }
        };
        // All are unhealthy, and health is disregarded; then the last priority is back, and bears all.
        withhold(&fixture, &[0, 1, 2], true);
        counts(&mut fixture, 3, 50);
        assert!((0..3).all(|priority| fixture.balancer.loads.is_panicking(priority)), "{policy:?}");
        withhold(&fixture, &[2], false);
        counts(&mut fixture, 3, 50);
        assert_eq!(counts(&mut fixture, 3, 100), [0, 0, 100], "{policy:?}");
        // Nothing but a pick tells that an endpoint is healthy again.
        withhold(&fixture, &[1], false);
        counts(&mut fixture, 3, 10);
        assert_eq!(counts(&mut fixture, 3, 100), [0, 100, 0], "{policy:?}");
        withhold(&fixture, &[0], false);
        counts(&mut fixture, 3, 10);
        assert_eq!(counts(&mut fixture, 3, 100), [100, 0, 0], "{policy:?}");
    }
}

#[test]
fn what_is_withheld_when_a_panic_ends_has_no_share_of_the_calls() {
    for policy in policies() {
        let config = SpreadConfig { panic: panic_below(50).panic, ..zone_aware("c") };
        let mut fixture = spread(policy, &[(0, "a"), (0, "b"), (0, "b")], config);
        let withhold = |fixture: &Fixture, number, is_withheld| {
            fixture.endpoint(number).set_withheld(Withheld::Unhealthy, is_withheld);
        };
        [0, 1].into_iter().for_each(|number| withhold(&fixture, number, true));
        counts(&mut fixture, 3, 50);
        assert!(fixture.balancer.loads.is_panicking(0), "{policy:?}");
        withhold(&fixture, 1, false);
        counts(&mut fixture, 3, 50);
        assert!(!fixture.balancer.loads.is_panicking(0), "{policy:?}");
        let loads: Vec<f64> = fixture.balancer.group_loads().iter().map(|group| group.load).collect();
        assert_eq!(loads, [0.0, 1.0], "{policy:?}");
        assert_eq!(counts(&mut fixture, 3, 100)[0], 0, "{policy:?}");
    }
}

#[test]
fn a_cluster_that_is_to_fail_in_panic_does_and_recovers_through_trials() {
    let fails = SpreadConfig { panic: PanicMode { threshold: 60, fails: true }, ..SpreadConfig::default() };
    let mut fixture = spread(Policy::RoundRobin, &[(0, "a"); 2], fails);
    let config = OutlierConfig { max_ejected_percent: 100, ..OutlierConfig::default() };
    fixture.balancer.detect_outliers(Some(Arc::new(OutlierDetector::new(config, 2, ASK.now))));
    let failed = AttemptEnd::Status { code: Code::Unavailable, pushback: None };
    for number in 0..2 {
        let slot = fixture.slot(number);
        (0..5).for_each(|_| fixture.balancer.observe(slot, &failed, false, ASK.now));
    }
    (0..5).for_each(|_| {
        let _ = fixture.balancer.pick(&ASK);
    });
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
    let rule = RefusedBy::Panic { priority: 0, available: 1, total: 2 };
    assert_eq!(fixture.balancer.refusal(), Some(rule));
    assert!(fixture.balancer.poll_panic_change().is_some_and(|change| change.fails && change.available == 1));
    let later = Ask { now: ASK.now + Duration::from_secs(3_600), hash: None };
    let fine = AttemptEnd::Status { code: Code::Ok, pushback: None };
    let mut trials = 0;
    while let Pick::Trial(slot) = fixture.balancer.pick(&later) {
        fixture.balancer.observe(slot, &fine, true, later.now);
        trials += 1;
        assert!(trials < 20, "trials bring it back");
    }
    assert!(trials > 0);
    (0..5).for_each(|_| {
        let _ = fixture.balancer.pick(&later);
    });
    assert!(matches!(fixture.balancer.pick(&later), Pick::Endpoint(_)));
    assert_eq!(fixture.balancer.refusal(), None);
}

#[test]
fn the_last_worker_to_leave_a_panic_says_so() {
    let mut first = spread(Policy::RoundRobin, &[(0, "a"); 3], panic_below(50));
    let mut second = Balancer::new(Policy::RoundRobin, SmallRng::seed_from_u64(5));
    let slots = second.update(&first.set).added;
    slots.iter().for_each(|slot| second.set_connectivity(*slot, Connectivity::TransientFailure, ASK.now));
    assert!(second.poll_panic_change().is_some_and(|change| change.began));
    for number in 0..3 {
        kill(&mut first, number);
    }
    assert_eq!((first.balancer.poll_panic_change(), first.set.workers_in_panic(0)), (None, 2));
    slots.iter().for_each(|slot| second.set_connectivity(*slot, Connectivity::Ready, ASK.now));
    assert_eq!((second.poll_panic_change(), first.set.workers_in_panic(0)), (None, 1));
    let set = Arc::clone(&first.set);
    drop(first);
    assert_eq!(set.workers_in_panic(0), 0, "a balancer that goes away is in no panic");
}

#[test]
fn the_own_zone_is_kept_to_and_left_as_far_as_it_loses_endpoints() {
    let places = [(0, "a"), (0, "a"), (0, "a"), (0, "a"), (0, "b"), (0, "b"), (0, "b"), (0, "b")];
    for policy in policies() {
        let mut fixture = spread(policy, &places, zone_aware("a"));
        assert_eq!(counts(&mut fixture, 8, 1_000)[4..], [0; 4], "{policy:?}");
        for number in [0, 1] {
            kill(&mut fixture, number);
        }
        // 2 of 6 endpoints for half of the proxies: two thirds stay.
        let calls = counts(&mut fixture, 8, 3_000);
        let stayed: u64 = calls[..4].iter().sum();
        assert!(stayed.abs_diff(2_000) <= 80, "{policy:?}: {calls:?}");
        for number in [2, 3] {
            kill(&mut fixture, number);
        }
        assert_eq!(counts(&mut fixture, 8, 1_000)[..4], [0; 4], "{policy:?}");
    }
}

#[test]
fn endpoints_that_change_their_group_are_others_and_calls_end_where_they_began() {
    for policy in policies() {
        let mut fixture = spread(policy, &TWO_PRIORITIES, panic_below(50));
        let moving = fixture.slot(0);
        fixture.balancer.call_started(moving, ASK.now);
        let places = [(2, "c"), (0, "a"), (0, "a"), (0, "a"), (1, "b"), (1, "b")];
        fixture.set = Arc::new(fixture.set.followed_by(&listed(&places), &Arc::new(panic_below(50))));
        let changes = fixture.balancer.update(&fixture.set);
        assert_eq!((changes.removed.clone(), changes.added.len()), (vec![moving], 1));
        let report = CallReport { now: ASK.now, outcome: Outcome::Success, latency: ASK.now, load: None };
        fixture.balancer.call_finished(moving, &report);
        fixture.balancer.forget(moving);
        assert_eq!(fixture.endpoint(0).in_flight(), 0);
        fixture.connect();
        let calls = counts(&mut fixture, 6, 300);
        assert_eq!((calls[0], calls[4], calls[5]), (0, 0, 0), "{policy:?}");
        (1..6).for_each(|number| kill(&mut fixture, number));
        assert_eq!(counts(&mut fixture, 6, 100)[0], 100, "{policy:?}");
        // And without any priorities again.
        let places = [(0, "a"); 6];
        fixture.set = Arc::new(fixture.set.followed_by(&listed(&places), &Arc::default()));
        let changes = fixture.balancer.update(&fixture.set);
        assert_eq!((changes.removed.len(), changes.added.len()), (3, 3), "{policy:?}");
        assert_eq!(fixture.balancer.group_loads().len(), 1);
    }
}

#[test]
fn the_only_group_has_all_calls_or_none_if_nothing_in_it_takes_them() {
    let loads = |fixture: &Fixture| -> Vec<(u32, f64)> {
        fixture.balancer.group_loads().iter().map(|group| (group.endpoints, group.load)).collect()
    };
    for policy in policies() {
        for threshold in [0, 50] {
            let mut fixture = spread(policy, &[(0, "a"); 2], panic_below(threshold));
            assert_eq!(loads(&fixture), [(2, 1.0)], "{policy:?}");
            fixture.set = Arc::new(fixture.set.followed_by(&[], &Arc::new(panic_below(threshold))));
            assert_eq!(fixture.balancer.update(&fixture.set).removed.len(), 2);
            assert_eq!(loads(&fixture), [(0, 0.0)], "{policy:?}");
        }
    }
}

#[test]
fn pick_first_tries_higher_priorities_first() {
    for shuffle in [false, true] {
        let mut fixture =
            spread(Policy::PickFirst { shuffle }, &[(1, "b"), (1, "b"), (0, "a")], panic_below(50));
        assert_eq!(fixture.pick(), 2);
        fixture.unreachable.insert(address(2));
        fixture.set(2, Connectivity::Idle);
        fixture.now += Duration::from_secs(60);
        fixture.connect();
        assert!(fixture.pick() < 2);
    }
}

#[test]
fn a_key_with_no_other_home_keeps_it_in_its_group() {
    for policy in hashing(Affinity::Fail) {
        let mut fixture = spread(policy, &TWO_PRIORITIES, panic_below(0));
        let ask = |key: u64| Ask { hash: Some(crate::hash_bytes(&key.to_be_bytes())), ..ASK };
        let homes: Vec<_> = (0..200).map(|key| fixture.balancer.pick(&ask(key)).slot().unwrap()).collect();
        assert!(homes.iter().all(|slot| fixture.number(*slot) < 4), "{policy:?}");
        let lost = fixture.slot(0);
        kill(&mut fixture, 0);
        for (key, home) in (0..200).zip(homes) {
            let expected = if home == lost { Pick::Fail } else { Pick::Endpoint(home) };
            assert_eq!(fixture.balancer.pick(&ask(key)), expected, "{policy:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u32, Connectivity),
    Withhold(u32, Withheld, bool),
    Picks,
}

fn step() -> impl Strategy<Value = Step> {
    let states =
        [Connectivity::Ready, Connectivity::Ready, Connectivity::TransientFailure, Connectivity::Idle];
    prop_oneof![
        3 => (0..8_u32, 0..4_usize).prop_map(move |(number, state)| Step::Set(number, states[state])),
        3 => (0..8_u32, 0..3_usize, any::<bool>())
            .prop_map(|(number, reason, holds)| Step::Withhold(number, Withheld::ALL[reason], holds)),
        1 => Just(Step::Picks),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_withheld_is_picked_while_something_else_could_be_but_in_panic(
        steps in proptest::collection::vec(step(), 1..40),
        threshold in prop_oneof![Just(0_u8), Just(50), Just(90)],
    ) {
        let places =
            [(0, "a"), (0, "a"), (0, "b"), (0, "b"), (1, "a"), (1, "b"), (1, "c"), (2, "c")];
        for policy in policies() {
            let config = SpreadConfig { panic: PanicMode { threshold, fails: false }, ..zone_aware("a") };
            let mut fixture = spread(policy, &places, config);
            for step in &steps {
                match step {
                    Step::Set(number, state) => fixture.set(*number, *state),
                    Step::Withhold(number, reason, holds) => fixture.endpoint(*number).set_withheld(*reason, *holds),
                    Step::Picks => (0..50).for_each(|key| check_pick(&mut fixture, key)),
                }
                let loads = fixture.balancer.group_loads();
                let sum: f64 = loads.iter().map(|group| group.load).sum();
                let is_any = loads.iter().any(|group| group.available > 0 || group.candidates > 0);
                prop_assert!((sum - f64::from(u8::from(is_any))).abs() < 1e-6, "{loads:?}");
            }
        }
    }
}

fn check_pick(fixture: &mut Fixture, key: u64) {
    let ask = Ask { hash: Some(crate::hash_bytes(&key.to_be_bytes())), ..ASK };
    let is_eligible = |fixture: &Fixture, number: u32| {
        let is_ready = fixture.balancer.connectivity(fixture.slot(number)) == Connectivity::Ready;
        is_ready && !fixture.endpoint(number).is_withheld()
    };
    match fixture.balancer.pick(&ask) {
        Pick::Endpoint(slot) => {
            let number = fixture.number(slot);
            assert_eq!(fixture.balancer.connectivity(slot), Connectivity::Ready);
            let is_panic = fixture.balancer.group_loads().iter().any(|group| group.is_panic);
            let none = !(0..8).any(|other| is_eligible(fixture, other));
            assert!(is_eligible(fixture, number) || is_panic || none, "{number} is withheld");
        }
        Pick::Trial(_) => panic!("there is no detector"),
        Pick::Fail => {
            assert!(!(0..8).any(|number| is_eligible(fixture, number)), "an endpoint could be picked");
        }
        Pick::Queue => {}
    }
}

#[test]
fn one_set_after_another_keeps_its_groups_and_what_they_count() {
    let set = EndpointSet::of(&listed(&TWO_PRIORITIES), &Arc::new(panic_below(50)));
    let next = set.updated(&[(address(0), 1), (address(4), 1)]);
    assert_eq!(next.groups().len(), 1, "a list without priorities has one");
    let next = set.followed_by(&listed(&[(1, "x"), (0, "y")]), &Arc::new(panic_below(50)));
    let shared =
        |place: usize| Arc::ptr_eq(&set.groups()[place].bounded_calls, &next.groups()[place].bounded_calls);
    assert!(shared(0) && shared(1));
    assert!(Arc::ptr_eq(set.panics(), next.panics()));
    assert_eq!((next.priority(0), next.locality(0)), (1, Some(&zone("x"))));
}

#[test]
fn too_many_localities_are_not_looked_at() {
    let names: Vec<String> = (0..65).map(|number| format!("zone-{number}")).collect();
    let places: Vec<(u8, &str)> = names.iter().map(|name| (0, name.as_str())).collect();
    let of = |count: usize| EndpointSet::of(&listed(&places[..count]), &Arc::new(zone_aware("zone-1")));
    assert_eq!((of(64).groups().len(), of(64).has_too_many_localities()), (64, false));
    assert_eq!((of(65).groups().len(), of(65).has_too_many_localities()), (1, true));
}
