use evenkeel_grpc::Code;

use super::super::record::{Interval, Phase};
use super::*;
use crate::attempt::AttemptEnd;

#[test]
fn the_fifth_failure_in_a_row_ejects_and_a_success_between_starts_the_row_over() {
    let mut world = World::new(without_jitter(), 3);
    assert_eq!(world.fails(0, 4, START), None);
    assert_eq!(world.ends(0, Observation::Success, START), None);
    assert_eq!(world.fails(0, 4, START), None);
    // What says nothing about the endpoint does not interrupt a row.
    assert_eq!(world.ends(0, Observation::Nothing, START), None);
    let expected = ejected(EjectionReason::ConsecutiveFailures, START + seconds(30));
    assert_eq!(world.fails(0, 1, START), Some(expected));
    assert!(!world.records[0].is_in_service());
    assert_eq!(world.detector.ejections(EjectionReason::ConsecutiveFailures), 1);
}

#[test]
fn the_cap_is_rounded_up_and_never_takes_the_last() {
    let config = OutlierConfig::default();
    let allowed = [0, 1, 2, 3, 10, 11, 20, 21, 1_000].map(|endpoints| config.allowed(endpoints));
    assert_eq!(allowed, [0, 0, 1, 1, 1, 2, 2, 3, 100]);
    let all = OutlierConfig { max_ejected_percent: 100, ..config };
    assert_eq!([1, 2, 3, u32::MAX].map(|endpoints| all.allowed(endpoints)), [0, 1, 2, u32::MAX - 1]);
    let none = OutlierConfig { max_ejected_percent: 0, ..config };
    assert_eq!([1, 2, 3].map(|endpoints| none.allowed(endpoints)), [0, 1, 1]);
}

#[test]
fn ejects_at_most_the_configured_share() {
    let mut world = World::new(without_jitter(), 3);
    assert!(world.fails(0, 5, START).is_some());
    let held_back = OutlierChange::HeldBack { reason: EjectionReason::ConsecutiveFailures };
    assert_eq!(world.fails(1, 5, START), Some(held_back));
    assert_eq!((world.detector.out(), world.detector.allowed(), world.detector.held_back()), (1, 1, 1));
    assert!(world.records[1].is_in_service());
}

#[test]
fn what_the_cap_holds_back_is_said_once_between_two_sweeps_and_ejected_once_there_is_a_place() {
    let mut world = World::new(without_jitter(), 3);
    assert!(world.fails(0, 5, START).is_some());
    let held_back = OutlierChange::HeldBack { reason: EjectionReason::ConsecutiveFailures };
    for (sweeps, at) in [START, START + seconds(10), START + seconds(20)].into_iter().enumerate() {
        world.sweep(at);
        assert!(!world.records[1].is_held_back());
        let said = (0..40).filter_map(|_| world.fails(1, 1, at)).collect::<Vec<_>>();
        assert_eq!(said, [held_back], "sweep {sweeps}");
        assert!(world.records[1].is_held_back());
        assert_eq!(world.detector.held_back(), sweeps as u64 + 1);
    }
    world.detector.remove(&world.records[0]);
    let at = START + seconds(21);
    assert_eq!(world.fails(1, 1, at), Some(ejected(EjectionReason::ConsecutiveFailures, at + seconds(30))));
    assert!(!world.records[1].is_held_back());
}

#[test]
fn an_endpoint_that_left_gives_its_place_back_and_is_never_ejected_again() {
    let mut world = World::new(without_jitter(), 4);
    assert!(world.fails(0, 5, START).is_some());
    for gone in [0, 2, 0] {
        world.detector.remove(&world.records[gone]);
        assert_eq!(world.detector.out(), 0);
        assert_eq!(world.status(gone, START + seconds(3_600)), OutlierStatus::Removed);
        // The calls that were under way fail with its process.
        assert_eq!(world.fails(gone, 100, START), None);
        assert!(!world.detector.claim_trial(&world.records[gone], START + seconds(3_600)));
    }
    assert_eq!(world.detector.out(), 0);
    assert!(world.fails(1, 5, START).is_some(), "the place is free");
}

