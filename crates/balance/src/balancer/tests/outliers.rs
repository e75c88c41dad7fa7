//! Ejected endpoints: out of all policies' picks, tried with single calls, and back.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::Code;

use super::fixture::{ASK, Fixture, hashing};
use crate::outlier::{EjectionReason, OutlierChange, OutlierConfig, OutlierDetector, OutlierStatus};
use crate::{
    Affinity, Ask, AttemptEnd, Choice, Connectivity, LeastRequestConfig, LoadWeightConfig, PeakEwmaConfig,
    Pick, Policy, Withheld,
};

const FAILED: AttemptEnd = AttemptEnd::Status { code: Code::Unavailable, pushback: None };
const FINE: AttemptEnd = AttemptEnd::Status { code: Code::Ok, pushback: None };

fn at(now: Duration) -> Ask {
    Ask { now, hash: None }
}

fn detector(endpoints: u32) -> Arc<OutlierDetector> {
    Arc::new(OutlierDetector::new(OutlierConfig::default(), endpoints, ASK.now))
}

/// Three endpoints of which number 1 has failed five calls in a row.
fn one_ejected(policy: Policy) -> Fixture {
    one_ejected_by(&detector(3), policy)
}

fn one_ejected_by(detector: &Arc<OutlierDetector>, policy: Policy) -> Fixture {
    let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
    fixture.balancer.detect_outliers(Some(Arc::clone(detector)));
    let slot = fixture.slot(1);
    for _ in 0..5 {
        assert_eq!(fixture.balancer.poll_outlier_change(), None);
        fixture.balancer.observe(slot, &FAILED, false, ASK.now);
    }
    // That it is out is noticed when it would be picked.
    for call in 0..50_u64 {
        let ask = Ask { hash: Some(call << 56), ..ASK };
        assert_ne!(fixture.balancer.pick(&ask), Pick::Endpoint(slot), "{policy:?}");
    }
    fixture
}

/// When the ejection of number 1 ends.
fn time_is_up(fixture: &Fixture) -> Duration {
    match fixture.endpoint(1).outlier().status(ASK.now) {
        OutlierStatus::Ejected { until, .. } => until,
        other => panic!("the endpoint is {other:?}"),
    }
}

fn most_policies() -> impl Iterator<Item = Policy> {
    let rest = [
        Policy::RoundRobin,
        Policy::WeightedRoundRobin,
        Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()),
        Policy::Random,
        Policy::LeastRequest(LeastRequestConfig::default()),
        Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)),
        Policy::PeakEwma(PeakEwmaConfig::default()),
    ];
    rest.into_iter().chain(hashing(Affinity::Rehash))
}

#[test]
fn an_ejected_endpoint_gets_no_call_until_its_time_is_up_under_any_policy() {
    for policy in most_policies() {
        let mut fixture = one_ejected(policy);
        let until = time_is_up(&fixture);
        let (address, change) = fixture.balancer.poll_outlier_change().unwrap();
        assert_eq!(&*address, "10.0.0.1:50051");
        let reason = EjectionReason::ConsecutiveFailures;
        assert!(matches!(change, OutlierChange::Ejected { reason: why, .. } if why == reason), "{change:?}");
        for call in 0..1000_u64 {
            let ask = Ask {
                now: until - Duration::from_micros(1),
                hash: Some(call.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            };
            match fixture.balancer.pick(&ask) {
                Pick::Endpoint(slot) => assert_ne!(fixture.number(slot), 1, "{policy:?}"),
                other => panic!("{policy:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn when_its_time_is_up_one_call_at_a_time_tries_it_and_three_that_succeed_bring_it_back() {
    for policy in most_policies() {
        let mut fixture = one_ejected(policy);
        let now = time_is_up(&fixture);
        let slot = fixture.slot(1);
        for _ in 0..3 {
            assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot), "{policy:?}");
            for _ in 0..20 {
                let other = fixture.balancer.pick(&at(now));
                assert!(matches!(other, Pick::Endpoint(other) if other != slot), "{policy:?}: {other:?}");
            }
            fixture.balancer.observe(slot, &FINE, true, now);
        }
        let picks: Vec<Pick> = (0..300).map(|_| fixture.balancer.pick(&at(now))).collect();
        assert!(picks.contains(&Pick::Endpoint(slot)), "{policy:?}");
        assert!(picks.iter().all(|pick| matches!(pick, Pick::Endpoint(_))), "{policy:?}");
        let _ejected = fixture.balancer.poll_outlier_change();
        assert_eq!(fixture.balancer.poll_outlier_change().unwrap().1, OutlierChange::Returned);
    }
}

#[test]
fn one_failed_trial_ejects_for_twice_as_long() {
    let mut fixture = one_ejected(Policy::RoundRobin);
    let now = time_is_up(&fixture);
    let slot = fixture.slot(1);
    assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot));
    fixture.balancer.observe(slot, &FAILED, true, now);
    let again = match fixture.endpoint(1).outlier().status(now) {
        OutlierStatus::Ejected { until, reason: EjectionReason::TrialFailed } => until - now,
        other => panic!("{other:?}"),
    };
    // 60 s and up to a tenth more.
    assert!((Duration::from_secs(60)..=Duration::from_secs(66)).contains(&again), "{again:?}");
    assert_ne!(fixture.balancer.pick(&at(now + again - Duration::from_micros(1))), Pick::Trial(slot));
}

/// Found by the random worlds (seed 262): its checks said that it does not serve, and a call was sent there to try it.
#[test]
fn an_ejected_endpoint_that_something_else_withholds_is_not_tried_until_that_is_over() {
    for policy in most_policies() {
        let mut fixture = one_ejected(policy);
        let now = time_is_up(&fixture);
        let slot = fixture.slot(1);
        for reason in [Withheld::Unhealthy, Withheld::Unchecked, Withheld::Draining] {
            fixture.endpoint(1).set_withheld(reason, true);
            for _ in 0..20 {
                let pick = fixture.balancer.pick(&at(now));
                let is_other = matches!(pick, Pick::Endpoint(other) if other != slot);
                assert!(is_other, "{policy:?}, {reason:?}: {pick:?}");
            }
            fixture.endpoint(1).set_withheld(reason, false);
        }
        assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot), "{policy:?}");
    }
}

#[test]
fn a_trial_that_is_not_sent_leaves_the_next_call_the_right() {
    let mut fixture = one_ejected(Policy::Random);
    let now = time_is_up(&fixture);
    let slot = fixture.slot(1);
    assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot));
    fixture.balancer.drop_trial(slot);
    assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot));
}

#[test]
fn that_another_workers_trial_is_over_is_seen_a_tenth_of_a_millisecond_later_at_most() {
    let shared = detector(3);
    let mut fixture = one_ejected_by(&shared, Policy::RoundRobin);
    let now = time_is_up(&fixture);
    let slot = fixture.slot(1);
    assert!(shared.claim_trial(fixture.endpoint(1).outlier(), now), "the other worker's");
    assert!(matches!(fixture.balancer.pick(&at(now)), Pick::Endpoint(_)));
    shared.drop_trial(fixture.endpoint(1).outlier());
    let seen = now + Duration::from_micros(100);
    assert!(matches!(fixture.balancer.pick(&at(seen - Duration::from_nanos(1))), Pick::Endpoint(_)));
    assert_eq!(fixture.balancer.pick(&at(seen)), Pick::Trial(slot));
}

#[test]
fn a_retry_is_never_a_trial_of_an_endpoint_that_the_call_was_tried_on() {
    let mut fixture = one_ejected(Policy::RoundRobin);
    let now = time_is_up(&fixture);
    let slot = fixture.slot(1);
    for _ in 0..10 {
        let pick = fixture.balancer.pick_excluding(&at(now), &[slot]);
        assert!(matches!(pick, Pick::Endpoint(other) if other != slot), "{pick:?}");
    }
    assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot), "the right was given back");
}

#[test]
fn when_all_others_are_gone_the_ejected_one_is_better_than_none() {
    let mut fixture = one_ejected(Policy::Random);
    fixture.set(0, Connectivity::TransientFailure);
    fixture.endpoint(2).set_withheld(Withheld::Unhealthy, true);
    let picked: Vec<u32> = (0..20).map(|_| fixture.pick()).collect();
    assert!(picked.contains(&1) && picked.contains(&2) && !picked.contains(&0), "{picked:?}");
    // One that only drains does its work.
    fixture.endpoint(2).set_withheld(Withheld::Unhealthy, false);
    fixture.endpoint(2).set_draining(true);
    assert_eq!((0..20).map(|_| fixture.pick()).collect::<Vec<_>>(), [2; 20]);
}