#[test]
fn an_endpoint_that_another_detector_ejected_returns_and_leaves_the_cap_intact() {
    let mut old = World::new(without_jitter(), 3);
    old.fails(0, 5, START);
    let mut new = World {
        records: old.records,
        ..World::new(OutlierConfig { trial_successes: 1, ..without_jitter() }, 3)
    };
    let change = new.trial(0, Observation::Success, START + seconds(30));
    assert_eq!((change, new.detector.out()), (Some(OutlierChange::Returned), 0));
    assert!(new.fails(1, 5, START).is_some());
    let held_back = OutlierChange::HeldBack { reason: EjectionReason::ConsecutiveFailures };
    assert_eq!(new.fails(2, 5, START), Some(held_back), "one of three, as before");
}

#[test]
fn a_trial_that_ends_after_the_endpoint_left_changes_nothing() {
    for observation in [Observation::Success, Observation::Failure, Observation::Nothing] {
        let mut world = World::new(OutlierConfig { trial_successes: 1, ..without_jitter() }, 3);
        world.fails(0, 5, START);
        let now = START + seconds(30);
        assert!(world.detector.claim_trial(&world.records[0], now));
        world.detector.remove(&world.records[0]);
        let change = world.detector.record(&world.records[0], observation, true, now, &mut world.rng);
        assert_eq!((change, world.status(0, now)), (None, OutlierStatus::Removed), "{observation:?}");
        assert_eq!(world.detector.out(), 0);
    }
}

#[test]
fn is_half_open_after_its_time_and_returns_after_three_trials_one_at_a_time() {
    let mut world = World::new(without_jitter(), 3);
    world.fails(0, 5, START);
    let end = START + seconds(30);
    let just_before = end - Duration::from_micros(1);
    let reason = EjectionReason::ConsecutiveFailures;
    assert_eq!(world.status(0, just_before), OutlierStatus::Ejected { until: end, reason });
    assert!(!world.detector.claim_trial(&world.records[0], just_before));
    assert_eq!(world.status(0, end), OutlierStatus::HalfOpen { successes: 0, wants_trial: true });
    assert_eq!(world.trial(0, Observation::Success, end), None);
    assert!(world.detector.claim_trial(&world.records[0], end));
    assert!(!world.detector.claim_trial(&world.records[0], end), "one trial at a time");
    assert_eq!(world.status(0, end), OutlierStatus::HalfOpen { successes: 1, wants_trial: false });
    // A trial that never ends holds back the next one for ten seconds only.
    assert!(!world.detector.claim_trial(&world.records[0], end + seconds(10) - Duration::from_micros(1)));
    assert_eq!(world.trial(0, Observation::Success, end + seconds(10)), None);
    assert_eq!(world.trial(0, Observation::Nothing, end + seconds(11)), None);
    // Nor does one that says nothing, such as one that its caller cancelled.
    assert!(!world.detector.claim_trial(&world.records[0], end + seconds(21) - Duration::from_micros(1)));
    assert_eq!(world.trial(0, Observation::Success, end + seconds(21)), Some(OutlierChange::Returned));
    assert!(world.records[0].is_in_service());
    assert_eq!(world.detector.out(), 0);
}

#[test]
fn a_trial_without_an_end_holds_back_the_next_one_for_the_trials_timeout() {
    for timeout in [seconds(2), seconds(10)] {
        let mut world = World::new(OutlierConfig { trial_timeout: timeout, ..without_jitter() }, 3);
        world.fails(0, 5, START);
        let now = START + seconds(30);
        assert!(world.detector.claim_trial(&world.records[0], now));
        let just_before = now + timeout - Duration::from_micros(1);
        assert!(!world.detector.claim_trial(&world.records[0], just_before));
        assert!(world.detector.claim_trial(&world.records[0], now + timeout));
    }
}

#[test]
fn a_trial_that_was_not_sent_is_due_again_at_once() {
    let mut world = World::new(without_jitter(), 3);
    world.fails(0, 5, START);
    let end = START + seconds(30);
    let before = world.status(0, START);
    world.detector.drop_trial(&world.records[0]);
    assert_eq!(world.status(0, START), before, "there was none");
    assert!(world.detector.claim_trial(&world.records[0], end));
    world.detector.drop_trial(&world.records[0]);
    assert_eq!(world.status(0, end), OutlierStatus::HalfOpen { successes: 0, wants_trial: true });
    world.detector.drop_trial(&world.records[1]);
    assert!(world.records[1].is_in_service());
}

#[test]
fn a_trial_that_was_overtaken_has_failed_and_other_calls_that_were_say_nothing() {
    let mut world = World::new(without_jitter(), 3);
    for _ in 0..100 {
        assert_eq!(world.ends(1, Observation::Overtaken, START), None);
    }
    assert!(world.records[1].is_in_service());
    world.fails(0, 5, START);
    let now = START + seconds(30);
    let expected = ejected(EjectionReason::TrialFailed, now + seconds(60));
    assert_eq!(world.trial(0, Observation::Overtaken, now), Some(expected));
}

#[test]
fn a_failed_trial_ejects_for_longer_up_to_the_bound() {
    let mut world = World::new(without_jitter(), 3);
    world.fails(0, 5, START);
    let mut now = START + seconds(30);
    for times in 2..=15 {
        let until = now + seconds((30 * times).min(300));
        let expected = ejected(EjectionReason::TrialFailed, until);
        assert_eq!(world.trial(0, Observation::Failure, now), Some(expected));
        assert_eq!(world.detector.out(), 1);
        now = until;
    }
}

#[test]
fn a_call_from_before_the_ejection_changes_nothing() {
    let mut world = World::new(without_jitter(), 3);
    world.fails(0, 5, START);
    let before = world.status(0, START);
    assert_eq!(world.fails(0, 100, START), None);
    assert_eq!(world.ends(0, Observation::Success, START), None);
    assert_eq!(world.status(0, START), before);
    // A late end of a call sent as a trial in an earlier half-open phase neither.
    let late = world.detector.record(&world.records[0], Observation::Success, true, START, &mut world.rng);
    assert_eq!((late, world.status(0, START)), (None, before));
}

#[test]
fn each_interval_in_service_takes_one_off_the_times_ejected() {
    let mut world = World::new(without_jitter(), 3);
    world.fails(0, 5, START);
    let mut now = START + seconds(30);
    world.trial(0, Observation::Failure, now);
    world.sweep(now);
    assert_eq!(world.records[0].times_ejected(), 2, "not while it is out");
    now += seconds(60);
    for _ in 0..3 {
        world.trial(0, Observation::Success, now);
    }
    for expected in [1, 0, 0] {
        assert!(world.sweep(now).is_empty());
        now = world.detector.next_sweep_at();
        assert_eq!(world.records[0].times_ejected(), expected);
    }
}

#[test]
fn jitter_lengthens_an_ejection_by_at_most_its_share() {
    let lengths: Vec<Duration> = (0..1_000)
        .map(|seed| {
            let mut world = World::new(OutlierConfig::default(), 3);
            world.rng = SmallRng::seed_from_u64(seed);
            match world.fails(0, 5, START) {
                Some(OutlierChange::Ejected { until, .. }) => until - START,
                other => panic!("{other:?} with seed {seed}"),
            }
        })
        .collect();
    let (least, most) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
    assert!(*least >= seconds(30) && *least < Duration::from_millis(30_100), "{least:?}");
    assert!(*most <= seconds(33) && *most > Duration::from_millis(32_900), "{most:?}");
}

/// Gives each endpoint so many calls, of which so many fail, never five in a row.
fn interval(world: &mut World, calls: u32, failures: &[u32]) {
    for (place, failures) in failures.iter().enumerate() {
        for call in 0..calls {
            let observation = if call < *failures { Observation::Failure } else { Observation::Success };
            assert_eq!(world.ends(place, observation, START), None);
        }
    }
}

fn without_rows() -> OutlierConfig {
    OutlierConfig { consecutive_failures: None, ..without_jitter() }
}