/// A call of another key would fail for an endpoint that is none of its business.
#[test]
fn an_ejected_endpoint_is_tried_by_calls_whose_key_belongs_there_and_no_others() {
    for policy in hashing(Affinity::Rehash) {
        let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
        let keys = || (0..200_u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let ask = |key, now| Ask { now, hash: Some(key) };
        let homes: Vec<Pick> = keys().map(|key| fixture.balancer.pick(&ask(key, ASK.now))).collect();
        let slot = fixture.slot(1);
        fixture.balancer.detect_outliers(Some(detector(3)));
        for _ in 0..5 {
            fixture.balancer.observe(slot, &FAILED, false, ASK.now);
        }
        let now = time_is_up(&fixture);
        for (key, home) in keys().zip(homes) {
            let expected = if home == Pick::Endpoint(slot) { Pick::Trial(slot) } else { home };
            assert_eq!(fixture.balancer.pick(&ask(key, now)), expected, "{policy:?}");
            if expected == Pick::Trial(slot) {
                fixture.balancer.drop_trial(slot);
            }
        }
    }
}

/// As no call belongs there while its priority stands back, and it would be out for ever.
#[test]
fn an_ejected_endpoint_of_a_priority_without_calls_is_tried_by_any() {
    for policy in hashing(Affinity::Rehash).into_iter().chain(hashing(Affinity::Fail)) {
        let spec = |number: u32| crate::EndpointSpec {
            priority: u8::from(number > 0),
            ..crate::EndpointSpec::from((super::fixture::address(number), 1))
        };
        let listed: Vec<_> = (0..3).map(spec).collect();
        let mut fixture = Fixture::idle(policy, &[], 7);
        fixture.set = Arc::new(fixture.set.followed_by(&listed, &Arc::default()));
        let _ = fixture.balancer.update(&fixture.set);
        fixture.connect();
        let config = OutlierConfig { max_ejected_percent: 100, ..OutlierConfig::default() };
        fixture.balancer.detect_outliers(Some(Arc::new(OutlierDetector::new(config, 3, ASK.now))));
        let slot = fixture.slot(0);
        for _ in 0..5 {
            fixture.balancer.observe(slot, &FAILED, false, ASK.now);
        }
        let until = match fixture.endpoint(0).outlier().status(ASK.now) {
            OutlierStatus::Ejected { until, .. } => until,
            other => panic!("the endpoint is {other:?}"),
        };
        let ask = |now| Ask { now, hash: Some(5) };
        assert!(matches!(fixture.balancer.pick(&ask(ASK.now)), Pick::Endpoint(other) if other != slot));
        assert_eq!(fixture.balancer.pick(&ask(until)), Pick::Trial(slot), "{policy:?}");
    }
}

#[test]
fn keys_that_may_go_nowhere_else_wait_for_the_ejections_end_and_then_try() {
    for policy in hashing(Affinity::Fail) {
        let mut fixture = one_ejected(policy);
        let until = time_is_up(&fixture);
        let slot = fixture.slot(1);
        let pick = |fixture: &mut Fixture, hash, now| fixture.balancer.pick(&Ask { now, hash: Some(hash) });
        let before: Vec<Pick> = (0..300_u64).map(|key| pick(&mut fixture, key << 55, ASK.now)).collect();
        let mine = before.iter().position(|pick| *pick == Pick::Fail).expect("some key belongs to it") as u64;
        let others = before.iter().position(|pick| *pick != Pick::Fail).expect("some key does not") as u64;
        assert!(before.iter().all(|pick| *pick != Pick::Endpoint(slot)), "{policy:?}");
        assert_eq!(pick(&mut fixture, others << 55, until), before[others as usize]);
        assert_eq!(pick(&mut fixture, mine << 55, until), Pick::Trial(slot));
        assert_eq!(pick(&mut fixture, mine << 55, until), Pick::Fail);
    }
}

#[test]
fn keys_that_may_go_nowhere_else_go_nowhere_else_when_no_endpoint_is_left_either() {
    for policy in hashing(Affinity::Fail) {
        let mut fixture = Fixture::ready(policy, &[1, 1], 7);
        let (draining, lost) = (fixture.slot(0), fixture.slot(1));
        let pick = |fixture: &mut Fixture, key| fixture.balancer.pick(&Ask { hash: Some(key), ..ASK });
        let mut key_of = |slot| {
            let keys = (0..50_u64).map(|key| key << 57);
            keys.into_iter().find(|key| pick(&mut fixture, *key) == Pick::Endpoint(slot)).unwrap()
        };
        let (of_draining, of_lost) = (key_of(draining), key_of(lost));
        fixture.endpoint(0).set_draining(true);
        fixture.set(1, Connectivity::TransientFailure);
        for _ in 0..3 {
            assert_eq!(pick(&mut fixture, of_lost), Pick::Fail, "{policy:?}");
            assert_eq!(pick(&mut fixture, of_draining), Pick::Endpoint(draining), "{policy:?}");
            assert_eq!(fixture.balancer.pick(&ASK), Pick::Endpoint(draining), "without a key");
        }
        let ask = Ask { hash: Some(of_lost), ..ASK };
        assert_eq!(fixture.balancer.pick_excluding(&ask, &[lost]), Pick::Fail, "{policy:?}");
        // One that is on its way is waited for.
        fixture.balancer.set_connectivity(lost, Connectivity::Ready, fixture.now);
        fixture.balancer.set_connectivity(lost, Connectivity::Idle, fixture.now);
        assert_eq!(pick(&mut fixture, of_lost), Pick::Queue, "{policy:?}");
    }
}

#[test]
fn a_lone_ejected_endpoint_is_tried_by_one_call_at_a_time_and_comes_back() {
    let mut fixture = one_ejected(Policy::RoundRobin);
    let (now, slot) = (time_is_up(&fixture), fixture.slot(1));
    fixture.set(0, Connectivity::TransientFailure);
    fixture.set(2, Connectivity::TransientFailure);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Endpoint(slot), "its time is not up");
    for _ in 0..3 {
        assert_eq!(fixture.balancer.pick(&at(now)), Pick::Trial(slot));
        assert_eq!(fixture.balancer.pick(&at(now)), Pick::Endpoint(slot), "one is under way");
        fixture.balancer.observe(slot, &FINE, false, now);
        fixture.balancer.observe(slot, &FINE, true, now);
    }
    assert_eq!(fixture.endpoint(1).outlier().status(now), OutlierStatus::InService);
    assert_eq!(fixture.balancer.pick(&at(now)), Pick::Endpoint(slot));
}