#[test]
fn the_failure_percentage_rule_ejects_at_its_threshold_and_from_its_volume_on() {
    for (calls, failures, is_ejected) in
        [(100, 84, false), (100, 85, true), (49, 49, false), (50, 50, true), (0, 0, false)]
    {
        let mut world = World::new(OutlierConfig { success_rate: None, ..without_rows() }, 3);
        interval(&mut world, calls, &[0, failures, 0]);
        assert!(world.sweep(START + seconds(10) - Duration::from_micros(1)).is_empty(), "not due");
        let now = START + seconds(10);
        let expected = (1, ejected(EjectionReason::FailurePercentage, now + seconds(30)));
        let expected = if is_ejected { vec![expected] } else { Vec::new() };
        assert_eq!(world.sweep(now), expected, "{failures} of {calls}");
    }
    let mut pair = World::new(OutlierConfig { success_rate: None, ..without_rows() }, 2);
    interval(&mut pair, 100, &[0, 100]);
    assert!(pair.sweep(START + seconds(10)).is_empty(), "two endpoints are too few");
}

#[test]
fn the_success_rate_rule_ejects_what_neither_the_deviation_nor_chance_explains() {
    for (calls, failures, is_ejected) in [
        (1_000, [10, 10, 10, 10, 100], true),   // 10 % beside 1 %.
        (1_000, [12, 9, 10, 11, 22], false),    // An outlier by deviation, but chance can do it.
        (1_000, [10, 100, 10, 10, 100], false), // Two of five are not 1.9 deviations off.
        (99, [0, 0, 0, 0, 90], false),          // Too few calls.
        (100, [0, 0, 0, 0, 30], true),
    ] {
        let mut world = World::new(OutlierConfig { failure_percentage: None, ..without_rows() }, 5);
        interval(&mut world, calls, &failures);
        let now = START + seconds(10);
        let expected = (4, ejected(EjectionReason::SuccessRate, now + seconds(30)));
        let expected = if is_ejected { vec![expected] } else { Vec::new() };
        assert_eq!(world.sweep(now), expected, "{failures:?} of {calls}");
    }
}

#[test]
fn an_endpoint_that_is_out_is_neither_taken_out_again_by_its_rate_nor_said_to_be_held_back() {
    let mut world = World::new(OutlierConfig { failure_percentage: None, ..without_jitter() }, 5);
    for call in 0..400 {
        for place in 0..5 {
            let fails = place == 0 && call % 20 == 0;
            let observation = if fails { Observation::Failure } else { Observation::Success };
            assert_eq!(world.ends(place, observation, START), None);
        }
    }
    assert!(world.fails(0, 5, START).is_some());
    assert!(world.sweep(START + seconds(10)).is_empty());
    assert_eq!((world.detector.out(), world.detector.held_back()), (1, 0));
}

#[test]
fn without_the_bound_of_chance_the_success_rate_rule_is_grpcs() {
    let rule = SuccessRate { chance_exponent: 0, ..SuccessRate::default() };
    let config = OutlierConfig { failure_percentage: None, success_rate: Some(rule), ..without_rows() };
    let mut world = World::new(config, 5);
    interval(&mut world, 1_000, &[10, 10, 10, 10, 22]);
    assert_eq!(world.sweep(START + seconds(10)).len(), 1);
}

/// How many of a thousand seeds have an endpoint of five ejected that fails all its calls.
fn ejected_of_1000(config: OutlierConfig, calls: u32, fail: impl Fn(&mut World, u32)) -> usize {
    let is_ejected = |seed: &u64| {
        let mut world = World::new(config, 5);
        world.rng = SmallRng::seed_from_u64(*seed);
        fail(&mut world, calls);
        world.sweep(START + seconds(10));
        !world.records[0].is_in_service()
    };
    (0..1_000).filter(is_ejected).count()
}

#[test]
fn enforcement_is_a_chance_of_each_rule() {
    let all_fail = |world: &mut World, calls| interval(world, calls, &[calls, 0, 0, 0, 0]);
    for (percent, expected) in [(0, 0..=0), (30, 255..=345), (100, 1_000..=1_000)] {
        let rule = FailurePercentage { enforcement_percent: percent, ..FailurePercentage::default() };
        let config = OutlierConfig { failure_percentage: Some(rule), success_rate: None, ..without_rows() };
        let by_percentage = ejected_of_1000(config, 100, all_fail);
        let rule = SuccessRate { enforcement_percent: percent, ..SuccessRate::default() };
        let config = OutlierConfig { failure_percentage: None, success_rate: Some(rule), ..without_rows() };
        let by_rate = ejected_of_1000(config, 100, all_fail);
        let rows = OutlierConfig {
            consecutive_enforcement_percent: percent,
            success_rate: None,
            failure_percentage: None,
            ..without_jitter()
        };
        let by_row = ejected_of_1000(rows, 9, |world, calls| {
            world.fails(0, calls, START);
        });
        let all = [by_percentage, by_rate, by_row];
        assert!(all.iter().all(|count| expected.contains(count)), "{percent} %: {all:?}");
    }
}

#[test]
fn a_row_that_was_let_off_begins_anew() {
    let rows = OutlierConfig { consecutive_enforcement_percent: 30, ..without_jitter() };
    // The chance comes with every fifth failure: 0.3 after nine, 0.51 from the tenth on.
    for (failures, expected) in [(4, 0..=0), (5, 255..=345), (9, 255..=345), (10, 462..=558)] {
        let count = ejected_of_1000(rows, failures, |world, calls| {
            world.fails(0, calls, START);
        });
        assert!(expected.contains(&count), "{failures} failures: {count}");
    }
}

#[test]
fn the_bound_of_chance_is_chernoffs() {
    let interval = |calls, failures| Interval { calls, failures };
    // 10 * ln(10 / 0.5) + ... for q = 1: (p)^n.
    let bound = interval(10, 10).chance_beside(interval(999, 99));
    assert!((bound.ln() - 10.0 * (99.5_f64 / 1_000.0).ln()).abs() < 1e-9, "{bound}");
    assert!((interval(100, 1).chance_beside(interval(1_000, 100)) - 1.0).abs() < f64::EPSILON);
    assert!((interval(100, 0).chance_beside(interval(0, 0)) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn judges_by_status_and_by_how_the_attempt_ended() {
    let config = OutlierConfig::default();
    for code in Code::ALL {
        let expected = match code {
            Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss => {
                Observation::Failure
            }
            Code::Cancelled | Code::ResourceExhausted => Observation::Nothing,
            _ => Observation::Success,
        };
        assert_eq!(config.observe(&AttemptEnd::status(code)), expected, "{code:?}");
    }
    for (end, expected) in [
        (AttemptEnd::NotSent, Observation::Nothing),
        (AttemptEnd::ConnectFailed, Observation::Failure),
        (AttemptEnd::RefusedStream, Observation::Nothing),
        (AttemptEnd::NoPlace, Observation::Nothing),
        (AttemptEnd::GoAway { is_graceful: true }, Observation::Nothing),
        (AttemptEnd::GoAway { is_graceful: false }, Observation::Failure),
        (AttemptEnd::Reset, Observation::Failure),
        (AttemptEnd::AttemptTimeout, Observation::Failure),
        (AttemptEnd::DeadlineExceeded, Observation::Failure),
        (AttemptEnd::Cancelled, Observation::Nothing),
        (AttemptEnd::Overtaken { by_later: false }, Observation::Nothing),
        (AttemptEnd::Overtaken { by_later: true }, Observation::Overtaken),
    ] {
        assert_eq!(config.observe(&end), expected, "{end:?}");
    }
    let lenient = OutlierConfig { counts_deadline_exceeded: false, ..config };
    for end in
        [AttemptEnd::status(Code::DeadlineExceeded), AttemptEnd::AttemptTimeout, AttemptEnd::DeadlineExceeded]
    {
        assert_eq!(lenient.observe(&end), Observation::Nothing);
    }
}

#[test]
fn a_phase_is_read_as_it_was_written() {
    let until = Duration::from_micros(123_456_789);
    for phase in
        [Phase::InService, Phase::Ejected { until }, Phase::Free, Phase::OnTrial { until }, Phase::Removed]
    {
        assert_eq!(Phase::decode(phase.encode()), phase);
    }
    let far = Phase::Ejected { until: Duration::MAX };
    assert!(matches!(Phase::decode(far.encode()), Phase::Ejected { .. }));
}