#[test]
fn before_the_first_update_no_sweep_is_due() {
    let mut balancer = crate::Balancer::new(Policy::RoundRobin, rand::SeedableRng::seed_from_u64(7));
    balancer.detect_outliers(Some(detector(0)));
    assert_eq!(balancer.next_sweep_at(), None);
    let _none = balancer.update(&Arc::new(crate::EndpointSet::new(&[])));
    assert_eq!(balancer.next_sweep_at(), Some(ASK.now + OutlierConfig::default().interval));
}

#[test]
fn a_sweep_takes_out_what_chance_does_not_explain_in_all_workers() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1; 10], 7);
    let shared = detector(10);
    fixture.balancer.detect_outliers(Some(Arc::clone(&shared)));
    for number in 0..10 {
        let slot = fixture.slot(number);
        for call in 0..400 {
            // Number 3 fails every fourth call, never five in a row.
            let end = if number == 3 && call % 4 == 0 { FAILED } else { FINE };
            fixture.balancer.observe(slot, &end, false, ASK.now);
        }
    }
    let due = fixture.balancer.next_sweep_at().unwrap();
    assert_eq!(due, ASK.now + Duration::from_secs(10));
    fixture.balancer.sweep_outliers(due - Duration::from_micros(1));
    assert_eq!((shared.out(), fixture.balancer.poll_outlier_change()), (0, None));
    fixture.balancer.sweep_outliers(due);
    let (address, change) = fixture.balancer.poll_outlier_change().unwrap();
    assert_eq!(&*address, "10.0.0.3:50051");
    assert!(matches!(change, OutlierChange::Ejected { reason: EjectionReason::SuccessRate, .. }));
    assert!(fixture.endpoint(3).is_withheld_as(Withheld::Ejected));
    assert_eq!((shared.out(), fixture.balancer.poll_outlier_change()), (1, None));
    assert!((0..100).all(|_| fixture.pick() != 3));
}

/// Five failures in a row, all of this endpoint.
fn fail(fixture: &mut Fixture, number: u32, now: Duration) {
    let slot = fixture.slot(number);
    (0..5).for_each(|_| fixture.balancer.observe(slot, &FAILED, false, now));
}

#[test]
fn a_dead_endpoint_gives_its_place_under_the_cap_back_when_its_time_is_up() {
    let mut fixture = one_ejected(Policy::RoundRobin);
    fixture.set(1, Connectivity::TransientFailure);
    let (until, almost) = (time_is_up(&fixture), Duration::from_micros(1));
    fail(&mut fixture, 2, until - almost);
    assert!(fixture.endpoint(2).outlier().is_in_service(), "one of three may be out");
    // The next look of failing calls is a second later.
    fail(&mut fixture, 2, until - almost + Duration::from_secs(1));
    assert!(fixture.endpoint(1).outlier().is_in_service(), "nobody can try it");
    assert!(!fixture.endpoint(1).is_withheld_as(Withheld::Ejected));
    assert!(fixture.endpoint(2).is_withheld_as(Withheld::Ejected));
    let changes = core::iter::from_fn(|| fixture.balancer.poll_outlier_change());
    let changes: Vec<_> = changes.map(|(address, change)| (address.to_string(), change)).collect();
    let reason = EjectionReason::ConsecutiveFailures;
    assert_eq!(changes[1], ("10.0.0.2:50051".to_owned(), OutlierChange::HeldBack { reason }));
    assert_eq!(changes[2], ("10.0.0.1:50051".to_owned(), OutlierChange::Expired));
    assert!(changes[3].0 == "10.0.0.2:50051" && matches!(changes[3].1, OutlierChange::Ejected { .. }));
}

#[test]
fn one_that_is_connected_is_never_put_back_without_a_trial() {
    // Or whose connection is being replaced at this very moment.
    for state in [Connectivity::Ready, Connectivity::Connecting] {
        let mut fixture = one_ejected(Policy::RoundRobin);
        fixture.set(1, state);
        let late = time_is_up(&fixture) + Duration::from_secs(1_000);
        fail(&mut fixture, 2, late);
        fixture.balancer.sweep_outliers(late);
        assert!(!fixture.endpoint(1).outlier().is_in_service(), "{state:?}");
        assert!(fixture.endpoint(2).outlier().is_in_service(), "{state:?}");
    }
}

#[test]
fn under_pick_first_an_ejected_endpoint_comes_back_by_time_and_the_next_can_be_ejected() {
    let mut fixture = Fixture::ready(Policy::PickFirst { shuffle: false }, &[1, 1, 1], 7);
    fixture.balancer.detect_outliers(Some(detector(3)));
    assert_eq!(fixture.pick(), 0);
    fail(&mut fixture, 0, ASK.now);
    let ejected = fixture.endpoint(0).outlier().status(ASK.now);
    let OutlierStatus::Ejected { until, .. } = ejected else { panic!("{ejected:?}") };
    // The pick finds it out, and the next of the list is connected to.
    let _found_out = fixture.balancer.pick(&ASK);
    fixture.now = until;
    fixture.connect();
    assert_eq!(fixture.pick(), 1);
    while fixture.balancer.surplus_connection().is_some() {}
    fixture.balancer.sweep_outliers(until);
    assert!(fixture.endpoint(0).outlier().is_in_service());
    fail(&mut fixture, 1, until);
    assert!(fixture.endpoint(1).is_withheld_as(Withheld::Ejected));
    let _found_out = fixture.balancer.pick(&at(until));
    fixture.now += Duration::from_secs(300);
    fixture.connect();
    assert_eq!(fixture.pick(), 0, "from the top of the list");
}

#[test]
fn another_detector_takes_over_who_is_out_and_none_brings_all_back() {
    let mut fixture = one_ejected(Policy::RoundRobin);
    let next = detector(3);
    next.adopt(fixture.set.endpoints().iter().map(|endpoint| endpoint.outlier()));
    assert_eq!(next.out(), 1);
    fixture.balancer.detect_outliers(Some(Arc::clone(&next)));
    assert!((0..10).all(|_| fixture.pick() != 1));
    fixture.balancer.detect_outliers(None);
    fixture.set.endpoints().iter().for_each(|endpoint| endpoint.end_outlier_detection());
    assert!((0..10).any(|_| fixture.pick() == 1));
}

#[test]
fn a_retry_finds_the_endpoint_that_just_came_back_among_those_that_are_withheld() {
    for back in 1..8 {
        let mut fixture = Fixture::ready(Policy::RoundRobin, &[1; 8], 7);
        (1..8).for_each(|number| fixture.endpoint(number).set_draining(true));
        for _ in 0..16 {
            assert_eq!(fixture.pick(), 0);
        }
        fixture.endpoint(back).set_draining(false);
        let tried = [fixture.slot(0)];
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &tried), Pick::Endpoint(fixture.slot(back)));
    }
}
